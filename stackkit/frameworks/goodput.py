"""Goodput against load: how many requests a second keep their limits, promised room or blocks.

Chats on one simulated chip. Too long to compute with every build: near capacity it takes a minute
or more of arrivals to show whether a queue grows, for a thousand requests are under way by then.
``make bench`` stores the curve, and a brief point beside it that a test computes again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stackkit.atlas import fact, model
from stackkit.frameworks.blocks import BlockPool
from stackkit.frameworks.load import Arrival, poisson, serve
from stackkit.frameworks.scheduler import Scheduler
from stackkit.frameworks.simulation import SimulatedServer, roofline_step
from stackkit.frameworks.waste import lengths
from stackkit.memory import Roofline

STORED = Path(__file__).with_name("goodput.json")
ARRIVALS_S, BLOCK_SIZE, LONGEST = 100, 16, 2048
N_BLOCKS = 30_500  # beside Llama 3.1 8B's weights in an H100
PROMISED = N_BLOCKS * BLOCK_SIZE // LONGEST  # requests, if each is promised the longest text
RATES = (40, 50, 60, 70, 80, 90, 100, 105, 110, 115, 120)
BRIEF = (PROMISED, 120, 10)  # a point quick enough for a test to compute again


@dataclass(frozen=True)
class Point:
    """One load."""

    most: int | None  # requests that may run at once; None: as many as find blocks
    rate_per_s: float  # requests offered
    arrivals_s: float  # for so long, on average
    kept: float  # share of them that kept both limits


def roof() -> Roofline:
    """What others measured on an H100: a rate of large products, and one of reading."""
    return Roofline(
        fact("mamf-h100-sxm.flops_per_s").value, fact("azure-h100-hbm.dot_bytes_per_s").value
    )


def point(most: int | None, rate_per_s: float, arrivals_s: float = ARRIVALS_S) -> Point:
    """Simulate chats at one load, under MLPerf's interactive limits for Llama 3.1 8B.

    Args:
        most: requests that may run at once; None for no limit but the blocks.
        rate_per_s: requests offered.
        arrivals_s: for how long they come, on average.
    """
    n_chats = round(rate_per_s * arrivals_s)
    chats = lengths("sharegpt", n_chats, seed=1)
    times = poisson([[0]] * n_chats, rate_per_s, seed=2)
    trace = [
        Arrival(arrival.at_s, [i] * prompt, {"max_new_tokens": answer})
        for i, (arrival, (prompt, answer)) in enumerate(zip(times, chats, strict=True))
    ]
    scheduler = Scheduler(
        BlockPool(N_BLOCKS, BLOCK_SIZE), max_requests=most or n_chats, max_tokens=LONGEST
    )
    report = serve(SimulatedServer(scheduler, roofline_step(model("llama-3.1-8b"), roof())), trace)
    limits = {
        "ttft_s": fact("mlperf-token-latency.llama_31_8b_interactive_first_token_s").value,
        "tpot_s": fact("mlperf-token-latency.llama_31_8b_interactive_next_token_s").value,
    }
    return Point(most, rate_per_s, arrivals_s, report.kept(**limits))


def store(points: Sequence[Point]) -> None:
    """Keep the curve for the chapter."""
    rows = [asdict(p) for p in points]
    STORED.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def curve() -> list[Point]:
    """The curve as it was stored."""
    return [p for p in _stored() if p.arrivals_s == ARRIVALS_S]


def brief() -> Point:
    """The brief point as it was stored."""
    return next(p for p in _stored() if (p.most, p.rate_per_s, p.arrivals_s) == BRIEF)


def _stored() -> list[Point]:
    return [Point(**row) for row in json.loads(STORED.read_text(encoding="utf-8"))]
