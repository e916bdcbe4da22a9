"""The training loop: guess the next token everywhere at once, and move the weights downhill.

    loss = mean of -log p(the token that came),  in nats a token
    AdamW, warm-up, then half a cosine down to a tenth

It knows nothing of where texts come from; ``batches`` cuts any list of ids into examples.
Sources: Loshchilov and Hutter (AdamW), arXiv 1711.05101; schedule: Hoffmann et al., arXiv
2203.15556, section 2; clipping at 1: Brown et al., arXiv 2005.14165, appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

IGNORED = -100  # a target that is not learnt from, as torch's cross entropy has it


@dataclass(frozen=True)
class Schedule:
    """How the step size goes.

    Raises:
        ValueError: when a number is out of range.
    """

    steps: int
    peak: float = 3e-3
    warmup: int = 20  # steps from 0 to the peak
    floor: float = 0.1  # share of the peak at the end
    weight_decay: float = 0.1
    clip: float = 1.0  # longest gradient

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.peak > 0 or not 0 <= self.warmup <= self.steps:
            raise ValueError(
                "A schedule needs 1 step or more, a positive peak and a warm-up within the steps; "
                f"got steps={self.steps}, peak={self.peak}, warmup={self.warmup}."
            )
        if self.peak == math.inf or not 0 <= self.floor <= 1:
            raise ValueError(f"The floor is a share of a peak; got {self.floor} of {self.peak}.")
        if not 0 <= self.weight_decay < math.inf or not self.clip > 0:
            raise ValueError(
                "weight_decay must be 0 or more and clip above 0; "
                f"got {self.weight_decay} and {self.clip}."
            )

    def rate(self, step: int) -> float:
        """Step size at ``step``, counted from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)


def next_token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over all targets of -log p, in nats.

    Args:
        logits: (B, T, V).
        targets: (B, T), the token that came after each; ``IGNORED`` where none counts.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)


def batches(
    ids: Sequence[int], *, batch: int, tokens: int, steps: int, seed: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random windows of a text: (inputs, targets), each (B, T), targets one token ahead.

    Raises:
        ValueError: when the text is shorter than a window.
    """
    if len(ids) < tokens + 1:
        raise ValueError(f"A window needs {tokens + 1} tokens; the text has {len(ids)}.")
    text, random = torch.tensor(ids), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(len(ids) - tokens, (batch,), generator=random)
        windows = torch.stack([text[s : s + tokens + 1] for s in starts.tolist()])
        yield windows[:, :-1], windows[:, 1:]


def train(
    model: nn.Module,
    examples: Iterable[tuple[torch.Tensor, torch.Tensor]],
    schedule: Schedule,
    *,
    loss: Callable[..., torch.Tensor] | None = None,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Run the loop over every weight that wants a gradient; modifies the model.

    Args:
        model: (B, T) ids to (B, T, V) logits.
        examples: one batch a step; for the usual loss (inputs, targets).
        schedule: steps and step sizes.
        loss: of the batch's parts, in place of predicting the next token.
        report: told the step and its loss.

    Returns:
        The loss of each step, before it.

    Raises:
        ValueError: when all weights are frozen, as those of a loaded model are.
    """
    learnt = [p for p in model.parameters() if p.requires_grad]
    if not learnt:
        raise ValueError("All weights are frozen. Thaw them: model.requires_grad_(True).")
    # Matrices are pulled toward zero; norms are not.
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in learnt if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], betas=(0.9, 0.95))
    model.train()
    losses = []
    for step, example in zip(range(schedule.steps), examples, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        found = loss(*example) if loss else next_token_loss(model(example[0]), example[1])
        optimizer.zero_grad()
        found.backward()
        nn.utils.clip_grad_norm_(learnt, schedule.clip)
        optimizer.step()
        losses.append(found.item())
        report(step, losses[-1])
    model.eval()
    return losses


@torch.inference_mode()
def held_out_loss(model: nn.Module, ids: Sequence[int], tokens: int) -> list[float]:
    """Loss of each window of a text, side by side, in nats a token; their mean is the model's."""
    starts = range(0, len(ids) - tokens, tokens)
    windows = torch.tensor([ids[s : s + tokens + 1] for s in starts])
    return [
        float(next_token_loss(model(window[None, :-1]), window[None, 1:])) for window in windows
    ]
