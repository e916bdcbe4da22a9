"""What the engine and its peers reached on one machine, as ``make bench`` stored it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

STORED = Path(__file__).with_name("measured.json")


@dataclass(frozen=True)
class Rate:
    """Tokens per second of all requests together: median, and 20 and 80 percent."""

    requests: int
    contestant: str
    tokens_per_s: float
    low: float
    high: float


@dataclass(frozen=True)
class Serving:
    """One run of ``benchmarks/frameworks_serving.py``."""

    machine: str
    versions: str
    rates: list[Rate]
    parts_s: dict[str, float]  # seconds of a step of 16 requests, by where they go
    weights_s: float  # to read the weights once, at the bandwidth measured beside
    bytes_per_s: float


def serving() -> Serving:
    """The stored run."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    return Serving(
        stored["machine"],
        stored["versions"],
        [Rate(**{key: row[key] for key in Rate.__annotations__}) for row in stored["rows"]],
        stored["parts_s"],
        stored["roof"]["weights_s"],
        stored["roof"]["bytes_per_s"],
    )
