"""The KV cache in one piece: room for the longest text, reserved at the start.

Keys and values of a token depend on the tokens before it alone, so they are computed once and
kept. This one is as simple as can be, and wastes what a short text leaves unused.

    bytes = 2 L B K S D x bytes of a number
"""

from __future__ import annotations

import torch


class ContiguousCache:
    """Keys and values of B sequences of the same length.

    ``data`` is (2, L, B, K, S, D): keys and values, layers, sequences, KV heads, tokens, head dim.
    Positions [0, length) are valid; [length, S) are reserved and hold rubbish.

    Args:
        n_layers, n_kv_heads, head_dim: of the model.
        max_tokens: S, of each sequence.
        batch: B.
        dtype, device: of the numbers.

    Raises:
        ValueError: when ``max_tokens`` is below 1.
    """

    def __init__(
        self,
        n_layers: int,
        n_kv_heads: int,
        head_dim: int,
        max_tokens: int,
        *,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if max_tokens < 1:
            raise ValueError(f"A cache needs room for 1 token or more; got {max_tokens}.")
        shape = (2, n_layers, batch, n_kv_heads, max_tokens, head_dim)
        self.data = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def max_tokens(self) -> int:
        """Tokens that each sequence has room for."""
        return self.data.shape[4]

    @property
    def reserved_bytes(self) -> int:
        """Memory taken, used or not."""
        return self.data.numel() * self.data.element_size()

    def positions(self, tokens: int) -> slice:
        """Places in their texts of the next tokens, the same in every sequence."""
        return slice(self.length, self.length + tokens)

    def append(
        self, layer: int, k: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write k and v, (B, K, T, D), behind the valid part; return keys and values up to them.

        What is returned are views, (B, K, length + T, D), valid until the next write.

        Raises:
            ValueError: when there is no room, or k and v have another shape.
        """
        end = self.length + k.shape[2]
        if end > self.max_tokens:
            raise ValueError(
                f"The cache has room for {self.max_tokens} tokens and {self.length} are in it; "
                f"{k.shape[2]} more do not fit. Ask for a larger one."
            )
        kept, one = self.data[:, layer], (*k.shape[:2], k.shape[3])
        if one != (kept.shape[1], kept.shape[2], kept.shape[4]):
            raise ValueError(
                f"The cache keeps (batch, KV heads, head dim) of "
                f"{(kept.shape[1], kept.shape[2], kept.shape[4])}; got {one}."
            )
        kept[0, :, :, self.length : end] = k
        kept[1, :, :, self.length : end] = v
        return kept[0, :, :, :end], kept[1, :, :, :end]

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` more as valid; call it once, after the last layer has appended."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forget every token from ``length`` on; nothing moves.

        Raises:
            ValueError: when there are fewer.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"The cache has {self.length} tokens; it cannot keep {length}.")
        self.length = length
