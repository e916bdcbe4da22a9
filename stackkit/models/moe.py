"""A mixture of experts: many feed-forwards, of which a router picks a few for each token.

    p = softmax(router x);  y = sum over the k likeliest e of p_e / (sum of those) expert_e(x),
                            or p_e expert_e(x) where k is 1
    balance loss = n sum over e of (share of tokens sent to e) (mean p_e);   1 when all are even

The checkpoint holds all experts, a token computes k: memory is bought by the total, arithmetic by
the active ones. Sources: Shazeer et al., arXiv 1701.06538; Fedus et al. (Switch), arXiv 2101.03961,
section 2.2; weights of the chosen scaled to 1: Jiang et al. (Mixtral), arXiv 2401.04088.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class Routing:
    """What a router decided for N tokens."""

    probabilities: torch.Tensor  # (N, n), over all experts
    chosen: torch.Tensor  # (N, k), ids of experts, likeliest first
    weights: torch.Tensor = field(repr=False)  # (N, k), of the chosen, adding up to 1 if k > 1

    @property
    def shares(self) -> torch.Tensor:
        """(n,): which share of all picks each expert got."""
        n = self.probabilities.shape[1]
        return torch.bincount(self.chosen.flatten(), minlength=n) / self.chosen.numel()

    @property
    def balance_loss(self) -> torch.Tensor:
        """1 when picks and probabilities are even; n / k when one gets all probability."""
        n = self.probabilities.shape[1]
        return n * (self.shares * self.probabilities.mean(0)).sum()


def route(scores: torch.Tensor, n_used: int) -> Routing:
    """Pick experts for each token.

    Args:
        scores: (N, n), the router's logits.
        n_used: k, experts for each token.

    Raises:
        ValueError: when there are fewer than ``n_used``.
    """
    if not 1 <= n_used <= scores.shape[1]:
        raise ValueError(f"A token can use 1 to {scores.shape[1]} experts; got {n_used}.")
    probabilities = torch.softmax(scores.float(), dim=-1)
    best, chosen = probabilities.topk(n_used, dim=-1)
    # One expert alone keeps its probability, as in Switch: scaled to 1 it would teach the router
    # nothing.
    weights = best if n_used == 1 else best / best.sum(-1, keepdim=True)
    return Routing(probabilities, chosen, weights)


class MixtureOfExperts(nn.Module):
    """In the place of a feed-forward; ``routing`` keeps what the last call decided."""

    def __init__(self, experts: list[nn.Module], d_model: int, n_used: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.router = nn.Linear(d_model, len(experts), bias=False)
        self.n_used = n_used
        self.routing: Routing | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, E) to (B, T, E); each expert runs once, over the tokens sent to it."""
        tokens = x.flatten(0, -2)  # (N, E)
        self.routing = route(self.router(tokens), self.n_used)
        y = torch.zeros_like(tokens)
        for e, expert in enumerate(self.experts):
            rows, places = (self.routing.chosen == e).nonzero(as_tuple=True)
            if len(rows):
                weight = self.routing.weights[rows, places].unsqueeze(1).to(x.dtype)
                y.index_add_(0, rows, weight * expert(tokens[rows]))
        return y.view_as(x)
