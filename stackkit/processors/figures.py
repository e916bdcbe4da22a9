"""The climb, drawn under the roofs of the machine it was made on."""

from __future__ import annotations

from stackkit.core.figures import PALETTE, SYMBOLS, log_ticks, rounded
from stackkit.core.units import GIGA
from stackkit.memory.figures import roofline_figure
from stackkit.processors.climb import Climb


def climb_figure(climb: Climb):
    """Each rung as a marker: across, FLOP per byte that it should move; up, what it reached.

    Returns:
        A plotly figure; hand it to ``core.figures.show``.
    """
    names = {"one": "one core", "all": "all cores"}
    roofs = {names[cores]: roof for cores, roof in climb.roofs.items()}
    intensities = [step.intensity for step in climb.steps]
    ends = (min(0.25, *intensities), 4 * max(64, *intensities))
    figure = roofline_figure(roofs, intensities=ends, title="The climb, under both roofs")
    lowest = min(step.flops_per_s for step in climb.steps) / GIGA
    highest = max(roof.peak_flops_per_s for roof in climb.roofs.values()) / GIGA
    for i, (cores, name) in enumerate(names.items()):
        steps = [step for step in climb.steps if step.rung.cores == cores]
        figure.add_scatter(
            x=rounded(step.intensity for step in steps),
            y=rounded(step.flops_per_s / GIGA for step in steps),
            text=[step.rung.name for step in steps],
            textposition=_spread(len(steps), "left" if cores == "one" else "right"),
            mode="markers+text",
            name=f"rungs on {name}",
            marker={"color": PALETTE[2 + i], "symbol": SYMBOLS[i], "size": 10},
        )
    figure.update_yaxes(log_ticks(lowest, highest))
    return figure


def _spread(number: int, side: str) -> list[str]:
    """Places for labels of markers that lie close together: below, beside and above in turn."""
    heights = ("bottom", "middle", "top") if side == "right" else ("bottom", "top")
    return [f"{heights[i % len(heights)]} {side}" for i in range(number)]
