"""Find numbers that somebody typed into prose.

A figure with a unit belongs to the atlas or to a computation, so that it has a source and cannot
drift: write a ``fact`` or ``calc`` role. An example's input is marked as such: ``given`` in a
chapter, code ticks in a lab. Code, formulas, roles and link targets are not prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Fences whose body is code or data; the body of any other fence (admonition, exercise) is prose.
_CODE_FENCES = ("{code-cell}", "{define}", "{code-block}", "{math}", "{bibliography}", "{toctree}")

_NOT_PROSE = re.compile(
    r"""
    \{[\w:-]+\}`[^`]*`          # a role
    | `+[^`]*`+                 # inline code
    | \$\$.*?\$\$ | \$[^$\n]+\$ # formulas
    | \]\([^)]*\)               # the target of a link
    | </?[a-zA-Z!][^>]*>        # HTML, and bare addresses
    """,
    re.VERBOSE | re.DOTALL,
)

_UNIT = r"""
    (?:[kKMGTPEµunpm]i?)?(?:B|bit|bps|FLOP[sS]?|T|W|Wh|J|Hz|eV)(?:/(?:s|B|bit|FLOP|token|pin|W))?
    | (?:kilo|mega|giga|tera|peta|milli|micro|nano|pico)?(?:bytes?|bits?|watts?|joules?|hertz)
    | (?:milli|micro|nano|pico)seconds?
    | (?:[mµunp]?s|nm|µm|mm[²2]?|cm[²2]?)
    | tokens?(?:/s)? | parameters | transistors | % | percent | dollars | USD | EUR | °C
"""
_TYPED = re.compile(
    rf"""(?<![\w.])(?!\d+B\b)(?:  # "8B" is the name of a model
        [$€]\s?\d[\d.,]*                                                        # $2.50
        | \d[\d.,]*(?:e[+-]?\d+)?\s?(?:(?:thousand|million|billion|trillion)\ )?
          (?:{_UNIT})(?![\w²/-])                                                # 80 GB
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class TypedNumber:
    """A bare figure with a unit, and where it stands."""

    line: int
    text: str


def typed_numbers(markdown: str) -> list[TypedNumber]:
    """Bare figures with units in a Markdown text, in order."""
    prose = _blank(_NOT_PROSE, "\n".join(_prose_lines(markdown)))
    return [
        TypedNumber(prose.count("\n", 0, match.start()) + 1, match.group())
        for match in _TYPED.finditer(prose)
    ]


def _prose_lines(markdown: str) -> Iterator[str]:
    """The lines of a text, those of front matter and code emptied, so that numbers stay right."""
    lines = markdown.split("\n")
    code_fence = "---" if lines[0] == "---" else ""  # the fence that ends the code we are in
    for number, line in enumerate(lines):
        bare = line.strip()
        if code_fence:
            if number and bare.startswith(code_fence) and not bare.strip(code_fence[0]):
                code_fence = ""
            yield ""
        elif match := re.match(r"(`{3,}|~{3,}|:{3,})(.*)", bare):
            info = match.group(2).strip()
            if info.startswith(_CODE_FENCES) or (info and not info.startswith("{")):
                code_fence = match.group(1)
                yield ""
            else:
                yield info.partition("}")[2]  # the title of an admonition
        elif bare.startswith((":", "%")):  # a directive's option, a comment
            yield ""
        else:
            yield line


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """Replace matches by blanks, keeping the line breaks."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
