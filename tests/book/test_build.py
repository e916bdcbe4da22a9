"""The build is strict, rebuilds what changed and nothing else, and stays failed until mended.

A build takes seconds, so three small books live through a history each, side by side, once for the
whole module; the tests ask what happened. Each book has its own copy of stackkit, first on
PYTHONPATH, so that a fact can be changed.
"""

from __future__ import annotations

import configparser
import copy
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from stackkit.book import REPOSITORY, build
from stackkit.book.freshness import inputs_key

ROOT = Path(__file__).parents[2]
ANSI = re.compile(r"\x1b\[[\d;]*m")

FRONT_MATTER = """\
---
file_format: mystnb
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""
INDEX = """\
# A tiny book

Read [the chapter](7-memory.md).

```{stack-glance}
```

```{bibliography}
```
"""
CHAPTER = f"""{FRONT_MATTER}
# A chapter

```{{stack-strip}} memory
```

```{{define}}
h100 = accelerator("h100-sxm")
```

Prose says {{fact}}`h100-sxm.memory_bytes_per_s` {{cite}}`williams2009roofline`; one terabyte takes
{{calc}}`units.TERA / h100.memory_bytes_per_s ; s`.

```{{code-cell}} python
from stackkit.atlas import accelerator
print("the cell says", accelerator("h100-sxm").memory_bytes_per_s / 1e12)
```
"""
NEW_CHAPTER = """\
# A new chapter

```{stack-strip} fabrication
```
"""
# What is wrong with a page, and what the author must read of it: noticed when the page is read,
# when its cells run, and when it is written.
BROKEN = {
    "fact": (
        "# One\n\nIt is {fact}`h100-sxm.nonesuch`.\n",
        "fact.md:3: ERROR: The atlas has no fact 'h100-sxm.nonesuch'",
    ),
    "cell": (
        f"{FRONT_MATTER}\n# Two\n\n```{{code-cell}} python\nraise ValueError('a bad cell')\n```\n",
        "ValueError: a bad cell",
    ),
    "reference": (
        "# Three\n\nSee {ref}`no-such-place`.\n",
        "reference.md:3: WARNING: undefined label: 'no-such-place'",
    ),
}
# One page each, all in one build.
FAULTS = {
    "document": ("See [that](no-such-page.md).", "'myst' cross-reference target not found"),
    "citation": ("See {cite}`nobody2099`.", 'could not find bibtex key "nobody2099"'),
    "image": ("![alt](no-such-image.png)", "image file not readable: chapters/no-such-image.png"),
    "calc": ("It is {calc}`1 / 0`.", "calc `1 / 0`: ZeroDivisionError: division by zero"),
    "define": ("```{define}\nchip = accelerator('nonesuch')\n```", "define: ValueError"),
    "role": ("It is {fcat}`h100-sxm.tdp_w`.", 'Unknown interpreted text role "fcat"'),
}


@dataclass
class Run:
    """What one build did: its exit status, what it said, and the pages it left."""

    status: int
    said: str
    html: dict[str, str]  # page -> text
    written: dict[str, int]  # page -> time it was written, in ns
    style: str = ""  # our style sheet as the site has it


class Book:
    """A small book in a folder of its own."""

    def __init__(self, root: Path, chapters: dict[str, str]) -> None:
        self.root = root
        self.chapters = dict(chapters)
        (root / "chapters").mkdir(parents=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "stackkit", root / "stackkit", ignore=ignore)
        shutil.copy(ROOT / "_config.yml", root)
        shutil.copy(ROOT / "chapters" / "references.bib", root / "chapters")
        for name, text in chapters.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """Write a chapter and the table of contents."""
        self.chapters[name] = text
        (self.root / "chapters" / f"{name}.md").write_text(text, encoding="utf-8")
        toc = "".join(f"  - file: chapters/{name}\n" for name in self.chapters if name != "index")
        contents = f"format: jb-book\nroot: chapters/index\nchapters:\n{toc}"
        (self.root / "_toc.yml").write_text(contents, encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def build(self) -> Run:
        """What `make book` runs, in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "stackkit.book.build", str(self.root)],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        site = self.root / "_build" / "html"
        found = {path.relative_to(site).as_posix(): path for path in site.glob("chapters/*.html")}
        style = site / "_static" / "stackkit.css"
        return Run(
            done.returncode,
            ANSI.sub("", done.stdout + done.stderr),
            {page: path.read_text(encoding="utf-8") for page, path in found.items()},
            {page: path.stat().st_mtime_ns for page, path in found.items()},
            style.read_text(encoding="utf-8") if style.exists() else "",
        )


def healthy_history(root: Path) -> Iterator[tuple[str, Run]]:
    """A book without faults whose text, facts and contents change."""
    book = Book(root, {"index": INDEX, "7-memory": CHAPTER, "other": "# Another page\n"})
    yield "clean", book.build()
    yield "again", book.build()
    book.replace("chapters/7-memory.md", "Prose says", "Edited prose says")
    yield "one page edited", book.build()
    book.replace(
        "stackkit/atlas/data/accelerators.toml",
        "memory_bytes_per_s = { value = 3.35e12",
        "memory_bytes_per_s = { value = 4.44e12",
    )
    yield "one fact changed", book.build()
    book.write("8-fabrication", NEW_CHAPTER)
    yield "a chapter added", book.build()
    book.replace("stackkit/book/static/stackkit.css", "/*", "/* edited */ /*")
    yield "the style edited", book.build()


def mended_history(root: Path) -> Iterator[tuple[str, Run]]:
    """A book whose pages break at three stages, that is built twice and then mended."""
    index = "# A tiny book\n\n```{bibliography}\n```\n"
    book = Book(root, {"index": index, **{name: text for name, (text, _) in BROKEN.items()}})
    yield "broken", book.build()
    yield "broken, again", book.build()
    for name in BROKEN:
        book.write(name, "# A mended page\n")
    yield "mended", book.build()


def faulty_history(root: Path) -> Iterator[tuple[str, Run]]:
    """A book with a page for each fault, and one with a number where it is copied."""
    index = "# A tiny book\n\n```{bibliography}\n```\n"
    pages = {name: f"# The {name}\n\n{text}\n" for name, (text, _) in FAULTS.items()}
    yield "every fault", Book(root / "faults", {"index": index, **pages}).build()
    heading = "# One\n\n## A chip of {fact}`h100-sxm.tdp_w`\n\nText.\n"
    yield "fact in a heading", Book(root / "heading", {"index": index, "a": heading}).build()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Every build of this module by name."""

    histories = (healthy_history, mended_history, faulty_history)
    folders = [tmp_path_factory.mktemp("book") / "root" for _ in histories]
    with ThreadPoolExecutor() as pool:
        lived = pool.map(lambda history, folder: list(history(folder)), histories, folders)
    return {name: run for history in lived for name, run in history}


def changed_pages(before: Run, after: Run) -> list[str]:
    return sorted(p for p in after.written if after.written[p] != before.written.get(p))


def test_a_book_without_faults_builds(runs):
    assert runs["clean"].status == 0, runs["clean"].said


def test_a_successful_build_says_which_page_to_open(runs):
    assert re.search(r"file://\S+/_build/html/index\.html", runs["clean"].said)


def test_a_second_build_writes_no_page(runs):
    assert runs["again"].status == 0
    assert changed_pages(runs["clean"], runs["again"]) == []


def test_an_edited_page_is_written_again_and_no_other(runs):
    """But for the page that holds the table of contents: Sphinx writes a page's parents with it."""
    changed = changed_pages(runs["again"], runs["one page edited"])
    assert changed == ["chapters/7-memory.html", "chapters/index.html"]
    assert "Edited prose says" in runs["one page edited"].html["chapters/7-memory.html"]


def test_before_the_fact_changed_prose_and_cell_say_the_old_value(runs):
    page = runs["one page edited"].html["chapters/7-memory.html"]
    assert ">3.35 TB/s</a>" in page
    assert "the cell says 3.35" in page


def test_a_changed_fact_changes_the_number_in_prose(runs):
    assert ">4.44 TB/s</a>" in runs["one fact changed"].html["chapters/7-memory.html"]


def test_a_changed_fact_changes_what_is_computed_from_it(runs):
    assert ">225 ms</a>" in runs["one fact changed"].html["chapters/7-memory.html"]  # 1 / 4.44


def test_a_changed_fact_runs_the_cells_again(runs):
    page = runs["one fact changed"].html["chapters/7-memory.html"]
    assert "the cell says 4.44" in page
    assert "the cell says 3.35" not in page


def test_a_layer_without_a_chapter_is_not_linked(runs):
    page = runs["one fact changed"].html["chapters/7-memory.html"]
    assert 'href="8-fabrication.html"' not in _strip(page)


def test_a_new_chapter_is_linked_from_the_strip_of_the_others(runs):
    assert runs["a chapter added"].status == 0, runs["a chapter added"].said
    page = runs["a chapter added"].html["chapters/7-memory.html"]
    assert 'href="8-fabrication.html"' in _strip(page)


def test_a_new_chapter_is_linked_from_the_table_of_the_stack(runs):
    [table] = re.findall(
        r"<table.*?</table>", runs["a chapter added"].html["chapters/index.html"], re.S
    )
    assert 'href="8-fabrication.html"' in table


def test_an_edited_style_reaches_the_site(runs):
    assert "/* edited */" not in runs["a chapter added"].style
    assert "/* edited */" in runs["the style edited"].style


def _strip(page: str) -> str:
    [strip] = re.findall(r'<nav class="sk-strip-nav".*?</nav>', page, re.S)
    return strip


@pytest.mark.parametrize("attempt", ["broken", "broken, again"])
def test_a_broken_book_fails_however_often_it_is_built(attempt, runs):
    assert runs[attempt].status != 0


@pytest.mark.parametrize("attempt", ["broken", "broken, again"])
@pytest.mark.parametrize("page", BROKEN)
def test_a_broken_page_is_named_however_often_it_is_built(page, attempt, runs):
    """One test for each stage: a page's text, its cells and its links are looked at once each."""
    assert BROKEN[page][1] in runs[attempt].said


def test_a_failed_build_says_that_there_is_no_site(runs):
    assert "The site was NOT built" in runs["broken"].said
    assert "The site is ready" not in runs["broken"].said


def test_a_mended_book_builds(runs):
    assert runs["mended"].status == 0, runs["mended"].said


def test_a_fact_in_a_heading_builds(runs):
    """Sphinx copies a heading into the table of contents."""
    assert runs["fact in a heading"].status == 0, runs["fact in a heading"].said[-2000:]


def test_a_build_with_faults_fails(runs):
    assert runs["every fault"].status != 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_page(fault, runs):
    """As a warning or an error: either fails a strict build."""
    complaints = re.findall(
        rf"{fault}\.md(?::\d+)?: (?:WARNING|ERROR): .*", runs["every fault"].said
    )
    assert any(FAULTS[fault][1] in complaint for complaint in complaints), runs["every fault"].said


# The mark of a build that did not end


@pytest.fixture
def fake_build(monkeypatch, tmp_path):
    """``build.build`` in tmp_path, with Jupyter Book replaced by a given exit status."""
    seen = []

    def build_with(status: int) -> int:
        def run(command, **_):
            seen.append((tmp_path / "_build" / build.UNFINISHED).exists())
            return subprocess.CompletedProcess(command, status)

        monkeypatch.setattr(build.subprocess, "run", run)
        return build.build(tmp_path)

    build_with.seen = seen
    return build_with


def test_the_mark_stands_while_a_build_runs(fake_build):
    fake_build(0)
    assert fake_build.seen == [True]


def test_the_mark_goes_when_a_build_succeeds(fake_build, tmp_path):
    fake_build(0)
    assert not (tmp_path / "_build" / build.UNFINISHED).exists()


def test_the_mark_stays_when_a_build_fails(fake_build, tmp_path):
    assert fake_build(3) == 3
    assert (tmp_path / "_build" / build.UNFINISHED).exists()


@pytest.mark.parametrize("remains", ["html/page.html", ".doctrees/environment.pickle"])
def test_a_build_after_a_failed_one_starts_from_nothing(remains, fake_build, tmp_path):
    """What Sphinx has read and what it has written both count as done, and are not looked at."""
    fake_build(1)
    old = tmp_path / "_build" / remains
    old.parent.mkdir()
    old.touch()
    fake_build(0)
    assert not old.exists()


# What a page depends on


@pytest.fixture
def package(tmp_path) -> Path:
    for name in ("__init__.py", "layer/code.py", "atlas/data/chips.toml", "book/static/style.css"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    return tmp_path


def test_the_key_of_an_unchanged_library_is_the_same(package):
    assert inputs_key(package) == inputs_key(package)


@pytest.mark.parametrize("name", ["layer/code.py", "atlas/data/chips.toml", "layer/new.py"])
def test_the_key_changes_with_code_and_data(name, package):
    before = inputs_key(package)
    (package / name).write_text("new")
    assert inputs_key(package) != before


def test_the_key_changes_when_a_file_moves(package):
    before = inputs_key(package)
    (package / "layer/code.py").rename(package / "layer/moved.py")
    assert inputs_key(package) != before


def test_the_key_does_not_change_with_the_style_sheet(package):
    before = inputs_key(package)
    (package / "book/static/style.css").write_text("new")
    assert inputs_key(package) == before


# _config.yml: Jupyter Book takes a mistyped key without a word


def unknown_keys(config: dict[str, Any], known: dict[str, set[str]]) -> list[str]:
    """Keys of a _config.yml that nothing reads, as dotted paths.

    Args:
        config: the file's content.
        known: keys by the section they may stand in; "" is the top. Others are not looked into.
    """
    return [
        ".".join(filter(None, (section, key)))
        for section, keys in known.items()
        for key in _section(config, section)
        if key not in keys
    ]


def _section(config: dict[str, Any], path: str) -> dict[str, Any]:
    for key in filter(None, path.split(".")):
        config = config.get(key) or {}
    return config


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Keys that Jupyter Book, Sphinx with our extensions, and the theme know."""
    return {
        **_jupyter_book_keys(),
        "sphinx.config": _sphinx_keys(),
        "sphinx.config.html_theme_options": _theme_keys(),
    }


def _jupyter_book_keys() -> dict[str, set[str]]:
    """From its schema and its defaults, which call themselves the master list."""
    package = Path(importlib.util.find_spec("jupyter_book").submodule_search_locations[0])
    schema = json.loads((package / "config_schema.json").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((package / "default_config.yml").read_text(encoding="utf-8"))
    keys = {"": {*schema["properties"], *defaults}}
    for section in keys[""]:
        inner = {*schema["properties"].get(section, {}).get("properties", {})}
        inner |= {*defaults[section]} if isinstance(defaults.get(section), dict) else set()
        if inner:
            keys[section] = inner
    return keys


def _sphinx_keys() -> set[str]:
    """The configuration values of Sphinx and of every extension that the book loads."""
    code = """
import json, sys, tempfile
from pathlib import Path
from sphinx.application import Sphinx
from jupyter_book.config import get_final_config
config, _ = get_final_config(user_yaml=Path("_config.yml"), cli_config={"latex_individualpages": 0})
out = tempfile.mkdtemp()
with open(Path(out, "said"), "w") as said:
    app = Sphinx(".", None, out, out, "dummy", confoverrides=config, status=said, warning=said)
json.dump(sorted(app.config.values), sys.stdout)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def _theme_keys() -> set[str]:
    """The options of the theme and of those it inherits from."""
    keys: set[str] = set()
    for package in ("sphinx_book_theme", "pydata_sphinx_theme"):
        [folder] = importlib.util.find_spec(package).submodule_search_locations
        conf = configparser.RawConfigParser()
        conf.read(Path(folder, "theme", package, "theme.conf"), encoding="utf-8")
        keys |= set(conf.options("options"))
    return keys


def our_config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def test_every_key_of_our_config_is_known(known):
    assert unknown_keys(our_config(), known) == []


@pytest.mark.parametrize(
    "path",
    [
        "only_build_toc_file",
        "execute.execute_notebook",
        "html.use_issue_button",
        "launch_buttons.colab",
        "repository.link",
        "sphinx.extra_extension",
        "sphinx.config.nb_merge_stream",
        "sphinx.config.html_theme_options.navbar_persistant",
    ],
)
def test_a_mistyped_key_is_found(path, known):
    config = copy.deepcopy(our_config())
    section, _, key = path.rpartition(".")
    _section(config, section)[key] = True
    assert unknown_keys(config, known) == [path]


def test_our_config_names_the_repository():
    assert our_config()["repository"]["url"] == REPOSITORY
