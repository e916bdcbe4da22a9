"""Tiles in Triton: the same idea in the language of GPU kernels, written in Python.

Each program makes one tile of c; it walks along a row of tiles of a and a column of tiles of b. On
a GPU it is compiled. Elsewhere Triton's interpreter runs it with NumPy (see ``triton_device``):
right, and no measure of speed. Not yet run on a GPU.
"""

from __future__ import annotations

import numpy as np
import torch

from stackkit.processors.triton_device import device, tl, triton

TILE = 32


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(m, k) times (k, n), a program for each tile of the result.

    Raises:
        RuntimeError: as ``triton_device.device``.
    """
    (m, k), n = a.shape, b.shape[1]
    x, y = (torch.from_numpy(np.ascontiguousarray(operand)).to(device()) for operand in (a, b))
    c = torch.empty((m, n), device=device())
    grid = (triton.cdiv(m, TILE), triton.cdiv(n, TILE))
    _one_tile[grid](x, y, c, m, n, k, TILE)
    return c.cpu().numpy()


@triton.jit
def _one_tile(a, b, c, m, n, k, tile: tl.constexpr):
    """c[rows, columns] = sum over p of a[rows, p] b[p, columns]; outside, zeros are read."""
    rows = tl.program_id(0) * tile + tl.arange(0, tile)
    columns = tl.program_id(1) * tile + tl.arange(0, tile)
    total = tl.zeros((tile, tile), dtype=tl.float32)
    for p0 in range(0, k, tile):
        p = p0 + tl.arange(0, tile)
        of_a = (rows[:, None] < m) & (p[None, :] < k)
        of_b = (p[:, None] < k) & (columns[None, :] < n)
        x = tl.load(a + rows[:, None] * k + p[None, :], mask=of_a, other=0.0)
        y = tl.load(b + p[:, None] * n + columns[None, :], mask=of_b, other=0.0)
        total += tl.dot(x, y, input_precision="ieee")
    inside = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(c + rows[:, None] * n + columns[None, :], total, mask=inside)
