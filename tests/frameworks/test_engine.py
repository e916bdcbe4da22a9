"""The engine: whatever it does to be fast, each request gets the text that it would get alone.

The plain loop of ``models.generate`` is the reference: one request, one cache in one piece. The
models are random, with weights so large that a wrong key shows in the very next token.
"""

import itertools
import re
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from stackkit import models  # noqa: E402
from stackkit.frameworks import Engine, PagedCache, State, engine, sample  # noqa: E402
from stackkit.frameworks.attention import attend  # noqa: E402
from stackkit.models.generation import generate  # noqa: E402
from stackkit.models.transformer import Config, Transformer  # noqa: E402

V = 64  # ids of the random models
END = 5
GREEDY = {}
DRAWS = [
    GREEDY,
    {"temperature": 1.0, "seed": 1},
    {"temperature": 1.0, "seed": 2},
    {"temperature": 0.7, "top_k": 5, "seed": 3},
    {"temperature": 1.3, "top_p": 0.8, "seed": 4},
    {"temperature": 1.0, "top_k": 20, "top_p": 0.9, "seed": 5},
]


class Numbers:
    """A tokenizer: token i is the character with the number 48 + i."""

    vocab_size = V

    def __init__(self, end_ids=()):
        self.end_ids = frozenset(end_ids)

    def encode(self, text):
        return [ord(character) - 48 for character in text]

    def decode(self, ids):
        return "".join(chr(48 + id) for id in ids)

    def token_bytes(self, id):
        return bytes([48 + id])


class Watched(Transformer):
    """A random model that calls ``during()``, where one is set, within its second layer."""

    during = None

    def __init__(self, dtype, max_context=256):
        config = Config(
            n_layers=2,
            d_model=32,
            n_heads=4,
            n_kv_heads=2,
            head_dim=8,
            d_ff=64,
            vocab_size=V,
            max_context=max_context,
            tied_embeddings=False,
        )
        self.n_calls = 0
        super().__init__(config, self.attend)
        random = torch.Generator().manual_seed(0)
        for weight in self.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.4, generator=random)
        self.to(dtype)

    def __repr__(self):
        return "Watched()"

    def attend(self, q, k, v):
        self.n_calls += 1
        if self.during and self.n_calls % 2 == 0:
            self.during()
        return attend(q, k, v)


@pytest.fixture(scope="module")
def shared():
    """Both random models; what they wrote alone is kept."""
    return {dtype: Watched(dtype) for dtype in (torch.float32, torch.float64)}


@pytest.fixture
def model(shared):
    yield shared[torch.float32]
    shared[torch.float32].during = None


@pytest.fixture(scope="module")
def toy():
    pytest.importorskip("safetensors")
    return models.load("toy")


def new_engine(model, end_ids=(), **limits):
    """One whose memory is full of rubbish, as memory is that was used before."""
    made = Engine(model, Numbers(end_ids), **{"n_blocks": 32, "block_size": 4, **limits})
    random = torch.Generator().manual_seed(1)
    made.store.data.copy_(100 * torch.randn(made.store.data.shape, generator=random))
    return made


_written = {}


def alone(model, prompt, max_new_tokens, end_ids=(), **draw):
    """Tokens of the plain loop."""
    key = (model, tuple(prompt), max_new_tokens, tuple(end_ids), tuple(sorted(draw.items())))
    if key not in _written:
        during, model.during = model.during, None
        _written[key] = list(
            generate(model, Numbers(end_ids), prompt, max_new_tokens=max_new_tokens, **draw)
        )
        model.during = during
    return _written[key]


def ids(tokens):
    return [token.id for token in tokens]


def prompt_of(n, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(6, V, (n,), generator=random).tolist()


# One request at a time


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_request_gets_the_text_of_the_plain_loop(shared, dtype, draw):
    model = shared[dtype]
    request = new_engine(model).submit(prompt_of(9), max_new_tokens=20, **draw)
    assert request.state is State.WAITING
    ((request,),) = new_engine(model).generate([prompt_of(9)], max_new_tokens=20, **draw)
    assert ids(request.output) == ids(alone(model, prompt_of(9), 20, **draw))


def test_the_models_here_write_texts_that_depend_on_every_token_before(model):
    """Else these tests would not see a wrong key: each token of the prompt is changed in turn."""
    before = ids(alone(model, prompt_of(9), 12))
    assert len(set(before)) > 6
    for place in range(9):
        prompt = prompt_of(9)
        prompt[place] = 6 + (prompt[place] + 1) % (V - 6)
        assert ids(alone(model, prompt, 12)) != before


def test_tokens_carry_the_probabilities_of_the_plain_loop(model):
    wanted = alone(model, prompt_of(9), 8, temperature=1.0)
    ((request,),) = new_engine(model, alternatives=5).generate(
        [prompt_of(9)], max_new_tokens=8, temperature=1.0
    )
    for found, token in zip(request.output, wanted, strict=True):
        assert found.logprob == pytest.approx(token.logprob, abs=1e-4)
        assert [text for text, _ in found.alternatives] == [text for text, _ in token.alternatives]
        assert [p for _, p in found.alternatives] == pytest.approx(
            [p for _, p in token.alternatives], abs=1e-4
        )


def test_no_alternatives_are_reported_where_none_are_asked_for(model):
    ((request,),) = new_engine(model).generate([prompt_of(3)], max_new_tokens=2)
    assert [token.alternatives for token in request.output] == [(), ()]


def test_a_prompt_may_be_text(model):
    ((one,), (other,)) = new_engine(model).generate(["SOME", [35, 31, 29, 21]], max_new_tokens=6)
    assert one.text == other.text
    assert one.text == "".join(token.text for token in alone(model, [35, 31, 29, 21], 6))


@pytest.mark.parametrize("draw", [GREEDY, {"temperature": 0.9, "top_p": 0.95, "seed": 7}])
def test_the_shipped_toy_writes_what_it_writes_alone(toy, draw):
    prompts = ["The memory bandwidth of", "The memory", "A cache is", "The memory bandwidth of"]
    served = Engine(*toy, n_blocks=10, block_size=4, max_tokens=12)  # too few blocks for all
    found = served.generate(prompts, max_new_tokens=14, **draw)
    for prompt, (request,) in zip(prompts, found, strict=True):
        wanted = list(generate(*toy, prompt, max_new_tokens=14, **draw))
        assert ids(request.output) == ids(wanted)
        assert request.text == "".join(token.text for token in wanted)


def test_characters_of_several_tokens_come_with_their_last_one(model):
    class Snowmen(Numbers):
        """Three tokens a character, whatever they are."""

        def token_bytes(self, id):
            self.n = getattr(self, "n", -1) + 1
            return "☃".encode()[self.n % 3 : self.n % 3 + 1]

    served = Engine(model, Snowmen(), n_blocks=8, block_size=4)
    ((request,),) = served.generate([prompt_of(3)], max_new_tokens=6)
    assert [token.text for token in request.output] == ["", "", "☃", "", "", "☃"]


class Letters(Numbers):
    """Even tokens are the first two bytes of a snowman, odd ones its last."""

    def token_bytes(self, id):
        return "☃".encode()[2:] if id % 2 else "☃".encode()[:2]


@pytest.mark.parametrize("seed", range(4))
def test_a_fork_or_a_prompt_that_begins_inside_a_character_completes_it(model, seed):
    served = Engine(model, Letters(), n_blocks=16, block_size=4)
    parent = served.submit([1, 2, 4], max_new_tokens=9, temperature=1.0)
    while len(parent.tokens) < 8:
        served.step()
    at = next(n for n in range(4, 9) if parent.tokens[n - 1] % 2 == 0)
    child = served.fork(parent, at=at, seed=seed)
    again = served.submit(parent.tokens[:at], max_new_tokens=9, temperature=1.0, seed=seed)
    served.run()
    inside = child.tokens[at] % 2  # whether the next token completes what the prompt began
    assert child.text.startswith("☃" if inside else "\ufffd")
    assert child.text == again.text
    plain = generate(
        model, Letters(), child.tokens[:at], max_new_tokens=9, temperature=1.0, seed=seed
    )
    assert child.text == "".join(token.text for token in plain)


def test_an_end_token_is_not_given_out(model):
    third = alone(model, prompt_of(9), 3)[2].id
    ((request,),) = new_engine(model, end_ids=[third]).generate([prompt_of(9)], max_new_tokens=9)
    assert ids(request.output) == ids(alone(model, prompt_of(9), 2))
    assert request.state is State.FINISHED


# Faults that other engines had


def test_a_prompt_that_is_wholly_cached_does_not_give_an_empty_query(model):
    served = new_engine(model)
    served.generate([prompt_of(12)], max_new_tokens=6)
    for n in (12, 9, 8, 5, 4, 1):  # ends of blocks, and one behind them
        request = served.submit(prompt_of(12)[:n], max_new_tokens=6)
        for _ in range(6):
            assert len(served.step()) == 1
        assert ids(request.output) == ids(alone(model, prompt_of(12)[:n], 6))
        assert request.n_cached == (n - 1) // 4 * 4


@pytest.mark.parametrize("prefix_caching", [True, False])
@pytest.mark.parametrize("draw", DRAWS[:2])
def test_a_preempted_request_loses_no_state(model, prefix_caching, draw):
    """Its tokens, its place in the sequence of draws, its half of a text."""
    served = new_engine(model, n_blocks=6, prefix_caching=prefix_caching)
    prompts = [prompt_of(7, seed) for seed in range(3)]
    found = served.generate(prompts, max_new_tokens=15, **draw)
    assert sum(request.n_preemptions for (request,) in found) >= 2
    for prompt, (request,) in zip(prompts, found, strict=True):
        wanted = alone(model, prompt, 15, **draw)
        assert ids(request.output) == ids(wanted)
        assert request.text == "".join(token.text for token in wanted)
        assert len(request.token_s) == 15


def test_memory_that_was_never_written_is_not_read(model):
    """Or a text that ran over to NaN would poison all that take its blocks after it."""
    served = new_engine(model, n_blocks=12)
    served.store.data.fill_(float("nan"))
    found = served.generate([prompt_of(5), prompt_of(18, 1), prompt_of(2, 2)], max_new_tokens=8)
    for prompt, (request,) in zip(
        [prompt_of(5), prompt_of(18, 1), prompt_of(2, 2)], found, strict=True
    ):
        assert ids(request.output) == ids(alone(model, prompt, 8))


# Streams


def test_a_stream_gives_each_token_once(model):
    served = new_engine(model)
    request = served.submit(prompt_of(5), max_new_tokens=9)
    assert ids(served.stream(request)) == ids(alone(model, prompt_of(5), 9))


def test_others_move_along_with_a_stream(model):
    served = new_engine(model)
    one = served.submit(prompt_of(5), max_new_tokens=9)
    other = served.submit(prompt_of(6, 1), max_new_tokens=5)
    list(served.stream(one))
    assert other.done
    assert ids(other.output) == ids(alone(model, prompt_of(6, 1), 5))


def test_two_streams_side_by_side_give_each_token_once(model):
    """While one is read the engine moves for the other too."""
    served = new_engine(model)
    requests = [served.submit(prompt_of(5, seed), max_new_tokens=9) for seed in range(2)]
    read = [[], []]
    for pair in itertools.zip_longest(*map(served.stream, requests)):
        for tokens, token in zip(read, pair, strict=True):
            tokens += [] if token is None else [token]
    assert ids(read[0]) == ids(alone(model, prompt_of(5, 0), 9))
    assert ids(read[1]) == ids(alone(model, prompt_of(5, 1), 9))


def test_a_stream_misses_nothing_that_came_while_its_reader_was_busy(model):
    served = new_engine(model)
    request = served.submit(prompt_of(5), max_new_tokens=9)
    read = []
    for token in served.stream(request):
        read.append(token)
        served.step(), served.step()
    assert ids(read) == ids(alone(model, prompt_of(5), 9))


def test_a_stream_that_begins_late_gives_what_came_before(model):
    served = new_engine(model)
    request = served.submit(prompt_of(5), max_new_tokens=9)
    served.run()
    n_steps = served.n_steps
    assert ids(served.stream(request)) == ids(alone(model, prompt_of(5), 9))
    assert served.n_steps == n_steps


def test_a_stream_ends_where_its_request_is_cancelled(model):
    served = new_engine(model)
    request = served.submit(prompt_of(5), max_new_tokens=9)
    read = []
    for token in served.stream(request):
        read.append(token)
        if len(read) == 3:
            served.cancel(request)
    assert ids(read) == ids(alone(model, prompt_of(5), 3))
    assert not served.busy


def test_a_stream_that_is_left_can_be_taken_up_again(model):
    served = new_engine(model)
    request = served.submit(prompt_of(5), max_new_tokens=9)
    next(served.stream(request))
    assert ids(served.stream(request)) == ids(alone(model, prompt_of(5), 9))


# Many texts of one prompt


@pytest.mark.parametrize("limits", [{}, {"n_blocks": 8}, {"max_tokens": 3}, {"max_requests": 2}])
def test_samples_have_seeds_that_follow_each_other(model, limits):
    prompts = [prompt_of(10), prompt_of(7, 1)]
    found = new_engine(model, **limits).generate(
        prompts, samples=3, max_new_tokens=12, temperature=1.0, seed=4
    )
    assert [len(requests) for requests in found] == [3, 3]
    for prompt, requests in zip(prompts, found, strict=True):
        for i, request in enumerate(requests):
            wanted = alone(model, prompt, 12, temperature=1.0, seed=4 + i)
            assert ids(request.output) == ids(wanted)


def test_samples_share_the_work_for_their_prompt(model):
    served = new_engine(model)
    served.generate([prompt_of(40)], samples=4, max_new_tokens=2, temperature=1.0)
    assert served.n_computed <= 40 + 4 * 2
    assert served.pool.n_free == 32


@pytest.mark.parametrize("n_prompt", [1, 4, 9])
@pytest.mark.parametrize("n_new", [1, 2])
def test_samples_that_are_short_are_all_there(model, n_prompt, n_new):
    """The first may be done before the others could be forked from it."""
    ((*requests,),) = new_engine(model).generate(
        [prompt_of(n_prompt)], samples=3, max_new_tokens=n_new, temperature=1.0
    )
    assert [ids(request.output) for request in requests] == [
        ids(alone(model, prompt_of(n_prompt), n_new, temperature=1.0, seed=seed))
        for seed in range(3)
    ]


def test_no_samples_are_refused(model):
    with pytest.raises(ValueError, match="samples must be 1 or more; got 0"):
        new_engine(model).generate([prompt_of(3)], samples=0, max_new_tokens=1)


def test_no_prompts_give_no_texts(model):
    assert new_engine(model).generate([], max_new_tokens=3) == []


# When the model raises, or something happens while it computes


@pytest.mark.parametrize("at", [1, 3])
def test_a_step_that_failed_on_a_token_s_text_loses_nothing(model, at):
    """The tokenizer breaks at the first or the last of three requests, in every second step."""
    served = new_engine(model)
    requests = [served.submit(prompt_of(7, seed), max_new_tokens=4) for seed in range(3)]
    told, calls = engine.token, itertools.count(1)

    def breaks(*args):
        if next(calls) % 6 == at:
            raise KeyboardInterrupt
        return told(*args)

    n_failed = 0
    with mock.patch.object(engine, "token", breaks):
        while served.busy:
            try:
                served.step()
            except KeyboardInterrupt:
                n_failed += 1
    assert n_failed > 1
    assert not served._streams
    for seed, request in enumerate(requests):
        assert ids(request.output) == ids(alone(model, prompt_of(7, seed), 4)) == request.tokens[7:]
        assert len(request.token_s) == 4


@pytest.mark.parametrize("n_blocks", [6, 32])
def test_a_step_that_failed_loses_nothing(model, n_blocks):
    """It breaks every second call, with half of the layers done."""
    served = new_engine(model, n_blocks=n_blocks)
    requests = [served.submit(prompt_of(7, seed), max_new_tokens=12) for seed in range(3)]
    turn = itertools.count()

    def breaks():
        if next(turn) % 2:
            raise RuntimeError("out of memory")

    model.during = breaks
    n_failed = 0
    while served.busy:
        try:
            served.step()
        except RuntimeError:
            n_failed += 1
        served.scheduler.check()
    assert n_failed > 10
    assert served.pool.n_free == n_blocks
    for seed, request in enumerate(requests):
        assert ids(request.output) == ids(alone(model, prompt_of(7, seed), 12))


def test_a_step_that_failed_after_a_copy_loses_nothing(model):
    served = new_engine(model)
    parent = served.submit(prompt_of(6), max_new_tokens=12, temperature=1.0)
    served.step()
    child = served.fork(parent, seed=9)

    def breaks():
        raise RuntimeError("out of memory")

    model.during = breaks
    with pytest.raises(RuntimeError, match="out of memory"):
        served.step()
    model.during = None
    served.run()
    assert ids(parent.output) == ids(alone(model, prompt_of(6), 12, temperature=1.0))
    assert ids(child.output) == ids(alone(model, child.tokens[:7], 12, temperature=1.0, seed=9))


def test_a_request_that_broke_the_step_can_be_cancelled_and_the_rest_goes_on(model):
    served = new_engine(model)
    bad, good = (served.submit(prompt_of(5, seed), max_new_tokens=6) for seed in range(2))
    with (
        mock.patch.object(engine, "sample", side_effect=ValueError("The largest logit is nan.")),
        pytest.raises(ValueError, match=f"Request {bad.id}: The largest logit is nan"),
    ):
        served.step()
    served.cancel(bad)
    served.run()
    assert ids(good.output) == ids(alone(model, prompt_of(5, 1), 6))
    assert bad.output == []


@pytest.mark.parametrize("which", [0, 1])
def test_a_request_may_be_cancelled_while_the_model_computes(model, which):
    served = new_engine(model)
    requests = [served.submit(prompt_of(5, seed), max_new_tokens=6) for seed in range(2)]
    served.step()
    model.during = lambda: None if requests[which].done else served.cancel(requests[which])
    (written,) = served.step()
    assert written[0] is requests[1 - which]
    served.scheduler.check()
    served.run()
    assert ids(requests[which].output) == ids(alone(model, prompt_of(5, which), 1))
    assert ids(requests[1 - which].output) == ids(alone(model, prompt_of(5, 1 - which), 6))
    assert served.pool.n_free == 32


def test_requests_may_come_while_the_model_computes(model):
    served = new_engine(model)
    first = served.submit(prompt_of(6), max_new_tokens=6)
    served.step()
    come = []

    def comes():
        if not come:
            come.append(served.submit(prompt_of(5, 1), max_new_tokens=6))
            come.append(served.fork(first, temperature=1.0))

    model.during = comes
    served.run()
    assert ids(first.output) == ids(alone(model, prompt_of(6), 6))
    assert ids(come[0].output) == ids(alone(model, prompt_of(5, 1), 6))
    assert ids(come[1].output) == ids(alone(model, first.tokens[:7], 6, temperature=1.0))


def test_a_request_that_is_done_cannot_be_cancelled(model):
    served = new_engine(model)
    ((request,),) = served.generate([prompt_of(3)], max_new_tokens=1)
    with pytest.raises(ValueError, match="Request 0 is finished already"):
        served.cancel(request)


# What is refused, and that it leaves nothing behind

BAD = [
    ({"prompt": []}, "The prompt is empty"),
    ({"prompt": ""}, "The prompt is empty"),
    ({"prompt": [1, V]}, "Token ids run from 0 to 63"),
    ({"prompt": [-1]}, "Token ids run from 0 to 63"),
    ({"prompt": [7] * 250, "max_new_tokens": 7}, "context is 256"),
    ({"prompt": [7] * 130}, "needs 34 blocks of 4 tokens; the pool has 32"),
    ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more"),
    ({"temperature": -0.5}, "temperature must be 0"),
    ({"temperature": float("nan")}, "temperature must be 0"),
    ({"temperature": float("inf")}, "temperature must be 0"),
    ({"top_k": 0}, "top_k must be 1 or more"),
    ({"top_p": 1.5}, "top_p must be above 0"),
    ({"seed": -1}, "seed must be 0 or more"),
    # Accepted, these would break every step of everybody
    ({"seed": 2**128, "temperature": 1.0}, "seed"),
    ({"top_k": 2.5, "temperature": 1.0}, "top_k"),
    ({"max_new_tokens": 2.5}, "max_new_tokens"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_a_bad_request_is_refused_and_the_queue_is_as_before(model, change, words):
    served = new_engine(model)
    waits = served.submit(prompt_of(5), max_new_tokens=4)
    how = {"prompt": [1, 2], "max_new_tokens": 4, **change}
    with pytest.raises(ValueError, match=words):
        served.submit(**how)
    assert served.scheduler.waiting == [waits]
    served.run()
    assert ids(waits.output) == ids(alone(model, prompt_of(5), 4))


@pytest.mark.parametrize(
    "setting", [{"top_k": 5.0}, {"seed": 3.0}, {"max_new_tokens": 3.0}, {"temperature": 1e-300}]
)
def test_what_is_not_refused_at_once_never_breaks_a_step(model, setting):
    """A slider gives 5.0 for 5. Either is fair; to stop everybody later is not."""
    served = new_engine(model)
    try:
        request = served.submit([1, 2], **{"max_new_tokens": 3, "temperature": 1.0, **setting})
    except (TypeError, ValueError):
        assert not served.busy
        return
    for _ in range(3):
        served.step()
    assert request.done


@pytest.mark.parametrize(
    ("bad", "error"),
    [([], ValueError), ([1, V], ValueError), ([7] * 300, ValueError), (None, TypeError)],
)
def test_one_bad_prompt_among_many_queues_none_of_them(model, bad, error):
    served = new_engine(model)
    with pytest.raises(error):
        served.generate([prompt_of(5), prompt_of(6), bad, prompt_of(7)], max_new_tokens=4)
    assert not served.busy
    assert served.pool.n_free == 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, "seed must be 0 or more"),
        ({"top_k": 0}, "top_k must be 1 or more"),
        ({"at": 99}, "has 6 tokens; a fork can begin with"),
        ({"max_new_tokens": 200}, "the pool has 32"),
    ],
)
def test_a_bad_fork_is_refused_and_nothing_is_shared(model, change, words):
    served = new_engine(model)
    parent = served.submit(prompt_of(5), max_new_tokens=4)
    served.step()
    with pytest.raises(ValueError, match=words):
        served.fork(parent, **change)
    served.scheduler.check()
    served.run()
    assert served.pool.n_free == 32


def test_samples_whose_last_seed_is_too_large_queue_nothing(model):
    served = new_engine(model)
    with pytest.raises(ValueError, match="below 2\\^128"):
        served.generate([prompt_of(5)], samples=3, seed=2**128 - 2, max_new_tokens=4)
    assert not served.busy


def test_a_fork_at_a_token_that_is_not_there_says_how_many_there_are():
    """Though so many would leave the context too."""
    served = new_engine(Watched(torch.float32, max_context=16))
    parent = served.submit(prompt_of(5), max_new_tokens=4)
    with pytest.raises(ValueError, match="has 5 tokens; a fork can begin with"):
        served.fork(parent, at=99)


def test_a_fork_that_would_leave_the_models_context_is_refused():
    """It begins with what its parent wrote, and may write as much again."""
    served = new_engine(Watched(torch.float32, max_context=16))
    parent = served.submit(prompt_of(10), max_new_tokens=6)
    for _ in range(3):
        served.step()
    with pytest.raises(ValueError, match="context is 16"):
        served.fork(parent)
    child = served.fork(parent, max_new_tokens=3)
    served.run()
    assert len(child.output) == 3


@pytest.mark.parametrize("max_context", [256, 7])
def test_a_fork_of_a_text_that_is_done_is_refused(max_context):
    """And told why, also where it could go on no further."""
    served = new_engine(Watched(torch.float32, max_context=max_context))
    ((parent,),) = served.generate([prompt_of(5)], max_new_tokens=2)
    with pytest.raises(ValueError, match="Submit its tokens as a new prompt"):
        served.fork(parent)
    assert not served.busy


@pytest.mark.parametrize(
    "limits", [{"n_blocks": 0}, {"block_size": 0}, {"max_tokens": 0}, {"max_requests": 0}]
)
def test_an_engine_without_room_is_refused(model, limits):
    with pytest.raises(ValueError, match="1"):
        Engine(model, Numbers(), **limits)


# Its own books


def test_a_tokenizer_of_another_model_is_refused(model):
    class Fewer(Numbers):
        vocab_size = V - 1

    with pytest.raises(ValueError, match="The model has 64 tokens, the tokenizer 63"):
        Engine(model, Fewer())


def test_less_than_no_alternatives_are_refused(model):
    with pytest.raises(ValueError, match="alternatives must be 0 or more; got -1"):
        new_engine(model, alternatives=-1)


def test_it_counts_steps_and_the_tokens_that_went_through(model):
    served = new_engine(model, max_tokens=5)
    served.generate([prompt_of(12)], max_new_tokens=4)
    assert (served.n_steps, served.n_computed) == (3 + 3, 12 + 3)


def test_an_idle_step_does_not_call_the_model(model):
    served, before = new_engine(model), model.n_calls
    assert served.step() == []
    assert (model.n_calls, served.n_steps) == (before, 0)


def test_requests_carry_the_times_of_the_clock(model):
    ticks = itertools.count()
    served = new_engine(model, clock=lambda: float(next(ticks)))
    first = served.submit(prompt_of(3), max_new_tokens=2)
    second = served.submit(prompt_of(3, 1), max_new_tokens=2)
    served.run()
    assert (first.arrived_s, second.arrived_s) == (0.0, 1.0)
    assert first.token_s == second.token_s == [2.0, 3.0]


def test_nothing_is_kept_of_requests_that_are_done(model):
    served = new_engine(model, end_ids=[END])
    served.generate([prompt_of(5, seed) for seed in range(8)], max_new_tokens=12, temperature=1.5)
    served.cancel(served.submit(prompt_of(5), max_new_tokens=2))
    assert served._streams == {}
    assert not served.busy


def test_the_cache_has_the_format_of_the_models(shared):
    for dtype, model in shared.items():
        assert Engine(model, Numbers(), n_blocks=1).store.data.dtype is dtype


def test_a_step_may_be_called_where_gradients_are_on(model):
    served = new_engine(model)
    with torch.enable_grad():
        ((request,),) = served.generate([prompt_of(5)], max_new_tokens=3)
    assert ids(request.output) == ids(alone(model, prompt_of(5), 3))
    assert all(weight.requires_grad for weight in model.parameters())
    assert not served.store.data.requires_grad


# Random schedules

COMMON = prompt_of(12, seed=9)
WHICH, N_NEW, DRAW = st.integers(0, 9), st.integers(1, 12), st.sampled_from(DRAWS)
SUBMIT = st.tuples(  # first token, tokens of the common beginning, tokens of its own, new ones
    *(st.just("submit"), st.integers(0, 1), st.sampled_from([0, 3, 7, 11, 12])),
    *(st.integers(0, 3), N_NEW, DRAW),
)
FORK = st.tuples(st.just("fork"), WHICH, st.none() | st.integers(0, 30), N_NEW, DRAW)
CANCEL = st.tuples(st.just("cancel"), WHICH)
STEPS = st.tuples(st.just("steps"), st.integers(1, 4))
AMID = st.one_of(FORK, CANCEL).map(lambda action: ("amid", *action))
FAIL = st.tuples(st.just("fail"))
ACTIONS = st.tuples(
    st.lists(SUBMIT, min_size=2, max_size=5),  # a crowd at the beginning
    st.lists(
        st.one_of(SUBMIT, STEPS, STEPS, STEPS, FORK, FORK, FORK, CANCEL, AMID, FAIL),
        min_size=4,
        max_size=14,
    ),
).map(lambda parts: [*parts[0], *parts[1]])


@st.composite
def limits_of(draw):
    """A pool in which each of the prompts above has room, but few at a time."""
    size = draw(st.sampled_from([1, 2, 3, 4, 4, 5, 8, 16]))
    return {
        "n_blocks": -(-28 // size) + draw(st.sampled_from([0, 0, 0, 1, 2, 6])),
        "block_size": size,
        "max_tokens": draw(st.sampled_from([1, 4, 16, 32, 64])),
        "max_requests": draw(st.sampled_from([1, 2, 8, 8])),
        "prefix_caching": draw(st.sampled_from([False, True, True])),
        "chunked": draw(st.booleans()),
        "continuous": draw(st.sampled_from([False, True, True])),
        "end_ids": draw(st.sampled_from([(), (), (END,)])),
    }


class Play:
    """Actions on an engine, and the requests that came of them."""

    def __init__(self, model, limits):
        self.model, self.engine = model, new_engine(model, **limits)
        self.requests, self.draws = [], []

    def do(self, what, *how):
        getattr(self, what)(*how)
        self.engine.scheduler.check()

    def submit(self, first, n_common, n_own, n_new, draw):
        own = [6 + len(self.requests)] * n_own
        self._accept(
            draw,
            lambda: self.engine.submit(
                [first, *COMMON[:n_common], *own], max_new_tokens=n_new, **draw
            ),
        )

    def steps(self, n):
        for _ in range(n):
            self.engine.step()
            self.engine.scheduler.check()

    def fork(self, which, at, n_new, draw):
        whole = {"temperature": 0.0, "top_k": None, "top_p": None, "seed": 0, **draw}
        if parent := self._alive(which):
            at = None if at is None else 1 + at % len(parent.tokens)
            self._accept(
                draw, lambda: self.engine.fork(parent, at=at, max_new_tokens=n_new, **whole)
            )

    def cancel(self, which):
        if request := self._alive(which):
            self.engine.cancel(request)

    def amid(self, what, *how):
        """Something happens while the model computes."""

        def once():
            self.model.during = None
            getattr(self, what)(*how)

        self.model.during = once
        self.engine.step()
        self.model.during = None

    def fail(self):
        self.model.during = mock.Mock(side_effect=RuntimeError("out of memory"))
        busy = self.engine.busy
        try:
            self.engine.step()
            failed = False
        except RuntimeError:
            failed = True
        self.model.during = None
        assert failed == busy

    def _alive(self, which):
        """Some request on its way, one that holds blocks where there is such."""
        alive = [request for request in self.requests if not request.done]
        alive = [request for request in alive if request.blocks] or alive
        return alive[which % len(alive)] if alive else None

    def _accept(self, draw, make):
        try:
            self.requests.append(make())
        except ValueError as refused:
            if "the pool has" not in str(refused):  # it can never fit: that is fair
                raise
        else:
            self.draws.append(draw)


def watched_cache(pool):
    """A ``PagedCache`` that refuses to write where another may read."""

    class Cache(PagedCache):
        def append(self, layer, k, v):
            slots = self.batch.slots.tolist()
            assert len(set(slots)) == len(slots), "two tokens in one place"
            if layer == 0:  # before anything happens in the midst of the step
                for block in {slot // self.store.block_size for slot in slots}:
                    assert pool.readers[block] == 1, "a block with two readers is written"
                    assert block not in pool.named, "a block is written that others may find"
            return super().append(layer, k, v)

    return Cache


@given(
    dtype=st.sampled_from([torch.float32, torch.float32, torch.float64]),
    limits=limits_of(),
    actions=ACTIONS,
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_whatever_happens_each_request_gets_the_text_it_would_get_alone(
    shared, dtype, limits, actions
):
    """Arrivals, forks, cancels and failures at any time, in pools that are too small for all."""
    play = Play(shared[dtype], limits)
    with mock.patch.object(engine, "PagedCache", watched_cache(play.engine.pool)):
        for action in actions:
            play.do(*action)
        tokens = sum(request.most_tokens for request in play.requests)
        most_steps = play.engine.n_steps + tokens * (1 + len(play.requests))
        while play.engine.busy:
            play.steps(1)
            assert play.engine.n_steps <= most_steps, "no end"
    for request, draw in zip(play.requests, play.draws, strict=True):
        prompt, n_new = request.tokens[: request.n_prompt], request.sampling.max_new_tokens
        wanted = alone(shared[dtype], prompt, n_new, limits["end_ids"], **draw)
        if request.state is State.CANCELLED:
            wanted = wanted[: len(request.output)]
        assert ids(request.output) == ids(wanted)
        assert request.tokens == prompt + ids(wanted)
        assert len(request.token_s) == len(wanted)
        for found, token in zip(request.output, wanted, strict=True):
            assert found.logprob == pytest.approx(token.logprob, abs=1e-3)
    assert play.engine.pool.n_free == limits["n_blocks"]
    assert play.engine._streams == {}


@given(seed=st.integers(0, 2**64), n=st.integers(1, 20), temperature=st.floats(0.1, 2))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_draws_depend_on_seed_and_place_alone(shared, seed, n, temperature):
    """The first draw of a request is that of its logits, seed and length, without an engine."""
    model = shared[torch.float32]
    how = {"temperature": temperature, "seed": seed}
    ((request,),) = new_engine(model).generate([prompt_of(n)], max_new_tokens=1, **how)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt_of(n)]))[0, -1]
    assert request.output[0].id == sample(logits, position=n, **how)


def test_a_request_of_another_engine_is_refused(model):
    mine, other = new_engine(model), new_engine(model)
    request = other.submit(prompt_of(5), max_new_tokens=4)
    said = "Request 0 is on its way in another engine, not in this"
    for call in (mine.cancel, mine.fork, lambda r: next(mine.stream(r))):
        with pytest.raises(ValueError, match=said):
            call(request)
    other.run()
    assert ids(mine.stream(request)) == ids(request.output)  # what is done can be read anywhere


def test_a_single_text_where_several_belong_is_refused(model):
    served = new_engine(model)
    with pytest.raises(ValueError, match=re.escape("several prompts: give it ['ABC']")):
        served.generate("ABC", max_new_tokens=2)
    assert not served.busy
