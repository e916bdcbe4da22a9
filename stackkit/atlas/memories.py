"""Memory technologies: how wide one device is and how fast a wire of it runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from stackkit.atlas.load import facts_of, pick
from stackkit.core.fact import Fact


@dataclass(frozen=True)
class MemoryTechnology:
    """One memory standard. ``device`` says what the bus width belongs to."""

    id: str
    name: str
    device: str  # "stack", "chip" or "module"
    facts: dict[str, Fact]

    @property
    def bus_bits(self) -> float:
        """Data wires of one device."""
        return self.facts["bus_bits"].value

    @property
    def bits_per_s_per_pin(self) -> float:
        """Transfers on one data wire."""
        return self.facts["bits_per_s_per_pin"].value


@cache
def memory(name: str) -> MemoryTechnology:
    """One technology by its id, for example ``"hbm3"``.

    Raises:
        ValueError: when the atlas has none, with the ids it has.
    """
    entry = pick("memories", name)
    return MemoryTechnology(name, entry["name"], entry["device"], facts_of(name))
