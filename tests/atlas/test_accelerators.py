"""Chips: dense peaks, one-way links, SXM parts, and numbers that hang together."""

import re

import pytest

from stackkit.atlas import accelerator, accelerators, fact
from stackkit.atlas.load import table

CHIPS = [chip.id for chip in accelerators()]


@pytest.fixture(params=CHIPS)
def chip(request):
    return accelerator(request.param)


def with_facts(*quantities: str) -> list[str]:
    """The chips of which the atlas knows all of these."""
    return [chip.id for chip in accelerators() if set(quantities) <= set(chip.facts)]


# Every chip

PEAK_PARTS = ("boost_clock_hz", "matmul_units", "fma_per_clock_per_unit")
# FLOP/B at the ridge. HBM: 100 to 300 is usual; a card with little arithmetic, or a lot, is not.
RIDGES = {"HBM": (50, 700), "GDDR": (50, 500), "SRAM": (1, 100), "LPDDR": (5, 300), "DDR": (5, 200)}


@pytest.mark.parametrize("name", CHIPS)
def test_the_ridge_point_is_in_the_range_of_its_kind(name):
    """Dense 16-bit peak over bandwidth. A sparse peak, or GB for GiB/s, would stand out."""
    chip = accelerator(name)
    low, high = RIDGES[re.match(r"[A-Z]+", chip.memory_kind).group()]
    peak = chip.peak_flops_per_s.get("bf16") or chip.peak_flops_per_s.get("fp16")
    assert peak is None or low <= peak / chip.memory_bytes_per_s <= high


def test_most_chips_have_a_ridge_point():
    assert sum(bool({"bf16", "fp16"} & set(c.peak_flops_per_s)) for c in accelerators()) > 20


@pytest.mark.parametrize("name", with_facts(*PEAK_PARTS))
def test_a_peak_is_clock_times_units_times_multipliers(name):
    """Bekman, ML Engineering, "How to calculate theoretical TFLOPS"; 2 FLOPs per FMA."""
    clock, units, fma = (accelerator(name).facts[part].value for part in PEAK_PARTS)
    if name == "gb200":
        units = 4 * 148  # NVIDIA's printed peak counts the multiprocessors of a B200
    peak = accelerator(name).peak_flops_per_s["bf16"]
    assert peak == pytest.approx(2 * clock * units * fma, rel=0.015)


def test_several_peaks_can_be_computed():
    assert len(with_facts(*PEAK_PARTS)) >= 6


@pytest.mark.parametrize("name", [chip.id for chip in accelerators() if chip.after])
def test_a_generation_is_not_below_the_last(name):
    new, old = accelerator(name), accelerator(accelerator(name).after)
    assert new.memory_bytes_per_s >= old.memory_bytes_per_s
    assert new.year >= old.year
    for precision in set(new.peak_flops_per_s) & set(old.peak_flops_per_s):
        assert new.peak_flops_per_s[precision] >= old.peak_flops_per_s[precision]


@pytest.mark.parametrize("name", CHIPS)
def test_halving_a_format_at_most_doubles_its_peak(name):
    """Within one chip, fp8 is one to two times bf16, and fp4 one to three times fp8."""
    peaks = accelerator(name).peak_flops_per_s
    for narrow, wide, most in (("fp8", "bf16", 2.03), ("fp4", "fp8", 3.01)):
        if narrow in peaks and wide in peaks:
            assert 0.99 <= peaks[narrow] / peaks[wide] <= most


@pytest.mark.parametrize("name", with_facts("memory_bus_bits", "memory_bits_per_s_per_pin"))
def test_wires_times_speed_is_the_bandwidth(name):
    """Bandwidth = data wires x bit/s each / 8, within 3 %, or within what is in print for it."""
    parts = ("memory_bus_bits", "memory_bits_per_s_per_pin", "memory_bytes_per_s")
    wires, rate, bandwidth = (accelerator(name).facts[part] for part in parts)
    computed = wires.value * rate.value / 8
    low, high = bandwidth.low or bandwidth.value, bandwidth.high or bandwidth.value
    assert 0.97 * low <= computed <= 1.03 * high


@pytest.mark.parametrize("name", with_facts("memory_bus_bits"))
def test_a_pin_is_as_fast_as_memory_of_its_time(name):
    """HBM2 ran 2e9 bit/s a pin; the fastest GDDR7 graded so far runs 32e9 (Micron brief)."""
    chip = accelerator(name)
    rate = 8 * chip.memory_bytes_per_s / chip.facts["memory_bus_bits"].value
    assert 1.5e9 < rate < 36e9


@pytest.mark.parametrize("name", with_facts("memory_reported_bytes"))
def test_a_driver_reports_between_the_printed_gb_and_as_many_gib(name):
    """2^30 / 10^9: the two are 7.4 % apart."""
    chip = accelerator(name)
    reported = chip.facts["memory_reported_bytes"].value
    assert 1.0 <= reported / chip.memory_bytes <= 2**30 / 10**9


def test_power_is_that_of_one_package(chip):
    assert chip.tdp_w is None or 50 <= chip.tdp_w <= 2500


def test_a_single_die_fits_the_reticle(chip):
    """One exposure prints 26 mm x 33 mm (ASML). A wafer-scale engine is many exposures."""
    if chip.die_area_mm2 and chip.id != "wse-3":
        assert 100 < chip.die_area_mm2 <= 26 * 33


def test_a_link_is_slower_than_the_memory(chip):
    assert chip.link_bytes_per_s is None or chip.link_bytes_per_s < chip.memory_bytes_per_s


def test_a_chip_was_announced_before_its_facts_were_seen(chip):
    assert 2016 <= chip.year <= min(int(fact.seen_on[:4]) for fact in chip.facts.values())


def test_ids_and_names_are_unique():
    assert len({chip.name for chip in accelerators()}) == len(set(CHIPS)) == len(CHIPS)


# The faults of this field's tools


@pytest.mark.parametrize(
    ("name", "sparse_flops_per_s"),
    [
        ("a100-sxm-80gb", 624e12),  # NVIDIA A100 datasheet, "with sparsity"
        ("h100-sxm", 1979e12),  # NVIDIA H100 datasheet, footnote "with sparsity"
        ("h200-sxm", 1979e12),  # NVIDIA H200 page, same footnote
        ("b200-sxm", 4.5e15),  # NVIDIA Blackwell brief, HGX B200, "with sparsity"
        ("rtx-4090", 330.3e12),  # NVIDIA Ada whitepaper, appendix A
        ("rtx-5090", 419e12),  # NVIDIA RTX Blackwell whitepaper, "with sparsity"
        ("mi300x", 2614.9e12),  # AMD MI300X datasheet, "with sparsity"
    ],
)
def test_a_peak_is_dense(name, sparse_flops_per_s):
    """Two-in-four sparsity doubles what is printed, so the dense figure is half of it."""
    dense = accelerator(name).peak_flops_per_s["bf16"]
    assert dense == pytest.approx(sparse_flops_per_s / 2, rel=0.002)


def test_the_h100_does_less_than_a_petaflop_in_bf16():
    assert accelerator("h100-sxm").peak_flops_per_s["bf16"] < 1000e12


@pytest.mark.parametrize(
    ("name", "sxm", "pcie"),
    [
        ("a100-sxm-80gb", (2.039e12, 400), (1.935e12, 300)),  # NVIDIA A100 datasheet r4
        ("h100-sxm", (3.35e12, 700), (2.0e12, 350)),  # NVIDIA H100 datasheet
    ],
)
def test_an_sxm_part_has_no_pcie_figures(name, sxm, pcie):
    chip = accelerator(name)
    for ours, its, others in zip((chip.memory_bytes_per_s, chip.tdp_w), sxm, pcie, strict=True):
        assert ours == its != others


@pytest.mark.parametrize(
    ("name", "links", "bytes_per_s_each"),
    [
        ("a100-sxm-80gb", 12, 25e9),  # NVLink 3: 12 links, 50 GB/s both ways (Ampere whitepaper)
        ("h100-sxm", 18, 25e9),  # NVLink 4: 18 links, 50 GB/s both ways (Hopper In-Depth)
        ("h200-sxm", 18, 25e9),  # as H100
        ("b200-sxm", 18, 50e9),  # NVLink 5: 18 links, 100 GB/s both ways (Blackwell brief)
        ("mi300x", 7, 64e9),  # Infinity Fabric: 7 links, 128 GB/s both ways (AMD MI300X datasheet)
        ("tpu-v5e", 4, 50e9),  # ICI: 4 links, 1,600 Gbit/s in all (Google, TPU v5e docs)
    ],
)
def test_a_link_is_counted_in_one_direction(name, links, bytes_per_s_each):
    assert accelerator(name).link_bytes_per_s == links * bytes_per_s_each


def test_what_google_does_not_publish_is_none():
    v5e = accelerator("tpu-v5e")
    assert (v5e.tdp_w, v5e.die_area_mm2) == (None, None)


def test_a_consumer_card_has_no_link():
    assert accelerator("rtx-4090").link_bytes_per_s is None


# Records against datasheets


def records(quantity: str) -> list[tuple[str, str, float]]:
    """(record, chip, value) of every record of a chip with a quantity of that ending."""
    return [
        (record, entry["accelerator"], fact(f"{record}.{name}").value)
        for record, entry in table("records").items()
        if "accelerator" in entry
        for name in entry["facts"]
        if name.endswith(quantity)
    ]


def test_a_record_was_taken_on_a_chip_of_the_atlas():
    chips = [entry.get("accelerator") for entry in table("records").values()]
    assert [chip for chip in chips if chip not in [None, *CHIPS]] == []


def test_no_measured_bandwidth_exceeds_the_datasheet():
    found = records("bytes_per_s")
    assert found
    assert [r for r, chip, x in found if x > accelerator(chip).memory_bytes_per_s] == []


def test_no_measured_matmul_exceeds_the_dense_peak():
    found = [r for r in records("flops_per_s") if not r[0].endswith("fp8")]
    assert found
    assert [r for r, chip, x in found if x > accelerator(chip).peak_flops_per_s["bf16"]] == []


def test_an_unknown_chip_is_refused_with_near_names():
    with pytest.raises(
        ValueError, match=r"no 'h100' among its accelerators; near it are .*h100-sxm"
    ):
        accelerator("h100")
