"""The page of all facts: what, how much, on what it rests, and which pages use it.

Rows are terse, so that a phone loads many hundred of them at once: a source is written once, in
the list below the table, and cited by its number.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from stackkit.atlas.load import UNIT_IN_NAME, facts, layer_of, things
from stackkit.book.finder import cells_of, html, link, opening, table
from stackkit.book.uses import pages, pages_by_fact
from stackkit.core.fact import Fact, Source
from stackkit.core.units import si

HEADS = ("Of what", "Quantity", "Value", "Kind", "As of", "Source", "Used in")


class FactsTable(SphinxDirective):
    """All facts, one a row, and the list of their sources."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        for path in pages(root).values():  # a page that begins to use a fact changes this page
            self.env.note_dependency(str(path))
        used = pages_by_fact(root)
        cited: dict[str, Fact | Source] = {}  # by address, in the order of first use
        for fact in facts().values():
            for source in _sources(fact):
                cited.setdefault(source.url, source)
        numbers = {url: number for number, url in enumerate(cited, 1)}
        rows = (
            _row(name, fact, numbers, self._links(used.get(name, ())))
            for name, fact in facts().items()
        )
        section = nodes.section(ids=["sources"], names=["sources"])
        section += nodes.title("", "Sources")
        items = (_source_item(number, cited[url]) for url, number in numbers.items())
        section += html('<ol class="sk-source-list">', *items, "</ol>")
        return [
            html(opening("facts", by_age=True), table("sk-facts", HEADS, rows), "</div>"),
            section,
        ]

    def _links(self, found: Iterable[str]) -> str:
        """Links to the pages that use a fact: ``7, lab 7``."""
        here = posixpath.dirname(self.env.docname)
        links = []
        for page in found:
            folder, _, name = page.partition("/")
            label = name.partition("-")[0] if name[:1].isdigit() else name
            where = f"lab {label}" if folder == "labs" else label
            links.append(f'<a href="{posixpath.relpath(page, here)}.html">{where}</a>')
        return ", ".join(links)


def _sources(fact: Fact) -> list[Fact | Source]:
    """A fact is its own first source: it carries title, address and dates."""
    return [fact, *fact.witnesses, *fact.others, *fact.history]


def _row(name: str, fact: Fact, numbers: dict[str, int], links: str) -> str:
    thing, _, quantity = name.rpartition(".")
    cites = dict.fromkeys(numbers[source.url] for source in _sources(fact))
    rests_on = "" if fact.kind == "estimate" else fact.evidence.removesuffix(" source")
    cells = (
        _label(quantity) + _remarks(fact),
        f"{fact}{_interval(fact)}",
        f"{fact.kind} <small>{rests_on}</small>",
        fact.as_of,
        " ".join(f'<a href="#s{number}">{number}</a>' for number in cites),
        links,
    )
    price = " data-price" if fact.unit.startswith("USD") else ""
    data = f'data-layer="{layer_of(name)}" data-value="{fact.value:g}" data-unit="{fact.unit}"'
    return f'<tr id="{name}" {data}{price}>{cells_of(things()[thing].entry["name"], *cells)}</tr>'


def _label(quantity: str) -> str:
    """``"memory B/s"`` for ``memory_bytes_per_s``: its name, the unit as a symbol."""
    for part, unit in UNIT_IN_NAME.items():
        label, found = re.subn(rf"(^|_){part}(_|$)", rf"\1{unit}\2", quantity)
        if found:
            return label.replace("_", " ")
    return quantity.replace("_", " ")


def _interval(fact: Fact) -> str:
    if fact.low is None and fact.high is None:
        return ""
    low, high = (fact.value if end is None else end for end in (fact.low, fact.high))
    return f" <small>{si(low, fact.unit)} to {si(high, fact.unit)}</small>"


def _remarks(fact: Fact) -> str:
    """What the figure counts, conflicting values and older ones, below the quantity's name."""
    parts = [fact.note]
    parts += [f"Also in print: {other}. {other.note}" for other in fact.others]
    parts += [fact.why]
    parts += [f"Was {was} in {was.as_of}. {was.note}" for was in fact.history]
    text = " ".join(_sentence(part) for part in parts if part.strip())
    return f"<p>{escape(text, quote=False)}</p>" if text else ""


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _source_item(number: int, source: Fact | Source) -> str:
    title = source.title if isinstance(source, Source) else source.source
    dates = f"{source.as_of}; seen {source.seen_on}; {source.standing}"
    return f'<li id="s{number}">{link(source.url, title)}, {dates}</li>'


def setup(app: Sphinx) -> None:
    app.add_directive("facts-table", FactsTable)
