"""The roofline, drawn: roofs as lines, workloads as upright lines, measurements as markers.

``step_on_roofline`` is one combination of a figure with choices: a chip, a model, a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from stackkit.atlas import Accelerator, ModelSpec
from stackkit.core.figures import DASHES, PALETTE, SYMBOLS, log_ticks, new_figure, rounded
from stackkit.core.units import GIGA, TERA, si
from stackkit.memory.cost import decode_step, max_batch, prefill
from stackkit.memory.roofline import Roofline, roofline_of


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


_INTENSITIES = (0.5, 8192)
_TFLOP_PER_S = (0.5, 4000)


def step_on_roofline(chip: Accelerator, model: ModelSpec, batch: int, *, context: int):
    """A decode step of ``batch`` requests, and the prefill of one prompt, under a chip's roof.

    Args:
        chip: one of them, its datasheet's bf16.
        model: in bf16, weights and cache.
        batch: requests that share the step.
        context: tokens of each, and of the prompt.

    Returns:
        (figure, sentence): upright lines end where the lower bound of the time puts them.
    """
    roof = roofline_of(chip)
    step = decode_step(model, chip, batch=batch, context=context)
    prompt = prefill(model, chip, tokens=context)
    figure = new_figure(
        "One chip, one model", "intensity (FLOP/B)", "attainable (TFLOP/s)", log="xy", height=460
    )
    left, right = _INTENSITIES
    xs = [left, roof.ridge_point, right]
    figure.add_scatter(
        x=rounded(xs),
        y=rounded(roof.attainable(x) / TERA for x in xs),
        name=f"{chip.name}, ridge at {roof.ridge_point:.0f}",
        mode="lines+markers",
        marker={"symbol": "line-ns-open", "size": [0, 14, 0], "color": PALETTE[0]},
        line={"color": PALETTE[0], "width": 2.5},
    )
    for i, (name, cost) in enumerate((("decode step", step), ("prefill", prompt)), 1):
        intensity = cost.flops / (cost.weight_bytes + cost.kv_bytes)
        figure.add_scatter(
            x=rounded([intensity, intensity]),
            y=rounded([_TFLOP_PER_S[0], cost.flops / cost.lower_s / TERA]),
            name=name,
            mode="lines",
            line={"color": PALETTE[i], "dash": DASHES[i], "width": 4},
        )
    figure.update_xaxes(log_ticks(left, right), range=_decades(_INTENSITIES))
    figure.update_yaxes(log_ticks(*_TFLOP_PER_S), range=_decades(_TFLOP_PER_S))
    return figure, _sentence(chip, model, batch, context, step)


def _sentence(chip, model, batch, context, step) -> str:
    fits = max_batch(model, chip, context=context)
    cached = step.kv_bytes / (step.kv_bytes + step.weight_bytes)
    waits = {"memory": "waits for memory", "compute": "waits for the multipliers"}[step.bound]
    speed = (
        f"A step takes {si(step.lower_s, 's')} to {si(step.upper_s, 's')} and {waits}: at most "
        f"{si(batch / step.lower_s)} tokens a second in all, {si(1 / step.lower_s)} for each. "
        f"Of the bytes it reads, {cached:.0%} are cache."
    )
    if fits == 0:
        return f"The weights do not fit this chip. If they did: {speed}"
    if fits < batch:
        return f"Only {fits:,} such requests fit. If more did: {speed}"
    return f"{speed} Of such requests, {fits:,} fit."


def _decades(ends: tuple[float, float]) -> list[float]:
    return [math.log10(end) for end in ends]
