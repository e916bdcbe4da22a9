"""One transformer: the decoder of the Llama family, from toys to the real thing.

    x = embed(ids)                                 a row of a table for each token
    x = x + attention(norm(x)) in each layer       tokens look at those before them
    x = x + feed_forward(norm(x))                  each token by itself
    logits = norm(x) embed^T                       how well each token of the vocabulary fits

Shapes: B batch, T tokens, S tokens with those cached, H heads, K KV heads, D head dim, E model
dim, F feed-forward dim, V vocabulary. It knows nothing of text, files, sampling or training.
Sources: Touvron et al. (LLaMA), arXiv 2302.13971, section 2.2; RMSNorm: Zhang and Sennrich,
arXiv 1910.07467; rotary positions: Su et al., arXiv 2104.09864; SwiGLU: Shazeer, arXiv 2002.05202.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from stackkit.atlas import ModelSpec
from stackkit.frameworks import KVCache
from stackkit.frameworks.attention import attend
from stackkit.frameworks.cache import ContiguousCache


@dataclass(frozen=True)
class Config:
    """The shape of a model.

    Raises:
        ValueError: when heads do not divide, or a head's dimension is odd.
    """

    n_layers: int  # L
    d_model: int  # E
    n_heads: int  # H, of queries
    n_kv_heads: int  # K, of keys and values
    head_dim: int  # D
    d_ff: int  # F
    vocab_size: int  # V
    max_context: int  # tokens that positions are made for
    rope_base: float = 10_000.0  # the slowest pair turns once in 2 pi base^((D - 2) / D) tokens
    norm_eps: float = 1e-5
    tied_embeddings: bool = True  # the output head is the input table

    def __post_init__(self) -> None:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"{self.n_heads} query heads cannot share {self.n_kv_heads} KV heads evenly."
            )
        if self.head_dim % 2:
            raise ValueError(f"Rotary positions need an even head_dim; got {self.head_dim}.")

    def spec(self, name: str = "model") -> ModelSpec:
        """The same shape as the atlas has it, which counts parameters and bytes of cache."""
        return ModelSpec(
            name,
            name,
            {},
            **{key: getattr(self, key) for key in _SHARED_WITH_SPEC},
        )


_SHARED_WITH_SPEC = (
    *("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff"),
    *("vocab_size", "max_context", "tied_embeddings"),
)


class Transformer(nn.Module):
    """Token ids to logits; with a cache, of the new tokens alone."""

    def __init__(self, config: Config, attend: Callable = attend) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config, attend) for _ in range(config.n_layers))
        self.norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.embed.weight
        turns = rotary_turns(config.head_dim, config.max_context, config.rope_base)
        self.register_buffer("turns", turns, persistent=False)  # (max_context, D/2, 2)
        self.apply(_initialise)

    def _apply(self, fn: Callable, recurse: bool = True) -> Transformer:
        """Move or convert the weights; angles move, but keep fp32 in every format."""
        turns = self.turns
        super()._apply(fn, recurse)
        self.turns = turns.to(self.turns.device)
        return self

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.config.vocab_size

    @property
    def max_context(self) -> int:
        """Tokens that a text may have."""
        return self.config.max_context

    def forward(
        self,
        ids: torch.Tensor,
        cache: KVCache | None = None,
        *,
        last: int | None = None,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits for what follows each token.

        Args:
            ids: (B, T); with a cache, of the tokens behind those that it holds.
            cache: keys and values of the tokens before; the new ones are added to it.
            last: positions from the end to give logits for; default all. The output head is a
                fifth of a small model's arithmetic: a prompt needs the last row alone.
            rows: (R,) positions to give logits for instead, as an engine wants them.

        Returns:
            (B, T, V), (B, last, V) or (B, R, V).

        Raises:
            ValueError: when there is no token, or the text gets longer than ``max_context``.
        """
        T = ids.shape[1]
        turns = self.turns[slice(0, T) if cache is None else cache.positions(T)]
        if T < 1 or len(turns) < T:
            before = 0 if cache is None else cache.positions(0).start
            raise ValueError(
                f"The model takes 1 to {self.max_context} tokens; got {before + T}. "
                "Shorten the text."
            )
        if last is not None and last < 1:
            raise ValueError(f"last must be 1 or more, or None for all positions; got {last}.")
        x = self.embed(ids)  # (B, T, E)
        for i, layer in enumerate(self.layers):
            x = layer(x, turns, cache, i)
        if cache is not None:
            cache.advance(T)
        x = x if last is None else x[:, -last:]
        return self.head(self.norm(x if rows is None else x[:, rows]))

    def new_cache(self, max_tokens: int, batch: int = 1) -> ContiguousCache:
        """An empty cache that fits the model."""
        c, table = self.config, self.embed.weight
        return ContiguousCache(
            c.n_layers,
            c.n_kv_heads,
            c.head_dim,
            max_tokens,
            batch=batch,
            dtype=table.dtype,
            device=table.device,
        )


class Layer(nn.Module):
    """Attention, then feed-forward, each beside a path that leaves x as it is."""

    def __init__(self, config: Config, attend: Callable) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, attend)
        self.feed_forward_norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(
        self, x: torch.Tensor, turns: torch.Tensor, cache: KVCache | None, i: int
    ) -> torch.Tensor:
        """(B, T, E) to (B, T, E); ``i`` is this layer's place in the cache."""
        x = x + self.attention(self.attention_norm(x), turns, cache, i)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: Config, attend: Callable) -> None:
        super().__init__()
        E, D = config.d_model, config.head_dim
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, D
        self.query = nn.Linear(E, config.n_heads * D, bias=False)
        self.key = nn.Linear(E, config.n_kv_heads * D, bias=False)
        self.value = nn.Linear(E, config.n_kv_heads * D, bias=False)
        self.output = nn.Linear(config.n_heads * D, E, bias=False)
        self.attend = attend

    def forward(
        self, x: torch.Tensor, turns: torch.Tensor, cache: KVCache | None, i: int
    ) -> torch.Tensor:
        """(B, T, E) to (B, T, E)."""
        B, T, _ = x.shape
        q = self.query(x).view(B, T, self.n_heads, self.head_dim).transpose(1, 2)  # (B, H, T, D)
        k = self.key(x).view(B, T, self.n_kv_heads, self.head_dim).transpose(1, 2)  # (B, K, T, D)
        v = self.value(x).view(B, T, self.n_kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, turns), rotate(k, turns)
        if cache is not None:
            k, v = cache.append(i, k, v)  # (B, K, S, D)
        y = self.attend(q, k, v)  # (B, H, T, D)
        return self.output(y.transpose(1, 2).reshape(B, T, self.n_heads * self.head_dim))


class FeedForward(nn.Module):
    """SwiGLU: one way in decides how much of the other passes."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, E) to (B, T, E)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


def rotary_turns(head_dim: int, max_context: int, base: float) -> torch.Tensor:
    """Cosine and sine of the angle that a pair of numbers is turned by at a position.

    Pair d turns by ``position / base^(2 d / D)``, so that the product of a turned query and a
    turned key depends on how far apart they stand.

    Returns:
        (max_context, D/2, 2) in fp32: the angles are computed in fp64, for positions are large.
    """
    pairs = torch.arange(0, head_dim, 2, dtype=torch.float64)
    angles = torch.outer(
        torch.arange(max_context, dtype=torch.float64), base ** (-pairs / head_dim)
    )
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def rotate(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn neighbouring pairs of (B, heads, T, D) by the angles (T, D/2, 2) of their positions.

    Neighbours are paired, as in the paper and in GGUF files; other code pairs the two halves of a
    head, with the rows of its weights in another order. The result is the same.
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))  # (B, heads, T, D/2)
    turned = pairs * torch.view_as_complex(turns)
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
