"""Text in, text out: what every loop that writes has to do at its two ends.

Ids of a prompt, checked against the model; a drawn id with its probability and the text that it
completes. It knows nothing of loops, caches and other requests.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import torch

from stackkit.frameworks.interfaces import LanguageModel, Token, Tokenizer
from stackkit.frameworks.requests import check_new_tokens

ALTERNATIVES = 5  # tokens that are shown beside the one that was taken


def token(
    tokenizer: Tokenizer,
    logits: torch.Tensor,
    id: int,
    texts: TextStream,
    alternatives: int = ALTERNATIVES,
) -> Token:
    """A token with its probability and those of the likeliest others; ``logits`` is (V,)."""
    logits = logits.float()
    total = logits.logsumexp(-1)
    best = torch.topk(logits, min(alternatives, len(logits)))
    others = tuple(
        (tokenizer.decode([other]), p)
        for other, p in zip(
            best.indices.tolist(), (best.values - total).exp().tolist(), strict=True
        )
    )
    return Token(id, texts.add(id), float(logits[id] - total), others)


class TextStream:
    """Text of tokens as they come; a character is given out with the last of its bytes.

    Args:
        tokenizer: knows their bytes.
        before: tokens in front of them, which may end in the first bytes of a character.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for id in before[-3:]:  # a character that wants bytes has three at most
            self.add(id)

    def add(self, id: int) -> str:
        """What the next token completes."""
        return self._decoder.decode(self._tokenizer.token_bytes(id))

    def copy(self) -> TextStream:
        """Another that goes on from here."""
        other = TextStream(self._tokenizer)
        other._decoder.setstate(self._decoder.getstate())
        return other


def prompt_ids(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str | Sequence[int], max_new_tokens: int
) -> list[int]:
    """Token ids of a prompt that the model can go on from.

    Raises:
        ValueError: when there is nothing to go on from, or too much.
    """
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else [int(id) for id in prompt]
    if not ids:
        raise ValueError("The prompt is empty: give the model at least one token to go on from.")
    if not 0 <= min(ids) <= max(ids) < model.vocab_size:
        raise ValueError(f"Token ids run from 0 to {model.vocab_size - 1}; got {ids!r}.")
    check_new_tokens(max_new_tokens)
    if len(ids) + max_new_tokens > model.max_context:
        raise ValueError(
            f"The prompt has {len(ids)} tokens and {max_new_tokens} were asked for; the model's "
            f"context is {model.max_context}. Shorten one of them."
        )
    return ids


def as_batch(model: LanguageModel, ids: Sequence[int]) -> torch.Tensor:
    """Ids of one text as (1, T), where the model's weights are."""
    return torch.tensor([ids], device=next(iter(model.parameters())).device)
