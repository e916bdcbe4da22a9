"""A request: a text to go on with, how to draw, and how far it is.

What a scheduler moves about. It holds no tensor; its keys and values lie where its table says.

    tokens    [ prompt .............. | written ... ]
    computed  [ keys and values in blocks .. )          half-open: what is left is computed next
    blocks    [ 7 ][ 2 ][ 9 ]                           block i holds tokens [i S, (i + 1) S)

A request can be preempted at any time: its blocks go, its tokens stay, and since a draw depends on
seed and position alone (``sampling``), what it writes after is what it would have written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from stackkit.frameworks.interfaces import Token


@dataclass(frozen=True)
class Sampling:
    """How one request draws.

    Raises:
        ValueError: when a setting is out of range.
    """

    max_new_tokens: int  # at most so many; the end token is not given out
    temperature: float = 0.0  # 0: the likeliest token
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self.temperature, self.top_k, self.top_p)
        check_seed(self.seed)
        check_new_tokens(self.max_new_tokens)


class State(Enum):
    """Where a request is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(eq=False)  # two requests are the same only where they are one
class Request:
    """One text in the making."""

    id: int
    tokens: list[int]  # prompt, then what was written
    n_prompt: int
    sampling: Sampling
    arrival: int  # turn: those with smaller ones go first; a fork has its parent's
    state: State = State.WAITING
    blocks: list[int] = field(default_factory=list)
    n_computed: int = 0
    digests: list[bytes] = field(default_factory=list)  # names of its text's full blocks, so far
    n_named: int = 0  # of its blocks that the pool was told the names of
    n_cached: int = 0  # tokens found in the prefix cache instead of computed, each time it started
    n_preemptions: int = 0
    output: list[Token] = field(default_factory=list)  # what was given out
    arrived_s: float = 0.0  # by the clock of whoever runs it
    token_s: list[float] = field(default_factory=list)  # when each token of ``output`` came

    @property
    def n_left(self) -> int:
        """Tokens to compute before the next one can be drawn."""
        return len(self.tokens) - self.n_computed

    @property
    def n_written(self) -> int:
        """Tokens behind the prompt."""
        return len(self.tokens) - self.n_prompt

    @property
    def most_tokens(self) -> int:
        """Tokens that it may come to."""
        return self.n_prompt + self.sampling.max_new_tokens

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.state in (State.FINISHED, State.CANCELLED)

    @property
    def text(self) -> str:
        """What it has written, less a last character whose bytes are not all there."""
        return "".join(token.text for token in self.output)

    @property
    def turn(self) -> tuple[int, int]:
        """Its place in the order of all."""
        return self.arrival, self.id


def check_settings(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Refuse what cannot be sampled with.

    Raises:
        ValueError: one sentence that names the setting and its value.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be 0 (the likeliest token) or more; got {temperature}.")
    if top_k is not None and (top_k < 1 or top_k % 1):
        raise ValueError(f"top_k must be 1 or more, or None for all tokens; got {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, or None for all; got {top_p}.")


def check_new_tokens(max_new_tokens: int) -> None:
    """A text gets one token more or several.

    Raises:
        ValueError: when it is to get none, or a part of one.
    """
    if max_new_tokens < 1 or max_new_tokens % 1:
        raise ValueError(f"max_new_tokens must be 1 or more, whole; got {max_new_tokens}.")


def check_seed(seed: int) -> None:
    """Random numbers are drawn from a whole seed of 0 to 2^128 - 1, the generator's key.

    Raises:
        ValueError: when it is another.
    """
    if not 0 <= seed < 2**128 or seed % 1:
        raise ValueError(f"seed must be 0 or more, a whole number below 2^128; got {seed}.")
