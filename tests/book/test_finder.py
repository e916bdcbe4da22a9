"""The pages of facts and of players: complete without a script, found and sorted with one."""

import re
from datetime import date, datetime, time

import pytest
from browser import Tab
from built_site import parse

from stackkit.atlas import accelerators, evidence, facts, layers, players, sources
from stackkit.atlas.load import layer_of, things

FACTS, HARDWARE, SOFTWARE, PLAYERS, SOURCES = (
    f"chapters/{name}.html"
    for name in ("facts", "records", "records-software", "players", "sources")
)
COLUMN = {"Of what": 0, "Quantity": 1, "Value": 2, "Kind": 3, "As of": 4, "Source": 5, "Used in": 6}
SHOWN = "tr[data-layer]:not([hidden])"
MAX_BYTES = 300_000


# The pages as they are written


def on_page_of_facts():
    """The facts that the page of facts shows: all but the records."""
    return {
        name: fact
        for name, fact in facts().items()
        if things()[name.rpartition(".")[0]].kind != "records"
    }


def fact_rows(site):
    """The rows of the three pages of facts."""
    pages = (FACTS, HARDWARE, SOFTWARE)
    return [row for page in pages for row in parse(site / page).select("tr[data-layer]")]


@pytest.mark.parametrize("page", [FACTS, HARDWARE, SOFTWARE, PLAYERS, SOURCES])
def test_a_page_stays_under_300_kb(page, site):
    assert (site / page).stat().st_size < MAX_BYTES


def test_every_fact_has_a_row_on_one_of_three_pages(site):
    assert sorted(row["id"] for row in fact_rows(site)) == sorted(facts())
    records = [name for name in facts() if name not in on_page_of_facts()]
    hard, soft = (
        [row["id"] for row in parse(site / page).select("tr[data-layer]")]
        for page in (HARDWARE, SOFTWARE)
    )
    above = {layer.name for layer in layers() if layer.number <= 4}
    assert soft == [name for name in records if layer_of(name) in above]
    assert hard == [name for name in records if layer_of(name) not in above]


def test_every_row_says_what_the_fact_says(site):
    for row in fact_rows(site):
        fact = facts()[row["id"]]
        cells = row.find_all(["th", "td"], recursive=False)
        value, kind, as_of = (
            cells[COLUMN[head]].get_text(" ", strip=True) for head in ("Value", "Kind", "As of")
        )
        assert (value.startswith(str(fact)), kind.split()[0], as_of) == (
            True,
            fact.kind,
            fact.as_of,
        )


def test_every_row_cites_a_source_of_the_list(site):
    listed = {item["id"] for item in parse(site / SOURCES).select(".sk-source-list li")}
    for row in fact_rows(site):
        cited = [
            link["href"].removeprefix("sources.html#") for link in row.select("td:nth-child(6) a")
        ]
        assert cited
        assert set(cited) <= listed


def test_no_two_quantities_of_a_thing_read_alike(site):
    """A quantity is written without its unit, which stands with the value."""
    rows = fact_rows(site)
    read = [(row.th.get_text(), row.td.find(string=True, recursive=False)) for row in rows]
    assert ("NVIDIA H100 SXM", "memory bandwidth") in read
    assert [pair for pair in read if read.count(pair) > 1] == []
    assert [name for _, name in read if not name or "_" in name] == []


def test_a_fact_is_linked_to_the_pages_that_use_it(site):
    row = parse(site / FACTS).find(id="h100-sxm.memory_bytes_per_s")
    links = [link["href"] for link in row.select("td:last-child a")]
    assert links == [
        "2-models.html",
        "3-frameworks.html",
        "6-processors.html",
        "7-memory.html",
        "../labs/2-models.html",
        "../labs/6-processors.html",
        "../labs/7-memory.html",
    ]


def test_every_source_is_listed_once(site):
    listed = parse(site / SOURCES).select(".sk-source-list li")
    assert [item["id"] for item in listed] == [f"s{n}" for n in range(1, len(sources()) + 1)]
    assert {item.a["href"] for item in listed} == {source.url for source in sources().values()}


def test_every_player_stands_in_each_of_its_layers(site):
    rows = [row["id"] for row in parse(site / PLAYERS).select("tr[data-layer]")]
    wanted = {f"{player.id}-{layer}" for player in players() for layer in player.layers}
    assert sorted(rows) == sorted(wanted)


def test_players_are_by_layer_and_alphabetical_in_a_group(site):
    sections = parse(site / PLAYERS).select(".sk-players-layer")
    assert [section["id"] for section in sections] == [
        f"players-{layer.name}" for layer in layers()
    ]
    for section in sections:
        for group in section.select("tbody"):
            names = [row.th.find(string=True) for row in group.select("tr[data-layer]")]
            assert names == sorted(names, key=str.casefold)


def test_a_chapter_shows_its_layer_s_players_without_controls(site):
    chapter = parse(site / "chapters/7-memory.html")
    rows = [row["id"] for row in chapter.select(".sk-still tr[data-layer]")]
    assert rows == [f"{player.id}-memory" for player in players("memory")]
    assert not chapter.select(".sk-still form")
    assert "finder.js" not in (site / "chapters/7-memory.html").read_text(encoding="utf-8")


def test_other_pages_do_not_load_the_script(site):
    assert "finder.js" in (site / FACTS).read_text(encoding="utf-8")
    assert "finder.js" not in (site / "chapters/glossary.html").read_text(encoding="utf-8")


# With the script, by keyboard


@pytest.fixture
def today():
    """The day that the page believes it is: a test may ask for another."""
    return date.today()


@pytest.fixture
def page(tabs, served, today, request):
    """The facts page, or the one that the test asks for: wide, light, late on ``today``."""
    tabs["light"].page.clock.set_fixed_time(datetime.combine(today, time(23, 30)))
    return tabs["light"].open(served + getattr(request, "param", FACTS))


def column(page, head: str) -> list[str]:
    """The texts of the rows that are shown, one column of them."""
    cells = page.locator(f"{SHOWN} > :nth-child({COLUMN[head] + 1})")
    return [re.sub(r"\s+", " ", text).strip() for text in cells.all_inner_texts()]


def sort_by(page, head: str) -> None:
    """Tab to a heading's button and press Enter."""
    page.get_by_role("button", name=head, exact=True).focus()
    page.keyboard.press("Enter")


def said(page) -> str:
    return page.locator("output[name=count]").inner_text()


@pytest.mark.browser
def test_a_search_shows_the_rows_that_have_every_word(page):
    page.get_by_label("Find", exact=True).focus()
    page.keyboard.type("H100-SXM bus")
    found = page.locator(SHOWN).evaluate_all("rows => rows.map(row => row.id)")
    assert "h100-sxm.memory_bus_bits" in found
    assert len(found) < 10
    assert said(page) == f"{len(found)} of {len(on_page_of_facts())} facts"


@pytest.mark.browser
def test_a_search_for_nothing_that_is_there_says_so(page):
    page.get_by_label("Find", exact=True).fill("no such thing")
    assert said(page) == f"0 of {len(on_page_of_facts())} facts"
    assert page.locator(SHOWN).count() == 0


@pytest.mark.browser
def test_a_layer_is_chosen_by_keyboard(page):
    page.locator("select[name=layer]").focus()
    page.keyboard.type("7")  # its options begin with the layer's number
    expected = sum(layer_of(name) == "memory" for name in on_page_of_facts())
    assert page.locator(SHOWN).count() == expected
    assert said(page).startswith(f"{expected} of ")


@pytest.mark.browser
def test_an_age_shows_what_is_older(page, today):
    page.locator("select[name=age]").select_option("730")
    shown = on_page_of_facts()
    old = [name for name, fact in shown.items() if fact.age_days(today) > 730]
    assert page.locator(SHOWN).count() == len(old)
    assert 0 < len(old) < len(shown)


@pytest.mark.browser
def test_a_heading_sorts_upward_and_then_downward(page):
    unsorted = column(page, "As of")
    sort_by(page, "As of")
    head = page.locator("th", has_text="As of")
    assert head.get_attribute("aria-sort") == "ascending"
    dates = [text.split(" ")[0] for text in column(page, "As of")]
    assert dates == sorted(dates) != unsorted
    sort_by(page, "As of")
    assert head.get_attribute("aria-sort") == "descending"
    assert [text.split(" ")[0] for text in column(page, "As of")] == dates[::-1]


@pytest.mark.browser
def test_only_one_heading_says_that_it_sorts(page):
    sort_by(page, "As of")
    sort_by(page, "Kind")
    assert page.locator("th[aria-sort]").all_inner_texts() == ["Kind"]


@pytest.mark.browser
def test_values_sort_by_size_within_a_unit(page):
    """819 GB/s before 3.35 TB/s, which as text would come first."""
    page.get_by_label("Find", exact=True).fill("memory bandwidth")
    sort_by(page, "Value")
    names = page.locator(SHOWN).evaluate_all("rows => rows.map(row => row.id)")
    values = [facts()[name].value for name in names if facts()[name].unit == "B/s"]
    assert len(values) > 5
    assert values == sorted(values)


@pytest.mark.browser
@pytest.mark.parametrize("today", [date(2026, 11, 27), date(2026, 11, 28), date(2028, 2, 29)])
def test_an_old_price_is_flagged_and_nothing_else_is(page, today):
    """On 27 November 2026 what was true in May is 180 days old, and the next day it is too old."""
    flagged = page.locator("tr[data-layer]:has(.sk-old)").evaluate_all(
        "rows => rows.map(row => row.id)"
    )
    assert set(flagged) == set(evidence.old_prices(today=today)) & set(on_page_of_facts())


@pytest.mark.browser
@pytest.mark.parametrize("page", [FACTS + "?words=h100-sxm&layer=7"], indirect=True)
def test_a_link_can_ask_for_a_view(page):
    assert page.get_by_label("Find", exact=True).input_value() == "h100-sxm"
    assert 0 < page.locator(SHOWN).count() < 40


@pytest.mark.browser
@pytest.mark.parametrize("page", [PLAYERS], indirect=True)
def test_a_search_for_a_player_hides_groups_and_layers_without_one(page):
    page.get_by_label("Find", exact=True).fill("cerebras")
    assert page.locator(SHOWN).count() >= 1
    assert page.locator(".sk-group:visible").count() == page.locator("tbody:visible").count()
    assert 1 <= page.locator(".sk-players-layer:visible").count() < len(layers())


@pytest.mark.browser
def test_without_javascript_every_row_is_there_and_no_dead_control(chromium, served):
    tab = Tab(chromium, "light", java_script_enabled=False)
    page = tab.open(served + FACTS)
    assert page.locator(SHOWN).count() == len(on_page_of_facts())
    assert not page.locator(".sk-controls").is_visible()
    tab.close()


SPEEDS = "chapters/speeds.html"
SHOWN_SPEEDS = "tr[data-model]:not([hidden])"


@pytest.mark.browser
@pytest.mark.parametrize("page", [SPEEDS], indirect=True)
def test_speeds_begin_with_one_model_and_show_another_when_asked(page):
    assert page.locator(SHOWN_SPEEDS).count() == len(accelerators())
    page.locator("select[name=model]").select_option(label="Llama 3.1 70B")
    shown = page.locator(SHOWN_SPEEDS).evaluate_all("rows => rows.map(row => row.dataset.model)")
    assert set(shown) == {"llama-3.1-70b"}


@pytest.mark.browser
@pytest.mark.parametrize("page", [SPEEDS], indirect=True)
def test_speeds_sort_by_size_through_thousands_and_millions(page):
    sort_by(page, "All of them (token/s)")
    texts = page.locator(SHOWN_SPEEDS + " td:last-child").all_inner_texts()
    firsts = [
        float(re.sub(r"[^\d.]", "", text.split(" to ")[0])) * (1e6 if "million" in text else 1)
        for text in texts
    ]
    assert firsts == sorted(firsts)
    assert firsts[0] < 1000 < 1e6 < firsts[-1]
