"""The stack as data: eight layers, in the order in which a prompt meets them."""

import itertools

import pytest

from stackkit.atlas import layer, layers

LAYERS = layers()
DARK = "#14181e"  # the book's dark ground


def test_there_are_eight_layers_numbered_from_the_top():
    assert [one.number for one in LAYERS] == list(range(1, 9))


def test_a_prompt_meets_the_application_first_and_the_silicon_last():
    assert [one.name for one in LAYERS] == [
        "applications",
        "models",
        "frameworks",
        "cloud",
        "systems",
        "processors",
        "memory",
        "fabrication",
    ]


@pytest.mark.parametrize("one", LAYERS, ids=lambda one: one.name)
def test_white_text_is_readable_on_a_layer_s_colour(one, contrast):
    """WCAG 2.2, criterion 1.4.3: text needs 4.5:1."""
    assert contrast(one.colour, "#ffffff") >= 4.5


@pytest.mark.parametrize("one", LAYERS, ids=lambda one: one.name)
def test_a_layer_s_colour_stands_out_on_the_dark_ground(one, contrast):
    """WCAG 2.2, criterion 1.4.11: graphical objects need 3:1."""
    assert contrast(one.colour, DARK) >= 3


def test_no_two_layers_share_a_colour_or_come_close():
    def distance(a, b):
        return sum(
            abs(int(a.colour[i : i + 2], 16) - int(b.colour[i : i + 2], 16)) for i in (1, 3, 5)
        )

    close = [(a.name, b.name) for a, b in itertools.combinations(LAYERS, 2) if distance(a, b) < 48]
    assert close == []


@pytest.mark.parametrize("one", LAYERS, ids=lambda one: one.name)
def test_a_layer_asks_a_question(one):
    assert one.question.endswith("?")


@pytest.mark.parametrize("one", LAYERS, ids=lambda one: one.name)
def test_the_names_of_a_layer_are_alphabetical_and_once_each(one):
    assert list(one.who) == sorted(set(one.who), key=str.casefold)


@pytest.mark.parametrize("one", LAYERS, ids=lambda one: one.name)
def test_no_text_of_a_layer_is_empty(one):
    texts = (one.title, one.function, one.bottleneck, one.value, one.six, one.seven)
    assert all(text.strip() for text in texts)


def test_a_layer_is_found_by_name():
    assert layer("memory").number == 7


def test_an_unknown_layer_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no 'network' among its layers; it has .*memory"):
        layer("network")
