"""FLOPs and bytes of a pass, counted one by one, in the limit, and against measurements."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import TINY

from stackkit.atlas import accelerator, fact, model
from stackkit.atlas.models import ModelSpec
from stackkit.memory import Roofline, decode_work, prefill_work, roofline_of

batches = st.integers(1, 512)
contexts = st.integers(1, TINY.max_context)


# Counted one by one


def layer_matrices(m: ModelSpec) -> list[tuple[int, int]]:
    """The matrices (out, in) that every token is multiplied with, head left out."""
    E, F, D = m.d_model, m.d_ff, m.head_dim
    q, k, v = (m.n_heads * D, E), (m.n_kv_heads * D, E), (m.n_kv_heads * D, E)
    out, gate, up, down = (E, m.n_heads * D), (F, E), (F, E), (E, F)
    return [q, k, v, out, gate, up, down] * m.n_layers


def multiply_adds(rows: int, columns: int) -> int:
    """Of a matrix with one vector: the loop itself."""
    return sum(1 for _ in range(rows) for _ in range(columns))


def attention_multiply_adds(m: ModelSpec, context: int) -> int:
    """One token's queries with ``context`` keys, then the same scores with the values."""
    count = 0
    for _layer in range(m.n_layers):
        for _head in range(m.n_heads):
            for _key in range(context):
                count += m.head_dim  # q . k
                count += m.head_dim  # p v
    return count


def head(m: ModelSpec) -> tuple[int, int]:
    return (m.vocab_size, m.d_model)


@given(batches, contexts)
def test_decode_flops_are_those_counted_one_by_one(batch, context):
    per_token = sum(multiply_adds(*matrix) for matrix in [*layer_matrices(TINY), head(TINY)])
    per_token += attention_multiply_adds(TINY, context)
    assert decode_work(TINY, batch=batch, context=context).flops == batch * 2 * per_token


@pytest.mark.parametrize("tokens", [1, 3, 17, 64])
def test_prefill_flops_are_those_counted_token_by_token(tokens):
    """Token t attends to t tokens; the head sees the last token only."""
    count = multiply_adds(*head(TINY))
    for t in range(1, tokens + 1):
        count += sum(multiply_adds(*matrix) for matrix in layer_matrices(TINY))
        count += attention_multiply_adds(TINY, t)
    assert prefill_work(TINY, tokens=tokens).flops == 2 * count


def test_weight_bytes_are_those_of_every_matrix_once():
    values = sum(rows * columns for rows, columns in [*layer_matrices(TINY), head(TINY)])
    for batch in (1, 100):
        assert decode_work(TINY, batch=batch, context=1).weight_bytes == 2 * values
        assert prefill_work(TINY, tokens=5, batch=batch).weight_bytes == 2 * values


def test_kv_bytes_are_a_key_and_a_value_for_each_layer_head_request_and_token():
    vectors = 2 * TINY.n_layers * TINY.n_kv_heads * (5 * 17)
    assert decode_work(TINY, batch=5, context=17).kv_bytes == vectors * TINY.head_dim * 2
    assert prefill_work(TINY, tokens=17, batch=5).kv_bytes == vectors * TINY.head_dim * 2


def test_all_bytes_are_weights_and_cache():
    work = decode_work(TINY, batch=2, context=3)
    assert work.bytes == work.weight_bytes + work.kv_bytes
    assert work.intensity * work.bytes == pytest.approx(work.flops)


@pytest.mark.parametrize(("dtype", "bits"), [("fp32", 32), ("fp8", 8), ("int8", 8), ("int4", 4)])
def test_a_format_sets_the_bytes_and_not_the_flops(dtype, bits):
    plain = decode_work(TINY, batch=2, context=3)
    other = decode_work(TINY, batch=2, context=3, weight_dtype=dtype)
    assert other.weight_bytes / plain.weight_bytes == bits / 16
    assert (other.flops, other.kv_bytes) == (plain.flops, plain.kv_bytes)


def test_the_cache_has_a_format_of_its_own():
    plain = decode_work(TINY, batch=2, context=3)
    other = decode_work(TINY, batch=2, context=3, kv_dtype="fp8")
    assert other.kv_bytes == plain.kv_bytes / 2
    assert other.weight_bytes == plain.weight_bytes


# Published formulas


def test_a_token_s_flops_are_a_third_of_a_training_token_s():
    """Chowdhery et al. (PaLM), arXiv 2204.02311, appendix B: training takes 6 N + 12 L H Q T."""
    m, T = model("llama-3.1-70b"), 4096
    training = 6 * m.matmul_params() + 12 * m.n_layers * m.n_heads * m.head_dim * T
    assert decode_work(m, batch=1, context=T).flops == pytest.approx(training / 3)


def test_a_short_context_costs_two_flops_a_parameter():
    """Kaplan et al., arXiv 2001.08361, section 2.1: C_forward = 2 N, attention aside."""
    m = model("llama-3.1-8b")
    assert decode_work(m, batch=1, context=1).flops == pytest.approx(2 * 7.505e9, rel=1e-3)


def test_the_critical_batch_of_an_h100_is_about_295():
    """Austin et al., How to Scale Your Model, part 7: below it, bf16 decoding waits for memory.

    Their figure leaves the cache out, so the context here is one token.
    """
    m, roof = model("llama-3.1-70b"), roofline_of(accelerator("h100-sxm"))
    critical = next(
        batch
        for batch in range(1, 1000)
        if decode_work(m, batch=batch, context=1).intensity >= roof.ridge_point
    )
    assert critical == pytest.approx(295, rel=0.02)


# Limits


def test_one_request_does_one_flop_a_byte_in_bf16():
    assert decode_work(model("llama-3.1-8b"), batch=1, context=1).intensity == pytest.approx(
        1.0, rel=1e-3
    )


def test_a_huge_batch_is_limited_by_its_cache():
    """Per request 2 P + 4 L H D c FLOPs and c k bytes: the weights are shared by all."""
    m, context = model("llama-3.1-8b"), 8192
    request_flops = 2 * m.matmul_params() + 4 * m.n_layers * m.n_heads * m.head_dim * context
    limit = request_flops / (context * 131_072)
    assert decode_work(m, batch=10**6, context=context).intensity == pytest.approx(limit, rel=1e-3)


def test_one_more_token_of_context_adds_h_over_k_flops_a_byte():
    """2 x 2 H D FLOPs for 2 K D values of 2 bytes: grouped queries raise it from 1 to 4."""
    m = model("llama-3.1-8b")
    short, long = (decode_work(m, batch=1, context=context) for context in (1000, 1001))
    assert (long.flops - short.flops) / (long.bytes - short.bytes) == m.n_heads / m.n_kv_heads == 4


@given(batches)
def test_a_prompt_of_one_token_is_a_decode_step(batch):
    prefill = prefill_work(TINY, tokens=1, batch=batch)
    assert prefill == decode_work(TINY, batch=batch, context=1)


def test_a_long_prompt_does_a_flop_for_each_token_and_byte():
    """The weights are read once for T tokens: intensity T in bf16, while attention is small."""
    work = prefill_work(model("llama-3.1-70b"), tokens=512)
    assert work.flops / work.weight_bytes == pytest.approx(512, rel=0.03)


@given(batches, contexts)
def test_a_larger_batch_does_more_for_each_byte(batch, context):
    one, more = (decode_work(TINY, batch=b, context=context) for b in (batch, batch + 1))
    assert more.flops > one.flops
    assert more.bytes > one.bytes
    assert more.intensity > one.intensity


@given(batches, st.integers(1, TINY.max_context - 1))
def test_a_longer_context_costs_more_of_both(batch, context):
    short, long = (decode_work(TINY, batch=batch, context=c) for c in (context, context + 1))
    assert long.flops > short.flops
    assert long.bytes > short.bytes


@given(st.integers(1, TINY.max_context - 1))
def test_a_longer_prompt_costs_more_of_both(tokens):
    short, long = (prefill_work(TINY, tokens=t) for t in (tokens, tokens + 1))
    assert long.flops > short.flops
    assert long.bytes > short.bytes


# Measurements that others published: the gpt-fast README, A100 80 GB at 330 W, batch 1

GPT_FAST = [
    (model("llama-2-7b"), "gpt-fast-llama2-7b-bf16", "bf16"),
    (model("llama-3.1-8b"), "gpt-fast-llama31-8b-bf16", "bf16"),
    (model("llama-3.1-8b"), "gpt-fast-llama31-8b-int8", "int8"),
    (model("llama-2-70b"), "gpt-fast-llama2-70b-int8", "int8"),
    (model("llama-3.1-70b"), "gpt-fast-llama31-70b-int8", "int8"),
]
BF16_RUNS = [run for run in GPT_FAST if run[2] == "bf16"]


def step(m: ModelSpec, dtype: str):
    """Prompt of 5 tokens and 200 generated: about 100 tokens of context on average."""
    return decode_work(m, batch=1, context=105, weight_dtype=dtype)


@pytest.mark.parametrize(("m", "record", "dtype"), GPT_FAST, ids=lambda x: getattr(x, "id", x))
def test_tokens_times_weight_bytes_is_the_bandwidth_that_gpt_fast_prints(m, record, dtype):
    """gpt-fast counts all weights but the input table, as ``matmul_params`` does."""
    bandwidth = fact(f"{record}.tokens_per_s").value * step(m, dtype).weight_bytes
    assert bandwidth == pytest.approx(fact(f"{record}.bytes_per_s").value, rel=0.01)


def test_counting_the_input_table_would_print_seven_percent_too_much():
    """The fault: a token looks one row of the table up, it does not read the table."""
    m, record = model("llama-3.1-8b"), "gpt-fast-llama31-8b-bf16"
    with_table = fact(f"{record}.tokens_per_s").value * 2 * m.params()
    assert with_table / fact(f"{record}.bytes_per_s").value > 1.06


@pytest.mark.parametrize(("m", "record", "dtype"), GPT_FAST, ids=lambda x: getattr(x, "id", x))
def test_no_run_is_faster_than_the_lower_bound_at_the_datasheet_s_bandwidth(m, record, dtype):
    work = step(m, dtype)
    lower_s, _ = roofline_of(accelerator("a100-sxm-80gb")).bounds(work.flops, work.bytes)
    assert 1 / fact(f"{record}.tokens_per_s").value >= lower_s


@pytest.mark.parametrize(("m", "record", "dtype"), BF16_RUNS, ids=lambda x: getattr(x, "id", x))
def test_a_bf16_run_is_within_35_percent_of_the_measured_read_bandwidth(m, record, dtype):
    """Azure, ND A100 v4, BabelStream dot. int8 runs also unpack weights: not only bytes."""
    work = step(m, dtype)
    roof = Roofline(312e12, fact("azure-a100-hbm.dot_bytes_per_s").value)
    predicted_s, _ = roof.bounds(work.flops, work.bytes)
    measured_s = 1 / fact(f"{record}.tokens_per_s").value
    assert 1.0 <= measured_s / predicted_s <= 1.35


def test_a_published_prediction_that_beats_the_lower_bound_is_found_out():
    """4.2 ms a token were printed for Llama-2-70B on an H100; reading it in bf16 takes 41 ms."""
    claimed_s = fact("claim-llama2-70b-one-h100.seconds_per_token").value
    work = decode_work(model("llama-2-70b"), batch=1, context=1)
    lower_s, _ = roofline_of(accelerator("h100-sxm")).bounds(work.flops, work.bytes)
    assert lower_s > 9 * claimed_s


# Refusals


@pytest.mark.parametrize("bad", [0, -1, 1.5, math.nan, math.inf])
def test_a_pass_without_requests_or_tokens_is_refused(bad):
    with pytest.raises(ValueError, match="batch must be a whole number, 1 or more; got"):
        decode_work(TINY, batch=bad, context=1)
    with pytest.raises(ValueError, match="context must be a whole number, 1 or more; got"):
        decode_work(TINY, batch=1, context=bad)
    with pytest.raises(ValueError, match="tokens must be a whole number, 1 or more; got"):
        prefill_work(TINY, tokens=bad)


def test_a_context_beyond_the_model_s_is_refused_with_its_limit():
    with pytest.raises(ValueError, match=r"at most 64 tokens; got 65\. Shorten"):
        decode_work(TINY, batch=1, context=65)
    with pytest.raises(ValueError, match=r"at most 64 tokens; got 65\. Shorten"):
        prefill_work(TINY, tokens=65)


@pytest.mark.parametrize("argument", ["weight_dtype", "kv_dtype"])
def test_an_unknown_format_is_refused_with_those_there_are(argument):
    with pytest.raises(ValueError, match=r"Unknown number format 'bf17'; use one of .*bf16"):
        decode_work(TINY, batch=1, context=1, **{argument: "bf17"})


def test_prefill_refuses_an_unknown_format_too():
    with pytest.raises(ValueError, match="Unknown number format 'bf17'"):
        prefill_work(TINY, tokens=1, dtype="bf17")
