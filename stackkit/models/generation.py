"""The loop that writes: ask for the next token, append it, ask again.

It knows nothing of where the model comes from. With a cache each step computes the new token
alone; without one, all tokens again, which is the same text at a price that grows with its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from stackkit.frameworks import LanguageModel, Token, Tokenizer, sample
from stackkit.frameworks.requests import check_seed, check_settings
from stackkit.frameworks.text import TextStream, as_batch, prompt_ids, token


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
    texts, unseen = TextStream(tokenizer, ids), ids
    for _ in range(max_new_tokens):
        # With a cache the model sees only what it has not seen; without one, everything.
        logits = model(as_batch(model, unseen if cache else ids), kept, last=1)[0, -1]  # (V,)
        id = sample(logits, position=len(ids), **settings)
        if id in tokenizer.end_ids:
            return
        ids, unseen = [*ids, id], [id]
        yield token(tokenizer, logits, id, texts)
