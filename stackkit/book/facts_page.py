"""The pages of all facts, and of the documents in which they were read.

Rows are terse, so that a phone loads many hundred of them at once: a source is written once, on the
page of sources, and cited by its number.
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

from stackkit.atlas.layers import layer
from stackkit.atlas.load import UNIT_IN_NAME, facts, layer_of, sources, things
from stackkit.book.finder import cells_of, html, link, opening, table
from stackkit.book.uses import pages, pages_by_fact
from stackkit.core.fact import Fact, Source
from stackkit.core.units import si

_UNIT_AS_WORD = {  # what a unit in a name says beside a value that carries the unit; mostly nothing
    "flops_per_s": "FLOP/s",
    "ops_per_s": "OP/s",
    "bits_per_s": "rate",
    "bytes_per_s": "bandwidth",
    "tokens_per_s": "rate",
    "seconds_per_token": "time per token",
    "usd_per_million_tokens": "price",
    "usd_per_kilowatt_hour": "price",
    "usd_per_hour": "price",
    "usd": "price",
    "kg_co2_per_kilowatt_hour": "carbon intensity",
    "bits": "width",
    "flop": "FLOP",
    "hours": "hours",
}
_CAPITALS = ("TDP", "FMA", "GPU", "GPUs", "KV", "SRAM", "DRAM", "MMLU", "GPT3", "GPT4", "CO2")
_INITIALS = {word.lower(): word for word in _CAPITALS}

# What the argument of a facts-table can be: pages enough that a phone loads each at once.
_SHOWN = {
    "": lambda kind, layer: kind != "records",
    "records of software": lambda kind, layer: kind == "records" and layer <= 4,
    "records of hardware": lambda kind, layer: kind == "records" and layer > 4,
}

HEADS = ("Of what", "Quantity", "Value", "Kind", "As of", "Source", "Used in")


class FactsTable(SphinxDirective):
    """``{facts-table} records of software``, or of hardware: what others measured; without an
    argument, all other facts."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        argument = self.arguments[0] if self.arguments else ""
        if argument not in _SHOWN:
            arguments = " or ".join(filter(None, _SHOWN))
            return [
                self.state_machine.reporter.error(
                    f"A facts-table shows {arguments}, or without an argument the rest; "
                    f"got {argument!r}.",
                    line=self.lineno,
                )
            ]
        shows = _SHOWN[argument]
        root = Path(self.env.srcdir)
        for path in pages(root).values():  # a page that begins to use a fact changes this page
            self.env.note_dependency(str(path))
        used = pages_by_fact(root)
        numbers = {source.url: number for number, source in enumerate(cited(), 1)}
        ranks = {name: rank for rank, name in enumerate(by_unit_and_value())}
        rows = (
            _row(name, fact, ranks[name], numbers, self._links(used.get(name, ())))
            for name, fact in facts().items()
            if shows(things()[name.rpartition(".")[0]].kind, layer(layer_of(name)).number)
        )
        noun = "records" if argument else "facts"
        return [html(opening(noun, by_age=True), table("sk-facts", HEADS, rows), "</div>")]

    def _links(self, found: Iterable[str]) -> str:
        """Links to the pages that use a fact: ``7 lab 7``."""
        here = posixpath.dirname(self.env.docname)
        links = []
        for page in found:
            folder, _, name = page.partition("/")
            label = name.partition("-")[0] if name[:1].isdigit() else name
            where = f"lab {label}" if folder == "labs" else label
            links.append(f'<a href="{posixpath.relpath(page, here)}.html">{where}</a>')
        return " ".join(links)


class SourceList(SphinxDirective):
    """All documents, under the numbers by which the page of facts cites them."""

    def run(self) -> list[nodes.Node]:
        items = (_source_item(number, source) for number, source in enumerate(cited(), 1))
        return [html('<ol class="sk-source-list">', *items, "</ol>")]


def cited() -> list[Fact | Source]:
    """Every document once: those of the facts in the order of first use, then the others."""
    found: dict[str, Fact | Source] = {}
    for fact in facts().values():
        for source in _sources(fact):
            found.setdefault(source.url, source)
    for source in sources().values():
        found.setdefault(source.url, source)
    return list(found.values())


def by_unit_and_value() -> list[str]:
    """Names of the facts as the column of values sorts them."""
    return sorted(facts(), key=lambda name: (facts()[name].unit, facts()[name].value))


def _sources(fact: Fact) -> list[Fact | Source]:
    """A fact is its own first source: it carries title, address and dates."""
    return [fact, *fact.witnesses, *fact.others, *fact.history]


def _row(name: str, fact: Fact, rank: int, numbers: dict[str, int], links: str) -> str:
    thing, _, quantity = name.rpartition(".")
    cites = dict.fromkeys(numbers[source.url] for source in _sources(fact))
    kind = fact.kind
    if fact.kind != "estimate":
        kind += f" <small>{fact.evidence.removesuffix(' source')}</small>"
    cells = (
        _label(quantity) + _remarks(fact),
        f"{fact}{_interval(fact)}",
        kind,
        fact.as_of,
        " ".join(f'<a href="sources.html#s{number}">{number}</a>' for number in cites),
        links,
    )
    data = f'data-layer="{layer(layer_of(name)).number}" data-rank="{rank}"'
    price = " data-price" if fact.unit.startswith("USD") else ""
    return f'<tr id="{name}" {data}{price}>{cells_of(things()[thing].entry["name"], *cells)}</tr>'


def _label(quantity: str) -> str:
    """``"memory bandwidth"`` for ``memory_bytes_per_s``: the value beside it carries the unit."""
    for part in UNIT_IN_NAME:
        word = _UNIT_AS_WORD.get(part, "")
        label, found = re.subn(rf"(^|_){part}(_|$)", rf"\1{word}\2", quantity)
        if found:
            break
    return " ".join(_INITIALS.get(word, word) for word in label.replace("_", " ").split())


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
    app.add_directive("source-list", SourceList)
