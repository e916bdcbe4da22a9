"""A line of the bill says what it counts, per what, and within which interval."""

import math

import pytest

from stackkit.core.ledger import Entry

WHOLE = {
    "layer": "memory",
    "quantity": "weight bytes read",
    "value": 15e9,
    "unit": "B",
    "kind": "modelled",
    "low": 14e9,
    "high": 16e9,
    "per": "token",
}


def entry(**changes) -> Entry:
    return Entry(**WHOLE | changes)


@pytest.mark.parametrize("per", ["token", "request", "second"])
def test_an_entry_counts_per_token_request_or_second(per):
    assert f"per {per}" in str(entry(per=per))


def test_an_entry_per_anything_else_is_refused():
    with pytest.raises(ValueError, match="per token, request or second; got per='word'"):
        entry(per="word")


def test_an_entry_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="fact, modelled or measured; got kind='guess'"):
        entry(kind="guess")


@pytest.mark.parametrize("value", [13e9, 17e9, math.nan])
def test_a_value_outside_its_interval_is_refused(value):
    with pytest.raises(ValueError, match=r"weight bytes read = .* is outside"):
        entry(value=value)


def test_an_entry_prints_its_interval():
    line = "memory: weight bytes read 15 GB (14 GB to 16 GB) per token, modelled"
    assert str(entry()) == line


def test_an_exact_entry_prints_no_interval():
    assert "(" not in str(entry(low=15e9, high=15e9))
