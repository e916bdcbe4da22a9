"""Bytes that attention moves between a large slow memory and a small fast one, counted and derived.

For T queries and S keys of H heads, all of dimension D, at b bytes a number:

    naive   (2 T D + 2 S D + 4 T S) H b      scores and weights go out and come back
    tiled   (2 T D + 2 S D ceil(T / q)) H b  keys and values pass once for each tile of q queries

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
    T: int, S: int, head_dim: int, n_heads: int = 1, *, bytes_per_value: float = 2
) -> float:
    """Bytes of attention that writes its scores and weights down, each query head with its keys."""
    return (2 * T * head_dim + 2 * S * head_dim + 4 * T * S) * n_heads * bytes_per_value


def tiled_bytes(
    T: int, S: int, head_dim: int, n_heads: int = 1, *, q_tile: int, bytes_per_value: float = 2
) -> float:
    """Bytes of attention in tiles of ``q_tile`` queries, without a mask."""
    passes = -(-T // q_tile)
    return (2 * T * head_dim + 2 * S * head_dim * passes) * n_heads * bytes_per_value


def fast_bytes(q_tile: int, k_tile: int, head_dim: int, *, bytes_per_value: float = 2) -> float:
    """What the fast memory must hold: queries and result, keys and values, and their scores."""
    tiles = 2 * q_tile * head_dim + 2 * k_tile * head_dim + q_tile * k_tile
    return tiles * bytes_per_value
