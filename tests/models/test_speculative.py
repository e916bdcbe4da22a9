"""Speculative decoding: the same text at temperature 0, the same distribution above it.

The toys check the first; a model of five tokens whose probabilities are written down the second.
"""

import math
import re
from itertools import islice, pairwise
from unittest import mock

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from stackkit.frameworks import sample  # noqa: E402
from stackkit.models import expected_tokens, generate, load, speculate, speculative  # noqa: E402
from stackkit.models.speculative import (  # noqa: E402
    ACCEPT,
    DRAFT,
    RESAMPLE,
    ModelDrafter,
    NGramDrafter,
    Tally,
    draw,
    judge,
)
from stackkit.models.transformer import Config, Transformer  # noqa: E402

PROMPT = "The memory bandwidth of"


class Seen:
    """A cache that keeps the ids themselves."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    @property
    def length(self) -> int:
        return len(self.ids)

    def truncate(self, length: int) -> None:
        assert 0 <= length <= self.length
        del self.ids[length:]


class Chain:
    """A model that looks at the last two tokens: ``logits[a, b]`` (V,) are of what follows a b.

    What it has not been shown, or was told to forget, it does not know.
    """

    max_context = 100_000

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits, self.vocab_size = logits.float(), logits.shape[-1]

    def __call__(self, ids, cache, *, last=None):
        before = len(cache.ids)
        cache.ids += ids[0].tolist()
        text = [cache.ids[0], *cache.ids]  # the first token stands for the one before it
        places = range(before, len(cache.ids))[-last:]
        return self.logits[[text[i] for i in places], [text[i + 1] for i in places]][None]

    def new_cache(self, max_tokens, batch=1):
        return Seen()

    def parameters(self):
        yield self.logits


class Letters:
    """A tokenizer of single letters."""

    def __init__(self, *end_ids: int) -> None:
        self.end_ids = frozenset(end_ids)

    def decode(self, ids):
        return "".join(chr(97 + id) for id in ids)

    def token_bytes(self, id):
        return self.decode([id]).encode()


class Endless:
    """A tokenizer whose model never ends a text."""

    def __init__(self, tokenizer) -> None:
        self.encode, self.decode = tokenizer.encode, tokenizer.decode
        self.token_bytes, self.end_ids = tokenizer.token_bytes, frozenset()


class Hostile:
    """Guesses at random, from a distribution that is all but zero where it does not guess."""

    def __init__(self, vocab_size: int) -> None:
        self.random, self.vocab_size = np.random.default_rng(0), vocab_size

    def draft(self, ids, n):
        qs = self.random.dirichlet(np.full(self.vocab_size, 0.01), size=n)
        return [(int(self.random.choice(len(q), p=q)), q) for q in qs]


class Guess:
    """Drafts each token from q, whatever the text."""

    def __init__(self, q, seed: int = 0) -> None:
        self.q, self.seed = np.asarray(q), seed

    def draft(self, ids, n):
        return [(draw(self.q, self.seed, len(ids) + i, DRAFT), self.q) for i in range(n)]


class Script:
    """Drafts how a text goes on that it knows."""

    def __init__(self, text, vocab_size: int) -> None:
        self.text, self.vocab_size = list(text), vocab_size

    def draft(self, ids, n):
        return [(id, np.eye(self.vocab_size)[id]) for id in self.text[len(ids) :][:n]]


def random_chain(V: int = 5, seed: int = 0) -> Chain:
    return Chain(torch.randn(V, V, V, generator=torch.Generator().manual_seed(seed)))


def ids_of(tokens) -> list[int]:
    return [token.id for token in tokens]


@pytest.fixture(scope="module")
def toy():
    return load("toy")


@pytest.fixture(scope="module")
def drafters(toy):
    model, _ = toy
    return {
        "toy-draft": ModelDrafter(load("toy-draft")[0], temperature=0.0),
        "warm toy-draft": ModelDrafter(load("toy-draft")[0], temperature=1.5, seed=3),
        "n-gram": NGramDrafter(model.vocab_size),
        "hostile": Hostile(model.vocab_size),
        "itself": ModelDrafter(model, temperature=0.0),
    }


# Temperature 0

NAMES = ["toy-draft", "warm toy-draft", "n-gram", "hostile", "itself"]


@pytest.mark.parametrize("draft_tokens", [1, 3, 8])
@pytest.mark.parametrize("name", NAMES)
def test_greedy_text_is_the_same_token_for_token(toy, drafters, name, draft_tokens):
    """A drafter keeps its cache from one text to the next, and two are written."""
    for prompt in (PROMPT, "A GPU has"):
        wanted = list(generate(*toy, prompt, max_new_tokens=40))
        found = list(
            speculate(*toy, prompt, drafters[name], max_new_tokens=40, draft_tokens=draft_tokens)
        )
        assert ids_of(found) == ids_of(wanted)
        assert "".join(t.text for t in found) == "".join(t.text for t in wanted)
        assert [t.logprob for t in found] == pytest.approx([t.logprob for t in wanted], abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_it_writes_up_to_the_context_s_end(toy, drafters, name):
    model, tokenizer = toy[0], Endless(toy[1])
    prompt = (tokenizer.encode(PROMPT) * 100)[: model.max_context - 13]
    wanted = ids_of(generate(model, tokenizer, prompt, max_new_tokens=13))
    found = speculate(model, tokenizer, prompt, drafters[name], max_new_tokens=13, draft_tokens=5)
    assert ids_of(found) == wanted
    assert len(wanted) == 13


def cycle(*ids: int) -> Chain:
    """Token after token, in a ring, whatever came before."""
    logits = torch.full((5, 5, 5), -9.0)
    for a, b in pairwise([*ids, ids[0]]):
        logits[:, a, b] = 9.0
    return Chain(logits)


@pytest.mark.parametrize("draft_tokens", [1, 2, 3, 4, 5, 9])
def test_an_end_token_among_accepted_drafts_ends_the_text(draft_tokens):
    tally, ring = Tally(), [0, 1, 2, 3, 4] * 3
    found = speculate(
        cycle(0, 1, 2, 3, 4),
        Letters(4),
        [0],
        Script(ring, 5),
        max_new_tokens=12,
        draft_tokens=draft_tokens,
        tally=tally,
    )
    assert ids_of(found) == [1, 2, 3]
    assert tally.tokens == 3
    assert tally.passes == math.ceil(4 / (draft_tokens + 1))  # the end token takes its place, too


def test_a_drafter_that_is_always_right_fills_every_pass():
    tally = Tally()
    found = speculate(
        cycle(0, 1, 2, 3, 4),
        Letters(),
        [0],
        Script([0, 1, 2, 3, 4] * 5, 5),
        max_new_tokens=20,
        draft_tokens=3,
        tally=tally,
    )
    assert ids_of(found) == ([1, 2, 3, 4, 0] * 4)
    assert tally == Tally(passes=5, drafted=15, judged=15, accepted=15, tokens=20)
    assert (tally.acceptance, tally.tokens_per_pass) == (1.0, 4.0)


def test_a_drafter_that_is_mostly_wrong_costs_no_token():
    tally = Tally()
    found = speculate(
        cycle(0, 1, 2, 3, 4),
        Letters(),
        [0],
        Script([2] * 30, 5),  # once in five it happens to be right
        max_new_tokens=5,
        draft_tokens=2,
        tally=tally,
    )
    assert ids_of(found) == [1, 2, 3, 4, 0]
    # 1 | 2 and 3 | 4 | 0: room is for 2, 2, 1 and no drafts.
    assert tally == Tally(passes=4, drafted=5, judged=4, accepted=1, tokens=5)


def test_a_drafter_with_a_shorter_context_does_not_stop_the_text(toy):
    """Any guess is safe, and none is one."""
    torch.manual_seed(0)
    short = Transformer(Config(1, 8, 1, 1, 8, 8, toy[0].vocab_size, 16)).eval()
    wanted = ids_of(generate(*toy, PROMPT, max_new_tokens=30))
    assert ids_of(speculate(*toy, PROMPT, ModelDrafter(short), max_new_tokens=30)) == wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_runs_where_the_model_is():
    model, tokenizer = load("toy", device="cuda")
    drafter = ModelDrafter(load("toy-draft", device="cuda")[0])
    wanted = ids_of(generate(model, tokenizer, PROMPT, max_new_tokens=20))
    assert ids_of(speculate(model, tokenizer, PROMPT, drafter, max_new_tokens=20)) == wanted


# Above: the rule

pairs = st.integers(2, 6).flatmap(
    lambda V: st.tuples(
        *[
            st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1)), min_size=V, max_size=V)
            .filter(any)
            .map(lambda w: np.array(w) / sum(w))
        ]
        * 2
    )
)


def chance_to_keep(id: int, q, p) -> float:
    """The u below which ``judge`` keeps a token, by halving; u is uniform, so it is a chance."""
    low, high = 0.0, 1.0
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(45):
            u = (low + high) / 2
            patch.setattr(speculative, "uniforms", lambda n, *place, u=u: np.full(n, u))
            patch.setattr(speculative, "draw", lambda *_: -1)
            low, high = (u, high) if judge(id, q, p, 0, 0)[1] else (low, u)
    return low


def drawn_instead(id: int, q, p) -> np.ndarray:
    """The distribution that ``judge`` draws from when it refuses."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speculative, "uniforms", lambda n, *place: np.full(n, 1 - 1e-15))
        patch.setattr(speculative, "draw", lambda rest, *place: found.append(rest) or 0)
        judge(id, q, p, 0, 0)
    return found[0] if found else np.zeros(len(p))


@settings(max_examples=50)
@given(pairs)
def test_over_all_draws_of_the_drafter_the_outcome_has_the_model_s_distribution(pair):
    """Sum over x of q(x) (chance to keep x at x, and the rest where the rest is drawn) = p."""
    q, p = pair
    outcome = np.zeros(len(p))
    for id in np.flatnonzero(q):
        kept = chance_to_keep(id, q, p)
        outcome[id] += q[id] * kept
        outcome += q[id] * (1 - kept) * drawn_instead(id, q, p)
    assert outcome == pytest.approx(p, abs=1e-9)


@settings(max_examples=50)
@given(pairs)
def test_so_many_drafts_are_kept_as_the_distributions_share(pair):
    """Leviathan et al., theorem 3.5: sum of min(p, q)."""
    q, p = pair
    kept = sum(q[id] * chance_to_keep(id, q, p) for id in np.flatnonzero(q))
    assert kept == pytest.approx(np.minimum(p, q).sum(), abs=1e-9)


@given(pairs, st.integers(0, 2**32), st.integers(0, 10**6))
def test_a_draw_is_that_of_plain_sampling(pair, seed, position):
    _, p = pair
    with np.errstate(divide="ignore"):
        logits = np.log(p)
    plain = sample(logits, temperature=1.0, seed=seed, position=position)
    assert draw(p, seed, position) == plain


@given(pairs, st.integers(0, 1000))
def test_a_token_that_the_model_rules_out_is_never_kept(pair, seed):
    q, p = pair
    for id in np.flatnonzero((p == 0) & (q > 0)):
        new, kept = judge(int(id), q, p, seed, 0)
        assert not kept
        assert p[new] > 0


# Above: whole texts


OTHER = random_chain(seed=1)


@pytest.mark.parametrize(
    ("n", "drafter_of"),
    [
        (20_000, lambda seed: Guess([0.05, 0.6, 0.05, 0.25, 0.05], seed)),
        (3_000, lambda seed: ModelDrafter(OTHER, temperature=0.7, seed=seed)),
        (3_000, lambda seed: NGramDrafter(5, longest=1)),
    ],
    ids=["guess", "model", "n-gram"],
)
def test_two_tokens_have_the_distribution_of_plain_sampling(n, drafter_of):
    """Chi-square over n texts, 24 degrees of freedom: above 58.6 once in 10,000 runs.

    The wanted distribution is written down from the logits, and the rarest pair is expected five
    times or more. Seeds are fixed, so it is one run.
    """
    prompt, temperature, chain = [1, 3, 1], 0.9, random_chain()
    follows = torch.softmax(chain.logits.double() / temperature, dim=-1).numpy()
    wanted = n * follows[3, 1][:, None] * follows[1]  # (V, V)
    counts, tally = np.zeros((5, 5)), Tally()
    for seed in range(n):
        text = speculate(
            chain,
            Letters(),
            prompt,
            drafter_of(seed),
            max_new_tokens=3,
            draft_tokens=2,
            temperature=temperature,
            seed=seed,
            tally=tally,
        )
        counts[tuple(token.id for token in islice(text, 2))] += 1
    assert wanted.min() > 5
    assert ((counts - wanted) ** 2 / wanted).sum() < 58.6
    assert 0.05 < tally.acceptance < 0.95  # both branches of the rule were taken


def test_top_k_holds_for_what_is_drafted_too():
    chain = random_chain()
    for seed in range(100):
        settings = {"temperature": 2.0, "top_k": 2, "seed": seed}
        text = [
            0,
            *ids_of(
                speculate(
                    chain, Letters(), [0], Guess([0.2] * 5, seed), max_new_tokens=6, **settings
                )
            ),
        ]
        for a, b, c in zip([0, *text], text, text[1:], strict=False):
            assert c in chain.logits[a, b].topk(2).indices


def test_a_seed_gives_the_same_text_again():
    def text(seed):
        drafter = ModelDrafter(random_chain(seed=1), temperature=1.0, seed=seed)
        tokens = speculate(
            random_chain(), Letters(), [0], drafter, max_new_tokens=30, temperature=1.0, seed=seed
        )
        return ids_of(tokens)

    assert text(1) == text(1)
    assert text(1) != text(2)


@pytest.mark.parametrize("draft_tokens", [1, 3, 5])
def test_tokens_a_pass_are_those_of_the_paper_s_formula(draft_tokens):
    """A drafter accepted with chance a = sum of min(p, q) at every place, as the formula has it.

    A pass gives 1 + a + ... on average, and its square follows from the same geometric law; over
    some hundred passes the mean is known to sigma / sqrt(passes), of which four are let, and the
    last pass may be cut short by the text's end.
    """
    p, q = np.array([0.4, 0.3, 0.2, 0.1, 0.0]), np.array([0.2, 0.2, 0.2, 0.2, 0.2])
    a, tally = float(np.minimum(p, q).sum()), Tally()
    chain = Chain(torch.tensor(p).log().expand(5, 5, 5))
    list(
        speculate(
            chain,
            Letters(),
            [0],
            Guess(q, seed=7),
            max_new_tokens=2000,
            draft_tokens=draft_tokens,
            temperature=1.0,
            seed=7,
            tally=tally,
        )
    )
    chances = [a**k * (1 - a) for k in range(draft_tokens)] + [a**draft_tokens]
    square = sum(chance * (k + 1) ** 2 for k, chance in enumerate(chances))
    mean = expected_tokens(a, draft_tokens)
    error = math.sqrt((square - mean**2) / tally.passes)
    assert tally.tokens_per_pass == pytest.approx(mean, abs=4 * error + 5 / tally.passes)
    error = math.sqrt(a * (1 - a) / tally.judged)
    assert tally.acceptance == pytest.approx(a, abs=4 * error)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_counts_agree_with_each_other(temperature):
    for seed in range(20):
        tally = Tally()
        text = speculate(
            random_chain(seed=seed),
            Letters(),
            [0],
            Guess([0.2] * 5, seed),
            max_new_tokens=17,
            draft_tokens=3,
            temperature=temperature,
            seed=seed,
            tally=tally,
        )
        assert len(list(text)) == tally.tokens == 17
        assert tally.tokens == tally.accepted + tally.passes  # each pass adds one of its own
        assert tally.accepted <= tally.judged <= tally.drafted <= 3 * tally.passes
        assert tally.judged - tally.accepted <= tally.passes  # one refusal ends a pass


def test_an_untouched_tally_divides_by_nothing():
    assert (Tally().acceptance, Tally().tokens_per_pass) == (0.0, 0.0)


# Drafters


def drafted(drafter, ids, n):
    return [id for id, _ in drafter.draft(ids, n)]


@pytest.mark.parametrize(
    ("ids", "n", "wanted"),
    [
        ([1, 2, 3, 4, 1, 2, 3], 2, [4, 1]),
        ([1, 2, 3, 4, 1, 2, 3], 9, [4, 1, 2, 3]),  # up to the end, and no further
        ([1, 2, 0, 1, 2, 4, 1, 2], 1, [4]),  # the last such place
        ([1, 2, 3, 0, 4, 3, 4, 2, 3], 1, [0]),  # two that agree go before one that is nearer
        ([4, 4], 3, [4]),
        ([1, 2, 3], 3, []),
        ([1], 3, []),
    ],
)
def test_an_n_gram_drafter_copies_what_followed(ids, n, wanted):
    assert drafted(NGramDrafter(5), ids, n) == wanted


def test_what_is_copied_is_certain():
    [(id, q)] = NGramDrafter(5).draft([2, 3, 2], 1)
    assert (id, q.tolist()) == (3, [0, 0, 0, 1, 0])


def test_a_model_drafter_s_memory_changes_nothing():
    """Texts in any order: longer, cut back, another one; a new drafter says the same."""
    kept = ModelDrafter(random_chain(), temperature=1.0, seed=4)
    for ids in ([0, 1], [0, 1, 2, 3], [0, 1, 2], [0, 4, 4, 4, 4], [3], [0, 4, 4]):
        for (id, q), (new, new_q) in zip(
            kept.draft(ids, 3),
            ModelDrafter(random_chain(), temperature=1.0, seed=4).draft(ids, 3),
            strict=True,
        ):
            assert id == new
            assert q.tolist() == new_q.tolist()


def test_draws_that_must_not_depend_on_each_other_have_streams_of_their_own():
    assert len({0, DRAFT, ACCEPT, RESAMPLE}) == 4


def test_a_guess_that_the_model_rules_out_is_never_kept():
    """Though q's other tokens are below the last digit of a 1."""
    assert judge(1, np.array([1.0, 1e-17]), np.array([1.0, 0.0]), 0, 5) == (0, False)


def test_a_drafter_that_was_interrupted_goes_on():
    chain = random_chain()
    drafter, fresh = ModelDrafter(chain, seed=4), ModelDrafter(chain, seed=4)
    drafter.draft([0, 1, 2, 3, 4], 3)
    with (
        mock.patch.object(speculative, "distribution", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        drafter.draft([0, 1], 2)
    ids = [0, 1, 2, 3, 4, 1, 2]
    assert [id for id, _ in drafter.draft(ids, 3)] == [id for id, _ in fresh.draft(ids, 3)]


def test_a_drafter_may_scribble_on_the_text_and_offer_too_many():
    class Scribbler(NGramDrafter):
        def draft(self, ids, n):
            found = 9 * super().draft(ids, n)
            ids.append(3)
            return found

    asked = {"max_new_tokens": 12, "draft_tokens": 2}
    plain = [token.id for token in generate(random_chain(), Letters(), [0, 1], max_new_tokens=12)]
    found = speculate(random_chain(), Letters(), [0, 1], Scribbler(5), **asked)
    assert [token.id for token in found] == plain


# Errors


@pytest.mark.parametrize(
    ("id", "q"), [(1, [1.0, 0, 0, 0, 0]), (1, [math.nan] * 5), (7, [0.2] * 5), (0, [1.0])]
)
def test_a_drafter_that_says_no_probability_of_its_guess_is_refused(id, q):
    class Bad:
        def draft(self, ids, n):
            return [(id, np.array(q))]

    with pytest.raises(ValueError, match=f"the drafter gave token {id}"):
        list(speculate(random_chain(), Letters(), [0], Bad(), max_new_tokens=4))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"draft_tokens": 0}, "draft_tokens must be 1 or more; got 0."),
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more, whole; got 0."),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"top_p": 2.0}, "top_p must be above 0 and at most 1"),
        ({"prompt": []}, "The prompt is empty"),
        ({"prompt": [5]}, "Token ids run from 0 to 4; got [5]."),
        ({"max_new_tokens": 100_000}, "the model's context is 100000"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_token(change, sentence):
    asked = {"prompt": [0], "drafter": NGramDrafter(5), "max_new_tokens": 4} | change
    with pytest.raises(ValueError, match=re.escape(sentence)):
        speculate(random_chain(), Letters(), **asked)
