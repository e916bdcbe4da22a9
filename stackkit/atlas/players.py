"""Who makes what: companies, projects and their products, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from stackkit.atlas.layers import layer as layer_named
from stackkit.atlas.load import sources, table, things
from stackkit.atlas.sheet import Sheet
from stackkit.core.fact import Source


@dataclass(frozen=True)
class Player(Sheet):
    """One company or project in one group. A company in several groups is several players."""

    layers: tuple[str, ...]
    group: str  # "GPU clouds", "Serving and inference", ...
    products: tuple[str, ...]
    role: str  # what it does for the stack, in a line
    note: str  # what time has changed, dated
    also: tuple[str, ...]  # older names, and how the articles spell it
    source: Source  # where the note, or else the role, was seen

    def names(self) -> tuple[str, ...]:
        """Everything it can be found by: its names, its products and its group."""
        return (self.name, *self.also, *self.products, self.group)


@cache
def _players() -> tuple[Player, ...]:
    return tuple(
        Player(
            id=name,
            name=entry["name"],
            facts=things()[name].facts,
            layers=tuple(entry["layers"]),
            group=entry["group"],
            products=tuple(entry["products"]),
            role=entry["role"],
            note=entry.get("note", ""),
            also=tuple(entry.get("also", ())),
            source=sources()[entry["source"]],
        )
        for name, entry in table("players").items()
    )


def players(layer: str | None = None) -> list[Player]:
    """All players, or those of one layer: by group as the file has them, then alphabetical.

    Raises:
        ValueError: when there is no such layer, with those there are.
    """
    if layer is not None:
        layer_named(layer)
    groups = list(dict.fromkeys(player.group for player in _players()))
    found = [player for player in _players() if layer is None or layer in player.layers]
    return sorted(found, key=lambda player: (groups.index(player.group), player.name.casefold()))
