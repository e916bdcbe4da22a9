"""Two loops swapped: i, k, j. The inner loop goes along a row of b and a row of c.

Now every number of a fetched line is used, and the compiler multiplies a vector of them at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit
def matmul(a, b):
    """(m, k) times (k, n): each row of c is a sum of rows of b."""
    m, k = a.shape
    n = b.shape[1]
    c = np.zeros((m, n), dtype=np.float32)
    for i in range(m):
        for p in range(k):
            x = a[i, p]
            for j in range(n):
                c[i, j] += x * b[p, j]
    return c
