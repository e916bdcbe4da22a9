"""Plotly figures that everyone can read.

``show`` puts three things on the page: the plot with its alt text, a caption that states the
finding, and the plot's own data as a folded table. The same call serves JupyterLab, Colab and the
book; the book's page script adds the light and dark theme. Colours here are readable on both.
"""

from __future__ import annotations

import json
import math
import os
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Told apart by people with any form of colour blindness when paired with SYMBOLS or DASHES, and
# readable on white and on near-black: contrast of 3:1 or more with both (tests/core).
PALETTE = ("#2b7bba", "#c75d0e", "#1b8a5a", "#b8478f", "#8064c8", "#8a7a1f")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

PLOTLY_MIME = "application/vnd.plotly.v1+json"


def new_figure(title: str, x_title: str, y_title: str, *, log: str = "", height: int = 440):
    """An empty plotly figure with labelled axes.

    Args:
        title: what is plotted, in a few words; the finding belongs in the caption.
        x_title: the axis with its unit, for example ``"working set (B)"``.
        y_title: likewise.
        log: which axes are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``. The axis says so.
        height: in pixels.

    Raises:
        ModuleNotFoundError: when plotly is not installed, with the command that installs it.
    """
    go = _graph_objects()
    axes = {}
    for name, axis_title in (("x", x_title), ("y", y_title)):
        is_log = name in log
        axes[f"{name}axis"] = {
            "title": {"text": f"{axis_title}, log scale" if is_log else axis_title},
            "type": "log" if is_log else "linear",
            "automargin": True,
        }
    layout = {
        "template": None,
        "title": {"text": title, "x": 0, "xanchor": "left", "xref": "container", "pad": {"l": 8}},
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 56, "b": 56},
        "legend": {"orientation": "h", "yanchor": "top", "y": -0.26, "x": 0},
        **axes,
    }
    return go.Figure(layout=layout)


def show(figure: Figure, *, caption: str, alt: str) -> None:
    """Display a figure with its caption, its alt text and its data.

    Args:
        figure: a plotly figure.
        caption: the finding, as a sentence about what the plot shows.
        alt: what someone who cannot see the plot should know of it: axes, shape, finding.

    Raises:
        ValueError: when caption or alt is empty, or the figure has no data.
    """
    try:
        from IPython.display import display
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'Showing a figure needs IPython. Install it with: pip install "ipython>=7.34"'
        ) from None
    if not caption.strip() or not alt.strip():
        raise ValueError("A figure needs a caption that states its finding, and an alt text.")
    if not figure.data:
        raise ValueError("A figure needs data; this one has no trace.")
    figure.update_layout(meta={**(figure.layout.meta or {}), "alt": alt})
    if "COLAB_RELEASE_TAG" in os.environ:  # Colab draws plotly through its own renderer
        figure.show()
    else:
        display({PLOTLY_MIME: json.loads(figure.to_json()), "text/plain": alt}, raw=True)
    html = f'<p class="sk-caption">{escape(caption)}</p>{data_table(figure)}'
    display({"text/html": html, "text/plain": caption}, raw=True)


def data_table(figure: Figure) -> str:
    """The figure's points as a folded HTML table: series, x, y."""
    layout = figure.to_plotly_json()["layout"]
    heads = ["series", *(layout[axis]["title"]["text"] for axis in ("xaxis", "yaxis"))]
    rows = [
        (trace.name or "", _cell(x), _cell(y))
        for trace in figure.data
        for x, y in zip(range(len(trace.y)) if trace.x is None else trace.x, trace.y, strict=True)
    ]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        '<details class="sk-data"><summary>Data of this figure</summary>'
        '<div class="sk-scroll" tabindex="0"><table class="dataframe">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Axis settings that label a logarithmic axis from ``low`` to ``high`` readably.

    Whole decades when the axis spans three or more; 1, 2 and 5 in each when it spans fewer.
    Plotly's own choice prints a lone "2" between 10 and 100.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if math.log10(high / low) >= 3 else (1, 2, 5)
    values = [step * 10.0**decade for decade in range(first, last + 1) for step in steps]
    values = [value for value in values if low <= value * 1.001 and value <= high * 1.001]
    values = values if len(values) > 1 else [low, high]
    return {"tickvals": rounded(values), "ticktext": [f"{value:,g}" for value in rounded(values)]}


def rounded(values: Any, digits: int = 4) -> list[float]:
    """Plain floats with few digits: stored notebooks stay small and their diffs readable."""
    return [float(f"{float(value):.{digits}g}") for value in values]


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or math.isnan(value) else f"{value:.4g}"


def _graph_objects():
    try:
        import plotly.graph_objects as go
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'Figures need plotly. Install it with: pip install "plotly>=5.24"'
        ) from None
    return go
