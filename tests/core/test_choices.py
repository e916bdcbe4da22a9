"""A figure with controls: every combination is there, in the order that the page counts them."""

import json

import pytest

from stackkit.core import figures
from stackkit.core.choices import show_choices
from stackkit.core.figures import PLOTLY_MIME, new_figure

TEXTS = {"caption": "It rises.", "alt": "A line that rises."}


def draw(letter, number):
    figure = new_figure("t", "x (s)", "y (B)")
    figure.add_scatter(x=[0, 1], y=[0, int(number)], name=letter)
    return figure, f"{letter} at {number}"


@pytest.fixture
def shown(monkeypatch):
    """Shows a figure and returns the metadata that the page gets."""
    pytest.importorskip("plotly")
    pytest.importorskip("IPython")
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: outputs.append(data))

    def show(choices, start, draw=draw):
        outputs.clear()
        show_choices(draw, choices, start=start, **TEXTS)
        figure = json.loads(json.dumps(outputs[0][PLOTLY_MIME]))
        return figure["layout"]["meta"] | {"drawn": figure["data"]}

    return show


CHOICES = {"Letter": ["a", "b"], "Number": ["1", "2", "3"]}


def test_every_combination_has_a_frame_and_a_sentence_the_last_control_running_fastest(shown):
    meta = shown(CHOICES, ("a", "1"))
    assert meta["said"] == [f"{a} at {n}" for a in "ab" for n in "123"]
    assert [frame[0]["y"] for frame in meta["frames"]] == [[0, n] for _ in "ab" for n in (1, 2, 3)]
    assert [frame[0]["name"] for frame in meta["frames"]] == list("aaabbb")


def test_it_starts_where_it_is_told(shown):
    meta = shown(CHOICES, ("b", "3"))
    assert meta["start"] == [1, 2]
    assert meta["drawn"][0]["y"] == [0, 3]
    assert [control["label"] for control in meta["controls"]] == ["Letter", "Number"]


def test_the_alt_text_is_kept(shown):
    assert shown(CHOICES, ("a", "1"))["alt"] == TEXTS["alt"]


def test_more_than_three_controls_are_refused(shown):
    with pytest.raises(ValueError, match="1 to 3 controls; got 4"):
        shown({name: ["1"] for name in "abcd"}, ("1",) * 4)


def test_too_many_combinations_are_refused(shown):
    with pytest.raises(ValueError, match="1 to 600 combinations; these are 601"):
        shown({"n": [str(n) for n in range(601)]}, ("0",))


def test_a_start_that_is_no_option_is_refused(shown):
    with pytest.raises(ValueError, match=r"Letter starts with 'z'; its options are \['a', 'b'\]"):
        shown(CHOICES, ("z", "1"))


def test_a_start_names_one_option_of_each_control(shown):
    with pytest.raises(ValueError, match="start names one option of each of"):
        shown(CHOICES, ("a",))


def test_figures_with_other_traces_are_refused(shown):
    def uneven(letter, number):
        figure, sentence = draw(letter, number)
        if number == "2":
            figure.add_scatter(x=[0], y=[0])
        return figure, sentence

    with pytest.raises(ValueError, match="the same traces"):
        shown(CHOICES, ("a", "1"), draw=uneven)


def test_figures_has_no_idea_of_choices():
    """Layers: choices stands on figures, not the other way round."""
    assert not hasattr(figures, "show_choices")
