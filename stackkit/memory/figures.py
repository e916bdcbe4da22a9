"""The roofline, drawn: roofs as lines, workloads as upright lines, measurements as markers."""

from __future__ import annotations

from collections.abc import Mapping

from stackkit.core.figures import DASHES, PALETTE, SYMBOLS, log_ticks, new_figure, rounded
from stackkit.core.units import GIGA, TERA
from stackkit.memory.roofline import Roofline


def roofline_figure(
    roofs: Mapping[str, Roofline],
    *,
    workloads: Mapping[str, float] | None = None,
    measured: Mapping[str, tuple[float, float]] | None = None,
    intensities: tuple[float, float] = (0.25, 4096),
    title: str = "Roofline",
):
    """A log-log roofline plot.

    Args:
        roofs: name -> roofline; one broken line each, flat from the ridge point on.
        workloads: name -> intensity in FLOP/B; an upright line each (modelled).
        measured: name -> (intensity, FLOP/s); a marker each.
        intensities: the x axis, in FLOP/B.
        title: of the figure.

    Returns:
        A plotly figure; hand it to ``core.figures.show``. FLOP/s are in TFLOP/s, or in GFLOP/s
        when every roof is below 10 TFLOP/s.

    Raises:
        ValueError: when there is no roof, or the x axis does not go from low to high above zero.
    """
    if not roofs:
        raise ValueError("A roofline figure needs at least one roof; got none.")
    if not 0 < intensities[0] < intensities[1]:
        raise ValueError(f"intensities go from low to high, above zero; got {intensities!r}.")
    highest = max(roof.peak_flops_per_s for roof in roofs.values())
    scale, unit = (TERA, "TFLOP/s") if highest >= 10 * TERA else (GIGA, "GFLOP/s")
    figure = new_figure(title, "intensity (FLOP/B)", f"attainable ({unit})", log="xy", height=480)
    left, right = intensities
    lowest = min(roof.attainable(left) for roof in roofs.values()) / scale
    for i, (name, roof) in enumerate(roofs.items()):
        xs = [left, *([roof.ridge_point] if left < roof.ridge_point < right else []), right]
        figure.add_scatter(
            x=rounded(xs),
            y=rounded(roof.attainable(x) / scale for x in xs),
            name=name,
            mode="lines",
            line={
                "color": PALETTE[i % len(PALETTE)],
                "dash": DASHES[i % len(DASHES)],
                "width": 2.5,
            },
        )
    for i, (name, intensity) in enumerate((workloads or {}).items()):
        figure.add_scatter(
            x=rounded([intensity, intensity]),
            y=rounded([lowest, 1.3 * highest / scale]),
            name=f"{i + 1}: {name}",
            mode="lines+text",
            text=["", f"{i + 1}"],
            textposition="top center",
            line={"color": "#808890", "width": 1.5, "dash": "dot"},
        )
    for i, (name, (intensity, flops_per_s)) in enumerate((measured or {}).items()):
        figure.add_scatter(
            x=rounded([intensity]),
            y=rounded([flops_per_s / scale]),
            name=name,
            mode="markers",
            marker={
                "color": PALETTE[-1 - i % len(PALETTE)],  # the roofs take the first ones
                "symbol": SYMBOLS[i % len(SYMBOLS)],
                "size": 12,
                "line": {"width": 1.5, "color": "#ffffff"},
            },
        )
    figure.update_xaxes(log_ticks(left, right))
    figure.update_yaxes(log_ticks(lowest, highest / scale))
    return figure
