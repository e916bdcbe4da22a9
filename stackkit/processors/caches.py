"""Where the bytes go: a cache simulated access by access, under C(m, n) += A(m, k) B(k, n).

The cache has sets of ``ways`` lines each, throws out the line that was used least recently (LRU),
and fetches a line on a missed write as on a missed read. It knows no prefetcher, no second level,
no write-backs, and no time. The matrices are fp32 and row-major, and lie without a gap, A then B
then C, from address 0. ``misses`` plays the loops, ``predicted_misses`` tells without playing:

    t x t tiles, three of which fit:  lines = (2 m n k / t + m n) / floats in a line
    whatever the order, M floats:     lines >= (2 m n k / sqrt(M) - 2 M) / floats in a line

Sources: Lam, Rothberg and Wolf, ASPLOS 1991 (tiles); Wolf and Lam, PLDI 1991 (which loop reuses
what); Hong and Kung, STOC 1981 (the bound), its constant by Smith et al., arXiv 1702.02017.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache as once
from numbers import Integral
from typing import Any

import numpy as np

ORDERS = ("ijk", "ikj", "jki")  # outermost loop first
MATRICES = {"A": "ik", "B": "kj", "C": "ij"}  # the loops that choose row and column
_FLOAT_BYTES = 4  # fp32


@dataclass(frozen=True)
class Cache:
    """The geometry of a cache; ``ways=1`` is direct-mapped, one set is fully associative.

    Raises:
        ValueError: when line or number of sets is no power of two, as the bits of an address choose
            both, or when no line can hold a float.
    """

    size_bytes: int  # of all lines together
    line_bytes: int = 64  # fetched as one; 64 on x86-64 and most Arm servers
    ways: int = 8  # lines of one set: where one address may lie

    def __post_init__(self) -> None:
        for name in ("size_bytes", "line_bytes", "ways"):
            _check_count(name, getattr(self, name))
        if self.line_bytes < _FLOAT_BYTES or not _is_power_of_two(self.line_bytes):
            raise ValueError(
                f"line_bytes must be a power of two, {_FLOAT_BYTES} or more; got {self.line_bytes}."
            )
        set_bytes = self.line_bytes * self.ways
        if self.size_bytes % set_bytes or not _is_power_of_two(self.n_sets):
            raise ValueError(
                f"size_bytes must be a power of two times line_bytes x ways = {set_bytes}, "
                f"such as {set_bytes} or {8 * set_bytes}; got {self.size_bytes}."
            )

    @property
    def n_lines(self) -> int:
        return self.size_bytes // self.line_bytes

    @property
    def n_sets(self) -> int:
        return self.n_lines // self.ways

    @property
    def line_floats(self) -> int:
        return self.line_bytes // _FLOAT_BYTES


@dataclass(frozen=True)
class Misses:
    """What a cache, empty at first, did with a stream; misses x line_bytes came from memory."""

    accesses: int  # reads and writes alike
    misses: int

    def __add__(self, other: Misses) -> Misses:
        return Misses(self.accesses + other.accesses, self.misses + other.misses)


def simulate(addresses: Iterable[int] | np.ndarray, cache: Cache) -> Misses:
    """Play byte addresses in order. An access lies in one line: aligned, and no longer than it.

    Raises:
        ModuleNotFoundError: without numba, with the command that installs it.
        ValueError: for an address that is no whole number, or below zero.
    """
    played = np.asarray(addresses if isinstance(addresses, np.ndarray) else list(addresses))
    if played.size and (played.dtype.kind not in "iu" or played.min() < 0):
        raise ValueError("addresses must be whole numbers, 0 or more.")
    counts = np.zeros((1, 2), dtype=np.int64)
    line_bits = round(math.log2(cache.line_bytes))
    _compiled()["stream"](_empty(cache), counts, played.astype(np.int64).ravel(), line_bits)
    return Misses(*counts[0].tolist())


def misses(order: str, m: int, k: int, n: int, cache: Cache, *, tile: int | None = None) -> Misses:
    """Play the three loops; the accesses are those of the program below, in its order.

    What the innermost loop does not change stays in a register, everything else is an access:

        ijk:  for i: for j:  c = C[i,j];  for k: c += A[i,k] * B[k,j];  C[i,j] = c
        ikj:  for i: for k:  a = A[i,k];  for j: C[i,j] += a * B[k,j]
        jki:  for j: for k:  b = B[k,j];  for i: C[i,j] += A[i,k] * b

    The inner line reads A, then B, then C, as far as they are in it, and writes C. An access takes
    5 to 10 ns with 8 ways (n = 512: 3 s), and longer with many, as they are searched in turn.

    Args:
        order: one of ``ORDERS``.
        m, k, n: A is m x k, B is k x n, C is m x n.
        cache: empty at first.
        tile: loop over tile x tile blocks of C, for each over the blocks of A and B that it needs
            (outer loops i, j, k whatever ``order``), and inside a block in ``order``. Blocks at the
            border are smaller. Default: the loops go through whole matrices.

    Raises:
        ModuleNotFoundError: without numba, with the command that installs it.
        ValueError: for an unknown order, or a size that is no whole number of 1 or more.
    """
    a, b, c = misses_by_matrix(order, m, k, n, cache, tile=tile).values()
    return a + b + c


def misses_by_matrix(
    order: str, m: int, k: int, n: int, cache: Cache, *, tile: int | None = None
) -> dict[str, Misses]:
    """``misses`` of A, of B and of C. A line on the border of two belongs to who touched it."""
    tile = _check_loops(order, m, k, n, tile)
    counts = np.zeros((3, 2), dtype=np.int64)
    line_bits = round(math.log2(cache.line_floats))
    run = _compiled()
    run["tiles"](run[order], _empty(cache), counts, line_bits, m, k, n, tile)
    return {name: Misses(*count) for name, count in zip(MATRICES, counts.tolist(), strict=True)}


def predicted_misses(
    order: str, m: int, k: int, n: int, cache: Cache, *, tile: int | None = None
) -> float:
    """Misses of the same loops from a formula, without playing them."""
    return sum(predicted_by_matrix(order, m, k, n, cache, tile=tile).values())


def predicted_by_matrix(
    order: str, m: int, k: int, n: int, cache: Cache, *, tile: int | None = None
) -> dict[str, float]:
    """Lines fetched for A, for B and for C, by asking each loop what it reuses.

    From the innermost loop outwards, with ``count`` turns each: one turn touches a number of lines,
    of all three matrices together. If they fit the cache, the loop finds again what the turn before
    left behind: a matrix that the loop does not index costs nothing more, and one along whose rows
    it moves costs a line every ``line_floats`` turns. Where they do not fit, the same holds for a
    matrix that the loop just inside used to its end. All else costs ``count`` times as much.

    With tiles of t x t that divide the sides, three of them inside the cache, t a multiple of the
    line: 2 m n k / t + m n floats, as A and B come once per tile of C. Without tiles, each side
    large: ikj costs 2 m n k / line_floats lines, ijk m n k (1 + 1 / line_floats), and jki, which
    goes down columns, 2 m n k.

    It takes it that a line can lie anywhere in the cache (with sides of a power of two, columns
    fall into few sets and miss far more often) and that the edge where one turn fits is sharp.
    Between three and four tiles in the cache it is too low for ijk and ikj: from one visit of a
    row of C to the next, two tiles of B pass, and LRU throws the row out.
    """
    tile = _check_loops(order, m, k, n, tile)
    size = {"i": m, "j": n, "k": k}
    inner = {loop: min(tile, size[loop]) for loop in size}
    reach = dict.fromkeys(size, 1)  # how far the loops taken so far go: (0, reach)

    def in_row(loop: str) -> float:
        return _lines_of(reach[loop], size[loop], cache.line_floats)

    lines = {name: in_row(column) for name, (_, column) in MATRICES.items()}
    nest = [(loop, inner[loop]) for loop in reversed(order)]
    nest += [(loop, size[loop] / inner[loop]) for loop in "kji"]
    recent = set()  # what the loop just inside used in all its turns, the last one too
    for depth, (loop, count) in enumerate(nest):
        touched = sum(reach[row] * in_row(column) for row, column in MATRICES.values())
        fits = touched <= cache.n_lines
        in_row_before = in_row(loop)
        reach[loop] = round(reach[loop] * count)
        for name, (row, column) in MATRICES.items():
            found_again = fits or name in recent
            recent.discard(name)
            if loop == row or (loop == column and not found_again):
                lines[name] *= count
            elif loop == column:
                lines[name] *= in_row(loop) / in_row_before
            elif not found_again:
                lines[name] *= math.ceil(count)
            elif depth:  # the innermost loop has it in a register and did not touch it
                recent.add(name)
    return lines


def least_misses(m: int, k: int, n: int, cache: Cache) -> float:
    """No order of the loops, and no way to manage a cache of this size, has fewer misses.

    The larger of each matrix once, and the bound of the module's docstring. The three floats
    that the processor's registers hold of a multiply-add are left out.
    """
    floats = cache.n_lines * cache.line_floats
    once_each = m * k + k * n + m * n
    bound = 2 * m * n * k / math.sqrt(floats) - 2 * floats
    return max(once_each, bound) / cache.line_floats


def _lines_of(n_floats: int, width: int, line_floats: int) -> float:
    """Lines under ``n_floats`` neighbours in a row of ``width``, on average.

    A whole row shares its last line with the next row. A part starts at any multiple of g floats.
    """
    if n_floats == width:
        return width / line_floats
    g = math.gcd(n_floats, width, line_floats)
    return 1 + (n_floats - g) / line_floats


def _check_loops(order: str, m: int, k: int, n: int, tile: int | None) -> int:
    """The tile to use: without one, a single tile holds everything."""
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}.")
    for name, value in (("m", m), ("k", k), ("n", n)):
        _check_count(name, value)
    if tile is None:
        return max(m, k, n)
    _check_count("tile", tile)
    return tile


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number, 1 or more; got {value!r}.")


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _empty(cache: Cache) -> np.ndarray:
    """The lines in each set, the one used last first; -1 where there is none yet."""
    return np.full((cache.n_sets, cache.ways), -1, dtype=np.int64)


@once
def _compiled() -> dict[str, Any]:
    """The loops as machine code; compiled at the first call. Addresses are in floats."""
    try:
        from numba import njit
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'This simulation needs numba. Install it with: pip install "numba>=0.60"'
        ) from None

    @njit
    def touch(sets, count, line):
        lines = sets[line & (sets.shape[0] - 1)]
        way = 0
        while way < lines.size - 1 and lines[way] != line:
            way += 1
        count[0] += 1
        count[1] += lines[way] != line  # searched in vain: lines[way] is the one to throw out
        for later in range(way, 0, -1):
            lines[later] = lines[later - 1]
        lines[0] = line

    @njit
    def stream(sets, counts, addresses, line_bits):
        for address in addresses:
            touch(sets, counts[0], address >> line_bits)

    # In a block: rows i0:i1 of A and C, columns j0:j1 of B and C, and k0:k1 between A and B.
    @njit
    def ijk(sets, counts, bits, m, k, n, i0, i1, j0, j1, k0, k1):
        b, c = m * k, m * k + k * n
        for i in range(i0, i1):
            for j in range(j0, j1):
                touch(sets, counts[2], (c + i * n + j) >> bits)
                for p in range(k0, k1):
                    touch(sets, counts[0], (i * k + p) >> bits)
                    touch(sets, counts[1], (b + p * n + j) >> bits)
                touch(sets, counts[2], (c + i * n + j) >> bits)

    @njit
    def ikj(sets, counts, bits, m, k, n, i0, i1, j0, j1, k0, k1):
        b, c = m * k, m * k + k * n
        for i in range(i0, i1):
            for p in range(k0, k1):
                touch(sets, counts[0], (i * k + p) >> bits)
                for j in range(j0, j1):
                    touch(sets, counts[1], (b + p * n + j) >> bits)
                    touch(sets, counts[2], (c + i * n + j) >> bits)  # read
                    touch(sets, counts[2], (c + i * n + j) >> bits)  # written

    @njit
    def jki(sets, counts, bits, m, k, n, i0, i1, j0, j1, k0, k1):
        b, c = m * k, m * k + k * n
        for j in range(j0, j1):
            for p in range(k0, k1):
                touch(sets, counts[1], (b + p * n + j) >> bits)
                for i in range(i0, i1):
                    touch(sets, counts[0], (i * k + p) >> bits)
                    touch(sets, counts[2], (c + i * n + j) >> bits)  # read
                    touch(sets, counts[2], (c + i * n + j) >> bits)  # written

    @njit
    def tiles(block, sets, counts, bits, m, k, n, t):
        for i in range(0, m, t):
            for j in range(0, n, t):
                for p in range(0, k, t):
                    i1, j1, k1 = min(i + t, m), min(j + t, n), min(p + t, k)
                    block(sets, counts, bits, m, k, n, i, i1, j, j1, p, k1)

    return {"stream": stream, "tiles": tiles, "ijk": ijk, "ikj": ikj, "jki": jki}
