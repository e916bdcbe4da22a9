"""The engine without a model: the same scheduler on simulated time.

What a step would take is asked of a function instead of a machine, so an hour of a chip that
nobody here has passes in a second. Texts run to their full length; what they say is not known.

    step:  FLOPs = 2 (P - V E) T + 2 V E R + 4 L H D pairs,   bytes = P w + k sum of contexts

P weights in matrices, T tokens in the step, R of them drawn from, w and k bytes per weight and per
token of cache. It is the memory layer's decode and prefill, mixed as the scheduler mixes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stackkit.atlas import ModelSpec
from stackkit.frameworks.requests import Request, Sampling
from stackkit.frameworks.scheduler import Scheduler, Step
from stackkit.memory import Roofline, Work
from stackkit.memory.work import BYTES_PER_VALUE

A_TOKEN = -1  # in no vocabulary: it ends no text


class SimulatedClock:
    """Seconds that pass only when somebody says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Seconds since the start."""
        return self.now_s

    def skip_to(self, at_s: float) -> None:
        """Be at ``at_s`` now, unless it is past."""
        self.now_s = max(self.now_s, at_s)


class SimulatedServer:
    """Serves requests by a scheduler, on simulated time; ``load.serve`` takes it for an engine.

    Args:
        scheduler: a fresh one.
        step_s: seconds that a step takes.
    """

    def __init__(self, scheduler: Scheduler, step_s: Callable[[Step], float]) -> None:
        self.scheduler, self.step_s = scheduler, step_s
        self.clock = SimulatedClock()
        self.steps: list[tuple[float, Step]] = []  # when each ended, and what it computed

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute."""
        return self.scheduler.busy

    def submit(self, prompt: Sequence[int], **settings: Any) -> Request:
        """Queue a request.

        Raises:
            ValueError: as for ``Scheduler.submit``.
        """
        request = self.scheduler.submit(prompt, Sampling(**settings))
        request.arrived_s = self.clock()
        return request

    def step(self) -> None:
        """Let one step pass; none, and no time, where there is nothing to do."""
        plan = self.scheduler.plan()
        if not plan.pieces:
            return
        self.clock.now_s += self.step_s(plan)
        drawn = [A_TOKEN for piece in plan.pieces if piece.writes]
        for request in self.scheduler.commit(plan, drawn):
            request.token_s.append(self.clock())
        self.steps.append((self.clock(), plan))


def step_work(
    spec: ModelSpec, step: Step, *, weight_dtype: str = "bf16", kv_dtype: str = "bf16"
) -> Work:
    """Arithmetic and bytes of one mixed step of a dense model without windows.

    Raises:
        ValueError: for a model with experts, windows or a latent cache, or an unknown format.
    """
    if spec.mla or spec.n_window_layers or any(w.used < w.copies for w in spec.weights()):
        raise ValueError(f"{spec.name} is no plain dense model; step_work knows no others.")
    for dtype in (weight_dtype, kv_dtype):
        if dtype not in BYTES_PER_VALUE:
            raise ValueError(f"{dtype!r} is no format; there are {', '.join(BYTES_PER_VALUE)}.")
    head = spec.vocab_size * spec.d_model
    drawn_from = sum(piece.writes for piece in step.pieces)
    # Token p looks at p + 1 tokens: of n tokens from start on, that is a piece of a triangle.
    pairs = sum(p.n * p.start + p.n * (p.n + 1) / 2 for p in step.pieces)
    context = sum(p.start + p.n for p in step.pieces)
    return Work(
        flops=2 * (spec.matmul_params() - head) * step.n_tokens
        + 2 * head * drawn_from
        + 4 * spec.n_layers * spec.n_heads * spec.head_dim * pairs,
        weight_bytes=spec.matmul_params() * BYTES_PER_VALUE[weight_dtype],
        kv_bytes=context * spec.kv_bytes_per_token(BYTES_PER_VALUE[kv_dtype]),
    )


def roofline_step(
    spec: ModelSpec, roof: Roofline, *, besides_s: float = 0.0, **dtypes: str
) -> Callable[[Step], float]:
    """``step_s`` by the roofline: the longer of arithmetic and bytes, and a fixed time besides.

    Args:
        spec: a plain dense model.
        roof: of the chip.
        besides_s: seconds that each step takes beside the two, whatever is in it.
        dtypes: as for ``step_work``.
    """

    def seconds(step: Step) -> float:
        work = step_work(spec, step, **dtypes)
        return roof.bounds(work.flops, work.bytes)[0] + besides_s

    return seconds
