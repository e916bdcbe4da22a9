"""The roofline: which takes longer, the arithmetic or the bytes.

    attainable FLOP/s = min(peak, intensity x bandwidth),  intensity = FLOPs per byte moved

A kernel takes at least the longer of its two times (perfect overlap) and at most their sum (no
overlap), so the two bounds are never more than a factor of 2 apart. Source: Williams, Waterman
and Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stackkit.atlas import Accelerator


@dataclass(frozen=True)
class Roofline:
    """Two roofs: arithmetic and bandwidth.

    Raises:
        ValueError: when either is not a positive number.
    """

    peak_flops_per_s: float  # dense, of the number format in use
    bytes_per_s: float  # of the memory that the data come from

    def __post_init__(self) -> None:
        for name in ("peak_flops_per_s", "bytes_per_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"A roofline needs {name} above zero; got {value!r}.")

    @property
    def ridge_point(self) -> float:
        """The intensity, in FLOP per byte, from which arithmetic is the limit."""
        return self.peak_flops_per_s / self.bytes_per_s

    def attainable(self, intensity: float) -> float:
        """The most FLOP/s at an intensity of ``intensity`` FLOP per byte.

        Raises:
            ValueError: when the intensity is negative or not a number.
        """
        if not intensity >= 0:
            raise ValueError(f"intensity must be zero or more FLOP per byte; got {intensity!r}.")
        return min(self.peak_flops_per_s, intensity * self.bytes_per_s)

    def bounds(self, flops: float, bytes: float) -> tuple[float, float]:
        """How long so many operations and bytes take: (at least, at most), in seconds.

        Raises:
            ValueError: when either is negative or not a number.
        """
        if not (flops >= 0 and bytes >= 0):
            raise ValueError(
                f"flops and bytes must be zero or more; got flops={flops!r}, bytes={bytes!r}."
            )
        compute_s = flops / self.peak_flops_per_s
        memory_s = bytes / self.bytes_per_s
        return max(compute_s, memory_s), compute_s + memory_s


def roofline_of(chip: Accelerator, dtype: str = "bf16") -> Roofline:
    """The datasheet's roofline of a chip, dense, in one number format.

    Raises:
        ValueError: when the atlas has no peak of that format for the chip.
    """
    peaks = chip.peak_flops_per_s
    if dtype not in peaks:
        known = ", ".join(peaks) or "none"
        raise ValueError(f"The atlas has no {dtype} peak for {chip.name}; it has {known}.")
    return Roofline(peaks[dtype], chip.memory_bytes_per_s)
