"""Printing quantities: the right prefix, the right digits, decimal and not binary."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.core.units import GIB, GIGA, KIB, KILO, MEGA, MIB, PETA, TERA, si

# SI brochure, 9th edition, table 7. Kept apart from the library's own table on purpose.
POWER_OF = {"E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "": 0}
POWER_OF |= {"m": -3, "µ": -6, "n": -9, "p": -12}


def test_decimal_prefixes_are_powers_of_ten():
    assert [math.log10(p) for p in (KILO, MEGA, GIGA, TERA, PETA)] == [3, 6, 9, 12, 15]


def test_binary_prefixes_are_powers_of_1024():
    # IEC 80000-13: 1 GiB = 1,073,741,824 bytes.
    assert (KIB, MIB, GIB) == (1024, 1_048_576, 1_073_741_824)


def test_tera_is_not_two_to_the_forty():
    """The fault that makes an MFU 9 % low: 2**40 / 1e12 = 1.0995."""
    too_many = 2**40 / TERA
    assert too_many == pytest.approx(1.0995, rel=1e-4)


def test_a_gibibyte_is_not_printed_as_a_gigabyte():
    assert si(GIB, "B") == "1.07 GB"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.35e12, "B/s", "3.35 TB/s"),
        (819.2e9, "B/s", "819 GB/s"),
        (989.4e12, "FLOP/s", "989 TFLOP/s"),
        (80e9, "B", "80 GB"),
        (2.5e-6, "s", "2.5 µs"),
        (3.9e-12, "J/bit", "3.9 pJ/bit"),
        (700, "W", "700 W"),
    ],
)
def test_the_prefix_suits_the_size(value, unit, text):
    assert si(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (999.9999e6, "B", "1 GB"),
        (999.6, "W", "1 kW"),
        (0.9999e-3, "s", "1 ms"),
        (999_999_999_999, "FLOP", "1 TFLOP"),
    ],
)
def test_a_value_that_rounds_up_takes_the_next_prefix(value, unit, text):
    assert si(value, unit) == text


def test_a_value_just_below_the_rounding_keeps_its_prefix():
    assert si(999.4e6, "B") == "999 MB"


def test_zero_has_no_prefix():
    assert si(0, "B/s") == "0 B/s"


@pytest.mark.parametrize(("value", "text"), [(math.nan, "nan s"), (math.inf, "inf s")])
def test_what_is_no_number_is_printed_as_it_is(value, text):
    assert si(value, "s") == text


def test_minus_infinity_keeps_its_sign():
    assert si(-math.inf, "s") == "-inf s"


def test_a_negative_quantity_has_the_prefix_of_its_size():
    assert si(-3.35e12, "B/s") == "-3.35 TB/s"


def test_counts_are_exact():
    assert [si(1), si(1024), si(131_072), si(999_999)] == ["1", "1,024", "131,072", "999,999"]


def test_large_counts_are_in_words():
    assert [si(8.03e9), si(135e6), si(15.6e12)] == ["8.03 billion", "135 million", "15.6 trillion"]


def test_a_count_that_rounds_up_takes_the_next_word():
    assert si(999_999_999) == "1 billion"


def test_a_unit_without_prefixes_is_printed_in_full():
    assert [si(814, "mm2"), si(295.3, "FLOP/B")] == ["814 mm²", "295 FLOP/B"]


def test_digits_are_significant_digits():
    assert [si(2.0394e12, "B/s", digits) for digits in (1, 2, 4)] == [
        "2 TB/s",
        "2 TB/s",
        "2.039 TB/s",
    ]


def test_digits_before_the_point_are_kept():
    assert si(204.8e9, "B", 2) == "200 GB"


def test_small_numbers_are_never_in_scientific_notation():
    assert si(0.000123) == "0.000123"


@given(st.floats(1e-12, 999e18), st.integers(1, 6))
def test_the_printed_quantity_reads_back_as_the_value(value, digits):
    """Half a unit of the last significant digit is at most 0.5 x 10^(1 - digits) of the value."""
    text = si(value, "B/s", digits)
    mantissa, prefix = re.fullmatch(r"([\d.,]+) (.?)B/s", text).groups()
    read = float(mantissa.replace(",", "")) * 10.0 ** POWER_OF[prefix]
    assert read == pytest.approx(value, rel=0.5001 * 10.0 ** (1 - digits))


@given(st.integers(1, 999), st.integers(-12, 17))
def test_the_printed_mantissa_is_between_1_and_1000(mantissa, power):
    printed = float(si(mantissa * 10.0**power, "B/s").split()[0])
    assert 1 <= printed < 1000


@pytest.mark.parametrize(("value", "digits"), [(999.5e-6, 3), (995_000, 2)])
def test_a_tie_takes_prefix_and_mantissa_from_one_rounding(value, digits):
    """Not "1,000 µs", and not "0.99 MB": the two must agree on where the tie went."""
    assert 1 <= float(si(value, "s", digits).split()[0].replace(",", "")) < 1000
