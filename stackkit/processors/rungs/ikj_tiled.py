"""The good order, tile by tile: a block of b stays in the cache while all rows of a pass over it.

It pays once b no longer fits the last cache; while it fits, there is nothing to save.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ROWS, COLUMNS = 128, 512  # of b's block: 256 KiB in fp32


@njit
def matmul(a, b):
    """(m, k) times (k, n); b is used up block by block."""
    m, k = a.shape
    n = b.shape[1]
    c = np.zeros((m, n), dtype=np.float32)
    for j0 in range(0, n, COLUMNS):
        for p0 in range(0, k, ROWS):
            for i in range(m):
                out = c[i, j0 : j0 + COLUMNS]
                for p in range(p0, min(p0 + ROWS, k)):
                    x, row = a[i, p], b[p, j0 : j0 + COLUMNS]
                    for j in range(out.size):
                        out[j] += x * row[j]
    return c
