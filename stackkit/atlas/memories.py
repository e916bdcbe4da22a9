"""Memory technologies and the links between chips: how wide, and how fast a wire runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from stackkit.atlas.load import facts_of, pick, table
from stackkit.atlas.sheet import Sheet


@dataclass(frozen=True)
class MemoryTechnology(Sheet):
    """One memory standard. ``device`` says what the bus width belongs to."""

    device: str  # "stack", "chip", "module" or "channel"
    after: str | None  # the generation before it

    @property
    def bus_bits(self) -> float | None:
        """Data wires of one device; None where the atlas has no figure."""
        return self.value("bus_bits")

    @property
    def bits_per_s_per_pin(self) -> float | None:
        """Transfers on one data wire; None where the atlas has no figure."""
        return self.value("bits_per_s_per_pin")


@dataclass(frozen=True)
class Link(Sheet):
    """One way to move bytes between chips, as one chip or one port sees it."""

    layer: str  # "memory" inside a server's domain, "systems" between servers
    after: str | None

    @property
    def one_way_bytes_per_s(self) -> float | None:
        """Bandwidth in one direction, all lanes together; datasheets often print both."""
        return self.value("one_way_bytes_per_s")


@cache
def memory(name: str) -> MemoryTechnology:
    """One technology by its id, for example ``"hbm3"``.

    Raises:
        ValueError: when the atlas has none, with near ids.
    """
    entry = pick("memories", name)
    return MemoryTechnology(
        name, entry["name"], facts_of(name), entry["device"], entry.get("after")
    )


def memories() -> list[MemoryTechnology]:
    """All memory technologies, in the order of the file."""
    return [memory(name) for name in table("memories")]


@cache
def link(name: str) -> Link:
    """One link by its id, for example ``"nvlink-4"``.

    Raises:
        ValueError: when the atlas has none, with near ids.
    """
    entry = pick("links", name)
    return Link(name, entry["name"], facts_of(name), entry["layer"], entry.get("after"))


def links() -> list[Link]:
    """All links, in the order of the file."""
    return [link(name) for name in table("links")]
