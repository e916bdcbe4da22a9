"""The page of all players: who makes what, layer by layer, alphabetical within a group."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import groupby

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from stackkit.atlas.layers import Layer, layer, layers
from stackkit.atlas.players import Player, players
from stackkit.book.finder import cells_of, html, link, opening, table

HEADS = ("Who", "Makes", "What it does for the stack")


class PlayersTable(SphinxDirective):
    """All players, to search; or those of one layer, for its chapter: ``{players-table} memory``.

    One that acts in several layers stands in each.
    """

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments:
            return self._one_layer(self.arguments[0])
        sections = [_section(shown, found) for shown in layers() if (found := players(shown.name))]
        return [html(opening("players", by_age=False, rows="rows")), *sections, html("</div>")]

    def _one_layer(self, name: str) -> list[nodes.Node]:
        try:
            shown = layer(name)
        except ValueError as error:
            raise self.error(str(error)) from None
        deal = html(
            f"<p><strong>Bottleneck:</strong> {escape(shown.bottleneck)}. "
            f"<strong>Where the money stays:</strong> {escape(shown.value)}.</p>"
        )
        return [
            deal,
            html('<div class="sk-finder sk-still">', _table(shown, players(name)), "</div>"),
        ]


def _section(shown: Layer, found: list[Player]) -> nodes.section:
    section = nodes.section(ids=[f"players-{shown.name}"], classes=["sk-players-layer"])
    section += nodes.title("", f"{shown.number} {shown.title}")
    section += html(_table(shown, found))
    return section


def _table(shown: Layer, found: list[Player], *, full: bool = True) -> str:
    """Rows by group; ``full`` ones have other names, and titles of sources."""
    groups = groupby(found, key=lambda player: player.group)
    bodies = (_group(group, shown, members, full) for group, members in groups)
    return table("sk-players", HEADS, bodies)


def _group(group: str, shown: Layer, members: Iterable[Player], full: bool) -> str:
    head = f'<th colspan="{len(HEADS)}" scope="rowgroup">{escape(group)}</th>'
    rows = "".join(_row(player, shown, full) for player in members)
    return f'<tbody><tr class="sk-group">{head}</tr>{rows}</tbody>'


def _row(player: Player, shown: Layer, full: bool) -> str:
    also, note = "", ""
    if player.also and full:
        also = f"<p>also {escape(', '.join(player.also), quote=False)}</p>"
    if player.note:
        seen = f"{player.source.title}, {player.source.as_of}" if full else "source"
        note = f"<p>{escape(player.note, quote=False)} ({link(player.source.url, seen)})</p>"
    makes = escape(", ".join(player.products), quote=False) + also
    cells = cells_of(player.name, makes, escape(player.role, quote=False) + note)
    return f'<tr id="{player.id}-{shown.name}" data-layer="{shown.number}">{cells}</tr>'


def setup(app: Sphinx) -> None:
    app.add_directive("players-table", PlayersTable)
