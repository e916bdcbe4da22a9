"""A renderer for plotly's mime type, which myst-nb lacks.

The figure's JSON goes into the page; ``static/stackkit.js`` draws it when it comes into view, with
the one copy of plotly.js that the book serves itself. Registered as an entry point of the group
``myst_nb.mime_renderers`` in pyproject.toml, the only way that myst-nb finds it.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from docutils import nodes

from stackkit.core.figures import PLOTLY_MIME

DEFAULT_HEIGHT_PX = 440


class PlotlyMime:
    """myst-nb's protocol: ``mime_priority_overrides`` and ``handle_mime``."""

    mime_priority_overrides = (("*", PLOTLY_MIME, 5),)

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Node] | None:
        if inline or data.mime_type != PLOTLY_MIME:
            return None
        figure = data.content
        if not isinstance(figure, dict):
            figure = json.loads(figure)
        return [nodes.raw("", figure_html(figure), format="html", classes=["sk-has-figure"])]


def figure_html(figure: dict[str, Any]) -> str:
    """The placeholder that the page script fills.

    Raises:
        ValueError: when the figure has no alt text (``layout.meta.alt``): use ``figures.show``.
    """
    layout = figure.get("layout", {})
    alt = (layout.get("meta") or {}).get("alt", "")
    if not alt:
        raise ValueError(
            "A plotly figure has no alt text; show it with stackkit.core.figures.show."
        )
    payload = json.dumps(
        {"data": figure.get("data", []), "layout": layout, "frames": figure.get("frames") or []},
        separators=(",", ":"),
    ).replace("<", "\\u003c")  # a label must neither close the script element nor open a comment
    height = int(layout.get("height", DEFAULT_HEIGHT_PX))
    return (
        f'<div class="sk-plotly" role="figure" aria-label="{escape(alt)}" '
        f'style="min-height:{height}px"><script type="application/json">{payload}</script>'
        "<noscript>This figure is drawn with JavaScript; its data are in the table below."
        "</noscript></div>"
    )
