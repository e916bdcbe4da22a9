"""Paged decode attention in Triton: what ``attention.paged`` computes, in one walk over the blocks.

Each program serves one text and one KV head: it holds the G = H / K queries that share this head,
and reads each key and value of the text once, block by block, where the text's table says. For each
query it keeps m, w and y as ``attention.tiled`` does; no score is written to memory and no text is
padded to the longest. It knows nothing of prompts: each text has one new token.

Written to be read: a GPU holds G S D products at once, and fast kernels split long texts too.
Elsewhere Triton's interpreter runs it, see ``triton_device``. Not yet run on a GPU.
Source: Kwon et al. (vLLM), arXiv 2309.06180, section 4.1; online softmax as in ``attention``.
"""

from __future__ import annotations

import math

import torch

from stackkit.frameworks.paged_cache import Paged
from stackkit.processors.triton_device import device, tl, triton


def paged_decode(q: torch.Tensor, k: Paged, v: Paged) -> torch.Tensor:
    """Attention of one new token of each of R texts; sums are in fp32 whatever the format.

    Args:
        q: (1, H, R, D), queries of the new tokens, in the order of the texts.
        k, v: as a ``PagedCache`` gives them, on the GPU where there is one.

    Returns:
        (1, H, R, D) in the format of q.

    Raises:
        ValueError: when a text has more than one new token, or shapes do not fit each other.
        RuntimeError: as ``triton_device.device``.
    """
    _check(q, k, v)
    device()  # says so where kernels cannot run
    (_, H, R, D), (K, N, S, _) = q.shape, k.blocks.shape
    table, positions = k.batch.singles.table, k.batch.positions  # (R M,) and (R,)
    q = q.contiguous()
    keys, values = k.blocks.contiguous(), v.blocks.contiguous()  # in a store they are: no copy
    out, scale, M = torch.empty_like(q), 1 / math.sqrt(D), len(table) // R
    sizes = H // K, S, D
    padded = [triton.next_power_of_2(size) for size in sizes]
    _one_text_one_head[(R, K)](
        q, keys, values, table, positions, out, scale, N, M, *sizes, *padded
    )  # fmt: skip
    return out


@triton.jit
def _one_text_one_head(
    q, keys, values, table, positions, out,  # pointers
    scale, N, M,  # M entries of the table belong to each text
    G: tl.constexpr, S: tl.constexpr, D: tl.constexpr,
    G2: tl.constexpr, S2: tl.constexpr, D2: tl.constexpr,  # the next powers of two: arange's sizes
):  # fmt: skip
    """out[head, text] = y / w for the G heads of one KV head."""
    text, kv_head = tl.program_id(0), tl.program_id(1)
    g, s, d = tl.arange(0, G2), tl.arange(0, S2), tl.arange(0, D2)
    of_q = ((kv_head * G + g[:, None]) * tl.num_programs(0) + text) * D + d[None, :]
    in_q = (g[:, None] < G) & (d[None, :] < D)
    queries = tl.load(q + of_q, mask=in_q, other=0.0).to(tl.float32) * scale  # (G2, D2)
    m = tl.full((G2,), float("-inf"), dtype=tl.float32)
    w = tl.zeros((G2,), dtype=tl.float32)
    y = tl.zeros((G2, D2), dtype=tl.float32)
    length = tl.load(positions + text) + 1
    for first in range(0, length, S):  # the block holds tokens first .. first + S, or fewer
        block = tl.load(table + text * M + first // S)  # 64 bits: a store may have 2^31 numbers
        seen = (s < S) & (first + s < length)
        of_kv = ((kv_head * N + block) * S + s[:, None]) * D + d[None, :]
        in_kv = seen[:, None] & (d[None, :] < D)
        key = tl.load(keys + of_kv, mask=in_kv, other=0.0).to(tl.float32)  # (S2, D2)
        value = tl.load(values + of_kv, mask=in_kv, other=0.0).to(tl.float32)
        # No tl.dot: on GPUs it wants 16 rows or more, and a group has 1 to 8 queries.
        scores = tl.sum(queries[:, None, :] * key[None, :, :], axis=2)  # (G2, S2)
        scores = tl.where(seen[None, :], scores, float("-inf"))
        best = tl.maximum(m, tl.max(scores, axis=1))  # finite: a block has a token that is seen
        weights, shrink = tl.exp(scores - best[:, None]), tl.exp(m - best)
        w = w * shrink + tl.sum(weights, axis=1)
        y = y * shrink[:, None] + tl.sum(weights[:, :, None] * value[None, :, :], axis=1)
        m = best
    tl.store(out + of_q, y / w[:, None], mask=in_q)


def _check(q: torch.Tensor, k: Paged, v: Paged) -> None:
    """Say in one sentence what does not fit."""
    counts, (K, *_, D) = k.batch.counts, k.blocks.shape
    if any(n != 1 for n in counts):
        raise ValueError(
            f"paged_decode takes one new token of each text; a text has {max(counts)}. "
            "Use attention.paged for chunks of prompts."
        )
    if q.ndim != 4 or (q.shape[0], *q.shape[2:]) != (1, len(counts), D) or q.shape[1] % K:
        raise ValueError(
            f"Queries of {len(counts)} texts must be (1, a multiple of {K}, {len(counts)}, {D}); "
            f"got {tuple(q.shape)}."
        )
    if k.blocks.shape != v.blocks.shape:
        shapes = f"{tuple(k.blocks.shape)} and {tuple(v.blocks.shape)}"
        raise ValueError(f"k and v must be alike; got blocks of {shapes}.")
