"""Every name of the two articles that set the book's scope has its place."""

from pathlib import Path

import pytest

from stackkit.atlas import layers, players
from stackkit.atlas.load import sources, table
from stackkit.cli import main

# One name a line, as the article spells it; companies, products, frameworks, model tiers, clouds,
# application categories and tools, from tables and from prose.
LISTS = Path(__file__).parent / "names"


def names(article: str) -> list[str]:
    lines = (LISTS / f"{article}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


NAMES = sorted({*names("signal-map"), *names("top-down-perspective")})
KNOWN = {known.casefold() for player in players() for known in player.names()}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_articles_is_found(name):
    assert name.casefold() in KNOWN


def test_both_articles_name_many():
    assert len(names("signal-map")) > 120
    assert len(names("top-down-perspective")) > 50


def test_a_name_is_found_from_a_terminal(capsys):
    assert main(["players", "furiosaai"]) == 0
    assert "FuriosaAI" in capsys.readouterr().out


@pytest.mark.parametrize("layer", [layer.name for layer in layers()])
def test_every_layer_has_players(layer):
    assert len(players(layer)) >= 3


def test_a_player_belongs_to_layers_that_there_are():
    there_are = {layer.name for layer in layers()}
    assert [player.id for player in players() if not set(player.layers) <= there_are] == []


def test_a_player_says_what_it_makes_and_does_in_a_line():
    assert [player.id for player in players() if not player.role or len(player.role) > 120] == []


def test_players_are_by_group_and_then_alphabetical():
    for layer in layers():
        shown = [(player.group, player.name.casefold()) for player in players(layer.name)]
        groups = list(dict.fromkeys(group for group, _ in shown))
        assert shown == sorted(shown, key=lambda pair: (groups.index(pair[0]), pair[1]))


def test_a_note_is_dated():
    undated = [p.id for p in players() if p.note and not any(c.isdigit() for c in p.note)]
    assert undated == []


def test_a_note_rests_on_an_announcement_or_on_two_witnesses():
    weak = []
    for name, entry in table("players").items():
        standings = [
            sources()[source].standing
            for source in (entry["source"], *entry.get("note_witnesses", ()))
        ]
        if entry.get("note") and "primary" not in standings and len(standings) < 2:
            weak.append(name)
    assert weak == []


def test_several_rows_say_what_time_has_done():
    assert sum(bool(player.note) for player in players()) >= 15
