"""Attention: each token looks at the tokens before it and takes a weighted mean of what they hold.

    attention(q, k, v) = softmax(q k^T / sqrt(D) + mask) v

It knows nothing of positions (they are turned into q and k before), of caches and of weights.
Source: Vaswani et al., arXiv 1706.03762, section 3.2.1; queries that share keys and values in
groups: Ainslie et al., arXiv 2305.13245.
"""

from __future__ import annotations

import math

import torch


def naive(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """All scores at once: T x S of them for each head are written to memory and read again.

    Args:
        q: (B, H, T, D), queries of the last T of S tokens.
        k: (B, K, S, D), keys; H / K heads of queries share one of them.
        v: (B, K, S, D), values.
        mask: (B or 1, 1, T, S), True where a query may look. Default: causal, so that query t
            sees the keys up to its own, S - T + t.

    Returns:
        (B, H, T, D) in the format of q.

    Raises:
        ValueError: when the shapes do not fit each other.
    """
    check_shapes(q, k, v)
    B, H, T, D = q.shape
    K, S = k.shape[1], k.shape[2]
    # The queries of a group become rows of one product, so that no key is copied for them.
    q = (q / math.sqrt(D)).reshape(B, K, H // K * T, D)
    scores = (q @ k.transpose(2, 3)).view(B, K, H // K, T, S)
    if mask is None and T > 1:
        mask = causal_mask(T, S, q.device)
    if mask is not None:
        scores.masked_fill_(~mask.unsqueeze(1), -math.inf)
    weights = torch.softmax(scores.float(), dim=-1).to(v.dtype)
    return (weights.view(B, K, H // K * T, S) @ v).view(B, H, T, D)


def causal_mask(T: int, S: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """(1, 1, T, S): True where query t, which stands at S - T + t, may look."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)[None, None]


def check_shapes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """Say in one sentence what does not fit.

    Raises:
        ValueError: when something does not.
    """
    if not q.ndim == k.ndim == v.ndim == 4:
        raise ValueError(
            "Attention takes (batch, heads, tokens, head dim) for q, k and v; "
            f"got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}."
        )
    if k.shape != v.shape:
        raise ValueError(f"k and v must be alike; got {tuple(k.shape)} and {tuple(v.shape)}.")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise ValueError(
            f"q and k must agree in batch and head dim; got {tuple(q.shape)} and {tuple(k.shape)}."
        )
    if q.shape[1] % k.shape[1]:
        raise ValueError(
            f"{q.shape[1]} query heads cannot share {k.shape[1]} heads of keys evenly."
        )
    if q.shape[2] > k.shape[2]:
        raise ValueError(
            f"{q.shape[2]} queries need as many keys or more; got {k.shape[2]}. "
            "Append the new keys to the cache before attending."
        )
