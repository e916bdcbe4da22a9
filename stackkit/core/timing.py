"""One timer for the whole book, and one way to compare two things fairly.

``bench`` warms up, repeats, and reports the median with the 20th and 80th percentiles.
``race`` interleaves the contestants, so that a slow minute of a shared machine hurts all alike,
and compares them pair by pair. Neither knows what it measures.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from stackkit.core.units import si


@dataclass(frozen=True)
class Timing:
    """How long one call takes, in seconds, over ``runs`` calls."""

    median_s: float
    p20_s: float
    p80_s: float
    runs: int

    def __str__(self) -> str:
        return (
            f"{si(self.median_s, 's')} "
            f"(p20 {si(self.p20_s, 's')}, p80 {si(self.p80_s, 's')}, {self.runs} runs)"
        )


@dataclass(frozen=True)
class Race:
    """Contestants timed in turns. Ratios are per round: contestant / reference, in time."""

    timings: dict[str, Timing]
    reference: str  # the contestant that the ratios are against
    ratios: dict[str, tuple[float, float, float]]  # name -> (p20, median, p80); below 1 is faster
    others_cores: float | None  # cores that other programs kept busy meanwhile; None: unknown

    @property
    def busy(self) -> bool:
        """True when other work ran beside the race: then it makes no claim."""
        return self.others_cores is not None and self.others_cores > BUSY_CORES

    def __str__(self) -> str:
        lines = [
            f"{name}: {timing}; {self.ratios[name][1]:.2f}x the time of {self.reference} "
            f"({self.ratios[name][0]:.2f} to {self.ratios[name][2]:.2f})"
            for name, timing in self.timings.items()
        ]
        if self.busy:
            lines.append(f"Other programs kept {self.others_cores:.1f} cores busy: no claim.")
        return "\n".join(lines)


BUSY_CORES = 0.25


def bench(
    fn: Callable[[], object], *, min_runs: int = 7, min_total_s: float = 0.2, warmup: int = 1
) -> Timing:
    """Time ``fn()`` on the device it uses.

    Args:
        fn: what to time; called ``warmup`` times before the clock starts.
        min_runs: at least so many timed calls.
        min_total_s: go on until the timed calls add up to this, so that fast functions are
            called often.
        warmup: untimed calls first: caches, allocators, compilers.

    Raises:
        ValueError: when ``min_runs`` is below 2; a spread needs two calls.
    """
    if min_runs < 2:
        raise ValueError(f"bench needs min_runs of 2 or more to show a spread; got {min_runs}.")
    for _ in range(warmup):
        fn()
    times: list[float] = []
    total_s = 0.0
    while len(times) < min_runs or total_s < min_total_s:
        times.append(_time_once(fn))
        total_s += times[-1]
    return _timing(times)


def race(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    warmup: int = 1,
    rest_s: float = 0.0,
) -> Race:
    """Time several functions in turns and compare them round by round.

    The first contestant is ours, the last one the reference that the ratios are against. The
    order is reversed every other round, so that none always runs in another's warm cache.

    Args:
        contestants: name -> what to time.
        rounds: timed calls of each.
        warmup: untimed calls of each before the first round.
        rest_s: sleep so long before each timed call, and call once untimed after it. Libraries'
            idle threads spin for a fifth of a second or so, and would take the others' cores.

    Raises:
        ValueError: with fewer than two contestants or rounds.
    """
    if len(contestants) < 2 or rounds < 2:
        raise ValueError(
            f"race needs two or more contestants and rounds; got {len(contestants)} and {rounds}."
        )
    names = list(contestants)
    for name in names * warmup:
        contestants[name]()
    usage = CpuUsage()
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            if rest_s:
                time.sleep(rest_s)
                contestants[name]()
            times[name].append(_time_once(contestants[name]))
    reference = names[-1]
    tick_s = time.get_clock_info("perf_counter").resolution  # a time below it reads as zero
    ratios = {
        name: _spread(
            [t / max(r, tick_s) for t, r in zip(times[name], times[reference], strict=True)]
        )
        for name in names
    }
    return Race(
        {name: _timing(times[name]) for name in names}, reference, ratios, usage.others_cores()
    )


class CpuUsage:
    """How busy other programs keep the machine, from the kernel's own books (Linux).

    The load average would count our own work of the last minute, so it cannot tell. Make one
    before the work and ask ``others_cores`` after it.
    """

    _SHORTEST_S = 0.1  # the kernel counts in hundredths of a second: less tells nothing
    _CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

    def __init__(self) -> None:
        self._start = self._read()

    def others_cores(self) -> float | None:
        """Cores that others kept busy since this was made; None where it is not known."""
        now = self._read()
        if self._start is None or now is None:
            return None
        wall_s, ours_s, all_s = (
            after - before for after, before in zip(now, self._start, strict=True)
        )
        if wall_s < self._SHORTEST_S:
            return None
        return max(0.0, all_s - ours_s) / wall_s

    def _read(self) -> tuple[float, float, float] | None:
        """(wall clock, CPU time of this process and its children, of all processes), seconds."""
        try:
            first_line, *_ = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        ticks = [int(field) for field in first_line.split()[1:9]]
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        busy_s = (user + nice + system + irq + softirq + steal) / self._CLOCK_TICKS_PER_S
        return time.perf_counter(), sum(os.times()[:4]), busy_s


def _time_once(fn: Callable[[], object]) -> float:
    _synchronise()
    start = time.perf_counter()
    fn()
    _synchronise()
    return time.perf_counter() - start


def _synchronise() -> None:
    """Wait for the GPU, if this process has used one: its calls return before the work is done."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _spread(values: list[float]) -> tuple[float, float, float]:
    fifths = quantiles(values, n=5, method="inclusive")
    return fifths[0], median(values), fifths[3]


def _timing(times: list[float]) -> Timing:
    p20_s, median_s, p80_s = _spread(times)
    return Timing(median_s, p20_s, p80_s, len(times))
