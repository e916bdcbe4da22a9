"""From TOML to ``Fact``: one line a fact, its source by name.

Knows the files' shape and nothing of what they describe. ``data/<kind>.toml`` holds one table a
thing; a thing's ``facts`` are inline tables with ``value``, ``unit``, ``kind`` and ``source``;
``data/sources.toml`` says what a source is, where, when it was seen and what date it speaks for.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from stackkit.core.fact import Fact

QUOTED = "read where others quote it; the document, its date and its address not checked"
KINDS_OF_THING = ("accelerators", "memories", "models", "records")


@cache
def table(name: str) -> dict[str, dict[str, Any]]:
    """One data file as it stands, for example ``table("accelerators")["h100-sxm"]``."""
    text = files("stackkit.atlas").joinpath("data", f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def facts() -> dict[str, Fact]:
    """All facts by their full name ``"<thing>.<quantity>"``, in the order of the files."""
    found: dict[str, Fact] = {}
    for kind in KINDS_OF_THING:
        for thing, entry in table(kind).items():
            for quantity, fields in entry.get("facts", {}).items():
                name = f"{thing}.{quantity}"
                if name in found:
                    raise ValueError(f"The atlas has two facts named {name!r}; rename one.")
                found[name] = parse_fact(name, fields, table("sources"))
    return found


def parse_fact(name: str, fields: dict[str, Any], sources: dict[str, dict[str, Any]]) -> Fact:
    """Make the fact ``name`` from its line and the table of sources.

    Raises:
        ValueError: when a field is missing or unknown, or the source is not in the table.
    """
    fields = dict(fields)
    source = fields.pop("source", None)
    if source not in sources:
        raise ValueError(f"The fact {name!r} names the source {source!r}; add it to sources.toml.")
    origin = sources[source]
    if origin.get("quoted"):
        fields["note"] = "; ".join(filter(None, (fields.get("note"), QUOTED)))
    try:
        return Fact(
            source=origin["title"],
            url=origin["url"],
            seen_on=origin["seen_on"],
            as_of=str(fields.pop("as_of", origin.get("as_of", ""))),
            **fields,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"The fact {name!r} is not complete or has a strange field: {error}."
        ) from None


def fact(name: str) -> Fact:
    """One fact by its full name, for example ``fact("h100-sxm.memory_bytes_per_s")``.

    Raises:
        ValueError: when there is none, with the names of the same thing.
    """
    if name in facts():
        return facts()[name]
    things = [thing for thing in _things() if f"{name}.".startswith(f"{thing}.")]
    near = [other for thing in things for other in facts_of(thing)]
    if near:
        raise ValueError(f"The atlas has no fact {name!r}; of that thing it has {', '.join(near)}.")
    raise ValueError(
        f"The atlas has no fact {name!r}. A fact's name is <thing>.<quantity>; "
        f"the things are {', '.join(_things())}."
    )


def _things() -> list[str]:
    return [thing for kind in KINDS_OF_THING for thing in table(kind)]


def facts_of(thing: str) -> dict[str, Fact]:
    """The facts of one thing by quantity: ``facts_of("h100-sxm")["memory_bytes"]``."""
    start = f"{thing}."
    return {name[len(start) :]: value for name, value in facts().items() if name.startswith(start)}


def pick(kind: str, name: str) -> dict[str, Any]:
    """One thing's table, or a sentence that lists what there is."""
    things = table(kind)
    if name not in things:
        raise ValueError(f"The atlas has no {name!r} among its {kind}; it has {', '.join(things)}.")
    return things[name]
