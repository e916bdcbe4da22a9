"""Attention: each token looks at the tokens before it and takes a weighted mean of what they hold.

    attention(q, k, v) = softmax(q k^T / sqrt(D) + mask) v

Three ways to the same result: ``naive`` writes all scores down, ``tiled`` never has more than a
tile of them, ``paged`` finds keys and values in the blocks of a pool. None knows of positions (they
are turned into q and k before) or of weights.
Sources: Vaswani et al., arXiv 1706.03762, section 3.2.1; queries that share keys and values in
groups: Ainslie et al., arXiv 2305.13245; tiles: Dao et al. (FlashAttention), arXiv 2205.14135, in
the order of loops of its successor, arXiv 2307.08691; blocks: Kwon et al., arXiv 2309.06180.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from stackkit.frameworks.paged_cache import Paged
from stackkit.frameworks.traffic import Traffic


def attend(
    q: torch.Tensor,
    k: torch.Tensor | Paged,
    v: torch.Tensor | Paged,
    *,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Whichever way the keys and values lie: in one piece, or in blocks."""
    return (paged if isinstance(k, Paged) else naive)(q, k, v, mask=mask)


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
    weights = torch.softmax(_wide(scores), dim=-1).to(v.dtype)
    return (weights.view(B, K, H // K * T, S) @ v).view(B, H, T, D)


def tiled(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    q_tile: int = 64,
    k_tile: int = 64,
    traffic: Traffic | None = None,
) -> torch.Tensor:
    """A tile of queries stays, tiles of keys and values pass by; no score is ever written down.

    For each query three things are kept, and put right when a higher score turns up:

        m = max of the scores so far
        w = sum of e^(score - m)          shrinks by e^(m_old - m_new)
        y = sum of e^(score - m) v        shrinks alike; y / w is the result

    Args:
        q, k, v, mask: as for ``naive``.
        q_tile, k_tile: queries and keys of a tile.
        traffic: counts the bytes that a kernel with this order of loops would move.

    Raises:
        ValueError: when the shapes do not fit each other, or a tile is empty.
    """
    check_shapes(q, k, v)
    if q_tile < 1 or k_tile < 1:
        raise ValueError(f"Tiles hold 1 token or more; got {q_tile} queries and {k_tile} keys.")
    (B, H, T, D), (K, S), G = q.shape, k.shape[1:3], q.shape[1] // k.shape[1]
    moved = Traffic() if traffic is None else traffic
    out = torch.empty_like(q)
    for t0 in range(0, T, q_tile):
        t1 = min(t0 + q_tile, T)
        rows = moved.load(q[:, :, t0:t1]).reshape(B, K, G * (t1 - t0), D) / math.sqrt(D)
        m = torch.full_like(_wide(rows[..., :1]), -math.inf).view(B, K, G, t1 - t0, 1)
        w, y = torch.zeros_like(m), torch.zeros_like(m).repeat(1, 1, 1, 1, D)
        seen = S if mask is not None else S - T + t1  # what the last of these queries may look at
        for s0 in range(0, seen, k_tile):
            s1 = min(s0 + k_tile, seen)
            keys, values = moved.load(k[:, :, s0:s1]), moved.load(v[:, :, s0:s1])
            scores = _wide(rows @ keys.transpose(2, 3)).view(B, K, G, t1 - t0, s1 - s0)
            if mask is not None:
                may = mask[..., t0:t1, s0:s1]
            else:
                may = causal_mask(T, S, q.device, slice(t0, t1), slice(s0, s1))
            scores.masked_fill_(~may.unsqueeze(1), -math.inf)
            best = torch.maximum(m, scores.amax(-1, keepdim=True))
            # Where nothing may be looked at yet all is -inf: take 0, so that no NaN comes of it.
            base = best.masked_fill(best == -math.inf, 0)
            weights, shrink = torch.exp(scores - base), torch.exp(m - base)
            w = w * shrink + weights.sum(-1, keepdim=True)
            part = weights.to(v.dtype).view(B, K, -1, s1 - s0) @ values
            y, m = y * shrink + part.view(y.shape), best
        out[:, :, t0:t1] = moved.store((y / w).to(q.dtype).view(B, H, t1 - t0, D))
    return out


def paged(q: torch.Tensor, k: Paged, v: Paged, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Many texts at once, each with its own blocks.

    Chunks of prompts are gathered and computed one by one; the texts that have a single new token,
    which are most, together, padded to the longest of them.

    Args:
        q: (1, H, T, D), queries of the new tokens of all texts, one text behind the other.
        k, v: as a ``PagedCache`` gives them.
        mask: as for ``naive``, where the batch is a single text.

    Returns:
        (1, H, T, D) in the format of q.

    Raises:
        ValueError: when the queries are not those of the batch, or a mask is given for many texts.
    """
    batch, (H, D), K = k.batch, (q.shape[1], q.shape[3]), k.blocks.shape[0]
    if q.shape[0] != 1 or q.shape[2] != batch.n_tokens:
        raise ValueError(
            f"The batch has {batch.n_tokens} new tokens in one row; got queries {tuple(q.shape)}."
        )
    if mask is not None and len(batch.starts) > 1:
        raise ValueError(f"A mask goes with one text; the batch has {len(batch.starts)}.")
    singles = batch.singles if mask is None else None
    if singles is not None:
        # The G queries of a group that share keys stand where else queries of many tokens do.
        rows = q[0, :, singles.rows].unflatten(0, (K, H // K)).transpose(1, 2)  # (K, R, G, D)
        keys, values = k.of_singles(singles), v.of_singles(singles)
        y = F.scaled_dot_product_attention(rows, keys, values, attn_mask=singles.may)
        y = y.transpose(1, 2).reshape(1, H, -1, D)
        if y.shape == q.shape:
            return y
    out = torch.empty_like(q)
    for text, rows in batch.chunks(every=singles is None):
        out[:, :, rows] = naive(q[:, :, rows], k.of(text), v.of(text), mask=mask)
    if singles is not None:
        out[:, :, singles.rows] = y
    return out


def causal_mask(
    T: int,
    S: int,
    device: torch.device | str = "cpu",
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> torch.Tensor:
    """(1, 1, T, S), or a part of it: True where query t, which stands at S - T + t, may look."""
    t, s = torch.arange(T, device=device)[rows], torch.arange(S, device=device)[columns]
    return (s[None, :] <= S - T + t[:, None])[None, None]


def _wide(x: torch.Tensor) -> torch.Tensor:
    """16-bit numbers as fp32, for exponentials and sums; others as they are."""
    return x.float() if x.element_size() < 4 else x


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
