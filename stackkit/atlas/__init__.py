"""Every number of the book, with its source: facts as data, and typed views of them.

``accelerator`` (chips), ``memory`` (memory technologies), ``model`` (language models),
``layers`` (the stack itself) and ``fact`` (any single number by its full name). The data lie in
``atlas/data/*.toml``: one table a thing, one line a fact, each naming an entry of
``sources.toml``. FLOP/s are dense; bandwidth and capacity are decimal unless a note says so;
link bandwidth is one direction.
"""

from stackkit.atlas.accelerators import Accelerator, accelerator, accelerators
from stackkit.atlas.layers import Layer, layer, layers
from stackkit.atlas.load import fact, facts
from stackkit.atlas.memories import MemoryTechnology, memory
from stackkit.atlas.models import ModelSpec, model, models

__all__ = [
    "Accelerator",
    "Layer",
    "MemoryTechnology",
    "ModelSpec",
    "accelerator",
    "accelerators",
    "fact",
    "facts",
    "layer",
    "layers",
    "memory",
    "model",
    "models",
]
