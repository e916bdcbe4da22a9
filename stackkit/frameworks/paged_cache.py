"""The KV cache in blocks: the tensors, and a step's view of them.

    data   (2, L, K, N, S, D)   keys and values of L layers and K KV heads, in N blocks of S tokens

Token p of a text lies in block ``table[p // S]`` at place ``p % S``. Which block is whose is the
pool's business (``blocks``); nothing here is reserved, counted or freed.
Source: Kwon et al. (vLLM), arXiv 2309.06180, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch


class BlockStore:
    """Memory for the keys and values of N blocks.

    Args:
        n_layers, n_kv_heads, head_dim: of the model.
        n_blocks, block_size: N and S, as the pool has them.
        dtype, device: of the numbers.
    """

    def __init__(
        self,
        n_layers: int,
        n_kv_heads: int,
        head_dim: int,
        n_blocks: int,
        block_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (2, n_layers, n_kv_heads, n_blocks, block_size, head_dim)
        self.data = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def block_size(self) -> int:
        """S."""
        return self.data.shape[4]

    @property
    def bytes_per_block(self) -> int:
        """Of keys and values of all layers."""
        return self.data[:, :, :, 0].numel() * self.data.element_size()

    def copy(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copy blocks, (from, to), one after the other."""
        for old, new in pairs:
            self.data[:, :, :, new] = self.data[:, :, :, old]


class Singles(NamedTuple):
    """The texts of a batch that have one new token, as one padded block."""

    rows: torch.Tensor | slice  # where their R tokens stand in the batch
    table: torch.Tensor  # (R M,) their blocks, shorter tables filled up with their own first one
    may: torch.Tensor  # (1, R, 1, M S) True up to a text's last token
    beyond: torch.Tensor  # places among the R M S that hold anything, past a text's last token


@dataclass(frozen=True)
class Batch:
    """Where the new tokens of some texts go, and where the tokens before them lie."""

    tables: list[list[int]]
    starts: list[int]  # tokens of each text that lie there already
    counts: list[int]  # new ones; they follow each other in one row
    block_size: int
    device: torch.device

    @cached_property
    def n_tokens(self) -> int:
        """New tokens of all texts."""
        return sum(self.counts)

    @cached_property
    def positions(self) -> torch.Tensor:
        """(T,) the place of each new token in its text."""
        spans = zip(self.starts, self.counts, strict=True)
        places = [p for start, n in spans for p in range(start, start + n)]
        return torch.tensor(places, device=self.device)

    @cached_property
    def slots(self) -> torch.Tensor:
        """(T,) the place of each new token in the store, block S + offset."""
        S, found = self.block_size, []
        for table, start, n in zip(self.tables, self.starts, self.counts, strict=True):
            found += [table[p // S] * S + p % S for p in range(start, start + n)]
        return torch.tensor(found, device=self.device)

    @cached_property
    def indices(self) -> list[torch.Tensor]:
        """The blocks of each text that hold its tokens, new ones included."""
        ends = [start + n for start, n in zip(self.starts, self.counts, strict=True)]
        return [
            torch.tensor(table[: -(-end // self.block_size)], device=self.device)
            for table, end in zip(self.tables, ends, strict=True)
        ]

    @cached_property
    def singles(self) -> Singles | None:
        """The texts with one new token, or None where there is no such."""
        texts = [i for i, n in enumerate(self.counts) if n == 1]
        if not texts:
            return None
        lengths = [self.starts[i] + 1 for i in texts]
        M = -(-max(lengths) // self.block_size)
        padded = [(self.tables[i] + self.tables[i][:1] * M)[:M] for i in texts]
        firsts = [sum(self.counts[:i]) for i in texts]
        places = torch.arange(M * self.block_size, device=self.device)
        ends = torch.tensor(lengths, device=self.device)
        alone = len(texts) == len(self.counts)  # then a view will do, and no token is copied
        may = places < ends[:, None]  # (R, M S)
        return Singles(
            slice(None) if alone else torch.tensor(firsts, device=self.device),
            torch.tensor(padded, device=self.device).flatten(),
            may[None, :, None],
            (~may).flatten().nonzero().flatten(),
        )

    def chunks(self, every: bool) -> Iterator[tuple[int, slice]]:
        """The texts with more than one new token, or all, and the rows of their new tokens."""
        first = 0
        for text, n in enumerate(self.counts):
            if n > 1 or every:
                yield text, slice(first, first + n)
            first += n


@dataclass(frozen=True)
class Paged:
    """Keys, or values, of a batch in one layer."""

    blocks: torch.Tensor  # (K, N, S, D)
    batch: Batch

    def of(self, text: int) -> torch.Tensor:
        """(1, K, start + n, D): one text's, gathered from its blocks."""
        length = self.batch.starts[text] + self.batch.counts[text]
        return self._gathered(self.batch.indices[text])[None, :, :length]

    def of_singles(self, singles: Singles) -> torch.Tensor:
        """(K, R, M S, D): of those with one new token; 0 past a text's last.

        What lies there has weight 0 in attention, but 0 times NaN would still be NaN.
        """
        found = self._gathered(singles.table).index_fill_(1, singles.beyond, 0)
        return found.view(len(found), singles.may.shape[1], -1, found.shape[2])

    def _gathered(self, table: torch.Tensor) -> torch.Tensor:
        """(K, blocks x S, D): a copy of the blocks of a table, one behind the other."""
        return self.blocks.index_select(1, table).flatten(1, 2)


class PagedCache:
    """A step's view of the store, as a model sees it: append, and attend to what comes back.

    Args:
        store: the tensors.
        tables: blocks of each text, enough for its new tokens too.
        starts: tokens of each text that are there already.
        counts: new tokens of each; the model gets them one text behind the other, (1, T).

    Raises:
        ValueError: when a table is too short, or there is nothing new.
    """

    def __init__(
        self,
        store: BlockStore,
        tables: Sequence[Sequence[int]],
        starts: Sequence[int],
        counts: Sequence[int],
    ) -> None:
        for table, start, n in zip(tables, starts, counts, strict=True):
            if n < 1 or start + n > len(table) * store.block_size:
                raise ValueError(
                    f"A text of {start} tokens and {n} new ones does not fit its "
                    f"{len(table)} blocks of {store.block_size}. Give it blocks first."
                )
        self.store = store
        self.batch = Batch(
            [list(table) for table in tables],
            list(starts),
            list(counts),
            store.block_size,
            store.data.device,
        )

    def positions(self, tokens: int) -> torch.Tensor:
        """(T,) places in their texts; ``tokens`` must be those of the batch.

        Raises:
            ValueError: when they are not.
        """
        if tokens != self.batch.n_tokens:
            raise ValueError(f"The batch has {self.batch.n_tokens} new tokens; got {tokens}.")
        return self.batch.positions

    def append(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple[Paged, Paged]:
        """Write k and v, (1, K, T, D), where the tables say; return all of both."""
        found = []
        for data, new in zip(self.store.data[:, layer], (k, v), strict=True):
            data.flatten(1, 2).index_copy_(1, self.batch.slots, new[0])
            found.append(Paged(data, self.batch))
        return found[0], found[1]

    def advance(self, tokens: int) -> None:
        """Nothing: whoever made the tables counts."""
