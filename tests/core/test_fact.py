"""A number has a source, a kind and an interval, or it is not a fact."""

import dataclasses
import math

import pytest

from stackkit.core.fact import KINDS, Fact

WHOLE = {
    "value": 3.35e12,
    "unit": "B/s",
    "kind": "datasheet",
    "source": "A datasheet",
    "url": "https://example.org/sheet",
    "seen_on": "2026-11-23",
    "as_of": "2023",
}


def fact(**changes) -> Fact:
    return Fact(**WHOLE | changes)


@pytest.mark.parametrize("field", ["source", "url", "seen_on", "as_of"])
def test_a_fact_without_its_origin_is_refused(field):
    with pytest.raises(ValueError, match=f"needs a {field}.*Add where the number was seen"):
        fact(**{field: ""})


def test_an_unknown_kind_is_refused_with_the_kinds_there_are():
    with pytest.raises(ValueError, match=r"datasheet, paper, .* measured; got 'rumour'"):
        fact(kind="rumour")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_the_design_can_be_made(kind):
    assert fact(kind=kind).kind == kind


@pytest.mark.parametrize("interval", [{"low": 4e12}, {"high": 3e12}, {"low": 4e12, "high": 3e12}])
def test_a_value_outside_its_interval_is_refused(interval):
    with pytest.raises(ValueError, match="lies in its interval"):
        fact(**interval)


def test_a_value_on_the_edge_of_its_interval_is_inside():
    assert fact(low=3.35e12, high=3.35e12).value == 3.35e12


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="nan is outside"):
        fact(value=math.nan)


def test_a_fact_prints_as_its_quantity():
    assert str(fact()) == "3.35 TB/s"


def test_the_provenance_names_kind_source_and_both_dates():
    assert fact().provenance() == "datasheet: A datasheet, 2023; seen 2026-11-23"


def test_the_provenance_ends_with_the_note():
    assert fact(note="SXM, not PCIe").provenance().endswith(". SXM, not PCIe")


def test_a_fact_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        fact().value = 1.0
