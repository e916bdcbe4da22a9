"""`make lab`: a reader gets every lab, and nothing that the reader wrote is ever overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackkit.book import my_labs
from stackkit.book.my_labs import copy_labs


@pytest.fixture
def labs(tmp_path) -> Path:
    """Two labs as the repository has them."""
    folder = tmp_path / "labs"
    folder.mkdir()
    (folder / "6-processors.ipynb").write_text("six, first edition")
    (folder / "7-memory.ipynb").write_text("seven, first edition")
    return folder


@pytest.fixture
def mine(tmp_path) -> Path:
    return tmp_path / "my-labs"


def notebooks(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.ipynb"))}


def test_the_first_time_every_lab_is_copied(labs, mine):
    assert copy_labs(labs, mine) == ["6-processors.ipynb is new.", "7-memory.ipynb is new."]
    assert notebooks(mine) == notebooks(labs)


def test_the_second_time_nothing_happens(labs, mine):
    copy_labs(labs, mine)
    assert copy_labs(labs, mine) == []
    assert notebooks(mine) == notebooks(labs)


def test_a_lab_that_the_reader_worked_in_is_left_alone(labs, mine):
    copy_labs(labs, mine)
    (mine / "7-memory.ipynb").write_text("my answers")
    assert copy_labs(labs, mine) == []
    assert notebooks(mine)["7-memory.ipynb"] == "my answers"


def test_a_lab_that_changed_arrives_beside_the_reader_s(labs, mine):
    copy_labs(labs, mine)
    (mine / "7-memory.ipynb").write_text("my answers")
    (labs / "7-memory.ipynb").write_text("seven, second edition")
    [sentence] = copy_labs(labs, mine)
    assert "the new one is 7-memory-2.ipynb, yours is untouched" in sentence
    assert notebooks(mine)["7-memory.ipynb"] == "my answers"
    assert notebooks(mine)["7-memory-2.ipynb"] == "seven, second edition"


def test_a_third_edition_takes_the_next_number(labs, mine):
    for edition in ("first", "second", "third"):
        (labs / "7-memory.ipynb").write_text(f"seven, {edition} edition")
        copy_labs(labs, mine)
    assert notebooks(mine)["7-memory-2.ipynb"] == "seven, second edition"
    assert notebooks(mine)["7-memory-3.ipynb"] == "seven, third edition"


def test_a_file_of_the_reader_s_with_a_lab_s_name_is_left_alone(labs, mine):
    mine.mkdir()
    (mine / "7-memory.ipynb").write_text("mine from before")
    copy_labs(labs, mine)
    assert notebooks(mine)["7-memory.ipynb"] == "mine from before"
    assert notebooks(mine)["7-memory-2.ipynb"] == "seven, first edition"


def test_a_lost_ledger_costs_a_second_copy_and_no_work(labs, mine):
    copy_labs(labs, mine)
    (mine / "7-memory.ipynb").write_text("my answers")
    (mine / my_labs.KNOWN).unlink()
    copy_labs(labs, mine)
    assert notebooks(mine)["7-memory.ipynb"] == "my answers"
    assert notebooks(mine)["7-memory-2.ipynb"] == "seven, first edition"


def test_a_copy_that_the_reader_deleted_to_start_afresh_is_made_again(labs, mine):
    copy_labs(labs, mine)
    (mine / "7-memory.ipynb").unlink()
    copy_labs(labs, mine)
    assert notebooks(mine)["7-memory.ipynb"] == "seven, first edition"


def test_a_link_of_the_reader_s_is_not_written_through(labs, mine, tmp_path):
    """Even one whose target does not exist."""
    mine.mkdir()
    (mine / "7-memory.ipynb").symlink_to(tmp_path / "elsewhere.ipynb")
    copy_labs(labs, mine)
    assert not (tmp_path / "elsewhere.ipynb").exists()


def test_the_labs_themselves_are_not_touched(labs, mine):
    before = notebooks(labs)
    copy_labs(labs, mine)
    assert notebooks(labs) == before


NAMES = ["a.ipynb", "b.ipynb", "a-2.ipynb", "a-3.ipynb"]
TEXTS = ["one", "two", "three"]
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(NAMES[:3]), st.sampled_from(TEXTS)),
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from([*TEXTS, "mine"])),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("make lab"), st.none(), st.none()),
)


def never_overwrites(copy, steps) -> bool:
    """Whether ``copy(labs, mine)`` leaves each file that it finds in ``mine`` as it is."""
    with tempfile.TemporaryDirectory() as folder:
        labs, mine = Path(folder, "labs"), Path(folder, "my-labs")
        labs.mkdir()
        mine.mkdir()
        for what, name, text in [*steps, ("make lab", None, None)]:
            if what == "publish":
                (labs / name).write_text(text)
            elif what == "write":
                (mine / name).write_text(text)
            elif what == "delete":
                (mine / name).unlink(missing_ok=True)
            else:
                before = notebooks(mine)
                copy(labs, mine)
                if not before.items() <= notebooks(mine).items():
                    return False
    return True


@given(st.lists(STEPS, max_size=20))
def test_no_file_of_the_reader_s_ever_changes(steps):
    assert never_overwrites(copy_labs, steps)


def test_a_copier_that_overwrites_is_found():
    def overwrite(labs: Path, mine: Path) -> None:
        for lab in labs.glob("*.ipynb"):
            (mine / lab.name).write_text(lab.read_text())

    steps = [("publish", "a.ipynb", "one"), ("write", "a.ipynb", "mine")]
    assert not never_overwrites(overwrite, steps)


@pytest.fixture
def jupyter(monkeypatch, tmp_path, labs):
    """``make lab`` in a folder of its own; JupyterLab is replaced by a note of its command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    commands = []
    monkeypatch.setattr(subprocess, "call", lambda command: commands.append(command) or 0)
    return commands


def test_make_lab_opens_the_copies(jupyter, mine, capsys):
    assert my_labs.main() == 0
    assert jupyter == [[sys.executable, "-m", "jupyterlab", "--notebook-dir=my-labs"]]
    assert set(notebooks(mine)) == {"6-processors.ipynb", "7-memory.ipynb"}
    assert "7-memory.ipynb is new." in capsys.readouterr().out


def test_root_in_a_container_is_let_in(jupyter, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    my_labs.main()
    assert jupyter[0][-1] == "--allow-root"


def test_jupyterlab_asks_for_no_news_and_keeps_the_reader_s_own_settings(jupyter):
    my_labs.main()
    settings = Path(sys.prefix, "etc", "jupyter", "labconfig", "page_config.json")
    assert json.loads(settings.read_text())["disabledExtensions"]
    settings.write_text("{}")
    my_labs.main()
    assert settings.read_text() == "{}"


def test_stopping_jupyterlab_is_no_error(jupyter, monkeypatch):
    def interrupted(_command):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "call", interrupted)
    assert my_labs.main() == 0


def test_git_ignores_the_copies():
    ignored = (Path(__file__).parents[2] / ".gitignore").read_text(encoding="utf-8").split()
    assert "my-labs/" in ignored
