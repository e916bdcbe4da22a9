"""A number that knows where it comes from.

Every figure of the book is a ``Fact``: value, unit, kind and source, with the date the source
was seen and the date it speaks for. A fact without a source cannot be made.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

from stackkit.core.units import si

Kind = Literal["datasheet", "paper", "record", "vendor-claim", "estimate", "derived", "measured"]
KINDS: tuple[str, ...] = get_args(Kind)

# primary: the document in which the figure belongs, opened; secondary: opened, and it reports the
# figure; quoted: where the figure belongs, but read only where others quote it.
Standing = Literal["primary", "secondary", "quoted"]
STANDINGS: tuple[str, ...] = get_args(Standing)
QUOTED = "read where others quote it; the document, its date and its address not checked"


@dataclass(frozen=True)
class Source:
    """A document that prints a figure: what it is, where, and when it was read."""

    title: str
    url: str
    as_of: str  # date the document speaks for: a year, a month or a day
    seen_on: str  # ISO date on which we read it
    standing: Standing

    def __post_init__(self) -> None:
        for name in ("title", "url", "as_of", "seen_on"):
            if not getattr(self, name):
                raise ValueError(f"A source needs a {name}; {self.title or self.url!r} has none.")
        if self.standing not in STANDINGS:
            raise ValueError(
                f"A source's standing is one of {', '.join(STANDINGS)}; got {self.standing!r}."
            )


@dataclass(frozen=True)
class Fact:
    """One sourced number, in SI base units.

    Raises:
        ValueError: when the kind is unknown, the source or its address is missing, a date is
            none, or the interval ``[low, high]`` does not hold the value.
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
    note: str = ""  # what the printed figure counts
    standing: Standing = "secondary"  # of the source
    witnesses: tuple[Source, ...] = ()  # other documents, opened, that print the same
    others: tuple[Fact, ...] = ()  # conflicting values in print; ``why`` says why not they
    why: str = ""
    history: tuple[Fact, ...] = ()  # values that were right in their time

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
        if bool(self.others) != bool(self.why):
            raise ValueError("A fact whose sources differ has others, and a why; give both.")

    def __str__(self) -> str:
        return si(self.value, self.unit)

    @property
    def evidence(self) -> str:
        """What the number rests on: a document of its own, two that report it, or an estimate."""
        if self.kind == "estimate":
            return "estimate"
        standings = [self.standing, *(witness.standing for witness in self.witnesses)]
        if "primary" in standings:
            return "primary source"
        return "two witnesses" if standings.count("secondary") > 1 else "one witness"

    def age_days(self, today: date | None = None) -> int:
        """Days since the last day that ``as_of`` can mean; a price older than 180 is flagged."""
        year, month, day = (*map(int, self.as_of.split("-")), 0, 0)[:3]
        month = month or 12
        last = date(year, month, day or monthrange(year, month)[1])
        return max(0, ((today or date.today()) - last).days)

    def provenance(self) -> str:
        """One line that says where the number comes from, as the book's tooltips print it."""
        line = f"{self.kind}: {self.source}, {self.as_of}; seen {self.seen_on}"
        notes = [self.note, *(f"also in print: {other} ({other.source})" for other in self.others)]
        notes += [self.why, QUOTED if self.standing == "quoted" else ""]
        return ". ".join([line, *(note.rstrip(".") for note in notes if note)])
