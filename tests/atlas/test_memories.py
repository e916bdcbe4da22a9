"""Memory technologies against their standards."""

import pytest

from stackkit.atlas import memory
from stackkit.atlas.load import table

WITH_WIRES = [
    name for name, entry in table("memories").items() if "bits_per_s_per_pin" in entry["facts"]
]


@pytest.mark.parametrize("name", WITH_WIRES)
def test_wires_times_speed_is_the_bandwidth(name):
    device = memory(name)
    computed = device.bus_bits * device.bits_per_s_per_pin / 8
    assert device.facts["bytes_per_s"].value == pytest.approx(computed, rel=0.01)


@pytest.mark.parametrize(
    ("name", "bytes_per_s"),
    [
        ("hbm3", 819e9),  # JEDEC JESD238, January 2022: 819 GB/s per device
        ("hbm4", 2e12),  # JEDEC JESD270-4, April 2025: up to 2 TB/s
        ("hbm2e", 460e9),  # SK hynix, August 2019: over 460 GB/s
        ("gddr6x", 84e9),  # Micron, September 2020: 84 GB/s per component
        ("ddr5-6400", 51.2e9),  # JEDEC JESD79-5, 64 bit at 6400 MT/s
    ],
)
def test_a_device_is_as_fast_as_its_standard_says(name, bytes_per_s):
    assert memory(name).facts["bytes_per_s"].value == pytest.approx(bytes_per_s, rel=0.03)


def test_hbm4_doubles_the_wires_of_hbm3():
    """JEDEC JESD270-4: 2048 against 1024 bits per stack."""
    assert (memory("hbm4").bus_bits, memory("hbm3").bus_bits) == (2048, 1024)


def test_gddr5_costs_3_6_times_the_energy_of_hbm2():
    """O'Connor et al., MICRO 2017, figure 1a: 14.0 against 3.92 pJ/bit."""
    gddr5, hbm2 = (memory(name).facts["energy_j_per_bit"].value for name in ("gddr5", "hbm2"))
    assert gddr5 / hbm2 == pytest.approx(3.6, rel=0.02)


def test_moving_a_bit_costs_picojoules():
    """Not nanojoules, and not the femtojoules of an adder."""
    energies = [
        entry["facts"]["energy_j_per_bit"]["value"]
        for entry in table("memories").values()
        if "energy_j_per_bit" in entry["facts"]
    ]
    assert energies
    assert [e for e in energies if not 1e-12 <= e <= 100e-12] == []


def test_an_unknown_memory_is_refused_with_near_names():
    with pytest.raises(ValueError, match=r"no 'hbm9' among its memories; near it are .*hbm3"):
        memory("hbm9")


def test_a_width_that_is_not_in_the_atlas_is_none():
    assert memory("hbm2").bus_bits is None
