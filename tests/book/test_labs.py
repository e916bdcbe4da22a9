"""The labs: scripts and stored notebooks in step, their shape, and what they promise a reader.

The contracts are functions from a notebook to sentences, so that each is shown to fail as well.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from stackkit.atlas import fact
from stackkit.atlas.load import table
from stackkit.book import labs
from stackkit.book.prose import typed_numbers

LABS = Path(__file__).parents[2] / "labs"
SOURCES = sorted((LABS / "src").glob("*.py"))
NAMES = [source.stem for source in SOURCES]

HEADINGS = (
    "Set up",
    "Predict",
    "Build",
    "Measure",
    "Reconcile",
    "Break it",
    "Exercises",
    "The ledger",
    "In production",
)
MOST_SECONDS, MOST_GIGABYTES = 60, 2
NOTEBOOK_METADATA = {"kernelspec", "language_info", "stackkit"}
CELL_METADATA = {"tags", "mystnb", "jupyter", "cellView"}
SOLUTION = "hide-cell"
MEASURED = "nbval-ignore-output"


def stored(name: str) -> Any:
    return nbformat.read(LABS / f"{name}.ipynb", 4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def text_of(cell: Any) -> str:
    """All that a cell's stored outputs say, but for pictures."""
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text", ""))
        parts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "".join(parts)


# The contracts


def shape_faults(notebook: Any) -> list[str]:
    """A lab has nine parts, in order, and opens with what the reader builds, measures, breaks."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.findall(r"^## (.*)$", prose, re.MULTILINE)
    wanted = [f"{number}. {heading}" for number, heading in enumerate(HEADINGS, 1)]
    faults = [] if found == wanted else [f"The parts are {found}; they should be {wanted}."]
    for word in ("build", "measure", "break"):
        if not re.search(rf"\*[^*]*\b{word}\b[^*]*\*", notebook.cells[0].source):
            faults.append(f"The first cell does not say what the reader will *{word}*.")
    return faults


def exercise_faults(notebook: Any) -> list[str]:
    """Each exercise is open in one cell and solved in a later, folded one."""
    open_in, solved_in = {}, {}
    for place, cell in enumerate(code_cells(notebook)):
        for name in re.findall(r"^check\(\s*[\"']([\w.-]+)[\"']", cell.source, re.MULTILINE):
            (solved_in if SOLUTION in tags(cell) else open_in)[name] = place, text_of(cell)
    faults = []
    for name, (place, said) in open_in.items():
        if f"{name}: not answered yet\n" not in said:
            faults.append(f"The open exercise {name} does not say that it is not answered yet.")
        if name not in solved_in:
            faults.append(f"The exercise {name} has no solution.")
        elif solved_in[name][0] < place:
            faults.append(f"The solution of {name} comes before its exercise.")
        elif f"{name}: right\n" not in solved_in[name][1]:
            faults.append(f"The solution of {name} is not right.")
    faults += [f"{name} is solved but not asked." for name in solved_in if name not in open_in]
    return faults


def budget_faults(notebook: Any) -> list[str]:
    """A lab runs on a laptop within a minute."""
    run = notebook.metadata["stackkit"]
    faults = []
    if run["seconds"] > MOST_SECONDS:
        faults.append(f"The lab ran for {run['seconds']} s; it may take {MOST_SECONDS}.")
    if run["gigabytes"] > MOST_GIGABYTES:
        faults.append(f"The lab took {run['gigabytes']} GB; it may take {MOST_GIGABYTES}.")
    return faults


def unstable_text(notebook: Any, host: str) -> list[str]:
    """What another day or another machine would print differently, in outputs that are compared.

    A date that the atlas knows is data, not the day of the run.
    """
    sources = table("sources").values()
    data = {str(source[field]) for source in sources for field in ("seen_on", "as_of")}
    patterns = {
        "an absolute path": r"(?<![\w:./<])(?:/[\w.+-]+){2,}|\b[A-Z]:\\\w+",
        "a date": r"\b20\d\d-\d\d-\d\d\b|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:[A-Z][a-z]{2}|\d)",
        "a time": r"\b\d\d:\d\d:\d\d\b",
        "an address in memory": r"\bat 0x[0-9a-fA-F]{4,}",
        "the machine's name": rf"(?<![\w.-]){re.escape(host)}(?![\w-])",
    }
    return [
        f"{_first_line(cell)!r} prints {kind}: {match.group()}"
        for cell in code_cells(notebook)
        if MEASURED not in tags(cell)
        for kind, pattern in patterns.items()
        for match in re.finditer(pattern, text_of(cell))
        if match.group() not in data
    ]


def _first_line(cell: Any) -> str:
    return cell.source.partition("\n")[0]


def strange_metadata(notebook: Any) -> list[str]:
    """Metadata that changes with the tool or the machine and says nothing of the lab."""
    found = [f"notebook: {key}" for key in notebook.metadata if key not in NOTEBOOK_METADATA]
    if {"name", "pygments_lexer"} < notebook.metadata.get("language_info", {}).keys():
        found.append("notebook: language_info, which names the maker's Python")
    for cell in notebook.cells:
        found += [f"{cell.id}: {key}" for key in cell.metadata if key not in CELL_METADATA]
    return found


def test_there_is_a_lab():
    assert NAMES != []


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_a_stored_notebook_is_in_step_with_its_script(source):
    assert labs.faults(source, LABS / f"{source.stem}.ipynb") == []


def test_every_stored_notebook_has_a_script():
    assert sorted(path.stem for path in LABS.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_lab_has_the_nine_parts(name):
    assert shape_faults(stored(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_of_a_lab_is_open_and_has_a_right_solution(name):
    assert exercise_faults(stored(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_lab_keeps_its_budget(name):
    assert budget_faults(stored(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_lab_says_in_its_head_what_its_run_took(name):
    notebook = stored(name)
    assert labs.run_sentence(notebook.metadata["stackkit"]) in notebook.cells[0].source


@pytest.mark.parametrize("name", NAMES)
def test_no_compared_output_would_differ_elsewhere(name):
    assert unstable_text(stored(name), socket.gethostname()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_carries_no_strange_metadata(name):
    assert strange_metadata(stored(name)) == []


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_no_text_of_a_lab_has_a_typed_number(source):
    """In the script: the sentence on what a run took is filled in by the builder."""
    prose = [cell for cell in labs.read_source(source).cells if cell.cell_type == "markdown"]
    found = {cell.id: typed_numbers(cell.source) for cell in prose if typed_numbers(cell.source)}
    assert found == {}


# The contracts see what they should


def lab(headings: Any = HEADINGS, first: str = "*You build*, *measure* and *break*.") -> Any:
    parts = [f"## {number}. {heading}" for number, heading in enumerate(headings, 1)]
    return new_notebook(cells=[new_markdown_cell(text) for text in (f"# Lab\n\n{first}", *parts)])


def cell(source: str, said: str = "", *tags: str) -> Any:
    outputs = [new_output("stream", name="stdout", text=said)] if said else []
    return new_code_cell(source, outputs=outputs, metadata={"tags": list(tags)})


ASKED = cell('check("memory.x", None)', "memory.x: not answered yet\n")
SOLVED = cell('# @title Solution\ncheck(\n    "memory.x",\n    1)', "memory.x: right\n", SOLUTION)


def test_a_lab_with_nine_parts_has_no_fault():
    assert shape_faults(lab()) == []


@pytest.mark.parametrize(
    "headings", [HEADINGS[:-1], (*HEADINGS[:2], *HEADINGS[3:]), HEADINGS[::-1], (*HEADINGS, "More")]
)
def test_a_part_that_is_missing_or_misplaced_is_found(headings):
    assert len(shape_faults(lab(headings))) == 1


@pytest.mark.parametrize("word", ["build", "measure", "break"])
def test_a_first_cell_that_does_not_say_what_to_do_is_found(word):
    others = {"build", "measure", "break"} - {word}
    first = ", ".join(f"*{other}* it" for other in others)
    faults = shape_faults(lab(first=f"{first}, {word} it"))
    assert faults == [f"The first cell does not say what the reader will *{word}*."]


def test_an_exercise_with_a_right_solution_has_no_fault():
    assert exercise_faults(new_notebook(cells=[ASKED, SOLVED])) == []


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ([ASKED], "The exercise memory.x has no solution."),
        ([SOLVED], "memory.x is solved but not asked."),
        ([SOLVED, ASKED], "The solution of memory.x comes before its exercise."),
        (
            [cell('check("memory.x", 1)', "memory.x: right\n"), SOLVED],
            "The open exercise memory.x does not say that it is not answered yet.",
        ),
        (
            [ASKED, cell('check("memory.x", 2)', "memory.x: not yet. No.\n", SOLUTION)],
            "The solution of memory.x is not right.",
        ),
    ],
)
def test_a_faulty_exercise_is_found(cells, fault):
    assert exercise_faults(new_notebook(cells=cells)) == [fault]


@pytest.mark.parametrize(
    ("run", "faults"),
    [
        ({"seconds": 60, "gigabytes": 2.0}, 0),
        ({"seconds": 61, "gigabytes": 2.0}, 1),
        ({"seconds": 60, "gigabytes": 2.1}, 1),
    ],
)
def test_a_lab_beyond_its_budget_is_found(run, faults):
    assert len(budget_faults(new_notebook(metadata={"stackkit": run}))) == faults


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("saved to /home/reader/lab/x.npy", "an absolute path"),
        (r"saved to C:\labs\x.npy", "an absolute path"),
        ("run on 2031-02-03", "a date"),
        ("Mon Nov 23 is today", "a date"),
        ("done at 10:20:30", "a time"),
        ("<function f at 0x7f12ab34cd56>", "an address in memory"),
        ("running on lab-box-7", "the machine's name"),
    ],
)
def test_an_output_that_would_differ_elsewhere_is_found(said, kind):
    [fault] = unstable_text(new_notebook(cells=[cell("print(x)", said)]), "lab-box-7")
    assert fault.startswith(f"'print(x)' prints {kind}: ")


@pytest.mark.parametrize(
    "said",
    [
        "3.35 TB/s, 989 TFLOP/s, 12/s/GPU",
        "see https://example.org/a/b/c and <a href='chapters/7-memory.html'></a>",
        "seen on " + fact("h100-sxm.tdp_w").seen_on,
        "a ratio of 10:1, at 0x10, on lab-box-71",
    ],
)
def test_an_output_that_is_the_same_everywhere_is_left_alone(said):
    assert unstable_text(new_notebook(cells=[cell("print(x)", said)]), "lab-box-7") == []


def test_a_measured_cell_may_print_what_it_likes():
    measured = cell("print(x)", "/tmp/x/y at 0x7f12ab34cd56", MEASURED)
    assert unstable_text(new_notebook(cells=[measured]), "lab-box-7") == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"widgets": {}},
        {"language_info": {"name": "python", "pygments_lexer": "ipython3", "version": "3.11.7"}},
    ],
)
def test_strange_metadata_of_a_notebook_is_found(metadata):
    assert len(strange_metadata(new_notebook(metadata=metadata))) == 1


def test_strange_metadata_of_a_cell_is_found():
    timed = new_code_cell("1", metadata={"execution": {"iopub.execute_input": "now"}})
    assert strange_metadata(new_notebook(cells=[timed])) == [f"{timed.id}: execution"]


# The builder, on a tiny lab

LAB = """\
# %% [markdown]
# # A lab
#
# Stored run: {run}.

# %%
print("modelled")

# %% tags=["nbval-ignore-output"] slideshow={"slide_type": "skip"}
print(sum(range(10)))
2 + 3

# %% tags=["hide-cell"] mystnb={"image": {"alt": "a dot"}}
# @title Solution
print("solved")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The notebook of the tiny lab, built twice by the command line."""
    folder = tmp_path_factory.mktemp("labs")
    return [_build(folder) for _ in range(2)]


def _build(folder: Path) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["labs", str(write_lab(folder))])
        assert labs.main() == 0
    return (folder / "tiny.ipynb").read_bytes()


def write_lab(folder: Path, text: str = LAB) -> Path:
    source = folder / "src" / "tiny.py"
    source.parent.mkdir(exist_ok=True)
    source.write_text(text, encoding="utf-8")
    return source


@pytest.fixture
def pair(built, tmp_path) -> tuple[Path, Path]:
    """A script and its notebook, in step, to be spoilt."""
    (tmp_path / "tiny.ipynb").write_bytes(built[0])
    return write_lab(tmp_path), tmp_path / "tiny.ipynb"


def spoil(path: Path, change: Any) -> None:
    notebook = nbformat.read(path, 4)
    change(notebook)
    nbformat.write(notebook, path)


def without_run(notebook: bytes) -> str:
    """A notebook's file but for what its run took."""
    run = nbformat.reads(notebook.decode(), 4).metadata["stackkit"]
    text = notebook.decode().replace(labs.run_sentence(run), "")
    return re.sub(r'"stackkit": \{[^}]*\}', "", text)


def test_building_a_lab_twice_gives_the_same_bytes(built):
    assert without_run(built[0]) == without_run(built[1])


def test_leaving_out_the_run_leaves_out_nothing_else(built):
    text = without_run(built[0])
    assert "gigabytes" not in text
    assert "solved" in text
    assert len(text) > len(built[0]) - 200


def test_a_built_pair_is_in_step(pair):
    assert labs.faults(*pair) == []


def test_a_built_notebook_carries_no_strange_metadata(pair):
    assert strange_metadata(nbformat.read(pair[1], 4)) == []


def test_a_built_notebook_says_what_its_run_took(pair):
    notebook = nbformat.read(pair[1], 4)
    assert notebook.metadata["stackkit"].keys() == {"seconds", "gigabytes", "cores"}
    assert re.search(
        r"Stored run: \d+ s and [\d.]+ GB of memory on \d+ CPU", notebook.cells[0].source
    )


def test_cells_are_numbered_and_counted_in_order(pair):
    notebook = nbformat.read(pair[1], 4)
    assert [cell.id for cell in notebook.cells] == ["c001", "c002", "c003", "c004"]
    assert [cell.execution_count for cell in code_cells(notebook)] == [1, 2, 3]


def test_a_solution_is_folded_in_jupyterlab_and_in_colab(pair):
    *others, solution = code_cells(nbformat.read(pair[1], 4))
    assert solution.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
    assert solution.metadata["cellView"] == "form"
    assert all("cellView" not in other.metadata for other in others)


@pytest.mark.parametrize("name", NAMES)
def test_every_solution_of_a_lab_is_folded_and_has_a_title_for_colab(name):
    for solution in [cell for cell in code_cells(stored(name)) if SOLUTION in tags(cell)]:
        assert solution.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
        assert solution.metadata["cellView"] == "form"
        assert solution.source.startswith("# @title ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"modelled"', '"changed"'),
        ("# # A lab", "# # Another lab"),
        ('tags=["hide-cell"]', 'tags=["hide-input"]'),
        ('"a dot"', '"a circle"'),
        ('\n# %%\nprint("modelled")\n', ""),
    ],
    ids=["code", "text", "tags", "alt text", "a cell"],
)
def test_a_script_that_changed_since_the_notebook_was_stored_is_found(old, new, pair):
    source, notebook = pair
    assert old in LAB
    write_lab(source.parents[1], LAB.replace(old, new))
    [fault] = labs.faults(source, notebook)
    assert "tiny.ipynb is not what " in fault
    assert "make labs" in fault


def test_a_missing_notebook_is_found(pair):
    source, notebook = pair
    notebook.unlink()
    [fault] = labs.faults(source, notebook)
    assert "tiny.ipynb does not exist: run `make labs`" in fault


def test_a_notebook_without_a_record_of_its_run_is_found(pair):
    spoil(pair[1], lambda notebook: notebook.metadata.pop("stackkit"))
    [fault] = labs.faults(*pair)
    assert "does not say what a run took: run `make labs`" in fault


def test_a_cell_that_was_not_run_is_found(pair):
    spoil(pair[1], lambda notebook: notebook.cells[1].update(execution_count=None))
    [fault] = labs.faults(*pair)
    assert "has a cell that was not run, 'print(\"modelled\")'" in fault


ERROR = new_output("error", ename="ValueError", evalue="no", traceback=[])


def test_a_stored_error_is_found(pair):
    spoil(pair[1], lambda notebook: notebook.cells[1].outputs.append(ERROR))
    [fault] = labs.faults(*pair)
    assert "stores an error of the cell 'print(\"modelled\")': mend it." in fault


def test_an_error_that_is_meant_is_no_fault(pair):
    source, notebook = pair
    meant = 'tags=["raises-exception"]'
    write_lab(source.parents[1], LAB.replace('# %%\nprint("m', f'# %% {meant}\nprint("m'))

    def raise_on_purpose(lab):
        lab.cells[1].outputs.append(ERROR)
        lab.cells[1].metadata["tags"] = ["raises-exception"]

    spoil(notebook, raise_on_purpose)
    assert labs.faults(source, notebook) == []


def test_the_command_succeeds_when_pairs_are_in_step(pair, monkeypatch):
    monkeypatch.setattr("sys.argv", ["labs", "--check", str(pair[0])])
    assert labs.main() == 0


def test_the_command_fails_and_says_why_when_they_are_not(pair, monkeypatch, capsys):
    pair[1].unlink()
    monkeypatch.setattr("sys.argv", ["labs", "--check", str(pair[0])])
    assert labs.main() == 1
    assert "tiny.ipynb does not exist" in capsys.readouterr().out


def test_a_check_writes_nothing(pair, monkeypatch):
    before = pair[1].read_bytes()
    write_lab(pair[0].parents[1], LAB.replace("modelled", "changed"))
    monkeypatch.setattr("sys.argv", ["labs", "--check", str(pair[0])])
    labs.main()
    assert pair[1].read_bytes() == before


def test_the_memory_of_a_run_is_its_own(tmp_path):
    """Not that of a larger lab which the same command ran before."""
    large = write_lab(
        tmp_path, "# %% [markdown]\n# # L\n\n# %%\nprint(len(bytearray(400_000_000)))\n"
    )
    heavy = labs.execute(large, tmp_path).metadata["stackkit"]["gigabytes"]
    small = write_lab(tmp_path, "# %% [markdown]\n# # S\n\n# %%\nprint(1)\n")
    light = labs.execute(small, tmp_path).metadata["stackkit"]["gigabytes"]
    assert heavy >= 0.4
    assert light < 0.3
