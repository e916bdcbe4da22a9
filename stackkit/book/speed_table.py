"""``{speed-table}``: how many tokens per second the cost model gives every chip, model by model.

A chip takes part as often as it must to hold the weights and one request. Where the atlas has no
dense bf16 peak, or no link between several chips, only what reading allows is known.
"""

from __future__ import annotations

from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from stackkit.atlas import Accelerator, ModelSpec, accelerators, model
from stackkit.book.finder import cells_of, html, opening, table
from stackkit.core.units import si
from stackkit.memory import decode_step, decode_work, max_batch

MODELS = (
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "mixtral-8x7b",
    "gpt-oss-120b",
    "deepseek-v3",
    "smollm2-135m",
)
CONTEXT = 2048
MOST_CHIPS = 1024
HEADS = ("Chip", "Chips", "One request (token/s)", "Requests that fit", "All of them (token/s)")


class SpeedTable(SphinxDirective):
    """Every chip for each of ``MODELS``; the reader chooses the model."""

    def run(self) -> list[nodes.Node]:
        specs = [model(name) for name in MODELS]
        rows = (_row(chip, spec) for spec in specs for chip in accelerators())
        chosen = {spec.id: spec.name for spec in specs}
        body = table("sk-facts sk-speeds", HEADS, rows)
        return [html(opening("speeds", rows="rows", models=chosen), body, "</div>")]


def chips_needed(chip: Accelerator, spec: ModelSpec) -> int | None:
    """The smallest power of two of chips that hold the weights and one request, in bf16.

    None when that would be more than ``MOST_CHIPS``.
    """
    n_chips = 1
    while n_chips <= MOST_CHIPS:
        if max_batch(spec, chip, context=CONTEXT, n_chips=n_chips):
            return n_chips
        n_chips *= 2
    return None


def _row(chip: Accelerator, spec: ModelSpec) -> str:
    n_chips = chips_needed(chip, spec)
    if n_chips is None:
        cells = [f"over {MOST_CHIPS:,}", "", "", ""]
    else:
        fit = max_batch(spec, chip, context=CONTEXT, n_chips=n_chips)
        cells = [f"{n_chips:,}", _speed(chip, spec, n_chips, 1), f"{fit:,}"]
        cells.append(_speed(chip, spec, n_chips, fit))
    return f'<tr data-model="{spec.id}">{cells_of(chip.name, *cells)}</tr>'


def _speed(chip: Accelerator, spec: ModelSpec, n_chips: int, batch: int) -> str:
    """Tokens per second of all requests: with no overlap and with all of it, or reading alone."""
    if "bf16" in chip.peak_flops_per_s and (n_chips == 1 or chip.link_bytes_per_s):
        cost = decode_step(spec, chip, batch=batch, context=CONTEXT, n_chips=n_chips)
        return " to ".join(_ends(batch / cost.upper_s, batch / cost.lower_s))
    work = decode_work(spec, batch=batch, context=CONTEXT)
    read_s = work.bytes / (n_chips * chip.memory_bytes_per_s)
    return f"under {si(batch / read_s, digits=3)}"


def _ends(low: float, high: float) -> Iterator[str]:
    yield from dict.fromkeys((si(low), si(high)))


def setup(app: Sphinx) -> None:
    app.add_directive("speed-table", SpeedTable)
