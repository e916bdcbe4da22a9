"""Chips that run models: dense peaks, memory and link of one package.

Form factor is part of a chip's name, because the SXM and the PCIe card of one name differ in
clock, memory and power. What a maker does not publish is ``None``, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from stackkit.atlas.load import facts_of, pick, table
from stackkit.core.fact import Fact


@dataclass(frozen=True)
class Accelerator:
    """One accelerator, in SI units. ``facts`` holds the sources of all the numbers."""

    id: str
    name: str
    maker: str
    year: int
    memory_kind: str
    facts: dict[str, Fact] = field(hash=False)

    @property
    def peak_flops_per_s(self) -> dict[str, float]:
        """Dense peak by number format, for example ``["bf16"]``."""
        return {
            quantity.removeprefix("peak_").removesuffix("_flops_per_s"): fact.value
            for quantity, fact in self.facts.items()
            if quantity.startswith("peak_")
        }

    @property
    def memory_bytes(self) -> float:
        """Capacity, decimal."""
        return self.facts["memory_bytes"].value

    @property
    def memory_bytes_per_s(self) -> float:
        """Memory bandwidth at the datasheet's clock."""
        return self.facts["memory_bytes_per_s"].value

    @property
    def link_bytes_per_s(self) -> float | None:
        """Bandwidth to the other chips of its domain, one direction."""
        return self._value("link_bytes_per_s")

    @property
    def tdp_w(self) -> float | None:
        """Maximum power of the package."""
        return self._value("tdp_w")

    @property
    def die_area_mm2(self) -> float | None:
        """Area of the compute die, or of all of them together."""
        return self._value("die_area_mm2")

    def _value(self, quantity: str) -> float | None:
        return self.facts[quantity].value if quantity in self.facts else None


@cache
def accelerator(name: str) -> Accelerator:
    """One chip by its id, for example ``"h100-sxm"``.

    Raises:
        ValueError: when the atlas has none, with the ids it has.
    """
    entry = pick("accelerators", name)
    return Accelerator(
        id=name,
        name=entry["name"],
        maker=entry["maker"],
        year=entry["year"],
        memory_kind=entry["memory_kind"],
        facts=facts_of(name),
    )


def accelerators() -> list[Accelerator]:
    """All chips, in the order of the file."""
    return [accelerator(name) for name in table("accelerators")]
