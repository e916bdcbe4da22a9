"""What this computer is: the card that every measurement carries.

Read from the operating system alone, so that it costs milliseconds and needs no library. What
cannot be found out is ``None``: a card never guesses.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stackkit.core.units import GIB, KIB, MIB


@dataclass(frozen=True)
class MachineCard:
    """This computer, as far as it can be known."""

    cpu: str | None
    cores: int  # cores that this process may use
    cache_bytes: dict[str, int]  # "L2" -> bytes of that cache as core 0 sees it
    memory_bytes: int | None
    gpu: str | None  # the first NVIDIA GPU's name
    python: str
    numpy: str | None
    torch: str | None
    last_caches_bytes: int | None = None  # the last-level caches of all usable cores together

    def __str__(self) -> str:
        caches = ", ".join(f"{name} {_binary(size)}" for name, size in self.cache_bytes.items())
        memory = f"{self.memory_bytes / GIB:.1f} GiB" if self.memory_bytes else "unknown"
        rows = {
            "processor": f"{self.cpu or 'unknown'}, {self.cores} cores",
            "caches": caches or "unknown",
            "memory": memory,
            "GPU": self.gpu or "none found",
            "software": f"Python {self.python}, NumPy {self.numpy or 'absent'}, "
            f"torch {self.torch or 'absent'}",
        }
        return "\n".join(f"{name:<10} {text}" for name, text in rows.items())


@cache
def card() -> MachineCard:
    """Find out what this computer is. Found out once in a process."""
    return MachineCard(
        cpu=_cpu_name(),
        cores=_usable_cores(),
        cache_bytes=_cache_bytes(),
        memory_bytes=_memory_bytes(),
        gpu=_gpu_name(),
        python=platform.python_version(),
        numpy=_version("numpy"),
        torch=_version("torch"),
        last_caches_bytes=_last_caches_bytes(),
    )


def _usable_cores() -> int:
    return len(_usable_core_numbers())


def _cpu_name() -> str | None:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or None
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _cache_bytes() -> dict[str, int]:
    """Data caches seen by core 0, in the order L1, L2, L3."""
    sizes: dict[str, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = (
                (index / name).read_text().strip() for name in ("type", "level", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            sizes[f"L{level}"] = int(size[:-1]) * KIB
    return sizes


def _last_caches_bytes() -> int | None:
    """Sum of the last-level caches that the usable cores have: a large server has several."""
    sizes: dict[tuple[str, str], int] = {}
    for core in _usable_core_numbers():
        for index in Path(f"/sys/devices/system/cpu/cpu{core}/cache").glob("index*"):
            try:
                level, shared_by, size = (
                    (index / name).read_text().strip()
                    for name in ("level", "shared_cpu_list", "size")
                )
            except OSError:
                continue
            if size.endswith("K"):
                sizes[level, shared_by] = int(size[:-1]) * KIB
    if not sizes:
        return None
    last = max(level for level, _ in sizes)
    return sum(size for (level, _), size in sizes.items() if level == last)


def _usable_core_numbers() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gpu_name() -> str | None:
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return names.splitlines()[0].strip() if names else None


def _output(program: str, *arguments: str) -> str | None:
    """What a program prints, or None when it is absent or fails."""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _binary(size: int) -> str:
    return f"{size / MIB:g} MiB" if size >= MIB else f"{size / KIB:g} KiB"
