"""Moving and summing between chips, against the ring played out and against measured runs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.atlas import accelerator, fact, link, model
from stackkit.core.units import GIB
from stackkit.memory.links import all_reduce_bytes, all_reduce_s, transfer_s


def test_a_transfer_is_its_latency_and_its_bytes():
    assert transfer_s(90e9, 45e9, latency_s=0.5) == 2.5


@given(st.integers(1, 64), st.floats(1, 1e12))
def test_no_ring_sends_more_than_twice_the_bytes(n_chips, n_bytes):
    assert 0 <= all_reduce_bytes(n_bytes, n_chips) < 2 * n_bytes


def test_one_chip_sends_nothing():
    assert all_reduce_s(1e9, 1, 1e9, latency_s=1.0) == 0


def test_two_chips_swap_their_shares():
    """Each sends one half to be summed and one half summed."""
    assert all_reduce_bytes(100, 2) == 100


def test_a_ring_waits_once_for_each_step():
    assert all_reduce_s(0, 8, 1e9, latency_s=1e-6) == pytest.approx(14e-6)


def test_the_factor_between_algorithm_and_bus_bandwidth_that_is_printed():
    """Bekman prints 94.15 and 48.59 GB/s for 4 x 8 GPUs and 1 GiB: 2 x 31 / 32 = 1.9375."""
    seconds = GIB / 48.59e9
    assert all_reduce_bytes(GIB, 32) / seconds == pytest.approx(94.15e9, rel=1e-3)


def test_eight_h100_in_a_ring_within_a_fifth_of_the_datasheet_s_link():
    """NCCL without the switches' sums: 370 of 450 GB/s."""
    n_bytes = 8e9
    measured_s = all_reduce_bytes(n_bytes, 8) / fact("nccl-8xh100.ring_bus_bytes_per_s").value
    bound_s = all_reduce_s(n_bytes, 8, accelerator("h100-sxm").link_bytes_per_s)
    assert bound_s < measured_s < 1.25 * bound_s


def test_sums_in_the_switch_beat_the_ring_but_not_by_more_than_two():
    """478.9 GB/s by the ring's formula over a link of 450: the ring is no bound for a switch."""
    ring_s = all_reduce_s(8e9, 8, accelerator("h100-sxm").link_bytes_per_s)
    with_switch_s = all_reduce_bytes(8e9, 8) / fact("nccl-8xh100.bus_bytes_per_s").value
    assert ring_s / 2 < with_switch_s < ring_s


def test_a_small_sum_is_all_latency():
    """16 KiB among 8 H100: by bandwidth 0.06 microseconds, measured 30."""
    bound_s = all_reduce_s(16_384, 8, accelerator("h100-sxm").link_bytes_per_s)
    assert fact("nccl-8xh100.all_reduce_16_kib_s").value > 300 * bound_s


@pytest.mark.parametrize(("record", "name"), [("h100", "pcie-5-x16"), ("a100", "pcie-4-x16")])
def test_copies_over_pci_express_reach_four_fifths(record, name):
    reached = fact(f"pcie-{record}-measured.to_device_bytes_per_s").value
    assert 0.75 < reached / link(name).one_way_bytes_per_s < 0.9


def test_moving_a_model_is_bytes_over_bandwidth():
    """Llama 3.1 70B in bf16, 141 GB, from one server to another over a 400 Gbit/s port."""
    n_bytes = 2 * model("llama-3.1-70b").params()
    assert transfer_s(n_bytes, link("infiniband-ndr").one_way_bytes_per_s) == pytest.approx(
        70.55e9 * 16 / 400e9, rel=1e-3
    )


@pytest.mark.parametrize("bandwidth", [0, -1.0, math.inf, math.nan])
def test_a_link_without_bandwidth_is_refused(bandwidth):
    with pytest.raises(ValueError, match="a bandwidth above zero, in B/s; got"):
        transfer_s(1, bandwidth)
    with pytest.raises(ValueError, match="a bandwidth above zero, in B/s; got"):
        all_reduce_s(1, 8, bandwidth)


def test_negative_bytes_and_latencies_are_refused():
    with pytest.raises(ValueError, match=r"n_bytes must be zero or more; got -1"):
        transfer_s(-1, 1)
    with pytest.raises(ValueError, match=r"latency_s must be zero or more; got -1"):
        transfer_s(1, 1, latency_s=-1)
    with pytest.raises(ValueError, match=r"latency_s must be zero or more; got -1"):
        all_reduce_s(1, 8, 1, latency_s=-1)
    with pytest.raises(ValueError, match=r"n_bytes must be zero or more; got -5"):
        all_reduce_bytes(-5, 8)


@pytest.mark.parametrize("n_chips", [0, 1.5, math.nan, math.inf])
def test_an_impossible_number_of_chips_is_refused(n_chips):
    with pytest.raises(ValueError, match="n_chips must be a whole number, 1 or more; got"):
        all_reduce_s(1, n_chips, 1)
