"""The compiled loops do what the plain ones would, and a chain visits every line."""

import itertools
import sys

import numpy as np
import pytest

from stackkit.memory import loops


@pytest.fixture
def numba():
    return pytest.importorskip("numba", reason="numba is not installed: pip install numba")


def visited(places) -> list[int]:
    """The places that the chain goes through from 0 until it is back."""
    found, here = [0], int(places[0])
    while here != 0:
        found.append(here)
        here = int(places[here])
    return found


@pytest.mark.parametrize("n_bytes", [128, 192, 4096, 4096 + 40, 64 * 257])
def test_a_chain_is_one_cycle_with_one_stop_in_each_line(n_bytes):
    stops = visited(loops.chain(n_bytes))
    assert sorted(stops) == list(range(0, n_bytes // 64 * 8, 8))


def test_a_chain_jumps_about():
    """In order, the prefetcher would fetch the next line and no load would wait."""
    stops = visited(loops.chain(64 * 1000))
    in_order = sum(b - a == 8 for a, b in itertools.pairwise(stops))
    assert in_order < 20


def test_a_chain_is_the_same_for_the_same_seed():
    assert (loops.chain(4096, seed=3) == loops.chain(4096, seed=3)).all()
    assert (loops.chain(4096, seed=3) != loops.chain(4096, seed=4)).any()


@pytest.mark.parametrize("n_bytes", [0, 64, 127])
def test_a_chain_of_one_line_is_refused(n_bytes):
    with pytest.raises(ValueError, match=f"needs 128 bytes or more; got {n_bytes}"):
        loops.chain(n_bytes)


def test_chasing_makes_as_many_steps_as_asked(numba):
    places = loops.chain(64 * 17)
    stops = visited(places)
    assert loops.chase(places, 0) == 0
    assert loops.chase(places, 5) == stops[5]
    assert loops.chase(places, 17) == 0  # once around
    assert loops.chase(places, 3, stops[5]) == stops[8]


@pytest.mark.parametrize("all_cores", [False, True])
@pytest.mark.parametrize("size", [1, 3, 17, 64, 257])
def test_reading_adds_up_every_number_in_every_pass(numba, size, all_cores):
    values = np.arange(size, dtype=np.float32)
    assert loops.read(values, 3, all_cores=all_cores) == 3 * size * (size - 1) / 2


@pytest.mark.parametrize("size", [1, 3, 17, 257])
def test_copy_and_triad_write_every_number(numba, size):
    a, b, c = np.zeros(size, "f"), np.arange(size, dtype="f"), np.ones(size, "f")
    loops.copy(a, b)
    assert (a == b).all()
    loops.triad(a, b, c)
    assert (a == b + 3).all()


def test_arrays_of_unequal_sizes_are_refused(numba):
    """Compiled loops do not look: they would read past the end."""
    long, short = np.zeros(8, "f"), np.zeros(7, "f")
    with pytest.raises(ValueError, match=r"equal sizes; got \[8, 7\]"):
        loops.copy(long, short)
    with pytest.raises(ValueError, match=r"equal sizes; got \[8, 8, 7\]"):
        loops.triad(long, long, short)


def test_without_numba_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    loops._compiled.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r'needs numba.*pip install "numba>=0\.60"'):
        loops.chase(loops.chain(128), 1)
    loops._compiled.cache_clear()
