"""The blocked rung on all cores: each takes a few columns, and more when it is done.

Nobody waits for a slower core, and no two write the same number.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from queue import Empty, SimpleQueue

import numpy as np

from stackkit.core.machine import card
from stackkit.processors.rungs.blocked import add_panels, whole_blocks

SHARE = 64  # columns that a core takes at a time: few, so that all are done at the same moment


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(m, k) times (k, n), panel by panel on all cores."""
    m, n = a.shape[0], b.shape[1]
    a, b, c = whole_blocks(a, b)
    panels: SimpleQueue[int] = SimpleQueue()
    for j0 in range(0, c.shape[1], SHARE):
        panels.put(j0)

    def work() -> None:
        while True:
            try:
                j0 = panels.get_nowait()
            except Empty:
                return
            add_panels(a, b, c, j0, min(j0 + SHARE, c.shape[1]))

    helpers = card().cores - 1
    others = [_pool(helpers).submit(work) for _ in range(helpers)]
    work()  # this thread is a core's too
    for other in others:
        other.result()
    return c[:m, :n]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that live as long as the process: starting them costs more than a small product."""
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):  # a child has the pool and none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
