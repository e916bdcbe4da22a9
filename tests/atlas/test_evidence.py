"""What the atlas rests on: counts, conflicts with their reasons, old prices, the draw."""

from datetime import date

import pytest

from stackkit.atlas import evidence, facts, layers
from stackkit.atlas.load import layer_of
from stackkit.core.fact import Fact

PRICE = {
    "value": 2.0,
    "unit": "USD/h",
    "kind": "vendor-claim",
    "source": "A price list",
    "url": "https://example.org",
    "seen_on": "2026-01-31",
    "as_of": "2026-01",
}


def test_every_count_is_of_all_facts():
    for counter in evidence.counts().values():
        assert sum(counter.values()) == len(facts())


def test_every_fact_belongs_to_a_layer_of_the_stack():
    assert {layer_of(name) for name in facts()} <= {layer.name for layer in layers()}


def test_a_chip_s_memory_power_and_die_belong_to_other_layers():
    assert layer_of("h100-sxm.peak_bf16_dense_flops_per_s") == "processors"
    assert layer_of("h100-sxm.memory_bytes_per_s") == "memory"
    assert layer_of("h100-sxm.tdp_w") == "systems"
    assert layer_of("h100-sxm.die_area_mm2") == "fabrication"


def test_conflicts_are_listed_with_a_reason():
    found = evidence.conflicts()
    assert found
    assert [name for name, fact in found.items() if not (fact.others and fact.why)] == []


def test_a_conflict_is_a_conflict():
    """Another value, not the same one again."""
    same = [
        name
        for name, fact in evidence.conflicts().items()
        if fact.value in [other.value for other in fact.others]
    ]
    assert same == []


@pytest.mark.parametrize(
    ("today", "is_old"), [(date(2026, 7, 30), False), (date(2026, 7, 31), True)]
)
def test_a_price_is_old_after_180_days(today, is_old):
    """As of January 2026 may be as of its 31st; the 180th day after is 30 July."""
    assert evidence.is_old_price(Fact(**PRICE), today=today) is is_old


def test_only_prices_grow_old():
    watts = Fact(**PRICE | {"unit": "W", "as_of": "1999"})
    assert not evidence.is_old_price(watts)


def test_old_prices_come_oldest_first():
    dates = [fact.as_of for fact in evidence.old_prices(0, today=date(2100, 1, 1)).values()]
    assert dates
    assert dates == sorted(dates)


def test_all_prices_are_old_one_day():
    prices = [name for name, fact in facts().items() if fact.unit.startswith("USD")]
    assert set(evidence.old_prices(today=date(2100, 1, 1))) == set(prices)


@pytest.mark.parametrize(
    ("as_of", "days"),
    [("2025", 31), ("2025-12", 31), ("2024-02", 702), ("2026-01-30", 1), ("2026-01-31", 0)],
)
def test_an_age_counts_from_the_last_day_that_a_date_means(as_of, days):
    fact = Fact(**PRICE | {"as_of": as_of})
    assert fact.age_days(date(2026, 1, 31)) == days


def test_a_search_wants_every_word():
    found = evidence.find(["h100-sxm", "memory_bytes_per_s"])
    assert list(found) == ["h100-sxm.memory_bytes_per_s"]


def test_a_search_reads_names_of_things_and_of_sources():
    assert "h100-sxm.tdp_w" in evidence.find(["NVIDIA", "H100", "tdp"])
