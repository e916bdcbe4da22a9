"""The roofline: two roofs, a ridge where they meet, and two bounds on any time."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.atlas import accelerator
from stackkit.memory import Roofline, roofline_of

quantity = st.floats(1e3, 1e18)
intensity = st.floats(1e-6, 1e9)
amount = st.floats(0, 1e24)
roofline = st.builds(Roofline, quantity, quantity)


# Published ridge points


@pytest.mark.parametrize(
    ("name", "flops_per_byte"),
    [
        ("h100-sxm", 295),  # Austin et al., How to Scale Your Model, part 12: 990e12 / 3.35e12
        ("tpu-v5e", 240),  # the same, part 1: 1.97e14 / 8.2e11
    ],
)
def test_a_chip_s_ridge_point_is_the_published_one(name, flops_per_byte):
    assert roofline_of(accelerator(name)).ridge_point == pytest.approx(flops_per_byte, rel=0.01)


def test_faster_memory_moves_the_ridge_to_the_left():
    """H200 has the H100's die and 4.8 TB/s for 3.35."""
    h100, h200 = (roofline_of(accelerator(name)).ridge_point for name in ("h100-sxm", "h200-sxm"))
    assert h200 / h100 == pytest.approx(3.35 / 4.8)


# Attainable


@given(roofline, intensity)
def test_nothing_is_attained_above_either_roof(roof, x):
    assert roof.attainable(x) <= roof.peak_flops_per_s
    assert roof.attainable(x) <= x * roof.bytes_per_s


@given(roofline, intensity)
def test_one_of_the_roofs_is_always_reached(roof, x):
    assert roof.attainable(x) in (roof.peak_flops_per_s, x * roof.bytes_per_s)


@given(roofline)
def test_the_roofs_meet_at_the_ridge(roof):
    ridge = roof.ridge_point
    assert roof.attainable(ridge) == pytest.approx(roof.peak_flops_per_s)
    assert ridge * roof.bytes_per_s == pytest.approx(roof.peak_flops_per_s)


@given(roofline, intensity, intensity)
def test_more_work_per_byte_never_attains_less(roof, one, other):
    less, more = sorted((one, other))
    assert roof.attainable(less) <= roof.attainable(more)


def test_without_arithmetic_nothing_is_attained():
    assert Roofline(1e12, 1e9).attainable(0) == 0


def test_without_bytes_the_peak_is_attained():
    assert Roofline(1e12, 1e9).attainable(math.inf) == 1e12


# Bounds


@given(roofline, amount, amount)
def test_the_bounds_are_at_most_a_factor_of_two_apart(roof, flops, moved):
    lower, upper = roof.bounds(flops, moved)
    assert lower <= upper <= 2 * lower


@given(roofline, st.floats(1, 1e24), st.floats(1, 1e24))
def test_the_lower_bound_is_the_attainable_rate(roof, flops, moved):
    lower, _ = roof.bounds(flops, moved)
    assert flops / lower == pytest.approx(roof.attainable(flops / moved))


@given(roofline, amount)
def test_without_bytes_both_bounds_are_the_arithmetic(roof, flops):
    assert roof.bounds(flops, 0) == (flops / roof.peak_flops_per_s,) * 2


@given(roofline, amount)
def test_without_arithmetic_both_bounds_are_the_traffic(roof, moved):
    assert roof.bounds(0, moved) == (moved / roof.bytes_per_s,) * 2


@given(roofline, st.floats(1, 1e18))
def test_at_the_ridge_the_bounds_are_farthest_apart(roof, moved):
    lower, upper = roof.bounds(moved * roof.ridge_point, moved)
    assert upper == pytest.approx(2 * lower)


@given(roofline, st.floats(1, 1e18), st.floats(1, 1e18))
def test_counting_bits_in_place_of_bytes_changes_no_time(roof, flops, moved):
    """A check of dimensions: the unit of data cancels out."""
    in_bits = Roofline(roof.peak_flops_per_s, 8 * roof.bytes_per_s)
    assert in_bits.bounds(flops, 8 * moved) == pytest.approx(roof.bounds(flops, moved))


@given(roofline, st.floats(1, 1e18), st.floats(1, 1e18))
def test_a_chip_twice_as_fast_in_both_takes_half_the_time(roof, flops, moved):
    twice = Roofline(2 * roof.peak_flops_per_s, 2 * roof.bytes_per_s)
    halved = tuple(bound / 2 for bound in roof.bounds(flops, moved))
    assert twice.bounds(flops, moved) == pytest.approx(halved)


# Refusals


@pytest.mark.parametrize("bad", [0.0, -1e12, math.nan])
@pytest.mark.parametrize("name", ["peak_flops_per_s", "bytes_per_s"])
def test_a_roof_that_is_not_positive_is_refused(name, bad):
    roofs = {"peak_flops_per_s": 1e12, "bytes_per_s": 1e9} | {name: bad}
    with pytest.raises(ValueError, match=f"needs {name} above zero; got"):
        Roofline(**roofs)


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_an_intensity_below_zero_is_refused(bad):
    with pytest.raises(ValueError, match="intensity must be zero or more FLOP per byte; got"):
        Roofline(1e12, 1e9).attainable(bad)


@pytest.mark.parametrize("work", [(-1, 1), (1, -1), (math.nan, 1), (1, math.nan)])
def test_work_below_zero_is_refused(work):
    with pytest.raises(ValueError, match="flops and bytes must be zero or more; got flops="):
        Roofline(1e12, 1e9).bounds(*work)


def test_a_format_that_the_atlas_lacks_is_refused_with_those_it_has():
    with pytest.raises(ValueError, match=r"no fp3 peak for NVIDIA H100 SXM.*; it has .*bf16"):
        roofline_of(accelerator("h100-sxm"), "fp3")


def test_a_roofline_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Roofline(1e12, 1e9).bytes_per_s = 2e9
