"""The transformer: each part by a second route in float64, then the whole, cached and not."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from stackkit.models.transformer import (  # noqa: E402
    Config,
    FeedForward,
    Transformer,
    rotary_turns,
    rotate,
)

TINY = Config(
    n_layers=2,
    d_model=12,
    n_heads=6,
    n_kv_heads=2,
    head_dim=4,
    d_ff=20,
    vocab_size=17,
    max_context=24,
)


def made(config=TINY, seed=0):
    """A model whose weights are large enough for every part to matter."""
    torch.manual_seed(seed)
    model = Transformer(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.4)
    return model.eval().requires_grad_(False)


MODEL = made()
IDS = torch.randint(TINY.vocab_size, (2, 11), generator=torch.Generator().manual_seed(1))


def by_hand(model, ids):
    """Logits of one text in numpy's float64, token by token and head by head, for its shape."""
    c = model.config
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def norm(x, name):
        return x / math.sqrt(sum(v * v for v in x) / len(x) + c.norm_eps) * w[name + ".weight"]

    def turned(x, position):
        x = x.copy()
        for d in range(0, c.head_dim, 2):
            angle = position * c.rope_base ** (-d / c.head_dim)
            one, other = x[d], x[d + 1]
            x[d] = one * math.cos(angle) - other * math.sin(angle)
            x[d + 1] = one * math.sin(angle) + other * math.cos(angle)
        return x

    xs = [w["embed.weight"][id] for id in ids]
    for i in range(c.n_layers):
        at, D = f"layers.{i}.", c.head_dim
        a = at + "attention."
        normed = [norm(x, at + "attention_norm") for x in xs]
        q = [(w[a + "query.weight"] @ x).reshape(-1, D) for x in normed]
        k = [(w[a + "key.weight"] @ x).reshape(-1, D) for x in normed]
        v = [(w[a + "value.weight"] @ x).reshape(-1, D) for x in normed]
        for t in range(len(xs)):
            heads = []
            for h in range(c.n_heads):
                kv = h // (c.n_heads // c.n_kv_heads)
                scores = np.array(
                    [turned(q[t][h], t) @ turned(k[s][kv], s) / math.sqrt(D) for s in range(t + 1)]
                )
                weights = np.exp(scores) / np.exp(scores).sum()
                heads.append(sum(p * v[s][kv] for s, p in enumerate(weights)))
            x = xs[t] + w[a + "output.weight"] @ np.concatenate(heads)
            normed_x, f = norm(x, at + "feed_forward_norm"), at + "feed_forward."
            gate = w[f + "gate.weight"] @ normed_x
            gate = gate / (1 + np.exp(-gate))
            xs[t] = x + w[f + "down.weight"] @ (gate * (w[f + "up.weight"] @ normed_x))
    return np.array([w["head.weight"] @ norm(x, "norm") for x in xs])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("heads", [(6, 2), (2, 2), (3, 1)])
def test_the_whole_equals_loops_in_float64(tied, heads):
    model = made(replace(TINY, n_heads=heads[0], n_kv_heads=heads[1], tied_embeddings=tied))
    found = model(IDS)
    for b, ids in enumerate(IDS.tolist()):
        np.testing.assert_allclose(found[b].numpy(), by_hand(model, ids), rtol=1e-3, atol=1e-3)


def test_a_norm_leaves_numbers_whose_mean_square_is_one():
    x = 30 * torch.randn(5, 12, generator=torch.Generator().manual_seed(0)) + 7
    norm = Transformer(TINY).norm  # its weights are ones before training
    assert norm(x).square().mean(-1).tolist() == pytest.approx([1] * 5, rel=1e-4)
    torch.testing.assert_close(norm(x), norm(1000 * x))  # the size of x is gone


def test_feed_forward_equals_the_formula_one_number_at_a_time():
    """down (silu(gate x) * up x), silu(g) = g / (1 + e^-g)."""
    layer = MODEL.layers[0].feed_forward
    x = torch.randn(1, 1, 12, generator=torch.Generator().manual_seed(3))
    gate, up, down = (m.weight.double().tolist() for m in (layer.gate, layer.up, layer.down))
    numbers = x[0, 0].double().tolist()

    def dot(row, column):
        return sum(a * b for a, b in zip(row, column, strict=True))

    inner = [
        dot(g, numbers) / (1 + math.exp(-dot(g, numbers))) * dot(u, numbers)
        for g, u in zip(gate, up, strict=True)
    ]
    wanted = [dot(row, inner) for row in down]
    assert layer(x)[0, 0].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_a_closed_gate_lets_nothing_pass():
    layer = FeedForward(TINY)
    torch.nn.init.zeros_(layer.gate.weight)
    assert not layer(torch.ones(1, 1, 12)).any()


def turned_at(x, position, base=10_000.0):
    return rotate(x[None, None, None], rotary_turns(len(x), position + 1, base)[position:])[0, 0, 0]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5000))
def test_the_product_of_turned_query_and_key_depends_on_their_distance_alone(one, other, shift):
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).double()
    near = turned_at(q, one) @ turned_at(k, other)
    far = turned_at(q, one + shift) @ turned_at(k, other + shift)
    assert float(far) == pytest.approx(float(near), abs=1e-4)


def test_distance_changes_the_product():
    q, k = torch.ones(2, 8)
    assert float(turned_at(q, 3) @ turned_at(k, 0)) != pytest.approx(8, abs=0.5)


def test_position_0_is_not_turned_and_no_position_changes_a_length():
    x = torch.randn(8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(turned_at(x, 0), x)
    assert float(turned_at(x, 999).norm()) == pytest.approx(float(x.norm()), rel=1e-5)


def test_turns_are_cosine_and_sine_of_the_papers_angles():
    """Far positions too: an angle of 100,000 radians in fp32 would be off by 4 thousandths."""
    position, base, D = 100_000, 500_000.0, 6
    found = rotary_turns(D, position + 1, base)[position].tolist()
    for d in range(D // 2):
        angle = position / base ** (2 * d / D)
        assert found[d] == pytest.approx([math.cos(angle), math.sin(angle)], abs=1e-6)


def test_pairing_neighbours_equals_pairing_halves_with_rows_in_another_order():
    """How Hugging Face's Llama does it: x cos + rotate_half(x) sin, on reordered numbers."""
    x = torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    turns = rotary_turns(8, 5, 10_000.0)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    halves = x[..., order]
    cos, sin = (torch.cat([turns[..., i]] * 2, dim=-1) for i in range(2))
    swapped = torch.cat([-halves[..., 4:], halves[..., :4]], dim=-1)
    torch.testing.assert_close(rotate(x, turns)[..., order], halves * cos + swapped * sin)


@given(st.sets(st.integers(1, 23)))
def test_chunks_of_any_sizes_with_a_cache_give_what_one_pass_gives(cuts):
    ids = torch.arange(24)[None] * 7 % TINY.vocab_size
    cache = MODEL.new_cache(24)
    found = [MODEL(chunk, cache) for chunk in ids.tensor_split(sorted(cuts), dim=1)]
    torch.testing.assert_close(torch.cat(found, dim=1), MODEL(ids), rtol=1e-4, atol=1e-4)
    assert cache.length == 24


def test_a_cache_taken_back_goes_on_as_if_nothing_had_been_there():
    cache = MODEL.new_cache(11)
    MODEL(IDS[:1], cache)
    cache.truncate(4)
    again = MODEL(IDS[:1, 4:], cache)
    torch.testing.assert_close(again, MODEL(IDS[:1])[:, 4:], rtol=1e-4, atol=1e-4)


def test_a_cache_serves_several_texts_of_one_length():
    cache = MODEL.new_cache(11, batch=2)
    MODEL(IDS[:, :7], cache)
    torch.testing.assert_close(MODEL(IDS[:, 7:], cache), MODEL(IDS)[:, 7:], rtol=1e-4, atol=1e-4)


def test_texts_of_a_batch_do_not_mix():
    alone = torch.cat([MODEL(row[None]) for row in IDS])
    torch.testing.assert_close(MODEL(IDS), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at", range(11))
def test_a_later_token_changes_no_earlier_logits(at):
    before, changed = MODEL(IDS[:1]), IDS[:1].clone()
    changed[0, at] = (changed[0, at] + 1) % TINY.vocab_size
    after = MODEL(changed)
    torch.testing.assert_close(after[:, :at], before[:, :at], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(after[:, at], before[:, at], atol=1e-2)


def test_the_order_of_earlier_tokens_matters():
    """Without positions, the last token would see a bag of words."""
    ids = torch.tensor([[1, 2, 3, 4]])
    assert not torch.allclose(MODEL(ids)[:, -1], MODEL(ids[:, [2, 0, 1, 3]])[:, -1], atol=1e-2)


@pytest.mark.parametrize("last", [1, 3, 11])
def test_last_gives_the_last_rows_of_all(last):
    found = MODEL(IDS, last=last)
    assert found.shape == (2, last, TINY.vocab_size)
    torch.testing.assert_close(found, MODEL(IDS)[:, -last:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_it_has_as_many_weights_as_its_spec_says_and_a_count_by_hand(tied):
    config = replace(TINY, tied_embeddings=tied)
    attention = 12 * 24 + 2 * 12 * 8 + 24 * 12  # query; key and value; output
    by_hand_count = 2 * (attention + 3 * 12 * 20 + 2 * 12) + 12 + (1 if tied else 2) * 17 * 12
    counted = sum(weight.numel() for weight in Transformer(config).parameters())
    assert counted == config.spec().params() == by_hand_count


def test_the_spec_s_bytes_of_cache_are_those_that_are_reserved():
    reserved = MODEL.new_cache(5, batch=3).reserved_bytes
    assert reserved == 5 * 3 * TINY.spec().kv_bytes_per_token(4)


def test_a_tied_head_is_the_input_table_and_an_untied_one_is_not():
    assert MODEL.head.weight is MODEL.embed.weight
    untied = Transformer(replace(TINY, tied_embeddings=False))
    assert untied.head.weight.data_ptr() != untied.embed.weight.data_ptr()


def test_it_attends_as_it_is_told():
    seen = []

    def attend(q, k, v):
        seen.append((tuple(q.shape), tuple(k.shape)))
        return torch.zeros_like(q)

    Transformer(TINY, attend)(IDS)
    assert seen == [((2, 6, 11, 4), (2, 2, 11, 4))] * TINY.n_layers


def test_its_cache_has_the_format_of_its_weights():
    assert made().to(torch.bfloat16).new_cache(1).data.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_it_gives_nearly_the_same(dtype):
    half = made().to(dtype)
    cosine = torch.cosine_similarity(half(IDS).float().flatten(), MODEL(IDS).flatten(), dim=0)
    assert float(cosine) > 0.99


def test_every_weight_gets_a_gradient():
    model = Transformer(TINY)
    model(IDS).logsumexp(-1).sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize(("T", "got"), [(0, 0), (25, 25)])
def test_no_token_and_too_many_are_refused(T, got):
    words = f"takes 1 to 24 tokens; got {got}"
    with pytest.raises(ValueError, match=re.escape(words)):
        MODEL(torch.zeros(1, T, dtype=torch.long))


def test_a_cache_counts_toward_the_longest_text():
    cache = MODEL.new_cache(30)
    MODEL(torch.zeros(1, 20, dtype=torch.long), cache)
    with pytest.raises(ValueError, match="1 to 24 tokens; got 25"):
        MODEL(torch.zeros(1, 5, dtype=torch.long), cache)
    assert cache.length == 20


def test_a_step_that_a_full_cache_refuses_leaves_it_as_it_was():
    cache = MODEL.new_cache(6)
    MODEL(IDS[:1, :5], cache)
    with pytest.raises(ValueError, match="2 more do not fit"):
        MODEL(IDS[:1, 5:7], cache)
    wanted = MODEL(IDS[:1, :6])[:, 5:]
    torch.testing.assert_close(MODEL(IDS[:1, 5:6], cache), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_heads": 5}, "5 query heads cannot share 2 KV heads evenly"),
        ({"head_dim": 3}, "need an even head_dim; got 3"),
    ],
)
def test_shapes_that_cannot_be_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)
