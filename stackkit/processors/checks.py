"""Exercises of the processors layer; ``check("processors.<name>", answer)`` grades them."""

from __future__ import annotations

from stackkit.atlas import accelerator
from stackkit.core.checks import Exercise, Slip, function, number
from stackkit.core.units import GIGA
from stackkit.processors.peaks import peak_flops_per_s
from stackkit.processors.simt import WARP, lane_utilisation
from stackkit.processors.systolic import SystolicArray


def _peak() -> Exercise:
    facts = accelerator("b200-sxm").facts
    clock, units, fma = (
        facts[name].value for name in ("boost_clock_hz", "matmul_units", "fma_per_clock_per_unit")
    )
    right = peak_flops_per_s(clock, units, fma)
    return number(
        right,
        "FLOP/s",
        slips=[
            Slip(right / 2, "A fused multiply-add is two operations."),
            Slip(2 * right, "That is the sparse peak, or the factor two counted twice."),
            Slip(right / GIGA, "The clock in GHz? The answer is asked in FLOP/s."),
            Slip(right / units, "That is one unit of the chip; there are many."),
        ],
    )


def _intensity() -> Exercise:
    n = 1024
    flops, values = 2 * n**3, 3 * n**2
    return number(
        flops / (4 * values),
        "FLOP/B",
        slips=[
            Slip(flops / (2 * values), "That is for numbers of two bytes; fp32 has four."),
            Slip(flops / values, "That is per number; how many bytes has one in fp32?"),
            Slip(flops / 2 / (4 * values), "A multiply-add is two operations."),
            Slip(flops / (4 * 2 * n**2), "The result is written too: three matrices move."),
        ],
    )


def _tiled_bytes(n: float, tile: float) -> float:
    return 4 * (2 * n**3 / tile + n**2)


EXERCISES: dict[str, Exercise] = {
    "peak": _peak(),
    "intensity": _intensity(),
    "tiled-bytes": function(
        _tiled_bytes,
        cases=[(1024, 64), (4096, 128), (100, 10), (64, 64)],
        rel=1e-3,
        slips=[
            Slip(
                lambda n, tile: 4 * (2 * n**3 / tile**2 + n**2),
                "A tile of side t is used t times, not t squared times, before it is left.",
            ),
            Slip(
                lambda n, tile: 2 * n**3 / tile + n**2,
                "Those are numbers; each has four bytes.",
            ),
            Slip(
                lambda n, tile: 4 * (n**3 / tile + n**2),
                "Both operands are read again for each row or column of tiles.",
            ),
            Slip(
                lambda n, tile: 4 * 2 * n**3 / tile,
                "And the result: it is written once.",
            ),
        ],
    ),
    "skinny": number(
        SystolicArray(128, 128).utilisation(8, 4096, 4096, double_buffered=True),
        rel=0.03,
        slips=[
            Slip(100 * 8 / 128, "That is per cent; give a share below one."),
            Slip(1.0, "Eight rows stream through while 128 rows of weights are shifted in."),
            Slip(8.0 / 4096, "It is the array's side that counts, not the matrix's."),
            Slip(128 / 8, "Upside down: a share of the peak is below one."),
            Slip(
                SystolicArray(128, 128).utilisation(8, 4096, 4096),
                "That is without the second set of weights, which loads while the first works.",
            ),
        ],
    ),
    "lanes": number(
        lane_utilisation(range(1, WARP + 1)),
        rel=0.02,
        slips=[
            Slip(
                100 * lane_utilisation(range(1, WARP + 1)),
                "That is per cent; give a share below one.",
            ),
            Slip(1.0, "All lanes wait for the one that goes around most often."),
            Slip(1 / WARP, "More than one lane is at work: count all of their steps."),
            Slip(
                sum(range(1, WARP + 1)) / WARP,
                "That is the mean number of steps; divide it by the steps issued.",
            ),
        ],
    ),
}
