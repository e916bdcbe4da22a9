"""The command line: ``stackkit facts``, ``models``, ``players``, ``matmul``, ``write`` and ``toy``.

Prints what the atlas knows as aligned text, climbs the matmul ladder on this machine, lets a model
write, and trains the toys again. Knows every layer; no layer knows it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stackkit import __version__, atlas
from stackkit.atlas import evidence
from stackkit.core.fact import Fact
from stackkit.core.units import si


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="stackkit", description="The AI stack, in numbers.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    _facts_options(commands.add_parser("facts", help="numbers with their sources"))
    commands.add_parser("models", help="parameters counted, beside those published")
    players = commands.add_parser("players", help="who makes what, layer by layer")
    players.add_argument("word", nargs="*", help="a part of a name, a product or a group")
    _matmul_options(commands.add_parser("matmul", help="climb the matmul ladder on this machine"))
    _write_options(commands.add_parser("write", help="let a language model go on from a prompt"))
    _toy_options(commands.add_parser("toy", help="train a toy again and compare with the shipped"))
    given = parser.parse_args(arguments)
    run = {
        "facts": facts_command,
        "models": models_command,
        "players": players_command,
        "matmul": matmul_command,
        "write": write_command,
        "toy": toy_command,
    }
    try:
        print("\n".join(run[given.command](given)))
    except (ValueError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # head has seen enough
        sys.stderr.close()
    return 0


def _facts_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("word", nargs="*", help="parts of a fact's name or of its source")
    views = parser.add_mutually_exclusive_group()
    views.add_argument("--counts", action="store_true", help="how many, by kind, layer, evidence")
    views.add_argument("--conflicts", action="store_true", help="where sources differ, and why")
    views.add_argument("--old", nargs="?", type=int, const=evidence.OLD_PRICE_DAYS, metavar="DAYS",
                       help="prices older than this, 180 days by default")  # fmt: skip
    views.add_argument("--draw", type=int, metavar="N", help="N names to trace again, unseen")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")


def _matmul_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rung", nargs="*", help="rungs to climb; default: all")
    parser.add_argument("--n", type=int, default=1024, help="side of the matrices (default 1024)")
    parser.add_argument("--html", metavar="FILE", help="draw the climb into a page of its own")


def matmul_command(given: argparse.Namespace) -> list[str]:
    """The ladder on this machine: predicted, checked, timed and drawn."""
    from stackkit.processors.climb import climb  # needs NumPy; facts do not

    if given.html and Path(given.html).exists():  # before a minute of work
        raise ValueError(f"{given.html} is there already; name another file.")
    found = climb(given.n, given.rung, progress=lambda line: print(line, file=sys.stderr))
    lines = list(found.lines())
    if given.html:
        from stackkit.processors.figures import climb_figure

        climb_figure(found).write_html(given.html)
        lines.append(f"drawn in {given.html}")
    return lines


def _write_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", help="text; a question where the model was taught to chat")
    parser.add_argument("--model", default="smollm2-135m", help="a name, or a GGUF file's path")
    parser.add_argument("--tokens", type=int, default=100, help="at most so many (default 100)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest token")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")


def write_command(given: argparse.Namespace) -> list[str]:
    """Text as it comes; the last line is empty."""
    from stackkit import models

    model, tokenizer = models.load(given.model)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": given.prompt}])
    for token in models.generate(
        model,
        tokenizer,
        prompt,
        max_new_tokens=given.tokens,
        temperature=given.temperature,
        seed=given.seed,
    ):
        print(token.text, end="", flush=True)
    return [""]


def _toy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="toy", help="toy or toy-draft")
    parser.add_argument("--steps", type=int, help="fewer than the shipped one had, for a look")
    parser.add_argument("--ship", action="store_true", help="write it over the shipped one")


def toy_command(given: argparse.Namespace) -> list[str]:
    """Training from nothing, about two minutes on two cores; then both held-out losses.

    Raises:
        ValueError: when a whole run does not come within 2 % of the shipped loss.
    """
    from stackkit.models.loading import require

    require("torch", "safetensors")
    from stackkit.models import toy

    def report(step: int, loss: float) -> None:
        if step % 50 == 0:
            bar = "#" * round(8 * loss)
            print(f"step {step:4}  {loss:5.2f} nats a token  {bar}", file=sys.stderr)

    made = toy.make(given.name, report=report, steps=given.steps)
    lines = ["before:  " + made.before, "after:   " + made.after]
    lines.append(f"held-out loss {made.held_out_loss:.3f} nats a token")
    if given.ship:
        toy.ship(given.name, made)
        return [*lines, f"written to {toy.TOYS}"]
    before = toy.shipped(given.name)["held_out_loss_nats_per_token"]
    ratio = made.held_out_loss / before
    lines.append(f"shipped       {before:.3f}: {ratio:.3f} times")
    if given.steps is None and abs(ratio - 1) > toy.TOLERANCE:
        raise ValueError("\n".join([*lines, "That is more than 2 % away from the shipped model."]))
    return lines


def facts_command(given: argparse.Namespace) -> list[str]:
    """One fact in full, several as a table, or one of the maintainer's views."""
    if given.counts:
        return _counts()
    if given.draw:
        return evidence.draw(given.draw, given.seed)
    if given.conflicts:
        found = evidence.conflicts()
    elif given.old is not None:
        found = evidence.old_prices(given.old)
    else:
        found = evidence.find(given.word)
    if not found and given.word:
        atlas.fact(".".join(given.word))  # says what is near
    if given.conflicts or len(found) <= 3:
        return [line for name, fact in found.items() for line in _in_full(name, fact)]
    heads = ("fact", "value", "kind", "as of", "rests on")
    rows = [(name, str(f), f.kind, f.as_of, f.evidence) for name, f in found.items()]
    return [*_table(heads, rows), f"{len(found)} facts"]


def _in_full(name: str, fact: Fact) -> list[str]:
    """Everything the atlas has on one fact."""
    interval = ""
    if fact.low is not None or fact.high is not None:
        low, high = (fact.value if end is None else end for end in (fact.low, fact.high))
        interval = f"   [{si(low, fact.unit)} to {si(high, fact.unit)}]"
    lines = [f"{name} = {fact}{interval}   {fact.kind}, {fact.evidence}"]
    if fact.note:
        lines.append(f"  {fact.note}")
    lines.append(f"  source   {fact.source}, {fact.as_of}; seen {fact.seen_on}; {fact.standing}")
    lines.append(f"           {fact.url}")
    for witness in fact.witnesses:
        lines += [f"  witness  {witness.title}, {witness.as_of}", f"           {witness.url}"]
    for other in fact.others:
        lines.append(f"  also     {other} ({other.source}, {other.as_of}) {other.note}".rstrip())
    if fact.why:
        lines.append(f"  why      {fact.why}")
    for was in fact.history:
        lines.append(f"  was      {was} ({was.as_of}, {was.source}) {was.note}".rstrip())
    return [*lines, ""]


def _counts() -> list[str]:
    lines = []
    for heading, counter in evidence.counts().items():
        rows = [(name, str(number)) for name, number in counter.most_common()]
        lines += [*_table((f"by {heading}", "facts"), rows), ""]
    prices = sum(fact.unit.startswith("USD") for fact in atlas.facts().values())
    lines.append(
        f"{len(atlas.facts())} facts from {len(atlas.sources())} sources; "
        f"{len(evidence.conflicts())} with conflicting values in print; "
        f"{prices} prices, {len(evidence.old_prices())} older than {evidence.OLD_PRICE_DAYS} days"
    )
    return lines


def models_command(_: argparse.Namespace) -> list[str]:
    """Our count of every model beside the one that is published."""
    heads = ("model", "attention", "counted", "published", "gap", "active", "KV B/token")
    rows = []
    for spec in atlas.models():
        published = spec.published_params
        if published.kind == "derived":
            gap = "not printed"  # counted from the same configuration: no test of our count
        elif spec.params() == published.value:
            gap = "exact"
        else:
            gap = f"{spec.params() / published.value - 1:+.2%}"
        rows.append((
            spec.id, spec.attention, f"{spec.params():,}", f"{published.value:,.0f}", gap,
            si(spec.active_params()), f"{spec.kv_bytes_per_token():,.0f}",
        ))  # fmt: skip
    return _table(heads, rows)


def players_command(given: argparse.Namespace) -> list[str]:
    """Players by layer and group, all of them or those that a word finds."""
    words = [word.casefold() for word in given.word]
    lines = []
    for shown in atlas.layers():
        group = None
        for player in atlas.players(shown.name):
            text = " ".join(player.names()).casefold()
            if not all(word in text for word in words):
                continue
            if player.group != group:
                group = player.group
                lines.append(f"{shown.number} {shown.title}: {group}")
            lines.append(f"  {player.name}: {', '.join(player.products)}. {player.role}")
            if player.note:
                lines.append(f"    {player.note}")
    if not lines:
        raise ValueError(f"The atlas has no player with {' '.join(given.word)!r}.")
    return lines


_WORDS = ("exact", "not printed")  # that stand in a column of numbers


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they need to be; a column of numbers is set to the right."""
    columns = list(zip(heads, *rows, strict=True))
    lines = []
    for row in (heads, *rows):
        cells = []
        for cell, column in zip(row, columns, strict=True):
            width = max(map(len, column))
            numeric = all(text[:1] in "+-0123456789" or text in _WORDS for text in column[1:])
            cells.append(cell.rjust(width) if numeric and rows else cell.ljust(width))
        lines.append("  ".join(cells).rstrip())
    return lines


if __name__ == "__main__":
    sys.exit(main())
