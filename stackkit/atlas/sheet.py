"""What chips, memories and links have in common: an id, a name, and facts by quantity."""

from __future__ import annotations

from dataclasses import dataclass, field

from stackkit.core.fact import Fact


@dataclass(frozen=True)
class Sheet:
    """One thing's data sheet. What its maker does not publish is ``None``, never a guess."""

    id: str
    name: str
    facts: dict[str, Fact] = field(hash=False, repr=False)

    def value(self, quantity: str) -> float | None:
        """The number alone, in base units; None where the atlas has no such fact."""
        return self.facts[quantity].value if quantity in self.facts else None
