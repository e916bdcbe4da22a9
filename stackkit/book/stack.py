"""The stack in pictures and tables, drawn from ``atlas/data/layers.toml``.

``stack-strip`` heads each chapter with its layer lit; ``stack-picture``, ``stack-glance`` and
``stack-maps`` make the landing page. A layer is linked once its chapter is written.
"""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from stackkit.atlas import Layer, layer, layers


class _StackDirective(SphinxDirective):
    """What the four directives share: links to chapters that exist, and parsed Markdown."""

    def linked(self, shown: Layer, text: str) -> str:
        """Markdown: a link to the layer's chapter, or plain text while there is none."""
        page = chapter_of(shown)
        return f"[{text}](/{page}.md)" if page in self.env.found_docs else text

    def markdown_table(
        self, heads: list[str], rows: list[list[str]], style: str = "sk-table"
    ) -> list[nodes.Node]:
        lines = [heads, ["---"] * len(heads), *rows]
        table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        return self.parse_text_to_nodes(f":::{{div}} {style}\n{table}\n:::")


def chapter_of(shown: Layer) -> str:
    """The document of a layer's chapter, for example ``chapters/7-memory``."""
    return f"chapters/{shown.number}-{shown.name}"


class StackStrip(_StackDirective):
    """The eight layers in one line, the named one lit: ``{stack-strip} memory``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        try:
            here = layer(self.arguments[0])
        except ValueError as error:
            raise self.error(str(error)) from None
        strip = nodes.enumerated_list(classes=["sk-strip"])
        for shown in layers():
            lit = shown == here
            item = nodes.list_item(classes=["sk-here"] if lit else [])
            label = nodes.paragraph()
            text = f"{shown.number} {shown.title}" if lit else str(shown.number)
            if lit or chapter_of(shown) not in self.env.found_docs:
                label += nodes.inline("", text)
            else:
                label += self._reference(shown, text)
            item += label
            strip += item
        said = f"Layer {here.number} of {len(layers())}, counted from the top of the stack"
        return [
            nodes.raw("", f'<nav class="sk-strip-nav" aria-label="{said}">', format="html"),
            strip,
            nodes.raw("", "</nav>", format="html"),
        ]

    def _reference(self, shown: Layer, text: str) -> nodes.Node:
        return addnodes.pending_xref(
            "",
            nodes.inline("", text, classes=["std", "std-doc"]),
            refdomain="std",
            reftype="doc",
            reftarget=f"/{chapter_of(shown)}",
            refexplicit=True,
            refwarn=True,
            refdoc=self.env.docname,
        )


class StackPicture(_StackDirective):
    """The eight layers as a stack of slabs, a prompt going in at the top."""

    def run(self) -> list[nodes.Node]:
        slabs = []
        for shown in layers():
            slabs += [
                f":::{{div}} sk-slab sk-layer-{shown.name}",
                f"**{shown.number} {self.linked(shown, shown.title)}**",
                "",
                shown.question,
                ":::",
            ]
        lines = [
            "::::{div} sk-stack",
            ":::{div} sk-end",
            "a prompt goes in ↓ ↑ a token comes out",
            ":::",
            *slabs,
            ":::{div} sk-end",
            "electrons",
            ":::",
            "::::",
        ]
        return self.parse_text_to_nodes("\n".join(lines))


class StackGlance(_StackDirective):
    """The stack at a glance: function, who, bottleneck, where value is captured."""

    def run(self) -> list[nodes.Node]:
        rows = [
            [
                f"{shown.number} {self.linked(shown, shown.title)}",
                shown.function,
                ", ".join(shown.who),
                shown.bottleneck,
                shown.value,
            ]
            for shown in layers()
        ]
        heads = [
            "Layer",
            "What it does",
            "Who, for example",
            "Bottleneck",
            "Where value is captured",
        ]
        return self.markdown_table(heads, rows, style="sk-glance")


class StackMaps(_StackDirective):
    """How the maps of six and of seven layers fit onto ours."""

    def run(self) -> list[nodes.Node]:
        rows = [[f"{shown.number} {shown.title}", shown.seven, shown.six] for shown in layers()]
        return self.markdown_table(
            ["Here", "Seven layers, top-down", "Six layers, bottom-up"], rows
        )


def layer_colours_css() -> str:
    """One colour a layer, as CSS custom properties and classes."""
    rules = [f".sk-layer-{shown.name} {{ --sk-layer: {shown.colour}; }}" for shown in layers()]
    strip = [
        f".sk-strip > li:nth-child({shown.number}) {{ --sk-layer: {shown.colour}; }}"
        for shown in layers()
    ]
    return "\n".join(rules + strip) + "\n"


def pages_to_read_again(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> set[str]:
    """Every page when a chapter comes or goes: strips and tables link the chapters there are."""
    return set(env.found_docs) - added if added or removed else set()


def setup(app: Sphinx) -> None:
    app.connect("env-get-outdated", pages_to_read_again)
    app.add_directive("stack-strip", StackStrip)
    app.add_directive("stack-picture", StackPicture)
    app.add_directive("stack-glance", StackGlance)
    app.add_directive("stack-maps", StackMaps)
