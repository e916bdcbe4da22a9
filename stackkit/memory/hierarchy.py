"""The memory hierarchy of the machine you sit at, seen as steps in two curves.

Read a working set again and again: while it fits a cache, that cache sets the speed. ``read_curve``
does it in order (bandwidth), ``latency_curve`` from place to place (latency). Past the reach of the
tables that translate addresses, a random load also waits for the translation, so the latency of
the last cache can hide behind that step; the bandwidth does not. ``steps`` compares each cache that
the system reports with both curves. It knows the sizes alone, not who shares a cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from stackkit.core.machine import card
from stackkit.core.timing import bench
from stackkit.core.units import KIB, MIB
from stackkit.memory import loops
from stackkit.memory.measure import FLOAT_BYTES, default_working_set

_LEAST_BYTES = 8 * MIB  # read in each timed call, so that calling costs nothing
_LOADS = 200_000  # followed in each timed call


def working_sets(smallest: int = 8 * KIB, largest: int | None = None) -> list[int]:
    """Bytes to measure at: powers of two and the middles between them.

    Args:
        smallest: where they begin.
        largest: where they end; default: past the caches, 128 MiB or four times the largest.

    Raises:
        ValueError: when the smallest is below two cache lines, or the largest below the smallest.
    """
    if largest is None:
        caches = card().cache_bytes.values()
        largest = min(max(128 * MIB, 4 * max(caches, default=0)), default_working_set("cpu"))
    if not smallest >= 2 * loops.LINE_BYTES:
        raise ValueError(f"smallest must be {2 * loops.LINE_BYTES} or more; got {smallest!r}.")
    if not smallest <= largest < math.inf:
        raise ValueError(f"largest must be {smallest} bytes or more; got {largest!r}.")
    sizes = []
    size = int(smallest)
    while size <= largest:
        sizes += [size, size * 3 // 2]
        size *= 2
    return [size for size in sizes if size <= largest]


def read_curve(sizes: Iterable[int], *, all_cores: bool = False) -> dict[int, float]:
    """Bytes per second by working set, read in order by one core or by all together.

    Raises:
        ModuleNotFoundError: without numba, with the command that installs it.
        ValueError: when a size holds no number.
    """
    curve = {}
    for size in map(int, sizes):
        if size < FLOAT_BYTES:
            raise ValueError(f"A working set has {FLOAT_BYTES} bytes or more; got {size}.")
        values = np.ones(size // FLOAT_BYTES, dtype=np.float32)
        passes = max(1, _LEAST_BYTES // size)
        timing = bench(
            lambda values=values, passes=passes: loops.read(values, passes, all_cores=all_cores),
            min_total_s=0.03,
        )
        curve[size] = passes * values.nbytes / timing.median_s
    return curve


def latency_curve(sizes: Iterable[int]) -> dict[int, float]:
    """Seconds of one load that waits for the one before, by working set; one core.

    Raises:
        ModuleNotFoundError: without numba, with the command that installs it.
        ValueError: when a size holds fewer than two cache lines.
    """
    curve = {}
    for size in map(int, sizes):
        walk = _Walk(loops.chain(size))
        walk.go(size // loops.LINE_BYTES)  # every line once, into the cache
        timing = bench(lambda walk=walk: walk.go(_LOADS), min_runs=3, min_total_s=0.0, warmup=0)
        curve[size] = timing.median_s / _LOADS
    return curve


class _Walk:
    """A walk along a chain that goes on where it stopped, so that it comes through all of it."""

    def __init__(self, places: np.ndarray) -> None:
        self.places = places
        self.here = 0

    def go(self, n_loads: int) -> None:
        self.here = loops.chase(self.places, n_loads, self.here)


def steps(
    cache_bytes: Mapping[str, int], reads: Mapping[int, float], waits: Mapping[int, float]
) -> dict[str, tuple[float, float]]:
    """How much slower each cache's outside is than its inside.

    Inside is the largest working set of half the cache or less, outside the smallest of twice the
    cache or more.

    Args:
        cache_bytes: name -> size, as ``machine.card().cache_bytes``.
        reads: working set -> bytes per second, from ``read_curve``.
        waits: working set -> seconds per load, from ``latency_curve``.

    Returns:
        name -> (bandwidth inside / outside, latency outside / inside), for the caches on both
        sides of which both curves have a point. A cache shows where one of the two is well above
        1; where neither is, the machine does not give this program the cache that it reports.

    Raises:
        ValueError: when a curve holds a value that is not above zero.
    """
    for name, curve in (("reads", reads), ("waits", waits)):
        if not all(value > 0 for value in curve.values()):
            raise ValueError(f"{name} must be above zero everywhere; got {dict(curve)!r}.")

    def around(curve: Mapping[int, float], size: int) -> tuple[float, float] | None:
        inside = [s for s in curve if s <= size // 2]
        outside = [s for s in curve if s >= 2 * size]
        return (curve[max(inside)], curve[min(outside)]) if inside and outside else None

    found = {}
    for name, size in cache_bytes.items():
        fast, slow = around(reads, size), around(waits, size)
        if fast and slow:
            found[name] = (fast[0] / fast[1], slow[1] / slow[0])
    return found
