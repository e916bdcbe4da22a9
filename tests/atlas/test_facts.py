"""Every fact of the atlas: kind, source, dates, interval, unit."""

import math
import re
from datetime import date
from urllib.parse import urlparse

import pytest

from stackkit.atlas import fact, facts, load
from stackkit.atlas.load import facts_of, parse_fact, table
from stackkit.core.fact import KINDS

SOURCES = {"sheet": {"title": "A sheet", "url": "https://a.org", "as_of": 2024, "seen_on": "x"}}
LINE = {"value": 1.0, "unit": "B", "kind": "paper", "source": "sheet"}

# The unit that stands in a quantity's name, most telling part first.
UNIT_IN_NAME = [
    ("flops_per_s", "FLOP/s"),
    ("bits_per_s_per_pin", "bit/s"),
    ("tokens_per_s", "token/s"),
    ("seconds_per_token", "s"),
    ("bytes_per_s", "B/s"),
    ("j_per_bit", "J/bit"),
    ("bytes", "B"),
    ("bits", "bit"),
    ("mm2", "mm2"),
    ("_w", "W"),
]


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
    """No GB, no TB/s, no ms: quantities are kept in base units."""
    base = {"", "B", "B/s", "FLOP/s", "token/s", "s", "W", "mm2", "bit", "bit/s", "J/bit"}
    assert offenders(lambda f: f.unit in base) == []


def test_a_quantity_named_for_a_unit_has_that_unit():
    wrong = []
    for name, found in facts().items():
        quantity = name.rsplit(".", 1)[1]
        unit = next((u for part, u in UNIT_IN_NAME if re.search(rf"{part}(_|$)", quantity)), None)
        if unit not in (None, found.unit):
            wrong.append(name)
    assert wrong == []


def test_every_source_that_is_named_exists_and_every_one_that_exists_is_named():
    named = {
        line["source"]
        for kind in load.KINDS_OF_THING
        for thing in table(kind).values()
        for line in thing["facts"].values()
    }
    assert named == set(table("sources"))


def test_no_two_sources_share_an_address():
    addresses = [source["url"] for source in table("sources").values()]
    assert len(set(addresses)) == len(addresses)


def test_a_fact_is_found_by_its_full_name():
    """NVIDIA H100 datasheet: 3.35 TB/s for the SXM part."""
    assert fact("h100-sxm.memory_bytes_per_s").value == 3.35e12


def test_a_name_with_a_point_is_found():
    assert fact("llama-3.1-8b.published_params").value == pytest.approx(8.03e9)


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
    with pytest.raises(ValueError, match=r"of that thing it has (\w+, )*energy_j_per_bit\.$") as no:
        fact("hbm3e.price")
    assert str(no.value).count("bus_bits") == 1  # those of hbm3 are not among them


def test_an_unknown_thing_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"no fact 'h1000\.price'.*the things are .*h100-sxm"):
        fact("h1000.price")


def test_two_facts_of_one_name_are_refused(monkeypatch):
    one_thing_in_every_file = {"twin": {"facts": {"value": LINE}}}
    tables = {"sources": SOURCES}
    monkeypatch.setattr(load, "table", lambda kind: tables.get(kind, one_thing_in_every_file))
    with pytest.raises(ValueError, match=r"two facts named 'twin\.value'; rename one"):
        load.facts.__wrapped__()


# One line of a file


def test_a_line_becomes_a_fact_with_its_source():
    parsed = parse_fact("a.b", LINE, SOURCES)
    assert (parsed.value, parsed.source, parsed.url) == (1.0, "A sheet", "https://a.org")


def test_a_line_takes_its_date_from_the_source():
    assert parse_fact("a.b", LINE, SOURCES).as_of == "2024"


def test_a_line_may_speak_for_another_date_than_its_source():
    assert parse_fact("a.b", LINE | {"as_of": 2022}, SOURCES).as_of == "2022"


def test_a_line_is_not_changed_by_reading_it():
    before = dict(LINE)
    parse_fact("a.b", LINE, SOURCES)
    assert before == LINE


@pytest.mark.parametrize("source", [None, "hearsay"])
def test_a_fact_without_a_known_source_is_refused(source):
    with pytest.raises(ValueError, match=r"'a\.b' names the source .*; add it to sources\.toml"):
        parse_fact("a.b", LINE | {"source": source}, SOURCES)


def test_a_fact_that_names_no_source_is_refused():
    with pytest.raises(ValueError, match="names the source None"):
        parse_fact("a.b", {"value": 1.0, "unit": "B", "kind": "paper"}, SOURCES)


def test_a_fact_with_an_unknown_field_is_refused_with_the_field():
    with pytest.raises(ValueError, match=r"'a\.b' .* strange field: .*vallue"):
        parse_fact("a.b", LINE | {"vallue": 2.0}, SOURCES)


@pytest.mark.parametrize("field", ["value", "unit", "kind"])
def test_a_fact_with_a_missing_field_is_refused_with_the_field(field):
    line = {name: content for name, content in LINE.items() if name != field}
    with pytest.raises(ValueError, match=rf"'a\.b' is not complete .*{field}"):
        parse_fact("a.b", line, SOURCES)
