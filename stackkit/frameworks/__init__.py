"""Software frameworks: how many requests share one model.

In reading order: ``attention`` (the one place where tokens look at each other, three ways) and
``traffic`` (the bytes that it moves); ``cache`` (keys and values in one piece); ``blocks`` (which
block is whose) and ``paged_cache`` (what is in them); ``sampling`` and ``text`` (from logits to
text); ``requests``, ``scheduler`` and ``engine`` (continuous batching); ``simulation`` (the same
scheduler on simulated time); ``waste`` (what four policies leave unused); ``load`` (what a user
feels) and ``goodput`` (how many are content); ``measured`` (what it reached beside others);
``paged_triton`` (attention over blocks as a GPU kernel). ``interfaces`` says what a model, a
tokenizer and a cache must be able to do, so that models above may be anything that can.
"""

from stackkit.frameworks.blocks import BlockPool
from stackkit.frameworks.interfaces import KVCache, LanguageModel, Token, Tokenizer
from stackkit.frameworks.measured import serving
from stackkit.frameworks.requests import Request, Sampling, State
from stackkit.frameworks.scheduler import Scheduler
from stackkit.frameworks.traffic import naive_bytes, tiled_bytes

__all__ = [
    "BlockPool",
    "BlockStore",
    "ContiguousCache",
    "Engine",
    "KVCache",
    "LanguageModel",
    "PagedCache",
    "Request",
    "Sampling",
    "Scheduler",
    "State",
    "Token",
    "Tokenizer",
    "attention",
    "distribution",
    "naive_bytes",
    "sample",
    "serving",
    "tiled_bytes",
]

_WHEN_ASKED = {
    "BlockStore": "paged_cache",
    "ContiguousCache": "cache",
    "Engine": "engine",
    "PagedCache": "paged_cache",
    "attention": "attention",
    "distribution": "sampling",
    "sample": "sampling",
}


def __getattr__(name: str):
    """Import what needs torch or NumPy only when it is asked for: torch takes a second or two."""
    if name not in _WHEN_ASKED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"{__name__}.{_WHEN_ASKED[name]}")
    return module if name == "attention" else getattr(module, name)
