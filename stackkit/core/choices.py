"""A figure that the reader changes with up to three controls, with no kernel behind it.

Every combination is computed beforehand and stored with the figure; the book's page script makes
the controls (a select each, the last one a slider), and swaps the points, the sentence and the
table. Elsewhere, and on paper, the figure shows its first combination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from stackkit.core.figures import show

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_CONTROLS = 3
MOST_COMBINATIONS = 600


def show_choices(
    draw: Callable[..., tuple[Figure, str]],
    choices: Mapping[str, Sequence[str]],
    *,
    start: Sequence[str],
    caption: str,
    alt: str,
) -> None:
    """Display a figure with controls.

    Args:
        draw: called with one option of each control; returns the figure, and a sentence that
            says what it shows. All figures have the same traces in the same order, and the same
            axes; only points and names differ.
        choices: label of a control -> its options; the last control becomes a slider.
        start: the combination that is shown first.
        caption: as for ``figures.show``; true whatever is chosen.
        alt: as for ``figures.show``, of the first combination.

    Raises:
        ValueError: for too many controls or combinations, an option that is not there, or figures
            whose traces differ in number.
    """
    combinations = _combinations(choices, start)
    frames, said = [], []
    for combination in combinations:
        figure, sentence = draw(*combination)
        frames.append(_points(figure))
        said.append(sentence)
    if len({len(frame) for frame in frames}) != 1:
        raise ValueError("Every combination draws the same traces; these differ in number.")
    first, _ = draw(*start)
    meta = {
        "controls": [{"label": label, "options": list(o)} for label, o in choices.items()],
        "start": [list(o).index(s) for o, s in zip(choices.values(), start, strict=True)],
        "frames": frames,  # the last control's options follow each other
        "said": said,
    }
    first.update_layout(meta=meta)
    show(first, caption=caption, alt=alt)


def _combinations(
    choices: Mapping[str, Sequence[str]], start: Sequence[str]
) -> list[tuple[str, ...]]:
    if not 1 <= len(choices) <= MOST_CONTROLS:
        raise ValueError(f"A figure has 1 to {MOST_CONTROLS} controls; got {len(choices)}.")
    number = prod(len(options) for options in choices.values())
    if not 0 < number <= MOST_COMBINATIONS:
        raise ValueError(
            f"A figure stores 1 to {MOST_COMBINATIONS} combinations; these are {number}."
        )
    if len(start) != len(choices):
        raise ValueError(f"start names one option of each of {list(choices)}; got {list(start)}.")
    for (label, options), chosen in zip(choices.items(), start, strict=True):
        if chosen not in options:
            raise ValueError(f"{label} starts with {chosen!r}; its options are {list(options)}.")
    return list(product(*choices.values()))


def _points(figure: Figure) -> list[dict[str, Any]]:
    """What changes from one combination to the next, trace by trace."""
    return [
        {"x": list(trace.x), "y": list(trace.y), "name": trace.name or ""} for trace in figure.data
    ]
