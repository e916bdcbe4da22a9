"""The command ``stackkit``: what a reader of a terminal sees, and kind refusals."""

import dataclasses
import re
import subprocess
import sys

import pytest

from stackkit import __version__, atlas
from stackkit.atlas import evidence
from stackkit.cli import main


@pytest.fixture
def said(capsys):
    """What a command prints, with exit status 0: ``said("facts", "h100")``."""

    def run(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return run


def test_it_is_installed_as_a_command():
    command = [sys.executable, "-m", "stackkit.cli", "--version"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == __version__


def test_facts_are_found_by_words_in_any_order(said):
    lines = said("facts", "memory", "h100-sxm").splitlines()
    assert any(re.match(r"h100-sxm\.memory_bytes_per_s +3\.35 TB/s ", line) for line in lines)
    assert not any("a100" in line for line in lines)


def test_one_fact_is_shown_in_full(said):
    text = said("facts", "h100-sxm.memory_bytes_per_s")
    fact = atlas.fact("h100-sxm.memory_bytes_per_s")
    for part in ("3.35 TB/s", fact.kind, fact.source, fact.url, fact.seen_on, fact.evidence):
        assert part in text


def test_all_facts_are_a_line_each(said):
    lines = said("facts").splitlines()
    assert len(lines) == len(atlas.facts()) + 2  # heads above, their number below
    assert lines[-1] == f"{len(atlas.facts())} facts"


def test_an_unknown_word_is_refused_with_near_names(capsys):
    assert main(["facts", "h10-sxm"]) == 1
    assert "near it are h100-sxm" in capsys.readouterr().err


def test_the_counts_add_up(said):
    text = said("facts", "--counts")
    for heading in ("by kind", "by layer", "by evidence"):
        table = text.split(heading)[1].split("\n\n")[0].splitlines()[1:]
        assert sum(int(line.split()[-1]) for line in table) == len(atlas.facts())


def test_conflicts_say_why(said):
    text = said("facts", "--conflicts")
    assert text.count("\n  why ") == len(evidence.conflicts())


def test_old_prices_are_those_older_than_asked(said):
    everything = said("facts", "--old", "0")
    assert all(name in everything for name in evidence.old_prices(0))


def test_a_draw_is_repeated_by_its_seed(said):
    first = said("facts", "--draw", "5", "--seed", "3").splitlines()
    assert len(first) == len(set(first)) == 5
    assert set(first) <= set(atlas.facts())
    assert said("facts", "--draw", "5", "--seed", "3").splitlines() == first
    assert said("facts", "--draw", "5", "--seed", "4").splitlines() != first


def test_models_are_counted_beside_what_is_published(said):
    lines = said("models").splitlines()
    assert len(lines) == len(atlas.models()) + 1
    row = next(line for line in lines if line.startswith("llama-3.1-8b "))
    assert "GQA" in row
    assert "8,030,261,248" in row
    assert "exact" in row


def test_a_count_that_nobody_prints_is_not_called_exact(said, monkeypatch):
    spec = atlas.model("llama-3.1-8b")
    counted = dataclasses.replace(spec.facts["checkpoint_params"], kind="derived")
    unprinted = dataclasses.replace(spec, facts={**spec.facts, "checkpoint_params": counted})
    monkeypatch.setattr(atlas, "models", lambda: [unprinted])
    (row,) = said("models").splitlines()[1:]
    assert "not printed" in row


def test_players_are_found_by_a_product(said):
    assert "NVIDIA" in said("players", "h100")


def test_an_unknown_player_is_refused(capsys):
    assert main(["players", "acme-rockets"]) == 1
    assert capsys.readouterr().err == "The atlas has no player with 'acme-rockets'.\n"


def test_the_ladder_is_climbed_and_drawn(said, tmp_path, monkeypatch):
    pytest.importorskip("numba", reason="numba is not installed here.")
    page = tmp_path / "climb.html"
    lines = said("matmul", "numpy-rows", "numpy", "--n", "16", "--html", str(page)).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["numpy-rows", "numpy"]
    assert "plotly" in page.read_text(encoding="utf-8")


def test_a_drawing_that_is_there_is_not_overwritten(tmp_path, capsys):
    page = tmp_path / "climb.html"
    page.write_text("mine")
    assert main(["matmul", "numpy", "--n", "8", "--html", str(page)]) == 1
    assert "is there already; name another file" in capsys.readouterr().err
    assert page.read_text() == "mine"


def test_an_unknown_rung_is_refused_in_a_sentence(capsys):
    assert main(["matmul", "fast"]) == 1
    assert "No rung is named 'fast'; the ladder has python" in capsys.readouterr().err


# A model that writes


def test_write_prints_the_text_of_the_model_named(said):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from stackkit import models

    toy, tokenizer = models.load("toy")
    tokens = models.generate(toy, tokenizer, "The power of", max_new_tokens=8)
    wanted = "".join(token.text for token in tokens)
    printed = said("write", "The power of", "--model", "toy", "--tokens", "8")
    assert printed == wanted + "\n"


def test_write_repeats_itself_for_the_same_seed(said):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    drawn = ["write", "A", "--model", "toy", "--tokens", "12", "--temperature", "1", "--seed"]
    assert said(*drawn, "1") == said(*drawn, "1")
    assert said(*drawn, "1") != said(*drawn, "2")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x", "--model", "gpt-9"], "There is no model 'gpt-9'; there are toy, "),
        (["", "--model", "toy"], "The prompt is empty: "),
        (["x", "--model", "toy", "--temperature", "-1"], "temperature must be 0 "),
        (["x", "--model", "toy", "--tokens", "0"], "max_new_tokens must be 1 or more, whole"),
    ],
)
def test_what_cannot_be_written_is_refused_with_a_sentence(capsys, arguments, sentence):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    assert main(["write", *arguments]) == 1
    assert capsys.readouterr().err.startswith(sentence)
