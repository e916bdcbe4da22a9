"""What counts as a number that somebody typed, and that the chapters have none."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackkit.book.prose import TypedNumber, typed_numbers

ROOT = Path(__file__).parents[2]


def checked_pages(root: Path = ROOT) -> list[Path]:
    """The pages of the book. A README or a changelog has no roles, so it may hold figures."""
    return sorted((root / "chapters").rglob("*.md"))


def found(markdown: str) -> list[str]:
    """The figures alone; whether a sentence's full stop sticks to one does not matter."""
    return [typed.text.rstrip(".,") for typed in typed_numbers(markdown)]


@pytest.mark.parametrize("page", checked_pages(), ids=lambda page: page.stem)
def test_no_chapter_has_a_typed_number(page):
    assert typed_numbers(page.read_text(encoding="utf-8")) == []


def test_the_readme_may_hold_figures(tmp_path):
    for name in ("README.md", "chapters/7-memory.md", "chapters/notes/more.md"):
        page = tmp_path / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.touch()
    assert [page.name for page in checked_pages(tmp_path)] == ["7-memory.md", "more.md"]


@pytest.mark.parametrize(
    "figure",
    [
        "80 GB",
        "80GB",
        "3.35 TB/s",
        "6.4 Gbit/s",
        "989 TFLOP/s",
        "989 TFLOPS",
        "16 Gbps",
        "28 GT/s",
        "3 gigabits",
        "20 milliseconds",
        "295 FLOP/B",
        "1,024 tokens",
        "50 tokens/s",
        "8.03 billion parameters",
        "80 billion transistors",
        "24 MiB",
        "5 ms",
        "4 nm",
        "814 mm²",
        "814 mm2",
        "700 W",
        "12 kWh",
        "3.7 pJ",
        "1.6 GHz",
        "40 %",
        "40%",
        "40 percent",
        "$2.50",
        "€3",
        "30 USD",
        "85 °C",
    ],
)
@pytest.mark.parametrize("text", ["{}", "It has {}.", "**{}**", "| chip | {} |", "- ({}, dense)"])
def test_a_bare_figure_with_a_unit_is_found(figure, text):
    assert found(text.format(figure)) == [figure]


@pytest.mark.parametrize("figure", ["80 gigabytes", "700 watts", "3.35e12 B/s"])
def test_a_figure_is_found_in_words_and_in_scientific_notation(figure):
    assert found(f"It has {figure}.") == [figure]


@pytest.mark.parametrize(
    "text",
    [
        "Llama 3.1 8B",
        "an 8B model and a 70B model",
        "SmolLM2-135M",
        "H100 and HBM3E",
        "chapter 7, version 2.13",
        "in 2024",
        "sixteen times as wide",
        "32 requests at 8k",
        "eight GPUs",
        "32-bit numbers",
        "x86_64",
    ],
)
def test_a_name_or_a_count_is_no_figure(text):
    assert found(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "{fact}`h100-sxm.memory_bytes`",
        "{calc}`80 * 2 ; B 2`",
        "{given}`80 GB`",
        "{stackkit:calc}`80 B`",
        "`80 GB`",
        "``80 GB``",
        "$80 GB$",
        "$$ 80 GB $$",
        "$$\nx = 80 GB\n$$",
        "[the datasheet](datasheet-80 GB.pdf)",
        "![a chip](img/80 GB.png)",
        '<img alt="80 GB">',
        "<https://example.org/80 GB>",
        "% a comment: 80 GB",
        ":::{figure} x.svg\n:alt: 80 GB\n:::",
        "{given}`80 GB\nof memory`",
    ],
)
def test_roles_code_formulas_and_targets_are_not_prose(text):
    assert found(text) == []


def test_the_text_of_a_link_is_prose():
    assert found("[a chip with 80 GB](chip.md)") == ["80 GB"]


def test_a_comparison_is_not_taken_for_html():
    assert found("if a < b, take 80 GB; if c > d, less") == ["80 GB"]


@pytest.mark.parametrize(
    "fence", ["```python", "```{code-cell} python", "```{define}", "~~~text", ":::{math}"]
)
def test_code_in_a_fence_is_not_prose(fence):
    mark = fence[:3]
    assert found(f"{fence}\n80 GB\n{mark}\n") == []


@pytest.mark.parametrize("fence", ["```{note}", ":::{admonition} Predict", "::::{exercise} One"])
def test_the_body_of_an_admonition_is_prose(fence):
    mark = "`" * 3 if fence[0] == "`" else ":" * fence.index("{")
    assert found(f"{fence}\n:class: dropdown\n\n80 GB\n{mark}\n") == ["80 GB"]


def test_the_title_of_an_admonition_is_prose():
    assert found(":::{dropdown} Why 80 GB?\nBecause.\n:::") == ["80 GB"]


def test_code_nested_in_an_admonition_is_not_prose_and_what_follows_it_is():
    text = "````{exercise}\n1 GB\n```python\n2 GB\n```\n3 GB\n````\n4 GB"
    assert found(text) == ["1 GB", "3 GB", "4 GB"]


def test_a_shorter_fence_inside_code_does_not_end_it():
    assert found("````text\n1 GB\n```\n2 GB\n```\n3 GB\n````\n4 GB") == ["4 GB"]


def test_a_longer_fence_ends_code_too():
    """CommonMark: the closing fence is at least as long as the opening one."""
    assert found("```python\n1 GB\n````\n2 GB") == ["2 GB"]


def test_front_matter_is_not_prose_and_what_follows_it_is():
    assert found("---\ntitle: 1 GB\n---\n2 GB\n\n---\n\n3 GB") == ["2 GB", "3 GB"]


def test_a_rule_is_not_front_matter():
    assert found("1 GB\n\n---\n\n2 GB\n\n---\n") == ["1 GB", "2 GB"]


def test_a_figure_is_found_on_its_line():
    front, role, code = "---\ntitle: x\n---\n", "{given}`1 GB\nor so`\n", "```python\n2 GB\n```"
    text = f"{front}\n{role}\n{code}\n3 GB\n\n$$\nx\n$$\n4 GB"
    lines = text.split("\n")
    assert [lines[typed.line - 1] for typed in typed_numbers(text)] == ["3 GB", "4 GB"]
    assert typed_numbers("a\n3 GB") == [TypedNumber(2, "3 GB")]


def test_two_figures_on_a_line_are_both_found_in_order():
    assert found("from 40 GB to 80 GB") == ["40 GB", "80 GB"]


def test_a_text_without_figures_has_none():
    assert typed_numbers("") == []
