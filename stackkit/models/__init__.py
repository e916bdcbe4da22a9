"""Foundation models: text becomes the next token.

In reading order: ``bpe`` (text to token ids), ``transformer`` (ids to logits, one decoder for the
toys and the real thing), ``generation`` (the loop that writes), ``speculative`` (the same text in
fewer passes). Where weights come from: ``training``, ``toy`` (the shipped ones, made again by one
command), ``tuning`` (LoRA, preferences), ``moe``, ``evaluation``; ``loading`` with ``gguf_file``
and ``gguf_tokenizer`` (weights that others trained). What training takes, without a tensor:
``scaling``, ``training_cost``, ``tiers``, ``speedup``.
"""

from stackkit.models.evaluation import Accuracy
from stackkit.models.loading import load
from stackkit.models.scaling import (
    chinchilla_loss,
    compute_optimal,
    mfu,
    training_flops,
    training_flops_of,
)
from stackkit.models.speedup import expected_tokens, speculative_speedup
from stackkit.models.tiers import tier_cost, tiers
from stackkit.models.training_cost import Interval, run_cost, training_memory

__all__ = [
    "Accuracy",
    "Interval",
    "chinchilla_loss",
    "compute_optimal",
    "expected_tokens",
    "generate",
    "load",
    "mfu",
    "run_cost",
    "speculate",
    "speculative_speedup",
    "tier_cost",
    "tiers",
    "training_flops",
    "training_flops_of",
    "training_memory",
]

_NEEDS_TORCH = {"generate": "generation", "speculate": "speculative"}


def __getattr__(name: str):
    """Import what holds tensors only when it is asked for: torch takes a second or two."""
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from stackkit.models.loading import require

    require("torch")
    return getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
