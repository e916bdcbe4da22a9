"""Processors: why a matrix multiply is fast.

In reading order: ``ladder`` (one product from Python's loops to BLAS; each rung is a file of
``rungs``), ``traffic`` (the bytes that a loop order moves), ``caches`` (a cache that counts them
one by one), ``climb`` (the ladder on the machine you sit at). Then three ways to be parallel:
``simt`` (warps of a GPU), ``systolic`` (a TPU's array) and the vectors that the ladder uses. Last
what a peak is: ``formats`` (how few bits a number can have), ``peaks`` (clock times units).
``figures`` draws.
"""

from stackkit.processors.ladder import LADDER, Rung, is_close, rung
from stackkit.processors.systolic import SystolicArray, SystolicRun

__all__ = ["LADDER", "Rung", "SystolicArray", "SystolicRun", "is_close", "rung"]
