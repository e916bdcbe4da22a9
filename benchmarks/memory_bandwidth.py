"""The bandwidth meter's own calls beside other ways to move the same bytes, on the same arrays.

A peer that needs two passes moves more than the kernel asks for and gets no credit. Needs torch.
"""

import ctypes
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import Row, race_table
from stackkit.core.timing import race
from stackkit.memory.measure import FLOAT_BYTES, KERNELS, bandwidth_call, measure_bandwidth

NAME = "Memory bandwidth"
GOAL = "`measure_bandwidth` is no slower than the better peer: its roof is the machine's."


def report() -> str:
    """One race for each kernel of the meter, on the CPU and its default working set."""
    return race_table(_row(kernel) for kernel in KERNELS)


def _row(kernel: str) -> Row:
    sized = measure_bandwidth(kernel, device="cpu", min_total_s=0.0)
    n = sized.working_set_bytes // (KERNELS[kernel] * FLOAT_BYTES)
    library, ours, arrays = bandwidth_call(kernel, n)
    peers = _peers(*arrays)[kernel]
    heats = race(peers, rounds=7).timings
    best_last = sorted(peers, key=lambda name: heats[name].median_s, reverse=True)
    contestants = {f"stackkit ({library})": ours} | {name: peers[name] for name in best_last}
    return Row(kernel, race(contestants, rounds=15), sized.bytes_moved)


def _peers(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> dict[str, dict[str, Callable]]:
    x, y, z = (np.asarray(tensor) for tensor in (a, b, c))  # the same memory
    to, source, three = x.ctypes.data, y.ctypes.data, np.float32(3)
    return {
        "read": {"numpy sum": x.sum, "numpy max": x.max, "torch dot": lambda: torch.dot(a, a)},
        "copy": {
            "numpy copyto": lambda: np.copyto(x, y),
            "ctypes memmove": lambda: ctypes.memmove(to, source, x.nbytes),
            "torch copy_": lambda: a.copy_(b),
        },
        "triad": {
            "numpy, two passes": lambda: np.add(y, np.multiply(z, three, out=x), out=x),
            "torch, two passes": lambda: torch.mul(c, 3.0, out=a).add_(b),
        },
    }
