"""After pre-training: instructions, LoRA and preferences, on few weights and few examples.

    LoRA:  y = W x + (scale / r) B A x           W frozen; A (r, in) and B (out, r) are learnt
    DPO:   -log sigmoid(beta ((log p/p0 of the preferred) - (log p/p0 of the other)))

p0 is the model before tuning. It knows nothing of files or of where examples come from.
Sources: Hu et al., arXiv 2106.09685, section 4; Rafailov et al., arXiv 2305.18290, equation 7.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from stackkit.models.training import IGNORED


class LoRA(nn.Module):
    """A frozen matrix with a learnt one of low rank beside it, which starts at zero.

    Raises:
        ValueError: when the rank is below 1 or above the matrix's own.
    """

    def __init__(self, frozen: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        out, into = frozen.weight.shape
        if not 1 <= rank <= min(out, into):
            raise ValueError(f"rank must be 1 to {min(out, into)} for this matrix; got {rank}.")
        self.frozen = frozen.requires_grad_(False)
        like = {"dtype": frozen.weight.dtype, "device": frozen.weight.device}
        self.down = nn.Parameter(torch.randn(rank, into, **like) / into**0.5)  # A
        self.up = nn.Parameter(torch.zeros(out, rank, **like))  # B: at first nothing changes
        self.scale = scale / rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return self.frozen(x) + self.scale * (x @ self.down.T @ self.up.T)

    def merged(self) -> nn.Linear:
        """One plain matrix that does the same: serving it costs nothing more."""
        plain = copy.deepcopy(self.frozen)  # which may be another's too, as a tied head is
        plain.weight.data += self.scale * self.up.data @ self.down.data
        return plain


def add_lora(
    model: nn.Module, rank: int, *, scale: float = 16.0, only: Sequence[str] = ("query", "value")
) -> list[nn.Parameter]:
    """Freeze a model and put LoRA beside its matrices of those names; modifies it.

    Returns:
        The parameters that are left to learn.

    Raises:
        ValueError: when the model has no matrix of such a name, or as for ``LoRA``.
    """
    only = (only,) if isinstance(only, str) else tuple(only)
    found = [
        (owner, name, child)
        for owner in model.modules()
        for name, child in owner.named_children()
        if name in only and isinstance(child, nn.Linear)
    ]
    if not found:
        raise ValueError(f"The model has no matrix called {' or '.join(only)}.")
    beside = [LoRA(child, rank, scale) for _, _, child in found]  # before anything is changed
    model.requires_grad_(False)
    for (owner, name, _), lora in zip(found, beside, strict=True):
        setattr(owner, name, lora.requires_grad_(True))
        lora.frozen.requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def merge_lora(model: nn.Module) -> None:
    """Put what was learnt into the matrices themselves; modifies the model."""
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, LoRA):
                setattr(owner, name, child.merged())


def answer_batches(
    pairs: Sequence[tuple[list[int], list[int]]], *, batch: int, steps: int, seed: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(inputs, targets) of random (prompt, answer) pairs; only the answers are learnt from."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(pairs), (batch,), generator=random).tolist()
        yield padded([pairs[i] for i in chosen])


def padded(pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts with answers as one (B, T) batch, shorter ones filled up at the end.

    Causal attention never looks at the filling, and its targets are ``IGNORED``, as are those
    inside the prompt.

    Raises:
        ValueError: when there is no pair, or a prompt or an answer has no token.
    """
    if not pairs or not all(prompt and answer for prompt, answer in pairs):
        raise ValueError("Each pair needs a prompt and an answer of one token or more.")
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs) - 1
    inputs = torch.zeros(len(pairs), longest, dtype=torch.long)
    targets = torch.full((len(pairs), longest), IGNORED)
    for row, (prompt, answer) in enumerate(pairs):
        text = torch.tensor([*prompt, *answer])
        inputs[row, : len(text) - 1] = text[:-1]
        targets[row, len(prompt) - 1 : len(text) - 1] = text[len(prompt) :]
    return inputs, targets


def answer_logprob(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of the probability of each whole answer, (B,)."""
    logprobs = torch.log_softmax(model(inputs).float(), dim=-1)  # (B, T, V)
    counted = targets != IGNORED
    picked = logprobs.gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)  # (B, T)
    return (picked * counted).sum(1)


def dpo_loss(
    preferred: torch.Tensor,
    other: torch.Tensor,
    preferred_before: torch.Tensor,
    other_before: torch.Tensor,
    beta: float = 0.1,
) -> torch.Tensor:
    """Mean loss of pairs of answers, from the logarithms of their probabilities, each (B,).

    Args:
        preferred, other: under the model that learns.
        preferred_before, other_before: under the model it started from.
        beta: how dear it is to move away from that one.

    Raises:
        ValueError: when beta is not above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta must be above 0; got {beta}.")
    margin = (preferred - preferred_before) - (other - other_before)
    return -F.logsigmoid(beta * margin).mean()
