"""A number that knows where it comes from.

Every figure of the book is a ``Fact``: value, unit, kind and source, with the date the source
was seen and the date it speaks for. A fact without a source cannot be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from stackkit.core.units import si

Kind = Literal["datasheet", "paper", "record", "vendor-claim", "estimate", "derived", "measured"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Fact:
    """One sourced number, in SI base units.

    Raises:
        ValueError: when the kind is unknown, the source or its address is missing, or the
            interval ``[low, high]`` does not hold the value.
    """

    value: float
    unit: str  # "B/s", "FLOP/s", ... ; "" for a count
    kind: Kind
    source: str  # title of the document
    url: str
    seen_on: str  # ISO date on which we read it
    as_of: str  # date the document speaks for: a year, a month or a day
    low: float | None = None  # where sources differ, or the estimate's interval
    high: float | None = None
    note: str = ""  # dense or sparse, per direction, what else is in print

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"A fact's kind is one of {', '.join(KINDS)}; got {self.kind!r}.")
        for name in ("source", "url", "seen_on", "as_of"):
            if not getattr(self, name):
                raise ValueError(
                    f"A fact needs a {name}; {self.value!r} {self.unit} has none. "
                    "Add where the number was seen."
                )
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:
            raise ValueError(
                f"A fact's value lies in its interval; {self.value!r} is outside [{low}, {high}]."
            )

    def __str__(self) -> str:
        return si(self.value, self.unit)

    def provenance(self) -> str:
        """One line that says where the number comes from, as the book's tooltips print it."""
        line = f"{self.kind}: {self.source}, {self.as_of}; seen {self.seen_on}"
        return f"{line}. {self.note}" if self.note else line
