"""Make the stored notebooks from their sources, and check that they are in step.

``labs/src/<lab>.py`` (percent script, reviewed) -> ``labs/<lab>.ipynb`` (executed, with outputs).
Everything that changes from run to run and says nothing is removed, so a notebook's diff shows
what changed in the lab. What a run took is kept in the notebook's metadata and printed in place
of ``{run}`` in the lab's first cell.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from stackkit.core.machine import card
from stackkit.core.timing import BUSY_CORES, CpuUsage
from stackkit.core.units import GIGA

KEPT_METADATA = {"tags", "mystnb"}
RUN = "{run}"
CELL_TIMEOUT_S = 300
# Run behind the last cell: the kernel's own peak in bytes. What this process knows of its children
# is the peak of them all, and on Linux a child's ru_maxrss begins with the peak of its parent.
PEAK = """
import resource, sys
if sys.platform == "linux":
    print(1024 * int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]))
else:  # bytes on a Mac
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def read_source(path: Path, run: dict[str, Any] | None = None) -> Any:
    """The notebook that a percent script describes, without outputs.

    Args:
        path: the script.
        run: what the stored run took; printed in place of ``{run}``.
    """
    import jupytext

    notebook = jupytext.read(path, fmt="py:percent")
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"c{number:03d}"
        cell["metadata"] = {k: v for k, v in cell.metadata.items() if k in KEPT_METADATA}
        if "hide-cell" in cell.metadata.get("tags", []):  # the book folds it; so should the others
            hidden = {"source_hidden": True, "outputs_hidden": True}
            cell["metadata"] |= {"jupyter": hidden, "cellView": "form"}
    if run:
        notebook.cells[0].source = notebook.cells[0].source.replace(RUN, run_sentence(run))
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    return notebook


def run_sentence(run: dict[str, Any]) -> str:
    """What the lab costs to run, as its head says it."""
    return f"{run['seconds']} s and {run['gigabytes']} GB of memory on {run['cores']} CPU cores"


def execute(source: Path, cwd: Path) -> Any:
    """Run a lab from top to bottom in a fresh kernel and return the clean notebook."""
    import nbformat
    from nbclient import NotebookClient

    notebook = read_source(source)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    usage = CpuUsage()
    start = time.monotonic()
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(cwd)}},
    ).execute()
    peak = int(notebook.cells.pop().outputs[0].text)
    others = usage.others_cores()
    if others is not None and others > BUSY_CORES:
        print(f"  other programs kept {others:.1f} cores busy: run it again before you commit it")
    run = {
        "seconds": round(time.monotonic() - start),
        "gigabytes": round(peak / GIGA, 1),
        "cores": card().cores,
    }
    notebook.cells[0].source = notebook.cells[0].source.replace(RUN, run_sentence(run))
    notebook["metadata"] = read_source(source).metadata | {"stackkit": run}  # not the kernel's
    _number_cells(notebook)
    return notebook


def _number_cells(notebook: Any) -> None:
    """Count executed cells from 1; nbval refuses outputs of a cell without a count."""
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code_cells, 1):
        cell["metadata"].pop("execution", None)
        cell["execution_count"] = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output["execution_count"] = count


def faults(source: Path, stored: Path) -> list[str]:
    """What is wrong with a stored notebook, in sentences; empty when it is in step."""
    import nbformat

    command = "run `make labs` and commit the notebook"
    if not stored.exists():
        return [f"{stored} does not exist: {command}."]
    notebook = nbformat.read(stored, 4)
    run = notebook.metadata.get("stackkit")
    if not run:
        return [f"{stored} does not say what a run took: {command}."]
    wanted = read_source(source, run)
    cells = [_identity(cell) for cell in notebook.cells]
    found = []
    if cells != [_identity(cell) for cell in wanted.cells]:
        found.append(f"{stored} is not what {source} describes: {command}.")
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None:
            found.append(f"{stored} has a cell that was not run, {_first_line(cell)!r}: {command}.")
        if any(output.output_type == "error" for output in cell.outputs) and (
            "raises-exception" not in cell.metadata.get("tags", [])
        ):
            found.append(f"{stored} stores an error of the cell {_first_line(cell)!r}: mend it.")
    return found


def _identity(cell: Any) -> tuple[str, str, dict[str, Any]]:
    kept = {key: value for key, value in cell.metadata.items() if key != "execution"}
    return cell.cell_type, cell.source, kept


def _first_line(cell: Any) -> str:
    return cell.source.partition("\n")[0]


def main() -> int:
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", type=Path, help="labs/src/*.py")
    parser.add_argument("--check", action="store_true", help="only say whether pairs are in step")
    options = parser.parse_args()
    problems: list[str] = []
    for source in options.sources:
        labs = source.resolve().parents[1]
        stored = labs / f"{source.stem}.ipynb"
        if options.check:
            problems += faults(source, stored)
            continue
        print(f"running {source} ...", flush=True)
        notebook = execute(source, labs)
        nbformat.validate(notebook)
        nbformat.write(notebook, stored)
        print(f"  {stored}: {run_sentence(notebook.metadata['stackkit'])}")
    print("\n".join(problems) or f"{len(options.sources)} lab(s) in order.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
