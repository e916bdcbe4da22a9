"""Three nested loops in Python, over lists: every step looks up types, boxes and pointers."""

from __future__ import annotations

import numpy as np


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(m, k) times (k, n), one number at a time."""
    rows, columns = a.tolist(), b.T.tolist()
    c = [[0.0] * len(columns) for _ in rows]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total = 0.0
            for p in range(len(row)):
                total += row[p] * column[p]
            c[i][j] = total
    return np.array(c, dtype=np.float32)
