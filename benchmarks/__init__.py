"""Speed against peers: ``make bench`` runs every module of this folder.

Each states its ``NAME``, its ``GOAL`` and ``run() -> list[Row]``. No test asks for a speed.
"""

from dataclasses import dataclass

from stackkit.core.timing import Race


@dataclass(frozen=True)
class Row:
    """One race: our contestant first, the better peer last, as ``race`` wants them."""

    case: str  # what all contestants do, for example "copy"
    race: Race
    bytes_moved: int  # in each call, as the case asks for them

    @property
    def verdict(self) -> str:
        """What the race shows; nothing when the machine had other work."""
        p20, _, p80 = next(iter(self.race.ratios.values()))
        if self.race.busy:
            return "machine busy: no claim"
        return "slower" if p20 > 1 else "faster" if p80 < 1 else "level"
