"""The Sphinx extension of the book: one line for each of its parts."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from stackkit.book import (
    facts_page,
    finder,
    freshness,
    numbers,
    players_page,
    speed_table,
    stack,
    theme,
)

PARTS = (facts_page, finder, freshness, numbers, players_page, speed_table, stack, theme)


def setup(app: Sphinx) -> dict[str, Any]:
    for part in PARTS:
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
