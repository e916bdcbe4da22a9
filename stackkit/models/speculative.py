"""Speculative decoding: a cheap drafter guesses ahead, the model checks all guesses in one pass.

    accept x ~ q with probability min(1, p(x) / q(x));
    at the first refusal draw from max(p - q, 0), scaled to 1; if none is refused, one more from p

What comes out is distributed as if the model alone had drawn it, whatever the drafter thinks; at
temperature 0 it is the same text, token for token. How many passes it takes is the drafter's part.
Source: Leviathan et al., arXiv 2211.17192, algorithm 1; drafts from the text itself: Saxena,
github.com/apoorvumang/prompt-lookup-decoding, 2023.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from stackkit.frameworks import LanguageModel, Token, Tokenizer, distribution
from stackkit.frameworks.requests import check_seed, check_settings
from stackkit.frameworks.sampling import uniforms
from stackkit.frameworks.text import TextStream, as_batch, prompt_ids, token

DRAFT, ACCEPT, RESAMPLE = 1, 2, 3  # streams of random numbers; plain sampling has stream 0


class Drafter(Protocol):
    """Guesses how a text goes on."""

    def draft(self, ids: Sequence[int], n: int) -> list[tuple[int, np.ndarray]]:
        """At most ``n`` tokens, each with the distribution (V,) that it was drawn from."""


@dataclass
class Tally:
    """What a run of ``speculate`` did; filled while it runs."""

    passes: int = 0  # of the large model
    drafted: int = 0
    judged: int = 0  # of those, looked at: behind a refusal none is
    accepted: int = 0
    tokens: int = 0  # given out

    @property
    def acceptance(self) -> float:
        """Share of the judged tokens that were kept."""
        return self.accepted / self.judged if self.judged else 0.0

    @property
    def tokens_per_pass(self) -> float:
        """Plain decoding has 1."""
        return self.tokens / self.passes if self.passes else 0.0


class NGramDrafter:
    """Copies what followed the same few tokens earlier in the text; costs nothing.

    Args:
        vocab_size: V, of the model that checks.
        longest: tokens that must agree, if so many do; else fewer, down to one.
    """

    def __init__(self, vocab_size: int, longest: int = 3) -> None:
        self.vocab_size, self.longest = vocab_size, longest

    def draft(self, ids: Sequence[int], n: int) -> list[tuple[int, np.ndarray]]:
        """The continuation of the last place where the end of the text stood before."""
        ids = list(ids)
        for size in range(min(self.longest, len(ids) - 1), 0, -1):
            for start in range(len(ids) - size - 1, -1, -1):
                if ids[start : start + size] == ids[-size:]:
                    return [(id, self._certain(id)) for id in ids[start + size :][:n]]
        return []

    def _certain(self, id: int) -> np.ndarray:
        q = np.zeros(self.vocab_size)
        q[id] = 1.0
        return q


class ModelDrafter:
    """A smaller model with the same vocabulary.

    Args:
        model: the drafter.
        temperature, top_k, top_p, seed: of its draws; best those of the model that checks.
    """

    def __init__(self, model: LanguageModel, **settings: float | int | None) -> None:
        self.model, self.seed = model, int(settings.pop("seed", 0) or 0)
        self.settings = settings
        self._cache, self._kept = model.new_cache(model.max_context), []

    @torch.inference_mode()
    def draft(self, ids: Sequence[int], n: int) -> list[tuple[int, np.ndarray]]:
        """Draw ``n`` tokens one after the other."""
        text, found = list(ids), []
        if len(text) > self.model.max_context:
            return []
        same = _common(self._kept, text[:-1])
        self._cache.truncate(same)
        self._kept = text[:same]  # if what follows is interrupted, this is what the cache has
        room = self.model.max_context - len(text) + 1  # none where the drafter's context ends
        for _ in range(min(n, room)):
            logits = self.model(as_batch(self.model, text[same:]), self._cache, last=1)[0, -1]
            q = distribution(logits, **self.settings)
            found.append((draw(q, self.seed, len(text), DRAFT), q))
            same = len(text)
            text.append(found[-1][0])
        self._kept = text[:same]
        return found


def speculate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    drafter: Drafter,
    *,
    max_new_tokens: int,
    draft_tokens: int = 4,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    tally: Tally | None = None,
) -> Iterator[Token]:
    """Write on as ``generate`` does, with fewer passes of the model.

    Args:
        drafter: guesses; a bad guess costs time and changes nothing.
        draft_tokens: guesses checked in one pass.
        tally: counts passes and acceptance while tokens come.
        The rest as for ``generate``.

    Raises:
        ValueError: as ``generate``, and for ``draft_tokens`` below 1; later, for a drafter that
            says no probability of its guess, or has another vocabulary.
    """
    check_settings(temperature, top_k, top_p)
    check_seed(seed)
    if draft_tokens < 1:
        raise ValueError(f"draft_tokens must be 1 or more; got {draft_tokens}.")
    ids = prompt_ids(model, tokenizer, prompt, max_new_tokens)
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    tally = Tally() if tally is None else tally
    return _rounds(
        model, tokenizer, ids, drafter, max_new_tokens, draft_tokens, settings, seed, tally
    )


@torch.inference_mode()
def _rounds(
    model, tokenizer, ids, drafter, max_new_tokens, draft_tokens, settings, seed, tally
) -> Iterator[Token]:
    cache = model.new_cache(len(ids) + max_new_tokens)
    texts, end = TextStream(tokenizer, ids), len(ids) + max_new_tokens
    while len(ids) < end:
        room = end - len(ids) - 1  # the pass itself gives one token more than was drafted
        wanted = min(draft_tokens, room)
        drafts = drafter.draft(list(ids), wanted)[:wanted] if room else []
        for id, q in drafts:
            if q.shape != (model.vocab_size,) or not 0 <= id < len(q) or not q[id] > 0:
                raise ValueError(
                    f"A guess needs a probability above 0 and a q of {model.vocab_size} numbers; "
                    f"the drafter gave token {id} and {q.shape}."
                )
        unseen = ids[cache.length :] + [id for id, _ in drafts]
        # Row t says what follows the t-th of the last tokens: one row more than drafts.
        rows = model(as_batch(model, unseen), cache, last=len(drafts) + 1)[0]  # (drafts + 1, V)
        tally.passes += 1
        tally.drafted += len(drafts)
        for i, row in enumerate(rows):
            p = distribution(row, **settings)
            if i < len(drafts):
                tally.judged += 1
                id, kept = judge(*drafts[i], p, seed, len(ids))
                tally.accepted += kept
            else:
                id, kept = draw(p, seed, len(ids)), False
            if id in tokenizer.end_ids:
                return
            ids = [*ids, id]
            tally.tokens += 1
            yield token(tokenizer, row, id, texts)
            if not kept:
                break
        # The newest token is still unseen; what was refused is forgotten.
        cache.truncate(min(cache.length, len(ids) - 1))


def judge(id: int, q: np.ndarray, p: np.ndarray, seed: int, position: int) -> tuple[int, bool]:
    """Keep a token drawn from q, or draw another, so that the result is distributed like p.

    Args:
        id: the drafted token.
        q, p: (V,), distributions of drafter and model.
        seed, position: what the decision is drawn from.

    Returns:
        (token, whether it is the drafted one).
    """
    (u,) = uniforms(1, seed, position, ACCEPT)
    if u * q[id] < p[id]:
        return id, True
    rest = np.maximum(p - q, 0)
    if not rest.any():  # p and q are the same but for rounding
        return draw(p, seed, position, RESAMPLE), False
    return draw(rest / rest.sum(), seed, position, RESAMPLE), False


def draw(p: np.ndarray, seed: int, position: int, stream: int = 0) -> int:
    """A token with probability p, by the Gumbel-max trick of ``frameworks.sample``."""
    with np.errstate(divide="ignore"):
        noise = -np.log(-np.log(uniforms(len(p), seed, position, stream)))
        return int(np.argmax(np.log(p) + noise))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens are equal."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
