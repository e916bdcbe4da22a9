"""The loop that writes: with a model that follows a script, and with the shipped toy."""

import math
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from stackkit import models  # noqa: E402
from stackkit.frameworks.text import TextStream  # noqa: E402
from stackkit.models.bpe import ByteBPE  # noqa: E402
from stackkit.models.generation import generate  # noqa: E402

BYTES = ByteBPE([])  # 256 bytes and the end token
PROMPT = "The memory bandwidth of"
LOGITS = [0.5, -1.0, 2.0, 0.0, 1.5, -3.0, 1.0]
HOT = {"temperature": 1.5, "seed": 2}


class Scripted:
    """A model that knows what comes at each place of a text, and what it was shown."""

    def __init__(self, script, *, vocab_size=257, max_context=64, logits=None):
        self.script, self.logits = list(script), logits
        self.vocab_size, self.max_context = vocab_size, max_context
        self.shown = []

    def __call__(self, ids, cache=None, *, last=None):
        start = cache.length if cache else 0
        self.shown.append(ids[0].tolist())
        if cache:
            cache.length += ids.shape[1]
        end = start + ids.shape[1]  # the place that comes next
        if self.logits is not None:
            return torch.tensor(self.logits).expand(1, 1, -1)
        found = torch.zeros(1, 1, self.vocab_size)
        found[0, 0, self.script[end - 1]] = 9.0
        return found

    def new_cache(self, max_tokens, batch=1):
        return SimpleNamespace(length=0, max_tokens=max_tokens)

    def parameters(self):
        yield torch.zeros(1)


def following(prompt, answer):
    """A model that writes ``answer``, ids or text, behind ``prompt``, then dots."""
    answer = list(answer.encode()) if isinstance(answer, str) else answer
    return Scripted([0] * (len(prompt.encode()) - 1) + answer + [ord(".")] * 40)


@pytest.fixture(scope="module")
def toy():
    pytest.importorskip("safetensors")
    return models.load("toy")


def ids_of(tokens):
    return [token.id for token in tokens]


def test_it_writes_what_the_model_finds_likeliest():
    tokens = generate(following("ab", "cache"), BYTES, "ab", max_new_tokens=5)
    assert "".join(token.text for token in tokens) == "cache"


def test_greedy_text_equals_a_loop_over_the_whole_text(toy):
    model, tokenizer = toy
    ids = tokenizer.encode(PROMPT)
    for _ in range(12):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    wanted = ids[-12:]
    assert ids_of(generate(*toy, PROMPT, max_new_tokens=12)) == wanted


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "seed": 4}, {"temperature": 2.0}])
def test_without_a_cache_the_text_is_the_same(toy, sampling):
    one, other = (
        list(generate(*toy, PROMPT, max_new_tokens=20, cache=cache, **sampling))
        for cache in (True, False)
    )
    assert ids_of(one) == ids_of(other)
    assert [t.logprob for t in one] == pytest.approx([t.logprob for t in other], abs=1e-3)


@pytest.mark.parametrize(("cache", "sizes"), [(True, [3, 1, 1, 1]), (False, [3, 4, 5, 6])])
def test_with_a_cache_a_step_shows_the_model_the_new_token_alone(cache, sizes):
    model = following("abc", "defg")
    list(generate(model, BYTES, "abc", max_new_tokens=4, cache=cache))
    assert [len(ids) for ids in model.shown] == sizes
    assert model.shown[-1] == list(b"f" if cache else b"abcdef")


def test_the_same_seed_gives_the_same_text_and_another_another(toy):
    def written(seed):
        return ids_of(generate(*toy, PROMPT, max_new_tokens=20, temperature=1.0, seed=seed))

    assert written(3) == written(3)
    assert len({tuple(written(seed)) for seed in range(4)}) > 1


def test_without_temperature_the_seed_does_not_matter(toy):
    one, other = (ids_of(generate(*toy, PROMPT, max_new_tokens=8, seed=s)) for s in (0, 1))
    assert one == other


def test_a_text_taken_up_again_goes_on_as_it_would_have(toy):
    sampling = {"temperature": 1.0, "seed": 7}
    whole = ids_of(generate(*toy, PROMPT, max_new_tokens=14, **sampling))
    begun = toy[1].encode(PROMPT) + whole[:6]
    assert ids_of(generate(*toy, begun, max_new_tokens=8, **sampling)) == whole[6:14]


def test_two_texts_written_in_turns_are_those_written_alone(toy):
    prompts = (PROMPT, "A cache keeps")
    alone = [ids_of(generate(*toy, p, max_new_tokens=8)) for p in prompts]
    turns = zip(*(generate(*toy, p, max_new_tokens=8) for p in prompts), strict=True)
    assert [list(ids) for ids in zip(*map(ids_of, turns), strict=True)] == alone


def test_top_k_1_is_the_likeliest_token(toy):
    greedy, narrow = (
        ids_of(generate(*toy, PROMPT, max_new_tokens=8, **s)) for s in ({}, HOT | {"top_k": 1})
    )
    assert narrow == greedy


def test_top_p_draws_among_the_fewest_that_hold_it():
    """Of LOGITS the likeliest two hold 45 and 27 %, so half needs both."""
    model = Scripted([], vocab_size=7, logits=LOGITS)
    sampling = {"temperature": 1.0, "top_p": 0.5, "seed": 2}
    assert set(ids_of(generate(model, BYTES, [1], max_new_tokens=40, **sampling))) == {2, 4}


def test_the_end_token_stops_and_is_not_given_out():
    model = following("x", [*b"ab", BYTES.end_id, *b"cd"])
    assert [t.text for t in generate(model, BYTES, "x", max_new_tokens=20)] == ["a", "b"]
    assert len(model.shown) == 3  # nothing is asked behind the end


def test_a_text_that_ends_at_once_has_no_token():
    assert list(generate(following("x", [256]), BYTES, "x", max_new_tokens=9)) == []


@pytest.mark.parametrize("n", [1, 2, 7])
def test_it_stops_after_max_new_tokens(n):
    model = following("x", "abcdefghij")
    assert len(list(generate(model, BYTES, "x", max_new_tokens=n))) == n
    assert len(model.shown) == n


def test_a_text_may_fill_the_context_to_the_last_token(toy):
    ids = (toy[1].encode(PROMPT) * 100)[: toy[0].max_context - 2]
    assert len(list(generate(*toy, ids, max_new_tokens=2, temperature=1.0))) <= 2


def test_nothing_is_computed_before_the_first_token_is_asked_for():
    model = following("x", "abc")
    tokens = generate(model, BYTES, "x", max_new_tokens=3)
    assert model.shown == []
    next(tokens)
    assert len(model.shown) == 1


def test_between_tokens_gradients_are_as_the_caller_has_them():
    tokens = generate(following("x", "abc"), BYTES, "x", max_new_tokens=3)
    next(tokens)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_text_and_its_ids_are_the_same_prompt(toy):
    one, other = (
        ids_of(generate(*toy, p, max_new_tokens=6)) for p in (PROMPT, toy[1].encode(PROMPT))
    )
    assert one == other


def test_the_prompt_s_list_is_not_changed():
    ids = list(b"ab")
    list(generate(following("ab", "cd"), BYTES, ids, max_new_tokens=2))
    assert ids == list(b"ab")


def test_logprob_is_the_log_softmax_of_the_logits_whatever_the_temperature():
    total = math.log(sum(math.exp(x) for x in LOGITS))
    model = Scripted([], vocab_size=7, logits=LOGITS)
    for temperature in (0.0, 0.3, 3.0):
        sampling = {"temperature": temperature, "top_k": 6, "seed": 5}
        for token in generate(model, BYTES, [1], max_new_tokens=6, **sampling):
            assert token.logprob == pytest.approx(LOGITS[token.id] - total, abs=1e-6)


def test_alternatives_are_probabilities_likeliest_first():
    (token,) = generate(Scripted([], vocab_size=7, logits=LOGITS), BYTES, [1], max_new_tokens=1)
    total = sum(math.exp(x) for x in LOGITS)
    wanted = sorted(((math.exp(x) / total, chr(id)) for id, x in enumerate(LOGITS)), reverse=True)
    assert [text for text, _ in token.alternatives] == [text for _, text in wanted[:5]]
    assert [p for _, p in token.alternatives] == pytest.approx([p for p, _ in wanted[:5]])


def test_a_vocabulary_of_two_has_two_alternatives():
    model = Scripted([], vocab_size=2, logits=[0.0, 0.0])
    (token,) = generate(model, BYTES, [0], max_new_tokens=1)
    assert [p for _, p in token.alternatives] == pytest.approx([0.5, 0.5])


def test_the_toy_s_probabilities_are_a_distribution(toy):
    for token in generate(*toy, PROMPT, max_new_tokens=10, temperature=1.0):
        probabilities = [p for _, p in token.alternatives]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1 + 1e-6
        assert token.logprob <= math.log(probabilities[0]) + 1e-6


def test_a_character_of_several_bytes_is_given_out_whole():
    tokens = generate(following("x", "é🙂a"), BYTES, "x", max_new_tokens=7)
    assert [token.text for token in tokens] == ["", "é", "", "", "", "🙂", "a"]


@given(st.text())
def test_a_stream_of_any_text_s_bytes_is_the_text(text):
    stream = TextStream(BYTES)
    assert "".join(stream.add(byte) for byte in text.encode()) == text


def test_bytes_that_are_no_character_become_the_sign_for_it():
    stream = TextStream(BYTES)
    assert [stream.add(byte) for byte in (0xFF, 0xC3, ord("a"))] == ["\ufffd", "", "\ufffda"]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_not_written_on_from(temperature):
    model = Scripted([], vocab_size=2, logits=[0.0, math.nan])
    with pytest.raises(ValueError, match="nan, not a finite number"):
        list(generate(model, BYTES, [0], max_new_tokens=1, temperature=temperature))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": []}, "The prompt is empty"),
        ({"prompt": [0, 257]}, "Token ids run from 0 to 256; got [0, 257]"),
        ({"prompt": [-1]}, "Token ids run from 0 to 256; got [-1]"),
        ({"prompt": "x" * 60, "max_new_tokens": 5}, "60 tokens and 5 were asked for; the model's"),
        ({"max_new_tokens": 64}, "context is 64"),
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more, whole; got 0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be 1 or more, whole; got 2.5"),
        ({"temperature": -0.1}, "temperature must be 0 (the likeliest token) or more; got -0.1"),
        ({"temperature": math.nan}, "got nan"),
        ({"temperature": math.inf}, "got inf"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p must be above 0 and at most 1"),
        ({"top_k": 0}, "top_k must be 1 or more"),
        ({"temperature": 1.0, "seed": -1}, "seed must be 0 or more"),
    ],
)
def test_what_cannot_be_done_is_refused_at_the_call(change, words):
    """Not at the first token: by then the caller may have sent a reply's head."""
    given = {"prompt": "x", "max_new_tokens": 1} | change
    with pytest.raises(ValueError, match=re.escape(words)):
        generate(following("x", "abc"), BYTES, given.pop("prompt"), **given)
