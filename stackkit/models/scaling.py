"""What training takes, and how to split it between a larger model and more text.

    FLOPs  C = 6 N D                    N parameters that a token is multiplied with, D tokens
    MFU      = 6 N tokens/s / peak
    loss   L = E + A / N^alpha + B / D^beta,  in nats a token
    least L for a given C:  N = G (C/6)^(beta / (alpha + beta)),  D = C / (6 N),
                            G = (alpha A / (beta B))^(1 / (alpha + beta))

It knows nothing of data quality, of the tokenizer (a loss a token compares only under one), or of
serving: a model that many people use is worth training longer than the least loss asks for.
Sources: Kaplan et al., arXiv 2001.08361, section 2.1; Hoffmann et al. (Chinchilla), arXiv
2203.15556, section 3.3; Besiroglu et al. (Epoch AI), arXiv 2404.10102, who fit it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stackkit.atlas import ModelSpec, fact
from stackkit.memory.work import prefill_work

FLOPS_FORWARD, FLOPS_BACKWARD = 2, 4  # of a parameter and a token

FITS = {  # a fit's name, and where the atlas keeps its constants
    "epoch": "chinchilla-refit",
    "hoffmann": "chinchilla-law",  # as printed: two digits, too few to find the optimum
    "hoffmann-unrounded": "chinchilla-law-unrounded",
}


def training_flops(n_params: float, n_tokens: float) -> float:
    """FLOPs of a training run: 6 for each parameter and token.

    Forward, a parameter is multiplied with one number and the product added: 2. Backward the same
    is done twice, once for the gradient of the input and once for that of the parameter: 4. Left
    out are attention's products of pairs of tokens, the only matrices without parameters, which
    grow with the context: see ``training_flops_of``. Recomputed activations are no work of the
    model's.

    Args:
        n_params: that one token uses; with experts, the active ones.
        n_tokens: seen in training, repeats counted.

    Raises:
        ValueError: when one of them is not a positive number.
    """
    check_positive(n_params=n_params, n_tokens=n_tokens)
    return (FLOPS_FORWARD + FLOPS_BACKWARD) * n_params * n_tokens


def training_flops_of(model: ModelSpec, n_tokens: float, context: int) -> float:
    """FLOPs of a training run, counted matrix by matrix: three times the forward pass.

    Counts the matrices and the output head for every token, not the input table, and attention's
    pairs under the causal mask: half of those that PaLM's 12 L H D T counts.

    Args:
        model: the model's shape.
        n_tokens: seen in training, in sequences of ``context`` each.
        context: tokens of a sequence.

    Raises:
        ValueError: when there are no tokens, or the context is none of the model's.
    """
    check_positive(n_tokens=n_tokens)
    sequence = prefill_work(model, tokens=context).flops  # its head sees one token: all but that
    sequence += FLOPS_FORWARD * model.vocab_size * model.d_model * (context - 1)
    return (1 + FLOPS_BACKWARD / FLOPS_FORWARD) * sequence * n_tokens / context


def mfu(n_params: float, tokens_per_s: float, peak_flops_per_s: float) -> float:
    """Model FLOPs utilisation of a training run, attention's products left out.

    Args:
        n_params: that one token uses.
        tokens_per_s: of one chip, or of all.
        peak_flops_per_s: of the same chips together; dense, in the format of the products.

    Raises:
        ValueError: when one of them is not a positive number, or the share is above 1.
    """
    check_positive(tokens_per_s=tokens_per_s, peak_flops_per_s=peak_flops_per_s)
    share = training_flops(n_params, tokens_per_s) / peak_flops_per_s
    if share > 1:
        raise ValueError(
            f"{share:.2f} of the peak is more than there is; give the tokens/s and the peak of "
            "the same chips, and the parameters that one token uses."
        )
    return share


@dataclass(frozen=True)
class Optimum:
    """The model with the least loss that a budget can train."""

    n_params: float
    n_tokens: float
    loss: float  # nats a token

    @property
    def tokens_per_param(self) -> float:
        """About 20 in Epoch's fit; not the same at every budget."""
        return self.n_tokens / self.n_params


def chinchilla_loss(n_params: float, n_tokens: float, fit: str = "epoch") -> float:
    """Loss in nats a token of a model trained once through ``n_tokens``.

    Fitted on models of 70 million to 16 billion parameters; beyond that it is extrapolated.

    Raises:
        ValueError: when one of them is not a positive number, or the fit is unknown.
    """
    check_positive(n_params=n_params, n_tokens=n_tokens)
    e, a, b, alpha, beta = constants(fit)
    return e + a / n_params**alpha + b / n_tokens**beta


def compute_optimal(flops: float, fit: str = "epoch") -> Optimum:
    """How to spend ``flops``, by 6 N D, for the least loss.

    Raises:
        ValueError: when the budget is not a positive number, or the fit is unknown.
    """
    check_positive(flops=flops)
    _, a, b, alpha, beta = constants(fit)
    pairs = flops / (FLOPS_FORWARD + FLOPS_BACKWARD)  # N x D
    scale = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    n_params = scale * pairs ** (beta / (alpha + beta))
    n_tokens = pairs / n_params
    return Optimum(n_params, n_tokens, chinchilla_loss(n_params, n_tokens, fit))


def constants(fit: str) -> tuple[float, float, float, float, float]:
    """E, A, B, alpha and beta of one fit, from the atlas.

    Raises:
        ValueError: when there is no such fit, with those there are.
    """
    if fit not in FITS:
        raise ValueError(f"Unknown fit {fit!r}; use one of {', '.join(FITS)}.")
    e, a, b, alpha, beta = (
        fact(f"{FITS[fit]}.{name}").value for name in ("e", "a", "b", "alpha", "beta")
    )
    return e, a, b, alpha, beta


def check_positive(**numbers: float) -> None:
    """Refuse what is no positive number, by its name."""
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number; got {value!r}.")
