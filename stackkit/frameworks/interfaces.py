"""What the layers above must bring: a model, a tokenizer, a cache; and what comes out, a token.

A lower layer never imports an upper one. So that an engine here can run a model from there, it
says what it needs of one, and takes anything that has it. No tensor library is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Tensor = Any  # torch.Tensor; not imported, to keep this module light


@dataclass(frozen=True)
class Token:
    """One generated token."""

    id: int
    text: str  # what it completes: empty while a character's bytes are not all there
    logprob: float  # natural logarithm of its probability in the model's own distribution
    alternatives: tuple[tuple[str, float], ...]  # likeliest first: (text, probability)


class Tokenizer(Protocol):
    """Text to token ids and back."""

    vocab_size: int
    end_ids: frozenset[int]  # ids after which generation stops

    def encode(self, text: str) -> list[int]:
        """Ids of a text; control tokens in it are recognised."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are no whole character become U+FFFD."""

    def token_bytes(self, id: int) -> bytes:
        """What one token stands for."""


class KVCache(Protocol):
    """Keys and values of the tokens that a model has seen: what a model needs of them."""

    def positions(self, tokens: int) -> Any:
        """Places in their texts of the next tokens: an index into a table with a row for each."""

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Any, Any]:
        """Put (B, K, T, D) of one layer behind what is there; return all of it, to attend to."""

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` as kept, once every layer has appended them."""


class RewindableCache(KVCache, Protocol):
    """One that can also forget the end of its texts."""

    data: Tensor  # (2, L, B, K, S, D): keys and values, layers, texts, KV heads, tokens, head dim
    length: int  # tokens kept

    def truncate(self, length: int) -> None:
        """Forget all tokens from ``length`` on."""


class LanguageModel(Protocol):
    """A decoder: ids in, logits out."""

    vocab_size: int
    max_context: int

    def __call__(
        self,
        ids: Tensor,
        cache: KVCache | None = None,
        *,
        last: int | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """(B, T) ids to (B, T, V) logits, or of the ``last`` positions, or of some, alone."""

    def parameters(self) -> Iterator[Tensor]:
        """Its weights; ids must lie on their device."""

    def new_cache(self, max_tokens: int, batch: int = 1) -> RewindableCache:
        """An empty cache that holds ``max_tokens`` of each of ``batch`` sequences."""
