"""Bytes past the last cache: limits, a brute-force walk with an ideal cache, published figures."""

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.core.units import GIGA
from stackkit.processors import traffic
from stackkit.processors.ladder import LADDER

sides = st.integers(1, 300)
caches = st.integers(10, 24).map(lambda power: 2.0**power)


def once(m, k, n):
    return 4.0 * (m * k + k * n + m * n)


@given(sides, sides, sides)
def test_in_an_endless_cache_every_matrix_moves_once(m, k, n):
    for rung in LADDER.values():
        share = 0.5 if rung.dtype == "bf16" else 1
        assert rung.predicted_bytes(m, n, k, 1e15) == share * once(m, k, n)


@given(sides, sides, sides, caches)
def test_no_order_moves_less_than_every_matrix_once(m, k, n, cache):
    for rung in LADDER.values():
        share = 0.5 if rung.dtype == "bf16" else 1
        assert rung.predicted_bytes(m, n, k, cache) >= share * once(m, k, n)


@given(sides, sides, sides, caches)
def test_a_larger_cache_never_moves_more(m, k, n, cache):
    for rung in LADDER.values():
        assert rung.predicted_bytes(m, n, k, 4 * cache) <= rung.predicted_bytes(m, n, k, cache)


def lines_fetched(order, m, k, n, cache_bytes):
    """Bytes that a fully associative LRU cache with lines of 64 B fetches, access by access."""
    at_a, at_b, at_c = 0, m * k * 4, (m * k + k * n) * 4
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
    return fetched(walks[order](), cache_bytes)


def fetched(addresses, cache_bytes):
    held, moved = OrderedDict(), 0
    for address in addresses:
        line = address // 64
        if line in held:
            held.move_to_end(line)
        else:
            moved += 64
            held[line] = True
            if len(held) > cache_bytes // 64:
                held.popitem(last=False)
    return moved


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


def tiled_walk(order, m, k, n, tile):
    """Addresses of a, b and c in the order in which the tiled rungs touch them."""
    at_b, at_c = m * k * 4, (m * k + k * n) * 4
    blocks = {
        "squares": (
            (range(i0, i0 + tile), range(p0, p0 + tile), range(j0, j0 + tile))
            for i0 in range(0, m, tile)
            for j0 in range(0, n, tile)
            for p0 in range(0, k, tile)
        ),
        "strips": (
            (range(m), range(p0, p0 + tile), range(j0, j0 + tile))
            for j0 in range(0, n, tile)
            for p0 in range(0, k, tile)
        ),
    }
    for rows, depth, columns in blocks[order]:
        for i in rows:
            for p in depth:
                for j in columns:
                    yield 4 * (i * k + p)
                    yield at_b + 4 * (p * n + j)
                    yield at_c + 4 * (i * n + j)


@pytest.mark.parametrize(
    ("order", "cache_bytes"),
    [
        ("squares", 8_000),  # a tile fits, its strip does not
        ("squares", 24_000),  # the strip fits
        ("squares", 200_000),  # all fits
        ("strips", 24_000),
        ("strips", 200_000),
    ],
)
def test_the_tiled_formulas_are_what_a_walk_fetches(order, cache_bytes):
    """96 squared in tiles of 16. (Where a strip of c does not stay, the formula counts its writes
    too, and the walk fetches alone.)"""
    sizes = {"tile": 16} if order == "squares" else {"columns": 16, "depth": 16}
    predicted = getattr(traffic, order)(96, 96, 96, cache_bytes, **sizes)
    walked = fetched(tiled_walk(order, 96, 96, 96, 16), cache_bytes)
    assert walked == pytest.approx(predicted, rel=0.01)


@given(sides, sides, sides, caches)
def test_no_rung_is_predicted_below_the_bound(m, k, n, cache):
    for rung in LADDER.values():
        if rung.dtype == "fp32" and rung.name.startswith(("ijk-", "ikj-", "blocked", "threads")):
            assert rung.predicted_bytes(m, n, k, cache) >= traffic.least(m, k, n, cache)


def test_a_cache_that_holds_nothing_is_refused():
    with pytest.raises(ValueError, match="one number or more; got 0 bytes"):
        traffic.least(2, 2, 2, 0)


def test_the_least_that_boehm_s_napkin_has():
    """Boehm, How to Optimize a CUDA Matmul Kernel: 268 MB for 4092 squared, c read and written."""
    n = 4092
    assert traffic.least(n, n, n, 1e15) + 4 * n * n == pytest.approx(268e6, rel=0.01)


def test_a_kernel_without_any_cache_moves_what_boehm_computes():
    """The same page: each of 4092^3 multiply-adds loads two floats, 548 GB."""
    n = 4092
    assert traffic.least(n, n, n, 4) == pytest.approx(548 * GIGA, rel=0.01)
