"""Which block is whose: the book-keeping of a paged cache, without a tensor.

The memory for keys and values is cut into N blocks of S tokens. A text's blocks may lie anywhere;
its *table* lists them in order. This pool knows of each block

    readers   how many tables list it; at 0 it is free
    queue     the free blocks; the one let go longest ago is taken first (LRU)
    digest    the name of a full block: a hash of its tokens and of the digest before it, so that
              two blocks of the same name hold the same text *after the same beginning*

A free block keeps its name, and what is in it, until it is taken for another text. So who starts
with the same text finds the blocks of a request that is long gone: a prefix cache at no price.
It knows no request, no order among them and no bytes.
Sources: Kwon et al. (vLLM), arXiv 2309.06180, section 4; the chain of hashes as vLLM's design
document "Automatic prefix caching" describes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

ROOT = b""  # the digest before the first block


class BlockPool:
    """N blocks of S tokens, numbered 0 to N - 1, in the order 0, 1, 2 ... at the start.

    Args:
        n_blocks: N.
        block_size: S, tokens of a block.

    Raises:
        ValueError: when one of them is below 1.
    """

    def __init__(self, n_blocks: int, block_size: int) -> None:
        if n_blocks < 1 or block_size < 1:
            raise ValueError(
                "A pool needs 1 block or more, of 1 token or more; "
                f"got {n_blocks} blocks of {block_size}."
            )
        self.n_blocks, self.block_size = n_blocks, block_size
        self.readers = [0] * n_blocks
        self._queue = dict.fromkeys(range(n_blocks))  # a dict keeps its order, and removes in O(1)
        self._digest_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}

    @property
    def n_free(self) -> int:
        """Blocks that can be taken."""
        return len(self._queue)

    @property
    def queue(self) -> list[int]:
        """The free blocks, in the order in which they will be taken."""
        return list(self._queue)

    @property
    def named(self) -> dict[int, bytes]:
        """Digests of the blocks that can be found by them."""
        return dict(self._digest_of)

    def blocks_for(self, n_tokens: int) -> int:
        """Blocks that so many tokens need: the last one may be part empty."""
        return -(-n_tokens // self.block_size)

    def take(self) -> int:
        """The free block that was let go longest ago, to write in; its old name is forgotten.

        Raises:
            IndexError: when none is free.
        """
        if not self._queue:
            raise IndexError(f"All {self.n_blocks} blocks are in use. Release some first.")
        block = next(iter(self._queue))
        del self._queue[block]
        self.forget(block)
        self.readers[block] = 1
        return block

    def share(self, block: int) -> None:
        """One reader more; a free block leaves the queue."""
        self._queue.pop(block, None)
        self.readers[block] += 1

    def release(self, table: Iterable[int]) -> None:
        """One reader less for each block of a table.

        The last block of the table joins the queue first, so that it is taken first: the beginning
        of a text is the part that others are likely to share.

        Raises:
            ValueError: when a block has no reader; those after it in the table were released.
        """
        for block in reversed(list(table)):
            if self.readers[block] < 1:
                raise ValueError(f"Block {block} has no reader; it cannot be released.")
            self.readers[block] -= 1
            if self.readers[block] == 0:
                self._queue[block] = None

    def name(self, block: int, digest: bytes) -> None:
        """Say what a full block holds. Where another block has the name, that one is found."""
        if self._digest_of.get(block) != digest:
            self.forget(block)
        if digest not in self._block_of:
            self._block_of[digest], self._digest_of[block] = block, digest

    def forget(self, block: int) -> None:
        """Take a block's name away, because something else will be written into it."""
        digest = self._digest_of.pop(block, None)
        if digest is not None:
            del self._block_of[digest]

    def find(self, digests: Sequence[bytes]) -> list[int]:
        """Blocks of the longest beginning of a text that is there, free or in use."""
        found = []
        for digest in digests:
            if digest not in self._block_of:
                break
            found.append(self._block_of[digest])
        return found

    def check(self, tables: Iterable[Sequence[int]] | None = None) -> None:
        """Hold the books against themselves, and against the tables of all texts where given.

        Raises:
            AssertionError: that names what does not add up.
        """
        used = sum(1 for n in self.readers if n > 0)
        if self.n_free + used != self.n_blocks:
            raise AssertionError(f"{self.n_free} free and {used} used are not {self.n_blocks}.")
        for block, n in enumerate(self.readers):
            if (n == 0) != (block in self._queue):
                raise AssertionError(f"Block {block} has {n} readers and is in the wrong place.")
        if {d: b for b, d in self._digest_of.items()} != self._block_of:
            raise AssertionError("Names and blocks do not match.")
        if tables is not None:
            counted = [0] * self.n_blocks
            for table in tables:
                for block in table:
                    counted[block] += 1
            if counted != self.readers:
                raise AssertionError(f"Tables count {counted} readers, the pool {self.readers}.")


def chain(tokens: Sequence[int], block_size: int, before: Sequence[bytes] = ()) -> list[bytes]:
    """Digests of the full blocks of a text.

    Args:
        tokens: ids.
        block_size: S.
        before: digests of its first blocks, where they are known already.
    """
    digests = list(before)
    for start in range(len(digests) * block_size, len(tokens) - block_size + 1, block_size):
        block = tokens[start : start + block_size]
        text = b",".join(b"%d" % id for id in block)
        parent = digests[-1] if digests else ROOT
        digests.append(hashlib.blake2b(parent + b":" + text, digest_size=16).digest())
    return digests
