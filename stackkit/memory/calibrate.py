"""Measure two products on this machine, predict others that were not measured, and check.

A large matrix times a vector gives the bandwidth, a square matrix times a square matrix the peak:
together a roofline. Any other product of (m, k) and (k, n) then takes, with nothing overlapped,

    2 m k n / peak + 4 (m k + k n + m n) / bandwidth  seconds in fp32

which is the upper bound of the model: on a CPU the library first copies blocks of its operands and
then multiplies. All products are timed in turns, round by round, and a prediction is held against
the measurement of its own round, so that a slow minute of the machine hurts both alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from stackkit.core.timing import BUSY_CORES, CpuUsage
from stackkit.core.units import GIGA, MILLI
from stackkit.memory.measure import FLOAT_BYTES, matmul_call
from stackkit.memory.roofline import Roofline


@dataclass(frozen=True)
class Product:
    """An (m, k) matrix times a (k, n) matrix in fp32, each byte moved once."""

    m: int
    k: int
    n: int

    @property
    def flops(self) -> float:
        """A multiply and an add for each of m k n."""
        return 2.0 * self.m * self.k * self.n

    @property
    def bytes(self) -> float:
        """Both operands and the result."""
        return float(FLOAT_BYTES * (self.m * self.k + self.k * self.n + self.m * self.n))

    def __str__(self) -> str:
        return f"{self.m} x {self.k} by {self.n}"


STREAMED = Product(8192, 8192, 1)  # gives the bandwidth
MULTIPLIED = Product(2048, 2048, 2048)  # gives the peak
UNSEEN = (
    Product(6144, 6144, 1),
    Product(4096, 11008, 1),
    Product(11008, 4096, 1),
    Product(12288, 6144, 1),
    Product(6144, 6144, 2),
    Product(6144, 6144, 4),
    Product(6144, 6144, 8),
    Product(6144, 6144, 16),
    Product(6144, 6144, 64),
    Product(6144, 6144, 128),
    Product(4096, 4096, 256),
    Product(1024, 1024, 1024),
    Product(1536, 3072, 1536),
)


@dataclass(frozen=True)
class Comparison:
    """One unseen product: what was predicted and what was measured, medians over the rounds."""

    product: Product
    lower_s: float  # everything overlaps
    predicted_s: float  # nothing overlaps
    measured_s: float
    ratio: tuple[float, float, float]  # measured / predicted: p20, median, p80

    @property
    def error(self) -> float:
        """How far the measurement is from the prediction, as a share of it; 0.2 is 20 %."""
        return abs(self.ratio[1] - 1)


@dataclass(frozen=True)
class Report:
    """What two measurements said, and how well they predict the rest."""

    roofline: Roofline  # medians over the rounds
    library: str
    rows: tuple[Comparison, ...]
    others_cores: float | None  # that other programs kept busy meanwhile; None: unknown

    @property
    def median_error(self) -> float:
        """The middle one of all errors, those of the worst kind of product counted in."""
        return median(row.error for row in self.rows)

    def __str__(self) -> str:
        roof = self.roofline
        lines = [
            f"{self.library}, fp32: {roof.bytes_per_s / GIGA:.1f} GB/s from {STREAMED}, "
            f"{roof.peak_flops_per_s / GIGA:.0f} GFLOP/s from {MULTIPLIED}",
            "(m, k) by (k, n)        overlapped   predicted    measured   measured/predicted",
        ]
        for row in self.rows:
            p20, middle, p80 = row.ratio
            times = (row.lower_s, row.predicted_s, row.measured_s)
            columns = "".join(f"{seconds / MILLI:9.2f} ms" for seconds in times)
            lines.append(f"{row.product!s:<21}{columns}   {middle:.2f} ({p20:.2f} to {p80:.2f})")
        lines.append(f"median error {self.median_error:.0%} of {len(self.rows)} products")
        if self.others_cores is not None and self.others_cores > BUSY_CORES:
            lines.append(f"Other programs kept {self.others_cores:.1f} cores busy: no claim.")
        return "\n".join(lines)


def roofline_from(streamed_s: float, multiplied_s: float) -> Roofline:
    """The roofline that two times imply, by two equations in two unknowns.

    Each product takes its arithmetic and its bytes; neither time is the one alone, though the
    first is nearly all bytes and the second nearly all arithmetic.

    Raises:
        ValueError: when no positive peak and bandwidth explain both times.
    """
    a, b = STREAMED, MULTIPLIED
    cross = a.flops * b.bytes - b.flops * a.bytes
    s_per_flop = (streamed_s * b.bytes - multiplied_s * a.bytes) / cross
    s_per_byte = (a.flops * multiplied_s - b.flops * streamed_s) / cross
    if not (s_per_flop > 0 and s_per_byte > 0):
        raise ValueError(
            f"No machine takes {streamed_s!r} s for {a} and {multiplied_s!r} s for {b}: "
            "something else ran meanwhile. Measure again."
        )
    return Roofline(1 / s_per_flop, 1 / s_per_byte)


def predict_and_check(
    products: Sequence[Product] = UNSEEN,
    *,
    rounds: int = 7,
    time_once: Callable[[Callable[[], object]], float] | None = None,
) -> Report:
    """Calibrate on two products, predict the others, measure them, and compare; on the CPU.

    Args:
        products: to predict; those that calibrate should not be among them.
        rounds: times that each is measured, in turns.
        time_once: seconds of one call; default: a clock.

    Raises:
        ValueError: without products, or below two rounds.
    """
    if not products or rounds < 2:
        raise ValueError(
            f"A check needs products and two rounds or more; got {len(products)} and {rounds}."
        )
    time_once = time_once or _seconds
    shared: dict[tuple[int, int], Any] = {}
    calls = {
        p: matmul_call(p.m, p.k, p.n, operands=shared) for p in (STREAMED, MULTIPLIED, *products)
    }
    for _, call in calls.values():
        call()
    usage = CpuUsage()
    times: dict[Product, list[float]] = {p: [] for p in calls}
    for turn in range(rounds):
        for p in calls if turn % 2 == 0 else reversed(calls):
            times[p].append(time_once(calls[p][1]))
    roofs = [roofline_from(*pair) for pair in zip(times[STREAMED], times[MULTIPLIED], strict=True)]
    rows = tuple(_compared(p, times[p], roofs) for p in products)
    library = calls[STREAMED][0]
    middle = roofline_from(median(times[STREAMED]), median(times[MULTIPLIED]))
    return Report(middle, library, rows, usage.others_cores())


def _compared(p: Product, measured: list[float], roofs: list[Roofline]) -> Comparison:
    """One product's rounds, each against the roofline of its own round."""
    lower, predicted = zip(*(roof.bounds(p.flops, p.bytes) for roof in roofs), strict=True)
    ratios = [m / s for m, s in zip(measured, predicted, strict=True)]
    fifths = quantiles(ratios, n=5, method="inclusive")
    return Comparison(
        p,
        median(lower),
        median(predicted),
        median(measured),
        (fifths[0], median(ratios), fifths[3]),
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
