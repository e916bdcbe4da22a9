"""Numbers in prose that nobody typed: the roles ``fact``, ``calc`` and ``given``.

    {fact}`h100-sxm.memory_bytes_per_s`      3.35 TB/s, from the atlas
    {calc}`h100.ridge_point ; .0f`           computed when the page is built
    {given}`32 requests`                     an example's input, chosen by the author

A ``define`` block holds the names that a page's ``calc`` roles use. Each fact and each computed
value is a link to the page's own list of sources, which is also its tooltip and, on paper, its
footnote.
"""

from __future__ import annotations

import ast
import calendar
import math
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from stackkit import atlas, frameworks, memory, models, processors
from stackkit.atlas import evidence
from stackkit.core import units
from stackkit.core.fact import Fact


class NumberNode(nodes.Inline, nodes.TextElement):
    """A printed number; ``provenance`` says where it comes from, ``index`` is its footnote."""


def vocabulary() -> dict[str, Any]:
    """What ``calc`` and ``define`` may use: the atlas, the layers' public names, units, math."""
    layers = {"frameworks": frameworks, "memory": memory, "models": models}
    layers |= {"processors": processors}
    names: dict[str, Any] = {"atlas": atlas, "evidence": evidence, "units": units, "math": math}
    names |= layers
    for module in (atlas, *layers.values()):
        # What a layer imports only when asked for holds tensors; a page computes with none.
        ready = (name for name in module.__all__ if name in vars(module) and name not in layers)
        names |= {name: getattr(module, name) for name in ready}
    return names


def render(expression: str, names: dict[str, Any]) -> str:
    """Evaluate ``expression ; format`` and print it.

    The format is a unit that ``si`` knows (``; B/s``, not TB/s), a unit with a number of digits
    (``; B/s 2``), or Python's own (``; .0f``, ``; ,.0f``).
    """
    code, _, form = (part.strip() for part in expression.partition(";"))
    value = eval(code, names)  # the book's own text, run when we build it
    unit, _, digits = form.partition(" ")
    if unit[1:] in units.PREFIXED_UNITS and unit not in units.PREFIXED_UNITS:
        raise ValueError(f"{unit} has a prefix; write {unit[1:]}, the prefix is chosen to suit.")
    if form.startswith((".", ",")):
        return format(value, form)
    return units.si(value, unit, int(digits or 3)) if form else units.si(value)


def definitions_behind(code: str, sources: dict[str, str]) -> list[str]:
    """The ``define`` lines that an expression rests on, in the order they were written."""
    wanted = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    behind: list[str] = []
    for name, line in reversed(list(sources.items())):
        if name in wanted:
            if line not in behind:  # a, b = ... defines two names
                behind.insert(0, line)
            wanted |= {n.id for n in ast.walk(ast.parse(line)) if isinstance(n, ast.Name)}
    return behind


class FactRole(SphinxRole):
    """``{fact}`thing.quantity``` or ``{fact}`thing.quantity ; 2``` for two significant digits."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        name, _, digits = (part.strip() for part in self.text.partition(";"))
        try:
            fact = atlas.fact(name)
            text = units.si(fact.value, fact.unit, int(digits or 3)) + month(fact)
        except ValueError as error:
            return [], [self.inliner.reporter.error(str(error), line=self.lineno)]
        return [NumberNode("", text, provenance=fact.provenance(), url=fact.url)], []


def month(fact: Fact) -> str:
    """`` (June 2025)`` behind a price, which is true of its month only; else nothing."""
    if not fact.unit.startswith("USD"):
        return ""
    year, number = (fact.as_of + "-00").split("-")[:2]
    return f" ({calendar.month_name[int(number)]} {year})".replace("( ", "(")


class CalcRole(SphinxRole):
    """``{calc}`expression ; format```: a value modelled by the library from facts."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        page = _page(self.env)
        try:
            text = render(self.text, page["names"])
        except Exception as error:  # whatever the page's expression raises is the author's to see
            message = f"calc `{self.text}`: {type(error).__name__}: {error}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        code = self.text.partition(";")[0].strip()
        lines = [*definitions_behind(code, page["sources"]), code]
        return [NumberNode("", text, provenance="modelled: " + "; ".join(lines), url="")], []


class GivenRole(SphinxRole):
    """``{given}`32 requests```: an input that the author chose, marked as such."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        return [nodes.inline("", self.text, classes=["sk-given"])], []


class DefineDirective(SphinxDirective):
    """Names for the page's ``calc`` roles, as Python assignments; prints nothing."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        page = _page(self.env)
        code = "\n".join(self.content)
        try:
            exec(code, page["names"])  # the book's own text, run when we build it
        except Exception as error:
            message = f"define: {type(error).__name__}: {error}"
            return [self.state_machine.reporter.error(message, line=self.lineno)]
        for statement in ast.parse(code).body:
            if isinstance(statement, ast.Assign):
                names = [n.id for t in statement.targets for n in ast.walk(t) if _is_stored(n)]
                page["sources"] |= dict.fromkeys(names, ast.unparse(statement))
        return []


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _page(env: Any) -> dict[str, Any]:
    """The names that live while one page is read."""
    if "stackkit" not in env.temp_data:
        env.temp_data["stackkit"] = {"names": vocabulary(), "sources": {}}
    return env.temp_data["stackkit"]


def list_sources(app: Sphinx, doctree: nodes.document) -> None:
    """Number the page's numbers and end it with their sources."""
    footnotes: dict[str, tuple[int, str]] = {}
    for node in doctree.findall(NumberNode):
        index, _ = footnotes.setdefault(node["provenance"], (len(footnotes) + 1, node["url"]))
        node["index"] = index
    if not footnotes:
        return
    items = "".join(
        f'<li id="number-source-{index}">{escape(provenance)}{_link(url)}</li>'
        for provenance, (index, url) in footnotes.items()
    )
    html = (
        '<details class="sk-sources"><summary>Where the numbers on this page come from</summary>'
        f"<ol>{items}</ol></details>"
    )
    sections = [node for node in doctree.children if isinstance(node, nodes.section)]
    (sections[-1] if sections else doctree).append(nodes.raw("", html, format="html"))


def _link(url: str) -> str:
    return f' <a class="reference external" href="{escape(url)}">Source</a>' if url else ""


def visit_number_html(self: Any, node: NumberNode) -> None:
    if "index" not in node:  # copied with its heading into a table of contents
        return
    index = node["index"]
    self.body.append(
        f'<a class="sk-number" href="#number-source-{index}" data-index="{index}" '
        f'data-tip="{escape(node["provenance"])}" aria-describedby="number-source-{index}">'
    )


def depart_number_html(self: Any, node: NumberNode) -> None:
    if "index" in node:
        self.body.append("</a>")


def _skip(self: Any, node: NumberNode) -> None:
    """Other builders print the number alone."""


def setup(app: Sphinx) -> None:
    app.add_node(
        NumberNode,
        html=(visit_number_html, depart_number_html),
        latex=(_skip, _skip),
        text=(_skip, _skip),
    )
    app.add_role("fact", FactRole())
    app.add_role("calc", CalcRole())
    app.add_role("given", GivenRole())
    app.add_directive("define", DefineDirective)
    app.connect("doctree-read", list_sources)
