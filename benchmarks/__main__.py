"""``python -m benchmarks [name ...]``: run benchmarks of this folder, all or those named.

Each writes ``results/<name>.md`` with the machine and the day it was measured on, so that one can
be measured again without the others.
"""

import sys
from datetime import date
from importlib import import_module
from pathlib import Path

from benchmarks import __name__ as package
from stackkit import __version__
from stackkit.core.machine import card

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("[!_]*.py"))


def main(names: list[str]) -> None:
    """Measure and write.

    Raises:
        SystemExit: when there is no benchmark of a name.
    """
    unknown = set(names) - set(NAMES)
    if unknown:
        sys.exit(f"No benchmark is called {', '.join(sorted(unknown))}. There are {NAMES}.")
    for name in names or NAMES:
        module = import_module(f"{package}.{name}")
        print(f"{module.NAME} ...", flush=True)
        body = (
            f"# {module.NAME}\n\nMeasured by `make bench` on {date.today()}, "
            f"stackkit {__version__}.\n\n```text\n{card()}\n```\n\nGoal: {module.GOAL}\n\n"
        )
        path = HERE / "results" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{body}{module.report()}\n", encoding="utf-8")
        print(f"Written to {path.relative_to(HERE.parent)}.", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
