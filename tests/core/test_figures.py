"""Figures that everyone can read: colours, axes, alt text and the data behind them."""

import math
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.core.figures import (
    DASHES,
    PALETTE,
    SYMBOLS,
    data_table,
    log_ticks,
    new_figure,
    rounded,
    show,
)

LIGHT, DARK = "#ffffff", "#14181e"  # the book's two grounds


def test_contrast_of_black_on_white_is_21(contrast):
    """The formula's own end point in WCAG 2.2: ratios run from 1 to 21."""
    assert contrast("#000000", LIGHT) == pytest.approx(21)
    assert contrast(LIGHT, LIGHT) == pytest.approx(1)


@pytest.mark.parametrize("ground", [LIGHT, DARK])
@pytest.mark.parametrize("colour", PALETTE)
def test_a_colour_is_readable_on_both_grounds(colour, ground, contrast):
    """WCAG 2.2, criterion 1.4.11: graphical objects need 3:1."""
    assert contrast(colour, ground) >= 3


@pytest.mark.parametrize("colour", PALETTE)
def test_a_colour_has_the_luminance_that_the_module_claims(colour, luminance):
    assert 0.12 <= luminance(colour) <= 0.31


def test_colours_symbols_and_dashes_pair_up():
    assert len(set(PALETTE)) == len(set(SYMBOLS)) == len(set(DASHES)) == len(PALETTE)


def test_rounded_keeps_significant_digits():
    assert rounded([3.14159265, 989.4e12, 0.000123456]) == [3.142, 989.4e12, 0.0001235]


def test_rounded_gives_plain_floats():
    assert all(type(value) is float for value in rounded([1, 2.5]))


def test_a_wide_axis_is_labelled_at_its_decades():
    assert log_ticks(0.25, 4096)["ticktext"] == ["1", "10", "100", "1,000"]


def test_a_narrow_axis_is_labelled_at_one_two_and_five():
    assert log_ticks(1, 100)["ticktext"] == ["1", "2", "5", "10", "20", "50", "100"]


@given(st.floats(1e-6, 1e6), st.floats(2.6, 1e9))
def test_the_labels_are_on_the_axis_in_order_and_say_where_they_are(low, ratio):
    """Between any two neighbours of 1, 2, 5, 10 lies at most a factor of 2.5."""
    ticks = log_ticks(low, low * ratio)
    values = ticks["tickvals"]
    assert values
    assert values == sorted(set(values))
    assert 0.99 * low <= values[0] <= values[-1] <= 1.01 * low * ratio
    assert [float(text.replace(",", "")) for text in ticks["ticktext"]] == pytest.approx(values)


def test_a_very_narrow_axis_is_labelled_too():
    assert log_ticks(2.1, 4.9)["tickvals"]


def test_missing_plotly_is_a_sentence_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "plotly>=5\.24"'):
        new_figure("Title", "x", "y")


@pytest.fixture
def figure():
    """Two series with a name that needs escaping, a gap and an exact value."""
    pytest.importorskip("plotly", reason="Figures need plotly, which is not installed here.")
    figure = new_figure("Title", "size (B)", "speed <B/s>", log="x")
    figure.add_scatter(x=[1, 2, 4], y=[10.0, None, 40.0], name="a & <b>")
    figure.add_scatter(x=["one", "two"], y=[0.5, math.nan], name="other")
    return figure


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_a_logarithmic_axis_says_so(log):
    pytest.importorskip("plotly", reason="Figures need plotly, which is not installed here.")
    layout = new_figure("Title", "size", "speed", log=log).to_plotly_json()["layout"]
    for name, title in (("x", "size"), ("y", "speed")):
        axis = layout[f"{name}axis"]
        assert (axis["type"] == "log") == (name in log)
        assert axis["title"]["text"] == (f"{title}, log scale" if name in log else title)


class Cells(HTMLParser):
    """The text of a table, row by row."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.in_cell = [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self.in_cell = tag in ("td", "th")

    def handle_data(self, data):
        if self.in_cell:
            self.rows[-1][-1] += data


def test_the_table_holds_every_point_under_its_heads(figure):
    assert Cells(data_table(figure)).rows == [
        ["series", "size (B), log scale", "speed <B/s>"],
        ["a & <b>", "1", "10"],
        ["a & <b>", "2", ""],
        ["a & <b>", "4", "40"],
        ["other", "one", "0.5"],
        ["other", "two", ""],
    ]


def test_the_table_escapes_what_it_prints(figure):
    assert "a &amp; &lt;b&gt;" in data_table(figure)
    assert "<b>" not in data_table(figure)


def test_the_table_can_be_scrolled_with_the_keyboard(figure):
    assert 'tabindex="0"' in data_table(figure)


@pytest.fixture
def shown(monkeypatch):
    """What would appear in the notebook, one bundle a display."""
    display = pytest.importorskip("IPython.display", reason="show() needs IPython.")
    bundles = []
    monkeypatch.setattr(display, "display", lambda bundle, raw: bundles.append(bundle))
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    return bundles


def test_show_displays_the_plot_then_its_caption_and_data(figure, shown):
    show(figure, caption="Speed grows.", alt="Speed against size, growing.")
    plot, below = shown
    assert plot["application/vnd.plotly.v1+json"]["data"][0]["name"] == "a & <b>"
    assert plot["text/plain"] == "Speed against size, growing."
    assert "Speed grows." in below["text/html"]
    assert "<table" in below["text/html"]


def test_the_alt_text_travels_inside_the_figure(figure, shown):
    show(figure, caption="Speed grows.", alt="Speed against size.")
    assert shown[0]["application/vnd.plotly.v1+json"]["layout"]["meta"]["alt"] == (
        "Speed against size."
    )


def test_the_caption_is_escaped(figure, shown):
    show(figure, caption="a < b", alt="a below b")
    assert "a &lt; b" in shown[1]["text/html"]


def test_colab_draws_with_its_own_renderer(figure, shown, monkeypatch):
    drawn = []
    monkeypatch.setenv("COLAB_RELEASE_TAG", "any")
    monkeypatch.setattr(type(figure), "show", lambda self: drawn.append(self))
    show(figure, caption="Speed grows.", alt="Speed against size.")
    assert drawn == [figure]
    assert len(shown) == 1  # the caption with its data


@pytest.mark.parametrize(("caption", "alt"), [("", "alt"), ("caption", ""), ("  ", "alt")])
def test_a_figure_without_caption_or_alt_text_is_refused(figure, shown, caption, alt):
    with pytest.raises(ValueError, match="needs a caption that states its finding, and an alt"):
        show(figure, caption=caption, alt=alt)
    assert shown == []


def test_an_empty_figure_is_refused(figure, shown):
    with pytest.raises(ValueError, match="this one has no trace"):
        show(new_figure("Title", "x", "y"), caption="caption", alt="alt")


def test_a_trace_without_x_is_tabled_by_its_place():
    figure = new_figure("title", "place", "height")
    figure.add_bar(y=[7.5, 8.5], name="bars")
    assert "<td>1</td><td>8.5</td>" in data_table(figure)
