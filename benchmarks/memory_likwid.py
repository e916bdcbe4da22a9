"""The meter beside LIKWID's hand-written load loop: an outside opinion on what this memory does.

likwid-bench times itself, so the two take turns and their printed rates are compared pair by pair.
Debian: apt-get install likwid. Source: Treibig, Hager and Wellein, PSTI 2010.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

from stackkit.core.machine import card
from stackkit.core.timing import BUSY_CORES, CpuUsage
from stackkit.core.units import GIB, GIGA, MEGA
from stackkit.memory import measure_bandwidth

NAME = "Read bandwidth beside likwid-bench"
GOAL = "the median of the pairs within 15 % of LIKWID."
PAIRS = 9


def report() -> str:
    """Pairs of ours and LIKWID's, in turns, with the spread."""
    program = shutil.which("likwid-bench")
    if program is None:
        return "Not run: likwid-bench is not installed (Debian: apt-get install likwid)."
    kernel = _widest_load()
    ours, theirs = [], []
    usage = CpuUsage()
    for _ in range(PAIRS):
        theirs.append(_likwid(program, kernel))
        run = measure_bandwidth("read", working_set_bytes=GIB, device="cpu", min_total_s=2.0)
        ours.append(run.bytes_per_s)
    others = usage.others_cores() or 0.0
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    lines = [
        f"{PAIRS} pairs in turns, 1 GB, {card().cores} cores, `likwid-bench -t {kernel}`; other "
        f"programs kept {others:.1f} cores busy meanwhile.",
        "",
        "| | p20 | median | p80 |",
        "|---|---|---|---|",
        _line("stackkit, GB/s", [x / GIGA for x in ours], ".1f"),
        _line("likwid-bench, GB/s", [x / GIGA for x in theirs], ".1f"),
        _line("ratio of a pair", ratios, ".3f"),
    ]
    if others > BUSY_CORES:
        lines += ["", "Machine busy: no claim."]
    return "\n".join(lines)


def _widest_load() -> str:
    """The load kernel for the widest vectors that the processor says it has."""
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    return next(
        (k for f, k in (("avx512f", "load_avx512"), ("avx", "load_avx")) if f in flags), "load"
    )


def _likwid(program: str, kernel: str) -> float:
    command = [program, "-t", kernel, "-w", f"N:1GB:{card().cores}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^MByte/s:\s+([\d.]+)", printed, re.MULTILINE)
    return float(found.group(1)) * MEGA


def _line(name: str, values: Sequence[float], form: str) -> str:
    fifths = quantiles(values, n=10, method="inclusive")
    return f"| {name} | " + " | ".join(format(fifths[i], form) for i in (1, 4, 7)) + " |"
