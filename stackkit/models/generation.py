"""The loop that writes: ask for the next token, append it, ask again.

It knows nothing of where the model comes from. With a cache each step computes the new token
alone; without one, all tokens again, which is the same text at a price that grows with its length.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence

import torch

from stackkit.frameworks import LanguageModel, Token, Tokenizer, sample
from stackkit.frameworks.sampling import check_settings

ALTERNATIVES = 5  # tokens that are shown beside the one that was taken


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    cache: bool = True,
) -> Iterator[Token]:
    """Write on from a prompt, token by token, until the model ends the text.

    Args:
        model, tokenizer: as ``load`` gives them.
        prompt: text, or token ids.
        max_new_tokens: at most so many; the end token is not given out.
        temperature, top_k, top_p, seed: as for ``frameworks.sample``.
        cache: keep keys and values. Off, every step computes the whole text again.

    Raises:
        ValueError: at once, when the prompt is empty, too long, or a setting is out of range.
    """
    check_settings(temperature, top_k, top_p)
    check_seed(seed)
    ids = prompt_ids(model, tokenizer, prompt, max_new_tokens)
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    return _steps(model, tokenizer, ids, max_new_tokens, settings, cache)


@torch.inference_mode()
def _steps(model, tokenizer, ids, max_new_tokens, settings, cache) -> Iterator[Token]:
    kept = model.new_cache(len(ids) + max_new_tokens) if cache else None
    texts, unseen = TextStream(tokenizer), ids
    for _ in range(max_new_tokens):
        # With a cache the model sees only what it has not seen; without one, everything.
        logits = model(as_batch(model, unseen if cache else ids), kept, last=1)[0, -1]  # (V,)
        id = sample(logits, position=len(ids), **settings)
        if id in tokenizer.end_ids:
            return
        ids, unseen = [*ids, id], [id]
        yield token(tokenizer, logits, id, texts)


def token(tokenizer: Tokenizer, logits: torch.Tensor, id: int, texts: TextStream) -> Token:
    """A token with its probability and those of the likeliest others."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    best = torch.topk(logprobs, min(ALTERNATIVES, len(logprobs)))
    others = tuple(
        (tokenizer.decode([other]), p)
        for other, p in zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
    )
    return Token(id, texts.add(id), float(logprobs[id]), others)


class TextStream:
    """Text of tokens as they come; a character is given out with the last of its bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, id: int) -> str:
        """What the next token completes."""
        return self._decoder.decode(self._tokenizer.token_bytes(id))


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
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be 1 or more; got {max_new_tokens}.")
    if len(ids) + max_new_tokens > model.max_context:
        raise ValueError(
            f"The prompt has {len(ids)} tokens and {max_new_tokens} were asked for; the model's "
            f"context is {model.max_context}. Shorten one of them."
        )
    return ids


def check_seed(seed: int) -> None:
    """Random numbers are drawn from a seed of 0 or more.

    Raises:
        ValueError: when it is below.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more; got {seed}.")


def as_batch(model: LanguageModel, ids: Sequence[int]) -> torch.Tensor:
    """Ids of one text as (1, T), where the model's weights are."""
    return torch.tensor([ids], device=next(iter(model.parameters())).device)
