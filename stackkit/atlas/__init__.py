"""Every number of the book with its source, every name with its place: data, and typed views.

``accelerator`` (chips), ``memory`` (memory technologies), ``link`` (between chips), ``model``
(language models), ``players`` (who makes what), ``layers`` (the stack itself) and ``fact`` (any
single number by its full name). The data lie in ``atlas/data/*.toml``: one table a thing, one
line a fact, each naming an entry of ``sources.toml``. FLOP/s are dense; bandwidth and capacity
are decimal unless a note says so; link bandwidth is one direction.
"""

from stackkit.atlas.accelerators import Accelerator, accelerator, accelerators
from stackkit.atlas.layers import Layer, layer, layers
from stackkit.atlas.load import fact, facts, sources
from stackkit.atlas.memories import Link, MemoryTechnology, link, links, memories, memory
from stackkit.atlas.models import ModelSpec, model, models
from stackkit.atlas.players import Player, players

__all__ = [
    "Accelerator",
    "Layer",
    "Link",
    "MemoryTechnology",
    "ModelSpec",
    "Player",
    "accelerator",
    "accelerators",
    "fact",
    "facts",
    "layer",
    "layers",
    "link",
    "links",
    "memories",
    "memory",
    "model",
    "models",
    "players",
    "sources",
]
