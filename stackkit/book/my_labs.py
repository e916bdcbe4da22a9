"""``make lab``: your own copy of the labs, opened in JupyterLab.

The copies lie in ``my-labs/``, which git ignores. A file that is there is never written to: a lab
that changed since you copied it arrives beside yours under a name with the next free number.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

KNOWN = ".copied"  # hashes of the labs that were copied here, one a line


def copy_labs(labs: Path, mine: Path) -> list[str]:
    """Copy labs that are new or have changed; returns what was done, in sentences."""
    mine.mkdir(exist_ok=True)
    ledger = mine / KNOWN
    known = set(ledger.read_text().split()) if ledger.exists() else set()
    done = []
    for lab in sorted(labs.glob("*.ipynb")):
        digest = hashlib.sha256(lab.read_bytes()).hexdigest()
        if digest in known and list(mine.glob(f"{lab.stem}*.ipynb")):
            continue
        target = _free_name(mine / lab.name)
        shutil.copyfile(lab, target)
        known.add(digest)
        if target.name == lab.name:
            done.append(f"{target.name} is new.")
        else:
            done.append(
                f"{lab.name} has changed: the new one is {target.name}, yours is untouched."
            )
    ledger.write_text("\n".join(sorted(known)) + "\n")
    return done


def _free_name(path: Path) -> Path:
    candidate, number = path, 2
    while os.path.lexists(candidate):  # a link that leads nowhere is there too
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def ask_nothing() -> None:
    """Keep JupyterLab from asking, in every fresh environment, whether it may fetch news."""
    settings = Path(sys.prefix, "etc", "jupyter", "labconfig", "page_config.json")
    if not settings.exists():
        settings.parent.mkdir(parents=True, exist_ok=True)
        disabled = {"@jupyterlab/apputils-extension:announcements": True}
        settings.write_text(json.dumps({"disabledExtensions": disabled}), encoding="utf-8")


def main() -> int:
    root = Path.cwd()
    for sentence in copy_labs(root / "labs", root / "my-labs"):
        print(sentence)
    ask_nothing()
    print("Opening my-labs/ in JupyterLab; stop it with Ctrl-C.")
    command = [sys.executable, "-m", "jupyterlab", "--notebook-dir=my-labs"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container, where root is the user
        command.append("--allow-root")
    try:
        return subprocess.call(command)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
