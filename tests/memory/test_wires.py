"""Bandwidth from wires and speed, against standards and datasheets."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.memory import hbm_bytes_per_s


@pytest.mark.parametrize(
    ("bus_bits", "gbit_per_pin", "bytes_per_s", "rel"),
    [
        (1024, 6.4, 819e9, 1e-3),  # JEDEC JESD238, HBM3: 819 GB/s per device
        (2048, 8.0, 2e12, 0.03),  # JEDEC JESD270-4, HBM4: up to 2 TB/s
        (5120, 2 * 1.593, 2039e9, 1e-3),  # A100 SXM 80 GB datasheet; deviceQuery: 1593 MHz, DDR
        (512, 28.0, 1792e9, 1e-3),  # NVIDIA RTX Blackwell whitepaper, RTX 5090
        (384, 21.0, 1008e9, 1e-3),  # NVIDIA Ada whitepaper, RTX 4090
        (64, 6.4, 51.2e9, 1e-3),  # DDR5-6400 is PC5-51200 in JEDEC's module names
    ],
)
def test_a_bus_is_as_fast_as_its_datasheet_says(bus_bits, gbit_per_pin, bytes_per_s, rel):
    assert hbm_bytes_per_s(bus_bits, gbit_per_pin) == pytest.approx(bytes_per_s, rel=rel)


def test_eight_wires_at_one_gigabit_carry_a_gigabyte():
    assert hbm_bytes_per_s(8, 1) == 1e9


def test_the_bandwidth_is_decimal():
    """1024 wires at 6.4 Gbit/s are 763 GiB/s; printing those as GB/s is the fault."""
    assert hbm_bytes_per_s(1024, 6.4) / 2**30 == pytest.approx(763, rel=1e-3)


@given(st.integers(1, 16384), st.floats(0.1, 100))
def test_two_buses_carry_twice_as_much_as_one(bus_bits, gbit_per_pin):
    one, both = (hbm_bytes_per_s(n * bus_bits, gbit_per_pin) for n in (1, 2))
    assert both == pytest.approx(2 * one)


@pytest.mark.parametrize("bad", [0, -1024, math.nan])
def test_a_bus_without_wires_is_refused(bad):
    with pytest.raises(ValueError, match="bus_bits must be a positive number; got"):
        hbm_bytes_per_s(bad, 6.4)


@pytest.mark.parametrize("bad", [0, -6.4, math.nan])
def test_a_wire_without_speed_is_refused(bad):
    with pytest.raises(ValueError, match="gbit_per_pin must be a positive number; got"):
        hbm_bytes_per_s(1024, bad)
