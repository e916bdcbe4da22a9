"""The waste ledger: what share of the memory for keys and values holds tokens.

Each step every running request writes a token, in its first one its prompt too. Then each slot of
the pool, which is room for a token, is

    used       holds a token that exists (the one just drawn counts)
    reserved   allocated, and its request will write there later
    internal   allocated, and its request will end without having written there
    external   lost to rounding by the allocator; or free, while a request waits for more than that
    idle       free, and nobody waits

All requests wait from the start, first come first served. It knows no tensor and no time.

Source: Kwon et al. (vLLM), arXiv 2309.06180, sections 3.1 and 6.1, figures 2, 11, 13, 15. "If the
true output length is 25, it reserves 32": Pow2 rounds the output alone. A buddy allocator's chunks
are powers of two (6.5: prompts of 1,024 tokens got 1,024 more whatever the policy); figure 2 has no
internal part for Oracle, so this rounding is in its "External frag. & Others", as in the code of
their artifact (sosp-ae-39/sosp-ae-astra). Two things differ here. The queue is never empty: vLLM's
30.42 requests of figure 13, if of 38.2 % x 15.7K / 13.62 = 440 tokens as Oracle's, fill 85 % of the
pool, not figure 2's 96.3 %. And prompt and output are drawn independently, for lack of the pairs.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise

from stackkit.frameworks.blocks import BlockPool

POLICIES = ("max", "pow2", "oracle", "paged")

# Tokens up to which such a share of the requests reaches, the first being the shortest: read off
# the bars of figure 11 as vector graphics, whose areas give back its printed means within 1 %.
_SHARE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1)
_PROMPT = {
    "sharegpt": (1, 7, 13, 19, 27, 36, 56, 94, 203, 508, 864, 1465, 1871, 2028),
    "alpaca": (6, 11, 12, 13, 15, 16, 18, 20, 24, 31, 39, 73, 129, 202),
}
_OUTPUT = {
    "sharegpt": (1, 45, 101, 158, 216, 271, 330, 404, 525, 754, 900, 1279, 1707, 2009),
    "alpaca": (1, 6, 11, 18, 27, 43, 60, 78, 97, 125, 159, 269, 478, 678),
}


@dataclass(frozen=True)
class Shares:
    """Of the pool's slots, 0 to 1: the first four and ``idle`` add up to 1. Then two counts."""

    used: float
    reserved: float
    internal: float
    external: float
    saved_by_sharing: float = 0.0  # a slot that k samples share counts k - 1 times; may exceed 1
    idle: float = 0.0
    batch: float = 0.0  # running requests
    waiting: float = 0.0  # requests that are not


def lengths(dataset: str, n: int, seed: int) -> list[tuple[int, int]]:
    """(prompt, output) of n requests, in tokens, as figure 11 has them; none is above 2,048 in all.

    Raises:
        ValueError: when ``dataset`` is neither "sharegpt" nor "alpaca".
    """
    if dataset not in _PROMPT:
        raise ValueError(f"No lengths for {dataset!r}. There are {', '.join(_PROMPT)}.")
    rng, drawn = random.Random(seed), []
    spans = [list(pairwise(tokens[dataset])) for tokens in (_PROMPT, _OUTPUT)]
    while len(drawn) < n:
        prompt, output = (rng.randint(*rng.choices(span, cum_weights=_SHARE)[0]) for span in spans)
        if prompt + output <= 2048:
            drawn.append((prompt, output))
    return drawn


def power_of_two(n: int) -> int:
    """The first that is not below n, which is 1 or more."""
    return 1 << (n - 1).bit_length()


class Buddy:
    """Chunks of a power of two of slots, halved until they fit, and joined to their other half.

    At the start there is one for each binary digit of the pool's size, the largest first. So the
    other half of a chunk of size k at s is the one at ``s ^ k``, as in a pool of a power of two.
    """

    def __init__(self, slots: int) -> None:
        sizes = [1 << digit for digit in range(slots.bit_length())]
        self.free = {k: {slots & -2 * k} if slots & k else set() for k in sizes}  # size: starts
        self.taken: dict[int, int] = {}  # start: size
        self.block_size = 1  # n_free counts slots

    @property
    def n_free(self) -> int:
        """Slots in free chunks, whether or not a request would fit in one of them."""
        return sum(size * len(starts) for size, starts in self.free.items())

    def take(self, slots: int) -> int | None:
        """Where a chunk of so many slots or more starts; None when there is none."""
        wanted = power_of_two(slots)
        size = min((k for k, starts in self.free.items() if starts and k >= wanted), default=None)
        if size is None:
            return None
        start = min(self.free[size])
        self.free[size].remove(start)
        while size > wanted:
            size //= 2
            self.free[size].add(start + size)
        self.taken[start] = size
        return start

    def release(self, start: int) -> None:
        """Give it back; while the other half is free as well, the two are one again."""
        size = self.taken.pop(start)
        while start ^ size in self.free[size]:
            self.free[size].remove(start ^ size)
            start, size = start & ~size, 2 * size
        self.free[size].add(start)


@dataclass
class _Request:
    prompt: int
    end: int  # tokens that it will have, prompt and output
    given: int  # slots of each sample: in one piece from the start, or in blocks so far
    length: int  # tokens of each sample
    held: list = field(default_factory=list)  # of each sample: where its chunk starts, or a table

    def leave(self, pool: Buddy | BlockPool) -> None:
        while self.held:
            pool.release(self.held.pop())


def _fit_piece(pool: Buddy, r: _Request, n: int) -> bool:
    """Make room for a token more of each of n samples; here for all that they will ever need."""
    while len(r.held) < n:
        start = pool.take(r.given)
        if start is None:
            r.leave(pool)
            return False
        r.held.append(start)
    return True


def _fit_blocks(pool: BlockPool, r: _Request, n: int) -> bool:
    """The same, a block at a time; the samples share the full blocks of their prompt."""
    shared = 0 if r.held else r.prompt // pool.block_size
    has = r.given // pool.block_size if r.held else shared
    more = pool.blocks_for(r.length + 1) - has
    if shared + n * more > pool.n_free:
        return False
    if not r.held:
        prompt = [pool.take() for _ in range(shared)]
        for block in prompt * (n - 1):
            pool.share(block)
        r.held = [list(prompt) for _ in range(n)]
    for table in r.held:
        table += [pool.take() for _ in range(more)]
    r.given = pool.block_size * (has + more)
    return True


def timeline(
    policy: str,
    requests: Sequence[tuple[int, int]],
    *,
    slots: int = 15_700,
    block_size: int = 16,
    max_length: int = 2048,
    samples: int = 1,
) -> list[Shares]:
    """The ledger of each step, from the first to the one in which the last request ends.

    Args:
        policy: "max": a piece of ``max_length`` for each; "pow2": of the prompt and the output's
            length rounded up to a power of two; "oracle": of just the final length; "paged": blocks
            when needed; where none is free the youngest gives up its own, to be recomputed later.
        requests: (prompt, output) in tokens, in the order in which they are served.
        slots: of the pool. 15,700: OPT-13B on an A100 with 40 GB (the paper's table 1).
        block_size: tokens of a block, for "paged".
        max_length: of prompt and output together, that the model can take.
        samples: texts that a request writes side by side, all of its output's length.

    Raises:
        ValueError: for an unknown policy, no requests, a size below 1, a request longer than
            ``max_length``; and, when its turn comes, for one that the empty pool cannot hold.
    """
    if policy not in POLICIES:
        raise ValueError(f"No policy {policy!r}. There are {', '.join(POLICIES)}.")
    if min(slots, block_size, samples, len(requests)) < 1:
        got = f"{slots} slots, blocks of {block_size}, {samples} samples, {len(requests)} requests"
        raise ValueError(f"There must be 1 or more of each; got {got}.")
    waiting, running, ledger = deque(), [], []
    for prompt, output in requests:
        end = prompt + output
        if min(prompt, output) < 1 or end > max_length:
            raise ValueError(
                f"{prompt} + {output} tokens: each must be 1 or more, the sum {max_length} or less."
            )
        pieces = {"max": max_length, "pow2": min(prompt + power_of_two(output), max_length)}
        waiting.append(_Request(prompt, end, pieces.get(policy, end), prompt))
    paged, sharing = policy == "paged", policy == "paged" and samples > 1
    pool = BlockPool(slots // block_size, block_size) if paged else Buddy(slots)
    fit = _fit_blocks if paged else _fit_piece
    while waiting or running:
        i = 0
        while i < len(running):  # oldest first
            if fit(pool, running[i], samples):
                i += 1
            else:
                running[-1].leave(pool)
                waiting.appendleft(running.pop())
        # Who has just left needs what it had, and another took of that: it waits a step or more.
        while waiting and fit(pool, waiting[0], samples):
            running.append(waiting.popleft())
        if not running:
            raise ValueError(
                f"{samples} x {waiting[0].end} tokens do not fit in an empty pool of {slots} slots "
                f"with {policy!r}. Give it more slots, or fewer samples."
            )
        for r in running:
            r.length += 1
        saved = block_size * sum(k - 1 for k in pool.readers if k > 1) if sharing else 0
        used = samples * sum(r.length for r in running) - saved
        reserved = samples * sum(min(r.given, r.end) - r.length for r in running)
        internal = samples * sum(max(r.given - r.end, 0) for r in running)
        idle = 0 if waiting else pool.block_size * pool.n_free
        external = slots - used - reserved - internal - idle
        parts = (x / slots for x in (used, reserved, internal, external, saved, idle))
        ledger.append(Shares(*parts, len(running), len(waiting)))
        for r in running:
            if r.length == r.end:
                r.leave(pool)
        running = [r for r in running if r.held]
    return ledger


def simulate(policy: str, requests: Sequence[tuple[int, int]], **sizes: int) -> Shares:
    """The ledger of ``timeline``, with its arguments and errors, on average over steps.

    Over those in which a request waits, less their first quarter; over all where none ever waits.
    """
    ledger = timeline(policy, requests, **sizes)
    busy = [row for row in ledger if row.waiting]
    rows = busy[len(busy) // 4 :] or ledger
    return Shares(*(sum(getattr(row, f.name) for row in rows) / len(rows) for f in fields(Shares)))
