"""How much arithmetic and how many bytes one pass of a model is.

Decode makes one new token for each request and reads every weight for it; prefill makes the
keys and values of a whole prompt with one read of the weights. Counted: matrices and attention
(a multiply and an add are 2 FLOPs), weights and KV cache. Left out: activations, which stay on
the chip when attention is tiled, softmax, norms and the single row read of the input table.

    decode:  FLOPs = B (2 P + 4 L H D c),   bytes = P w + B c k
    prefill: FLOPs = B (T 2 (P - V E) + 2 V E + 2 L H D T (T + 1)),   bytes = P w + B T k

P weights in matrices, w and k bytes per weight and per token of cache, c tokens of context. With
experts, FLOPs count those that a token uses and bytes those that a batch touches; with windows,
a layer looks back no further than its window; a latent cache is read as it is stored.
Sources: Kaplan et al., arXiv 2001.08361, section 2.1, with the KV heads of grouped queries;
latent attention: DeepSeek-V2, arXiv 2405.04434, section 2.1.2, its matrices absorbed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from stackkit.atlas import ModelSpec

BYTES_PER_VALUE = {  # without the scales that small formats carry beside their values
    "fp32": 4,
    "tf32": 4,
    "bf16": 2,
    "fp16": 2,
    "fp8": 1,
    "int8": 1,
    "int4": 0.5,
    "fp4": 0.5,
}


@dataclass(frozen=True)
class Work:
    """The arithmetic and the traffic of one pass."""

    flops: float
    weight_bytes: float  # read once for the whole batch
    kv_bytes: float  # cache read (decode) or written (prefill), all requests together

    @property
    def bytes(self) -> float:
        """All bytes that move between memory and the processor."""
        return self.weight_bytes + self.kv_bytes

    @property
    def intensity(self) -> float:
        """FLOP per byte: the workload's place on the roofline's x axis."""
        return self.flops / self.bytes


def decode_work(
    model: ModelSpec,
    *,
    batch: int,
    context: int,
    weight_dtype: str = "bf16",
    kv_dtype: str = "bf16",
) -> Work:
    """One decode step: one new token for each of ``batch`` requests.

    Args:
        model: the model's shape.
        batch: requests that share the step.
        context: tokens that each attends to, the new one included.
        weight_dtype: format of the stored weights, a key of ``BYTES_PER_VALUE``.
        kv_dtype: format of the cached keys and values.

    Raises:
        ValueError: when batch or context is no whole number of 1 or more, the context is longer
            than the model allows, or a format is unknown.
    """
    _check(model, {"batch": batch, "context": context}, context, (weight_dtype, kv_dtype))
    pairs = _pairs(model, lambda window: min(context, window))
    return Work(
        flops=batch * (2 * model.matmul_params() + _flops_per_pair(model, decode=True) * pairs),
        weight_bytes=_weights_read(model, batch) * BYTES_PER_VALUE[weight_dtype],
        kv_bytes=batch * model.kv_bytes(context, BYTES_PER_VALUE[kv_dtype]),
    )


def prefill_work(model: ModelSpec, *, tokens: int, batch: int = 1, dtype: str = "bf16") -> Work:
    """One pass over whole prompts: ``batch`` requests of ``tokens`` tokens each.

    Attention is causal: token t attends to t tokens. Only the last token of each prompt goes
    through the output head.

    Raises:
        ValueError: as for ``decode_work``.
    """
    _check(model, {"batch": batch, "tokens": tokens}, tokens, (dtype,))
    head = model.vocab_size * model.d_model
    body_flops = 2 * (model.matmul_params() - head) * tokens
    pairs = _pairs(model, lambda window: _causal_pairs(tokens, window))
    return Work(
        flops=batch * (body_flops + 2 * head + _flops_per_pair(model, decode=False) * pairs),
        weight_bytes=_weights_read(model, batch * tokens) * BYTES_PER_VALUE[dtype],
        kv_bytes=batch * tokens * model.kv_bytes_per_token(BYTES_PER_VALUE[dtype]),
    )


def _weights_read(model: ModelSpec, tokens: int) -> float:
    """Weights that ``tokens`` tokens touch together: of routed experts, as many as chance has it.

    Each token picks ``used`` of ``copies`` alike; one that no token picks is not read. Real
    routers have favourites and touch fewer.
    """
    read = 0.0
    for weight in model.weights():
        if weight.used < weight.copies:
            missed = (1 - weight.used / weight.copies) ** tokens
            read += weight.size * weight.copies * (1 - missed) * (weight.multiplied > 0)
        else:
            read += weight.size * weight.multiplied
    return read


def _pairs(model: ModelSpec, pairs_in: Callable[[float], float]) -> float:
    """Pairs of query and key, over all layers; ``pairs_in(window)`` counts those of one."""
    windowed = model.n_window_layers
    seen = windowed * pairs_in(model.window) if windowed else 0
    return seen + (model.n_layers - windowed) * pairs_in(math.inf)


def _causal_pairs(tokens: int, window: float) -> float:
    """Token t sees t tokens, or the window where that is less."""
    ramp = min(tokens, window)
    return ramp * (ramp + 1) / 2 + (tokens - ramp) * ramp


def _flops_per_pair(model: ModelSpec, *, decode: bool) -> float:
    """FLOPs of one query with one key, and of its share in the value, over all heads.

    A latent cache is multiplied as it lies in decode (its up-projections are absorbed into the
    query and the output); in prefill it is unfolded once for each token into plain heads.
    """
    if not model.mla:
        return 4 * model.n_heads * model.head_dim
    m = model.mla
    if decode:
        return 2 * model.n_heads * (2 * m.kv_rank + m.d_rope)
    return 2 * model.n_heads * (m.d_nope + m.d_rope + m.d_value)


def _check(model: ModelSpec, counts: dict[str, int], longest: int, dtypes: tuple[str, ...]) -> None:
    for name, value in counts.items():
        if not 1 <= value < math.inf or value != int(value):
            raise ValueError(f"{name} must be a whole number, 1 or more; got {value!r}.")
    if longest > model.max_context:
        raise ValueError(
            f"{model.name} takes at most {model.max_context} tokens; got {longest}. "
            "Shorten the context."
        )
    for dtype in dtypes:
        if dtype not in BYTES_PER_VALUE:
            known = ", ".join(BYTES_PER_VALUE)
            raise ValueError(f"Unknown number format {dtype!r}; use one of {known}.")
