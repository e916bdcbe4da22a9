"""Memory technologies: how wide one device is and how fast a wire of it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from stackkit.atlas.load import facts_of, pick
from stackkit.core.fact import Fact


@dataclass(frozen=True)
class MemoryTechnology:
    """One memory standard. ``device`` says what the bus width belongs to."""

    id: str
    name: str
    device: str  # "stack", "chip", "module" or "channel"
    facts: dict[str, Fact] = field(hash=False)

    @property
    def bus_bits(self) -> float | None:
        """Data wires of one device; None where the atlas has no figure."""
        return self._value("bus_bits")

    @property
    def bits_per_s_per_pin(self) -> float | None:
        """Transfers on one data wire; None where the atlas has no figure."""
        return self._value("bits_per_s_per_pin")

    def _value(self, quantity: str) -> float | None:
        return self.facts[quantity].value if quantity in self.facts else None


@cache
def memory(name: str) -> MemoryTechnology:
    """One technology by its id, for example ``"hbm3"``.

    Raises:
        ValueError: when the atlas has none, with the ids it has.
    """
    entry = pick("memories", name)
    return MemoryTechnology(name, entry["name"], entry["device"], facts_of(name))
