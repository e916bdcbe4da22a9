"""The three loops as one writes them, compiled: i, j, k.

The inner loop goes down a column of b, a whole row further with each step: every load takes a new
line of the cache and uses one number of its sixteen, and no vector instruction fits.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit
def matmul(a, b):
    """(m, k) times (k, n), a dot product for each number of c."""
    m, k = a.shape
    n = b.shape[1]
    c = np.empty((m, n), dtype=np.float32)
    for i in range(m):
        for j in range(n):
            total = np.float32(0)
            for p in range(k):
                total += a[i, p] * b[p, j]
            c[i, j] = total
    return c
