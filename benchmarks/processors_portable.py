"""One product in five languages, four number formats and at an unlucky size. Needs torch.

It stores what chapter 6 shows of it, apart from the climb: the two may come from two machines.
"""

import json
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib import util

import numpy as np
import torch

from stackkit.core.machine import card
from stackkit.core.timing import Race, Timing, race
from stackkit.core.units import GIGA
from stackkit.processors.climb import PORTABLE
from stackkit.processors.ladder import LADDER

NAME = "One product in five languages and four formats"
GOAL = "none: the table tells what each way of writing it, and each format, gets of this machine."
N = 2048
SIZES = (1000, 1024)
REST_S = 0.3  # until idle threads of the libraries stop spinning


def report() -> str:
    """Two races; every contestant runs in turn with the others of its table."""
    races = {
        "written": race(_languages(), rounds=9, rest_s=REST_S),
        "formats": race(_formats(), rounds=9),
        "one_core": race(_one_core(), rounds=9),
    }
    sizes = {n: race(_orders(n), rounds=3) for n in SIZES}
    busy = any(run.busy for run in (*races.values(), *sizes.values()))
    _store({key: run.timings for key, run in races.items()}, busy, sizes)
    rows = [f"n = {N:,}, all cores" + ("; machine busy: no claim" if busy else ""), ""]
    rows += ["| product | GFLOP/s, median (p20 to p80) |", "|---|---|"]
    for run in races.values():
        for name, timing in run.timings.items():
            speed, low, high = (
                _gflop_per_s(s) for s in (timing.median_s, timing.p80_s, timing.p20_s)
            )
            rows.append(f"| {name} | {speed:,.0f} ({low:,.0f} to {high:,.0f}) |")
    for n, run in sizes.items():
        for name, timing in run.timings.items():
            rows.append(
                f"| {name}, one core, n = {n:,} | {_gflop_per_s(timing.median_s, n):,.2f} |"
            )
    return "\n".join(rows)


def _orders(n: int) -> dict[str, Callable[[], object]]:
    """Loop orders; in a matrix of 1,024 a column's lines fall into few sets of the cache."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    return {name: partial(LADDER[name].fn, a, b) for name in ("ijk-tiled", "ikj", "ijk")}


def _languages() -> dict[str, Callable[[], object]]:
    """Each returns when the product is there; all take fp32."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((N, N), dtype=np.float32) for _ in range(2))
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    ways: dict[str, Callable[[], object]] = {
        "numba, swapped loops, one core": lambda: LADDER["ikj"].fn(a, b),
        "numba, blocked, all cores": lambda: LADDER["threads"].fn(a, b),
        "torch": lambda: x @ y,
    }
    if util.find_spec("jax"):
        import jax

        product = jax.jit(lambda p, q: p @ q)
        p, q = jax.device_put(a), jax.device_put(b)
        ways["JAX"] = lambda: product(p, q).block_until_ready()
    return ways | {"NumPy": lambda: a @ b}


def _formats() -> dict[str, Callable[[], object]]:
    """torch's product in each format that its CPU build multiplies; int8 is summed in int32."""
    whole = torch.randint(-127, 128, (N, N), dtype=torch.int8)
    ways: dict[str, Callable[[], object]] = {"int8": lambda: torch._int_mm(whole, whole)}
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        x = torch.rand(N, N).to(dtype)
        ways[name] = lambda x=x: x @ x
    return ways


def _one_core() -> dict[str, Callable[[], object]]:
    """The best readable rung beside torch, in fp32, whatever vectors each compiler chose."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((N, N), dtype=np.float32) for _ in range(2))
    x, y = torch.from_numpy(a), torch.from_numpy(b)

    def one_thread() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        torch.matmul(x, y)
        torch.set_num_threads(before)

    return {
        "numba, blocked, one core": lambda: LADDER["blocked"].fn(a, b),
        "torch, one core": one_thread,
    }


def _gflop_per_s(seconds: float, n: int = N) -> float:
    return 2.0 * n**3 / seconds / GIGA


def _store(races: dict[str, dict[str, Timing]], busy: bool, sizes: dict[int, Race]) -> None:
    machine = card()
    data = {"date": str(date.today()), "cpu": machine.cpu, "cores": machine.cores, "n": N}
    data |= {"busy": busy}
    for key, timings in races.items():
        data[key] = {
            name: float(f"{_gflop_per_s(timing.median_s):.3g}") for name, timing in timings.items()
        }
    data["sizes"] = {
        n: {
            name: float(f"{_gflop_per_s(timing.median_s, n):.3g}")
            for name, timing in run.timings.items()
        }
        for n, run in sizes.items()
    }
    PORTABLE.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
