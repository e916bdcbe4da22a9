"""What a warp makes of memory, branches and room, against NVIDIA's guides and brute force."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.core.units import KIB
from stackkit.processors.simt import (
    A100,
    H100,
    SM,
    efficiency,
    lane_utilisation,
    occupancy,
    run_branches,
    run_loop,
    shared_bank_conflicts,
    transactions,
)

# Compute capability 7.0, of the guide's example. Nothing is reserved for CUDA there.
V100 = SM("V100", shared_bytes=96 * KIB, shared_unit_bytes=256, reserved_bytes_per_block=0)


def strided(stride, first=0):
    """The addresses of 32 floats, so many apart."""
    return [first + 4 * stride * lane for lane in range(32)]


# CUDA C++ Best Practices Guide, "Coalesced Access to Global Memory".


def test_neighbours_take_four_sectors():
    assert transactions(strided(1)) == 4
    assert efficiency(strided(1)) == 1


def test_neighbours_may_be_in_any_order():
    addresses = strided(1)
    random.Random(0).shuffle(addresses)
    assert transactions(addresses) == 4


@pytest.mark.parametrize("first", range(0, 128, 4))
def test_a_start_within_a_sector_takes_a_fifth(first):
    """The guide: four for offsets of a multiple of 8 words, else five."""
    expected = 4 if first % 32 == 0 else 5
    assert transactions(strided(1, first)) == expected
    assert efficiency(strided(1, first)) == 4 / expected


def test_a_stride_of_two_takes_eight_and_wastes_half():
    assert transactions(strided(2)) == 8
    assert efficiency(strided(2)) == 1 / 2


@pytest.mark.parametrize("stride", [8, 9, 32, 1000])
def test_from_a_stride_of_eight_each_lane_takes_its_own_sector(stride):
    assert transactions(strided(stride)) == 32
    assert efficiency(strided(stride)) == 1 / 8


def test_one_word_for_all_is_one_sector_of_which_an_eighth_is_wanted():
    assert transactions([64] * 32) == 1
    assert efficiency([64] * 32) == 1 / 8


def test_a_sector_is_moved_whole_when_some_lanes_do_not_take_part():
    assert transactions(strided(1)[::8]) == 4
    assert efficiency(strided(1)[::8]) == 1 / 8


@pytest.mark.parametrize(("access_bytes", "sectors"), [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16)])
def test_wider_neighbours_take_as_many_sectors_as_they_have_bytes(access_bytes, sectors):
    addresses = [access_bytes * lane for lane in range(32)]
    assert transactions(addresses, access_bytes) == sectors
    assert efficiency(addresses, access_bytes) == 1


def test_lines_of_128_bytes_hold_four_sectors():
    assert transactions(strided(1), segment_bytes=128) == 1
    assert transactions(strided(1, 4), segment_bytes=128) == 2
    assert efficiency(strided(1, 4), segment_bytes=128) == 1 / 2


@given(st.lists(st.integers(0, 200).map(lambda word: 4 * word), min_size=1, max_size=32))
def test_sectors_are_those_that_hold_a_wanted_byte(addresses):
    wanted = {address + byte for address in addresses for byte in range(4)}
    sectors = {byte // 32 for byte in wanted}
    assert transactions(addresses) == len(sectors)
    assert efficiency(addresses) == len(wanted) / (32 * len(sectors))


# CUDA Programming Guide, "Shared Memory Access Patterns" and its two figures.


@pytest.mark.parametrize(("stride", "passes"), [(1, 1), (2, 2), (3, 1), (32, 32), (33, 1)])
def test_strides_meet_in_a_bank_or_do_not(stride, passes):
    assert shared_bank_conflicts([stride * lane for lane in range(32)]) == passes


@given(st.integers(1, 500), st.integers(0, 500))
def test_a_stride_takes_as_many_passes_as_it_shares_with_the_banks(stride, first):
    words = [first + stride * lane for lane in range(32)]
    assert shared_bank_conflicts(words) == math.gcd(stride, 32)


def test_a_permutation_has_no_conflict():
    words = list(range(32))
    random.Random(1).shuffle(words)
    assert shared_bank_conflicts(words) == 1


def test_a_word_goes_to_all_lanes_that_want_it():
    assert shared_bank_conflicts([7] * 32) == 1
    assert (
        shared_bank_conflicts([5 if lane in (3, 4, 6, 7, 9) else lane for lane in range(32)]) == 1
    )


def test_two_words_of_a_bank_take_two_passes_however_many_lanes_want_them():
    assert shared_bank_conflicts([5] * 16 + [37] * 16) == 2


def test_a_column_of_a_tile_is_the_worst_until_its_rows_are_padded_by_one():
    def column(pitch):
        return [pitch * lane + 4 for lane in range(32)]

    assert shared_bank_conflicts(column(32)) == 32
    assert shared_bank_conflicts(column(33)) == 1


# Branches.


def test_odd_and_even_lanes_on_two_equal_paths_work_half_the_time():
    issued = run_branches([lane % 2 == 0 for lane in range(32)], {True: 10, False: 10})
    assert issued.issued_steps == 20
    assert issued.lane_utilisation == 1 / 2


def test_a_path_that_no_lane_takes_is_skipped():
    issued = run_branches([True] * 32, {True: 10, False: 1000})
    assert issued.issued_steps == 10
    assert issued.lane_utilisation == 1


def test_branches_that_follow_the_warps_cost_nothing():
    """The guide: divergence is within a warp; warps go their own ways."""
    by_warp = [lane // 32 % 2 == 0 for lane in range(128)]
    assert run_branches(by_warp, {True: 10, False: 10}).lane_utilisation == 1


def test_a_switch_of_32_ways_leaves_one_lane_at_work():
    issued = run_branches(range(32), dict.fromkeys(range(32), 7))
    assert issued.issued_steps == 32 * 7
    assert issued.lane_utilisation == 1 / 32


def test_one_lane_on_a_long_path_holds_up_the_others():
    issued = run_branches([lane == 0 for lane in range(32)], {True: 100, False: 1})
    assert issued.issued_steps == 101
    assert issued.useful_lane_steps == 100 + 31


def test_trip_counts_from_1_to_32_work_half_the_time_and_a_bit():
    assert lane_utilisation(range(1, 33)) == 33 / 2 / 32


def test_a_warp_loops_as_long_as_its_last_lane():
    issued = run_loop([1] * 31 + [50] + [2] * 32)
    assert issued.issued_steps == 50 + 2
    assert issued.useful_lane_steps == 31 + 50 + 64


def test_lanes_sorted_by_their_trips_waste_less():
    trips = [trip for trip in (1, 100) for _ in range(64)]
    mixed = [trips[i // 2 + 64 * (i % 2)] for i in range(128)]
    assert lane_utilisation(trips) == 1
    assert lane_utilisation(mixed) == 101 / 200


def test_a_part_of_a_warp_is_issued_like_a_whole_one():
    assert lane_utilisation([3] * 33) == 33 / 64


@given(st.lists(st.integers(0, 20), min_size=1, max_size=100).filter(any))
def test_a_loop_is_what_is_seen_step_by_step(trips):
    issued = useful = 0
    for first in range(0, len(trips), 32):
        left = trips[first : first + 32]
        while any(left):
            issued += 1
            useful += sum(trip > 0 for trip in left)
            left = [max(0, trip - 1) for trip in left]
    run = run_loop(trips)
    assert (run.issued_steps, run.useful_lane_steps) == (issued, useful)


# Occupancy.


@pytest.mark.parametrize(
    ("threads", "blocks", "printed"), [(128, 12, 75), (320, 4, 63)], ids=["128", "320"]
)
def test_the_guide_s_kernel_of_37_registers(threads, blocks, printed):
    """Best Practices Guide, "Calculating Occupancy", on compute capability 7.0."""
    found = occupancy(threads, 37, 0, sm=V100)
    assert found.blocks == blocks
    assert int(100 * found.fraction + 0.5) == printed
    assert found.limit == "registers"


@pytest.mark.parametrize("sm", [H100, A100, V100], ids=["H100", "A100", "V100"])
def test_full_occupancy_needs_32_registers_a_thread_or_fewer(sm):
    """The same section: 65,536 registers and 2,048 threads."""
    assert occupancy(256, 32, 0, sm=sm).fraction == 1
    assert occupancy(256, 33, 0, sm=sm).fraction < 1


@pytest.mark.parametrize(("sm", "most_kib"), [(H100, 227), (A100, 163)], ids=["H100", "A100"])
def test_one_block_may_have_all_shared_memory_but_one_kib(sm, most_kib):
    """Tuning guides: "CUDA reserves 1 KB of shared memory per thread block"; 227 and 163 KB."""
    assert occupancy(1024, 32, most_kib * KIB, sm=sm).blocks == 1
    message = f"shared_bytes_per_block must be {most_kib * KIB:,} or less"
    with pytest.raises(ValueError, match=message):
        occupancy(1024, 32, most_kib * KIB + 1, sm=sm)


def test_the_reserved_kib_counts_for_each_block():
    """228 KiB hold two blocks of 113 and not of 114, though 114 x 2 is 228."""
    assert occupancy(128, 32, 113 * KIB, sm=H100).blocks == 2
    assert occupancy(128, 32, 113 * KIB + 1, sm=H100).blocks == 1
    assert occupancy(128, 32, 114 * KIB, sm=H100).limit == "shared memory"


def test_small_blocks_run_out_of_blocks():
    found = occupancy(32, 32, 0, sm=H100)
    assert (found.blocks, found.warps, found.fraction, found.limit) == (32, 32, 0.5, "blocks")


def test_blocks_that_do_not_divide_the_warps_leave_some_free():
    found = occupancy(768, 32, 0, sm=H100)
    assert (found.blocks, found.warps, found.limit) == (2, 48, "warps")


def test_a_part_of_a_warp_takes_a_whole_one():
    assert occupancy(33, 64, 0, sm=H100) == occupancy(64, 64, 0, sm=H100)


def test_too_many_registers_for_one_block_hold_none():
    """72 x 1,024 is more than 65,536: the launch fails."""
    found = occupancy(1024, 72, 0, sm=H100)
    assert (found.blocks, found.fraction, found.limit) == (0, 0, "registers")
    assert occupancy(1024, 64, 0, sm=H100).blocks == 1


def placed(threads, registers, shared_bytes, sm):
    """Blocks placed one by one, each warp in the emptiest partition, until one does not fit."""
    lots = -(-registers * 32 // sm.register_unit) * sm.register_unit
    free = [sm.registers // sm.partitions] * sm.partitions
    warps = blocks = 0
    shared = sm.shared_bytes
    while blocks < sm.blocks:
        shared -= -(-(shared_bytes + sm.reserved_bytes_per_block) // 128) * 128
        for _ in range(0, threads, 32):
            warps += 1
            partition = free.index(max(free))
            free[partition] -= lots
        if shared < 0 or warps > sm.warps or min(free) < 0:
            break
        blocks += 1
    return blocks


@given(st.integers(1, 1024), st.integers(1, 255), st.integers(0, 163 * KIB))
def test_no_more_blocks_fit_than_can_be_placed(threads, registers, shared_bytes):
    for sm in (H100, A100):
        found = occupancy(threads, registers, shared_bytes, sm=sm)
        assert found.blocks == placed(threads, registers, shared_bytes, sm)
        assert found.warps == found.blocks * math.ceil(threads / 32)
        assert 0 <= found.fraction == found.warps / 64 <= 1


# What is refused.


@pytest.mark.parametrize("n_lanes", [0, 33])
def test_an_access_is_of_1_to_32_lanes(n_lanes):
    with pytest.raises(ValueError, match=f"of 1 to 32 lanes; got {n_lanes}"):
        transactions([0] * n_lanes)
    with pytest.raises(ValueError, match=f"of 1 to 32 lanes; got {n_lanes}"):
        shared_bank_conflicts([0] * n_lanes)


@pytest.mark.parametrize("value", [-4, 0.5, math.nan, math.inf])
def test_impossible_places_are_refused(value):
    with pytest.raises(ValueError, match="Each of addresses_bytes must be a whole number, 0"):
        transactions([value])
    with pytest.raises(ValueError, match="Each of word_indices must be a whole number, 0"):
        shared_bank_conflicts([value])


def test_impossible_accesses_are_refused():
    with pytest.raises(ValueError, match="A lane accesses 1, 2, 4, 8 or 16 bytes; got 3"):
        transactions([0], access_bytes=3)
    with pytest.raises(ValueError, match="an address that 8 divides; got 4"):
        transactions([0, 4], access_bytes=8)
    for segment_bytes in (0, 8, 48):
        with pytest.raises(ValueError, match="a power of two, 16 or more; got"):
            transactions([0], access_bytes=16, segment_bytes=segment_bytes)
    with pytest.raises(ValueError, match="banks must be a whole number, 1 or more; got 0"):
        shared_bank_conflicts([0], banks=0)


def test_loops_and_branches_that_run_nothing_are_refused():
    with pytest.raises(ValueError, match="No lane takes a step; give at least one trip count"):
        run_loop([0] * 32)
    with pytest.raises(ValueError, match="No lane takes a step; give at least one trip count"):
        run_loop([])
    with pytest.raises(ValueError, match="No lane takes a step; give at least one lane a path"):
        run_branches([True], {True: 0, False: 9})


@pytest.mark.parametrize("count", [-1, 1.5, math.nan])
def test_impossible_counts_are_refused(count):
    with pytest.raises(ValueError, match="A trip count must be a whole number, 0 or more; got"):
        run_loop([1, count])
    with pytest.raises(ValueError, match="The length of path True must be a whole number, 0"):
        run_branches([True], {True: count})
    with pytest.raises(ValueError, match="warp must be a whole number, 1 or more; got"):
        lane_utilisation([1], warp=count)


def test_a_path_without_a_length_is_refused():
    with pytest.raises(ValueError, match="the length of every path; False is missing"):
        run_branches([True, False], {True: 1})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 32, 0), "threads_per_block must be a whole number, 1 or more; got 0"),
        ((1025, 32, 0), "threads_per_block must be 1,024 or less on H100.*; got 1,025"),
        ((32, 0, 0), "registers_per_thread must be a whole number, 1 or more; got 0"),
        ((32, 256, 0), "registers_per_thread must be 255 or less on H100.*; got 256"),
        ((32, 32, -1), "shared_bytes_per_block must be a whole number, 0 or more; got -1"),
    ],
)
def test_kernels_that_no_multiprocessor_takes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        occupancy(*sizes, sm=H100)
