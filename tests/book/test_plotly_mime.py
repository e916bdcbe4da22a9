"""Figures in a page: their data, their name for those who cannot see them, and nothing else."""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest

from stackkit.book.plotly_mime import DEFAULT_HEIGHT_PX, PlotlyMime, figure_html
from stackkit.core.figures import PLOTLY_MIME


def figure(alt: str = "A line.", **layout) -> dict:
    return {"data": [{"type": "scatter", "y": [1, 2]}], "layout": {"meta": {"alt": alt}, **layout}}


def payload(html: str) -> str:
    [text] = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    return text


def test_the_page_holds_the_data_and_the_layout():
    shown = figure(title={"text": "T"})
    wanted = {"data": shown["data"], "layout": shown["layout"], "frames": []}
    assert json.loads(payload(figure_html(shown))) == wanted


def test_the_frames_of_a_slider_are_kept():
    shown = figure() | {"frames": [{"name": "1"}]}
    assert json.loads(payload(figure_html(shown)))["frames"] == [{"name": "1"}]


def test_a_figure_is_named_by_its_alt_text():
    assert 'role="figure" aria-label="A line."' in figure_html(figure())


@pytest.mark.parametrize("layout", [{}, {"meta": None}, {"meta": {}}, {"meta": {"alt": ""}}])
def test_a_figure_without_alt_text_is_refused(layout):
    with pytest.raises(ValueError, match="has no alt text; show it with"):
        figure_html({"data": [], "layout": layout})


def test_an_alt_text_cannot_end_its_attribute():
    html = figure_html(figure(alt='"><script>alert(1)</script>'))
    assert 'aria-label="&quot;&gt;&lt;script&gt;' in html


@pytest.mark.parametrize("label", ["</script><b>", "</SCRIPT >", "<!--<script>"])
def test_a_label_cannot_change_where_its_script_element_ends(label):
    """``<!--<script>`` would make the next ``</script>`` part of the text (HTML, 13.2.5.4)."""
    text = payload(figure_html(figure(title={"text": label})))
    assert not re.search(r"</script|<!--|<script", text, re.IGNORECASE)
    assert json.loads(text)["layout"]["title"]["text"] == label


@pytest.mark.parametrize(
    ("layout", "height"),
    [({"height": 600}, 600), ({}, DEFAULT_HEIGHT_PX), ({"height": 480.0}, 480)],
)
def test_the_place_of_a_figure_is_as_high_as_the_figure(layout, height):
    assert f"min-height:{height}px" in figure_html(figure(**layout))


def test_a_figure_asks_no_other_host():
    assert "http" not in figure_html(figure())


def handle(content, mime_type=PLOTLY_MIME, inline=False):
    return PlotlyMime.handle_mime(
        None, SimpleNamespace(content=content, mime_type=mime_type), inline
    )


@pytest.mark.parametrize("content", [figure(), json.dumps(figure())], ids=["parsed", "text"])
def test_a_plotly_output_becomes_one_html_node_that_marks_its_page(content):
    [node] = handle(content)
    assert node["format"] == "html"
    assert node["classes"] == ["sk-has-figure"]
    assert node.astext() == figure_html(figure())


def test_other_outputs_are_left_to_myst_nb():
    assert handle("<b>x</b>", mime_type="text/html") is None


def test_an_inline_figure_is_left_to_myst_nb():
    assert handle(figure(), inline=True) is None


def test_myst_nb_finds_the_renderer():
    [entry] = [e for e in entry_points(group="myst_nb.mime_renderers") if e.name == "plotly"]
    assert entry.load() is PlotlyMime


def test_plotly_comes_before_the_plain_text_that_every_figure_also_has():
    assert ("*", PLOTLY_MIME, 5) in PlotlyMime.mime_priority_overrides
