"""``python -m benchmarks``: run every benchmark of this folder and write ``results.md``."""

from collections.abc import Iterator
from datetime import date
from importlib import import_module
from pathlib import Path

from benchmarks import Row
from stackkit import __version__
from stackkit.core.machine import card
from stackkit.core.units import si

HERE = Path(__file__).parent
HEAD = "| case | contestant | rate, median (p20 to p80) | time, better peer = 1 | ours is |"


def lines(row: Row) -> Iterator[str]:
    """A race as rows of a table; ``verdict`` stands beside our contestant, the first."""
    verdict = row.verdict
    for name, time in row.race.timings.items():
        seconds = (time.median_s, time.p80_s, time.p20_s)  # slow calls have low rates
        rate, low, high = (si(row.bytes_moved / s, "B/s") for s in seconds)
        p20, ratio, p80 = row.race.ratios[name]
        against = f"{ratio:.2f} ({p20:.2f} to {p80:.2f})" if name != row.race.reference else "1"
        yield f"| {row.case} | {name} | {rate} ({low} to {high}) | {against} | {verdict} |"
        verdict = ""


def main() -> None:
    report = f"# Benchmarks\n\nWritten by `make bench` on {date.today()}, stackkit {__version__}.\n"
    report += f"\n```text\n{card()}\n```\n"
    for path in sorted(HERE.glob("[!_]*.py")):
        module = import_module(f"benchmarks.{path.stem}")
        print(f"{module.NAME} (a few seconds) ...", flush=True)
        report += f"\n## {module.NAME}\n\nGoal: {module.GOAL}\n\n{HEAD}\n{'|---' * 5}|\n"
        for row in module.run():
            report += "\n".join(lines(row)) + "\n"
    (HERE / "results.md").write_text(report, encoding="utf-8")
    print("Written to benchmarks/results.md.")


if __name__ == "__main__":
    main()
