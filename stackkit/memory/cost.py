"""What a pass of a model costs on real chips: seconds, at least and at most of what is counted.

    compute_s = FLOPs / (n peak),   memory_s = weights / (n bandwidth) + cache / (shards bandwidth)
    link_s    = bytes that one chip sends / its link, one direction
    lower_s   = max of the three,   upper_s = their sum

Weights are split evenly over ``n`` chips (tensor parallel), so each layer adds up its partial
results twice: two ring all-reduces, in each of which a chip sends 2 (n - 1) / n of a layer's
activations. Heads split the cache; where there are fewer KV heads than chips, requests do.

It knows nothing of kernel starts, link latency, sampling or uneven work, so a program can take
longer than the sum. With the default efficiency, the datasheet's, none takes less than ``lower_s``,
but for two: switches that add send each byte once, half of what a ring sends; and real routers have
favourites among their experts, so a batch can read fewer than chance has it. A stated
``Efficiency`` stands for what programs reach.
Sources: Williams et al., CACM 52(4), 2009; Shoeybi et al. (Megatron-LM), arXiv 1909.08053,
section 3; Pope et al., arXiv 2211.05102, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stackkit.atlas import Accelerator, ModelSpec
from stackkit.memory.links import all_reduce_bytes, check_chips
from stackkit.memory.roofline import Roofline, roofline_of
from stackkit.memory.work import BYTES_PER_VALUE, Work, decode_work, prefill_work

ACTIVATION_BYTES = 2  # partial results cross the links in bf16 or fp16
REDUCTIONS_PER_LAYER = 2  # after attention and after the feed-forward


@dataclass(frozen=True)
class Efficiency:
    """What a program reaches of a datasheet; the default is all of it.

    Raises:
        ValueError: when a share is not above 0 and at most 1, or ``per_layer_s`` below 0.
    """

    compute: float = 1.0  # share of the peak
    memory: float = 1.0  # share of the bandwidth
    link: float = 1.0  # share of the link, one direction
    per_layer_s: float = 0.0  # of each layer besides, whatever the chips: starting kernels, waiting

    def __post_init__(self) -> None:
        for name in ("compute", "memory", "link"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(
                    f"Efficiency is a share above 0 and at most 1; {name} is {value!r}."
                )
        if not 0 <= self.per_layer_s < math.inf:
            raise ValueError(f"per_layer_s must be 0 or more; got {self.per_layer_s!r}.")


DATASHEET = Efficiency()


@dataclass(frozen=True)
class StepCost:
    """One pass: what it takes, and how long at least and at most."""

    flops: float  # of all chips together
    weight_bytes: float  # read, of all chips together
    kv_bytes: float  # cache read (decode) or written (prefill), of all chips together
    link_bytes: float  # that each chip sends
    lower_s: float  # everything overlaps perfectly
    upper_s: float  # nothing overlaps
    bound: str  # "compute", "memory" or "link": which takes longest


def decode_step(
    model: ModelSpec,
    chip: Accelerator | Roofline,
    *,
    batch: int,
    context: int,
    n_chips: int = 1,
    weight_dtype: str = "bf16",
    kv_dtype: str = "bf16",
    compute_dtype: str = "bf16",
    efficiency: Efficiency = DATASHEET,
) -> StepCost:
    """One new token for each of ``batch`` requests.

    Args:
        model: the model's shape.
        chip: the accelerator, of which there are ``n_chips``; or the roofline of one machine,
            measured in the format of the arithmetic.
        batch: requests that share the step.
        context: tokens that each attends to, the new one included.
        n_chips: chips that split the model among them (tensor parallel).
        weight_dtype: format of the stored weights.
        kv_dtype: format of the cached keys and values.
        compute_dtype: format of the arithmetic; weights stored in fewer bits are mostly
            unpacked to it.
        efficiency: share of the datasheet's figures that is reached.

    Returns:
        The cost. It does not ask whether the model fits: see ``max_batch``.

    Raises:
        ValueError: for impossible counts or formats, a chip without a peak of that format, or
            several chips where the atlas knows no link.
    """
    work = decode_work(
        model, batch=batch, context=context, weight_dtype=weight_dtype, kv_dtype=kv_dtype
    )
    return _cost(model, chip, work, batch, batch, n_chips, compute_dtype, efficiency)


def prefill(
    model: ModelSpec,
    chip: Accelerator | Roofline,
    *,
    tokens: int,
    batch: int = 1,
    n_chips: int = 1,
    dtype: str = "bf16",
    efficiency: Efficiency = DATASHEET,
) -> StepCost:
    """One pass over whole prompts: ``batch`` requests of ``tokens`` tokens each.

    ``dtype`` is that of weights, cache and arithmetic. For the rest, see ``decode_step``.

    Raises:
        ValueError: as for ``decode_step``.
    """
    work = prefill_work(model, tokens=tokens, batch=batch, dtype=dtype)
    return _cost(model, chip, work, batch, batch * tokens, n_chips, dtype, efficiency)


def max_batch(
    model: ModelSpec,
    chip: Accelerator,
    *,
    context: int,
    n_chips: int = 1,
    weight_dtype: str = "bf16",
    kv_dtype: str = "bf16",
    usable: float = 1.0,
) -> int:
    """How many requests of ``context`` tokens fit beside the weights; 0 when those do not fit.

    Args:
        usable: share of the printed capacity for weights and cache. The rest goes to activations
            and programs; serving engines take 0.9 (vLLM's default) or so.

    Raises:
        ValueError: when a count is below 1, a format unknown, or ``usable`` no share.
    """
    if isinstance(chip, Roofline):
        raise ValueError("A roofline has no capacity; max_batch needs a chip of the atlas.")
    decode_work(model, batch=1, context=context, weight_dtype=weight_dtype, kv_dtype=kv_dtype)
    check_chips(n_chips)
    if not 0 < usable <= 1:
        raise ValueError(f"usable is a share above 0 and at most 1; got {usable!r}.")
    left = usable * n_chips * chip.memory_bytes - model.params() * BYTES_PER_VALUE[weight_dtype]
    return max(0, int(left // model.kv_bytes(context, BYTES_PER_VALUE[kv_dtype])))


def _cost(
    model: ModelSpec,
    chip: Accelerator | Roofline,
    work: Work,
    batch: int,
    tokens: int,
    n_chips: int,
    dtype: str,
    efficiency: Efficiency,
) -> StepCost:
    """Seconds of some work; ``tokens`` go through each layer, of ``batch`` requests."""
    check_chips(n_chips)
    kv_heads = 1 if model.mla else model.n_kv_heads
    shards = min(n_chips, kv_heads * batch)
    link_bytes = _reduced_bytes(n_chips, tokens, model)
    roof = chip if isinstance(chip, Roofline) else roofline_of(chip, dtype)
    peak = efficiency.compute * roof.peak_flops_per_s
    bandwidth = efficiency.memory * roof.bytes_per_s
    times = {
        "compute": work.flops / (n_chips * peak),
        "memory": (work.weight_bytes / n_chips + work.kv_bytes / shards) / bandwidth,
        "link": link_bytes / (efficiency.link * _link(chip)) if link_bytes else 0.0,
    }
    bound = max(times, key=lambda name: times[name])
    besides_s = model.n_layers * efficiency.per_layer_s
    return StepCost(
        flops=work.flops,
        weight_bytes=work.weight_bytes,
        kv_bytes=work.kv_bytes,
        link_bytes=link_bytes,
        lower_s=times[bound] + besides_s,
        upper_s=math.fsum(times.values()) + besides_s,
        bound=bound,
    )


def _reduced_bytes(n_chips: int, tokens: int, model: ModelSpec) -> float:
    """Bytes that one chip sends for the all-reduces of all layers, as a ring."""
    activations = tokens * model.d_model * ACTIVATION_BYTES
    return REDUCTIONS_PER_LAYER * model.n_layers * all_reduce_bytes(activations, n_chips)


def _link(chip: Accelerator | Roofline) -> float:
    if isinstance(chip, Roofline):
        raise ValueError("A measured roofline is one machine, without links; use n_chips=1.")
    if not chip.link_bytes_per_s:
        raise ValueError(f"The atlas knows no link between chips for {chip.name}; use n_chips=1.")
    return chip.link_bytes_per_s
