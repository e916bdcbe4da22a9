"""Search, filters and sorting for the book's long tables, which can be read without a script too.

``finder.js`` reveals the controls and serves them; a page without a finder does not load it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from stackkit.atlas.evidence import OLD_PRICE_DAYS
from stackkit.atlas.layers import layers

_AGES = {0: "any", OLD_PRICE_DAYS: f"over {OLD_PRICE_DAYS} days", 730: "over two years"}


def opening(
    noun: str, *, by_age: bool = False, rows: str = "", models: dict[str, str] | None = None
) -> str:
    """Begins a finder: the controls, hidden until the script runs.

    Args:
        noun: what it finds, for example ``"facts"``.
        by_age: whether rows can be filtered by the age of their facts.
        rows: what a row counts as, where one thing can have several.
        models: id -> name of the models to choose from, the first one chosen; rows then carry
            ``data-model``. Without them the choice is a layer, and rows carry ``data-layer``.
    """
    if models:
        choice = _choice("Model", "model", models | {"": "all"})
    else:
        numbered = {layer.number: f"{layer.number} {layer.title}" for layer in layers()}
        choice = _choice("Layer", "layer", {"": "all"} | numbered)
    return (
        f'<div class="sk-finder" data-noun="{rows or noun}" data-old-days="{OLD_PRICE_DAYS}">'
        f'<form class="sk-controls" role="search" aria-label="{noun.capitalize()}" hidden>'
        '<label>Find <input type="search" name="words" autocomplete="off"></label>'
        + choice
        + (_choice("Age", "age", _AGES) if by_age else "")
        + '<output name="count" aria-live="polite"></output></form>'
    )


def _choice(label: str, name: str, options: dict[Any, str]) -> str:
    choices = "".join(
        f'<option value="{value}">{escape(text)}</option>' for value, text in options.items()
    )
    return f'<label>{label} <select name="{name}">{choices}</select></label>'


def html(*parts: str) -> nodes.raw:
    """Markup as a node; other builders leave it out."""
    return nodes.raw("", "".join(parts), format="html")


def table(style: str, heads: Iterable[str], rows: Iterable[str]) -> str:
    """A table; rows come as markup, in one body or with the bodies that they bring."""
    head = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(rows)
    body = body if body.startswith("<tbody>") else f"<tbody>{body}</tbody>"
    return f'<table class="{style}"><thead><tr>{head}</tr></thead>{body}</table>'


def cells_of(name: str, *cells: str) -> str:
    """A row's cells: its name as plain text, the others as markup."""
    return (
        f'<th scope="row">{escape(name, quote=False)}</th><td>' + "</td><td>".join(cells) + "</td>"
    )


def link(url: str, text: str) -> str:
    """A link out of the book, or the text alone where the address is not known."""
    text = escape(text, quote=False)
    return f'<a href="{escape(url)}">{text}</a>' if url.startswith("http") else text


def add_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if 'class="sk-finder"' in context.get("body", ""):
        app.add_js_file("finder.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", add_script)
