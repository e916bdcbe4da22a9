"""Exercises of the models layer; ``check("models.<name>", answer)`` grades them."""

from __future__ import annotations

import math

from stackkit.atlas import model
from stackkit.core.checks import Exercise, Slip, function, number
from stackkit.models.evaluation import Z95
from stackkit.models.scaling import training_flops
from stackkit.models.speedup import speculative_speedup


def _flops() -> Exercise:
    n_params, n_tokens = model("smollm2-135m").params(), 2e12
    right = training_flops(n_params, n_tokens)
    return number(
        right,
        "FLOP",
        slips=[
            Slip(right / 3, "That is the forward pass alone; the backward takes twice as much."),
            Slip(right / 2, "A multiply-add is two operations."),
            Slip(right / n_tokens, "That is for one token of text."),
        ],
    )


def _kv_bytes() -> Exercise:
    spec = model("smollm2-135m")
    right = spec.kv_bytes_per_token(4)
    shared = spec.n_heads / spec.n_kv_heads
    return number(
        right,
        "B",
        slips=[
            Slip(shared * right, "Those are query heads; keys and values have fewer of their own."),
            Slip(right / 2, "Keys and values: that is one of the two, or numbers of two bytes."),
            Slip(right / spec.n_layers, "That is one layer; each keeps its own."),
            Slip(right / 4, "Those are numbers; each has four bytes in fp32."),
        ],
    )


def _kept_by_top_p(probabilities: list[float], p: float) -> int:
    total = kept = 0
    for probability in sorted(probabilities, reverse=True):
        if total >= p:
            break
        total += probability
        kept += 1
    return kept


def _stops_too_soon(probabilities: list[float], p: float) -> int:
    total = kept = 0
    for probability in sorted(probabilities, reverse=True):
        total += probability
        if total > p:
            break
        kept += 1
    return kept


EXERCISES: dict[str, Exercise] = {
    "flops": _flops(),
    "kv-bytes": _kv_bytes(),
    "top-p": function(
        _kept_by_top_p,
        cases=[
            ([0.5, 0.25, 0.125, 0.125], 0.75),
            ([0.125, 0.5, 0.25, 0.125], 0.625),
            ([0.125, 0.125, 0.25, 0.5], 0.4),
            ([0.25, 0.25, 0.25, 0.25], 1.0),
        ],
        rel=1e-9,
        slips=[
            Slip(_stops_too_soon, "The token that crosses p is kept; the likeliest always is."),
            Slip(
                lambda probabilities, p: sum(x >= p for x in probabilities),
                "Together the kept ones hold p, not each of them.",
            ),
            Slip(
                lambda probabilities, p: math.ceil(p * len(probabilities)),
                "That is a share of the tokens; p is a share of the probability.",
            ),
        ],
    ),
    "speedup": function(
        speculative_speedup,
        cases=[(0.8, 5, 0.02), (0.6, 3, 0.2), (0.9, 10, 0.0), (0.3, 1, 0.5)],
        rel=1e-3,
        slips=[
            Slip(
                lambda a, g, c: speculative_speedup(a, g, 0.0),
                "That is tokens per pass; the drafter's own passes take time too.",
            ),
            Slip(
                lambda a, g, c: (1 + a * g) / (1 + g * c),
                "Behind a refusal all drafts are lost: the n-th counts with acceptance to the n.",
            ),
            Slip(
                lambda a, g, c: (speculative_speedup(a, g, 0.0) - a**g) / (1 + g * c),
                "When all drafts are accepted the pass gives one token more.",
            ),
        ],
    ),
    "error-bar": number(
        Z95 * math.sqrt(0.5 * 0.5 / 30),
        rel=0.03,
        slips=[
            Slip(math.sqrt(0.5 * 0.5 / 30), "That is one standard error; 95 % lie within 1.96."),
            Slip(100 * Z95 * math.sqrt(0.25 / 30), "In points; give a share below one."),
            Slip(2 * Z95 * math.sqrt(0.25 / 30), "That is the whole width; half of it was asked."),
            Slip(Z95 * 0.5 / 30, "The standard error falls with the root of n, not with n."),
        ],
    ),
}
