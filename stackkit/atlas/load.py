"""From TOML to ``Fact``: one line a fact, its sources by name.

Knows the files' shape and little of what they describe. ``data/<kind>.toml`` holds one table a
thing; a thing's ``facts`` are inline tables with ``value``, ``unit``, ``kind`` and ``source``;
``data/sources.toml`` says what a source is, where, and when it was seen. A mistake in a file is
reported with the file and the line.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from stackkit.core.fact import Fact, Source

DATA = files("stackkit.atlas").joinpath("data")
# What the atlas knows of, file by file, with the layer that its things belong to. Where things of
# one file belong to several layers, each names its own.
LAYER_OF_KIND = {
    "accelerators": "processors",
    "memories": "memory",
    "links": "",
    "models": "models",
    "players": "",
    "prices": "",
    "power": "",
    "records": "",
}
# A chip is a processor, but its memory and its die belong further down the stack.
LAYER_OF_QUANTITY = {
    "memory_": "memory",
    "link_": "memory",
    "tdp_": "systems",
    "die_": "fabrication",
    "transistors": "fabrication",
}
# A quantity's name carries its unit; the first part that fits decides. Any other is a count.
UNIT_IN_NAME = {
    "flops_per_s": "FLOP/s",
    "ops_per_s": "OP/s",
    "bits_per_s": "bit/s",
    "bytes_per_s": "B/s",
    "tokens_per_s": "token/s",
    "seconds_per_token": "s",
    "usd_per_million_tokens": "USD/Mtoken",
    "usd_per_kilowatt_hour": "USD/kWh",
    "kg_co2_per_kilowatt_hour": "kg/kWh",
    "usd_per_hour": "USD/h",
    "j_per_bit": "J/bit",
    "bytes": "B",
    "bits": "bit",
    "flop": "FLOP",
    "joules": "J",
    "usd": "USD",
    "mm2": "mm2",
    "hours": "h",
    "hz": "Hz",
    "kg": "kg",
    "wh": "Wh",
    "ms": None,  # never: seconds are the base
    "w": "W",
    "s": "s",
}


@dataclass(frozen=True)
class Thing:
    """One table of one file: a chip, a model, a price."""

    id: str
    kind: str  # the file's name: "accelerators", ...
    layer: str
    entry: dict[str, Any]  # as it stands in the file
    facts: dict[str, Fact]  # by quantity


@cache
def table(name: str) -> dict[str, dict[str, Any]]:
    """One data file as it stands, for example ``table("accelerators")["h100-sxm"]``.

    Raises:
        ValueError: when the file is no TOML, with the line.
    """
    try:
        return tomllib.loads(_text(name))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}.toml is no TOML: {error}.") from None


@cache
def things() -> dict[str, Thing]:
    """Everything that the atlas knows, by id, in the order of the files."""
    found: dict[str, Thing] = {}
    for kind in LAYER_OF_KIND:
        for thing in things_of(kind).values():
            if thing.id in found:
                where = f"{kind}.toml, line {line_of(_text(kind), thing.id)}"
                raise ValueError(
                    f"{where}: the atlas has two things named {thing.id!r}; rename one."
                )
            found[thing.id] = thing
    return found


@cache
def things_of(kind: str) -> dict[str, Thing]:
    """The things of one file, by id; the other files are not read."""
    found = {}
    for name, entry in table(kind).items():
        layer = entry.get("layer") or LAYER_OF_KIND[kind] or next(iter(entry.get("layers", ())), "")
        if not layer:
            where = f"{kind}.toml, line {line_of(_text(kind), name)}"
            raise ValueError(f"{where}: {name!r} needs a layer.")
        facts = {
            quantity: _parse(kind, name, quantity, fields)
            for quantity, fields in entry.get("facts", {}).items()
        }
        found[name] = Thing(name, kind, layer, entry, facts)
    return found


def _parse(kind: str, thing: str, quantity: str, fields: dict[str, Any]) -> Fact:
    known = sources()  # a mistake there is no mistake of this line
    try:
        return parse_fact(f"{thing}.{quantity}", fields, known)
    except ValueError as error:
        line = line_of(_text(kind), thing, quantity)
        raise ValueError(f"{kind}.toml, line {line}: {error}") from None


@cache
def sources() -> dict[str, Source]:
    """All sources by id."""
    return {name: parse_source(name, fields) for name, fields in table("sources").items()}


def parse_source(name: str, fields: dict[str, Any], today: date | None = None) -> Source:
    """Make the source ``name`` from its table.

    Raises:
        ValueError: when a field is missing or unknown, or a date is none or lies in the future.
    """
    try:
        source = Source(**fields)
        seen_on, today = date.fromisoformat(source.seen_on), today or _latest_date_on_earth()
        if seen_on > today:
            raise ValueError(f"it was seen on {seen_on}, after today, {today}; mend its date")
        _check_date("it", source.as_of, source.seen_on)
    except (TypeError, ValueError) as error:
        line = line_of(_text("sources"), name)
        raise ValueError(f"sources.toml, line {line}: the source {name!r}: {error}") from None
    return source


def _latest_date_on_earth() -> date:
    """Today where the day begins first: whoever lives to the west still reads what was seen there.

    UTC+14 is the furthest ahead of the world's time zones.
    """
    return datetime.now(timezone(timedelta(hours=14))).date()


def parse_fact(name: str, fields: dict[str, Any], sources: dict[str, Source]) -> Fact:
    """Make the fact ``name`` from its line and the known sources.

    Raises:
        ValueError: when a field is missing or unknown, the source is not in the table, the unit
            is not the one that the name carries, or the fact speaks for a time after it was seen.
    """
    fields = dict(fields)
    source = _source(name, fields.pop("source", None), sources)
    same = {"unit": fields.get("unit"), "kind": fields.get("kind")}
    for rest in ("others", "history"):
        older = (parse_fact(name, same | line, sources) for line in fields.get(rest, ()))
        fields[rest] = tuple(older)
    witnesses = tuple(_source(name, witness, sources) for witness in fields.pop("witnesses", ()))
    try:
        fact = Fact(
            source=source.title,
            url=source.url,
            seen_on=source.seen_on,
            standing=source.standing,
            as_of=str(fields.pop("as_of", source.as_of)),
            witnesses=witnesses,
            **fields,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The fact {name!r} is not complete or has a strange field: {error}"
        ) from None
    if fact.unit != (unit := unit_in(name)):
        raise ValueError(
            f"The fact {name!r} has the unit {fact.unit!r}, its name says {unit!r}; "
            "facts are in base units."
        )
    _check_date(f"The fact {name!r}", fact.as_of, fact.seen_on)
    return fact


def unit_in(name: str) -> str:
    """The unit that a quantity's name carries: ``unit_in("memory_bytes_per_s")`` is ``"B/s"``."""
    quantity = name.rsplit(".", 1)[-1]
    for part, unit in UNIT_IN_NAME.items():
        if re.search(rf"(^|_){part}(_|$)", quantity):
            if unit is None:
                raise ValueError(f"The name {name!r} has the unit {part!r}; use its base unit.")
            return unit
    return ""


def _source(name: str, source: str | None, sources: dict[str, Source]) -> Source:
    if source not in sources:
        raise ValueError(f"The fact {name!r} names the source {source!r}; add it to sources.toml.")
    return sources[source]


def _check_date(what: str, as_of: str, seen_on: str) -> None:
    if not re.fullmatch(r"\d{4}(-\d\d){0,2}", as_of):
        raise ValueError(f"{what} speaks for {as_of!r}; write a year, a month or a day.")
    if as_of > seen_on:
        raise ValueError(f"{what} speaks for {as_of}, after it was seen, {seen_on}.")


@cache
def _text(name: str) -> str:
    return DATA.joinpath(f"{name}.toml").read_text(encoding="utf-8")


def line_of(text: str, thing: str, quantity: str = "") -> int:
    """The line on which a thing, or one of its facts, begins in its file; 1 if it is not there."""
    heading = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\[(.+)\]\s*(#|$)", line):
            heading = match.group(1).replace('"', "")
            if not quantity and heading == thing:
                return number
        elif heading == f"{thing}.facts" and re.match(rf"{re.escape(quantity)}\s*=", line):
            return number
    return 1


@cache
def facts() -> dict[str, Fact]:
    """All facts by their full name ``"<thing>.<quantity>"``, in the order of the files."""
    return {
        f"{thing.id}.{quantity}": fact
        for thing in things().values()
        for quantity, fact in thing.facts.items()
    }


def fact(name: str) -> Fact:
    """One fact by its full name, for example ``fact("h100-sxm.memory_bytes_per_s")``.

    Raises:
        ValueError: when there is none, with near names.
    """
    thing, _, quantity = name.rpartition(".")
    for kind in LAYER_OF_KIND:
        if thing in table(kind):
            found = things_of(kind)[thing].facts
            if quantity in found:
                return found[quantity]
            has = ", ".join(found) or "none"
            raise ValueError(f"The atlas has no fact {name!r}; of that thing it has {has}.")
    raise ValueError(
        f"The atlas has no fact {name!r}. A fact's name is <thing>.<quantity>"
        f"{_near(name.partition('.')[0], list(things()))}."
    )


def facts_of(thing: str) -> dict[str, Fact]:
    """The facts of one thing by quantity: ``facts_of("h100-sxm")["memory_bytes"]``."""
    kind = next(kind for kind in LAYER_OF_KIND if thing in table(kind))
    return things_of(kind)[thing].facts


def layer_of(name: str) -> str:
    """The layer that a fact belongs to: ``layer_of("h100-sxm.die_area_mm2")`` is fabrication."""
    thing, _, quantity = name.rpartition(".")
    if things()[thing].kind == "accelerators":
        for start, layer in LAYER_OF_QUANTITY.items():
            if quantity.startswith(start):
                return layer
    return things()[thing].layer


def pick(kind: str, name: str) -> dict[str, Any]:
    """One thing's table, or a sentence that names near ones."""
    rows = table(kind)
    if name not in rows:
        raise ValueError(f"The atlas has no {name!r} among its {kind}{_near(name, list(rows))}.")
    return rows[name]


def _near(name: str, names: list[str]) -> str:
    """``"; near it are ..."``, or all names when none is near."""
    name = name.casefold()
    parts = [other for other in names if name and name in other]
    found = list(dict.fromkeys([*get_close_matches(name, names, n=4, cutoff=0.6), *parts[:4]]))
    return f"; near it are {', '.join(found)}" if found else f"; it has {', '.join(names)}"
