"""The scheduler: exact steps by hand, and random ones on a machine that keeps texts for numbers.

No tensor: ``Machine`` stands for model and cache. A slot of its memory keeps *which text up to
which token* was computed into it, so that a block that was lost, shared or written wrongly shows
as the wrong text in the place where a request looks.
"""

import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackkit.frameworks import BlockPool, Sampling, Scheduler, State
from stackkit.frameworks.blocks import chain

S = 4  # tokens of a block, where nothing else is said
VOCABULARY = 5


def following(text):
    """The model: a token that depends on the whole text."""
    return hashlib.blake2b(bytes(text), digest_size=1).digest()[0] % VOCABULARY


def alone(prompt, max_new_tokens, end_ids=()):
    """What a request has to write: the plain loop."""
    text = list(prompt)
    for _ in range(max_new_tokens):
        token = following(text)
        if token in end_ids:
            break
        text.append(token)
    return text[len(prompt) :]


def wrote(request):
    return request.tokens[request.n_prompt :]


class Machine:
    """Computes steps, and holds each piece against what the memory has."""

    def __init__(self, scheduler):
        self.scheduler, self.pool = scheduler, scheduler.pool
        self.memory = {}  # (block, place): the text up to the token that lies there
        self.n_steps = self.n_computed = 0

    def compute(self, step):
        """Draw a token for each piece that writes.

        Raises:
            AssertionError: when a piece writes where others read, or reads what is not there.
        """
        S = self.pool.block_size
        self.scheduler.check()
        for old, new in step.copies:
            for place in range(S):
                self.memory[new, place] = self.memory.get((old, place))
        for piece in step.pieces:
            request, end = piece.request, piece.start + piece.n
            assert piece.n >= 1
            assert piece.start == request.n_computed
            assert piece.writes == (end == len(request.tokens))
            for block in request.blocks[piece.start // S : -(-end // S)]:
                assert self.pool.readers[block] == 1, "a block with two readers is written"
                assert block not in self.pool.named, "a block is written that others may find"
            for p in range(piece.start, end):
                self.memory[request.blocks[p // S], p % S] = tuple(request.tokens[: p + 1])
        for piece in step.pieces:  # after all have written
            request, end = piece.request, piece.start + piece.n
            for p in range(end):
                found = self.memory.get((request.blocks[p // S], p % S))
                assert found == tuple(request.tokens[: p + 1]), "keys of another text"
        return [following(piece.request.tokens) for piece in step.pieces if piece.writes]

    def step(self):
        """Plan, compute, commit; the step. It computes something while anything is to be done."""
        busy, step = self.scheduler.busy, self.scheduler.plan()
        assert bool(step.pieces) == busy
        before = {piece.request: len(piece.request.tokens) for piece in step.pieces}
        written = self.scheduler.commit(step, self.compute(step))
        self.scheduler.check()
        for request in written:
            assert len(request.tokens) == before[request] + 1
        self.n_steps += 1
        self.n_computed += step.n_tokens
        return step

    def run(self, most_steps=500):
        """Until nothing is left to do."""
        while self.scheduler.busy:
            self.step()
            assert self.n_steps < most_steps, "no end"


def machine(n_blocks=20, block_size=S, **limits):
    """One with a scheduler and a pool of its own."""
    return Machine(Scheduler(BlockPool(n_blocks, block_size), **limits))


def new(n_tokens):
    return Sampling(max_new_tokens=n_tokens)


def pieces(step):
    """(request, start, tokens, writes) of each, for short."""
    return [(piece.request.id, piece.start, piece.n, piece.writes) for piece in step.pieces]


def numbers(n, first=0):
    """A prompt with no token twice, so that nothing in it is shared by chance."""
    return list(range(first, first + n))


# One request


def test_a_prompt_is_computed_at_once_and_then_token_by_token():
    m = machine()
    request = m.scheduler.submit(numbers(6), new(3))
    assert [pieces(m.step()) for _ in range(3)] == [
        [(0, 0, 6, True)],
        [(0, 6, 1, True)],
        [(0, 7, 1, True)],
    ]
    assert wrote(request) == alone(numbers(6), 3)
    assert request.state is State.FINISHED


def test_the_last_token_is_given_out_but_never_computed():
    """Its keys and values would be read by nobody."""
    m = machine()
    m.scheduler.submit(numbers(6), new(3))
    m.run()
    assert m.n_computed == 6 + 3 - 1


def test_blocks_come_only_as_tokens_do():
    m = machine()
    request = m.scheduler.submit(numbers(3), new(8))
    assert request.blocks == []
    held = []
    while not request.done:
        m.step()
        held.append(len(request.blocks))
    assert held == [1, 1, 2, 2, 2, 2, 3, 0]  # 3 tokens, 4, 5, ... 9; then given back


def test_an_end_token_ends_the_text_and_is_not_in_it():
    prompt = numbers(6)
    third = alone(prompt, 3)[-1]
    m = machine(end_ids=[third])
    request = m.scheduler.submit(prompt, new(9))
    m.run()
    assert wrote(request) == alone(prompt, 9, end_ids=[third])
    assert third not in wrote(request)
    assert request.state is State.FINISHED


def test_a_text_that_ends_at_its_first_token_writes_nothing():
    prompt = numbers(6)
    m = machine(end_ids=alone(prompt, 1))
    request = m.scheduler.submit(prompt, new(9))
    step = m.scheduler.plan()
    assert m.scheduler.commit(step, m.compute(step)) == []
    assert (wrote(request), request.state) == ([], State.FINISHED)


def test_an_idle_scheduler_plans_nothing():
    m = machine()
    assert not m.scheduler.busy
    assert m.scheduler.plan().pieces == []


def test_everything_is_given_back_at_the_end():
    m = machine()
    for first in (0, 50, 100):
        m.scheduler.submit(numbers(7, first), new(5))
    m.run()
    assert m.pool.n_free == m.pool.n_blocks
    assert not m.scheduler.busy


# Many requests: continuous batching


def test_a_new_request_joins_those_that_run():
    m = machine()
    m.scheduler.submit(numbers(5), new(4))
    m.step()
    m.scheduler.submit(numbers(3, 50), new(4))
    assert pieces(m.step()) == [(0, 5, 1, True), (1, 0, 3, True)]
    assert pieces(m.step()) == [(0, 6, 1, True), (1, 3, 1, True)]


def test_one_that_ends_leaves_at_once_and_the_next_takes_its_place():
    m = machine(max_requests=1)
    m.scheduler.submit(numbers(5), new(1))
    m.scheduler.submit(numbers(5, 50), new(1))
    assert pieces(m.step()) == [(0, 0, 5, True)]
    assert pieces(m.step()) == [(1, 0, 5, True)]


def test_no_more_requests_share_a_step_than_may():
    m = machine(max_requests=2)
    for first in (0, 50, 100):
        m.scheduler.submit(numbers(3, first), new(3))
    widths = []
    while m.scheduler.busy:
        widths.append(len(m.step().pieces))
    assert widths == [2, 2, 2, 1, 1, 1]


def test_requests_start_in_the_order_of_their_arrival():
    m = machine(max_tokens=6)
    for first in (0, 50, 100):
        m.scheduler.submit(numbers(4, first), new(2))
    assert pieces(m.step()) == [(0, 0, 4, True), (1, 0, 2, False)]
    assert pieces(m.step()) == [(0, 4, 1, True), (1, 2, 2, True), (2, 0, 3, False)]


def test_a_short_one_does_not_overtake_a_long_one_that_waits_for_blocks():
    """First come, first served: else the long one might wait for ever."""
    m = machine(n_blocks=4)
    m.scheduler.submit(numbers(8), new(4))
    m.scheduler.submit(numbers(9, 50), new(1))  # needs three blocks; two are free
    m.scheduler.submit(numbers(2, 100), new(1))
    assert pieces(m.step()) == [(0, 0, 8, True)]
    assert [request.id for request in m.scheduler.waiting] == [1, 2]


def test_static_batching_lets_nobody_in_until_the_batch_is_over():
    m = machine(continuous=False, max_requests=2)
    for first, n_new in ((0, 1), (50, 3), (100, 1)):
        m.scheduler.submit(numbers(3, first), new(n_new))
    assert pieces(m.step()) == [(0, 0, 3, True), (1, 0, 3, True)]
    assert pieces(m.step()) == [(1, 3, 1, True)]  # a place is free, and stays so
    assert pieces(m.step()) == [(1, 4, 1, True)]
    assert pieces(m.step()) == [(2, 0, 3, True)]


def test_a_batch_that_began_is_closed_even_where_it_is_not_full():
    m = machine(continuous=False)
    m.scheduler.submit(numbers(3), new(2))
    m.step()
    m.scheduler.submit(numbers(3, 50), new(1))
    assert pieces(m.step()) == [(0, 3, 1, True)]
    assert pieces(m.step()) == [(1, 0, 3, True)]


@pytest.mark.parametrize("continuous", [True, False])
def test_batching_changes_no_text(continuous):
    m = machine(continuous=continuous, max_requests=2)
    requests = [m.scheduler.submit(numbers(3, 50 * i), new(2 + 3 * i)) for i in range(4)]
    m.run()
    assert [wrote(r) for r in requests] == [alone(numbers(3, 50 * i), 2 + 3 * i) for i in range(4)]


# Chunked prefill


def test_a_prompt_beyond_the_budget_goes_through_in_chunks():
    m = machine(max_tokens=5)
    m.scheduler.submit(numbers(12), new(2))
    assert [pieces(m.step()) for _ in range(4)] == [
        [(0, 0, 5, False)],
        [(0, 5, 5, False)],
        [(0, 10, 2, True)],
        [(0, 12, 1, True)],
    ]


def test_chunks_go_beside_the_single_tokens_of_others():
    m = machine(max_tokens=4)
    m.scheduler.submit(numbers(2), new(5))
    m.step()
    m.scheduler.submit(numbers(7, 50), new(1))
    assert pieces(m.step()) == [(0, 2, 1, True), (1, 0, 3, False)]
    assert pieces(m.step()) == [(0, 3, 1, True), (1, 3, 3, False)]
    assert pieces(m.step()) == [(0, 4, 1, True), (1, 6, 1, True)]


def test_no_step_computes_more_than_the_budget():
    m = machine(max_tokens=3)
    for first in (0, 50, 100, 150, 200):
        m.scheduler.submit(numbers(4, first), new(4))
    sizes = []
    while m.scheduler.busy:
        sizes.append(m.step().n_tokens)
    assert max(sizes) == 3
    assert min(sizes) >= 1


def test_a_budget_of_one_token_is_enough():
    m = machine(max_tokens=1)
    requests = [m.scheduler.submit(numbers(5, first), new(3)) for first in (0, 50)]
    m.run()
    assert m.n_steps == 2 * (5 + 3 - 1)
    assert [wrote(r) for r in requests] == [alone(numbers(5, first), 3) for first in (0, 50)]


def test_without_chunks_a_long_prompt_goes_past_the_budget_beside_single_tokens():
    m = machine(max_tokens=5, chunked=False)
    m.scheduler.submit(numbers(2), new(3))
    m.scheduler.submit(numbers(12, 50), new(1))
    m.scheduler.submit(numbers(2, 100), new(1))
    assert [pieces(m.step()) for _ in range(3)] == [
        [(0, 0, 2, True)],  # a prompt too: the long one waits
        [(0, 2, 1, True), (1, 0, 12, True)],
        [(0, 3, 1, True), (2, 0, 2, True)],
    ]


def test_without_chunks_single_tokens_keep_to_the_budget():
    m = machine(max_tokens=2, chunked=False)
    for first in (0, 50, 100):
        m.scheduler.submit([first], new(3))
    sizes = []
    while m.scheduler.busy:
        sizes.append(m.step().n_tokens)
    assert max(sizes) == 2


def test_without_chunks_every_piece_is_all_that_is_left():
    m = machine(n_blocks=12, max_tokens=6, chunked=False)
    for i in range(5):
        m.scheduler.submit(numbers(3 + 2 * i, 50 * i), new(6))
    while m.scheduler.busy:
        assert all(piece.writes for piece in m.step().pieces)


# Prefix caching


def test_a_prompt_that_is_wholly_cached_still_computes_one_token():
    """With none computed there would be no logits to draw from."""
    m = machine()
    first = m.scheduler.submit(numbers(9), new(1))
    m.run()
    second = m.scheduler.submit(numbers(9), new(2))
    assert pieces(m.step()) == [(1, 8, 1, True)]
    m.run()
    assert (first.n_cached, second.n_cached) == (0, 8)
    assert wrote(second) == alone(numbers(9), 2)


def test_a_prompt_of_full_blocks_leaves_its_last_one_to_compute():
    """Blocks are shared whole: of 8 cached tokens 4 are computed again, for the sake of one."""
    m = machine()
    m.scheduler.submit(numbers(8), new(2))
    m.run()
    m.scheduler.submit(numbers(8), new(2))
    assert pieces(m.step()) == [(1, 4, 4, True)]


def test_a_prompt_of_one_token_finds_nothing_to_share():
    m = machine(block_size=1)
    for _ in range(2):
        request = m.scheduler.submit([7], new(1))
        m.run()
        assert request.n_cached == 0


def test_a_request_finds_the_beginning_of_one_that_still_runs():
    m = machine()
    one = m.scheduler.submit(numbers(10), new(9))
    m.step()
    other = m.scheduler.submit([*numbers(8), 99, 98], new(9))
    m.step()
    assert other.blocks[:2] == one.blocks[:2]
    assert other.n_cached == 8
    m.run()
    assert wrote(other) == alone([*numbers(8), 99, 98], 9)


def test_what_a_request_wrote_is_found_too():
    """A second turn of a talk begins with all that was said before."""
    m = machine()
    first = m.scheduler.submit(numbers(6), new(7))
    m.run()
    second = m.scheduler.submit([*first.tokens, 99], new(1))
    m.run()
    assert second.n_cached == 12  # of 13; the last of them was never computed


def test_a_block_is_not_found_before_it_is_computed():
    """Two equal prompts in one step: each computes its own."""
    m = machine()
    for _ in range(2):
        m.scheduler.submit(numbers(9), new(1))
    assert pieces(m.step()) == [(0, 0, 9, True), (1, 0, 9, True)]


def test_the_same_tokens_after_another_beginning_are_not_taken_for_the_same():
    m = machine()
    m.scheduler.submit([*numbers(4), *numbers(4, 50), 99], new(1))
    m.run()
    other = m.scheduler.submit([*numbers(4, 50), *numbers(4), 99], new(1))
    m.run()  # the memory is checked in every step
    assert other.n_cached == 0


def test_without_prefix_caching_nothing_is_named_and_nothing_found():
    m = machine(prefix_caching=False)
    for _ in range(2):
        request = m.scheduler.submit(numbers(9), new(1))
        m.run()
    assert request.n_cached == 0
    assert m.pool.named == {}


def test_cached_blocks_that_are_free_count_as_taken_when_one_is_let_in():
    """They leave the queue too; to forget it would promise the same block to two."""
    m = machine(n_blocks=5)
    m.scheduler.submit(numbers(8), new(1))
    m.run()  # two free blocks with names, three without
    m.scheduler.submit(numbers(9, 50), new(3))
    m.step()  # takes the three
    m.scheduler.submit([*numbers(8), 99], new(3))  # finds two, needs one more
    assert pieces(m.step()) == [(1, 9, 1, True)]
    m.run()


# Preemption


def squeezed(**limits):
    """Two requests of 7 tokens that grow to 11, in four blocks; they start with two each."""
    m = machine(n_blocks=4, **limits)
    return m, [m.scheduler.submit(numbers(7, first), new(4)) for first in (0, 50)]


def test_the_youngest_gives_up_its_blocks():
    m, (old, young) = squeezed()
    m.step(), m.step()
    step = m.step()  # the old one has 8 tokens computed, and needs a third block
    assert step.preempted == [young]
    assert pieces(step) == [(0, 8, 1, True)]
    assert (young.state, young.blocks, young.n_preemptions) == (State.WAITING, [], 1)
    assert old.n_preemptions == 0


def test_a_preempted_request_keeps_its_tokens():
    """And so its place in the sequence of draws."""
    m, (_, young) = squeezed()
    m.step(), m.step()
    before = list(young.tokens)
    m.step()
    assert young.tokens == before
    assert young.n_written == 2
    m.run()
    assert wrote(young) == alone(numbers(7, 50), 4)


def test_a_preempted_request_loses_no_state():
    """Sampling, arrival and what it gave out are those of a request that was never stopped."""
    m, (_, young) = squeezed()
    before = young.sampling, young.arrival, young.id, young.n_prompt
    m.run()
    assert young.n_preemptions == 1
    assert (young.sampling, young.arrival, young.id, young.n_prompt) == before


def test_a_preempted_request_finds_its_blocks_again():
    m, (old, young) = squeezed()
    while not old.done:
        m.step()
    assert young.n_preemptions == 1
    m.step()
    # Its second block was released first, and taken; the first still has its name. The old one
    # found nothing.
    assert (young.n_cached, old.n_cached) == (4, 0)


def test_a_preempted_request_that_finds_nothing_names_its_blocks_again():
    m = machine(n_blocks=4)
    old = m.scheduler.submit(numbers(7), new(9))  # takes all four in the end
    young = m.scheduler.submit(numbers(7, 50), new(4))
    while not old.done:
        m.step()
    assert m.pool.find(chain(young.tokens, S)) == []
    m.step()
    assert m.pool.find(chain(young.tokens, S)) == young.blocks[:2]


def test_tokens_found_count_each_time_a_request_starts():
    m = machine(n_blocks=4)
    m.scheduler.submit(numbers(7, 50), new(1))
    m.run()
    m.scheduler.submit(numbers(7), new(4))
    young = m.scheduler.submit(numbers(7, 50), new(4))
    m.step()
    assert young.n_cached == 4
    m.run()
    assert (young.n_preemptions, young.n_cached) == (1, 8)


def test_tokens_found_for_one_that_cannot_start_yet_count_once():
    """It is looked at in every step before, and what it finds may be lost until then."""
    m = machine(n_blocks=7, max_tokens=14, chunked=False)
    m.scheduler.submit(numbers(8), new(1))
    m.run()
    for first in (50, 100, 150):
        m.scheduler.submit(numbers(4, first), new(3))
    late = m.scheduler.submit([*numbers(8), *numbers(7, 200)], new(1))  # 7 tokens: too many now
    assert len(m.step().pieces) == 3
    assert len(m.step().pieces) == 3  # each needs one more block
    m.run()
    assert late.n_cached <= 8


def test_without_prefix_caching_a_preempted_request_computes_all_again():
    m, (old, young) = squeezed(prefix_caching=False)
    while not old.done:
        m.step()
    assert pieces(m.step()) == [(1, 0, 9, True)]
    assert young.n_cached == 0
    m.run()
    assert wrote(young) == alone(numbers(7, 50), 4)


def test_a_preempted_request_goes_before_those_that_came_later():
    m, (_, young) = squeezed()
    late = m.scheduler.submit(numbers(2, 100), new(1))
    m.step(), m.step(), m.step()
    assert m.scheduler.waiting == [young, late]


def test_nobody_is_let_in_in_a_step_that_preempts():
    """Who is short of blocks hands out none."""
    m = machine(n_blocks=4, max_requests=2)
    runs = m.scheduler.submit(numbers(4), new(3))
    other = m.scheduler.submit(numbers(9, 50), new(3))
    m.step()
    holds = m.scheduler.fork(other, new(3), at=10)  # waits with three blocks
    m.scheduler.fork(runs, new(1), at=1)  # waits with none, and its turn is before that
    m.scheduler.cancel(other)
    step = m.step()
    assert step.preempted == [holds]
    assert pieces(step) == [(0, 4, 1, True)]
    assert m.pool.n_free == 2  # enough for the one that waits
    assert pieces(m.step()) == [(0, 5, 1, True), (3, 0, 1, True)]
    m.run()


def test_a_request_that_is_the_youngest_itself_steps_back():
    m = machine(n_blocks=4)
    m.scheduler.submit(numbers(5), new(8))  # two blocks until it has 8 tokens
    young = m.scheduler.submit(numbers(8, 50), new(4))  # the other two; needs a third at once
    m.step()
    step = m.step()
    assert step.preempted == [young]
    assert pieces(step) == [(0, 5, 1, True)]
    m.run()
    assert wrote(young) == alone(numbers(8, 50), 4)


def test_the_oldest_is_never_preempted():
    m = machine(n_blocks=6)
    requests = [m.scheduler.submit(numbers(6, 50 * i), new(12)) for i in range(5)]
    m.run()
    assert requests[0].n_preemptions == 0
    assert sum(r.n_preemptions for r in requests) > 0
    assert [wrote(r) for r in requests] == [alone(numbers(6, 50 * i), 12) for i in range(5)]


# Forks


def test_a_fork_shares_the_blocks_of_what_both_have():
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(5))
    m.step(), m.step()  # 8 tokens, 7 of them computed
    child = m.scheduler.fork(parent, new(5))
    assert child.blocks == parent.blocks == [0, 1]
    assert m.pool.readers[:2] == [2, 2]
    assert child.tokens == parent.tokens
    assert child.tokens is not parent.tokens


def test_one_copy_is_made_and_both_write_on():
    """The first that writes copies the block; the other is then its only reader."""
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(9))
    m.step()
    child = m.scheduler.fork(parent, new(9))
    copies = [m.step().copies for _ in range(3)]
    assert copies == [[(1, 2)], [], []]
    assert (parent.blocks[:2], child.blocks[:2]) == ([0, 2], [0, 1])
    assert m.pool.readers[:3] == [2, 1, 1]


def test_forks_with_other_tokens_keep_their_texts_apart():
    """The draws are forced apart; the memory is checked in every step."""
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(9))
    m.step()
    child = m.scheduler.fork(parent, new(9))
    for _ in range(6):
        step = m.scheduler.plan()
        m.compute(step)
        m.scheduler.commit(step, [piece.request.id for piece in step.pieces])
    # The parent drew one token alone; both have 6 more, each its own number.
    assert parent.tokens[7:] == [parent.id] * 6
    assert child.tokens[7:] == [child.id] * 6


def test_three_forks_make_three_copies():
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(9))
    m.step()
    for _ in range(3):
        m.scheduler.fork(parent, new(9))
    step = m.step()
    assert [old for old, _ in step.copies] == [1, 1, 1]
    assert len({new for _, new in step.copies}) == 3
    assert m.pool.readers[0] == 4
    m.run()


def test_a_fork_at_the_edge_of_a_block_copies_nothing():
    m = machine()
    parent = m.scheduler.submit(numbers(9), new(9))
    m.step()
    child = m.scheduler.fork(parent, new(4), at=9)  # 8 of them computed: two full blocks
    assert child.blocks == parent.blocks[:2]
    assert m.step().copies == []
    m.run()
    assert wrote(child) == alone(numbers(9), 4)


def test_a_fork_goes_on_from_an_earlier_place():
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(9))
    for _ in range(5):
        m.step()
    child = m.scheduler.fork(parent, new(3), at=7)
    m.run()
    assert child.n_prompt == 7
    assert wrote(child) == alone(parent.tokens[:7], 3)
    assert wrote(parent) == alone(numbers(6), 9)


def test_a_fork_computes_one_token_before_it_draws():
    m = machine()
    parent = m.scheduler.submit(numbers(14), new(9))
    m.step()
    m.scheduler.fork(parent, new(2))
    assert pieces(m.step()) == [(0, 14, 1, True), (1, 14, 1, True)]


def test_a_fork_goes_before_those_that_came_after_its_parent():
    m = machine(max_requests=1)
    parent = m.scheduler.submit(numbers(6), new(2))
    late = m.scheduler.submit(numbers(6, 50), new(2))
    m.step()
    child = m.scheduler.fork(parent, new(2))
    assert m.scheduler.waiting == [child, late]


def test_a_fork_outlives_its_parent():
    m = machine(max_requests=1)
    parent = m.scheduler.submit(numbers(6), new(3))
    m.step()
    child = m.scheduler.fork(parent, new(5))
    m.run()
    assert wrote(child) == alone(child.tokens[:7], 5)
    assert wrote(parent) == alone(numbers(6), 3)


def test_a_fork_of_one_that_waits_shares_nothing_yet():
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(3))
    child = m.scheduler.fork(parent, new(4))
    assert child.blocks == []
    m.run()
    assert wrote(parent) == alone(numbers(6), 3)
    assert wrote(child) == alone(numbers(6), 4)


def test_a_fork_of_a_prompt_half_computed_shares_that_half():
    m = machine(max_tokens=5)
    parent = m.scheduler.submit(numbers(12), new(3))
    m.step()
    child = m.scheduler.fork(parent, new(4))
    assert (child.n_computed, child.blocks) == (5, [0, 1])
    m.run()
    assert wrote(parent) == alone(numbers(12), 3)
    assert wrote(child) == alone(numbers(12), 4)


def test_a_fork_of_a_fork_shares_with_both():
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(9))
    m.step()
    child = m.scheduler.fork(parent, new(9))
    grandchild = m.scheduler.fork(child, new(9))
    assert m.pool.readers[:2] == [3, 3]
    m.run()
    assert wrote(grandchild) == alone(grandchild.tokens[:7], 9)


def test_a_fork_inside_a_named_block_does_not_spoil_the_prefix_cache():
    """The parent is gone, the fork is the only reader of a full block with a name, and writes
    into its middle: who asks for the old text must not find the new one.
    """
    m = machine(max_requests=1)
    parent = m.scheduler.submit(numbers(9), new(2))
    m.step()
    child = m.scheduler.fork(parent, new(6), at=7)  # 6 computed: inside of block 1
    digests = chain(numbers(8), S)
    assert m.pool.find(digests) == [0, 1]
    m.step()  # the parent ends
    assert parent.done
    assert m.pool.readers[:2] == [1, 1]
    step = m.scheduler.plan()
    m.compute(step)
    m.scheduler.commit(step, [77])  # another token than the parent's prompt had in this place
    assert child.tokens[:8] == [*numbers(7), 77]
    assert m.pool.find(digests) == [0]
    again = m.scheduler.submit(numbers(9), new(2))
    m.run()  # the memory is checked in every step
    assert wrote(again) == alone(numbers(9), 2)


def test_a_fork_inside_a_named_block_with_two_readers_leaves_the_name():
    m = machine()
    parent = m.scheduler.submit(numbers(9), new(9))
    m.step()
    m.scheduler.fork(parent, new(6), at=7)
    step = m.step()
    assert [old for old, _ in step.copies] == [1]
    assert m.pool.find(chain(numbers(8), S)) == [0, 1]
    m.run()


def test_a_fork_inside_a_named_block_names_what_it_writes_by_its_own_text():
    """Its parent's name for that block is of another text, and so is all that would follow."""
    m = machine()
    parent = m.scheduler.submit(numbers(9), new(9))
    m.step()
    child = m.scheduler.fork(parent, new(9), at=7)
    while not child.done:
        step = m.scheduler.plan()
        m.compute(step)
        m.scheduler.commit(step, [77] * len(step.pieces))
    assert child.tokens == [*numbers(7), *[77] * 9]
    assert len(m.pool.find(chain(child.tokens[:12], S))) == 3
    assert len(m.pool.find(chain([*numbers(8), *child.tokens[8:12]], S))) == 2


def test_a_fork_is_not_let_in_where_its_copy_would_cost_another_its_blocks():
    m = machine(n_blocks=3)
    parent = m.scheduler.submit(numbers(6), new(2))
    m.step()
    for _ in range(2):
        m.scheduler.fork(parent, new(2), at=6)
    step = m.step()  # the parent copies, and takes the last block
    assert (len(step.copies), step.preempted) == (1, [])
    assert pieces(step) == [(0, 6, 1, True)]
    m.run()


@pytest.mark.parametrize("how", ["finished", "cancelled"])
def test_a_fork_of_one_that_is_done_is_refused_in_a_sentence(how):
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(1))
    m.scheduler.cancel(parent) if how == "cancelled" else m.run()
    with pytest.raises(ValueError, match=f"Request 0 is {how} and has given its blocks back"):
        m.scheduler.fork(parent, new(2))
    assert not m.scheduler.busy


@pytest.mark.parametrize("at", [0, -1, 7])
def test_a_fork_cannot_begin_with_tokens_that_are_not_there(at):
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(1))
    with pytest.raises(ValueError, match=f"has 6 tokens; .* got {at}"):
        m.scheduler.fork(parent, new(2), at=at)


def test_a_refused_fork_leaves_the_blocks_as_they_are():
    m = machine(n_blocks=3)
    parent = m.scheduler.submit(numbers(6), new(4))
    m.step()
    readers = list(m.pool.readers)
    with pytest.raises(ValueError, match="needs 5 blocks"):
        m.scheduler.fork(parent, new(10))
    assert m.pool.readers == readers
    assert m.scheduler.waiting == []
    assert m.scheduler.submit([1], new(1)).id == parent.id + 1


def test_forks_that_wait_with_blocks_do_not_stop_those_that_run():
    """Four forks hold blocks of the parent; it needs one, and the youngest fork gives way."""
    m = machine(n_blocks=4, max_requests=1)
    parent = m.scheduler.submit(numbers(7), new(9))
    m.step()
    children = [m.scheduler.fork(parent, new(8)) for _ in range(4)]
    m.run()
    assert wrote(parent) == alone(numbers(7), 9)
    assert [wrote(c) for c in children] == [alone(c.tokens[:8], 8) for c in children]


def test_the_youngest_of_those_that_wait_with_blocks_gives_way():
    m = machine(n_blocks=7, max_requests=3)
    parents = [m.scheduler.submit(numbers(6, 50 * i), new(12 if i == 0 else 2)) for i in range(3)]
    m.step()
    older, younger = (m.scheduler.fork(parent, new(2), at=6) for parent in parents[1:])
    for parent in parents[1:]:
        m.scheduler.cancel(parent)
    m.scheduler.max_requests = 1
    while not (older.n_preemptions or younger.n_preemptions):
        m.step()
    assert (older.n_preemptions, younger.n_preemptions) == (0, 1)
    m.run()
    assert wrote(younger) == alone(numbers(6, 100), 2)


def test_where_one_that_is_let_in_took_the_blocks_of_one_that_waits_nobody_else_is():
    """Nothing runs. The first takes the free blocks and those of a fork, which leaves some free."""
    m = machine(n_blocks=8, prefix_caching=False)
    parent = m.scheduler.submit(numbers(20), new(4))
    m.step()
    first = m.scheduler.submit(numbers(13, 50), new(1))
    second = m.scheduler.submit(numbers(4, 90), new(1))
    late = m.scheduler.fork(parent, new(2), at=20)  # five blocks
    late.arrival = second.arrival + 1  # as if it were a later one's
    m.scheduler.waiting.sort(key=lambda request: request.turn)
    m.scheduler.cancel(parent)
    step = m.step()
    assert step.preempted == [late]
    assert pieces(step) == [(first.id, 0, 13, True)]
    m.run()
    assert wrote(late) == alone(numbers(20), 2)


def test_a_block_is_found_by_its_name_though_another_had_that_name_before():
    """Two equal prompts run at once, and the blocks of the first are used again."""
    m = machine(n_blocks=11, max_tokens=64)
    first = m.scheduler.submit([*numbers(16), 40], new(1))
    second = m.scheduler.submit([*numbers(16), 41], new(4))
    m.step()
    m.scheduler.submit(numbers(21, 50), new(1))  # takes what the first had
    m.step()
    m.step()
    digests = chain(numbers(16), S)
    held = second.blocks[:4]
    assert first.done
    assert m.pool.find(digests) == []
    m.run()
    assert m.pool.find(digests) == held


def test_forks_that_wait_with_all_blocks_do_not_stop_one_another():
    """The parents are gone and nothing runs, but those that wait hold the whole pool."""
    m = machine(n_blocks=6, max_requests=3)
    parents = [m.scheduler.submit(numbers(5, 50 * i), new(2)) for i in range(3)]
    m.step()
    children = [m.scheduler.fork(parent, new(16), at=6) for parent in parents]
    for parent in parents:
        m.scheduler.cancel(parent)
    assert m.pool.n_free == 0
    m.run()
    assert [wrote(c) for c in children] == [alone(c.tokens[:6], 16) for c in children]


def test_blocks_are_taken_from_those_that_wait_before_those_that_run():
    m = machine(n_blocks=6, max_requests=2)
    one = m.scheduler.submit(numbers(4), new(12))
    other = m.scheduler.submit(numbers(4, 50), new(6))
    m.step()
    child = m.scheduler.fork(other, new(6), at=4)
    m.step(), m.step(), m.step()
    while not child.n_preemptions and not child.done:
        m.step()
    assert (one.n_preemptions, other.n_preemptions, child.n_preemptions) == (0, 0, 1)
    m.run()
    assert wrote(child) == alone(numbers(4, 50), 6)


# Cancelling


def test_one_that_waits_can_be_cancelled():
    m = machine(max_requests=1)
    first = m.scheduler.submit(numbers(5), new(2))
    second = m.scheduler.submit(numbers(5, 50), new(2))
    m.step()
    m.scheduler.cancel(second)
    m.run()
    assert (first.state, second.state) == (State.FINISHED, State.CANCELLED)
    assert wrote(second) == []


def test_one_that_runs_gives_its_blocks_back_when_cancelled():
    m = machine()
    request = m.scheduler.submit(numbers(5), new(9))
    m.step()
    m.scheduler.cancel(request)
    assert m.pool.n_free == m.pool.n_blocks
    assert wrote(request) == alone(numbers(5), 1)
    assert not m.scheduler.busy


def test_one_that_is_cancelled_during_a_step_gets_no_token_of_it():
    m = machine()
    stays = m.scheduler.submit(numbers(5), new(3))
    goes = m.scheduler.submit(numbers(5, 50), new(3))
    step = m.scheduler.plan()
    drawn = m.compute(step)
    m.scheduler.cancel(goes)
    assert m.scheduler.commit(step, drawn) == [stays]
    assert (wrote(goes), goes.state) == ([], State.CANCELLED)
    m.scheduler.check()
    m.run()
    assert wrote(stays) == alone(numbers(5), 3)


def test_blocks_of_one_cancelled_during_a_step_are_not_found_by_others():
    """What it was computing has no name yet, and gets none."""
    m = machine()
    goes = m.scheduler.submit(numbers(9), new(3))
    step = m.scheduler.plan()
    drawn = m.compute(step)
    m.scheduler.cancel(goes)
    m.scheduler.commit(step, drawn)
    assert m.pool.named == {}
    assert m.pool.n_free == m.pool.n_blocks


def test_cancelling_the_parent_leaves_the_fork_its_blocks():
    m = machine()
    parent = m.scheduler.submit(numbers(6), new(9))
    m.step()
    child = m.scheduler.fork(parent, new(4))
    m.scheduler.cancel(parent)
    assert m.pool.readers[:2] == [1, 1]
    m.run()
    assert wrote(child) == alone(child.tokens[:7], 4)


@pytest.mark.parametrize("how", ["finished", "cancelled"])
def test_one_that_is_done_cannot_be_cancelled(how):
    m = machine()
    request = m.scheduler.submit(numbers(5), new(1))
    m.scheduler.cancel(request) if how == "cancelled" else m.run()
    with pytest.raises(ValueError, match=f"Request 0 is {how} already"):
        m.scheduler.cancel(request)
    assert m.pool.n_free == m.pool.n_blocks


# What is refused


def test_a_prompt_that_no_pool_can_hold_says_what_it_needs():
    m = machine(n_blocks=4)
    words = (
        "A prompt of 100 tokens with 5 new ones needs 27 blocks of 4 tokens; the pool has 4. "
        "Make it larger, or ask for less."
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        m.scheduler.submit(numbers(100), new(5))
    assert not m.scheduler.busy


def test_a_prompt_that_just_fits_is_written_to_its_end():
    m = machine(n_blocks=4)
    request = m.scheduler.submit(numbers(11), new(5))
    m.run()
    assert wrote(request) == alone(numbers(11), 5)
    with pytest.raises(ValueError, match="needs 5 blocks"):
        m.scheduler.submit(numbers(11), new(6))


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="The prompt is empty"):
        machine().scheduler.submit([], new(1))


@pytest.mark.parametrize("limits", [{"max_tokens": 0}, {"max_requests": 0}])
def test_a_step_without_room_is_refused(limits):
    with pytest.raises(ValueError, match="room for 1 token and 1 request or more"):
        machine(**limits)


@pytest.mark.parametrize("drawn", [[], [1], [1, 2, 3]])
def test_a_wrong_number_of_tokens_changes_nothing(drawn):
    m = machine()
    requests = [m.scheduler.submit(numbers(5, first), new(3)) for first in (0, 50)]
    step = m.scheduler.plan()
    with pytest.raises(ValueError, match=f"2 pieces write; got {len(drawn)} tokens"):
        m.scheduler.commit(step, drawn)
    assert [(r.n_computed, wrote(r)) for r in requests] == [(0, []), (0, [])]
    m.scheduler.commit(step, m.compute(step))
    m.run()
    assert [wrote(r) for r in requests] == [alone(numbers(5, first), 3) for first in (0, 50)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more, whole; got 0"),
        ({"max_new_tokens": 1, "seed": -1}, "seed must be 0 or more"),
        ({"max_new_tokens": 1, "temperature": -1}, "temperature must be 0"),
        ({"max_new_tokens": 1, "temperature": float("nan")}, "temperature must be 0"),
        ({"max_new_tokens": 1, "top_k": 0}, "top_k must be 1 or more"),
        ({"max_new_tokens": 1, "top_p": 0.0}, "top_p must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Sampling(**settings)


def test_a_caller_may_change_the_prompt_that_it_gave():
    m = machine()
    prompt = numbers(5)
    request = m.scheduler.submit(prompt, new(2))
    prompt.clear()
    m.run()
    assert wrote(request) == alone(numbers(5), 2)


# A plan that was not committed: the model raised, and is asked again


def test_a_step_that_failed_can_be_planned_again():
    m = machine(n_blocks=5)
    requests = [m.scheduler.submit(numbers(5, first), new(6)) for first in (0, 50)]
    while m.scheduler.busy:
        m.scheduler.plan()  # nothing is computed and nothing committed
        m.scheduler.check()
        m.step()
    assert [wrote(r) for r in requests] == [alone(numbers(5, first), 6) for first in (0, 50)]
    assert m.pool.n_free == m.pool.n_blocks


# Random schedules

COMMON = [3, 1, 2, 0, 4, 1, 1, 2, 3]  # prompts begin with some of it, behind one of two tokens
WHICH, N_NEW = st.integers(0, 9), st.integers(1, 12)
SUBMIT = st.tuples(  # first token, tokens of the common beginning, tokens of its own, new ones
    st.just("submit"), st.integers(0, 1), st.integers(0, 9), st.integers(0, 4), N_NEW
)
FORK = st.tuples(st.just("fork"), WHICH, st.none() | st.integers(0, 20), N_NEW)
CANCEL = st.tuples(st.just("cancel"), WHICH)
STEPS = st.tuples(st.just("steps"), st.integers(1, 4))
AMID = st.one_of(FORK, CANCEL).map(lambda action: ("amid", *action))
FAIL = st.tuples(st.just("fail"))
ACTIONS = st.tuples(
    st.lists(SUBMIT, min_size=3, max_size=6),  # a crowd at the beginning
    st.lists(
        st.one_of(SUBMIT, STEPS, STEPS, STEPS, FORK, FORK, FORK, CANCEL, AMID, FAIL),
        min_size=5,
        max_size=20,
    ),
).map(lambda parts: [*parts[0], *parts[1]])


@st.composite
def limits_of(draw):
    """A pool in which each of the prompts above has room, but few at a time."""
    size = draw(st.integers(1, 5))
    return {
        "n_blocks": -(-26 // size) + draw(st.sampled_from([0, 0, 0, 1, 2, 6])),
        "block_size": size,
        "max_tokens": draw(st.sampled_from([1, 3, 8, 16, 32, 32])),
        "max_requests": draw(st.sampled_from([1, 2, 4, 8, 8])),
        "prefix_caching": draw(st.booleans()),
        "chunked": draw(st.booleans()),
        "continuous": draw(st.sampled_from([False, True, True])),
        "end_ids": draw(st.sampled_from([(), (), (0,)])),
    }


class Play:
    """Actions on a machine, and the requests that came of them."""

    def __init__(self, limits):
        self.machine = machine(**limits)
        self.scheduler = self.machine.scheduler
        self.requests = []

    def do(self, what, *how):
        getattr(self, what)(*how)
        self.scheduler.check()

    def submit(self, first, n_common, n_own, n_new):
        own = [len(self.requests) % VOCABULARY] * n_own
        self._accept(self.scheduler.submit, [first, *COMMON[:n_common], *own], new(n_new))

    def steps(self, n):
        for _ in range(n):
            self.machine.step()

    def fork(self, which, at, n_new):
        if parent := self._alive(which):
            at = None if at is None else 1 + at % len(parent.tokens)
            self._accept(self.scheduler.fork, parent, new(n_new), at)

    def cancel(self, which):
        if request := self._alive(which):
            self.scheduler.cancel(request)

    def amid(self, what, *how):
        """Something happens while a step is under way."""
        step = self.scheduler.plan()
        drawn = self.machine.compute(step)
        self.do(what, *how)
        self.scheduler.commit(step, drawn)

    def fail(self):
        """The model raises when all is written, and nothing is committed."""
        self.machine.compute(self.scheduler.plan())

    def _alive(self, which):
        """Some request on its way, one that holds blocks where there is such."""
        alive = [request for request in self.requests if not request.done]
        alive = [request for request in alive if request.blocks] or alive
        return alive[which % len(alive)] if alive else None

    def _accept(self, make, *arguments):
        try:
            self.requests.append(make(*arguments))
        except ValueError as refused:
            if "the pool has" not in str(refused):  # it can never fit: that is fair
                raise


@given(limits=limits_of(), actions=ACTIONS)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_whatever_happens_each_request_writes_what_it_would_write_alone(limits, actions):
    """Arrivals, forks, cancels and failures at any time, in pools that are too small for all.

    In every step the memory is held against the texts, no block with two readers or a name is
    written, and the books add up; in the end all blocks are free.
    """
    play = Play(limits)
    for action in actions:
        play.do(*action)
    tokens = sum(request.most_tokens for request in play.requests)
    play.machine.run(most_steps=200 + tokens * (1 + len(play.requests)))
    for request in play.requests:
        wanted = alone(
            request.tokens[: request.n_prompt], request.sampling.max_new_tokens, limits["end_ids"]
        )
        if request.state is State.CANCELLED:
            wanted = wanted[: request.n_written]
        assert wrote(request) == wanted
    assert play.scheduler.pool.n_free == limits["n_blocks"]


@given(limits=limits_of(), actions=ACTIONS)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_no_step_goes_beyond_its_limits(limits, actions):
    """One whole prompt, where chunks are off, is what may: and then beside single tokens alone."""
    play = Play(limits)
    plan = play.scheduler.plan

    def held():
        step = plan()
        assert len(step.pieces) <= limits["max_requests"]
        if step.n_tokens > limits["max_tokens"] and limits["continuous"]:  # whole batches may
            assert not limits["chunked"]
            *others, longest = sorted(piece.n for piece in step.pieces)
            assert set(others) <= {1}
            assert len(others) < limits["max_tokens"]
            assert longest > 1
        assert len({piece.request for piece in step.pieces}) == len(step.pieces)
        return step

    play.scheduler.plan = held
    for action in actions:
        play.do(*action)
    play.machine.run(most_steps=5000)


def test_a_text_that_is_computed_again_does_not_starve_those_that_write():
    """A fork has its parent's turn, and may have a long text to compute before younger singles."""
    scheduler = Scheduler(BlockPool(100, 4), max_tokens=8)
    old = scheduler.submit(numbers(40), new(2))
    young = [scheduler.submit(numbers(2, 60 + 10 * i), new(12)) for i in range(3)]
    while not all(r.n_left == 1 for r in young):
        step = scheduler.plan()
        scheduler.commit(step, [0] * sum(p.writes for p in step.pieces))
    again = scheduler.fork(young[0], new(2), at=1)  # the turn of a request that is older ...
    again.tokens += list(range(500, 530))  # ... and much to compute
    for _ in range(4):
        step = scheduler.plan()
        assert {p.request for p in step.pieces} >= {r for r in young if not r.done}
        assert step.n_tokens <= 8
        scheduler.commit(step, [0] * sum(p.writes for p in step.pieces))
    assert again.n_computed > 1
    assert old.done


def test_a_whole_batch_begins_with_all_of_its_prompts():
    """Or the first step's budget would decide how large a batch can be."""
    scheduler = Scheduler(
        BlockPool(200, 4), max_tokens=16, max_requests=8, prefix_caching=False, continuous=False
    )
    for i in range(9):
        scheduler.submit(numbers(20, 100 * i), new(2))
    assert [(p.start, p.n) for p in scheduler.plan().pieces] == [(0, 20)] * 8
