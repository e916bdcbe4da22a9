"""``python -m benchmarks``: run every benchmark of this folder and write ``results.md``."""

from datetime import date
from importlib import import_module
from pathlib import Path

from benchmarks import __name__ as package
from stackkit import __version__
from stackkit.core.machine import card

HERE = Path(__file__).parent


def main() -> None:
    report = f"# Benchmarks\n\nWritten by `make bench` on {date.today()}, stackkit {__version__}.\n"
    report += f"\n```text\n{card()}\n```\n"
    for path in sorted(HERE.glob("[!_]*.py")):
        module = import_module(f"{package}.{path.stem}")
        print(f"{module.NAME} ...", flush=True)
        report += f"\n## {module.NAME}\n\nGoal: {module.GOAL}\n\n{module.report()}\n"
    (HERE / "results.md").write_text(report, encoding="utf-8")
    print("Written to benchmarks/results.md.")


if __name__ == "__main__":
    main()
