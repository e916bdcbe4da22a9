"""The stack in pictures and tables: eight layers, one colour each, linked once written."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from docutils.parsers.rst import DirectiveError
from docutils.utils import Reporter

from stackkit.atlas import layer, layers
from stackkit.book.stack import (
    StackGlance,
    StackMaps,
    StackPicture,
    StackStrip,
    chapter_of,
    layer_colours_css,
)


def directive(kind, *written, arguments=()):
    """A directive of a book in which these chapters are written; it returns its Markdown."""
    made = object.__new__(kind)
    environment = SimpleNamespace(
        found_docs=set(written), docname="chapters/7-memory", metadata={"chapters/7-memory": {}}
    )
    document = SimpleNamespace(settings=SimpleNamespace(env=environment))
    made.arguments = list(arguments)
    made.lineno = 1
    made.state = SimpleNamespace(document=document)
    made.state_machine = SimpleNamespace(reporter=Reporter("page.md", 5, 5, stream=False))
    made.parse_text_to_nodes = lambda text: text
    return made


@pytest.mark.parametrize("kind", [StackPicture, StackGlance])
def test_a_layer_is_linked_once_its_chapter_is_written(kind):
    markdown = directive(kind, "chapters/7-memory").run()
    assert "[High-speed memory and interconnect](/chapters/7-memory.md)" in markdown


@pytest.mark.parametrize("kind", [StackPicture, StackGlance])
def test_a_layer_without_a_chapter_is_plain_text(kind):
    markdown = directive(kind, "chapters/7-memory").run()
    assert re.findall(r"\]\((.*?)\)", markdown) == ["/chapters/7-memory.md"]


@pytest.mark.parametrize("kind", [StackPicture, StackGlance, StackMaps])
def test_a_picture_or_table_shows_every_layer_from_the_top(kind):
    markdown = directive(kind).run()
    places = [markdown.index(shown.title) for shown in layers()]
    assert places == sorted(places)


@pytest.mark.parametrize("kind", [StackGlance, StackMaps])
def test_a_table_has_as_many_cells_in_each_row(kind):
    rows = [line for line in directive(kind).run().split("\n") if line.startswith("|")]
    assert len(rows) == 2 + len(layers())
    assert len({row.count("|") for row in rows}) == 1


def strip(*written):
    opening, items, closing = directive(StackStrip, *written, arguments=["memory"]).run()
    assert opening.astext().startswith("<nav")
    assert closing.astext() == "</nav>"
    return items


def links(items) -> list[str]:
    return [node["reftarget"] for node in items.findall(lambda n: n.tagname == "pending_xref")]


def test_a_strip_has_every_layer_and_lights_its_own():
    items = strip()
    assert len(items) == len(layers())
    lit = [item.astext() for item in items if "sk-here" in item["classes"]]
    assert lit == ["7 High-speed memory and interconnect"]


def test_a_strip_links_the_other_chapters_that_are_written():
    assert links(strip("chapters/7-memory", "chapters/8-fabrication")) == [
        "/chapters/8-fabrication"
    ]


def test_a_strip_without_other_chapters_links_none():
    assert links(strip("chapters/7-memory")) == []


def test_a_strip_says_where_in_the_stack_it_is():
    [opening, *_] = directive(StackStrip, arguments=["memory"]).run()
    assert "Layer 7 of 8, counted from the top of the stack" in opening.astext()


def test_a_strip_of_an_unknown_layer_is_an_error_on_its_line_and_not_a_crash():
    try:
        said = directive(StackStrip, arguments=["nonesuch"]).run()[0].astext()
    except DirectiveError as error:
        said = error.msg
    assert "The atlas has no 'nonesuch' among its layers" in said


def test_a_chapter_is_named_after_its_layer():
    assert chapter_of(layer("memory")) == "chapters/7-memory"


# Colours


def colours() -> list[tuple[str, str]]:
    return re.findall(r"^(\S.*?) \{ --sk-layer: (\S+); \}$", layer_colours_css(), re.MULTILINE)


def test_every_rule_of_the_style_sheet_sets_one_colour():
    assert len(colours()) == len(layer_colours_css().splitlines()) == 2 * len(layers())


def test_a_layer_has_one_colour_wherever_it_is_shown():
    found = dict(colours())
    for shown in layers():
        assert found[f".sk-layer-{shown.name}"] == shown.colour
        assert found[f".sk-strip > li:nth-child({shown.number})"] == shown.colour


def test_no_two_layers_share_a_colour():
    assert len({colour for _, colour in colours()}) == len(layers())
