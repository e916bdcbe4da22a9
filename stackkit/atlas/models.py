"""Language models as shapes: what a model weighs and what a token of context costs.

Dense transformers of the Llama family: grouped-query attention, SwiGLU, RMSNorm, no biases. The
formulas count every weight, so that they can be held against the published parameter counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from stackkit.atlas.load import facts_of, pick, table
from stackkit.core.fact import Fact


@dataclass(frozen=True)
class ModelSpec:
    """The shape of a dense Llama-family transformer, from its published configuration."""

    id: str
    name: str
    n_layers: int
    d_model: int  # E
    n_heads: int  # H, query heads
    n_kv_heads: int  # K, key and value heads
    head_dim: int  # D
    d_ff: int  # F, width of the gated feed-forward
    vocab_size: int  # V
    max_context: int  # tokens
    tied_embeddings: bool  # the output head is the input table
    facts: dict[str, Fact] = field(hash=False)

    def matmul_params(self) -> int:
        """Weights that multiply every token: the layers' matrices and the output head.

        The input table is left out: a token looks up one row of it. So this is what one
        decode step reads, whether or not the head shares its memory with the table.
        """
        E, F = self.d_model, self.d_ff
        attention = E * self.head_dim * (2 * self.n_heads + 2 * self.n_kv_heads)  # q, o and k, v
        feed_forward = 3 * E * F  # gate, up, down
        return self.n_layers * (attention + feed_forward) + self.vocab_size * E

    def params(self) -> int:
        """All weights, as the makers count them: matrices, both tables unless tied, norms."""
        input_table = 0 if self.tied_embeddings else self.vocab_size * self.d_model
        norms = (2 * self.n_layers + 1) * self.d_model
        return self.matmul_params() + input_table + norms

    def active_params(self) -> int:
        """Weights that one token uses. All of them: these models are dense."""
        return self.params()

    def kv_bytes_per_token(self, bytes_per_value: float = 2) -> float:
        """Bytes of keys and values that one token of context keeps, over all layers.

        Counts KV heads, not query heads: with grouped queries these differ by 4 to 8 times.
        """
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * bytes_per_value


@cache
def model(name: str) -> ModelSpec:
    """One model by its id, for example ``"llama-3.1-8b"``.

    Raises:
        ValueError: when the atlas has none, with the ids it has.
    """
    entry = pick("models", name)
    return ModelSpec(id=name, name=entry["name"], facts=facts_of(name), **entry["config"])


def models() -> list[ModelSpec]:
    """All models, in the order of the file."""
    return [model(name) for name in table("models")]
