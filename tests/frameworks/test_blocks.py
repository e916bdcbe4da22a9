"""The block pool: exact states, derived by hand from its rules; and a slow second pool beside it.

The rules: the block let go longest ago is taken first; the last block of a table joins the queue
first; a free block keeps its name until it is taken; names chain.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stackkit.frameworks import BlockPool
from stackkit.frameworks.blocks import chain

S = 4  # tokens of a block
A = list(range(14))  # 3 full blocks and 2 tokens
B = [*A[:8], *range(50, 56)]  # the same two blocks, then others
C = list(range(100, 109))  # nothing in common; 2 full blocks and 1 token


def begin(pool, tokens):
    """Blocks for a text: those that are known, then new ones; and names for its full blocks."""
    digests = chain(tokens, pool.block_size)
    table = pool.find(digests)
    for block in table:
        pool.share(block)
    table += [pool.take() for _ in range(pool.blocks_for(len(tokens)) - len(table))]
    for block, digest in zip(table, digests, strict=False):
        pool.name(block, digest)
    return table


@pytest.fixture
def pool():
    return BlockPool(10, S)


@pytest.fixture
def three(pool):
    """The pool, and the tables of A, B and C in it."""
    return pool, begin(pool, A), begin(pool, B), begin(pool, C)


# One example in steps: 10 blocks of 4 tokens


def test_a_new_pool_gives_its_blocks_in_order(pool):
    assert pool.queue == list(range(10))
    assert pool.readers == [0] * 10
    assert pool.named == {}


def test_the_first_text_takes_the_first_blocks_and_names_the_full_ones(pool):
    assert begin(pool, A) == [0, 1, 2, 3]
    assert pool.queue == [4, 5, 6, 7, 8, 9]
    assert pool.readers == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert sorted(pool.named) == [0, 1, 2]


def test_a_text_with_the_same_beginning_shares_its_blocks(pool):
    begin(pool, A)
    assert begin(pool, B) == [0, 1, 4, 5]
    assert pool.queue == [6, 7, 8, 9]
    assert pool.readers == [2, 2, 1, 1, 1, 1, 0, 0, 0, 0]
    assert sorted(pool.named) == [0, 1, 2, 4]


def test_a_text_with_another_beginning_shares_nothing(three):
    pool, _, _, c = three
    assert c == [6, 7, 8]
    assert pool.queue == [9]
    assert pool.readers == [2, 2, 1, 1, 1, 1, 1, 1, 1, 0]
    assert sorted(pool.named) == [0, 1, 2, 4, 6, 7]


def test_released_blocks_queue_up_last_block_first_and_shared_ones_stay(three):
    pool, a, _, _ = three
    pool.release(a)
    assert pool.queue == [9, 3, 2]
    assert pool.readers == [1, 1, 0, 0, 1, 1, 1, 1, 1, 0]


def test_the_last_reader_frees_a_shared_block(three):
    pool, a, b, _ = three
    pool.release(a)
    pool.release(b)
    assert pool.queue == [9, 3, 2, 5, 4, 1, 0]
    assert pool.readers == [0, 0, 0, 0, 0, 0, 1, 1, 1, 0]


def test_a_freed_block_keeps_its_name_until_it_is_taken(three):
    pool, a, b, _ = three
    pool.release(a)
    pool.release(b)
    assert sorted(pool.named) == [0, 1, 2, 4, 6, 7]
    assert [pool.take() for _ in range(2)] == [9, 3]  # neither had a name
    assert sorted(pool.named) == [0, 1, 2, 4, 6, 7]
    assert pool.take() == 2
    assert sorted(pool.named) == [0, 1, 4, 6, 7]


def test_a_text_that_comes_again_finds_the_blocks_of_the_one_that_is_gone(three):
    pool, a, b, _ = three
    pool.release(a)
    pool.release(b)
    assert begin(pool, A) == [0, 1, 2, 9]
    assert pool.queue == [3, 5, 4]
    assert pool.readers == [1, 1, 1, 0, 0, 0, 1, 1, 1, 1]


def test_only_the_beginning_up_to_the_first_lost_block_is_found(three):
    pool, a, b, _ = three
    pool.release(a)
    pool.release(b)
    for block in (9, 3, 2, 5, 4):
        assert pool.take() == block
    assert pool.find(chain(B, S)) == [0, 1]  # block 4 held the third
    assert pool.take() == 1
    assert pool.find(chain(A, S)) == [0]
    assert pool.take() == 0
    assert pool.find(chain(A, S)) == []


def test_blocks_behind_a_lost_one_are_not_found(pool):
    """A text's third block is worth nothing without its second."""
    begin(pool, A)
    pool.forget(1)
    assert pool.find(chain(A, S)) == [0]


def test_a_block_used_again_waits_behind_those_freed_before_it(pool):
    a, c = begin(pool, A), begin(pool, C)
    pool.release(a)
    pool.release(c)
    assert pool.queue == [7, 8, 9, 3, 2, 1, 0, 6, 5, 4]
    pool.release(begin(pool, A))  # 0, 1, 2 by name, and 7
    assert pool.queue == [8, 9, 3, 6, 5, 4, 7, 2, 1, 0]


# Rules of single methods


def test_the_second_block_of_the_same_name_is_not_found(pool):
    """Two texts computed side by side give the same block twice; one of them is enough."""
    first, second = pool.take(), pool.take()
    (digest,) = chain([1, 2, 3, 4], S)
    pool.name(first, digest)
    pool.name(second, digest)
    assert pool.named == {first: digest}
    assert pool.find([digest]) == [first]


def test_a_block_named_anew_is_not_found_by_its_old_name(pool):
    block = pool.take()
    (old,), (new,) = chain([1, 2, 3, 4], S), chain([5, 6, 7, 8], S)
    pool.name(block, old)
    pool.name(block, new)
    assert pool.find([old]) == []
    assert pool.find([new]) == [block]


def test_a_block_that_holds_what_another_does_is_not_found_by_its_old_name(pool):
    first, second = pool.take(), pool.take()
    (old,), (new,) = chain([1, 2, 3, 4], S), chain([5, 6, 7, 8], S)
    pool.name(first, old)
    pool.name(second, new)
    pool.name(first, new)
    assert pool.named == {second: new}


def test_a_name_may_be_given_to_another_block_once_it_is_forgotten(pool):
    first, second = pool.take(), pool.take()
    (digest,) = chain([1, 2, 3, 4], S)
    pool.name(first, digest)
    pool.forget(first)
    pool.name(second, digest)
    assert pool.find([digest]) == [second]


def test_a_block_without_a_name_can_be_forgotten(pool):
    pool.forget(3)
    pool.check()


def test_a_free_block_that_is_shared_leaves_the_queue_with_its_name(pool):
    table = begin(pool, A)
    pool.release(table)
    pool.share(1)
    assert 1 not in pool.queue
    assert pool.readers[1] == 1
    assert sorted(pool.named) == [0, 1, 2]


@pytest.mark.parametrize(
    ("n_tokens", "n_blocks"), [(0, 0), (1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (14, 4)]
)
def test_blocks_for_rounds_up(pool, n_tokens, n_blocks):
    assert pool.blocks_for(n_tokens) == n_blocks


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (-1, 4)])
def test_a_pool_of_nothing_is_refused(shape):
    with pytest.raises(ValueError, match=f"got {shape[0]} blocks of {shape[1]}"):
        BlockPool(*shape)


def test_an_empty_pool_says_how_many_blocks_are_in_use():
    pool = BlockPool(2, S)
    pool.take(), pool.take()
    with pytest.raises(IndexError, match="All 2 blocks are in use"):
        pool.take()
    assert pool.readers == [1, 1]


def test_a_block_cannot_be_released_twice(pool):
    table = begin(pool, A)
    pool.release(table)
    with pytest.raises(ValueError, match="Block 3 has no reader"):
        pool.release(table)
    pool.check([])
    assert pool.queue == [4, 5, 6, 7, 8, 9, 3, 2, 1, 0]


def test_a_table_of_no_block_releases_nothing(pool):
    pool.release([])
    assert pool.queue == list(range(10))


def test_what_a_property_gives_can_be_changed_without_harm(pool):
    begin(pool, A)
    pool.queue.clear()
    pool.named.clear()
    assert pool.n_free == 6
    assert pool.find(chain(A, S)) == [0, 1, 2]


# The books themselves: a fault in them is found


def spoil_queue(pool):
    del pool._queue[9]


def spoil_readers(pool):
    pool.readers[0] = 0


def spoil_names(pool):
    del pool._digest_of[0]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_queue, "5 free and 4 used are not 10"),
        (spoil_readers, "6 free and 3 used are not 10"),
        (spoil_names, "Names and blocks do not match"),
    ],
)
def test_check_finds_books_that_do_not_add_up(pool, spoil, words):
    begin(pool, A)
    pool.check()
    spoil(pool)
    with pytest.raises(AssertionError, match=words):
        pool.check()


def test_check_finds_a_used_block_in_the_queue(pool):
    begin(pool, A)
    del pool._queue[9]
    pool._queue[0] = None
    with pytest.raises(AssertionError, match="Block 0 has 1 readers and is in the wrong place"):
        pool.check()


def test_check_finds_a_table_that_was_lost(three):
    pool, a, b, c = three
    pool.check([a, b, c])
    with pytest.raises(AssertionError, match="Tables count"):
        pool.check([a, b])


# Names


def test_a_digest_stands_for_the_whole_text_up_to_its_block():
    """The same tokens after another beginning hold other keys and values."""
    one, other = chain([1, 2, 3, 4, 9, 9, 9, 9], S), chain([1, 2, 3, 5, 9, 9, 9, 9], S)
    assert one[0] != other[0]
    assert one[1] != other[1]


def test_equal_blocks_of_one_text_have_different_names():
    assert len(set(chain([7] * 12, S))) == 3


def test_the_same_beginning_has_the_same_digests():
    assert chain(A, S)[:2] == chain(B, S)[:2]
    assert chain(A, S)[2] != chain(B, S)[2]


@pytest.mark.parametrize(("n_tokens", "n_digests"), [(0, 0), (3, 0), (4, 1), (7, 1), (8, 2)])
def test_a_block_that_is_part_empty_has_no_name(n_tokens, n_digests):
    assert len(chain(A[:n_tokens], S)) == n_digests


def test_tokens_are_told_apart_where_their_digits_are_not():
    texts = [[1, 23], [12, 3], [123, 0], [0, 123], [1, 2]]
    assert len({chain(text, 2)[0] for text in texts}) == len(texts)


@given(
    tokens=st.lists(st.integers(0, 3), max_size=30),
    size=st.integers(1, 5),
    known=st.integers(0, 8),
)
@settings(deadline=None, derandomize=True)
def test_a_chain_goes_on_from_the_digests_that_are_known(tokens, size, known):
    whole = chain(tokens, size)
    before = whole[:known]
    assert chain(tokens, size, before) == whole
    assert before == whole[:known]  # and what was given is as it was


@given(
    one=st.lists(st.integers(0, 1), min_size=0, max_size=12),
    other=st.lists(st.integers(0, 1), min_size=0, max_size=12),
    size=st.integers(1, 4),
)
@settings(deadline=None, derandomize=True)
def test_two_texts_have_as_many_digests_in_common_as_full_blocks(one, other, size):
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    ours, theirs = chain(one, size), chain(other, size)
    full = same // size
    assert ours[:full] == theirs[:full]
    assert not set(ours[full:]) & set(theirs[full:])


# A second pool, as slow and plain as can be, goes through the same


class PoolBesideALongWayRound(RuleBasedStateMachine):
    """Texts over two tokens begin and end in a small pool; lists alone keep the other's books."""

    def __init__(self):
        super().__init__()
        self.pool = BlockPool(6, 2)
        self.free = list(range(6))  # first to be taken first
        self.texts = []  # (table, tokens)
        self.holds = {}  # block: the text up to its end, where that is known

    def read(self, block):
        return sum(table.count(block) for table, _ in self.texts)

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=7))
    def begin(self, tokens):
        table = []
        for end in range(2, len(tokens) + 1, 2):
            known = [b for b, text in self.holds.items() if text == tokens[:end]]
            if not known:
                break
            table += known
        n_new = -(-len(tokens) // 2) - len(table)
        if n_new > len([b for b in self.free if b not in table]):
            return
        self.free = [b for b in self.free if b not in table]
        for _ in range(n_new):
            block = self.free.pop(0)
            self.holds.pop(block, None)
            table.append(block)
        for i, block in enumerate(table):
            text = tokens[: 2 * i + 2]
            if len(text) == 2 * i + 2 and text not in self.holds.values():
                self.holds[block] = text
        assert begin(self.pool, tokens) == table
        self.texts.append((table, tokens))

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def end(self, data):
        table, _ = self.texts.pop(data.draw(st.integers(0, len(self.texts) - 1)))
        self.pool.release(table)
        self.free += [block for block in reversed(table) if self.read(block) == 0]

    @invariant()
    def they_agree(self):
        self.pool.check([table for table, _ in self.texts])
        assert self.pool.queue == self.free
        assert self.pool.n_free == len(self.free)
        assert self.pool.readers == [self.read(block) for block in range(6)]
        assert self.pool.named == {b: chain(text, 2)[-1] for b, text in self.holds.items()}


TestPoolBesideALongWayRound = PoolBesideALongWayRound.TestCase
TestPoolBesideALongWayRound.settings = settings(
    deadline=None, derandomize=True, max_examples=60, stateful_step_count=30
)
