"""Every fact of the atlas: kind, source, dates, interval, unit, evidence."""

import math
import re
from datetime import date
from urllib.parse import urlparse

import pytest

from stackkit.atlas import fact, facts, load
from stackkit.atlas.load import facts_of, table
from stackkit.core.fact import KINDS


def offenders(is_right) -> list[str]:
    return [name for name, fact in facts().items() if not is_right(fact)]


def test_the_atlas_has_facts():
    assert len(facts()) > 50


def test_every_kind_is_known():
    assert offenders(lambda f: f.kind in KINDS) == []


def test_every_source_has_an_address_on_the_web():
    def is_address(fact):
        parts = urlparse(fact.url)
        return parts.scheme in ("http", "https") and "." in parts.netloc

    assert offenders(is_address) == []


def test_every_fact_was_seen_on_a_day():
    assert offenders(lambda f: str(date.fromisoformat(f.seen_on)) == f.seen_on) == []


def test_every_fact_speaks_for_a_year_a_month_or_a_day():
    assert offenders(lambda f: re.fullmatch(r"\d{4}(-\d\d){0,2}", f.as_of)) == []


def test_no_fact_speaks_for_a_time_after_it_was_seen():
    assert offenders(lambda f: f.as_of <= f.seen_on) == []


def test_every_value_is_finite_and_positive():
    assert offenders(lambda f: math.isfinite(f.value) and f.value > 0) == []


def test_every_interval_holds_its_value():
    def holds(fact):
        low = fact.value if fact.low is None else fact.low
        high = fact.value if fact.high is None else fact.high
        return low <= fact.value <= high

    assert offenders(holds) == []


def test_every_unit_is_a_base_unit():
    """No GB, no TB/s, no ms: quantities are kept in base units, and money in dollars."""
    prefixed = re.compile(r"[kMGTP](B|FLOP|Hz|W|J|bit)|[mµnp](s|J|W)(/|$)")
    assert offenders(lambda f: not prefixed.match(f.unit)) == []


def test_every_unit_in_a_name_is_used():
    """A name that no fact has any more goes from the table."""
    quantities = [name.rpartition(".")[2] for name in facts()]
    unused = [
        part
        for part in load.UNIT_IN_NAME
        if not any(re.search(rf"(^|_){part}(_|$)", quantity) for quantity in quantities)
    ]
    assert unused == ["ms"]


def test_no_fact_rests_on_one_secondary_source():
    """A primary source, two witnesses, or the word estimate."""
    assert offenders(lambda f: f.evidence != "one witness") == []


def test_every_source_that_is_named_exists_and_every_one_that_exists_is_named():
    named = {source for thing in load.things().values() for source in named_by(thing.entry)}
    assert named == set(table("sources"))


def named_by(entry: dict) -> set[str]:
    """Ids of the sources that a thing's table names, wherever it does."""
    named = {entry[field] for field in ("source", "config_source") if field in entry}
    for field in ("witnesses", "note_witnesses", "config_witnesses"):
        named |= set(entry.get(field, ()))
    for inner in entry.values():
        for line in inner if isinstance(inner, list) else [inner]:
            if isinstance(line, dict):
                named |= named_by(line)
    return named


def test_no_two_sources_share_an_address():
    addresses = [source["url"] for source in table("sources").values()]
    assert len(set(addresses)) == len(addresses)


def test_a_fact_is_found_by_its_full_name():
    """NVIDIA H100 datasheet: 3.35 TB/s for the SXM part."""
    assert fact("h100-sxm.memory_bytes_per_s").value == 3.35e12


def test_a_name_with_a_point_is_found():
    assert fact("llama-3.1-8b.checkpoint_params").value == 8_030_261_248


def test_the_facts_of_a_thing_are_by_quantity():
    assert facts_of("hbm3")["bus_bits"] is fact("hbm3.bus_bits")


def test_the_facts_of_a_thing_are_not_those_of_its_namesake():
    assert {f.source for f in facts_of("hbm3").values()}.isdisjoint(
        f.source for f in facts_of("hbm3e").values()
    )


def test_an_unknown_quantity_is_refused_with_the_thing_s_own():
    with pytest.raises(ValueError, match=r"no fact 'h100-sxm.price'; of that thing it has .*tdp_w"):
        fact("h100-sxm.price")


def test_an_unknown_quantity_is_refused_without_those_of_a_namesake():
    with pytest.raises(ValueError, match=r"of that thing it has (\w+, )*\w+\.$") as no:
        fact("hbm3e.price")
    assert str(no.value).count("bus_bits") == 1  # those of hbm3 are not among them
