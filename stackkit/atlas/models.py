"""Language models as shapes: what a model weighs and what a token of context costs.

One list of weights answers every question: how many numbers the checkpoint holds, how many of
them one token uses, which of them multiply. It covers the decoders from GPT-2 on: learned or
rotary positions, grouped or latent attention, gated or plain or mixed feed-forward layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from math import prod

from stackkit.atlas.load import facts_of, pick, table
from stackkit.atlas.sheet import Sheet
from stackkit.core.fact import Fact


@dataclass(frozen=True)
class Experts:
    """A mixture of experts: of the routed ones a token uses a few, of the shared ones all."""

    n_experts: int  # routed experts of one layer
    n_used: int  # of which one token uses
    d_expert: int  # width of one expert
    n_shared: int = 0  # experts that every token uses
    n_dense_layers: int = 0  # leading layers that have one wide feed-forward instead
    router_bias: bool = False  # one value per routed expert


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention: the cache keeps one short vector for all heads."""

    q_rank: int  # width that queries are compressed to
    kv_rank: int  # width that keys and values are compressed to; this is cached
    d_nope: int  # of a head's key, the part without position
    d_rope: int  # the part with position, one for all heads; this is cached too
    d_value: int  # of a head's value


@dataclass(frozen=True)
class Weight:
    """Equal arrays of a checkpoint: their shape and how many there are."""

    name: str
    shape: tuple[int, ...]
    copies: int  # in the checkpoint
    used: int  # of those, by one token
    multiplied: int  # arrays of this shape that one token is multiplied with

    @property
    def size(self) -> int:
        """Numbers in one of them."""
        return prod(self.shape)


@dataclass(frozen=True)
class ModelSpec(Sheet):
    """The shape of a decoder, from its published configuration."""

    n_layers: int  # L
    d_model: int  # E
    n_heads: int  # H, query heads
    n_kv_heads: int  # K, key and value heads
    head_dim: int  # D
    d_ff: int  # F, width of the feed-forward
    vocab_size: int  # V
    max_context: int  # tokens
    tied_embeddings: bool  # the output head is the input table
    maker: str = ""
    year: int = 0
    gated: bool = True  # three matrices in the feed-forward (SwiGLU, GeGLU), not two
    biases: tuple[str, ...] = ()  # projections with a bias: "qkv", "out", "mlp"
    norm_values: int = 1  # per channel: RMSNorm keeps a weight, LayerNorm a bias too
    norms_per_layer: int = 2
    learned_positions: int = 0  # rows of a position table; rotary positions have none
    sinks: bool = False  # one learned value per head that attention may look at
    window: int = 0  # tokens that a sliding-window layer looks back
    n_window_layers: int = 0
    experts: Experts | None = None
    mla: LatentAttention | None = field(default=None)

    @property
    def attention(self) -> str:
        """``"MHA"``, ``"GQA"``, ``"MQA"`` or ``"MLA"``: how heads share keys and values."""
        if self.mla:
            return "MLA"
        if self.n_kv_heads == self.n_heads:
            return "MHA"
        return "MQA" if self.n_kv_heads == 1 else "GQA"

    @property
    def published_params(self) -> Fact:
        """The count to hold ours against: the checkpoint's own, else the paper's table."""
        return self.facts.get("checkpoint_params") or self.facts["published_params"]

    def weights(self) -> list[Weight]:
        """Every array of the checkpoint, equal ones together; shapes are (out, in)."""
        E, V = self.d_model, self.vocab_size
        found = [Weight("input table", (V, E), 1, 1, 0)]
        if self.learned_positions:
            found.append(Weight("position table", (self.learned_positions, E), 1, 1, 0))
        norms = self.norms_per_layer * self.n_layers + 1
        found.append(_vector("norms", self.norm_values * E, norms))
        found += self._latent_attention() if self.mla else self._attention()
        found += self._feed_forward()
        stored = 0 if self.tied_embeddings else 1
        return [*found, Weight("output head", (V, E), stored, stored, 1)]

    def _attention(self) -> list[Weight]:
        E, D, L = self.d_model, self.head_dim, self.n_layers
        queries, keys = self.n_heads * D, self.n_kv_heads * D
        found = [
            _matrix("query", (queries, E), L),
            _matrix("key and value", (keys, E), 2 * L),
            _matrix("attention output", (E, queries), L),
        ]
        if "qkv" in self.biases:
            found.append(_vector("query, key, value biases", queries + 2 * keys, L))
        if "out" in self.biases:
            found.append(_vector("attention output biases", E, L))
        if self.sinks:
            found.append(_vector("sinks", self.n_heads, L))
        return found

    def _latent_attention(self) -> list[Weight]:
        """Queries, and keys with values, each down to a rank and up again to all heads."""
        E, H, L, m = self.d_model, self.n_heads, self.n_layers, self.mla
        return [
            _matrix("query, down", (m.q_rank, E), L),
            _matrix("query, up", (H * (m.d_nope + m.d_rope), m.q_rank), L),
            _matrix("key and value, down", (m.kv_rank + m.d_rope, E), L),
            _matrix("key and value, up", (H * (m.d_nope + m.d_value), m.kv_rank), L),
            _matrix("attention output", (E, H * m.d_value), L),
            _vector("norms of the compressed", m.q_rank + m.kv_rank, L),
        ]

    def _feed_forward(self) -> list[Weight]:
        E, x = self.d_model, self.experts
        dense = x.n_dense_layers if x else self.n_layers
        found = self._mlp("feed-forward", self.d_ff, dense, dense)
        if x:
            mixed = self.n_layers - dense
            found += self._mlp("expert", x.d_expert, mixed * x.n_experts, mixed * x.n_used)
            found += self._mlp("shared expert", x.d_expert, mixed * x.n_shared, mixed * x.n_shared)
            found.append(_matrix("router", (x.n_experts, E), mixed))
            if x.router_bias:
                found.append(_vector("router biases", x.n_experts, mixed))
        return found

    def _mlp(self, name: str, F: int, copies: int, used: int) -> list[Weight]:
        """One feed-forward of width F: into it once or twice, and out of it."""
        E, ways_in = self.d_model, 2 if self.gated else 1
        found = [
            Weight(f"{name}, in", (F, E), ways_in * copies, ways_in * used, ways_in * used),
            Weight(f"{name}, out", (E, F), copies, used, used),
        ]
        if "mlp" in self.biases:
            found.append(Weight(f"{name}, biases", (ways_in * F + E,), copies, used, 0))
        return [weight for weight in found if weight.copies]

    def params(self) -> int:
        """All weights, as the makers count them: matrices, both tables unless tied, norms."""
        return sum(weight.copies * weight.size for weight in self.weights())

    def active_params(self) -> int:
        """Weights that one token uses: all but the routed experts it does not go to.

        Counts both tables whole, as the authors of Mixtral do. The authors of gpt-oss leave the
        input table out, of which a token looks up one row: that is ``matmul_params`` but for the
        norms and biases.
        """
        return sum(weight.used * weight.size for weight in self.weights())

    def matmul_params(self) -> int:
        """Weights that multiply one token: the layers' matrices and the output head.

        The input table is left out: a token looks up one row of it. So this is what one
        decode step of one sequence reads, whether or not the head shares its memory with the
        table.
        """
        return sum(weight.multiplied * weight.size for weight in self.weights())

    def kv_bytes_per_token(self, bytes_per_value: float = 2) -> float:
        """Bytes of keys and values that one token of context keeps, over all layers.

        Counts KV heads, not query heads: with grouped queries these differ by 4 to 8 times. A
        latent cache keeps one compressed vector for all heads. Sliding windows are not counted
        here, because a token inside the window is kept by every layer: see ``kv_bytes``.
        """
        return self.n_layers * self._kv_values() * bytes_per_value

    def kv_bytes(self, context: int, bytes_per_value: float = 2) -> float:
        """Bytes of keys and values of one sequence of ``context`` tokens, windows counted."""
        windowed = self.n_window_layers * min(context, self.window or context)
        tokens = (self.n_layers - self.n_window_layers) * context + windowed
        return tokens * self._kv_values() * bytes_per_value

    def _kv_values(self) -> int:
        """Numbers that one layer keeps of one token."""
        if self.mla:
            return self.mla.kv_rank + self.mla.d_rope
        return 2 * self.n_kv_heads * self.head_dim


def _matrix(name: str, shape: tuple[int, int], copies: int) -> Weight:
    return Weight(name, shape, copies, copies, copies)


def _vector(name: str, size: int, copies: int) -> Weight:
    return Weight(name, (size,), copies, copies, 0)


@cache
def model(name: str) -> ModelSpec:
    """One model by its id, for example ``"llama-3.1-8b"``.

    Raises:
        ValueError: when the atlas has none, with near ids.
    """
    entry = pick("models", name)
    config = dict(entry["config"])
    if "experts" in config:
        config["experts"] = Experts(**config["experts"])
    if "mla" in config:
        config["mla"] = LatentAttention(**config["mla"])
    config["biases"] = tuple(config.get("biases", ()))
    return ModelSpec(
        name, entry["name"], facts_of(name), maker=entry["maker"], year=entry["year"], **config
    )


def models() -> list[ModelSpec]:
    """All models, in the order of the file."""
    return [model(name) for name in table("models")]
