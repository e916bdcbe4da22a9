"""How much arithmetic and how many bytes one pass of a model is.

Decode makes one new token for each request and reads every weight for it; prefill makes the
keys and values of a whole prompt with one read of the weights. Counted: matrices and attention
(a multiply and an add are 2 FLOPs), weights and KV cache. Left out: activations, which stay on
the chip when attention is tiled, softmax, norms and the single row read of the input table.

    decode:  FLOPs = B (2 P + 4 L H D c),   bytes = P w + B c k
    prefill: FLOPs = B (T 2 (P - V E) + 2 V E + 2 L H D T (T + 1)),   bytes = P w + B T k

P weights in matrices, w and k bytes per weight and per token of cache, c tokens of context.
Source: Kaplan et al., arXiv 2001.08361, section 2.1, with the KV heads of grouped queries.
"""

from __future__ import annotations

from dataclasses import dataclass

from stackkit.atlas import ModelSpec

BYTES_PER_VALUE = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1, "int4": 0.5}


@dataclass(frozen=True)
class Work:
    """The arithmetic and the traffic of one pass."""

    flops: float
    weight_bytes: float  # read once, whatever the batch
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
        ValueError: when batch or context is below 1, the context is longer than the model
            allows, or a format is unknown.
    """
    _check(model, {"batch": batch, "context": context}, context, (weight_dtype, kv_dtype))
    parameters = model.matmul_params()
    attention_flops = 4 * model.n_layers * model.n_heads * model.head_dim * context
    return Work(
        flops=batch * (2 * parameters + attention_flops),
        weight_bytes=parameters * BYTES_PER_VALUE[weight_dtype],
        kv_bytes=batch * context * model.kv_bytes_per_token(BYTES_PER_VALUE[kv_dtype]),
    )


def prefill_work(model: ModelSpec, *, tokens: int, batch: int = 1, dtype: str = "bf16") -> Work:
    """One pass over whole prompts: ``batch`` requests of ``tokens`` tokens each.

    Attention is causal: token t attends to t tokens. Only the last token of each prompt goes
    through the output head.

    Raises:
        ValueError: as for ``decode_work``.
    """
    _check(model, {"batch": batch, "tokens": tokens}, tokens, (dtype,))
    parameters = model.matmul_params()
    head = model.vocab_size * model.d_model
    attention_flops = 2 * model.n_layers * model.n_heads * model.head_dim * tokens * (tokens + 1)
    return Work(
        flops=batch * (2 * (parameters - head) * tokens + 2 * head + attention_flops),
        weight_bytes=parameters * BYTES_PER_VALUE[dtype],
        kv_bytes=batch * tokens * model.kv_bytes_per_token(BYTES_PER_VALUE[dtype]),
    )


def _check(model: ModelSpec, counts: dict[str, int], longest: int, dtypes: tuple[str, ...]) -> None:
    for name, value in counts.items():
        if not value >= 1:
            raise ValueError(f"{name} must be 1 or more; got {value!r}.")
    if longest > model.max_context:
        raise ValueError(
            f"{model.name} takes at most {model.max_context} tokens; got {longest}. "
            "Shorten the context."
        )
    for dtype in dtypes:
        if dtype not in BYTES_PER_VALUE:
            known = ", ".join(BYTES_PER_VALUE)
            raise ValueError(f"Unknown number format {dtype!r}; use one of {known}.")
