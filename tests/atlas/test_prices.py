"""Prices and watts: dated, in order of size, and no sum of what they are."""

import pytest

from stackkit.atlas import fact, facts
from stackkit.atlas.load import table


def prices() -> dict:
    return {name: found for name, found in facts().items() if found.unit.startswith("USD")}


def test_a_price_is_of_a_month():
    """A year alone cannot be told old or new; what a paper or a card spent is no price."""
    listed = {name: f for name, f in prices().items() if f.unit in ("USD/h", "USD/Mtoken")}
    assert listed
    assert [name for name, f in listed.items() if len(f.as_of) == 4] == []


def test_older_prices_are_older():
    dated = [(f.as_of, was.as_of) for f in prices().values() for was in f.history]
    assert dated
    assert [pair for pair in dated if pair[1] >= pair[0]] == []


def test_output_costs_at_least_as_much_as_input():
    dearer = []
    for name, entry in table("prices").items():
        found = entry.get("facts", {})
        if {"input_usd_per_million_tokens", "output_usd_per_million_tokens"} <= set(found):
            of_input = found["input_usd_per_million_tokens"]["value"]
            dearer.append(found["output_usd_per_million_tokens"]["value"] >= of_input)
        if "cached_input_usd_per_million_tokens" in found:
            cached = found["cached_input_usd_per_million_tokens"]["value"]
            assert cached < found["input_usd_per_million_tokens"]["value"], name
    assert len(dearer) >= 5
    assert all(dearer)


def test_a_gpu_hour_costs_dollars():
    """Between 1 and 15 dollars a GPU, whatever the server."""
    hourly = {
        name: entry["facts"]["usd_per_hour"]["value"] / entry["facts"]["gpus"]["value"]
        for name, entry in table("prices").items()
        if {"usd_per_hour", "gpus"} <= set(entry.get("facts", {}))
    }
    assert hourly
    assert {name: each for name, each in hourly.items() if not 0.5 <= each <= 15} == {}


def test_a_newer_node_costs_more_a_wafer():
    """CSET 2020, table 9: foundry sale price per wafer rises with every node."""
    wafers = {
        int(quantity.split("_")[0][1:]): found["value"]
        for quantity, found in table("prices")["cset-wafer"]["facts"].items()
    }
    by_node = [wafers[node] for node in sorted(wafers, reverse=True)]
    assert len(by_node) >= 4
    assert by_node == sorted(by_node)


def test_a_server_draws_more_than_its_gpus():
    """DGX H100: eight GPUs of 700 W, and 10.2 kW in all."""
    server = fact("dgx-h100.max_power_w").value
    assert 8 * fact("h100-sxm.tdp_w").value < server < 16 * fact("h100-sxm.tdp_w").value


def test_a_building_draws_more_than_its_servers():
    """Uptime Institute: 1.5 to 1.6 on average; nobody is below 1."""
    ratios = [found["value"] for found in table("power")["pue"]["facts"].values()]
    assert len(ratios) >= 2
    assert [ratio for ratio in ratios if not 1 < ratio < 2] == []


def test_the_parts_of_a_median_prompt_are_its_whole():
    """arXiv 2508.15734: accelerators, host, idle machines and overhead, in all 0.24 Wh."""
    found = table("power")["gemini-median-prompt"]["facts"]
    parts = [found[f"{part}_wh"]["value"] for part in ("accelerators", "host", "idle", "overhead")]
    assert sum(parts) == pytest.approx(found["energy_wh"]["value"], rel=0.05)


def test_multiplying_costs_more_than_adding():
    """Horowitz, ISSCC 2014, figure 1.1.9, in 45 nm."""
    found = {name: f["value"] for name, f in table("power")["horowitz-45nm"]["facts"].items()}
    for kind in ("int8", "int32", "fp16", "fp32"):
        assert found[f"{kind}_add_joules"] < found[f"{kind}_mul_joules"]
