"""Links: one direction, lanes times rate, and what the standards say."""

import pytest

from stackkit.atlas import link, links, memories, memory

LINKS = [one.id for one in links()]


def with_lanes() -> list[str]:
    needed = {"lanes", "bits_per_s_per_lane", "one_way_bytes_per_s"}
    return [one.id for one in links() if needed <= set(one.facts)]


@pytest.mark.parametrize("name", with_lanes())
def test_lanes_times_rate_is_the_bandwidth(name):
    """Line coding takes at most 6 %: 64b/66b, 128b/130b, the flits of PCIe 6."""
    lanes, rate = (link(name).value(part) for part in ("lanes", "bits_per_s_per_lane"))
    assert 0.94 <= link(name).one_way_bytes_per_s / (lanes * rate / 8) <= 1.001


def test_several_bandwidths_can_be_computed():
    assert len(with_lanes()) >= 5


@pytest.mark.parametrize(
    ("name", "one_way_bytes_per_s"),
    [
        ("nvlink-3", 300e9),  # 600 GB/s in both directions (NVIDIA A100 datasheet)
        ("nvlink-4", 450e9),  # 900 GB/s in both directions (NVIDIA H100 datasheet)
        ("nvlink-5", 900e9),  # 1.8 TB/s in both directions (NVIDIA Blackwell datasheet)
        ("pcie-4-x16", 16 * 16e9 / 8 * 128 / 130),  # 16 GT/s a lane, 128b/130b (PCI-SIG)
        ("pcie-5-x16", 16 * 32e9 / 8 * 128 / 130),  # 32 GT/s a lane, 128b/130b (PCI-SIG)
        ("infiniband-ndr", 400e9 / 8),  # IBTA: 400 Gbit/s at four lanes
        ("ethernet-400g", 400e9 / 8),  # IEEE 802.3
    ],
)
def test_a_link_is_as_fast_as_its_standard_says_in_one_direction(name, one_way_bytes_per_s):
    assert link(name).one_way_bytes_per_s == pytest.approx(one_way_bytes_per_s, rel=0.02)


@pytest.mark.parametrize("name", [one.id for one in links() if one.after])
def test_a_generation_is_faster_than_the_last(name):
    assert link(name).one_way_bytes_per_s > link(link(name).after).one_way_bytes_per_s


@pytest.mark.parametrize("name", [one.id for one in memories() if one.after])
def test_a_generation_of_memory_is_faster_than_the_last(name):
    new, old = memory(name), memory(memory(name).after)
    assert new.value("bytes_per_s") > old.value("bytes_per_s")


@pytest.mark.parametrize("name", LINKS)
def test_where_both_directions_are_printed_they_are_twice_one(name):
    both = link(name).value("both_ways_bytes_per_s")
    if both is not None:
        assert both == pytest.approx(2 * link(name).one_way_bytes_per_s, rel=0.06)


@pytest.mark.parametrize("name", LINKS)
def test_a_link_between_servers_belongs_to_systems(name):
    between_servers = name.startswith(("infiniband", "ethernet"))
    assert (link(name).layer == "systems") >= between_servers
