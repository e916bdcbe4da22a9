"""Assets that the book serves itself, and repairs of the theme.

plotly.js comes from the installed plotly package and MathJax from django-static-mathjax, so that
neither lies in our repository and no page asks another host. Each repair names the defect that it
mends and goes when the theme mends it.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from stackkit.book.stack import layer_colours_css

STATIC = Path(__file__).parent / "static"
MATHJAX_PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")

# Defects of pydata-sphinx-theme 0.17, myst-nb 1.4 and docutils 0.21 that axe reports: a control
# needs a name that contains its visible text (WCAG 2.5.3), all content lies in a landmark, and a
# list holds items (the role of a bibliography's entries is deprecated).
_REPAIRS = (
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
    (re.compile(r'(pst-js-only" title="Search") aria-label="Search"'), r"\1"),
    (re.compile(r'aria-label="Color mode"'), 'aria-label="System Settings Light Dark colour mode"'),
    (
        re.compile(r'<div class="sidebar-primary-item">(\s*<a class="navbar-brand logo")'),
        r'<div class="sidebar-primary-item" role="navigation" aria-label="Home">\1',
    ),
    (
        re.compile(r'<summary>(<span class="toctree-toggle")'),
        r'<summary aria-label="Pages below">\1',
    ),
    (re.compile(r'role="doc-biblioentry"'), 'role="listitem"'),
)


def add_static(app: Sphinx) -> None:
    app.config.html_static_path.append(str(STATIC))
    app.add_css_file("stackkit.css")
    app.add_css_file("stackkit-layers.css")
    app.add_js_file("stackkit.js", loading_method="defer")


def pages_to_write_again(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """One page when one of our assets changed: Sphinx copies none where no page is outdated."""
    built = Path(app.outdir, "_static")
    same = all(
        (built / path.name).exists() and (built / path.name).read_bytes() == path.read_bytes()
        for path in STATIC.iterdir()
    )
    return [] if same or app.config.root_doc in added else [app.config.root_doc]


def tidy_page(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Drop scripts and buttons that cannot work."""
    # sphinx-thebe 0.3 adds its inline script twice, thebe on or off: a syntax error on each page.
    context["script_files"][:] = [
        script
        for script in context["script_files"]
        if "sphinx-thebe" not in str(getattr(script, "filename", ""))
        and "THEBE_JS_URL" not in (getattr(script, "attributes", {}).get("body") or "")
    ]
    # Chapters are Markdown with a kernel; Colab, which the theme offers, opens notebooks only.
    if not page.startswith("labs/"):
        context["header_buttons"] = [
            button
            for button in context.get("header_buttons", [])
            if button.get("label") != "launch-buttons"
        ]


def finish(app: Sphinx, failure: Exception | None) -> None:
    """Copy the vendored scripts and mend the written pages."""
    if failure or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    (static / "stackkit-layers.css").write_text(layer_colours_css(), encoding="utf-8")
    vendor = static / "vendor"
    _copy(_inside("plotly", "package_data/plotly.min.js"), vendor / "plotly.min.js")
    for part in MATHJAX_PARTS:
        _copy(_inside("mathjax", f"static/mathjax/es5/{part}"), vendor / "mathjax" / part)
    for path in Path(app.outdir).rglob("*.html"):
        before = after = path.read_text(encoding="utf-8")
        for defect, repair in _REPAIRS:
            after = defect.sub(repair, after)
        if after != before:
            path.write_text(after, encoding="utf-8")


def _inside(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"The book needs the package that ships {package!r}: pip install 'stackkit[book]'."
        )
    return Path(spec.submodule_search_locations[0], path)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", add_static)
    app.connect("env-get-outdated", pages_to_write_again)
    app.connect("html-page-context", tidy_page, priority=900)  # after the theme made its buttons
    app.connect("build-finished", finish)
