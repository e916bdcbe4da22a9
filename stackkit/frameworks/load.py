"""What a user feels: requests that arrive over time, and how long each waited.

    TTFT  time to first token: from the arrival of the request to its first token
    TPOT  time per output token: (last token - first token) / (tokens - 1)
    throughput   tokens of all requests per second
    goodput      requests per second that kept both their limits

Throughput is what the owner of the machine sees, TTFT and TPOT what a user sees; a batch that is
larger helps the first and hurts the last.
Sources: the definitions of MLPerf Inference for language models; goodput after Zhong et al.
(DistServe), arXiv 2401.09670, who count the rate at which nine in ten keep their limits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from stackkit.frameworks.requests import Request


@dataclass(frozen=True)
class Arrival:
    """A request to come."""

    at_s: float
    prompt: Sequence[int]
    settings: dict[str, Any]  # as for ``Sampling``


def poisson(
    prompts: Iterable[Sequence[int]], rate_per_s: float, *, seed: int = 0, **settings: Any
) -> list[Arrival]:
    """Prompts that arrive independently of each other, so many a second on average.

    Raises:
        ValueError: when the rate is not above 0.
    """
    if not rate_per_s > 0:
        raise ValueError(f"The rate must be above 0 requests per second; got {rate_per_s}.")
    rng, now, found = random.Random(seed), 0.0, []
    for prompt in prompts:
        now += rng.expovariate(rate_per_s)
        found.append(Arrival(now, prompt, settings))
    return found


class SkippingClock:
    """Real seconds while something is computed; waiting for nobody is skipped.

    So a trace of ten idle minutes takes no longer than its computation, and its times are those
    that a server would have seen.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._start, self._skipped = now, now(), 0.0

    def __call__(self) -> float:
        """Seconds since the start, skipped ones included."""
        return self._now() - self._start + self._skipped

    def skip_to(self, at_s: float) -> None:
        """Be at ``at_s`` now, unless it is past."""
        self._skipped += max(0.0, at_s - self())


class Clock(Protocol):
    """Seconds, and a way past idle ones."""

    def __call__(self) -> float:
        """Seconds since the start."""

    def skip_to(self, at_s: float) -> None:
        """Be at ``at_s`` now, unless it is past."""


class Server(Protocol):
    """What serves: an ``Engine`` with a ``SkippingClock``, or a ``SimulatedServer``."""

    clock: Clock
    busy: bool

    def submit(self, prompt: Sequence[int], **settings: Any) -> Request:
        """Queue a request."""

    def step(self) -> object:
        """Compute once."""


def serve(server: Server, trace: Sequence[Arrival]) -> Report:
    """Let requests arrive at a server, until all are done.

    Raises:
        ValueError: when its clock cannot skip, or a request cannot be served at all.
    """
    if not hasattr(server.clock, "skip_to"):
        raise ValueError("The server's clock cannot skip. Give the engine clock=SkippingClock().")
    coming = sorted(trace, key=lambda arrival: arrival.at_s)[::-1]
    requests, begun = [], server.clock()
    while coming or server.busy:
        while coming and begun + coming[-1].at_s <= server.clock():
            arrival = coming.pop()
            request = server.submit(arrival.prompt, **arrival.settings)
            request.arrived_s = begun + arrival.at_s  # it may have come during a step
            requests.append(request)
        if server.busy:
            server.step()
        else:
            server.clock.skip_to(begun + coming[-1].at_s)
    return Report(requests, server.clock() - begun)


@dataclass(frozen=True)
class Report:
    """How requests fared."""

    requests: Sequence[Request] = field(repr=False)
    seconds: float  # from the start to the end of the last step

    @property
    def ttft_s(self) -> list[float]:
        """Time to first token of each request that wrote one."""
        return [r.token_s[0] - r.arrived_s for r in self.requests if r.token_s]

    @property
    def tpot_s(self) -> list[float]:
        """Time per output token of each request that wrote two or more."""
        return [tpot_s(r) for r in self.requests if len(r.token_s) > 1]

    @property
    def tokens_per_s(self) -> float:
        """Throughput."""
        return sum(len(r.token_s) for r in self.requests) / self.seconds

    def kept(self, *, ttft_s: float, tpot_s: float) -> float:
        """Share of requests that kept both limits; one that wrote a single token has no TPOT.

        Raises:
            ValueError: when there was no request.
        """
        if not self.requests:
            raise ValueError("There was no request, so no share of them kept a limit.")
        return sum(_kept(r, ttft_s, tpot_s) for r in self.requests) / len(self.requests)

    def goodput(self, *, ttft_s: float, tpot_s: float) -> float:
        """Requests per second that kept both limits, over all of the time; errors as ``kept``."""
        return self.kept(ttft_s=ttft_s, tpot_s=tpot_s) * len(self.requests) / self.seconds


def tpot_s(request: Request) -> float:
    """Time per output token of one request.

    Raises:
        ValueError: when it wrote fewer than two.
    """
    if len(request.token_s) < 2:
        raise ValueError(f"Request {request.id} wrote fewer than two tokens: it has no TPOT.")
    return (request.token_s[-1] - request.token_s[0]) / (len(request.token_s) - 1)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed, between neighbours by a straight line.

    Raises:
        ValueError: when there is no value, or the percent is not within 0 to 100.
    """
    if not len(values) or not 0 <= percent <= 100:
        raise ValueError(f"A percentile of 0 to 100 of 1 value or more; got {percent} of {values}.")
    return float(np.percentile(values, percent))


def _kept(request: Request, ttft_limit_s: float, tpot_limit_s: float) -> bool:
    times = request.token_s
    if not times or times[0] - request.arrived_s > ttft_limit_s:
        return False
    return len(times) < 2 or tpot_s(request) <= tpot_limit_s
