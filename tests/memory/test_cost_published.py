"""The cost model against what others measured and printed; no case is one it was fitted to."""

from statistics import median

import pytest

from stackkit.atlas import accelerator, fact, model
from stackkit.memory import Efficiency, decode_step

A100 = accelerator("a100-sxm-80gb")
CONTEXT = 105  # gpt-fast: a prompt of 5 tokens and 200 new ones, about this many on average


# gpt-fast on one to eight A100, one request, bf16. Fitted: one bandwidth and one lone GPU.


def gpt_fast_tokens_per_s(name: str) -> float:
    return fact(f"gpt-fast-{name}.tokens_per_s").value


def fitted() -> Efficiency:
    """Azure's read bandwidth of an A100, and what Llama 2 7B takes beyond it on one GPU."""
    share = fact("azure-a100-hbm.dot_bytes_per_s").value / A100.memory_bytes_per_s
    m = model("llama-2-7b")
    read = decode_step(m, A100, batch=1, context=CONTEXT, efficiency=Efficiency(memory=share))
    besides_s = 1 / gpt_fast_tokens_per_s("llama2-7b-bf16") - read.lower_s
    return Efficiency(memory=share, per_layer_s=besides_s / m.n_layers)


GPT_FAST = [
    (f"{printed}-bf16-tp{n}", name, n)
    for printed, name in (
        ("llama2-7b", "llama-2-7b"),
        ("llama2-70b", "llama-2-70b"),
        ("llama31-8b", "llama-3.1-8b"),
        ("llama31-70b", "llama-3.1-70b"),
        ("mixtral-8x7b", "mixtral-8x7b"),
    )
    for n in (2, 4, 8)
] + [("llama31-8b-bf16", "llama-3.1-8b", 1)]
ODD_ONE = "llama31-70b-bf16-tp2"  # 16.03; the page has 21.32 for Llama 2 70B, of the same size


def predicted_over_printed(case: str, name: str, n_chips: int) -> float:
    cost = decode_step(
        model(name), A100, batch=1, context=CONTEXT, n_chips=n_chips, efficiency=fitted()
    )
    return 1 / cost.lower_s / gpt_fast_tokens_per_s(case)


@pytest.mark.parametrize(
    ("case", "name", "n"), [c for c in GPT_FAST if c[0] != ODD_ONE], ids=lambda x: str(x)
)
def test_gpt_fast_on_several_gpus_is_predicted_within_a_quarter(case, name, n):
    assert 1 / 1.25 < predicted_over_printed(case, name, n) < 1.25


def test_the_head_that_gpt_fast_does_not_split_explains_most_of_the_worst_case():
    """Each of its GPUs reads the whole output head (tp.py leaves it alone): 1.05 GB a token."""
    m, efficiency = model("llama-3.1-8b"), fitted()
    cost = decode_step(m, A100, batch=1, context=CONTEXT, n_chips=8, efficiency=efficiency)
    head_bytes = 2 * m.vocab_size * m.d_model
    more_s = head_bytes * 7 / 8 / (efficiency.memory * A100.memory_bytes_per_s)
    printed = gpt_fast_tokens_per_s("llama31-8b-bf16-tp8")
    assert 1 / cost.lower_s > 1.15 * printed
    assert 1 / (cost.lower_s + more_s) == pytest.approx(printed, rel=0.05)


def test_half_of_the_predictions_for_gpt_fast_are_within_an_eighth():
    errors = [abs(predicted_over_printed(*case) - 1) for case in GPT_FAST]
    assert len(errors) == 16
    assert median(errors) < 0.125


def test_one_printed_figure_stands_apart_and_its_own_page_disagrees_with_it():
    """Llama 3.1 70B has the layers of Llama 2 70B and 2 % more weights, not 33 % more time."""
    assert predicted_over_printed(ODD_ONE, "llama-3.1-70b", 2) > 1.25
    sister = gpt_fast_tokens_per_s("llama2-70b-bf16-tp2")
    assert sister > 1.25 * gpt_fast_tokens_per_s(ODD_ONE)


@pytest.mark.parametrize(("case", "name", "n"), GPT_FAST, ids=lambda x: str(x))
def test_no_published_run_beats_the_datasheet_s_lower_bound(case, name, n):
    cost = decode_step(model(name), A100, batch=1, context=CONTEXT, n_chips=n)
    assert 1 / gpt_fast_tokens_per_s(case) > cost.lower_s


def test_without_the_time_of_the_layers_eight_gpus_would_seem_three_times_as_fast():
    """What the datasheets hide: more chips divide the bytes, not the waiting."""
    share = Efficiency(memory=fitted().memory)
    m = model("llama-2-7b")
    cost = decode_step(m, A100, batch=1, context=CONTEXT, n_chips=8, efficiency=share)
    assert 1 / cost.lower_s > 3 * gpt_fast_tokens_per_s("llama2-7b-bf16-tp8")
