"""Bytes that attention moves between a large slow memory and a small fast one, counted and derived.

For T queries of H heads and S keys of K heads, all of dimension D, at b bytes a number:

    naive   (2 T D H + 2 S D K + 4 T S H) b       scores and weights go out and come back
    tiled   (2 T D H + 2 S D K ceil(T / q)) b     keys and values pass once for q queries each

Without a mask; a causal one leaves out the tiles that no query may see.
Source: Dao et al. (FlashAttention), arXiv 2205.14135, section 3.2, whose bound is N^2 D^2 / M with
M the numbers that the fast memory holds; with M = 4 q D the second line is of that form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Traffic:
    """Counts what passes."""

    loaded_bytes: int = 0
    stored_bytes: int = 0

    def load(self, x: Any) -> Any:
        """x, counted as read from the slow memory."""
        self.loaded_bytes += x.numel() * x.element_size()
        return x

    def store(self, x: Any) -> Any:
        """x, counted as written to the slow memory."""
        self.stored_bytes += x.numel() * x.element_size()
        return x

    @property
    def bytes(self) -> int:
        """Both ways."""
        return self.loaded_bytes + self.stored_bytes


def naive_bytes(
    T: int,
    S: int,
    head_dim: int,
    n_heads: int = 1,
    n_kv_heads: int | None = None,
    *,
    bytes_per_value: float = 2,
) -> float:
    """Bytes of attention that writes its scores and weights down.

    Args:
        T, S: queries and keys.
        head_dim: D.
        n_heads: H, of queries.
        n_kv_heads: K; default as many.
        bytes_per_value: of a number.
    """
    rows, scores = 2 * T * head_dim * n_heads, 4 * T * S * n_heads
    return (rows + scores + 2 * S * head_dim * (n_kv_heads or n_heads)) * bytes_per_value


def tiled_bytes(
    T: int,
    S: int,
    head_dim: int,
    n_heads: int = 1,
    n_kv_heads: int | None = None,
    *,
    q_tile: int,
    bytes_per_value: float = 2,
) -> float:
    """Bytes of attention in tiles of ``q_tile`` queries, without a mask.

    The query heads that share a KV head are in one tile. Arguments as for ``naive_bytes``.
    """
    passes = -(-T // q_tile)
    rows = 2 * T * head_dim * n_heads
    return (rows + 2 * S * head_dim * passes * (n_kv_heads or n_heads)) * bytes_per_value


def fast_bytes(q_tile: int, k_tile: int, head_dim: int, *, bytes_per_value: float = 2) -> float:
    """What the fast memory must hold: queries and result, keys and values, and their scores."""
    tiles = 2 * q_tile * head_dim + 2 * k_tile * head_dim + q_tile * k_tile
    return tiles * bytes_per_value
