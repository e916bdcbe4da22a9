"""torch's product in fp32: MKL or oneDNN on a CPU, cuBLAS on a GPU, which it takes where it can."""

from __future__ import annotations

import numpy as np
import torch


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(m, k) times (k, n); on a GPU the copies there and back are part of it."""
    return product(a, b, torch.float32)


def product(a: np.ndarray, b: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """(m, k) times (k, n) in another format; the result is fp32 again."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = (torch.from_numpy(operand).to(device, dtype) for operand in (a, b))
    return torch.matmul(x, y).to("cpu", torch.float32).numpy()
