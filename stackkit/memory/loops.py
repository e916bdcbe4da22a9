"""Loops over memory, compiled by numba: read it, copy it, and follow a chain through it.

``read``, ``copy`` and ``triad`` go through arrays in order: their loads do not wait for each other,
so they show bandwidth. ``chase`` loads from each place where to go next: every load waits for the
one before, so it shows latency. ``chain`` makes the places: one cycle through all cache lines in
random order, which no prefetcher guesses. Source of the method: McVoy and Staelin, lmbench, USENIX
Annual Technical Conference 1996.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

LINE_BYTES = 64  # of a cache line on x86-64 and most Arm servers; Apple's have 128
_PLACE_BYTES = 8  # one uint64


def chain(n_bytes: int, seed: int = 0) -> np.ndarray:
    """Places to visit: ``a[i]`` says where to go after ``i``, one stop in each line.

    Args:
        n_bytes: of the array; at least two lines.
        seed: of the order.

    Raises:
        ValueError: below two lines.
    """
    n_lines = n_bytes // LINE_BYTES
    if n_lines < 2:
        raise ValueError(f"A chain needs {2 * LINE_BYTES} bytes or more; got {n_bytes}.")
    stride = LINE_BYTES // _PLACE_BYTES
    order = np.random.default_rng(seed).permutation(n_lines).astype(np.uint64) * stride
    places = np.zeros(n_lines * stride, dtype=np.uint64)
    places[order] = np.roll(order, -1)
    return places


def chase(places: np.ndarray, steps: int, start: int = 0) -> int:
    """Follow the chain for ``steps`` loads from ``start``; returns where it ends.

    Go on from there the next time: from the start again, the same lines would be visited, and those
    may still be in a cache when all of the chain is not.
    """
    return int(_compiled()["chase"](places, steps, np.uint64(start)))


def read(values: np.ndarray, passes: int = 1, *, all_cores: bool = False) -> float:
    """Sum of a float32 array, read ``passes`` times by one core or by all together."""
    return float(_compiled()["read_all" if all_cores else "read"](values, passes))


def copy(a: np.ndarray, b: np.ndarray) -> None:
    """``a = b``, by all cores.

    Raises:
        ValueError: when the arrays differ in size.
    """
    _same_size(a, b)
    _compiled()["copy_all"](a, b)


def triad(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """``a = b + 3 c``, by all cores.

    Raises:
        ValueError: when the arrays differ in size.
    """
    _same_size(a, b, c)
    _compiled()["triad_all"](a, b, c)


def _same_size(*arrays: np.ndarray) -> None:
    sizes = [array.size for array in arrays]
    if len(set(sizes)) > 1:
        raise ValueError(f"The arrays must have equal sizes; got {sizes}.")


@cache
def _compiled() -> dict[str, Any]:
    """The loops as machine code; compiled at the first call."""
    try:
        from numba import njit, prange
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'This measurement needs numba. Install it with: pip install "numba>=0.60"'
        ) from None

    @njit
    def chase(places, steps, start):
        here = start
        for _ in range(steps):
            here = places[here]
        return here

    @njit(fastmath=True)  # may add in any order, hence in vectors
    def read(values, passes):
        total = np.float32(0)
        for _ in range(passes):
            for i in range(values.size):
                total += values[i]
        return total

    @njit(fastmath=True, parallel=True)
    def read_all(values, passes):
        total = np.float32(0)
        for _ in range(passes):
            for i in prange(values.size):
                total += values[i]
        return total

    @njit(parallel=True)
    def copy_all(a, b):
        for i in prange(a.size):
            a[i] = b[i]

    @njit(parallel=True)
    def triad_all(a, b, c):
        for i in prange(a.size):
            a[i] = b[i] + np.float32(3) * c[i]

    return {
        "chase": chase,
        "read": read,
        "read_all": read_all,
        "copy_all": copy_all,
        "triad_all": triad_all,
    }
