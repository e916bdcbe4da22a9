"""Plain attention: against torch's own, against loops, and at its edges."""

import math
import re

import pytest

torch = pytest.importorskip("torch")

from stackkit.frameworks.attention import causal_mask, naive  # noqa: E402


def rows(B, H, K, T, S, D, seed=0):
    random = torch.Generator().manual_seed(seed)
    return (
        torch.randn(B, H, T, D, generator=random),
        torch.randn(B, K, S, D, generator=random),
        torch.randn(B, K, S, D, generator=random),
    )


SHAPES = [
    (1, 1, 1, 1, 1, 2),
    (2, 6, 2, 5, 5, 8),
    (1, 9, 3, 1, 17, 64),
    (3, 4, 4, 3, 100, 16),
    (1, 8, 1, 17, 17, 4),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_equals_torchs_own_attention(shape):
    q, k, v = rows(*shape)
    T, S = q.shape[2], k.shape[2]
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=causal_mask(T, S), enable_gqa=True
    )
    torch.testing.assert_close(naive(q, k, v), wanted, rtol=1e-5, atol=1e-5)


def test_it_equals_three_loops_in_float64():
    """The definition, one number at a time; query head h looks with KV head h // (H / K)."""
    B, H, K, T, S, D = 1, 4, 2, 3, 5, 2
    q, k, v = rows(B, H, K, T, S, D)
    found = naive(q, k, v)
    for h in range(H):
        for t in range(T):
            seen = range(S - T + t + 1)
            kv = h // (H // K)
            scores = [
                sum(float(q[0, h, t, d]) * float(k[0, kv, s, d]) for d in range(D)) / math.sqrt(D)
                for s in seen
            ]
            weights = [math.exp(score) for score in scores]
            for d in range(D):
                mean = sum(
                    w * float(v[0, kv, s, d]) for w, s in zip(weights, seen, strict=True)
                ) / sum(weights)
                assert float(found[0, h, t, d]) == pytest.approx(mean, abs=1e-5)


def test_a_token_does_not_see_those_after_it():
    q, k, v = rows(1, 2, 2, 6, 6, 4)
    before = naive(q, k, v)
    k[:, :, 4:], v[:, :, 4:] = 99.0, -99.0
    after = naive(q, k, v)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.allclose(before[:, :, 4:], after[:, :, 4:])


def test_the_last_queries_alone_give_the_last_rows():
    """What a cache rests on."""
    q, k, v = rows(2, 4, 2, 9, 9, 8)
    torch.testing.assert_close(naive(q[:, :, -2:], k, v), naive(q, k, v)[:, :, -2:])


def test_a_mask_of_ones_looks_both_ways():
    q, k, v = rows(1, 1, 1, 3, 3, 4)
    both = naive(q, k, v, mask=torch.ones(1, 1, 3, 3, dtype=torch.bool))
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(both, wanted)


def test_the_operands_are_not_modified():
    operands = rows(1, 4, 2, 5, 5, 8)
    copies = [x.clone() for x in operands]
    naive(*operands)
    assert all(map(torch.equal, operands, copies))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda q, k, v: (q[0], k, v), "takes (batch, heads, tokens, head dim)"),
        (lambda q, k, v: (q, k, v[:, :, 1:]), "k and v must be alike"),
        (lambda q, k, v: (q[..., 1:], k, v), "must agree in batch and head dim"),
        (lambda q, k, v: (q[:, :3], k, v), "3 query heads cannot share 2 heads"),
        (lambda q, k, v: (q, k[:, :, 1:], v[:, :, 1:]), "need as many keys or more"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_a_sentence(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        naive(*change(*rows(1, 4, 2, 5, 5, 8)))
