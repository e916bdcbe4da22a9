"""Memory, hours, dollars, energy and carbon of training: counted again, and published."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import TINY

from stackkit.atlas import accelerator, fact, facts, model
from stackkit.core.units import GIGA
from stackkit.models.scaling import training_flops
from stackkit.models.tiers import final_run, tier_cost, tiers
from stackkit.models.training_cost import (
    Interval,
    activation_bytes_per_layer,
    gpu_hours,
    run_cost,
    training_memory,
)

A100, H100 = accelerator("a100-sxm-80gb"), accelerator("h100-sxm")
TIERS = [tier.id for tier in tiers()]
positive = st.floats(1e-6, 1e6)
intervals = st.tuples(positive, positive, positive).map(lambda ends: Interval(*sorted(ends)))


# Intervals


@given(intervals, intervals)
def test_a_product_s_ends_are_the_extremes_of_all_corners(x, y):
    corners = [a * b for a in (x.low, x.high) for b in (y.low, y.high)]
    product = x * y
    assert (product.low, product.high) == (min(corners), max(corners))
    assert product.value == x.value * y.value


@given(intervals, intervals)
def test_a_quotient_s_ends_are_the_extremes_of_all_corners(x, y):
    corners = [a / b for a in (x.low, x.high) for b in (y.low, y.high)]
    quotient = x / y
    assert quotient.low == pytest.approx(min(corners))
    assert quotient.high == pytest.approx(max(corners))


def test_a_fact_brings_its_own_bounds_and_a_number_none():
    rent = fact("h100-rental-market.usd_per_hour")
    assert Interval.of(rent) == Interval(rent.low, rent.value, rent.high)
    assert Interval.of(2) == Interval(2, 2, 2)


@pytest.mark.parametrize("ends", [(2, 1, 3), (1, 3, 2), (0, 1, 2), (1, 2, math.inf), (1, 1, -1)])
def test_an_interval_out_of_order_is_refused(ends):
    with pytest.raises(ValueError, match="positive and in order, low <= value <= high; got"):
        Interval(*ends)


# Memory


def gpt_layer_bytes(s: int, b: int, h: int, a: int) -> tuple[int, int]:
    """What GPT's layer keeps, array by array: (of s x h, of s x s). A dropout mask has one byte."""
    values, mask = s * b * h * 2, s * b * h
    attention = [values] * 5 + [mask]  # input, Q, K, V, input of the projection; dropout
    mlp = [values, 4 * values, 4 * values, mask]  # inputs of both matrices and of GELU; dropout
    norms = [values, values]
    scores = [a * s * s * b * 2, a * s * s * b, a * s * s * b * 2]  # softmax, mask, masked softmax
    return sum(attention + mlp + norms), sum(scores)


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 64), st.integers(1, 8))
def test_activations_are_those_of_the_layer_array_by_array(s, b, h, a):
    wide, square = gpt_layer_bytes(s, b, h, a)
    everything = activation_bytes_per_layer(s, b, h, a, recompute="none")
    assert everything == pytest.approx(wide + square)
    assert activation_bytes_per_layer(s, b, h, a) == wide
    assert activation_bytes_per_layer(s, b, h, a, recompute="full") == 2 * s * b * h


@pytest.mark.parametrize(
    ("heads", "width", "printed"),
    [(96, 12_288, 0.70), (128, 20_480, 0.65)],  # GPT-3, MT-NLG 530B
)
def test_recomputing_attention_saves_what_korthikanti_prints(heads, width, printed):
    """Korthikanti et al., arXiv 2205.05198, section 5: 70 % and 65 % at 2,048 tokens."""
    kept = [
        activation_bytes_per_layer(2048, 1, width, heads, recompute=way)
        for way in ("attention", "none")
    ]
    assert 1 - kept[0] / kept[1] == pytest.approx(printed, abs=0.005)


def test_zero_s_model_of_7_5_billion_takes_120_gigabytes():
    """Rajbhandari et al., arXiv 1910.02054, figure 1: states without sharding."""
    states = training_memory(TINY, tokens=1)
    per_param = (states.bytes - states.activation_bytes) / TINY.params()
    assert per_param * 7.5 * GIGA == 120 * GIGA


def test_gpt_2_s_states_are_at_least_24_gigabytes():
    """Rajbhandari et al., section 3.1: 1.5e9 parameters, 24 GB against 3 GB of weights."""
    memory = training_memory(model("gpt2-xl"), tokens=1024, recompute="full")
    states = memory.weight_bytes + memory.gradient_bytes + memory.optimizer_bytes
    assert states == pytest.approx(24 * GIGA, rel=0.05)
    assert states == 8 * memory.weight_bytes


def test_lora_s_terabyte_is_less_than_adam_s_states():
    """Hu et al. print 1.2 TB for GPT-3 with Adam, less than half of 16 bytes a parameter."""
    memory = training_memory(model("gpt3-175b"), tokens=2048, recompute="full")
    assert memory.bytes > 2.3 * fact("lora-gpt3.full_training_bytes").value


def test_all_layers_keep_theirs_and_the_parts_sum():
    memory = training_memory(TINY, tokens=17, batch=3, recompute="none")
    layer = activation_bytes_per_layer(17, 3, TINY.d_model, TINY.n_heads, recompute="none")
    assert memory.activation_bytes == TINY.n_layers * layer
    assert memory.bytes == pytest.approx(16 * TINY.params() + memory.activation_bytes)


def test_twice_the_tokens_keep_twice_without_scores_and_more_with_them():
    for recompute, ratio in (("attention", 2), ("full", 2), ("none", 2 * 2)):
        short, long = (
            activation_bytes_per_layer(s, 1, 64, 64, recompute=recompute) for s in (2**16, 2**17)
        )
        assert long / short == pytest.approx(ratio, rel=1e-3)


# Hours, money, energy


def test_hours_dollars_energy_and_carbon_are_counted_in_their_units():
    """Two hours at half of the peak: 3 USD an hour, 300 W, PUE 1.2, 0.5 kg/kWh."""
    peak = A100.peak_flops_per_s["bf16"]
    cost = run_cost(
        peak * 0.5 * 3600 * 2,
        A100,
        mfu=0.5,
        usd_per_gpu_hour=3.0,
        watts=300,
        pue=1.2,
        kg_co2_per_kwh=0.5,
    )
    for quantity, expected in (
        (cost.gpu_hours, 2),
        (cost.usd, 6),
        (cost.energy_wh, 720),
        (cost.co2_kg, 0.36),
    ):
        assert (quantity.low, quantity.value, quantity.high) == pytest.approx((expected,) * 3)


def test_a_poor_share_of_the_peak_is_the_high_end_of_the_hours():
    hours = gpu_hours(1e24, H100, Interval(0.25, 0.4, 0.5))
    assert hours.high / hours.low == pytest.approx(2)
    assert hours.low < hours.value < hours.high


def test_known_hours_cost_what_the_flops_behind_them_do():
    by_flops = run_cost(1e24, H100, usd_per_gpu_hour=2.0)
    assert run_cost(hours=gpu_hours(1e24, H100), chip=H100, usd_per_gpu_hour=2.0) == by_flops


@given(st.floats(1.0, 2.0), st.floats(0.01, 1.0))
def test_overhead_and_grid_change_neither_hours_nor_rent(pue, grid):
    plain = run_cost(1e24, H100, usd_per_gpu_hour=2.0)
    other = run_cost(1e24, H100, usd_per_gpu_hour=2.0, pue=pue, kg_co2_per_kwh=grid)
    assert (other.gpu_hours, other.usd) == (plain.gpu_hours, plain.usd)
    assert other.co2_kg.value == pytest.approx(other.energy_wh.value / 1000 * grid)


# Published money


def test_deepseek_v3_cost_5_576_million():
    """DeepSeek-V3, table 1: 2.788 million H800 hours at the 2 USD that it assumes."""
    rent = fact("deepseek-v3-training.gpu_usd_per_hour")
    cost = run_cost(hours=fact("deepseek-v3.training_gpu_hours"), chip=H100, usd_per_gpu_hour=rent)
    assert cost.usd.value == fact("deepseek-v3-training.total_usd").value


def test_epoch_rents_llama_405b_inside_our_interval():
    """Epoch AI: 170 million rented, 51 written off; both between our low and high."""
    usd = final_run("llama-3.1-405b").cost.usd
    for way in ("cloud", "amortised"):
        assert usd.low < fact(f"frontier-training-cost.llama_31_405b_{way}_usd").value < usd.high


def test_gpt_2_for_20_dollars():
    """llm.c: 90 minutes on a node of 8 A100 at about 14 USD an hour."""
    flops = training_flops(model("gpt2").params(), fact("llmc-gpt2-124m.training_tokens").value)
    cost = run_cost(flops, A100, mfu=fact("llmc-gpt2-124m.mfu"), usd_per_gpu_hour=14 / 8)
    assert cost.usd.low < fact("llmc-gpt2-124m.total_usd").value < cost.usd.high


# Published energy and carbon


def test_llama_65b_s_energy_and_carbon():
    """Touvron et al., table 15: hours x 400 W x PUE 1.1 x 0.385 kg/kWh."""
    run = "llama-65b-training"
    cost = run_cost(
        hours=fact(f"{run}.training_gpu_hours"),
        chip=A100,
        usd_per_gpu_hour=1.0,
        pue=1.1,
        kg_co2_per_kwh=fact(f"{run}.kg_co2_per_kilowatt_hour"),
    )
    assert cost.energy_wh.value == pytest.approx(fact(f"{run}.energy_wh").value, rel=0.005)
    assert cost.co2_kg.value == pytest.approx(fact(f"{run}.co2_kg").value, rel=0.005)


def test_bloom_s_chips_on_the_french_grid():
    """Luccioni et al.: 24.7 t for the chips alone, which is half of all that they count."""
    run = "bloom-176b-training"
    cost = run_cost(
        hours=fact(f"{run}.training_gpu_hours"),
        chip=A100,
        usd_per_gpu_hour=1.0,
        pue=1.0,
        kg_co2_per_kwh=fact(f"{run}.kg_co2_per_kilowatt_hour"),
    )
    assert cost.energy_wh.value == pytest.approx(fact(f"{run}.energy_wh").value, rel=0.001)
    assert cost.co2_kg.value == pytest.approx(fact(f"{run}.co2_dynamic_kg").value, rel=0.005)
    assert cost.co2_kg.value < 0.5 * fact(f"{run}.co2_total_kg").value


def test_gpt_3_s_hours_energy_and_carbon():
    """Patterson et al., table 4: 14.8 days of 10,000 V100 at 24.6 TFLOP/s, 330 W, PUE 1.1."""
    run = "gpt3-175b-energy"
    value = {q: fact(f"{run}.{q}").value for q in ("gpus", "training_s", "achieved_flops_per_s")}
    hours = fact("gpt3-175b.training_flop").value / value["achieved_flops_per_s"] / 3600
    assert hours == pytest.approx(value["gpus"] * value["training_s"] / 3600, rel=0.005)
    cost = run_cost(
        hours=hours,
        usd_per_gpu_hour=1.0,
        watts=fact(f"{run}.gpu_average_w"),
        pue=fact(f"{run}.pue"),
        kg_co2_per_kwh=fact(f"{run}.kg_co2_per_kilowatt_hour"),
    )
    assert cost.energy_wh.value == pytest.approx(fact(f"{run}.energy_wh").value, rel=0.005)
    assert cost.co2_kg.value == pytest.approx(fact(f"{run}.co2_kg").value, rel=0.005)


CARDS = [name.removesuffix(".training_co2_kg") for name in facts() if "training_co2_kg" in name]


def test_ten_cards_print_carbon():
    assert len(CARDS) >= 10


@pytest.mark.parametrize("card", CARDS)
def test_a_llama_card_s_carbon_is_ours_of_the_us_grid_to_7_percent(card):
    """Meta's cards use their own grid and PUE, unprinted; ours is below each of them."""
    chip = A100 if "A100" in fact(f"{card}.training_gpu_hours").note else H100
    cost = run_cost(hours=fact(f"{card}.training_gpu_hours"), chip=chip, usd_per_gpu_hour=1.0)
    printed = fact(f"{card}.training_co2_kg").value
    assert 0.93 < cost.co2_kg.value / printed < 1
    assert cost.co2_kg.low < printed < cost.co2_kg.high


# The articles' tiers


@pytest.mark.parametrize("tier", ["frontier-open", "mid-open", "efficient-open", "specialised"])
def test_a_tier_of_the_article_overlaps_its_rebuilt_runs(tier):
    row = tier_cost(tier)
    assert row.usd.low < row.article_high.value
    assert row.usd.high > row.article_low.value


@pytest.mark.parametrize("tier", ["mid-open", "efficient-open"])
def test_the_middle_tiers_median_is_in_the_printed_range(tier):
    row = tier_cost(tier)
    assert row.article_low.value < row.usd.value < row.article_high.value


def test_deepseek_v3_cost_less_than_half_of_the_tier_it_is_printed_in():
    """The article's 50 to 200 million; even at the dearest rent its final run is below 20."""
    deepseek = final_run("deepseek-v3").cost.usd
    assert deepseek.high < tier_cost("frontier-open").article_low.value / 2


def test_a_closed_model_is_not_rebuilt_but_published_estimates_stand_beside_it():
    row = tier_cost("frontier-closed")
    assert (row.runs, row.usd) == ((), None)
    prices = [f.value for f in row.published.values()]
    assert min(prices) < row.article_low.value < max(prices) < row.article_high.value


def test_a_tuning_run_of_the_largest_model_costs_less_than_the_cheapest_tuning_printed():
    """Ouyang et al.: 4.9 and 60 petaflop/s-days for 175e9 parameters, people not counted."""
    row = tier_cost("specialised")
    assert all(run.cost.usd.value < row.article_low.value for run in row.runs)


def test_a_model_without_hours_is_counted_from_its_tokens():
    run = final_run("smollm2-135m")
    printed = fact("smollm2-135m.training_flop")
    assert "6 N D" in run.basis
    assert run.cost.gpu_hours.value == pytest.approx(gpu_hours(printed, H100).value, rel=0.01)


def test_hours_of_another_chip_are_not_rented_as_an_h100_s():
    run = final_run("llama-2-70b")
    assert "6 N D" in run.basis
    assert run.cost.gpu_hours.value < fact("llama-2-70b.training_gpu_hours").value / 2


def test_the_hours_of_a_small_model_s_card_are_more_than_its_flops_need():
    """1.46e6 hours for Llama 3.1 8B; 6 N D at 30 % of the peak takes less than half."""
    flops = training_flops(
        model("llama-3.1-8b").params(), fact("llama-3.1-8b.training_tokens").value
    )
    printed = fact("llama-3.1-8b.training_gpu_hours").value
    assert gpu_hours(flops, H100).high < printed / 2


def test_a_model_that_nobody_tells_about_is_named_and_not_guessed():
    assert final_run("mistral-7b") is None
    row = tier_cost("efficient-open")
    assert "mistral-7b" in row.unknown
    assert "mistral-7b" not in [run.name for run in row.runs]


def test_the_five_rows_are_those_of_the_article():
    quantity = ".article_training_cost_low_usd"
    printed = [name.removesuffix(quantity) for name in facts() if name.endswith(quantity)]
    assert printed == [f"tier-{tier}" for tier in TIERS]


# Refusals


def test_a_run_of_which_nothing_is_known_is_refused():
    with pytest.raises(ValueError, match="A run needs flops and a chip, or its hours; give one"):
        run_cost(1e24, usd_per_gpu_hour=2.0)
    with pytest.raises(ValueError, match="power of the chip is not in the atlas; give watts"):
        run_cost(hours=10, usd_per_gpu_hour=2.0)


def test_a_format_without_a_peak_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no fp8 peak for .*A100.*; it has .*bf16"):
        gpu_hours(1e24, A100, dtype="fp8")


def test_more_than_the_peak_is_refused():
    with pytest.raises(ValueError, match=r"mfu is a share of the peak, at most 1; got 40"):
        gpu_hours(1e24, A100, mfu=40)


def test_an_unknown_way_to_recompute_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="Unknown recompute 'some'; use one of none, attention"):
        training_memory(TINY, tokens=1, recompute="some")


def test_a_sequence_beyond_the_model_s_is_refused():
    with pytest.raises(ValueError, match=r"at most 64 tokens; got 65\. Shorten"):
        training_memory(TINY, tokens=65)


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_no_tokens_keep_nothing_and_are_refused(bad):
    with pytest.raises(ValueError, match="b must be a positive number; got"):
        activation_bytes_per_layer(1, bad, 1, 1)


def test_an_unknown_tier_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="Unknown tier 'cheap'; use one of frontier-closed"):
        tier_cost("cheap")


def test_a_data_centre_cannot_take_less_than_its_machines():
    with pytest.raises(ValueError, match=r"A PUE is 1 or more.*got 0\.5"):
        run_cost(hours=1, chip=accelerator("h100-sxm"), usd_per_gpu_hour=2, pue=0.5)
