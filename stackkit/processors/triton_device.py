"""Triton, and where its kernels run: on a GPU, or in an interpreter that needs none.

Triton reads TRITON_INTERPRET once, when it is first imported. So take ``triton`` and ``tl`` from
here: where no CUDA device is found, the variable is set to 1 before they are imported.
"""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import triton
import triton.language as tl

__all__ = ["device", "tl", "triton"]


def device() -> str:
    """Where a kernel wants its tensors: "cuda", or "cpu" in the interpreter.

    Raises:
        RuntimeError: when kernels are compiled and there is no GPU for them.
    """
    # Triton's own helpers became what they are at its first import; the variable may have changed.
    if not isinstance(tl.zeros, triton.JITFunction):
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    raise RuntimeError(
        "Triton was imported to compile for a GPU, and no CUDA device is found: set "
        "TRITON_INTERPRET=1 before triton is first imported (torch's optimisers import it)."
    )
