"""The matmul ladder: our rungs beside torch and NumPy, and tiling where it pays. Needs torch.

Besides its results it stores the climb that chapter 6 shows.
"""

import json
from contextlib import contextmanager
from datetime import date
from functools import partial

import numpy as np
import torch

from benchmarks import Row, race_table
from stackkit.core.machine import card
from stackkit.core.timing import race
from stackkit.core.units import GIGA, MIB
from stackkit.processors.climb import STORED, climb, last_cache_bytes, measured_roofs
from stackkit.processors.ladder import LADDER, Rung

NAME = "Matrix multiply, from Python's loops to BLAS"
GOAL = (
    "the best readable rung reaches 90 % of torch on one core, and 85 % of the better of torch and "
    "NumPy on all."
)
N = 1024
REST_S = 0.3  # until idle threads of the libraries stop spinning


def report() -> str:
    """The climb, the two races with the libraries, and tiling below and past the last cache."""
    climbed = climb(N)
    _store(climbed)
    rows = [_one_core(), _all_cores()]
    return (
        f"```text\n{climbed}\n```\n\nBeside the libraries, fp32, n = {N}:\n\n{race_table(rows)}\n\n"
        + _tiling()
    )


def _operands(n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return tuple(random.standard_normal((n, n), dtype=np.float32) for _ in range(2))


@contextmanager
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _one_core() -> Row:
    a, b = _operands(N)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    with _one_thread():
        contestants = {
            "stackkit (blocked), one core": lambda: LADDER["blocked"].fn(a, b),
            "torch, one core": lambda: torch.matmul(x, y),
        }
        return Row("one core", race(contestants, rounds=21), 2.0 * N**3, "FLOP")


def _all_cores() -> Row:
    a, b = _operands(N)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    peers = {"torch": lambda: torch.matmul(x, y), "numpy": lambda: a @ b}
    heats = race(peers, rounds=7, rest_s=REST_S).timings
    best_last = sorted(peers, key=lambda name: heats[name].median_s, reverse=True)
    ours = {"stackkit (threads)": lambda: LADDER["threads"].fn(a, b)}
    contestants = ours | {name: peers[name] for name in best_last}
    result = race(contestants, rounds=15, rest_s=REST_S)
    return Row(f"all {card().cores} cores", result, 2.0 * N**3, "FLOP")


def _tiling() -> str:
    """The same loop order with and without tiles, predicted and measured, at three sizes."""
    cache = last_cache_bytes()
    bandwidth = measured_roofs()["one"].bytes_per_s
    lines = [
        f"Tiling the order ikj, one core, last cache {cache / MIB:g} MiB. Predicted: each rung's "
        "own rate at n = 1,024, where all fits, and its bytes past the last cache at the measured "
        "bandwidth, nothing overlapped.",
        "",
        "| n | b (MiB) | untiled, s | tiled, s | ratio, measured (p20 to p80) | predicted |",
        "|---|---|---|---|---|---|",
    ]
    rates: dict[str, float] = {}
    for n, rounds in ((1024, 9), (3072, 5), (4096, 3)):
        a, b = _operands(n)
        found = race(
            {name: partial(LADDER[name].fn, a, b) for name in ("ikj", "ikj-tiled")},
            rounds=rounds,
        )
        untiled, tiled = (found.timings[name].median_s for name in ("ikj", "ikj-tiled"))
        rates = rates or {"ikj": 2.0 * n**3 / untiled, "ikj-tiled": 2.0 * n**3 / tiled}
        p20, middle, p80 = found.ratios["ikj"]
        predicted = [
            2.0 * n**3 / rates[name] + _bytes(LADDER[name], n, cache) / bandwidth for name in rates
        ]
        lines.append(
            f"| {n:,} | {4 * n * n / MIB:.0f} | {untiled:.3f} | {tiled:.3f} | {middle:.2f} "
            f"({p20:.2f} to {p80:.2f}) | {predicted[0] / predicted[1]:.2f} |"
        )
    return "\n".join(lines)


def _bytes(rung: Rung, n: int, cache: float) -> float:
    return rung.predicted_bytes(n, n, n, cache)


def _store(climbed) -> None:
    """What the chapter draws: the machine, the day, the roofs and every rung."""
    machine = card()
    data = {
        "date": str(date.today()),
        "cpu": machine.cpu,
        "cores": machine.cores,
        "last_cache_bytes": last_cache_bytes(),
        "busy": climbed.others_cores,
        "roofs": {
            cores: {"flops_per_s": round(r.peak_flops_per_s), "bytes_per_s": round(r.bytes_per_s)}
            for cores, r in climbed.roofs.items()
        },
        "rungs": [
            {
                "name": step.rung.name,
                "says": step.rung.says,
                "cores": step.rung.cores,
                "n": step.n,
                "gflop_per_s": float(f"{step.flops_per_s / GIGA:.4g}"),
                "lower_s": float(f"{step.lower_s:.4g}"),
                "median_s": float(f"{step.timing.median_s:.4g}"),
                "intensity": float(f"{step.intensity:.4g}"),
            }
            for step in climbed.steps
        ],
    }
    STORED.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
