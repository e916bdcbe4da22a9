"""Software frameworks: how many requests share one model.

In reading order: ``attention`` (the one place where tokens look at each other), ``cache`` (what
they need not compute again), ``sampling`` (from logits to the next token), ``interfaces`` (what a
model, a tokenizer and a cache must be able to do, so that models above may be anything that can).

The cache in blocks and the engine that shares it among requests follow.
"""

from stackkit.frameworks.interfaces import KVCache, LanguageModel, Token, Tokenizer
from stackkit.frameworks.sampling import distribution, sample

__all__ = [
    "ContiguousCache",
    "KVCache",
    "LanguageModel",
    "Token",
    "Tokenizer",
    "attention",
    "distribution",
    "sample",
]

_NEEDS_TORCH = {"ContiguousCache": "cache", "attention": "attention"}


def __getattr__(name: str):
    """Import what holds tensors only when it is asked for: torch takes a second or two."""
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"{__name__}.{_NEEDS_TORCH[name]}")
    return module if name == "attention" else getattr(module, name)
