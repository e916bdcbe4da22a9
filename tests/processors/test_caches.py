"""The cache against states worked out by hand, a plain Python one, formulas, and cachegrind."""

import shutil
import subprocess
import sys
from collections import OrderedDict
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.core.units import KIB
from stackkit.processors import caches
from stackkit.processors.caches import ORDERS, Cache, Misses

pytest.importorskip("numba", reason="numba is not installed: pip install numba")


def fully_associative(n_lines: int) -> Cache:
    return Cache(64 * n_lines, ways=n_lines)


def lines(*numbers: int) -> list[int]:
    """An address in each of these lines of 64 bytes."""
    return [64 * number for number in numbers]


# Hand-made streams.


def test_a_line_is_fetched_once_for_all_its_bytes():
    assert caches.simulate(range(64), Cache(128, ways=1)) == Misses(64, 1)
    assert caches.simulate(range(60, 68), Cache(128, ways=1)) == Misses(8, 2)


@pytest.mark.parametrize(
    ("visited", "missed"),
    [
        ([0, 1, 0, 1], 2),  # one line in each of the two sets
        ([0, 2, 0, 2], 4),  # both in set 0: each throws the other out
        ([0, 1, 2, 1], 3),  # set 1 keeps its line
        ([0, 3, 1, 3], 4),  # 3 and 1 share set 1
    ],
)
def test_a_direct_mapped_cache_of_two_lines(visited, missed):
    assert caches.simulate(lines(*visited), Cache(128, ways=1)).misses == missed


@pytest.mark.parametrize(
    ("visited", "missed"),
    [
        ([0, 1, 0, 2, 0], 3),  # 1 was used longer ago than 0, though fetched later: it goes
        ([0, 1, 0, 2, 1], 4),
        ([0, 1, 2, 0, 1, 2], 6),  # around one line more than fits: LRU never hits
    ],
)
def test_the_line_used_least_recently_goes(visited, missed):
    assert caches.simulate(lines(*visited), fully_associative(2)).misses == missed


def test_three_ways_move_every_line_between_one_place_on():
    """3 2 1 | 1 3 2 | 2 1 3 | 4 2 1 | 3 is gone: 3 4 2 | 1 is gone."""
    assert caches.simulate(lines(1, 2, 3, 1, 2, 4, 3, 1), fully_associative(3)).misses == 6


def test_a_column_at_a_stride_of_a_power_of_two_finds_one_set():
    """4 KiB in 8 sets of 8: a column of 16 floats, twice. Rows of 512 bytes all fall into set 0."""
    twice = list(range(16)) * 2
    wide = caches.simulate([512 * row for row in twice], Cache(4 * KIB))
    padded = caches.simulate([(512 + 64) * row for row in twice], Cache(4 * KIB))
    assert (wide.misses, padded.misses) == (32, 16)


def test_an_empty_stream_has_no_misses():
    assert caches.simulate([], Cache(128, ways=1)) == Misses(0, 0)


def test_misses_add_up():
    assert Misses(3, 1) + Misses(4, 2) == Misses(7, 3)


# Against a cache of a few lines of Python, and the loops written out.


def missed(addresses, cache: Cache) -> list[bool]:
    """For each access, by a dictionary for each set with the line used last at its end."""
    sets = [OrderedDict() for _ in range(cache.n_sets)]
    found = []
    for address in addresses:
        line = address // cache.line_bytes
        kept = sets[line % cache.n_sets]
        found.append(line not in kept)
        kept[line] = None
        kept.move_to_end(line)
        if len(kept) > cache.ways:
            kept.popitem(last=False)
    return found


def played(addresses, cache: Cache) -> Misses:
    found = missed(addresses, cache)
    return Misses(len(found), sum(found))


def program(order: str, m: int, k: int, n: int, tile: int | None = None):
    """Byte addresses of the three loops, in their order."""
    t = tile or max(m, k, n)

    def a(i, p):
        return 4 * (i * k + p)

    def b(p, j):
        return 4 * (m * k + p * n + j)

    def c(i, j):
        return 4 * (m * k + k * n + i * n + j)

    for i0, j0, p0 in product(range(0, m, t), range(0, n, t), range(0, k, t)):
        rows, columns = range(i0, min(i0 + t, m)), range(j0, min(j0 + t, n))
        between = range(p0, min(p0 + t, k))
        if order == "ijk":
            for i, j in product(rows, columns):
                yield c(i, j)
                for p in between:
                    yield from (a(i, p), b(p, j))
                yield c(i, j)
        elif order == "ikj":
            for i, p in product(rows, between):
                yield a(i, p)
                for j in columns:
                    yield from (b(p, j), c(i, j), c(i, j))
        else:
            for j, p in product(columns, between):
                yield b(p, j)
                for i in rows:
                    yield from (a(i, p), c(i, j), c(i, j))


geometries = st.builds(
    lambda sets, line, ways: Cache(sets * line * ways, line, ways),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([4, 16, 64]),
    st.integers(1, 9),
)
streams = st.lists(st.integers(0, 1000), max_size=200)
sides = st.integers(1, 17)
tiles = st.none() | st.integers(1, 20)


@given(streams, geometries)
def test_any_stream_misses_as_often_in_plain_python(addresses, cache):
    assert caches.simulate(addresses, cache) == played(addresses, cache)


@given(st.sampled_from(ORDERS), sides, sides, sides, geometries, tiles)
def test_the_loops_are_the_written_out_ones(order, m, k, n, cache, tile):
    stream = list(program(order, m, k, n, tile))
    expected = played(stream, cache)
    assert caches.misses(order, m, k, n, cache, tile=tile) == expected
    assert caches.simulate(np.array(stream, dtype=np.uint32), cache) == expected


@pytest.mark.parametrize("tile", [None, 8, 5])
@pytest.mark.parametrize("order", ORDERS)
def test_each_miss_is_booked_to_the_matrix_that_was_touched(order, tile):
    m, k, n, cache = 13, 17, 11, Cache(KIB, ways=2)
    stream = list(program(order, m, k, n, tile))
    begins = {"A": 0, "B": 4 * m * k, "C": 4 * (m * k + k * n), "": 4 * (m * k + k * n + m * n)}
    found = list(zip(stream, missed(stream, cache), strict=True))
    for (name, counts), end in zip(
        caches.misses_by_matrix(order, m, k, n, cache, tile=tile).items(),
        list(begins.values())[1:],
        strict=True,
    ):
        own = [miss for address, miss in found if begins[name] <= address < end]
        assert counts == Misses(len(own), sum(own))


# What holds for every stream and every cache.


@given(streams, geometries)
def test_there_are_at_least_as_many_misses_as_lines_and_at_most_as_many_as_accesses(
    addresses, cache
):
    found = caches.simulate(addresses, cache)
    distinct = {address // cache.line_bytes for address in addresses}
    assert len(distinct) <= found.misses <= found.accesses == len(addresses)


@given(streams, st.integers(1, 9), st.integers(0, 9))
def test_a_larger_fully_associative_cache_never_misses_more(addresses, ways, more):
    """LRU keeps the last so many lines, so the larger cache holds what the smaller one does."""
    smaller, larger = (Cache(4 * w, line_bytes=4, ways=w) for w in (ways, ways + more))
    assert caches.simulate(addresses, larger).misses <= caches.simulate(addresses, smaller).misses


@given(st.sampled_from(ORDERS), sides, sides, sides, tiles)
def test_where_everything_fits_each_line_is_missed_once(order, m, k, n, tile):
    n_lines = -(-4 * (m * k + k * n + m * n) // 64)
    assert caches.misses(order, m, k, n, fully_associative(n_lines), tile=tile).misses == n_lines


@given(st.sampled_from(ORDERS), sides, sides, sides, st.integers(1, 64), tiles)
def test_no_order_beats_the_bound(order, m, k, n, n_lines, tile):
    cache = fully_associative(n_lines)
    assert caches.misses(order, m, k, n, cache, tile=tile).misses >= caches.least_misses(
        m, k, n, cache
    )


def test_what_stays_in_a_register_is_read_once():
    m, k, n, cache = 5, 6, 7, Cache(KIB)
    once = {"ijk": 2 * m * n + 2 * m * k * n, "ikj": m * k + 3 * m * k * n}
    once["jki"] = k * n + 3 * m * k * n
    assert {order: caches.misses(order, m, k, n, cache).accesses for order in ORDERS} == once


# Against the formulas.


@pytest.mark.parametrize("size", [80, 90, 240])
@pytest.mark.parametrize("order", ORDERS)
def test_loops_over_matrices_larger_than_the_cache_miss_as_predicted(order, size):
    cache = Cache(4 * KIB)
    found = caches.misses(order, size, size, size, cache).misses
    assert found == pytest.approx(caches.predicted_misses(order, size, size, size, cache), rel=0.02)


@pytest.mark.parametrize(("m", "k", "n"), [(48, 96, 144), (160, 32, 80), (17, 128, 48)])
@pytest.mark.parametrize("order", ORDERS)
def test_each_matrix_misses_as_predicted(order, m, k, n):
    """A cache in which any line can lie anywhere, as the formula has it."""
    cache = fully_associative(40)
    predicted = caches.predicted_by_matrix(order, m, k, n, cache)
    for name, found in caches.misses_by_matrix(order, m, k, n, cache).items():
        assert found.misses == pytest.approx(predicted[name], rel=0.1)


def test_without_tiles_the_formula_is_the_one_of_the_docstring():
    n, cache = 4096, Cache(4 * KIB)
    in_terms_of_n3 = {o: caches.predicted_misses(o, n, n, n, cache) / n**3 for o in ORDERS}
    expected = {"ijk": 1 + 1 / 16, "ikj": 2 / 16, "jki": 2}
    assert in_terms_of_n3 == pytest.approx(expected, rel=3e-3)  # m n / 16 more, and edges


@given(st.sampled_from(ORDERS), sides, sides, sides, tiles, st.integers(1, 80))
def test_a_prediction_fetches_each_matrix_at_least_once_and_no_more_where_all_fits(
    order, m, k, n, tile, n_lines
):
    once = (m * k + k * n + m * n) / 16
    assert caches.predicted_misses(
        order, m, k, n, fully_associative(80), tile=tile
    ) == pytest.approx(once)
    small = caches.predicted_misses(order, m, k, n, fully_associative(n_lines), tile=tile)
    assert small >= once * (1 - 1e-9)


@pytest.mark.parametrize("order", ORDERS)
def test_tiles_that_fit_miss_as_the_tiling_formula_says(order):
    """2 m n k / t + m n floats, exactly: four tiles of 16 x 16 in 64 lines that lie anywhere."""
    m, k, n, t, cache = 96, 128, 160, 16, fully_associative(64)
    formula = (2 * m * n * k / t + m * n) / 16
    assert caches.predicted_misses(order, m, k, n, cache, tile=t) == formula
    assert caches.misses(order, m, k, n, cache, tile=t).misses == formula


@pytest.mark.parametrize("order", ORDERS)
def test_a_row_of_smaller_tiles_reads_b_once_more(order):
    """104 rows are six tiles of 16 and one of 8."""
    m, k, n, t, cache = 104, 128, 160, 16, fully_associative(64)
    formula = {"A": m * k * (n / t) / 16, "B": k * n * 7 / 16, "C": m * n / 16}
    assert caches.predicted_by_matrix(order, m, k, n, cache, tile=t) == formula
    found = caches.misses_by_matrix(order, m, k, n, cache, tile=t)
    assert {name: counts.misses for name, counts in found.items()} == formula


@pytest.mark.parametrize("order", ORDERS)
def test_small_tiles_leave_room_for_a_whole_row_of_tiles_of_a(order):
    """Outermost is i: 4 x 80 of A, 20 lines, come once; B comes again for each of 20 such rows."""
    size, t, cache = 80, 4, fully_associative(128)
    formula = {"A": size**2 / 16, "B": size**2 * (size / t) / 16, "C": size**2 / 16}
    assert caches.predicted_by_matrix(order, size, size, size, cache, tile=t) == formula
    found = caches.misses_by_matrix(order, size, size, size, cache, tile=t)
    assert {name: counts.misses for name, counts in found.items()} == formula


@pytest.mark.parametrize("order", ORDERS)
def test_tiles_in_a_cache_of_eight_ways_come_within_a_tenth(order):
    m, k, n, t, cache = 240, 240, 240, 32, Cache(32 * KIB)
    formula = (2 * m * n * k / t + m * n) / 16
    assert caches.misses(order, m, k, n, cache, tile=t).misses == pytest.approx(formula, rel=0.1)


def test_lru_wants_four_tiles_where_the_rule_says_three():
    """Three fit 48 lines, and A and B come as predicted, but most of C comes again each time."""
    m, k, n, t = 96, 128, 160, 16
    three, four = (
        caches.misses_by_matrix("ikj", m, k, n, fully_associative(tiles * t), tile=t)
        for tiles in (3, 4)
    )
    assert three["A"] == four["A"]
    assert three["B"] == four["B"]
    assert four["C"].misses == m * n / 16
    assert three["C"].misses > 0.8 * k / t * four["C"].misses


@pytest.mark.parametrize("order", ORDERS)
def test_a_tile_that_does_not_fit_is_many_times_worse(order):
    """From 16 to 40: three tiles of 19 KB in a cache of 4 KiB, more than one tile alone."""
    size, cache = 240, Cache(4 * KIB)
    fits, too_large = (
        caches.misses(order, size, size, size, cache, tile=tile).misses for tile in (16, 40)
    )
    assert too_large > 8 * fits
    assert too_large == pytest.approx(
        caches.predicted_misses(order, size, size, size, cache, tile=40), rel=0.02
    )


def test_a_side_of_a_power_of_two_is_worse_than_the_formula():
    """Rows of 256 bytes: a column of a tile finds 2 of 8 sets; at 80 columns it finds all."""
    cache = Cache(4 * KIB)
    ratio = {
        size: caches.misses("ikj", size, size, size, cache, tile=16).misses
        / caches.predicted_misses("ikj", size, size, size, cache, tile=16)
        for size in (64, 80)
    }
    assert ratio[80] < 1.1
    assert ratio[64] > 5


def test_the_bound_is_the_matrices_once_or_two_mnk_by_the_root_of_the_cache():
    n, cache = 1024, Cache(4 * KIB)
    assert caches.least_misses(n, n, n, cache) == (2 * n**3 / 32 - 2 * n) / 16
    assert caches.least_misses(8, 16, 32, cache) == (128 + 512 + 256) / 16


# Against cachegrind, which plays the loads and stores of a real program.

PROGRAM = """
#include <stdlib.h>
#include <string.h>
enum { m = 64, k = 80, n = 112, t = 16 };

void ijk(const float *A, const float *B, float *C) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float c = C[i * n + j];
            for (int p = 0; p < k; p++) c += A[i * k + p] * B[p * n + j];
            C[i * n + j] = c;
        }
}
void ikj(const float *A, const float *B, float *C) {
    for (int i = 0; i < m; i++)
        for (int p = 0; p < k; p++) {
            float a = A[i * k + p];
            for (int j = 0; j < n; j++) C[i * n + j] += a * B[p * n + j];
        }
}
void jki(const float *A, const float *B, float *C) {
    for (int j = 0; j < n; j++)
        for (int p = 0; p < k; p++) {
            float b = B[p * n + j];
            for (int i = 0; i < m; i++) C[i * n + j] += A[i * k + p] * b;
        }
}
void block(const float *A, const float *B, float *C) {
    for (int i = 0; i < t; i++)
        for (int p = 0; p < t; p++) {
            float a = A[i * k + p];
            for (int j = 0; j < t; j++) C[i * n + j] += a * B[p * n + j];
        }
}
void tiled(const float *A, const float *B, float *C) {
    for (int i = 0; i < m; i += t)
        for (int j = 0; j < n; j += t)
            for (int p = 0; p < k; p += t) block(A + i * k + p, B + p * n + j, C + i * n + j);
}
int main(int argc, char **argv) {
    size_t bytes = sizeof(float) * (m * k + k * n + m * n);
    float *A = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    float *B = A + m * k, *C = B + k * n;
    if (!strcmp(argv[1], "ijk")) ijk(A, B, C);
    if (!strcmp(argv[1], "ikj")) ikj(A, B, C);
    if (!strcmp(argv[1], "jki")) jki(A, B, C);
    if (!strcmp(argv[1], "tiled")) tiled(A, B, C);
    return 0;
}
"""
SIDES = {"m": 64, "k": 80, "n": 112}
RUNS = {"ijk": ("ijk", None), "ikj": ("ikj", None), "jki": ("jki", None), "tiled": ("ikj", 16)}
GEOMETRIES = [Cache(4 * KIB), Cache(8 * KIB, line_bytes=32, ways=2), Cache(16 * KIB, ways=4)]


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """At -O1 gcc keeps what is local in registers and neither reorders nor widens an access."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or shutil.which("valgrind") is None:
        pytest.skip("cachegrind needs valgrind and a C compiler: apt-get install valgrind gcc")
    folder = tmp_path_factory.mktemp("cachegrind")
    source = folder / "multiply.c"
    source.write_text(PROGRAM)
    flags = ["-O1", "-fno-inline"]
    subprocess.run([compiler, *flags, source, "-o", folder / "multiply"], check=True)
    return folder / "multiply"


def cachegrind(binary, loops: str, cache: Cache) -> Misses:
    """All reads and writes of the program that runs these loops; ``"none"`` runs none."""
    out = binary.with_name("cachegrind.out")
    d1 = f"--D1={cache.size_bytes},{cache.ways},{cache.line_bytes}"
    others = ["--I1=32768,8,64", f"--LL={256 * KIB},16,{cache.line_bytes}"]
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", f"--cachegrind-out-file={out}"]
    subprocess.run([*tool, d1, *others, binary, loops], check=True, capture_output=True)
    said = dict(line.split(": ", 1) for line in out.read_text().splitlines() if ": " in line)
    events = dict(zip(said["events"].split(), map(int, said["summary"].split()), strict=True))
    return Misses(events["Dr"] + events["Dw"], events["D1mr"] + events["D1mw"])


@pytest.mark.parametrize("cache", GEOMETRIES, ids=str)
def test_cachegrind_counts_the_same(binary, cache):
    """As many accesses within 0.1 %, as many misses within 0.5 %, and 3 % with tiles.

    The rest: what the loops threw out is fetched again at the program's end, one line at most for
    each of the cache; and the call for each of 140 blocks puts its return address on the stack.
    """
    start = cachegrind(binary, "none", cache)
    for loops, (order, tile) in RUNS.items():
        found = cachegrind(binary, loops, cache)
        expected = caches.misses(order, **SIDES, cache=cache, tile=tile)
        assert found.accesses - start.accesses == pytest.approx(expected.accesses, rel=1e-3)
        close = pytest.approx(expected.misses, rel=0.03 if tile else 0.005)
        assert found.misses - start.misses == close


# What is refused.


@pytest.mark.parametrize("line_bytes", [2, 48])
def test_a_line_of_no_power_of_two_is_refused(line_bytes):
    says = f"line_bytes must be a power of two, 4 or more; got {line_bytes}"
    with pytest.raises(ValueError, match=says):
        Cache(4 * KIB, line_bytes=line_bytes)


@pytest.mark.parametrize("size_bytes", [256, 1000, 1536])
def test_sets_of_no_power_of_two_are_refused(size_bytes):
    says = f"a power of two times line_bytes x ways = 512, such as 512 or 4096; got {size_bytes}"
    with pytest.raises(ValueError, match=says):
        Cache(size_bytes)


@pytest.mark.parametrize("value", [0, -8, 1.5, float("nan")])
@pytest.mark.parametrize("name", ["size_bytes", "line_bytes", "ways"])
def test_a_geometry_of_no_whole_numbers_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number, 1 or more; got {value}"):
        Cache(**{"size_bytes": 4 * KIB, name: value})


@pytest.mark.parametrize("count", [caches.misses, caches.predicted_misses])
def test_loops_that_cannot_run_are_refused(count):
    with pytest.raises(ValueError, match="order must be one of ijk, ikj, jki; got 'kij'"):
        count("kij", 4, 4, 4, Cache(KIB))
    with pytest.raises(ValueError, match="k must be a whole number, 1 or more; got 0"):
        count("ijk", 4, 0, 4, Cache(KIB))
    with pytest.raises(ValueError, match="tile must be a whole number, 1 or more; got 0"):
        count("ijk", 4, 4, 4, Cache(KIB), tile=0)


@pytest.mark.parametrize("addresses", [[-1], [0.5], np.array([0, -64])])
def test_addresses_that_are_none_are_refused(addresses):
    with pytest.raises(ValueError, match="addresses must be whole numbers, 0 or more"):
        caches.simulate(addresses, Cache(KIB))


def test_without_numba_the_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    caches._compiled.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r'needs numba.*pip install "numba>=0\.60"'):
        caches.misses("ijk", 4, 4, 4, Cache(KIB))
    caches._compiled.cache_clear()
