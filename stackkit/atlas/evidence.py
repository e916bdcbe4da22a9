"""What the atlas rests on: counts, conflicts, old prices, and a draw to trace again.

The maintainer's view. Nothing here is needed to use a number; all of it is needed to trust one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from datetime import date

from stackkit.atlas.load import facts, layer_of, things
from stackkit.core.fact import Fact

OLD_PRICE_DAYS = 180


def counts() -> dict[str, Counter[str]]:
    """How many facts there are by kind, by layer and by what they rest on."""
    named = facts()
    return {
        "kind": Counter(fact.kind for fact in named.values()),
        "layer": Counter(layer_of(name) for name in named),
        "evidence": Counter(fact.evidence for fact in named.values()),
    }


def conflicts() -> dict[str, Fact]:
    """The facts for which other values are in print too; ``why`` says why ours is preferred."""
    return {name: fact for name, fact in facts().items() if fact.others}


def old_prices(days: int = OLD_PRICE_DAYS, today: date | None = None) -> dict[str, Fact]:
    """Prices that were last true more than ``days`` ago, oldest first."""
    old = [(name, fact) for name, fact in facts().items() if is_old_price(fact, days, today)]
    return dict(sorted(old, key=lambda pair: pair[1].as_of))


def is_old_price(fact: Fact, days: int = OLD_PRICE_DAYS, today: date | None = None) -> bool:
    """Whether a fact is in dollars and older than ``days``."""
    return fact.unit.startswith("USD") and fact.age_days(today) > days


def draw(number: int, seed: int) -> list[str]:
    """Names drawn at random, the same for the same seed and the same atlas.

    Trace each again from nothing, without looking at what the atlas says, and compare.
    """
    return random.Random(seed).sample(sorted(facts()), min(number, len(facts())))


def find(words: Iterable[str]) -> dict[str, Fact]:
    """The facts with every one of the words in their name, their thing's or their source's."""
    wanted = [word.casefold() for word in words]

    def text(name: str, fact: Fact) -> str:
        thing = things()[name.rpartition(".")[0]].entry["name"]
        return f"{name} {thing} {fact.source}".casefold()

    return {
        name: fact
        for name, fact in facts().items()
        if all(word in text(name, fact) for word in wanted)
    }
