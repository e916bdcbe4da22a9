"""What nbval compares, with the settings of `make test`: one cell for each behaviour."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from stackkit.core.figures import PLOTLY_MIME

ROOT = Path(__file__).parents[2]
SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")


def printed(text: str) -> Any:
    return new_output("stream", name="stdout", text=text)


def figure(y: int) -> Any:
    data = {PLOTLY_MIME: {"data": [{"type": "scatter", "y": [1, y]}], "layout": {}}}
    return new_output("display_data", data=data)


SHOW = f"""\
from IPython.display import display
data = {{"data": [{{"type": "scatter", "y": [1, 2]}}], "layout": {{}}}}
display({{"{PLOTLY_MIME}": data}}, raw=True)
"""
WARN = """\
import warnings
warnings.warn("mind the gap")
"""
WARNING = '/tmp/ipykernel_{}/{}.py:2: UserWarning: mind the gap\n  warnings.warn("mind the gap")\n'

# name -> what the cell does, what is stored of its output, its tags
CELLS: dict[str, tuple[str, list[Any], list[str]]] = {
    "right": ("print(1 + 1)", [printed("2\n")], []),
    "wrong": ("print(1 + 1)", [printed("3\n")], []),
    "missing": ("print(1 + 1)", [], []),
    "raises": ("1 / 0", [], []),
    "measured": ("import time; print(time.time())", [printed("3\n")], ["nbval-ignore-output"]),
    "measured-raises": ("1 / 0", [], ["nbval-ignore-output"]),
    "figure": (SHOW, [figure(2)], []),
    "other-figure": (SHOW, [figure(3)], []),
    "address": ("print(object())", [printed("<object object at 0x7f1234567890>\n")], []),
    "other-thing": ("print(object())", [printed("<subject at 0x7f1234567890>\n")], []),
    "warning": (WARN, [new_output("stream", name="stderr", text=WARNING.format(12, 345678))], []),
    "other-warning": (
        WARN,
        [new_output("stream", name="stderr", text=WARNING.format(1, 2).replace("gap", "dog"))],
        [],
    ),
}
PASS = {"right", "measured", "figure", "address", "warning"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """``{"right": "passed", ...}``, from one run of nbval over a notebook with all cells."""
    folder = tmp_path_factory.mktemp("labs")
    cells = [
        new_code_cell(source, outputs=outputs, execution_count=count, metadata={"tags": tags})
        for count, (source, outputs, tags) in enumerate(CELLS.values(), 1)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "lab.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", ".", "-rA", *nbval_options()]
    command += ["--rootdir", str(folder), "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.findall(r"^(PASSED|FAILED) lab\.ipynb::Cell (\d+)", done.stdout, re.MULTILINE)
    names = list(CELLS)
    return {names[int(number)]: outcome.lower() for outcome, number in found}


def nbval_options() -> list[str]:
    """How the Makefile runs nbval, but for the labs' folder and the place of the settings."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    [line] = re.findall(r"pytest --nbval labs (.*)", makefile)
    return [str(SANITIZE) if word.endswith(SANITIZE.name) else word for word in line.split()]


def test_make_test_sanitizes_with_our_settings():
    options = nbval_options()
    assert options[options.index("--nbval-sanitize-with") + 1] == str(SANITIZE)


def test_every_cell_is_run(outcomes):
    assert outcomes.keys() == CELLS.keys()


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_passes_or_fails_as_it_should(name, outcomes):
    """Measured cells may print what they like but not fail; addresses and paths do not count."""
    assert outcomes[name] == ("passed" if name in PASS else "failed")
