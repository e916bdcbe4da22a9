"""``measure_peak_flops`` beside the best that torch does at any of several sizes. Needs torch."""

from dataclasses import replace

import torch

from benchmarks import Row, race_table
from stackkit.core.timing import Race, race
from stackkit.memory.measure import matmul_call, measure_peak_flops

NAME = "Peak arithmetic"
GOAL = "at least 0.95 of torch's best: its roof is the machine's."
SIZES = (1024, 1536, 2048, 3072, 4096)


def report() -> str:
    """Ours against torch's own product at the size that suits it best, in fp32 and bf16."""
    return race_table(_row(dtype, kind) for dtype, kind in FORMATS.items())


FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _row(dtype: str, kind: torch.dtype) -> Row:
    n = measure_peak_flops(dtype, device="cpu", min_total_s=0.0).n
    library, ours = matmul_call(n, n, n, dtype)
    peers = {f"torch, {size}": _torch_product(size, kind) for size in SIZES}
    heats = race(peers, rounds=5).timings
    rates = {f"torch, {s}": 2 * s**3 / heats[f"torch, {s}"].median_s for s in SIZES}
    best = max(rates, key=rates.__getitem__)
    size = int(best.split()[-1])
    scale = (size / n) ** 3
    result = race({f"stackkit ({library}), {n}": ours, best: peers[best]}, rounds=21)
    return Row(dtype, _per_flop(result, scale), 2.0 * n**3, "FLOP")


def _per_flop(result: Race, scale: float) -> Race:
    """The race with the peer's times scaled to our number of operations."""
    ours, peer = result.timings
    timing = result.timings[peer]
    scaled = replace(
        timing,
        median_s=timing.median_s / scale,
        p20_s=timing.p20_s / scale,
        p80_s=timing.p80_s / scale,
    )
    ratios = dict(result.ratios)
    ratios[ours] = tuple(r * scale for r in ratios[ours])
    return replace(result, timings={ours: result.timings[ours], peer: scaled}, ratios=ratios)


def _torch_product(size: int, kind: torch.dtype):
    a, b = (torch.rand(size, size).to(kind) for _ in range(2))
    c = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=c)
