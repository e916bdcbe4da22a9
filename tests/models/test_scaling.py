"""FLOPs, shares of the peak and the loss law, by a second route and against published runs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import TINY

from stackkit.atlas import accelerator, fact, model
from stackkit.atlas.models import ModelSpec
from stackkit.models.scaling import (
    FITS,
    chinchilla_loss,
    compute_optimal,
    constants,
    mfu,
    training_flops,
    training_flops_of,
)
from stackkit.processors import peaks

GOPHER_FLOP = fact("chinchilla-70b-training.training_flop").value  # its budget, 5.76e23
budgets = st.floats(18, 27).map(lambda power: 10.0**power)
fits = st.sampled_from(sorted(FITS))
A100 = accelerator("a100-sxm-80gb").peak_flops_per_s["bf16"]
H100 = accelerator("h100-sxm").peak_flops_per_s["bf16"]


# FLOPs, counted


def linear_layer_flops(n_in: int, n_out: int, tokens: int) -> int:
    """Forward, gradient of the input, gradient of the weight: three products of matrices."""
    shapes = [(tokens, n_in, n_out), (tokens, n_out, n_in), (n_in, tokens, n_out)]
    return sum(2 * rows * inner * columns for rows, inner, columns in shapes)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
def test_three_products_of_matrices_are_six_a_parameter_and_token(n_in, n_out, tokens):
    assert training_flops(n_in * n_out, tokens) == linear_layer_flops(n_in, n_out, tokens)


@pytest.mark.parametrize("context", [1, 3, 17, 64])
def test_a_model_s_flops_are_those_of_each_matrix_and_each_pair(context):
    E, F, D, H, K = TINY.d_model, TINY.d_ff, TINY.head_dim, TINY.n_heads, TINY.n_kv_heads
    layer = [(E, H * D), (E, K * D), (E, K * D), (H * D, E), (E, F), (E, F), (F, E)]
    matrices = [*layer * TINY.n_layers, (E, TINY.vocab_size)]
    count = sum(linear_layer_flops(n_in, n_out, context) for n_in, n_out in matrices)
    for t in range(1, context + 1):  # scores and values, forward and two gradients of each
        count += TINY.n_layers * H * t * 3 * 2 * (2 * D)
    assert training_flops_of(TINY, 5 * context, context) == pytest.approx(5 * count)


def test_one_token_of_context_leaves_six_a_parameter():
    m = model("llama-3.1-8b")
    counted = training_flops_of(m, 1000, context=1)
    assert counted == pytest.approx(training_flops(m.matmul_params(), 1000), rel=1e-4)


def test_a_longer_context_adds_the_causal_half_of_palm_s_pairs():
    """Chowdhery et al., appendix B: 12 L H D T a token, every pair counted."""
    m, T = model("llama-3.1-8b"), 8192
    added = training_flops_of(m, T, T) - training_flops(m.matmul_params(), T)
    all_pairs = 12 * m.n_layers * m.n_heads * m.head_dim * T * T
    assert added == pytest.approx(all_pairs / 2, rel=1e-3)


def test_a_mixture_trains_the_experts_that_a_token_uses():
    m = model("deepseek-v3")
    assert training_flops_of(m, 1.0, 1) < training_flops(m.params(), 1.0) / 10


# FLOPs, published

RUNS = [  # params, tokens, printed FLOPs, tolerance
    ("gpt3-175b", "gpt3-175b", 0.002),  # Brown et al., table D.1: 3.14e23
    ("llama-3.1-405b", "llama-3.1-405b", 0.002),  # The Llama 3 Herd: 3.8e25
    ("chinchilla-70b-training", "chinchilla-70b-training", 0.025),  # Hoffmann et al., table 3
    ("llama-65b-training", "llama-65b-training", 0.01),
    ("smollm2-135m", "smollm2-135m", 0.01),
]


def n_params(thing: str) -> float:
    return fact(f"{thing}.params").value if thing.endswith("-training") else model(thing).params()


@pytest.mark.parametrize(("params", "run", "tolerance"), RUNS)
def test_a_printed_budget_is_six_n_d(params, run, tolerance):
    ours = training_flops(n_params(params), fact(f"{run}.training_tokens").value)
    assert ours == pytest.approx(fact(f"{run}.training_flop").value, rel=tolerance)


def test_palm_s_printed_budget_counts_attention_too():
    """2.56e24 (Heim quotes the paper); 6 N D is 2.53e24, which another page prints."""
    ours = training_flops(540.35e9, fact("palm-540b-training.training_tokens").value)
    printed = fact("palm-540b-training.training_flop").value
    assert 0.985 < ours / printed < 1


def test_gopher_s_printed_budget_counts_the_forward_pass_twice():
    """The printed 6.31e23 is what the chips did: near 8 N D, with one more forward pass."""
    gopher = "gopher-280b-training"
    flops = training_flops(n_params(gopher), fact(f"{gopher}.training_tokens").value)
    recomputed = flops * 8 / 6
    assert fact(f"{gopher}.training_flop").value == pytest.approx(recomputed, rel=0.07)


SIZES = {"400m": 0.4e9, "1b": 1e9, "10b": 10e9, "67b": 67e9, "175b": 175e9}
SIZES |= {"280b": 280e9, "520b": 520e9, "1t": 1e12, "10t": 10e12}


@pytest.mark.parametrize("size", SIZES)
def test_table_3_of_chinchilla_is_six_n_d(size):
    """Tokens are printed with two to four digits: within 5 %."""
    tokens = fact(f"chinchilla-table-3.tokens_at_{size}").value
    printed = fact(f"chinchilla-table-3.compute_flop_at_{size}").value
    assert training_flops(SIZES[size], tokens) == pytest.approx(printed, rel=0.05)


# Shares of the peak


def test_the_share_is_that_of_the_layer_below():
    below = peaks.mfu(peaks.training_flops_per_token(7e9) * 3000, 1.0, A100)
    assert mfu(7e9, 3000, A100) == pytest.approx(below)


def test_palm_s_share_without_attention():
    """Chowdhery et al., appendix B: 45.7 %."""
    tokens_per_s = fact("palm-540b-training.tokens_per_s").value
    chips = fact("palm-540b-training.chips").value
    peak = accelerator("tpu-v4").peak_flops_per_s["bf16"]
    printed = fact("palm-540b-training.mfu_without_attention").value
    assert mfu(540e9, tokens_per_s / chips, peak) == pytest.approx(printed, abs=0.001)


def test_megatron_turing_s_share_without_attention():
    """PaLM, appendix B: 65.43 thousand tokens/s on 2,240 A100; low end of the atlas's fact."""
    printed = fact("mt-nlg-530b-training.mfu_on_2240").low
    assert mfu(530e9, 65.43e3, 2240 * A100) == pytest.approx(printed, abs=0.002)


def test_llama_65b_takes_21_days():
    """Touvron et al.: around 380 tokens/s and GPU, 2,048 GPUs, 1.4e12 tokens, about 21 days."""
    run = "llama-65b-training"
    tokens, rate = (fact(f"{run}.{q}").value for q in ("training_tokens", "tokens_per_s_per_gpu"))
    share = mfu(n_params(run), rate, A100)
    flops = training_flops(n_params(run), tokens)
    seconds = flops / (share * A100 * fact(f"{run}.gpus").value)
    assert seconds == pytest.approx(fact(f"{run}.training_s").value, rel=0.02)


def test_tinyllama_s_share_counts_every_pair_and_no_input_table():
    """56 % in the README. 6 N D is 51 %; the pairs that a causal mask leaves add little."""
    tiny = ModelSpec("tinyllama", "TinyLlama", {}, 22, 2048, 32, 4, 64, 5632, 32_000, 2048, False)
    rate = fact("tinyllama-training.tokens_per_s_per_gpu").value
    printed = fact("tinyllama-training.mfu").value
    assert tiny.params() == pytest.approx(fact("tinyllama-training.params").value, rel=0.001)
    matrices = training_flops(tiny.matmul_params(), 1.0)
    counted = training_flops_of(tiny, 1.0, 2048)
    assert rate * (matrices + 2 * (counted - matrices)) / A100 == pytest.approx(printed, abs=0.005)
    assert mfu(tiny.params(), rate, A100) == pytest.approx(0.51, abs=0.005)
    assert 0.51 < rate * counted / A100 < printed


def test_tinyllama_takes_90_days():
    tokens, rate, gpus = (
        fact(f"tinyllama-training.{q}").value
        for q in ("training_tokens", "tokens_per_s_per_gpu", "gpus")
    )
    share = mfu(1.1e9, rate, A100)
    seconds = training_flops(1.1e9, tokens) / (share * gpus * A100)
    assert seconds == pytest.approx(fact("tinyllama-training.training_s").value, rel=0.01)


def test_llama_405b_s_hours_are_a_little_below_its_printed_shares():
    """38 to 43 % of the peak while it runs (table 4); 35 % over all the hours on its card."""
    hours = fact("llama-3.1-405b.training_gpu_hours").value
    rate = fact("llama-3.1-405b.training_tokens").value / (hours * 3600)
    share = mfu(model("llama-3.1-405b").params(), rate, H100)
    printed = fact("llama-3-405b-training.mfu_long_context").value
    assert 0.9 * printed < share < printed


def test_gpt_2_in_90_minutes():
    """llm.c on 8 A100: the printed time lies between 50 and 60 % of the peak, as printed."""
    tokens, gpus = (fact(f"llmc-gpt2-124m.{q}").value for q in ("training_tokens", "gpus"))
    share = fact("llmc-gpt2-124m.mfu")
    flops = training_flops(model("gpt2").params(), tokens)
    shortest, longest = (flops / (gpus * A100 * end) for end in (share.high, share.low))
    assert shortest < fact("llmc-gpt2-124m.training_s").value < longest


# The loss law


@given(budgets, fits)
def test_no_other_split_of_the_budget_has_less_loss(budget, fit):
    """Brute force along 6 N D = C, in steps of 1 % around the closed form and of 10 % far off."""
    best = compute_optimal(budget, fit)
    assert training_flops(best.n_params, best.n_tokens) == pytest.approx(budget)
    for step in (1.01, 1.1):
        for n in range(-60, 61):
            params = best.n_params * step**n
            assert chinchilla_loss(params, budget / (6 * params), fit) >= best.loss * (1 - 1e-12)


@given(budgets, fits)
def test_at_the_optimum_both_terms_fall_alike(budget, fit):
    """A percent more parameters must gain what a percent more tokens would."""
    best, (_, a, b, alpha, beta) = compute_optimal(budget, fit), constants(fit)
    of_params = alpha * a / best.n_params**alpha
    of_tokens = beta * b / best.n_tokens**beta
    assert of_params == pytest.approx(of_tokens)


@given(budgets, fits)
def test_a_search_by_thirds_finds_the_same_model(budget, fit):
    def loss(log_params: float) -> float:
        params = math.exp(log_params)
        return chinchilla_loss(params, budget / (6 * params), fit)

    low, high = math.log(1e5), math.log(1e15)
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    assert math.exp(low) == pytest.approx(compute_optimal(budget, fit).n_params, rel=1e-3)


@given(fits)
def test_with_everything_endless_the_entropy_of_text_is_left(fit):
    assert chinchilla_loss(1e60, 1e60, fit) == pytest.approx(constants(fit)[0])


@given(st.floats(1e6, 1e12), st.floats(1e9, 1e14), fits)
def test_a_larger_model_and_more_text_both_help(params, tokens, fit):
    loss = chinchilla_loss(params, tokens, fit)
    assert chinchilla_loss(2 * params, tokens, fit) < loss
    assert chinchilla_loss(params, 2 * tokens, fit) < loss


@given(budgets, fits)
def test_a_larger_budget_grows_the_model_by_the_fit_s_power(budget, fit):
    _, _, _, alpha, beta = constants(fit)
    small, large = (compute_optimal(c, fit).n_params for c in (budget, 100 * budget))
    assert math.log(large / small, 100) == pytest.approx(beta / (alpha + beta))


# The loss law, published


def test_only_the_unrounded_constants_find_the_40_billion_of_the_paper():
    """Hoffmann et al., figure 4: 40B at Gopher's budget. The printed digits give a fifth less."""
    printed = fact("chinchilla-law.params_at_gopher_budget").value
    ours = {fit: compute_optimal(GOPHER_FLOP, fit).n_params for fit in FITS}
    assert ours["hoffmann-unrounded"] == pytest.approx(printed, rel=0.02)
    assert ours["hoffmann"] / printed == pytest.approx(0.80, abs=0.01)


def test_the_rounded_exponents_are_the_printed_third_approach():
    """Hoffmann et al., table 2: N grows as C^0.46, D as C^0.54."""
    _, _, _, alpha, beta = constants("hoffmann-unrounded")
    printed = fact("chinchilla-table-3.exponent_params_approach_3").value
    assert beta / (alpha + beta) == pytest.approx(printed, abs=0.005)


def test_the_refit_asks_for_about_20_tokens_a_parameter():
    """Besiroglu et al., arXiv 2404.10102: about 20, as Chinchilla's own 1.4e12 for 70e9."""
    printed = fact("chinchilla-refit.tokens_per_param").value
    best = compute_optimal(GOPHER_FLOP)
    assert best.tokens_per_param == pytest.approx(printed, rel=0.1)
    assert best.n_params == pytest.approx(n_params("chinchilla-70b-training"), rel=0.05)


def test_the_printed_law_asks_for_60_to_90_tokens_a_parameter():
    """Besiroglu et al. read 70 out of it; the interval is of the atlas."""
    printed = fact("chinchilla-refit.tokens_per_param_of_printed_law")
    for fit in ("hoffmann", "hoffmann-unrounded"):
        ratio = compute_optimal(GOPHER_FLOP, fit).tokens_per_param
        assert printed.low * 0.99 < ratio < printed.high * 1.01


@pytest.mark.parametrize("size", ["1b", "10b", "67b", "175b"])
def test_the_refit_is_near_table_3_s_models(size):
    """Approach 1, another method: N within 10 % from a billion parameters to 175."""
    printed_flop = fact(f"chinchilla-table-3.compute_flop_at_{size}").value
    assert compute_optimal(printed_flop).n_params == pytest.approx(SIZES[size], rel=0.1)


@pytest.mark.parametrize("small", ["llama-3.1-8b", "smollm2-135m"])
def test_small_models_of_today_are_trained_far_beyond_the_optimum(small):
    m, tokens = model(small), fact(f"{small}.training_tokens").value
    flops = training_flops(m.params(), tokens)
    assert compute_optimal(flops).n_params > 4 * m.params()
    assert compute_optimal(flops).loss < chinchilla_loss(m.params(), tokens)


# Refusals


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_what_cannot_be_a_number_of_things_is_refused(bad):
    with pytest.raises(ValueError, match="n_params must be a positive number; got"):
        training_flops(bad, 1)
    with pytest.raises(ValueError, match="n_tokens must be a positive number; got"):
        chinchilla_loss(1, bad)
    with pytest.raises(ValueError, match="n_tokens must be a positive number; got"):
        training_flops_of(TINY, bad, 1)
    with pytest.raises(ValueError, match="flops must be a positive number; got"):
        compute_optimal(bad)
    with pytest.raises(ValueError, match="tokens_per_s must be a positive number; got"):
        mfu(1, bad, 1)


def test_a_context_beyond_the_model_s_is_refused():
    with pytest.raises(ValueError, match=r"at most 64 tokens; got 65\. Shorten"):
        training_flops_of(TINY, 1000, context=65)


def test_a_share_above_one_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"2\.00 of the peak is more than there is; give"):
        mfu(1, 1, 3)


def test_an_unknown_fit_is_refused_with_those_there_are():
    for law in (lambda: chinchilla_loss(1, 1, "kaplan"), lambda: compute_optimal(1, "kaplan")):
        with pytest.raises(ValueError, match=r"Unknown fit 'kaplan'; use one of epoch, hoffmann,"):
            law()
