"""Which pages use which fact, read from the text of chapters and labs.

A page uses a fact when it names it (a ``fact`` role, ``atlas.fact(...)``), and when its code takes
up the fact's thing (``accelerator("h100-sxm")``, or all of them with ``accelerators()``): then
any of the thing's facts may stand behind what the page prints.
"""

from __future__ import annotations

import re
from pathlib import Path

from stackkit.atlas.load import things


def pages(root: Path) -> dict[str, Path]:
    """The texts that can use facts, by the document they become: chapters, and labs' scripts."""
    chapters = {f"chapters/{path.stem}": path for path in sorted(root.glob("chapters/*.md"))}
    labs = {f"labs/{path.stem}": path for path in sorted(root.glob("labs/src/*.py"))}
    return chapters | labs


def pages_by_fact(root: Path) -> dict[str, list[str]]:
    """For every fact that is used, the documents that use it."""
    found: dict[str, list[str]] = {}
    for page, path in pages(root).items():
        for name in facts_used(path.read_text(encoding="utf-8")):
            found.setdefault(name, []).append(page)
    return found


def facts_used(text: str) -> list[str]:
    """The full names of the facts that a text uses, in the order of the atlas."""
    words = set(re.findall(r"[\w.-]+", text))
    quoted = set(re.findall(r"""["']([\w.-]+)["']""", text))
    whole_kinds = set(re.findall(r"\b(\w+)\(\)", text))
    used = []
    for thing in things().values():
        taken_up = thing.id in quoted or thing.kind in whole_kinds
        for quantity in thing.facts:
            if taken_up or f"{thing.id}.{quantity}" in words:
                used.append(f"{thing.id}.{quantity}")
    return used
