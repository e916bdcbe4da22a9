"""A mistake in a data file is reported in a sentence, with the file and the line."""

from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from stackkit.atlas import accelerator, fact, link, load, model, players
from stackkit.atlas.load import parse_fact, parse_source
from stackkit.core.fact import Source

SHEET = {
    "title": "A sheet",
    "url": "https://a.org",
    "as_of": "2024",
    "seen_on": "2026-11-24",
    "standing": "primary",
}
SOURCES = {
    "sheet": Source(**SHEET),
    "page": Source(**SHEET | {"title": "A page", "standing": "secondary"}),
}
LINE = {"value": 1.0, "unit": "B", "kind": "paper", "source": "sheet"}
MADE_BY_READING = (
    load.table,
    load.things,
    load.things_of,
    load.sources,
    load.facts,
    load._text,
)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A copy of the data files that a test may spoil: ``data(file, old, new)``."""
    for path in load.DATA.iterdir():
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(load, "DATA", tmp_path)
    forget()

    def spoil(file: str, old: str, new: str) -> int:
        """Replaces the first ``old``; returns its line."""
        path = Path(tmp_path, file)
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return text[: text.index(old)].count("\n") + 1

    yield spoil
    forget()


def forget():
    for read in MADE_BY_READING:
        read.cache_clear()


# An edited file


def test_the_untouched_copy_is_read(data):
    assert fact("h100-sxm.memory_bytes_per_s").value == 3.35e12


def test_a_wrong_unit_is_refused_with_file_and_line(data):
    line = data("accelerators.toml", 'unit = "FLOP/s"', 'unit = "TFLOP/s"')
    with pytest.raises(
        ValueError,
        match=rf"^accelerators\.toml, line {line}: .*'TFLOP/s', its name says 'FLOP/s'; facts are "
        r"in base units",
    ):
        load.facts()


def test_a_missing_field_is_refused_with_file_line_and_field(data):
    line = data("memories.toml", 'kind = "datasheet", ', "")
    with pytest.raises(ValueError, match=rf"^memories\.toml, line {line}: .*not complete.*'kind'"):
        load.facts()


def test_a_fact_without_a_source_is_refused_with_file_and_line(data):
    line = data("records.toml", 'source = "', 'source = "not-')
    with pytest.raises(
        ValueError, match=rf"^records\.toml, line {line}: .*add it to sources\.toml"
    ):
        load.facts()


def test_a_date_in_the_future_is_refused_with_file_and_line(data):
    line = data("sources.toml", 'seen_on = "2026', 'seen_on = "3026')
    with pytest.raises(ValueError, match=r"^sources\.toml.* on 3026-.*, after today") as refusal:
        load.facts()
    named = int(str(refusal.value).partition("line ")[2].partition(":")[0])
    assert named < line <= named + 6  # the line at which that source begins


def test_a_file_that_is_no_toml_is_refused_with_file_and_line(data):
    line = data("memories.toml", "[hbm3]", "[hbm3")
    with pytest.raises(ValueError, match=rf"memories\.toml is no TOML: .*line {line}"):
        load.facts()


def test_one_name_for_two_things_is_refused_with_file_and_line(data):
    data("records.toml", "[mamf", '[h100-sxm]\nname = "x"\nlayer = "memory"\n\n[mamf')
    with pytest.raises(
        ValueError, match=r"^records\.toml, line \d+: .*two things named 'h100-sxm'"
    ):
        load.facts()


def test_a_thing_without_a_layer_is_refused_with_file_and_line(data):
    data("records.toml", "[mamf-h100-sxm]", '[orphan]\nname = "x"\n\n[mamf-h100-sxm]')
    with pytest.raises(ValueError, match=r"^records\.toml, line \d+: 'orphan' needs a layer"):
        load.facts()


# An unknown name


def test_an_unknown_thing_suggests_near_ones():
    with pytest.raises(ValueError, match=r"no fact 'h1000-sxm\.price'.*near it are .*h100-sxm"):
        fact("h1000-sxm.price")


def test_an_unknown_quantity_suggests_the_thing_s_own():
    with pytest.raises(ValueError, match=r"of that thing it has .*memory_bytes_per_s"):
        fact("h100-sxm.bandwidth")


@pytest.mark.parametrize(
    ("read", "name", "near"),
    [
        (accelerator, "h100", "h100-sxm"),
        (accelerator, "A100-SXM-80GB", "a100-sxm-80gb"),
        (link, "nvlink4", "nvlink-4"),
        (model, "llama3-8b", "llama-3-8b"),
    ],
)
def test_an_unknown_name_suggests_near_ones(read, name, near):
    with pytest.raises(ValueError, match=rf"no '{name}' among its \w+; near it are .*{near}"):
        read(name)


def test_an_unknown_layer_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no 'silicon' among its layers; it has .*fabrication"):
        players("silicon")


# One line of a file


def test_a_line_becomes_a_fact_with_its_source():
    parsed = parse_fact("a.bytes", LINE, SOURCES)
    assert (parsed.value, parsed.source, parsed.url) == (1.0, "A sheet", "https://a.org")


def test_a_line_takes_its_date_from_the_source():
    assert parse_fact("a.bytes", LINE, SOURCES).as_of == "2024"


def test_a_line_may_speak_for_another_date_than_its_source():
    assert parse_fact("a.bytes", LINE | {"as_of": "2022"}, SOURCES).as_of == "2022"


def test_a_line_is_not_changed_by_reading_it():
    line = LINE | {"others": [{"value": 2.0, "source": "page"}], "why": "Newer."}
    before = repr(line)
    parse_fact("a.bytes", line, SOURCES)
    assert repr(line) == before


def test_a_conflict_is_kept_with_its_source():
    line = LINE | {"others": [{"value": 2.0, "source": "page"}], "why": "The page is older."}
    parsed = parse_fact("a.bytes", line, SOURCES)
    assert [(other.value, other.source) for other in parsed.others] == [(2.0, "A page")]
    assert "also in print: 2 B (A page). The page is older" in parsed.provenance()


def test_a_conflict_without_a_reason_is_refused():
    with pytest.raises(ValueError, match=r"'a\.bytes'.*others, and a why; give both"):
        parse_fact("a.bytes", LINE | {"others": [{"value": 2.0, "source": "page"}]}, SOURCES)


def test_an_older_value_is_history_with_its_date():
    older = {"value": 2.0, "source": "page", "as_of": "2020-06"}
    parsed = parse_fact("a.bytes", LINE | {"history": [older]}, SOURCES)
    assert [(was.value, was.as_of) for was in parsed.history] == [(2.0, "2020-06")]


@pytest.mark.parametrize(
    ("line", "evidence"),
    [
        (LINE, "primary source"),
        (LINE | {"source": "page"}, "one witness"),
        (LINE | {"source": "page", "witnesses": ["page"]}, "two witnesses"),
        (LINE | {"source": "page", "witnesses": ["sheet"]}, "primary source"),
        (LINE | {"kind": "estimate"}, "estimate"),
    ],
)
def test_a_line_says_what_it_rests_on(line, evidence):
    assert parse_fact("a.bytes", line, SOURCES).evidence == evidence


@pytest.mark.parametrize("source", [None, "hearsay"])
def test_a_line_without_a_known_source_is_refused(source):
    with pytest.raises(ValueError, match=r"'a\.bytes' names the source .*; add it to sources"):
        parse_fact("a.bytes", LINE | {"source": source}, SOURCES)


def test_a_line_with_an_unknown_field_is_refused_with_the_field():
    with pytest.raises(ValueError, match=r"'a\.bytes' .* strange field: .*vallue"):
        parse_fact("a.bytes", LINE | {"vallue": 2.0}, SOURCES)


@pytest.mark.parametrize("field", ["value", "unit", "kind"])
def test_a_line_with_a_missing_field_is_refused_with_the_field(field):
    line = {name: content for name, content in LINE.items() if name != field}
    with pytest.raises(ValueError, match=rf"'a\.bytes' is not complete .*{field}"):
        parse_fact("a.bytes", line, SOURCES)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("x.peak_bf16_dense_flops_per_s", "FLOP/s"),
        ("x.bits_per_s_per_pin", "bit/s"),
        ("x.memory_bus_bits", "bit"),
        ("x.seconds_per_token", "s"),
        ("x.input_usd_per_million_tokens", "USD/Mtoken"),
        ("x.usd_per_hour", "USD/h"),
        ("x.tdp_w", "W"),
        ("x.transistors", ""),
        ("x.layers_shared", ""),  # the s at the end of a word is no second
    ],
)
def test_a_quantity_s_name_carries_its_unit(name, unit):
    assert load.unit_in(name) == unit


def test_a_quantity_named_for_milliseconds_is_refused():
    with pytest.raises(ValueError, match="'ms'; use its base unit"):
        load.unit_in("x.step_ms")


# One source


def test_a_source_that_was_seen_tomorrow_is_refused():
    with pytest.raises(ValueError, match="seen on 2026-11-24, after today, 2026-11-23"):
        parse_source("sheet", SHEET, today=date(2026, 11, 23))


def test_a_source_that_was_seen_today_far_to_the_east_is_read_here(monkeypatch):
    """It is still the 27th in Los Angeles when the atlas says that a page was seen on the 28th."""
    evening = datetime(2026, 11, 27, 23, 30, tzinfo=timezone(timedelta(hours=-8)))

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return evening.astimezone(tz)

    monkeypatch.setattr(load, "datetime", Clock)
    assert parse_source("sheet", SHEET | {"seen_on": "2026-11-28"}).seen_on == "2026-11-28"
    with pytest.raises(ValueError, match="after today"):
        parse_source("sheet", SHEET | {"seen_on": "2026-11-29"})


def test_a_source_that_speaks_for_a_later_time_than_it_was_seen_is_refused():
    with pytest.raises(ValueError, match="speaks for 2027, after it was seen, 2026-11-24"):
        parse_source("sheet", SHEET | {"as_of": "2027"}, today=date(2028, 1, 1))


@pytest.mark.parametrize("as_of", ["June 2025", "2025-6", "25-06-01"])
def test_a_source_s_date_is_a_year_a_month_or_a_day(as_of):
    with pytest.raises(ValueError, match="write a year, a month or a day"):
        parse_source("sheet", SHEET | {"as_of": as_of}, today=date(2026, 11, 24))


@pytest.mark.parametrize("field", list(SHEET))
def test_a_source_without_a_field_is_refused_with_the_field(field):
    fields = {name: content for name, content in SHEET.items() if name != field}
    with pytest.raises(ValueError, match=rf"source 'sheet': .*{field}"):
        parse_source("sheet", fields, today=date(2026, 11, 24))


def test_a_source_of_unknown_standing_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="primary, secondary, quoted; got 'rumour'"):
        parse_source("sheet", SHEET | {"standing": "rumour"}, today=date(2026, 11, 24))
