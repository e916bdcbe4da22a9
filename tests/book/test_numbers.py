"""Numbers in prose: how they are printed, what they may use, and what their tooltip says."""

from __future__ import annotations

import pkgutil
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document

import stackkit
from stackkit import atlas, memory
from stackkit.book import numbers
from stackkit.book.numbers import NumberNode, definitions_behind, list_sources, render, vocabulary
from stackkit.core.fact import Fact


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        ("3.35e12 ; B/s", "3.35 TB/s"),
        ("3.35e12 ; B/s 1", "3 TB/s"),
        ("2.039e12 ; B/s 4", "2.039 TB/s"),
        ("0.0045 ; s", "4.5 ms"),
        ("295.3 ; FLOP/B", "295 FLOP/B"),
        ("295.3 ; .0f", "295"),
        ("1234567.8 ; ,.0f", "1,234,568"),
        ("0.5 ; .0%", "50%"),
        ("8.03e9", "8.03 billion"),
        ("1024", "1,024"),
        (" 1 + 1 ", "2"),
        ("units.GIB / units.GIGA - 1 ; .1%", "7.4%"),
        ("math.sqrt(16) ; .0f", "4"),
        ("2 * x ; s", "4 s"),
    ],
)
def test_a_value_is_printed_as_its_format_says(expression, printed):
    assert render(expression, vocabulary() | {"x": 2.0}) == printed


def test_a_name_that_nobody_defined_is_an_error():
    with pytest.raises(NameError, match="nonesuch"):
        render("2 * nonesuch", vocabulary())


@pytest.mark.parametrize("layer", [atlas, memory], ids=lambda module: module.__name__)
def test_the_vocabulary_has_every_public_name_of_a_layer(layer):
    names = vocabulary()
    short = layer.__name__.rpartition(".")[2]
    assert names[short] is layer
    assert set(layer.__all__) - names.keys() == set()


def test_every_layer_that_is_written_is_in_the_vocabulary():
    layers = {package.name for package in pkgutil.iter_modules(stackkit.__path__) if package.ispkg}
    assert layers - {"core", "book"} <= vocabulary().keys()


def test_memory_is_the_layer_and_a_technology_is_asked_of_the_atlas():
    assert vocabulary()["memory"] is memory
    assert render('atlas.memory("hbm3").bus_bits ; bit', vocabulary()) == "1,024 bit"


def test_a_page_cannot_change_the_vocabulary_of_the_next():
    vocabulary()["accelerator"] = None
    assert vocabulary()["accelerator"] is atlas.accelerator


# What a computed number rests on

SOURCES = {
    "chip": "chip = accelerator('h100-sxm')",
    "roof": "roof = roofline_of(chip)",
    "other": "other = accelerator('a100-sxm-80gb')",
}


def test_a_number_rests_on_the_definitions_that_it_uses_in_their_order():
    assert definitions_behind("roof.ridge_point", SOURCES) == [SOURCES["chip"], SOURCES["roof"]]


def test_a_number_does_not_rest_on_what_it_does_not_use():
    assert definitions_behind("chip.tdp_w", SOURCES) == [SOURCES["chip"]]
    assert definitions_behind("1 + 1", SOURCES) == []


def test_an_attribute_is_not_taken_for_a_name():
    assert definitions_behind("other.chip", SOURCES) == [SOURCES["other"]]


@pytest.fixture
def page():
    """A page's names and sources after its ``define`` blocks were read."""
    env = SimpleNamespace(temp_data={})

    def define(code: str):
        directive = SimpleNamespace(env=env, content=code.split("\n"))
        assert numbers.DefineDirective.run(directive) == []
        return numbers._page(env)

    return define


def test_define_gives_a_page_names(page):
    assert page("x = 2\ny = x + 1")["names"]["y"] == 3


def test_define_remembers_each_line_under_its_name(page):
    assert page("x = 2\ny = x + 1")["sources"] == {"x": "x = 2", "y": "y = x + 1"}


def test_a_second_define_adds_to_the_first(page):
    page("x = 2")
    assert page("y = x + 1")["names"]["y"] == 3


def test_a_name_from_a_tuple_rests_on_its_line(page):
    line = "least_s, most_s = (1.0, 2.0)"
    sources = page(f"x = 1\n{line}")["sources"]
    assert definitions_behind("least_s", sources) == [line]
    assert definitions_behind("1 / most_s", sources) == [line]


def test_a_line_that_gives_two_names_is_told_once(page):
    line = "least_s, most_s = (1.0, 2.0)"
    assert definitions_behind("most_s - least_s", page(line)["sources"]) == [line]


# The list at the end of a page


def document(*found: NumberNode) -> nodes.document:
    """A page with one section and these numbers."""
    tree = new_document("page.md")
    tree += nodes.section("", nodes.paragraph("", "", *found))
    list_sources(None, tree)
    return tree


def number(provenance: str, url: str = "") -> NumberNode:
    return NumberNode("", "1 GB", provenance=provenance, url=url)


def source_list(tree: nodes.document) -> str:
    return "".join(node.astext() for node in tree.findall(nodes.raw))


def test_numbers_are_counted_from_one():
    tree = document(number("a"), number("b"))
    assert [node["index"] for node in tree.findall(NumberNode)] == [1, 2]


def test_two_numbers_of_one_source_share_an_entry():
    tree = document(number("a"), number("b"), number("a"))
    assert [node["index"] for node in tree.findall(NumberNode)] == [1, 2, 1]
    assert source_list(tree).count("<li") == 2


def test_a_page_without_numbers_gets_no_list():
    assert source_list(document()) == ""


def test_the_list_names_each_source_and_links_it():
    html = source_list(document(number("A datasheet, seen today", "https://example.org/a?b&c")))
    assert '<li id="number-source-1">A datasheet, seen today' in html
    assert 'href="https://example.org/a?b&amp;c"' in html


def test_a_computed_value_has_no_link():
    assert "<a " not in source_list(document(number("modelled: 1 < 2")))


def test_a_source_is_escaped_in_the_list():
    assert "modelled: 1 &lt; 2" in source_list(document(number("modelled: 1 < 2")))


def written(node: NumberNode) -> str:
    translator = SimpleNamespace(body=[])
    numbers.visit_number_html(translator, node)
    translator.body.append(node.astext())
    numbers.depart_number_html(translator, node)
    return "".join(translator.body)


def test_a_number_is_a_link_to_its_entry_with_a_tooltip():
    [node] = document(number('a "quoted" source')).findall(NumberNode)
    html = written(node)
    assert html.startswith('<a class="sk-number" href="#number-source-1"')
    assert 'data-tip="a &quot;quoted&quot; source"' in html
    assert html.endswith(">1 GB</a>")


def test_a_number_copied_into_a_table_of_contents_is_printed_plainly():
    """Sphinx copies headings before they are counted, and puts them into links of its own."""
    assert "<a " not in written(number("a"))


@pytest.mark.parametrize("unit", ["TB/s", "GB", "TFLOP/s", "ms"])
def test_a_unit_with_a_prefix_is_refused_with_the_one_to_write(unit):
    """``si`` would print it as it stands: 3,350,000,000,000 TB/s."""
    with pytest.raises(ValueError, match=f"{unit} has a prefix; write {unit[1:]},"):
        render(f"3.35e12 ; {unit}", vocabulary())


# Prices


@pytest.mark.parametrize(
    ("unit", "as_of", "behind"),
    [
        ("USD/h", "2025-06", " (June 2025)"),
        ("USD/Mtoken", "2023-03-14", " (March 2023)"),
        ("USD", "2020", " (2020)"),
        ("B/s", "2025-06", ""),
    ],
)
def test_a_price_prints_the_month_for_which_it_held(unit, as_of, behind):
    price = Fact(1.0, unit, "vendor-claim", "A list", "https://example.org", "2026-01-31", as_of)
    assert numbers.month(price) == behind
