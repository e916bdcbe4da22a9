"""Goodput against load: how many requests a second keep their limits, promised room or blocks.

Chats on one simulated chip. Too long to compute with every build: at a load near capacity a queue
takes thousands of requests to show whether it grows. ``make bench`` stores the curve, and a test
computes a point of it again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stackkit.atlas import fact, model
from stackkit.frameworks.blocks import BlockPool
from stackkit.frameworks.load import Arrival, poisson, serve
from stackkit.frameworks.scheduler import Scheduler
from stackkit.frameworks.simulation import SimulatedServer, roofline_step
from stackkit.frameworks.waste import lengths
from stackkit.memory import Roofline

STORED = Path(__file__).with_name("goodput.json")
N_CHATS, BLOCK_SIZE, LONGEST = 3000, 16, 2048
N_BLOCKS = 30_500  # beside Llama 3.1 8B's weights in an H100
PROMISED = N_BLOCKS * BLOCK_SIZE // LONGEST  # requests, if each is promised the longest text
RATES = (40, 50, 60, 70, 80, 90, 100, 110, 120)


@dataclass(frozen=True)
class Point:
    """One load."""

    most: int | None  # requests that may run at once; None: as many as find blocks
    rate_per_s: float  # requests offered
    kept: float  # share of them that kept both limits


def point(most: int | None, rate_per_s: float, n_chats: int = N_CHATS) -> Point:
    """Simulate chats at one load, under MLPerf's interactive limits for Llama 3.1 8B.

    Args:
        most: requests that may run at once; None for no limit but the blocks.
        rate_per_s: requests offered.
        n_chats: how many.
    """
    roof = Roofline(
        fact("mamf-h100-sxm.flops_per_s").value, fact("azure-h100-hbm.dot_bytes_per_s").value
    )
    chats = lengths("sharegpt", n_chats, seed=1)
    times = poisson([[0]] * n_chats, rate_per_s, seed=2)
    trace = [
        Arrival(arrival.at_s, [i] * prompt, {"max_new_tokens": answer})
        for i, (arrival, (prompt, answer)) in enumerate(zip(times, chats, strict=True))
    ]
    scheduler = Scheduler(
        BlockPool(N_BLOCKS, BLOCK_SIZE), max_requests=most or n_chats, max_tokens=LONGEST
    )
    report = serve(SimulatedServer(scheduler, roofline_step(model("llama-3.1-8b"), roof)), trace)
    limits = {
        "ttft_s": fact("mlperf-token-latency.llama_31_8b_interactive_first_token_s").value,
        "tpot_s": fact("mlperf-token-latency.llama_31_8b_interactive_next_token_s").value,
    }
    return Point(most, rate_per_s, report.kept(**limits))


def store(points: Sequence[Point]) -> None:
    """Keep the curve for the chapter."""
    rows = [{"most": p.most, "rate_per_s": p.rate_per_s, "kept": p.kept} for p in points]
    STORED.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def stored() -> list[Point]:
    """The curve as it was stored."""
    return [Point(**row) for row in json.loads(STORED.read_text(encoding="utf-8"))]
