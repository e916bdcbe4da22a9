"""Attention in tiles: the same result at every tile size, and the bytes of the closed forms."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from stackkit.frameworks.attention import causal_mask, naive, tiled  # noqa: E402
from stackkit.frameworks.traffic import Traffic, fast_bytes, naive_bytes, tiled_bytes  # noqa: E402


def rows(B, H, K, T, S, D, dtype=torch.float32, seed=0):
    """q, k and v as a model gives them: heads stand before tokens, but not in memory."""
    random = torch.Generator().manual_seed(seed)
    shapes = [(B, T, H, D), (B, S, K, D), (B, S, K, D)]
    return [torch.randn(s, generator=random).to(dtype).transpose(1, 2) for s in shapes]


def hold_against_naive(found, q, k, v, mask=None):
    """A tolerance from format and length. The weights are in fp32, whatever the operands are.

    Errors of S rounded terms add up like a walk's steps; NaN is close to nothing.
    """
    wanted = naive(q.double(), k.double(), v.double(), mask=mask)
    eps = max(torch.finfo(q.dtype).eps, torch.finfo(torch.float32).eps)
    allowed = 2 * eps * math.sqrt(k.shape[2] + q.shape[3]) * v.double().abs().max()
    assert found.dtype == q.dtype
    assert found.shape == q.shape
    off = (found.double() - wanted).abs().max()  # NaN where there is one
    assert float(off) <= float(allowed)


SHAPES = [  # B, H, K, T, S, D
    (1, 1, 1, 1, 1, 2),
    (1, 4, 4, 1, 17, 8),
    (2, 6, 2, 3, 3, 8),
    (1, 9, 3, 17, 17, 16),
    (3, 4, 1, 5, 100, 4),
    (1, 8, 2, 33, 65, 8),
]
TILES = [(1, 1), (2, 3), (4, 4), (17, 5), (64, 64)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_equals_naive_attention(shape, tiles, dtype):
    q, k, v = rows(*shape, dtype=dtype)
    hold_against_naive(tiled(q, k, v, q_tile=tiles[0], k_tile=tiles[1]), q, k, v)


@given(
    B=st.integers(1, 2), K=st.integers(1, 3), G=st.integers(1, 4), T=st.integers(1, 20),
    cached=st.integers(0, 20), D=st.integers(1, 9), q_tile=st.integers(1, 22),
    k_tile=st.integers(1, 42), seed=st.integers(0, 9),
)  # fmt: skip
@settings(deadline=None, derandomize=True, max_examples=60)
def test_no_shape_and_no_tile_changes_the_result(B, K, G, T, cached, D, q_tile, k_tile, seed):
    q, k, v = rows(B, K * G, K, T, T + cached, D, seed=seed)
    hold_against_naive(tiled(q, k, v, q_tile=q_tile, k_tile=k_tile), q, k, v)


def windows(T, S, width):
    """True for the last ``width`` tokens up to the query's own."""
    places, seen = torch.arange(S), S - T + torch.arange(T)[:, None]
    return ((places <= seen) & (places > seen - width))[None, None]


def random_mask(B, T, S, seed):
    """Each query may look somewhere."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.rand(B, 1, T, S, generator=random) < 0.3
    somewhere = torch.randint(S, (B, 1, T, 1), generator=random)
    return mask.scatter(3, somewhere, True)


MASKS = [
    *[random_mask(2, 9, 14, seed) for seed in range(4)],
    *[random_mask(1, 9, 14, seed) for seed in range(2)],  # the same for both texts
    *[windows(9, 14, width) for width in (1, 3, 14)],
    torch.ones(1, 1, 9, 14, dtype=torch.bool),
    (torch.arange(14) == 13).expand(1, 1, 9, 14),  # all tiles but the last are dark
    (torch.arange(14) == 0).expand(1, 1, 9, 14),  # all tiles but the first are
]


@pytest.mark.parametrize("tiles", [(1, 1), (4, 3), (9, 14), (64, 64)])
@pytest.mark.parametrize("mask", MASKS)
def test_it_equals_naive_attention_with_a_mask(mask, tiles):
    q, k, v = rows(2, 6, 3, 9, 14, 8)
    found = tiled(q, k, v, mask=mask, q_tile=tiles[0], k_tile=tiles[1])
    hold_against_naive(found, q, k, v, mask)


def test_its_default_is_the_causal_mask():
    q, k, v = rows(1, 4, 2, 9, 14, 8)
    by_mask = tiled(q, k, v, mask=causal_mask(9, 14), q_tile=4, k_tile=4)
    torch.testing.assert_close(tiled(q, k, v, q_tile=4, k_tile=4), by_mask)


def test_a_query_that_sees_one_key_gets_its_value():
    q, k, v = rows(1, 2, 2, 5, 5, 4)
    mask = torch.eye(5, dtype=torch.bool)[None, None]
    torch.testing.assert_close(tiled(q, k, v, mask=mask, q_tile=2, k_tile=2), v)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_scores_that_would_overflow_do_not(scale):
    """e^10000 is no number of any format; the best score is taken off first."""
    q, k, v = rows(1, 2, 1, 7, 7, 4)
    q = q * scale
    found = tiled(q, k, v, q_tile=2, k_tile=2)
    torch.testing.assert_close(found, naive(q, k, v), rtol=1e-4, atol=1e-4)


def test_scores_that_rise_from_tile_to_tile_put_right_what_was_summed():
    """Each tile's best is higher than all before: w and y shrink every time."""
    q, k, v = torch.ones(1, 1, 1, 1), torch.arange(12.0).view(1, 1, 12, 1), rows(*[1] * 4, 12, 1)[2]
    hold_against_naive(tiled(q, k, v, k_tile=1), q, k, v)
    hold_against_naive(tiled(q, k.flip(2), v, k_tile=1), q, k.flip(2), v)


def test_keys_that_no_query_of_a_tile_may_see_are_not_touched():
    q, k, v = rows(1, 2, 1, 8, 8, 4)
    wanted = tiled(q, k, v, q_tile=2, k_tile=2)
    k[:, :, 6:], v[:, :, 6:] = math.nan, math.nan
    found = tiled(q, k, v, q_tile=2, k_tile=2)
    assert torch.equal(found[:, :, :6], wanted[:, :, :6])
    assert bool(found[:, :, 6:].isnan().all())


def test_the_operands_are_not_modified():
    operands = rows(1, 4, 2, 5, 9, 8)
    copies = [x.clone() for x in operands]
    tiled(*operands, mask=random_mask(1, 5, 9, 0), q_tile=2, k_tile=2)
    assert all(map(torch.equal, operands, copies))


# Bytes

FREE = torch.ones(1, 1, 1, 1, dtype=torch.bool)  # a mask that hides nothing, of any size


def moved(q, k, v, **how):
    traffic = Traffic()
    tiled(q, k, v, traffic=traffic, **how)
    return traffic


@pytest.mark.parametrize(
    ("dtype", "width"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float64, 8)]
)
@pytest.mark.parametrize("q_tile", [1, 3, 8, 17, 64])
@pytest.mark.parametrize(("T", "S"), [(17, 17), (1, 9), (16, 40)])
def test_the_bytes_counted_are_those_of_the_closed_form(T, S, q_tile, dtype, width):
    """Whatever the tiles of keys: they only cut the same passes."""
    q, k, v = rows(1, 3, 3, T, S, 4, dtype=dtype)
    wanted = tiled_bytes(T, S, 4, 3, q_tile=q_tile, bytes_per_value=width)
    for k_tile in (1, 7, 64):
        traffic = moved(q, k, v, mask=FREE.expand(1, 1, T, S), q_tile=q_tile, k_tile=k_tile)
        assert traffic.bytes == wanted


def test_one_tile_of_queries_moves_each_operand_once():
    q, k, v = rows(1, 6, 6, 10, 20, 8)
    traffic = moved(q, k, v, mask=FREE.expand(1, 1, 10, 20), q_tile=10)
    assert traffic.loaded_bytes == q.nbytes + k.nbytes + v.nbytes
    assert traffic.stored_bytes == q.nbytes  # the result is as large
    assert tiled_bytes(10, 20, 8, 6, q_tile=10, bytes_per_value=4) == traffic.bytes
    assert tiled_bytes(10, 20, 8, 6, q_tile=999, bytes_per_value=4) == traffic.bytes


def test_queries_that_share_a_head_of_keys_load_it_once():
    q, k, v = rows(1, 6, 2, 10, 20, 8)
    traffic = moved(q, k, v, mask=FREE.expand(1, 1, 10, 20), q_tile=10)
    assert traffic.bytes == 2 * q.nbytes + k.nbytes + v.nbytes


def test_a_causal_mask_leaves_out_the_keys_after_a_tiles_last_query():
    """Tiles of 2 queries that stand at 6 to 11 of 12 tokens see 8, 10 and 12 keys."""
    q, k, v = rows(1, 1, 1, 6, 12, 4)
    seen = 8 + 10 + 12
    assert moved(q, k, v, q_tile=2, k_tile=5).bytes == (2 * 6 * 4 + 2 * seen * 4) * 4


def test_traffic_adds_up_over_calls():
    q, k, v = rows(1, 1, 1, 6, 6, 4)
    traffic = Traffic()
    tiled(q, k, v, traffic=traffic)
    once = traffic.bytes
    tiled(q, k, v, traffic=traffic)
    assert traffic.bytes == 2 * once > 0


@pytest.mark.parametrize(("T", "S", "D", "H"), [(1, 1, 1, 1), (5, 9, 4, 3), (16, 16, 8, 2)])
def test_bytes_of_naive_attention_by_a_second_route(T, S, D, H):
    """Three kernels, each reading its operands from the slow memory and writing its result."""
    traffic = Traffic()
    q, k, v = rows(1, H, H, T, S, D)
    scores = traffic.store(traffic.load(q) @ traffic.load(k).transpose(2, 3))
    weights = traffic.store(torch.softmax(traffic.load(scores), -1))
    traffic.store(traffic.load(weights) @ traffic.load(v))
    assert naive_bytes(T, S, D, H, bytes_per_value=4) == traffic.bytes


def test_tiles_save_the_scores():
    """With one tile of queries all that is left out is scores and weights, out and in."""
    T, S, D = 64, 256, 16
    saved = naive_bytes(T, S, D) - tiled_bytes(T, S, D, q_tile=T)
    assert saved == 4 * T * S * 2


def test_the_fast_memory_holds_two_tiles_of_each_kind_and_their_scores():
    q, k, v = rows(1, 1, 1, 3, 5, 8)
    tiles = [q, q, k, v, q @ k.transpose(2, 3)]  # the second q is the result
    assert fast_bytes(3, 5, 8, bytes_per_value=4) == sum(x.nbytes for x in tiles)


# What is refused


@pytest.mark.parametrize("tiles", [(0, 4), (4, 0), (-1, 4)])
def test_an_empty_tile_is_refused(tiles):
    words = f"Tiles hold 1 token or more; got {tiles[0]} queries and {tiles[1]} keys."
    with pytest.raises(ValueError, match=re.escape(words)):
        tiled(*rows(1, 1, 1, 2, 2, 2), q_tile=tiles[0], k_tile=tiles[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda q, k, v: (q[0], k, v), "takes (batch, heads, tokens, head dim)"),
        (lambda q, k, v: (q, k, v[:, :, 1:]), "k and v must be alike"),
        (lambda q, k, v: (q[:, :3], k, v), "3 query heads cannot share 2 heads"),
        (lambda q, k, v: (q, k[:, :, 1:], v[:, :, 1:]), "need as many keys or more"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_a_sentence(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        tiled(*change(*rows(1, 4, 2, 5, 5, 8)))


@pytest.mark.parametrize(("H", "K"), [(4, 1), (6, 2), (3, 3)])
def test_shared_keys_pass_once_for_all_the_heads_that_share_them(H, K):
    """Counted by ``tiled``, whose tile holds all query heads of a KV head."""
    T, S, D = 20, 33, 8
    q, k, v = torch.randn(1, H, T, D), torch.randn(1, K, S, D), torch.randn(1, K, S, D)
    traffic = Traffic()
    tiled(q, k, v, mask=torch.ones(1, 1, T, S, dtype=torch.bool), q_tile=8, traffic=traffic)
    wanted = tiled_bytes(T, S, D, H, K, q_tile=8, bytes_per_value=4)
    assert traffic.bytes == wanted == 4 * (2 * q.numel() + 3 * (k.numel() + v.numel()))


def test_written_scores_are_as_many_whoever_shares_the_keys():
    T, S, D, H, K = 5, 7, 4, 6, 2
    saved = naive_bytes(T, S, D, H) - naive_bytes(T, S, D, H, K)
    assert saved == 2 * S * D * (H - K) * 2  # keys and values of the heads that have none, bf16
