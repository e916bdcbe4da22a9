"""Number formats: which values a few bits can name, and what rounding to them costs.

    value = (1 + mantissa / 2^M) x 2^(exponent - bias),  bias = 2^(E - 1) - 1,  u = 2^-(M + 1)

A step is ``2^-M`` of the power of two below it, so rounding errs by ``u`` at most, relatively, down
to the smallest normal value; the subnormal values below it are evenly spaced. It knows nothing of
speed, and nothing of scales shared by a block of values. Sources: IEEE 754-2019, section 3; OCP
8-bit Floating Point Specification (OFP8) 1.0; OCP Microscaling Formats 1.0, section 5.3.3 (fp4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stackkit.core.units import BITS_PER_BYTE

Specials = Literal["ieee", "one-nan", "none"]


@dataclass(frozen=True)
class Format:
    """How the bits of a number are used. Without an exponent it is a two's complement integer."""

    name: str
    exponent_bits: int  # 0: an integer
    mantissa_bits: int  # stored: the leading one of a float is not
    specials: Specials  # what the highest codes mean: infinity and NaNs, one NaN, or numbers
    saturates: bool  # beyond the maximum: the maximum, or infinity

    @property
    def bits(self) -> int:
        """Sign, exponent and mantissa."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def stored_bytes(self) -> float:
        """Bytes in memory: tf32 has 19 bits and is kept in 32."""
        return 2 ** math.ceil(math.log2(self.bits)) / BITS_PER_BYTE

    @property
    def bias(self) -> int:
        """What is taken from the stored exponent."""
        return 2 ** (self.exponent_bits - 1) - 1 if self.exponent_bits else 0

    @property
    def max(self) -> float:
        """Largest finite value."""
        if not self.exponent_bits:
            return float(2**self.mantissa_bits - 1)
        last = {"ieee": 1, "one-nan": 2, "none": 1}[self.specials]  # the all-ones mantissa is a NaN
        top = self.bias if self.specials == "ieee" else self.bias + 1
        return (2 - last * self.epsilon) * 2.0**top

    @property
    def lowest(self) -> float:
        """Most negative finite value; integers have one more below zero than above."""
        return -self.max if self.exponent_bits else -self.max - 1

    @property
    def smallest_normal(self) -> float:
        """Smallest positive value with all its digits."""
        return 2.0 ** (1 - self.bias) if self.exponent_bits else 1.0

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive value."""
        return self.smallest_normal * self.epsilon

    @property
    def epsilon(self) -> float:
        """From 1 to the next value."""
        return 2.0**-self.mantissa_bits if self.exponent_bits else 1.0

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding a normal value: half of epsilon."""
        return self.epsilon / 2

    @property
    def decimal_digits(self) -> float:
        """Digits of a decimal number that it holds, log10 of 2^p: 7.2 of fp32."""
        leading = 1 if self.exponent_bits else 0
        return (self.mantissa_bits + leading) * math.log10(2)


FORMATS = {
    format.name: format
    for format in (
        Format("fp32", exponent_bits=8, mantissa_bits=23, specials="ieee", saturates=False),
        Format("tf32", exponent_bits=8, mantissa_bits=10, specials="ieee", saturates=False),
        Format("bf16", exponent_bits=8, mantissa_bits=7, specials="ieee", saturates=False),
        Format("fp16", exponent_bits=5, mantissa_bits=10, specials="ieee", saturates=False),
        Format("fp8-e4m3", exponent_bits=4, mantissa_bits=3, specials="one-nan", saturates=True),
        Format("fp8-e5m2", exponent_bits=5, mantissa_bits=2, specials="ieee", saturates=True),
        Format("int8", exponent_bits=0, mantissa_bits=7, specials="none", saturates=True),
        Format("fp4-e2m1", exponent_bits=2, mantissa_bits=1, specials="none", saturates=True),
    )
}


def number_format(name: str) -> Format:
    """One format by its name, for example ``"bf16"``.

    Raises:
        ValueError: when there is none of that name, with those there are.
    """
    if name not in FORMATS:
        raise ValueError(f"There is no number format {name!r}; there are {', '.join(FORMATS)}.")
    return FORMATS[name]


def quantise(x: np.ndarray, format: Format, *, scale: float | np.ndarray = 1.0) -> np.ndarray:
    """The nearest values that the format can name, times ``scale``; of two as near, the even one.

    Args:
        x: any shape; taken as float64, and not modified.
        format: one of ``FORMATS``.
        scale: what one unit of the format stands for; a number, or an array that fits ``x``.

    Returns:
        float64, of the shape of ``x``. What is too large becomes the maximum where the format
        saturates, infinity where it does not. A NaN stays one, even where the format has none.

    Raises:
        ValueError: when a scale is not above zero.
    """
    if not (np.all(np.asarray(scale) > 0) and np.all(np.isfinite(scale))):
        raise ValueError(f"scale must be above zero; got {scale!r}. For zeros alone, use 1.")
    units = np.asarray(x, dtype=np.float64) / scale
    if format.exponent_bits:
        # frexp has the mantissa in [0.5, 1), hence the 1; below the smallest normal value the
        # exponent, and with it the step, stays.
        exponent = np.maximum(np.frexp(units)[1] - 1, 1 - format.bias)
        step = np.ldexp(1.0, exponent - format.mantissa_bits)
        nearest = np.rint(units / step) * step  # a power of two: both are exact
    else:
        nearest = np.rint(units) + 0.0  # an integer has no negative zero
    if format.saturates:
        nearest = np.clip(nearest, format.lowest, format.max)
    else:
        nearest = np.where(np.abs(nearest) > format.max, np.copysign(np.inf, nearest), nearest)
    return nearest * scale


def widest_scale(x: np.ndarray, format: Format) -> float:
    """The scale with which the largest of ``x`` becomes the format's maximum; 1 if all are zero."""
    largest = float(np.max(np.abs(x), initial=0.0))
    return largest / format.max if largest else 1.0


def values(format: Format) -> np.ndarray:
    """Every finite value of a format of 16 bits or less, in order, zero once.

    Raises:
        ValueError: when the format has more bits.
    """
    if format.bits > 16:
        raise ValueError(f"{format.name} has {format.bits} bits: too many values to list.")
    if not format.exponent_bits:
        return np.arange(format.lowest, format.max + 1)
    exponent, mantissa = np.divmod(np.arange(2 ** (format.bits - 1)), 2**format.mantissa_bits)
    # A stored exponent of 0 is that of 1, without the leading one: the subnormal values.
    leading = np.where(exponent > 0, 1.0, 0.0)
    power = np.maximum(exponent, 1) - format.bias
    positive = np.ldexp(leading + mantissa * format.epsilon, power)
    positive = positive[positive <= format.max]  # the rest are infinity and NaNs
    return np.concatenate([-positive[:0:-1], positive])


def accumulate(terms: np.ndarray, format: Format) -> np.ndarray:
    """Running sums along the first axis, each rounded to the format before the next term.

    The terms are not rounded: a fused multiply-add rounds once, after the sum. Same shape, float64.
    """
    sums = np.empty(np.shape(terms))
    total = np.zeros(np.shape(terms)[1:])
    for i, term in enumerate(terms):
        total = sums[i] = quantise(total + term, format)
    return sums


@dataclass(frozen=True)
class DotError:
    """Errors of dot products of one length, root mean square, relative to the sum of all |a b|."""

    length: int
    inputs: float  # of rounding the vectors
    sum: float  # of rounding after each addition
    total: float  # of both, against float64


def dot_error(
    format: Format,
    lengths: Sequence[int],
    *,
    accumulator: Format | None = None,
    positive: bool = True,
    trials: int = 64,
    seed: int = 0,
) -> list[DotError]:
    """What a dot product of random vectors loses, by length.

    The error of the sum grows like ``sqrt(n) u`` for values of one sign, and at most like ``n u``;
    for values around zero it does not grow (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019, and
    42(5), 2020). Once a term is less than half a step of the sum, the sum stops.

    Args:
        format: of the vectors.
        lengths: each 1 or more.
        accumulator: of the sum; ``None`` for that of the vectors. Products are exact.
        positive: values from [0, 1), or else from [-1, 1).
        trials: pairs of vectors.
        seed: of the random values.

    Raises:
        ValueError: when there is no length, or one is below 1.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths must be 1 or more, and one of them at least; got {lengths!r}.")
    low = 0.0 if positive else -1.0
    a, b = np.random.default_rng(seed).uniform(low, 1.0, (2, max(lengths), trials))  # (n, trials)
    exact = a * b
    rounded = quantise(a, format) * quantise(b, format)
    sums = accumulate(rounded, accumulator or format)

    errors = []
    for n in lengths:
        size = np.abs(exact[:n]).sum(0)
        wanted, of_rounded = exact[:n].sum(0), rounded[:n].sum(0)
        gaps = (of_rounded - wanted, sums[n - 1] - of_rounded, sums[n - 1] - wanted)
        errors.append(DotError(n, *(_root_mean_square(gap / size) for gap in gaps)))
    return errors


def _root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))
