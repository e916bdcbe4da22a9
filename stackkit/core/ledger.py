"""One line of the prompt's bill.

Each layer adds entries for the same request; `journey` adds them up. An entry says per what it
counts, because a cost per token and a cost per request are a factor of hundreds apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from stackkit.core.units import si

Kind = Literal["fact", "modelled", "measured"]
Per = Literal["token", "request", "second"]


@dataclass(frozen=True)
class Entry:
    """What one layer adds to the bill.

    Raises:
        ValueError: when ``kind`` or ``per`` is none of its words, or the interval ``[low, high]``
            does not hold the value.
    """

    layer: str  # a layer's name, for example "memory"
    quantity: str  # what is counted, for example "weight bytes read"
    value: float
    unit: str
    kind: Kind
    low: float
    high: float
    per: Per

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"An entry is fact, modelled or measured; got kind={self.kind!r}.")
        if self.per not in get_args(Per):
            raise ValueError(f"An entry counts per token, request or second; got per={self.per!r}.")
        if not self.low <= self.value <= self.high:
            raise ValueError(
                f"An entry's value lies in its interval; {self.quantity} = {self.value!r} is "
                f"outside [{self.low!r}, {self.high!r}]."
            )

    def __str__(self) -> str:
        interval = ""
        if self.low != self.high:
            interval = f" ({si(self.low, self.unit)} to {si(self.high, self.unit)})"
        value = si(self.value, self.unit)
        return f"{self.layer}: {self.quantity} {value}{interval} per {self.per}, {self.kind}"
