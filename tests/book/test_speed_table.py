"""The table of speeds: what a row says follows from the cost model."""

import re

import pytest
from built_site import parse

from stackkit.atlas import accelerator, accelerators, fact, facts, model
from stackkit.book.speed_table import CONTEXT, MODELS, chips_needed
from stackkit.memory import decode_step, max_batch

SPEEDS = "chapters/speeds.html"
COLUMNS = {"chips": 0, "one": 1, "fit": 2, "all": 3}


def row(site, chip, spec):
    for found in parse(site / SPEEDS).select(f'tr[data-model="{spec}"]'):
        if found.th.get_text() == accelerator(chip).name:
            return [cell.get_text() for cell in found.find_all("td")]
    raise AssertionError(f"no row for {chip} and {spec}")


def test_every_chip_has_a_row_for_every_model(site):
    rows = parse(site / SPEEDS).select("tr[data-model]")
    assert len(rows) == len(MODELS) * len(accelerators())


def test_the_text_names_the_context_that_the_table_counts(site):
    assert f"{CONTEXT:,} tokens" in parse(site / SPEEDS).select_one("article").get_text()


def test_a_row_is_what_the_cost_model_says(site):
    spec, chip = model("llama-3.1-8b"), accelerator("h100-sxm")
    chips, one, fit, everyone = row(site, "h100-sxm", "llama-3.1-8b")
    assert chips == "1"
    cost = decode_step(spec, chip, batch=1, context=CONTEXT)
    assert one == f"{1 / cost.upper_s:.0f} to {1 / cost.lower_s:.0f}"
    assert int(fit.replace(",", "")) == max_batch(spec, chip, context=CONTEXT)
    low, high = (float(text.replace(",", "")) for text in everyone.split(" to "))
    assert 1 < high / low <= 2


def test_a_model_that_does_not_fit_one_chip_takes_several(site):
    """70.6e9 weights of two bytes are 141 GB: two of 80."""
    assert row(site, "h100-sxm", "llama-3.1-70b")[0] == "2"
    assert chips_needed(accelerator("groq-lpu-v1"), model("llama-3.1-70b")) == 1024


def test_a_chip_without_a_dense_peak_shows_what_reading_allows(site):
    """WSE-3: 21e15 B/s over 15e9 B of weights, under 1.4 million a second."""
    _, one, _, _ = row(site, "wse-3", "llama-3.1-8b")
    assert one.startswith("under ")
    assert one.endswith("million")


def test_a_model_that_no_thousand_chips_hold_says_so(site):
    assert row(site, "groq-lpu-v1", "deepseek-v3")[0] == "over 1,024"


MEASURED = [  # of one GPU: fact, model, chip, requests, average context
    ("gpt-fast-llama2-7b-bf16.tokens_per_s", "llama-2-7b", "a100-sxm-80gb", 1, 105),
    ("gpt-fast-llama31-8b-bf16.tokens_per_s", "llama-3.1-8b", "a100-sxm-80gb", 1, 105),
    ("llama-cpp-llama3-8b-rtx-4090.tokens_per_s_over_512", "llama-3-8b", "rtx-4090", 1, 256),
    ("llama-cpp-llama3-8b-rtx-4090.tokens_per_s_over_8192", "llama-3-8b", "rtx-4090", 1, 4096),
]


def measured():
    yield from ((fact(n).value / b, m, c, b, ctx) for n, m, c, b, ctx in MEASURED)
    for name, found in facts().items():
        steps = r"lmdeploy-llama2-(7b|13b)-a100\.step_s_batch_(\d+)_in_(\d+)_out_(\d+)"
        if match := re.fullmatch(steps, name):
            batch, prompt, output = map(int, match.groups()[1:])
            context = prompt + output // 2
            yield 1 / found.value, f"llama-2-{match[1]}", "a100-sxm-80gb", batch, context


@pytest.mark.parametrize("case", list(measured()), ids=str)
def test_measured_decode_reaches_what_the_page_says_of_it(case):
    """Two thirds to four fifths of the higher figure, give or take the rounding of the records."""
    tokens_per_s, name, chip, batch, context = case
    cost = decode_step(model(name), accelerator(chip), batch=batch, context=context)
    assert 0.65 < tokens_per_s * cost.lower_s < 0.82
