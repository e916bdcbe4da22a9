"""Sixteen sums at a time in registers, over a packed panel of b: within reach of BLAS.

The rungs before load two numbers for each multiply-add. Here four rows of a meet four columns of b:
eight loads (of whole vectors) feed sixteen multiply-adds, whose sums never leave the registers. The
columns come from a panel into which they were copied one after the other, so that all reads run
straight on. The panel stays in the second cache while every row of a passes over it.

    c[i..i+4, j..j+4] += sum over p of a[i..i+4, p] * panel[j..j+4, p]

Source of the scheme: Goto and van de Geijn, ACM Trans. Math. Softw. 34(3), 2008.
"""

from __future__ import annotations

import numpy as np
from numba import njit

PANEL = 128  # columns of b in a panel
DEPTH = 1024  # rows of b in a panel: 512 KiB in fp32
PAD = 16  # floats behind each packed column, lest all columns share a few sets of the cache
RUN = 8  # rows of b packed together: their lines are still near for the next column
BLOCK = 4  # rows and columns of a block of sums


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(m, k) times (k, n), panel by panel."""
    m, n = a.shape[0], b.shape[1]
    a, b, c = whole_blocks(a, b)
    add_panels(a, b, c, 0, c.shape[1])
    return c[:m, :n]


def whole_blocks(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The operands, with zeros up to whole blocks where they need some, and a result of zeros."""
    more_rows, more_columns = -a.shape[0] % BLOCK, -b.shape[1] % BLOCK
    a = np.pad(a, [(0, more_rows), (0, 0)]) if more_rows else a
    b = np.pad(b, [(0, 0), (0, more_columns)]) if more_columns else b
    return a, b, np.zeros((a.shape[0], b.shape[1]), dtype=np.float32)


@njit(fastmath=True, nogil=True)
def add_panels(a, b, c, j_first, j_end):
    """Add a b to columns ``j_first`` to ``j_end`` of c; all in whole blocks."""
    k = b.shape[0]
    panel = np.empty((min(PANEL, j_end - j_first), min(k, DEPTH) + PAD), dtype=np.float32)
    for j0 in range(j_first, j_end, PANEL):
        width = min(PANEL, j_end - j0)
        for p0 in range(0, k, DEPTH):
            depth = min(DEPTH, k - p0)
            for run in range(0, depth, RUN):
                for j in range(width):
                    for p in range(run, min(run + RUN, depth)):
                        panel[j, p] = b[p0 + p, j0 + j]
            _multiply(a, panel, c, j0, width, p0, depth)


@njit(fastmath=True, nogil=True)
def _multiply(a, panel, c, j0, width, p0, depth):
    """Add every block of 4 x 4 that rows of a and columns of the panel make."""
    for i in range(0, a.shape[0], 4):
        x0, x1 = a[i, p0 : p0 + depth], a[i + 1, p0 : p0 + depth]
        x2, x3 = a[i + 2, p0 : p0 + depth], a[i + 3, p0 : p0 + depth]
        for j in range(0, width, 4):
            y0, y1, y2, y3 = panel[j], panel[j + 1], panel[j + 2], panel[j + 3]
            c00 = c01 = c02 = c03 = c10 = c11 = c12 = c13 = np.float32(0)
            c20 = c21 = c22 = c23 = c30 = c31 = c32 = c33 = np.float32(0)
            for p in range(depth):
                a0, a1, a2, a3 = x0[p], x1[p], x2[p], x3[p]
                b0, b1, b2, b3 = y0[p], y1[p], y2[p], y3[p]
                c00 += a0 * b0
                c01 += a0 * b1
                c02 += a0 * b2
                c03 += a0 * b3
                c10 += a1 * b0
                c11 += a1 * b1
                c12 += a1 * b2
                c13 += a1 * b3
                c20 += a2 * b0
                c21 += a2 * b1
                c22 += a2 * b2
                c23 += a2 * b3
                c30 += a3 * b0
                c31 += a3 * b1
                c32 += a3 * b2
                c33 += a3 * b3
            q = j0 + j
            c[i, q] += c00
            c[i, q + 1] += c01
            c[i, q + 2] += c02
            c[i, q + 3] += c03
            c[i + 1, q] += c10
            c[i + 1, q + 1] += c11
            c[i + 1, q + 2] += c12
            c[i + 1, q + 3] += c13
            c[i + 2, q] += c20
            c[i + 2, q + 1] += c21
            c[i + 2, q + 2] += c22
            c[i + 2, q + 3] += c23
            c[i + 3, q] += c30
            c[i + 3, q + 1] += c31
            c[i + 3, q + 2] += c32
            c[i + 3, q + 3] += c33
