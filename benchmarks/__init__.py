"""Speed against peers: ``make bench`` runs every module of this folder.

Each states its ``NAME``, its ``GOAL`` and ``report() -> str``, Markdown with what was measured. No
test asks for a speed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stackkit.core.timing import Race
from stackkit.core.units import si

_HEAD = "| case | contestant | rate, median (p20 to p80) | time, reference = 1 | ours is |"


@dataclass(frozen=True)
class Row:
    """One race: our contestant first, the better peer last, as ``race`` wants them."""

    case: str  # what all contestants do, for example "copy"
    race: Race
    amount: float  # of work in each call, in ``unit``
    unit: str = "B"

    @property
    def verdict(self) -> str:
        """What the race shows; nothing when the machine had other work."""
        p20, _, p80 = next(iter(self.race.ratios.values()))
        if self.race.busy:
            return "machine busy: no claim"
        return "slower" if p20 > 1 else "faster" if p80 < 1 else "level"


def race_table(rows: Iterable[Row]) -> str:
    """Races as one table; ``verdict`` stands beside our contestant, the first of each."""
    return "\n".join([_HEAD, "|---" * 5 + "|", *(line for row in rows for line in _lines(row))])


def _lines(row: Row) -> Iterator[str]:
    verdict = row.verdict
    for name, time in row.race.timings.items():
        seconds = (time.median_s, time.p80_s, time.p20_s)  # slow calls have low rates
        rate, low, high = (si(row.amount / s, f"{row.unit}/s") for s in seconds)
        p20, ratio, p80 = row.race.ratios[name]
        against = f"{ratio:.2f} ({p20:.2f} to {p80:.2f})" if name != row.race.reference else "1"
        yield f"| {row.case} | {name} | {rate} ({low} to {high}) | {against} | {verdict} |"
        verdict = ""
