"""Both roofs of the machine you sit at: bytes per second and FLOP/s.

torch when it is installed (all cores, or the GPU), else numba (all cores), else NumPy (one core,
which may be far below what all reach). Bytes are counted as STREAM counts them: what the program
asks to read and to write. A processor that first fetches the lines it is about to overwrite
(write-allocate) moves three parts where ``copy`` counts two, and four where ``triad`` counts
three: those can understate the memory by a third and a quarter; ``BandwidthRun`` gives both ends.
``read`` overwrites nothing. Source: J. McCalpin, STREAM, cs.virginia.edu/stream, 1995.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stackkit.core.machine import card
from stackkit.core.timing import Timing, bench
from stackkit.core.units import GIB, MIB

FLOAT_BYTES = 4
KERNELS = {"read": 1, "copy": 2, "triad": 3}  # arrays; each element of each moves once


@dataclass(frozen=True)
class BandwidthRun:
    """One measurement of bandwidth: ``bytes_moved`` in each timed call."""

    kernel: str  # "read", "copy" or "triad"
    working_set_bytes: int
    bytes_moved: int
    device: str  # "cpu" or "cuda"
    library: str  # "torch", "numba" or "numpy"
    timing: Timing

    @property
    def bytes_per_s(self) -> float:
        """Bytes per second of the median call, as the program asks for them."""
        return self.bytes_moved / self.timing.median_s

    @property
    def write_allocate_bytes_per_s(self) -> float:
        """The same, if every line is fetched before it is overwritten: the memory's own traffic.

        The truth lies between the two: stores that bypass the caches fetch nothing.
        """
        arrays = KERNELS[self.kernel]
        fetched = 0 if self.kernel == "read" else 1
        return self.bytes_per_s * (arrays + fetched) / arrays


@dataclass(frozen=True)
class PeakRun:
    """One measurement of arithmetic: square matrices of side ``n``, 2 n^3 FLOPs a call."""

    n: int
    dtype: str
    device: str
    library: str
    timing: Timing

    @property
    def flops_per_s(self) -> float:
        """FLOP/s of the median call."""
        return 2 * self.n**3 / self.timing.median_s


def measure_bandwidth(
    kernel: str = "read",
    *,
    working_set_bytes: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    min_total_s: float = 0.3,
) -> BandwidthRun:
    """Measure how fast memory can be read or copied.

    Args:
        kernel: ``"read"`` (all of a, reduced to one number), ``"copy"`` (a = b) or ``"triad"``
            (a = b + s c), in fp32.
        working_set_bytes: of all arrays together. Default, so that the data come from memory: on
            a CPU 256 MiB or four times all last caches, whichever is more, on a GPU 4 GiB;
            but never more than an eighth of memory, or a quarter of what a GPU has free.
        device: ``"cpu"`` or ``"cuda"``; default: CUDA where torch finds it.
        threads: CPU threads that torch may use; default: as it is set. Without torch all
            cores run (numba) or one (NumPy), whatever is asked. With a
            small working set take one: waking the others can take longer than the reading.
        min_total_s: time spent in timed calls.

    Returns:
        The run; ``.bytes_per_s`` counts what the program asked to move (see the module).

    Raises:
        ValueError: for an unknown kernel or device, a working set below 1 KiB, or ``triad``
            without torch and numba (NumPy cannot do it in one pass).
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}; got {kernel!r}.")
    device = _device(device)
    size = default_working_set(device) if working_set_bytes is None else working_set_bytes
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more; got {threads}.")
    if not 1024 <= size < math.inf:
        raise ValueError(f"working_set_bytes must be 1024 or more; got {size}.")
    n = int(size) // (KERNELS[kernel] * FLOAT_BYTES)
    library, call, _ = bandwidth_call(kernel, n, device)
    with _threads(threads):
        timing = bench(call, min_total_s=min_total_s)
    n_bytes = KERNELS[kernel] * n * FLOAT_BYTES
    return BandwidthRun(kernel, n_bytes, n_bytes, device, library, timing)


def measure_peak_flops(
    dtype: str = "fp32",
    *,
    n: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    min_total_s: float = 0.3,
) -> PeakRun:
    """Measure the best matrix multiply that the installed library reaches.

    Args:
        dtype: ``"fp32"``, or with torch also ``"bf16"``, ``"fp16"`` and ``"fp64"``.
        n: side of the square matrices. Default: large enough to be limited by arithmetic,
            2048 on a CPU and 8192 on a GPU.
        device: as for ``measure_bandwidth``.
        threads: CPU threads that torch may use; without torch all cores run, whatever is asked.
        min_total_s: time spent in timed calls.

    Raises:
        ValueError: for an unknown format or device, or ``n`` below 1.
    """
    device = _device(device)
    n = (8192 if device == "cuda" else 2048) if n is None else int(n)
    if n < 1:
        raise ValueError(f"n must be 1 or more; got {n}.")
    library, call = matmul_call(n, n, n, dtype, device)
    with _threads(threads):
        timing = bench(call, min_total_s=min_total_s)
    return PeakRun(n, dtype, device, library, timing)


def bandwidth_call(
    kernel: str, n: int, device: str = "cpu"
) -> tuple[str, Callable[[], object], tuple[Any, Any, Any]]:
    """The call that ``measure_bandwidth`` times: (library, call, its arrays a, b and c).

    Arrays have ``n`` elements of fp32; those that the kernel does not touch are empty.
    """
    if _has("torch"):
        import torch

        a, b, c = (torch.ones(n if used else 0, device=device) for used in _uses(kernel))
        calls = {
            "read": lambda: a.sum(),
            "copy": lambda: a.copy_(b),
            "triad": lambda: torch.add(b, c, alpha=3.0, out=a),
        }
        return "torch", calls[kernel], (a, b, c)
    import numpy as np

    a, b, c = (np.ones(n if used else 0, dtype=np.float32) for used in _uses(kernel))
    if _has("numba"):
        from stackkit.memory import loops

        calls = {
            "read": lambda: loops.read(a, all_cores=True),
            "copy": lambda: loops.copy(a, b),
            "triad": lambda: loops.triad(a, b, c),
        }
        return "numba", calls[kernel], (a, b, c)
    calls = {"read": lambda: a.max(), "copy": lambda: np.copyto(a, b)}
    if kernel not in calls:
        raise ValueError(
            f'{kernel} needs numba: pip install "numba>=0.60". Without it, measure copy or read.'
        )
    return "numpy", calls[kernel], (a, b, c)


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Let torch use so many CPU threads for a while."""
    if threads is None or not _has("torch"):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _uses(kernel: str) -> tuple[bool, bool, bool]:
    """Which of the arrays a, b and c a kernel touches."""
    return KERNELS[kernel] >= 1, KERNELS[kernel] >= 2, KERNELS[kernel] >= 3


def matmul_call(
    m: int,
    k: int,
    n: int,
    dtype: str = "fp32",
    device: str = "cpu",
    operands: dict[tuple[int, int], Any] | None = None,
) -> tuple[str, Callable[[], object]]:
    """One product of an (m, k) and a (k, n) matrix, ready to time: (library, call).

    ``operands`` keeps matrices by shape, so that several products of one format share them.

    Raises:
        ValueError: for a format that the library lacks.
    """
    operands = {} if operands is None else operands
    shapes = ((m, k), (k, n))
    if _has("torch"):
        import torch

        formats = {
            "fp64": torch.float64,
            "fp32": torch.float32,
            "bf16": torch.bfloat16,
            "fp16": torch.float16,
        }
        _require_format(dtype, formats)
        for shape in shapes:
            if shape not in operands:
                operands[shape] = torch.rand(*shape, device=device).to(formats[dtype])
        a, b = (operands[shape] for shape in shapes)
        c = torch.empty(m, n, device=device, dtype=formats[dtype])
        return "torch", lambda: torch.matmul(a, b, out=c)
    import numpy as np

    formats = {"fp64": np.float64, "fp32": np.float32}
    _require_format(dtype, formats)
    random = np.random.default_rng(0)
    for shape in shapes:
        if shape not in operands:
            operands[shape] = random.random(shape, dtype=formats[dtype])
    a, b = (operands[shape] for shape in shapes)
    c = np.empty((m, n), dtype=formats[dtype])
    return "numpy", lambda: np.matmul(a, b, out=c)


def _require_format(dtype: str, formats: dict[str, Any]) -> None:
    if dtype not in formats:
        more = "" if _has("torch") else " With torch (pip install torch) there are more."
        raise ValueError(f"Cannot measure {dtype!r}; use one of {', '.join(formats)}.{more}")


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _device(device: str | None) -> str:
    has_cuda = False
    if device != "cpu" and _has("torch"):
        import torch

        has_cuda = torch.cuda.is_available()
    if device is None:
        return "cuda" if has_cuda else "cpu"
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda'; got {device!r}.")
    if device == "cuda" and not has_cuda:
        raise ValueError("No CUDA device is ready: torch finds none. Use device='cpu'.")
    return device


def default_working_set(device: str = "cpu") -> int:
    """Past every cache, yet a small part of memory."""
    if device == "cuda":  # past every cache, and so long that starting the kernel does not count
        import torch

        free_bytes, _ = torch.cuda.mem_get_info()
        return min(4 * GIB, free_bytes // 4)
    machine = card()
    wanted = max(256 * MIB, 4 * (machine.last_caches_bytes or 0))
    return min(wanted, machine.memory_bytes // 8) if machine.memory_bytes else wanted
