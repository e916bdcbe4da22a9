"""Curves over working sets: sizes, units, and steps where the caches are. No test asks a speed."""

import itertools

import pytest

from stackkit.core.machine import MachineCard
from stackkit.core.timing import Timing
from stackkit.core.units import GIB, KIB, MIB
from stackkit.memory import hierarchy
from stackkit.memory.hierarchy import latency_curve, read_curve, steps, working_sets


@pytest.fixture
def one_second_calls(monkeypatch):
    """Every call is run once and said to take a second."""

    def bench(fn, **options):
        fn()
        return Timing(1.0, 1.0, 1.0, 2)

    pytest.importorskip("numba", reason="numba is not installed: pip install numba")
    monkeypatch.setattr(hierarchy, "bench", bench)


def test_sizes_grow_by_a_half_or_a_third():
    sizes = working_sets(8 * KIB, MIB)
    assert sizes[0] == 8 * KIB
    assert sizes[-1] == MIB
    assert {b / a for a, b in itertools.pairwise(sizes)} == {1.5, 4 / 3}


@pytest.mark.parametrize(("cache", "last"), [(32 * MIB, 128 * MIB), (64 * MIB, 256 * MIB)])
def test_sizes_go_past_the_largest_cache(monkeypatch, cache, last):
    card = MachineCard("A chip", 2, {"L3": cache}, 512 * GIB, None, "3.11", None, None, cache)
    monkeypatch.setattr(hierarchy, "card", lambda: card)
    monkeypatch.setattr("stackkit.memory.measure.card", lambda: card)
    assert working_sets()[-1] == last


def test_sizes_leave_a_small_machine_its_memory(monkeypatch):
    card = MachineCard("A chip", 2, {}, GIB // 2, None, "3.11", None, None)
    monkeypatch.setattr(hierarchy, "card", lambda: card)
    monkeypatch.setattr("stackkit.memory.measure.card", lambda: card)
    assert working_sets()[-1] <= GIB // 16


@pytest.mark.parametrize("smallest", [0, 0.5, 127, -1])
def test_sizes_begin_with_two_cache_lines(smallest):
    with pytest.raises(ValueError, match="smallest must be 128 or more; got"):
        working_sets(smallest, MIB)


def test_an_empty_range_of_sizes_is_refused():
    with pytest.raises(ValueError, match="largest must be 8192 bytes or more; got 4096"):
        working_sets(8 * KIB, 4 * KIB)


@pytest.mark.parametrize("size", [4 * KIB, 32 * MIB])
def test_reading_counts_every_pass(one_second_calls, size):
    """A call of a second moves all passes: 8 MiB at least, a larger set once."""
    assert read_curve([size]) == {size: max(size, 8 * MIB)}


def test_reading_reads_all_of_the_array_in_every_pass(one_second_calls, monkeypatch):
    read = []
    monkeypatch.setattr(
        hierarchy.loops, "read", lambda values, passes, all_cores: read.append((values, passes))
    )
    read_curve([64 * KIB, 32 * MIB])
    assert [(values.nbytes, passes) for values, passes in read] == [
        (64 * KIB, 128),
        (32 * MIB, 1),
    ]


def test_a_walk_goes_on_where_it_stopped(monkeypatch):
    """From the start again, each timed call would find its lines in a cache."""
    pytest.importorskip("numba", reason="numba is not installed: pip install numba")
    starts = []
    chase = hierarchy.loops.chase

    def noted(places, steps, start):
        starts.append(start)
        return chase(places, steps, start)

    monkeypatch.setattr(hierarchy.loops, "chase", noted)
    monkeypatch.setattr(hierarchy, "_LOADS", 100)
    latency_curve([MIB])
    assert len(starts) >= 4
    timed = starts[1:]
    assert len(set(timed)) == len(timed)


def test_sizes_may_be_floats(one_second_calls):
    assert list(read_curve([1e5])) == list(latency_curve([1e5])) == [100_000]


def test_a_load_takes_its_share_of_the_call(one_second_calls):
    assert latency_curve([4 * KIB]) == {4 * KIB: pytest.approx(1 / hierarchy._LOADS)}


def test_a_working_set_without_a_number_is_refused():
    with pytest.raises(ValueError, match="4 bytes or more; got 3"):
        read_curve([3])


CACHES = {"L1": 32 * KIB, "L2": 1 * MIB}
SIZES = [8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB]


def level(size):
    return 1 if size <= CACHES["L1"] else 2 if size <= CACHES["L2"] else 3


def test_a_step_compares_half_the_cache_with_twice():
    reads = {size: 100 / level(size) for size in SIZES}
    waits = {size: 1e-9 * level(size) ** 2 for size in SIZES}
    found = steps(CACHES, reads, waits)
    assert found == {"L1": (pytest.approx(2), pytest.approx(4)), "L2": (1.5, pytest.approx(9 / 4))}


def test_a_flat_curve_has_no_step():
    found = steps(CACHES, dict.fromkeys(SIZES, 7.0), dict.fromkeys(SIZES, 1e-9))
    assert set(found.values()) == {(1.0, 1.0)}


def test_a_curve_that_is_zero_somewhere_is_refused():
    ones, zero = dict.fromkeys(SIZES, 1.0), dict.fromkeys(SIZES, 0.0)
    with pytest.raises(ValueError, match="reads must be above zero everywhere"):
        steps(CACHES, zero, ones)
    with pytest.raises(ValueError, match="waits must be above zero everywhere"):
        steps(CACHES, ones, zero)


def test_a_cache_that_the_curve_does_not_reach_is_left_out():
    reads, waits = (dict.fromkeys(SIZES, 1.0) for _ in range(2))
    assert "L3" not in steps({"L3": 32 * MIB}, reads, waits)
