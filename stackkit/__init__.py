"""Prompt to Silicon's library: one small package for each layer of the AI stack.

Read it from the bottom up; imports only ever point down this list:

    core         units, timing, the machine card, facts, figures, exercise checks
    atlas        every number of the book with its source: chips, links, models, prices, players
    memory       why the processor waits: bandwidth, the roofline, work per byte, links
    processors   why a matrix multiply is fast: a ladder of kernels, caches, arrays, number formats
    frameworks   how many requests share one model: attention, paged KV cache, engine
    models       text becomes the next token: a transformer, its training, what a run costs

``import stackkit`` loads nothing; import the layer you need.
"""

__version__ = "0.1.0"
