"""The matmul ladder: one product, from Python's loops to BLAS, a rung at a time.

``LADDER`` names the rungs in order. A rung is a file of ``rungs/`` with one function of one
signature; it knows its operations and, from ``traffic``, the bytes that it should move. A rung is
admitted to a race only if it equals the reference in fp64 within what rounding explains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module, util

import numpy as np

from stackkit.processors import traffic
from stackkit.processors.formats import FORMATS

UNIT_ROUNDOFF = {name: FORMATS[name].unit_roundoff for name in ("fp32", "bf16")}
_INSTALL = {"numba": '"numba>=0.60"', "torch": "torch", "triton": "triton"}


@dataclass(frozen=True)
class Rung:
    """One way to multiply two matrices."""

    name: str
    module: str  # of stackkit.processors.rungs
    says: str  # what changed from the rung below
    bytes_moved: Callable[[int, int, int, float], float]  # (m, k, n, cache_bytes)
    needs: tuple[str, ...] = ()  # packages beside NumPy
    dtype: str = "fp32"  # of the operands
    cores: str = "one"  # or "all"
    timed: bool = True  # an interpreter's time says nothing
    largest: int = 4096  # side of a square that takes seconds at most

    def fn(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a (m, k) times b (k, n), both fp32; the result is fp32.

        Raises:
            ModuleNotFoundError: when a package is missing, with the command that installs it.
            ValueError: for operands that are no matrices of fp32 that fit each other.
        """
        _check_operands(a, b)
        return self._load()(np.ascontiguousarray(a), np.ascontiguousarray(b))

    def _load(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        for package in self.needs:
            if util.find_spec(package) is None:
                raise ModuleNotFoundError(
                    f"The rung {self.name!r} needs {package}. Install it with: "
                    f"pip install {_INSTALL[package]}"
                )
        return _matmul_of(self.module)

    @property
    def is_ready(self) -> bool:
        """Whether its packages are installed."""
        return all(util.find_spec(package) for package in self.needs)

    @staticmethod
    def flops(m: int, n: int, k: int) -> float:
        """A multiply and an add for each of m n k."""
        return 2.0 * m * n * k

    def predicted_bytes(self, m: int, n: int, k: int, cache_bytes: float) -> float:
        """Bytes between memory and a last cache of ``cache_bytes``; see ``traffic``."""
        return self.bytes_moved(m, k, n, cache_bytes)


@cache
def _matmul_of(module: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return import_module(f"stackkit.processors.rungs.{module}").matmul


LADDER: dict[str, Rung] = {
    rung.name: rung
    for rung in (
        Rung(
            "python",
            "python_loops",
            "three loops in Python",
            traffic.ijk,
            largest=192,
        ),
        Rung("numpy-rows", "numpy_rows", "NumPy adds up rows", traffic.ikj, largest=512),
        Rung("ijk", "ijk", "the three loops, compiled", traffic.ijk, ("numba",), largest=1024),
        Rung(
            "ijk-tiled",
            "ijk_tiled",
            "the same order, tile by tile",
            partial(traffic.squares, tile=64),
            ("numba",),
            largest=1024,
        ),
        Rung("ikj", "ikj", "two loops swapped: along the rows", traffic.ikj, ("numba",)),
        Rung(
            "ikj-tiled",
            "ikj_tiled",
            "the good order, block by block",
            partial(traffic.strips, columns=512, depth=128),
            ("numba",),
        ),
        Rung(
            "blocked",
            "blocked",
            "sixteen sums in registers, packed panels",
            partial(traffic.strips, columns=128, depth=1024),
            ("numba",),
        ),
        Rung(
            "threads",
            "threads",
            "the same on all cores",
            partial(traffic.strips, columns=64, depth=1024),
            ("numba",),
            cores="all",
        ),
        Rung("numpy", "numpy_blas", "NumPy's BLAS", traffic.least, cores="all"),
        Rung("torch", "torch_fp32", "torch's BLAS", traffic.least, ("torch",), cores="all"),
        Rung(
            "torch-bf16",
            "torch_bf16",
            "half the bytes a number",
            partial(traffic.least, bytes_per_value=2),
            ("torch",),
            dtype="bf16",
            cores="all",
        ),
        Rung(
            "triton",
            "triton_tiled",
            "tiles in the language of GPU kernels",
            partial(traffic.squares, tile=32),
            ("torch", "triton"),
            timed=False,
            largest=128,
        ),
    )
}


def rung(name: str) -> Rung:
    """One rung by its name.

    Raises:
        ValueError: when there is none, with those there are.
    """
    if name not in LADDER:
        raise ValueError(f"No rung is named {name!r}; the ladder has {', '.join(LADDER)}.")
    return LADDER[name]


def is_close(result: np.ndarray, a: np.ndarray, b: np.ndarray, dtype: str = "fp32") -> bool:
    """Whether a product of finite matrices is right within what rounding explains; NaN never is.

    Each of k products and sums may be off by a unit roundoff u of the sum of absolute products,
    whatever the order: |error| <= (k + 2) u |a| |b|, in fp64 (Higham, Accuracy and Stability,
    section 3.5). Rounding operands and result to ``dtype`` adds 3 u of that format, and u^2.
    """
    if not (np.isfinite(a).all() and np.isfinite(b).all()):  # any error would be allowed
        return False
    exact = a.astype(np.float64) @ b.astype(np.float64)
    magnitude = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    allowed = (a.shape[1] + 2) * UNIT_ROUNDOFF["fp32"]
    if dtype != "fp32":
        allowed += 4 * UNIT_ROUNDOFF[dtype]
    if result.shape != exact.shape:
        return False
    return bool(np.all(np.abs(result - exact) <= allowed * magnitude + np.finfo(np.float32).tiny))


def _check_operands(a: np.ndarray, b: np.ndarray) -> None:
    for name, operand in (("a", a), ("b", b)):
        if getattr(operand, "ndim", None) != 2 or 0 in operand.shape:
            shape = getattr(operand, "shape", type(operand).__name__)
            raise ValueError(f"{name} must be a matrix with rows and columns; got {shape}.")
        if operand.dtype != np.float32:
            raise ValueError(
                f"{name} must be float32; got {operand.dtype}. Use {name}.astype(np.float32)."
            )
    if a.shape[1] != b.shape[0]:
        raise ValueError(
            f"a (m, k) needs as many columns as b (k, n) has rows; got {a.shape} and {b.shape}. "
            "Transpose one?"
        )
