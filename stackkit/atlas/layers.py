"""The stack itself: ten chapters, of which eight are layers, as data.

The strip at a chapter's head, the landing page's picture and its table are drawn from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from stackkit.atlas.load import pick, table


@dataclass(frozen=True)
class Layer:
    """One layer of the stack. Its name is the same in chapters, labs, library and tests."""

    name: str
    number: int  # chapter number, 1 at the top of the stack
    title: str
    colour: str  # one colour through the whole book
    question: str
    function: str  # what it does for the layer above
    who: tuple[str, ...]  # a few names, alphabetical
    bottleneck: str
    value: str  # where value is captured
    six: str  # its place in the six-layer map, bottom-up
    seven: str  # its place in the seven-layer view, top-down


@cache
def layer(name: str) -> Layer:
    """One layer by name, for example ``"memory"``.

    Raises:
        ValueError: when there is none, with the names there are.
    """
    entry = dict(pick("layers", name))
    return Layer(name=name, who=tuple(entry.pop("who")), **entry)


def layers() -> list[Layer]:
    """The layers from the top of the stack, where a prompt enters, to the bottom."""
    return [layer(name) for name in table("layers")]
