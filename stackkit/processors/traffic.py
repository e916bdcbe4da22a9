"""Bytes between memory and the last cache, by loop order: what the roofline needs of a rung.

Counted is what moves when matrices do not fit: an (m, k), a (k, n) and an (m, n) matrix of fp32 and
a cache of ``cache_bytes``. A matrix is read once if it stays in the cache until it is wanted again,
else as often as the loops come back to it. That is a model of an ideal cache: sets, other programs
and prefetching are not in it (``caches`` simulates sets). Sources: Lam, Rothberg and Wolf, ASPLOS
1991; of the lower bound Hong and Kung, STOC 1981, its constant Smith et al., arXiv 1702.02017.
"""

from __future__ import annotations

import math

FLOAT_BYTES = 4
LINE_BYTES = 64


def ijk(m: int, k: int, n: int, cache_bytes: float) -> float:
    """b is walked once for each row of a, down its columns: a line for each number."""
    a, b = _once(m, k), _once(k, n)
    if b > cache_bytes:
        b *= m
        if k * LINE_BYTES > cache_bytes:  # a line is gone before the next column wants it
            b *= LINE_BYTES / FLOAT_BYTES
            a *= n  # and so is the row of a
    return a + b + _once(m, n)


def ikj(m: int, k: int, n: int, cache_bytes: float) -> float:
    """b is walked once for each row of a, along its rows."""
    times = 1 if k * n * FLOAT_BYTES <= cache_bytes else m
    return _once(m, k) + times * _once(k, n) + _once(m, n)


def squares(m: int, k: int, n: int, cache_bytes: float, *, tile: int) -> float:
    """Squares of c one after the other, each a sum along a strip of a and a strip of b.

    The strip of a stays while a row of squares is made, if it fits; b is read again for each row.
    """
    strip_stays = _once(tile, k) <= cache_bytes / 2
    a = _once(m, k) if strip_stays else _again(m, k, math.ceil(n / tile), cache_bytes)
    b = _again(k, n, math.ceil(m / tile), cache_bytes)
    return max(a + b + _once(m, n), least(m, k, n, cache_bytes))


def strips(m: int, k: int, n: int, cache_bytes: float, *, columns: int, depth: int) -> float:
    """Blocks of b one after the other, ``depth`` rows of ``columns``; all rows of a pass each.

    a is read again for each strip of columns; the strip of c stays between its blocks, if it fits.
    """
    strip_stays = _once(m, columns) <= cache_bytes / 2
    again = 1 if strip_stays else 2 * math.ceil(k / depth) - 1
    a = _again(m, k, math.ceil(n / columns), cache_bytes)
    return max(a + _once(k, n) + again * _once(m, n), least(m, k, n, cache_bytes))


def least(
    m: int, k: int, n: int, cache_bytes: float, *, bytes_per_value: float = FLOAT_BYTES
) -> float:
    """What no order can beat, with a cache of S numbers: 2 m n k / sqrt(S) - 2 S, each matrix once.

    Raises:
        ValueError: when the cache holds not even one number.
    """
    cached = cache_bytes / bytes_per_value
    if not cached >= 1:
        raise ValueError(f"A cache holds one number or more; got {cache_bytes!r} bytes.")
    bound = 2 * m * n * k / math.sqrt(cached) - 2 * cached
    return bytes_per_value * max(bound, m * k + k * n + m * n)


def _once(rows: int, columns: int) -> float:
    return float(FLOAT_BYTES * rows * columns)


def _again(rows: int, columns: int, times: int, cache_bytes: float) -> float:
    """A matrix that is wanted so often: read once if it fits half the cache."""
    fits = _once(rows, columns) <= cache_bytes / 2
    return _once(rows, columns) * (1 if fits else max(times, 1))
