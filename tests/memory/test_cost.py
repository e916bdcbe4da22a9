"""Seconds of a pass: by a second route, in the limit, and with several chips."""

import dataclasses
import math
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import TINY

from stackkit.atlas import accelerator, model
from stackkit.atlas.models import Experts, LatentAttention, ModelSpec
from stackkit.memory import (
    Efficiency,
    decode_step,
    decode_work,
    max_batch,
    prefill,
    prefill_work,
    roofline_of,
)

H100, H200 = accelerator("h100-sxm"), accelerator("h200-sxm")
LLAMA_8B, LLAMA_70B = model("llama-3.1-8b"), model("llama-3.1-70b")
batches, contexts, chips = st.integers(1, 512), st.integers(1, 8192), st.integers(1, 16)


# One chip: the roofline's bounds


@given(batches, contexts)
def test_on_one_chip_a_step_takes_what_the_roofline_says(batch, context):
    work = decode_work(LLAMA_8B, batch=batch, context=context)
    cost = decode_step(LLAMA_8B, H200, batch=batch, context=context)
    assert (cost.lower_s, cost.upper_s) == pytest.approx(
        roofline_of(H200).bounds(work.flops, work.bytes)
    )
    assert cost.link_bytes == 0


@given(st.integers(1, 4096))
def test_prefill_on_one_chip_takes_what_the_roofline_says(tokens):
    work = prefill_work(LLAMA_8B, tokens=tokens)
    cost = prefill(LLAMA_8B, H200, tokens=tokens)
    assert (cost.lower_s, cost.upper_s) == pytest.approx(
        roofline_of(H200).bounds(work.flops, work.bytes)
    )


def test_a_lone_request_waits_for_memory_and_a_long_prompt_for_arithmetic():
    assert decode_step(LLAMA_8B, H100, batch=1, context=1024).bound == "memory"
    assert prefill(LLAMA_8B, H100, tokens=4096).bound == "compute"


@given(batches, contexts, chips)
def test_the_bounds_are_within_a_factor_of_three(batch, context, n_chips):
    cost = decode_step(LLAMA_70B, H100, batch=batch, context=context, n_chips=n_chips)
    assert 0 < cost.lower_s <= cost.upper_s <= 3 * cost.lower_s


# Several chips


def sent_in_a_ring(n_chips: int, chunks_each: int) -> int:
    """Values that chip 0 sends, played out: every chip ends up with the sum of all."""
    size = n_chips * chunks_each
    held = [[chip + 1.0] * size for chip in range(n_chips)]
    sent = 0
    for phase, step in product(("reduce", "gather"), range(n_chips - 1)):
        before = [list(values) for values in held]
        for chip in range(n_chips):
            start = (chip - step + (phase == "gather")) % n_chips * chunks_each
            for i in range(start, start + chunks_each):
                to = (chip + 1) % n_chips
                arriving = before[chip][i]
                held[to][i] = before[to][i] + arriving if phase == "reduce" else arriving
                sent += chip == 0
    assert held == [[float(sum(range(1, n_chips + 1)))] * size] * n_chips
    return sent


@pytest.mark.parametrize("n_chips", [2, 3, 8])
def test_each_layer_sums_its_activations_twice_in_a_ring(n_chips):
    batch = n_chips  # whole chunks
    values = sent_in_a_ring(n_chips, batch * TINY.d_model // n_chips)
    cost = decode_step(TINY, H100, batch=batch, context=5, n_chips=n_chips)
    assert cost.link_bytes == pytest.approx(2 * TINY.n_layers * 2 * values)


def test_twice_the_chips_halve_the_reading():
    one, two = (decode_step(LLAMA_8B, H100, batch=8, context=512, n_chips=n) for n in (1, 2))
    assert (one.flops, one.weight_bytes) == (two.flops, two.weight_bytes)
    assert two.lower_s == pytest.approx(one.lower_s / 2)


def test_a_cache_is_not_split_finer_than_its_heads_and_requests():
    """Llama 3.1 70B has 8 KV heads: of one request, 16 chips each read an eighth of the cache."""
    eight, sixteen = (
        decode_step(LLAMA_70B, H100, batch=1, context=100_000, n_chips=n) for n in (8, 16)
    )
    weights_s = eight.weight_bytes / H100.memory_bytes_per_s
    assert eight.lower_s - weights_s / 8 == pytest.approx(sixteen.lower_s - weights_s / 16)


def test_a_latent_cache_has_one_head_so_chips_do_not_split_it():
    """DeepSeek-V3 keeps one vector for all heads: each chip reads a request's whole cache."""
    m = model("deepseek-v3")
    one, eight = (decode_step(m, H200, batch=1, context=100_000, n_chips=n) for n in (1, 8))
    bandwidth = H200.memory_bytes_per_s
    assert one.lower_s == pytest.approx((one.weight_bytes + one.kv_bytes) / bandwidth)
    assert eight.lower_s == pytest.approx((one.weight_bytes / 8 + one.kv_bytes) / bandwidth)


def test_with_many_chips_and_a_long_prompt_the_link_is_the_limit():
    assert prefill(LLAMA_8B, accelerator("tpu-v5e"), tokens=8192, n_chips=64).bound == "link"


def test_the_published_limit_of_model_parallel_prefill():
    """Austin et al., How to Scale Your Model, part 5: past Y > F / (C / W) the links bind.

    There the sum is a reduce-scatter and a gather over both directions of an axis, which for the
    matrices of one feed-forward gives the ratio FLOPs-time / link-time = F W / (Y C). Attention
    and its own sum are counted here too, so only the scale can agree.
    """
    chip = accelerator("tpu-v5p")
    ridge = LLAMA_70B.d_ff * chip.link_bytes_per_s / chip.peak_flops_per_s["bf16"]
    first = next(
        n for n in range(2, 512) if prefill(LLAMA_70B, chip, tokens=8192, n_chips=n).bound == "link"
    )
    assert 0.4 < first / ridge < 2.5


# Mixtures of experts, latent attention, windows


def tiny_experts(n_experts: int, n_used: int) -> ModelSpec:
    return dataclasses.replace(
        TINY, experts=Experts(n_experts=n_experts, n_used=n_used, d_expert=5, n_shared=1)
    )


def mean_touched(n_experts: int, n_used: int, tokens: int) -> float:
    """Experts that tokens touch, averaged over every way in which they can choose."""
    choices = list(combinations(range(n_experts), n_used))
    outcomes = [len(set().union(*picked)) for picked in product(choices, repeat=tokens)]
    return sum(outcomes) / len(outcomes)


@pytest.mark.parametrize(("n_experts", "n_used", "batch"), [(4, 2, 1), (4, 2, 3), (5, 1, 4)])
def test_a_batch_reads_the_experts_that_it_touches(n_experts, n_used, batch):
    m = tiny_experts(n_experts, n_used)
    expert = 3 * m.d_model * m.experts.d_expert
    rest = m.matmul_params() - m.n_layers * n_used * expert
    expected = rest + m.n_layers * mean_touched(n_experts, n_used, batch) * expert
    assert decode_step(m, H100, batch=batch, context=1).weight_bytes == pytest.approx(2 * expected)


def test_one_token_does_not_read_all_experts():
    """The fault: 94 GB a token for Mixtral; it uses 2 of 8, 12.9e9 weights (arXiv 2401.04088)."""
    one = decode_step(model("mixtral-8x7b"), H100, batch=1, context=1)
    assert one.weight_bytes == pytest.approx(2 * 12.9e9, rel=0.02)


def test_a_large_batch_reads_all_experts_but_computes_with_few():
    m = model("mixtral-8x7b")
    many = decode_step(m, H100, batch=512, context=1)
    assert many.weight_bytes == pytest.approx(2 * 46.7e9, rel=0.01)
    assert many.flops == pytest.approx(512 * 2 * 12.9e9, rel=0.02)


def test_latent_attention_counted_one_by_one():
    """Queries meet the stored vectors as they lie: all of each for the scores, the rank again."""
    m = dataclasses.replace(TINY, mla=LatentAttention(5, 9, 4, 2, 3))
    context, count = 7, 0
    for _layer, _head, _key in product(range(m.n_layers), range(m.n_heads), range(context)):
        count += (9 + 2) + 9
    extra = decode_work(m, batch=1, context=context).flops - 2 * m.matmul_params()
    assert extra == 2 * count


def test_prefill_unfolds_a_latent_cache_into_plain_heads():
    m = dataclasses.replace(TINY, mla=LatentAttention(5, 9, 4, 2, 3))
    count = sum(t * (4 + 2 + 3) for t in range(1, 8)) * m.n_heads * m.n_layers
    head = m.vocab_size * m.d_model
    body = 2 * (7 * (m.matmul_params() - head) + head)
    assert prefill_work(m, tokens=7).flops == body + 2 * count


@pytest.mark.parametrize("tokens", [3, 8, 40])
def test_a_window_is_as_far_as_a_layer_looks(tokens):
    m = dataclasses.replace(TINY, window=8, n_window_layers=1)
    per_pair = 4 * m.n_heads * m.head_dim
    seen = tokens + min(tokens, 8)  # by the plain layer and the one with a window
    step = decode_work(m, batch=1, context=tokens)
    assert step.flops == 2 * m.matmul_params() + per_pair * seen
    assert step.kv_bytes == seen * 2 * m.n_kv_heads * m.head_dim * 2
    pairs = sum(t + min(t, 8) for t in range(1, tokens + 1))
    plain = prefill_work(TINY, tokens=tokens).flops - per_pair * tokens * (tokens + 1)
    assert prefill_work(m, tokens=tokens).flops == plain + per_pair * pairs


# Does it fit?


@given(st.integers(1, 65_536), st.sampled_from([1, 2, 8]))
def test_one_request_more_would_not_fit(context, n_chips):
    batch = max_batch(LLAMA_8B, H100, context=context, n_chips=n_chips)
    weights, cache = 2 * LLAMA_8B.params(), LLAMA_8B.kv_bytes(context)
    capacity = n_chips * 80e9
    assert weights + batch * cache <= capacity < weights + (batch + 1) * cache


def test_a_model_that_does_not_fit_takes_no_request():
    assert max_batch(LLAMA_70B, H100, context=1) == 0
    assert max_batch(LLAMA_70B, H100, context=1, n_chips=2) > 0
    assert max_batch(LLAMA_70B, H100, context=1, weight_dtype="int4") > 0


def test_query_heads_would_make_a_cache_four_times_too_large():
    """The fault: Llama 3.1 8B has 32 query heads and 8 KV heads, 131,072 bytes a token."""
    step = decode_step(LLAMA_8B, H100, batch=1, context=1000)
    assert step.kv_bytes == 1000 * 131_072
    wrong = 1000 * 2 * LLAMA_8B.n_layers * LLAMA_8B.n_heads * LLAMA_8B.head_dim * 2
    assert wrong == 4 * step.kv_bytes


# A stated efficiency


def test_efficiency_lengthens_what_it_is_of_and_nothing_else():
    plain = decode_step(LLAMA_8B, H100, batch=1, context=1)
    slower = decode_step(LLAMA_8B, H100, batch=1, context=1, efficiency=Efficiency(memory=0.8))
    other = decode_step(LLAMA_8B, H100, batch=1, context=1, efficiency=Efficiency(compute=0.8))
    assert slower.lower_s == pytest.approx(plain.lower_s / 0.8)
    assert other.lower_s == plain.lower_s


def test_what_a_layer_takes_besides_is_not_divided_by_the_chips():
    besides = Efficiency(per_layer_s=1e-5)
    for n in (1, 8):
        plain = decode_step(LLAMA_8B, H100, batch=1, context=1, n_chips=n)
        more = decode_step(LLAMA_8B, H100, batch=1, context=1, n_chips=n, efficiency=besides)
        assert more.lower_s - plain.lower_s == pytest.approx(32 * 1e-5)
        assert more.upper_s - plain.upper_s == pytest.approx(32 * 1e-5)


def test_arithmetic_in_fewer_bits_is_faster_where_the_chip_has_it():
    bf16, fp8 = (prefill(LLAMA_8B, H100, tokens=4096, dtype=dtype) for dtype in ("bf16", "fp8"))
    assert bf16.lower_s == pytest.approx(2 * fp8.lower_s, rel=1e-3)


# Refusals


@pytest.mark.parametrize("bad", [0, -1, 1.5, math.nan, math.inf])
def test_an_impossible_number_of_chips_is_refused(bad):
    for ask in (
        lambda: decode_step(LLAMA_8B, H100, batch=1, context=1, n_chips=bad),
        lambda: prefill(LLAMA_8B, H100, tokens=1, n_chips=bad),
        lambda: max_batch(LLAMA_8B, H100, context=1, n_chips=bad),
    ):
        with pytest.raises(ValueError, match="n_chips must be a whole number, 1 or more; got"):
            ask()


def test_an_empty_context_is_refused():
    for ask in (
        lambda: decode_step(LLAMA_8B, H100, batch=1, context=0),
        lambda: max_batch(LLAMA_8B, H100, context=0),
    ):
        with pytest.raises(ValueError, match="context must be a whole number, 1 or more; got 0"):
            ask()


def test_a_measured_roofline_stands_for_a_chip_alone():
    """Its own two numbers, no link and no capacity."""
    roof = roofline_of(H200)
    assert decode_step(LLAMA_8B, roof, batch=8, context=512) == decode_step(
        LLAMA_8B, H200, batch=8, context=512
    )
    with pytest.raises(ValueError, match="one machine, without links; use n_chips=1"):
        decode_step(LLAMA_8B, roof, batch=8, context=512, n_chips=2)
    with pytest.raises(ValueError, match="no capacity; max_batch needs a chip of the atlas"):
        max_batch(LLAMA_8B, roof, context=512)


def test_several_chips_without_a_link_are_refused():
    with pytest.raises(ValueError, match=r"no link between chips for .*RTX 4090.*n_chips=1"):
        decode_step(LLAMA_8B, accelerator("rtx-4090"), batch=1, context=1, n_chips=2)


def test_a_format_without_a_peak_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no fp4 peak for NVIDIA H100 SXM; it has bf16, fp8"):
        prefill(LLAMA_8B, H100, tokens=1, dtype="fp4")
    with pytest.raises(ValueError, match="it has none"):
        decode_step(LLAMA_8B, accelerator("wse-3"), batch=1, context=1)


def test_a_chip_that_does_not_exist_is_refused_with_near_ones():
    with pytest.raises(ValueError, match="h100-sxm"):
        decode_step(LLAMA_8B, accelerator("h100-smx"), batch=1, context=1)


@pytest.mark.parametrize("bad", [0, -0.1, 1.01, math.nan])
def test_a_share_is_above_zero_and_at_most_one(bad):
    with pytest.raises(ValueError, match="memory is"):
        Efficiency(memory=bad)
    with pytest.raises(ValueError, match="per_layer_s must be 0 or more"):
        Efficiency(per_layer_s=-1e-6)
    with pytest.raises(ValueError, match="usable is a share"):
        max_batch(LLAMA_8B, H100, context=1, usable=bad)
