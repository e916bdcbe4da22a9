"""Chips that run models: dense peaks, memory and link of one package.

Form factor is part of a chip's name, because the SXM and the PCIe card of one name differ in
clock, memory and power. What a maker does not publish is ``None``, never a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from stackkit.atlas.load import facts_of, pick, table
from stackkit.atlas.sheet import Sheet


@dataclass(frozen=True)
class Accelerator(Sheet):
    """One chip, in SI units. ``facts`` holds the sources of all the numbers."""

    maker: str
    year: int
    memory_kind: str
    after: str | None  # the generation before it

    @property
    def peak_flops_per_s(self) -> dict[str, float]:
        """Dense peak by number format, for example ``["bf16"]``; of int8 in operations."""
        dense = re.compile(r"peak_([a-z0-9]+)_dense_(flops|ops)_per_s")
        return {
            match.group(1): fact.value
            for quantity, fact in self.facts.items()
            if (match := dense.fullmatch(quantity))
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
        return self.value("link_one_way_bytes_per_s")

    @property
    def tdp_w(self) -> float | None:
        """Maximum power of the package."""
        return self.value("tdp_w")

    @property
    def die_area_mm2(self) -> float | None:
        """Area of one compute die; a package may hold several."""
        return self.value("die_area_mm2")

    @property
    def compute_dies(self) -> int:
        """Compute dies in the package, one where nothing else is printed."""
        return int(self.value("compute_dies") or 1)


@cache
def accelerator(name: str) -> Accelerator:
    """One chip by its id, for example ``"h100-sxm"``.

    Raises:
        ValueError: when the atlas has none, with near ids.
    """
    entry = pick("accelerators", name)
    return Accelerator(
        id=name,
        name=entry["name"],
        facts=facts_of(name),
        maker=entry["maker"],
        year=entry["year"],
        memory_kind=entry["memory_kind"],
        after=entry.get("after"),
    )


def accelerators() -> list[Accelerator]:
    """All chips, in the order of the file."""
    return [accelerator(name) for name in table("accelerators")]
