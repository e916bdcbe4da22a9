"""Build the site: strict, and honest about failure.

``python -m stackkit.book.build`` runs Jupyter Book with every warning an error. Sphinx writes a
page before it reports what is wrong with it, so a second run would find nothing to do and succeed.
Therefore a build leaves a mark while it runs; one that finds the mark starts from nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

UNFINISHED = ".unfinished"


def build(root: Path) -> int:
    """Build the book in ``root`` into ``root/_build/html``; returns the exit status."""
    out = root / "_build"
    mark = out / UNFINISHED
    if mark.exists():
        print("The last build failed or was cut off: building every page anew.", flush=True)
        for done in ("html", ".doctrees"):  # what Sphinx has written, and what it has read
            shutil.rmtree(out / done, ignore_errors=True)
    out.mkdir(exist_ok=True)
    mark.touch()
    start = time.monotonic()
    jupyter_book = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", jupyter_book, "build", str(root)]
    status = subprocess.run([*command, "-W", "-n", "--keep-going", "-q"]).returncode
    if status == 0:
        mark.unlink()
        print(f"The site is ready after {time.monotonic() - start:.0f} s. Open this page:")
        print(f"  {(out / 'html' / 'index.html').as_uri()}")
    else:
        print("The site was NOT built: see the warnings above.", file=sys.stderr)
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path.cwd())
    return build(parser.parse_args().root.resolve())


if __name__ == "__main__":
    sys.exit(main())
