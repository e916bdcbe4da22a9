"""Bytes past the last cache: limits, a brute-force walk with an ideal cache, published figures."""

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.core.units import GIGA, MIB
from stackkit.processors import traffic
from stackkit.processors.ladder import LADDER

sides = st.integers(1, 300)
caches = st.integers(10, 24).map(lambda power: 2.0**power)


def once(m, k, n):
    return 4.0 * (m * k + k * n + m * n)


@given(sides, sides, sides)
def test_in_an_endless_cache_every_matrix_moves_once(m, k, n):
    for rung in LADDER.values():
        assert rung.predicted_bytes(m, n, k, 1e15) == once(m, k, n)


@given(sides, sides, sides, caches)
def test_no_order_moves_less_than_every_matrix_once(m, k, n, cache):
    for rung in LADDER.values():
        assert rung.predicted_bytes(m, n, k, cache) >= once(m, k, n)


@given(sides, sides, sides, caches)
def test_a_larger_cache_never_moves_more(m, k, n, cache):
    for rung in LADDER.values():
        assert rung.predicted_bytes(m, n, k, 4 * cache) <= rung.predicted_bytes(m, n, k, cache)


def lines_fetched(order, m, k, n, cache_bytes):
    """Bytes that a fully associative LRU cache with lines of 64 B fetches, access by access."""
    at_a, at_b, at_c = 0, m * k * 4, (m * k + k * n) * 4
    held, fetched = OrderedDict(), 0
    walks = {
        "ijk": lambda: (
            access
            for i in range(m)
            for j in range(n)
            for p in range(k)
            for access in (at_a + 4 * (i * k + p), at_b + 4 * (p * n + j), at_c + 4 * (i * n + j))
        ),
        "ikj": lambda: (
            access
            for i in range(m)
            for p in range(k)
            for j in range(n)
            for access in (at_a + 4 * (i * k + p), at_b + 4 * (p * n + j), at_c + 4 * (i * n + j))
        ),
    }
    for address in walks[order]():
        line = address // 64
        if line in held:
            held.move_to_end(line)
        else:
            fetched += 64
            held[line] = True
            if len(held) > cache_bytes // 64:
                held.popitem(last=False)
    return fetched


@pytest.mark.parametrize(
    ("order", "cache_bytes"),
    [("ijk", 2048), ("ijk", 6144), ("ikj", 2048), ("ikj", 6144), ("ijk", 65536), ("ikj", 65536)],
)
def test_the_formula_is_what_a_walk_with_an_ideal_cache_fetches(order, cache_bytes):
    """48 x 64 by 64 x 48: too long a column of lines, then a column but not b, then all."""
    m, k, n = 48, 64, 48
    predicted = getattr(traffic, order)(m, k, n, cache_bytes)
    assert lines_fetched(order, m, k, n, cache_bytes) == pytest.approx(predicted, rel=0.06)


def test_a_walk_down_a_column_fetches_sixteen_times_what_it_uses_and_loses_its_row():
    m = k = n = 4096
    small = 64 * k - 1
    assert traffic.ijk(m, k, n, small) == pytest.approx(17 * traffic.ikj(m, k, n, small), rel=0.01)


def test_tiles_divide_the_traffic_by_their_side():
    m = k = n = 8192
    cache = 1 * MIB
    whole = traffic.ikj(m, k, n, cache)
    tiled = traffic.tiled(m, k, n, cache, rows=n, columns=512, depth=512)
    assert whole / tiled == pytest.approx(n / (n / 512 + 2 * n / 512), rel=0.1)


def test_the_least_that_boehm_s_napkin_has():
    """Boehm, How to Optimize a CUDA Matmul Kernel: 268 MB for 4092 squared, c read and written."""
    n = 4092
    assert traffic.least(n, n, n, 1e15) + 4 * n * n == pytest.approx(268e6, rel=0.01)


def test_a_kernel_without_any_cache_moves_what_boehm_computes():
    """The same page: each of 4092^3 multiply-adds loads two floats, 548 GB."""
    n = 4092
    assert 2 * 4 * n**3 / GIGA == pytest.approx(548, rel=0.01)
    assert traffic.least(n, n, n, 4) > 548e9 / 2


def test_no_tiling_beats_the_lower_bound():
    m = k = n = 4096
    cache = 256 * 1024.0
    best = min(
        traffic.tiled(m, k, n, cache, rows=side, columns=side, depth=1 << 30)
        for side in (32, 64, 128, 181)  # 2 x 181^2 floats fill the cache
    )
    assert traffic.least(m, k, n, cache) <= best <= 3 * traffic.least(m, k, n, cache)
