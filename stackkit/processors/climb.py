"""Climb the ladder on this machine: each rung predicted by the roofline, checked, and timed.

A rung runs at the side ``n`` that was asked, or at its largest where that would take minutes. The
prediction has two ends, as in ``memory.roofline``: all overlapped, and nothing. The peak is what
this machine's best library reaches, of one core or of all; bytes are those past the last cache.
Rungs run one after the other: to compare two of them closely, race them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from stackkit.core.machine import card
from stackkit.core.timing import BUSY_CORES, CpuUsage, Timing, bench
from stackkit.core.units import GIGA, MIB
from stackkit.memory import Roofline, measure_bandwidth, measure_peak_flops
from stackkit.memory.hierarchy import read_curve
from stackkit.memory.measure import default_working_set
from stackkit.processors.ladder import LADDER, Rung, is_close, rung

# Both are written by ``make bench``.
STORED = Path(__file__).with_name("measured.json")
PORTABLE = Path(__file__).with_name("portable.json")
_GUESSED_CACHE_BYTES = 8 * MIB  # where the system reports none


@dataclass(frozen=True)
class Step:
    """One rung on this machine."""

    rung: Rung
    n: int  # side of the squares
    lower_s: float  # predicted, with everything overlapped
    upper_s: float  # predicted, with nothing
    timing: Timing

    @property
    def flops_per_s(self) -> float:
        """Of the median run."""
        return self.rung.flops(self.n, self.n, self.n) / self.timing.median_s

    @property
    def intensity(self) -> float:
        """FLOP per byte that the rung should move between memory and the last cache."""
        bytes_moved = self.rung.predicted_bytes(self.n, self.n, self.n, last_cache_bytes())
        return self.rung.flops(self.n, self.n, self.n) / bytes_moved


@dataclass(frozen=True)
class Climb:
    """All rungs that could run here, in the ladder's order."""

    steps: tuple[Step, ...]
    roofs: dict[str, Roofline]  # "one" core, "all" cores
    others_cores: float | None

    @property
    def ratio(self) -> float:
        """How many times faster the best rung is than the first, as arithmetic per second."""
        speeds = [step.flops_per_s for step in self.steps]
        return max(speeds) / speeds[0]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """A table: what is predicted at best, what was measured, and a bar on a log scale."""
        yield (
            f"{'rung':<11} {'n':>5} {'cores':>5}  {'GFLOP/s':>9}  {'of its roof':>11}  "
            "4 signs a decade"
        )
        for step in self.steps:
            speed = step.flops_per_s / GIGA
            share = step.lower_s / step.timing.median_s
            bar = "#" * max(1, round(4 * np.log10(max(speed, 0.01) / 0.01)))
            yield (
                f"{step.rung.name:<11} {step.n:>5} {step.rung.cores:>5}  {speed:>9,.3g}  "
                f"{share:>11.1%}  {bar}"
            )
        yield f"from the first rung to the best: {self.ratio:,.0f} times"
        if self.others_cores is not None and self.others_cores > BUSY_CORES:
            yield f"Other programs kept {self.others_cores:.1f} cores busy: no claim."


def climb(
    n: int = 1024,
    names: Sequence[str] | None = None,
    *,
    progress: Callable[[str], None] = lambda line: None,
) -> Climb:
    """Run the rungs and compare them with their predictions.

    Args:
        n: side of the square matrices.
        names: rungs; default: all that are timed and whose packages are installed.
        progress: told each rung before it runs.

    Raises:
        ValueError: when ``n`` is no whole number of 1 or more, a rung is wrong, or none is left.
    """
    if not 1 <= n < float("inf") or n != int(n):
        raise ValueError(f"n must be a whole number, 1 or more; got {n}.")
    n = int(n)
    names = [names] if isinstance(names, str) else names
    rungs = [rung(name) for name in names] if names else list(LADDER.values())
    rungs = [r for r in rungs if r.timed and r.is_ready]
    if not rungs:
        raise ValueError("No rung of these can be timed here; install numba or torch.")
    progress("measuring both roofs ...")
    roofs = measured_roofs()
    usage = CpuUsage()
    steps = [_step(r, min(n, r.largest), roofs[r.cores], progress) for r in rungs]
    return Climb(tuple(steps), roofs, usage.others_cores())


def _step(rung: Rung, n: int, roof: Roofline, progress: Callable[[str], None]) -> Step:
    progress(f"{rung.name}: {rung.says}, n = {n} ...")
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    if not is_close(rung.fn(a, b), a, b, rung.dtype):
        raise ValueError(f"The rung {rung.name!r} is wrong at n = {n}; it is not timed.")
    timing = bench(lambda: rung.fn(a, b), min_runs=3, min_total_s=0.3, warmup=0)
    moved = rung.predicted_bytes(n, n, n, last_cache_bytes())
    lower_s, upper_s = roof.bounds(rung.flops(n, n, n), moved)
    return Step(rung, n, lower_s, upper_s, timing)


def measured_roofs() -> dict[str, Roofline]:
    """What one core and all cores of this machine reach, in fp32.

    Without torch the peak of one core is taken as an equal share of all.
    """
    everyone = measure_peak_flops("fp32", device="cpu").flops_per_s
    if util.find_spec("torch"):
        one = measure_peak_flops("fp32", device="cpu", threads=1).flops_per_s
    else:
        one = everyone / card().cores
    working_set = default_working_set("cpu")
    if util.find_spec("numba"):
        (one_reads,) = read_curve([working_set]).values()
    else:
        one_reads = measure_bandwidth("read", device="cpu", threads=1).bytes_per_s
    all_read = measure_bandwidth("read", device="cpu").bytes_per_s
    return {"one": Roofline(one, one_reads), "all": Roofline(everyone, max(all_read, one_reads))}


def last_cache_bytes() -> int:
    """Size of the last cache that core 0 sees."""
    return max(card().cache_bytes.values(), default=_GUESSED_CACHE_BYTES)


def stored() -> dict[str, Any]:
    """The climb that the book shows: machine, day, roofs, and a row for each rung."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def stored_portable() -> dict[str, Any]:
    """One product by language and by number format, GFLOP/s on all cores, as the book shows it."""
    return json.loads(PORTABLE.read_text(encoding="utf-8"))
