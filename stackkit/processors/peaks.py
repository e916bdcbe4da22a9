"""Peaks: what the multipliers could do, and which share of it a model got.

    peak FLOP/s = clock x units x multiply-adds per clock and unit x 2
    MFU = (6 N + 12 L E T) x tokens / (seconds x chips x peak)

It knows nothing of memory: ``stackkit.memory.roofline`` says when the peak is out of reach.
Recomputed activations are no work of the model; counting them gives the HFU instead. Sources:
Bekman, ML Engineering, "How to calculate theoretical TFLOPS"; Chowdhery et al., PaLM, 2022,
appendix B.
"""

from __future__ import annotations

import math

from stackkit.atlas import Accelerator

FLOPS_PER_FMA = 2  # a multiplication and an addition


def peak_flops_per_s(clock_hz: float, units: float, fma_per_clock_per_unit: float) -> float:
    """Dense peak of a chip: every unit busy in every clock.

    Args:
        clock_hz: the clock that the units keep when all of them work.
        units: tensor cores, matrix cores or systolic arrays.
        fma_per_clock_per_unit: fused multiply-adds of one unit in one clock; of an n x n array n^2.

    Raises:
        ValueError: when one of them is not a positive number.
    """
    _check_positive(clock_hz=clock_hz, units=units, fma_per_clock_per_unit=fma_per_clock_per_unit)
    return FLOPS_PER_FMA * clock_hz * units * fma_per_clock_per_unit


def simd_flops_per_s(cores: int, clock_hz: float, lanes: int, fma_units: int) -> float:
    """Peak of a processor's vector units.

    Args:
        cores: of all sockets; the second thread of a core adds nothing.
        clock_hz: the clock of wide vector code, on all cores.
        lanes: numbers in one vector register, for example 512 / 64 = 8 doubles.
        fma_units: vector fused multiply-adds that a core starts in one clock.

    Raises:
        ValueError: when one of them is not a positive number.
    """
    _check_positive(cores=cores, clock_hz=clock_hz, lanes=lanes, fma_units=fma_units)
    return peak_flops_per_s(clock_hz, cores * fma_units, lanes)


def training_flops_per_token(
    n_params: float, *, n_layers: int = 0, attention_dim: int = 0, context: int = 0
) -> float:
    """FLOPs of the model for one token of training, forward and backward: 6 N + 12 L E T.

    Args:
        n_params: that a token is multiplied with.
        n_layers: L. Left at zero, attention's own products are not counted.
        attention_dim: E, heads times their size.
        context: T, tokens of a sequence. PaLM's convention counts every pair of tokens, also those
            that the causal mask takes away.

    Raises:
        ValueError: when there are no parameters, or something is below zero.
    """
    _check_positive(n_params=n_params)
    if not min(n_layers, attention_dim, context) >= 0:
        raise ValueError(
            "n_layers, attention_dim and context must be zero or more; "
            f"got {n_layers!r}, {attention_dim!r} and {context!r}."
        )
    return 6 * n_params + 12 * n_layers * attention_dim * context


def mfu(flops: float, seconds: float, peak_flops_per_s: float, *, n_chips: int = 1) -> float:
    """Model FLOPs utilisation: the share of the peak that went into the model.

    Args:
        flops: of the model, for all tokens of the time; of a rate, those of one second.
        seconds: the whole step, with communication.
        peak_flops_per_s: of one chip, dense, in the format that the products were made in.
        n_chips: all that took part.

    Raises:
        ValueError: when one of them is not a positive number, or the share is above 1.
    """
    _check_positive(
        flops=flops, seconds=seconds, peak_flops_per_s=peak_flops_per_s, n_chips=n_chips
    )
    share = flops / (seconds * n_chips * peak_flops_per_s)
    if share > 1:
        raise ValueError(
            f"{share:.2f} of the peak is more than there is: are all chips counted, is the peak "
            "that of the format in use, and are the seconds those of all tokens?"
        )
    return share


def per_watt(chip: Accelerator, dtype: str = "bf16") -> float | None:
    """Peak over maximum power, in FLOP per joule; ``None`` where one is not known."""
    return _over(chip, dtype, chip.tdp_w)


def per_mm2(chip: Accelerator, dtype: str = "bf16") -> float | None:
    """Peak over area of all compute dies, in FLOP/s per mm2; ``None`` where one is not known."""
    area_mm2 = chip.die_area_mm2
    return _over(chip, dtype, None if area_mm2 is None else area_mm2 * chip.compute_dies)


def _over(chip: Accelerator, dtype: str, size: float | None) -> float | None:
    peak = chip.peak_flops_per_s.get(dtype)
    return None if peak is None or size is None else peak / size


def _check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number; got {value!r}.")
