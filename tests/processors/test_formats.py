"""Number formats: against torch, against numpy, against whole tables, and published limits."""

import math

import numpy as np
import pytest

from stackkit.processors.formats import (
    FORMATS,
    accumulate,
    dot_error,
    number_format,
    quantise,
    values,
    widest_scale,
)

FP32, TF32, BF16, FP16, E4M3, E5M2, INT8, FP4 = FORMATS.values()
TORCH = {  # format -> torch's name of it
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp8-e4m3": "float8_e4m3fn",
    "fp8-e5m2": "float8_e5m2",
}
SMALL = [format for format in FORMATS.values() if format.bits <= 16]
FLOATS = [format for format in FORMATS.values() if format.exponent_bits]


def samples(format) -> np.ndarray:
    """Values that float32 holds: of all sizes, ties, subnormals, zeros and what is just beyond."""
    random = np.random.default_rng(0)
    exponents = random.uniform(
        math.log2(format.smallest_subnormal) - 3, math.log2(format.max), 4000
    )
    sizes = np.exp2(exponents) * random.uniform(1, 2, 4000)
    # Halfway between two neighbours, from every size; and a hair to either side.
    powers = np.exp2(random.integers(-14, 15, 2000)) * min(1.0, format.max / 2**15)
    ties = powers * (1 + (random.integers(0, 2**format.mantissa_bits, 2000) + 0.5) * format.epsilon)
    below = (random.integers(0, 2**format.mantissa_bits, 500) + 0.5) * format.smallest_subnormal
    near = np.concatenate([ties, below])
    edges = [0.0, -0.0, format.max, format.smallest_normal, format.smallest_subnormal, 1.0]
    x = np.concatenate([sizes, near, near * (1 + 1e-5), near * (1 - 1e-5), edges])
    x = x[x <= format.max]
    return np.concatenate([x, -x]).astype(np.float32).astype(np.float64)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit, with the sign of zero, but any NaN for any."""
    nan = np.isnan(a) & np.isnan(b)
    return bool(np.all(nan | ((a == b) & (np.signbit(a) == np.signbit(b)))))


# A second route


@pytest.mark.parametrize("name", TORCH)
def test_rounding_is_torch_s(name):
    torch = pytest.importorskip("torch")
    x = samples(FORMATS[name])
    theirs = torch.tensor(x, dtype=torch.float32).to(getattr(torch, TORCH[name])).double().numpy()
    assert len(x) > 10_000
    assert same(quantise(x, FORMATS[name]), theirs)


@pytest.mark.parametrize(("name", "dtype"), [("fp32", np.float32), ("fp16", np.float16)])
def test_rounding_is_numpy_s(name, dtype):
    """From float64 at once: ties of fp32 too, which no float32 holds."""
    x = np.random.default_rng(1).normal(size=5000) * np.exp2(np.linspace(-30, 14, 5000))
    ties = (1 + (np.arange(4000) + 0.5) * FORMATS[name].epsilon) * 2.0**-3
    beyond = [1e300, -1e300, 65519.99, 65520.0, np.inf, -np.inf, np.nan, 1e-46, -0.0]
    x = np.concatenate([x, ties, -ties, beyond])
    with np.errstate(over="ignore"):
        assert same(quantise(x, FORMATS[name]), x.astype(dtype).astype(np.float64))


@pytest.mark.parametrize("name", [name for name in TORCH if name != "fp16"])
def test_the_values_are_those_that_torch_s_bits_decode_to(name):
    torch = pytest.importorskip("torch")
    codes = np.arange(2 ** FORMATS[name].bits)
    unsigned = torch.tensor(codes.astype(f"uint{FORMATS[name].bits}"))
    theirs = unsigned.view(getattr(torch, TORCH[name])).double().numpy()
    assert np.array_equal(values(FORMATS[name]), np.unique(theirs[np.isfinite(theirs)]))


def test_all_sixteen_codes_of_fp4():
    """OCP Microscaling Formats 1.0, section 5.3.3."""
    positive = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert values(FP4).tolist() == [-v for v in positive[:0:-1]] + positive


@pytest.mark.parametrize(
    ("x", "rounded"),
    [(0.25, 0), (0.75, 1), (1.25, 1), (1.75, 2), (2.5, 2), (3.5, 4), (5, 4), (5.1, 6), (9, 6)],
)
def test_fp4_rounds_ties_to_the_even_code(x, rounded):
    assert quantise([x, -x], FP4).tolist() == [rounded, -rounded]


@pytest.mark.parametrize("format", SMALL, ids=lambda format: format.name)
def test_rounding_finds_the_nearest_of_all_values(format):
    """By search through the table instead of by powers of two."""
    x = samples(format)[::7] if format.exponent_bits else np.linspace(-140, 140, 1117)
    x = np.clip(x, format.lowest, format.max)
    there_are = values(format)
    after = np.clip(np.searchsorted(there_are, x), 1, len(there_are) - 1)
    nearest = np.minimum(np.abs(x - there_are[after - 1]), np.abs(x - there_are[after]))
    assert np.array_equal(np.abs(x - quantise(x, format)), nearest)


@pytest.mark.parametrize("format", SMALL, ids=lambda format: format.name)
def test_a_value_of_the_format_is_left_alone(format):
    assert np.array_equal(quantise(values(format), format), values(format))


@pytest.mark.parametrize("format", FLOATS, ids=lambda format: format.name)
def test_no_normal_value_errs_by_more_than_the_unit_roundoff(format):
    """The worst are the ties above a power of two: half a step of 1 + u."""
    low, high = math.log2(format.smallest_normal), math.log2(format.max)
    x = np.exp2(np.random.default_rng(4).uniform(low, high, 20_000))
    errors = np.abs(quantise(x, format) - x) / x
    worst = format.unit_roundoff / (1 + format.unit_roundoff)
    assert 0.95 * worst < errors.max() <= worst * (1 + 1e-9)


# Published limits


@pytest.mark.parametrize(
    ("format", "largest", "normal", "subnormal"),
    [
        (FP32, 3.4028234663852886e38, 2.0**-126, 2.0**-149),  # IEEE 754 binary32
        (FP16, 65504, 2.0**-14, 2.0**-24),  # IEEE 754 binary16
        (BF16, 3.3895313892515355e38, 2.0**-126, 2.0**-133),  # torch.finfo
        (E4M3, 448, 2.0**-6, 2.0**-9),  # OCP OFP8 1.0, table 2
        (E5M2, 57344, 2.0**-14, 2.0**-16),  # OCP OFP8 1.0, table 2
        (FP4, 6, 1, 0.5),  # OCP MX 1.0, table 5
    ],
)
def test_the_limits_are_those_of_the_standards(format, largest, normal, subnormal):
    assert format.max == largest
    assert format.smallest_normal == normal
    assert format.smallest_subnormal == subnormal


@pytest.mark.parametrize(
    ("format", "fields"),
    [
        (FP32, (1, 8, 23, 32)),
        (TF32, (1, 8, 10, 19)),  # NVIDIA's CUDA documentation, __nv_tf32
        (BF16, (1, 8, 7, 16)),
        (FP16, (1, 5, 10, 16)),
        (E4M3, (1, 4, 3, 8)),
        (E5M2, (1, 5, 2, 8)),
        (FP4, (1, 2, 1, 4)),
    ],
)
def test_the_fields_are_those_that_are_published(format, fields):
    assert (1, format.exponent_bits, format.mantissa_bits, format.bits) == fields


def test_tf32_has_the_range_of_fp32_and_the_step_of_fp16():
    assert TF32.smallest_normal == FP32.smallest_normal
    assert TF32.epsilon == FP16.epsilon


def test_tf32_fills_four_bytes_and_fp4_half_of_one():
    assert [format.stored_bytes for format in (TF32, BF16, E4M3, FP4)] == [4, 2, 1, 0.5]


def test_decimal_digits_are_those_of_the_textbook():
    """Of binary32 and binary16: 7.22 and 3.31 (p log10 2)."""
    digits = [round(format.decimal_digits, 2) for format in (FP32, FP16, BF16, INT8)]
    assert digits == [7.22, 3.31, 2.41, 2.11]


def test_integers_have_one_more_below_zero():
    assert (INT8.lowest, INT8.max, len(values(INT8))) == (-128, 127, 256)


# Beyond the maximum


@pytest.mark.parametrize("format", FORMATS.values(), ids=lambda format: format.name)
def test_too_large_saturates_or_becomes_infinite(format):
    high, low = quantise([2 * format.max, 2 * format.lowest - 1], format)
    limits = (format.max, format.lowest) if format.saturates else (math.inf, -math.inf)
    if format is not FP32:  # of which twice the maximum is a float64 like any other
        assert (high, low) == limits
    assert quantise(math.inf, format) == limits[0]


def test_halfway_to_the_next_power_is_where_infinity_begins():
    """IEEE 754-2019, section 4.3.1: 65,520 for binary16."""
    assert quantise([65519.99, 65520.0], FP16).tolist() == [65504, math.inf]


@pytest.mark.parametrize("format", FORMATS.values(), ids=lambda format: format.name)
def test_a_nan_stays_one(format):
    assert np.isnan(quantise(math.nan, format))


def test_an_integer_has_no_negative_zero_and_a_float_has():
    assert not np.signbit(quantise(-0.2, INT8))
    assert np.signbit(quantise(-0.2, FP4))


# Scales


def test_a_scale_stretches_the_steps():
    assert quantise([0.24, 0.26, 100], INT8, scale=0.1).tolist() == pytest.approx([0.2, 0.3, 12.7])


def test_a_scale_for_each_row():
    x = np.array([[1.0, 127.0], [0.01, 1.27]])
    scale = np.array([[1.0], [0.01]])
    assert quantise(x, INT8, scale=scale) == pytest.approx(x)


@pytest.mark.parametrize("format", [E4M3, INT8, FP4], ids=lambda format: format.name)
def test_the_widest_scale_just_saves_the_largest(format):
    x = np.random.default_rng(2).normal(size=1000)
    scale = widest_scale(x, format)
    largest = np.argmax(np.abs(x))
    assert quantise(x, format, scale=scale)[largest] == pytest.approx(x[largest])
    assert np.max(np.abs(quantise(x, format, scale=0.9 * scale))) < np.max(np.abs(x)) * 0.95


def test_the_widest_scale_of_nothing_is_one():
    assert widest_scale(np.zeros(3), INT8) == widest_scale(np.array([]), INT8) == 1


@pytest.mark.parametrize("scale", [0, -1.0, math.nan, math.inf, [1.0, 0.0]])
def test_an_impossible_scale_is_refused(scale):
    with pytest.raises(ValueError, match=r"scale must be above zero; got .* use 1"):
        quantise([1.0, 2.0], INT8, scale=scale)


def test_the_input_is_not_modified():
    x = np.array([0.3, 1.7])
    quantise(x, FP4)
    assert x.tolist() == [0.3, 1.7]


# Sums


@pytest.mark.parametrize(("format", "stops_at"), [(BF16, 256), (FP16, 2048), (E4M3, 16), (E5M2, 8)])
def test_counting_by_ones_stops_at_two_to_the_digits(format, stops_at):
    """2^p + 1 lies halfway to the next value, and the even one is 2^p."""
    assert accumulate(np.ones(3000), format)[-1] == stops_at


def test_a_running_sum_is_rounded_after_every_term():
    assert accumulate(np.array([1.0, 0.004, 0.004]), BF16).tolist() == [1.0, 1.0078125, 1.015625]


def test_a_running_sum_is_numpy_s():
    terms = np.random.default_rng(3).normal(size=(200, 5)).astype(np.float32)
    assert np.array_equal(accumulate(terms, FP32), np.cumsum(terms, axis=0, dtype=np.float32))


@pytest.mark.parametrize("format", [BF16, FP16, E4M3], ids=lambda format: format.name)
@pytest.mark.parametrize("positive", [True, False])
def test_no_sum_errs_by_more_than_its_length_times_the_unit_roundoff(format, positive):
    """Higham, Accuracy and Stability, 2002, section 3.1: n u / (1 - n u), of rounded inputs."""
    for error in dot_error(format, [1, 3, 7], positive=positive):
        u, n = format.unit_roundoff, error.length
        assert error.sum <= n * u / (1 - n * u) * (1 + 2 * u) ** 2


def test_sums_of_one_sign_lose_like_the_root_of_their_length():
    """Sixteen times as long, four times the error; in fp32, which does not stop here."""
    short, long = dot_error(FP32, [256, 4096], trials=400)
    assert 3 < long.sum / short.sum < 5.3
    assert long.sum < math.sqrt(4096) * FP32.unit_roundoff


def test_sums_around_zero_lose_no_more_when_they_are_long():
    """Higham and Mary, 2020: for values of mean zero the bound does not grow."""
    short, long = dot_error(FP16, [64, 4096], positive=False, trials=200)
    assert 0.7 < long.sum / short.sum < 1.4


def test_a_long_sum_in_its_own_format_stops():
    """Of 4,096 products of mean 1/4, bf16 counts to about 256."""
    (error,) = dot_error(BF16, [4096])
    assert 0.7 < error.total < 0.8


@pytest.mark.parametrize("format", [BF16, FP16, E4M3], ids=lambda format: format.name)
def test_with_an_fp32_sum_the_inputs_are_what_is_lost(format):
    (error,) = dot_error(format, [1024], accumulator=FP32)
    (own,) = dot_error(format, [1024])
    assert error.total == pytest.approx(error.inputs, rel=0.05)
    assert error.sum < 0.05 * error.inputs
    assert error.total < 0.01 * own.total


def test_errors_of_the_inputs_average_out():
    """Independent errors of n terms over a sum that grows like n: one over the root."""
    short, long = dot_error(E4M3, [64, 4096], accumulator=FP32, trials=400)
    assert short.inputs / long.inputs == pytest.approx(8, rel=0.2)


def test_one_seed_is_one_answer():
    assert dot_error(BF16, [8, 64], seed=5) == dot_error(BF16, [8, 64], seed=5)
    assert dot_error(BF16, [8], seed=5) != dot_error(BF16, [8], seed=6)


@pytest.mark.parametrize("lengths", [[], [0], [4, -1]])
def test_an_impossible_length_is_refused(lengths):
    with pytest.raises(ValueError, match="lengths must be 1 or more, and one of them at least"):
        dot_error(BF16, lengths)


# Names


def test_a_format_is_found_by_its_name():
    assert number_format("bf16") is BF16


def test_an_unknown_format_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no number format 'float16'; there are fp32, tf32, .*"):
        number_format("float16")


def test_too_many_values_are_not_listed():
    with pytest.raises(ValueError, match="tf32 has 19 bits: too many values to list"):
        values(TF32)
