"""The cache in one piece: exact states, and what it refuses."""

import pytest

torch = pytest.importorskip("torch")

from stackkit.frameworks import ContiguousCache  # noqa: E402


@pytest.fixture
def cache():
    return ContiguousCache(n_layers=2, n_kv_heads=1, head_dim=2, max_tokens=4)


def kv(*values):
    """(1, 1, T, 2) of equal pairs."""
    return torch.tensor([[[[float(x)] * 2 for x in values]]])


def test_what_was_appended_comes_back_in_order(cache):
    for layer in range(2):
        cache.append(layer, kv(1, 2), kv(-1, -2))
    cache.advance(2)
    k, v = cache.append(0, kv(3), kv(-3))
    assert k[0, 0, :, 0].tolist() == [1, 2, 3]
    assert v[0, 0, :, 0].tolist() == [-1, -2, -3]
    assert cache.length == 2  # the other layer has not seen the third token yet


def test_layers_do_not_mix(cache):
    cache.append(0, kv(1), kv(1))
    k, _ = cache.append(1, kv(7), kv(7))
    assert k[0, 0, :, 0].tolist() == [7]


def test_forgotten_tokens_are_written_over(cache):
    cache.append(0, kv(1, 2, 3), kv(1, 2, 3))
    cache.advance(3)
    cache.truncate(1)
    k, _ = cache.append(0, kv(9), kv(9))
    assert k[0, 0, :, 0].tolist() == [1, 9]


def test_it_takes_the_bytes_of_the_formula():
    """2 L B K S D numbers; PagedAttention's OPT-13B keeps 800 KiB a token in 16 bits."""
    cache = ContiguousCache(40, 40, 128, 1, dtype=torch.bfloat16)
    assert cache.reserved_bytes == 800 * 1024


def test_a_full_cache_says_how_full(cache):
    cache.append(0, kv(1, 2, 3), kv(1, 2, 3))
    cache.advance(3)
    with pytest.raises(ValueError, match="room for 4 tokens and 3 are in it; 2 more do not fit"):
        cache.append(0, kv(4, 5), kv(4, 5))


def test_query_heads_where_kv_heads_belong_are_refused():
    cache = ContiguousCache(1, 3, 4, 8)
    q = torch.zeros(1, 9, 1, 4)
    with pytest.raises(ValueError, match=r"keeps .* of \(1, 3, 4\); got \(1, 9, 4\)"):
        cache.append(0, q, q)


@pytest.mark.parametrize("length", [-1, 1])
def test_it_cannot_keep_what_it_does_not_have(cache, length):
    with pytest.raises(ValueError, match="has 0 tokens"):
        cache.truncate(length)


def test_a_cache_of_no_token_is_refused():
    with pytest.raises(ValueError, match="room for 1 token or more"):
        ContiguousCache(1, 1, 2, 0)
