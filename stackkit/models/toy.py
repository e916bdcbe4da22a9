"""The toys: two small models of the same text, and how they were made, from the text to the file.

    text -> merges of a BPE -> nine tenths of its lines to learn from -> weights -> safetensors

The text is the course's own and frozen: prose, docstrings and sentences from the atlas as of one
day. A changed text would be another model, so its hash is checked. ``make`` does all of it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from stackkit.models.bpe import END, ByteBPE
from stackkit.models.bpe import train as learn_merges
from stackkit.models.generation import generate
from stackkit.models.loading import TOYS
from stackkit.models.training import Schedule, batches, held_out_loss, train
from stackkit.models.transformer import Config, Transformer

TEXT_SHA256 = "86fd0d30947234f03221f962b71ecf5ac4e65452b1cbaa42dcb21d9622ca5d5e"
VOCAB_SIZE, CONTEXT = 1024, 256
LEARN_SHARE = 0.9  # of the lines; the rest is held out
CONFIGS = {
    "toy": Config(4, 96, 6, 2, 16, 256, VOCAB_SIZE, CONTEXT),
    "toy-draft": Config(2, 48, 3, 1, 16, 128, VOCAB_SIZE, CONTEXT),
}
SCHEDULES = {
    "toy": Schedule(steps=700, peak=4e-3, warmup=40, weight_decay=1.0),
    "toy-draft": Schedule(steps=700, peak=1e-2, warmup=40, weight_decay=0.1),
}
BATCH, WINDOW = 16, 128  # sequences and tokens of a step
TOLERANCE = 0.02  # of the held-out loss, when trained again: machines round differently
SAMPLE_PROMPT = "The memory bandwidth of"


@dataclass(frozen=True)
class Made:
    """What a training run gave."""

    model: Transformer
    tokenizer: ByteBPE
    losses: list[float]  # of each step, nats a token
    held_out: list[float]  # of each window of the held-out text
    before: str  # what the untrained model wrote
    after: str

    @property
    def held_out_loss(self) -> float:
        """Nats a token, on text that was not learnt from."""
        return fmean(self.held_out)


def frozen_text() -> str:
    """The text the toys are made from.

    Raises:
        ValueError: when it is not what its hash says.
    """
    data = (TOYS / "text.txt").read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != TEXT_SHA256:
        raise ValueError(
            f"{TOYS / 'text.txt'} has changed: its SHA-256 is {found}, not {TEXT_SHA256}. "
            "Restore it; another text is another model."
        )
    return data.decode("utf-8")


def texts() -> tuple[str, str]:
    """The text to learn from and the one held out; lines were shuffled when it was frozen."""
    lines = frozen_text().splitlines()
    cut = int(LEARN_SHARE * len(lines))
    return "\n".join(lines[:cut]), "\n".join(lines[cut:])


def encode_lines(tokenizer: ByteBPE, text: str) -> list[int]:
    """Ids of a text, with the end token behind every line."""
    return [id for line in text.splitlines() for id in tokenizer.encode(line + END)]


def make(
    name: str,
    *,
    report: Callable[[int, float], None] = lambda step, loss: None,
    steps: int | None = None,
) -> Made:
    """Train a toy from nothing, with fixed seeds; nothing is written.

    Args:
        name: ``"toy"`` or ``"toy-draft"``.
        report: told each step and its loss.
        steps: fewer than the shipped ones had, for a quick look.

    Raises:
        ValueError: when there is no such toy.
    """
    if name not in CONFIGS:
        raise ValueError(f"There is no toy {name!r}; there are {', '.join(CONFIGS)}.")
    learn, hold = texts()
    tokenizer = ByteBPE(learn_merges(learn, VOCAB_SIZE))
    torch.manual_seed(0)
    model = Transformer(CONFIGS[name])
    before = _written(model, tokenizer)
    schedule = SCHEDULES[name]
    if steps is not None:
        schedule = replace(schedule, steps=steps, warmup=min(schedule.warmup, steps))
    examples = batches(
        encode_lines(tokenizer, learn), batch=BATCH, tokens=WINDOW, steps=schedule.steps
    )
    losses = train(model, examples, schedule, report=report)
    held_out = held_out_loss(model, encode_lines(tokenizer, hold), CONTEXT)
    return Made(model, tokenizer, losses, held_out, before, _written(model, tokenizer))


def shipped(name: str) -> dict[str, Any]:
    """What is written beside a shipped toy: its shape, its losses, how it was made."""
    return json.loads((TOYS / f"{name}.json").read_text(encoding="utf-8"))


def ship(name: str, made: Made, folder: Path = TOYS) -> None:
    """Write a toy's files, over those that are there: for maintainers."""
    from safetensors.torch import save_file

    weights = {k: v for k, v in made.model.state_dict().items() if k != "head.weight"}  # tied
    save_file(weights, folder / f"{name}.safetensors")
    (folder / "merges.json").write_text(json.dumps(made.tokenizer.merges), encoding="utf-8")
    card = {
        "config": asdict(made.model.config),
        "text_sha256": TEXT_SHA256,
        "parameters": made.model.config.spec().params(),
        "steps": len(made.losses),
        "tokens_seen": len(made.losses) * BATCH * WINDOW,
        "held_out_loss_nats_per_token": round(made.held_out_loss, 4),
        "losses": [round(loss, 3) for loss in made.losses[::10]],
        "before": made.before,
        "after": made.after,
    }
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _written(model: Transformer, tokenizer: ByteBPE) -> str:
    tokens = generate(
        model.eval(), tokenizer, SAMPLE_PROMPT, max_new_tokens=40, temperature=0.8, top_k=20
    )
    return SAMPLE_PROMPT + "".join(token.text for token in tokens)
