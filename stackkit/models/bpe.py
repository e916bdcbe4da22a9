"""Byte-pair encoding from nothing: start from bytes, merge the commonest pair, repeat.

    "h100" -> h 1 0 0 -> h 10 0 -> h 100      as many merges as the vocabulary has room for

Text is first cut into words, with the space before them, and no merge crosses a cut; digits stay
single. What was learnt is the list of merges in their order, and encoding a word applies the
earliest that fits until none does. It knows nothing of the control tokens but their names.
Source: Sennrich et al., arXiv 1508.07909, section 3.2; on bytes: Radford et al. (GPT-2), 2019.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

CUT = re.compile(r" ?[^\W\d_]+|\d|\s| ?[^\s\w]+|[ ]?_+")
END = "<|end|>"  # between texts; generation stops there


def train(text: str, vocab_size: int) -> list[tuple[int, int]]:
    """Learn merges: pairs of token ids, of which the n-th makes id 256 + n.

    Of pairs equally common the smaller ids win, so the result depends on the text alone.

    Args:
        text: what to learn from.
        vocab_size: bytes, merges and the end token together: 258 or more.

    Raises:
        ValueError: when there is no room for a merge, or the text has no pair left to merge.
    """
    if vocab_size < 258:
        raise ValueError(f"256 bytes, the end token and a merge make 258; got {vocab_size}.")
    counts = Counter(CUT.findall(text))
    words = {word: list(word.encode()) for word in counts}
    pairs: Counter[tuple[int, int]] = Counter()  # how often each stands in the text
    places: dict[tuple[int, int], set[str]] = defaultdict(set)  # words it may stand in

    def count(word: str, sign: int) -> None:
        for pair in pairwise(words[word]):
            pairs[pair] += sign * counts[word]
            places[pair].add(word)

    for word in words:
        count(word, 1)
    merges: list[tuple[int, int]] = []
    while len(merges) < vocab_size - 257:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or not pairs[best]:
            raise ValueError(f"The text has no pair left after {len(merges)} merges.")
        merges.append(best)
        for word in places.pop(best):
            count(word, -1)
            words[word] = merge(words[word], best, 255 + len(merges))
            count(word, 1)
    return merges


def merge(ids: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    """Replace each ``pair`` of neighbours by ``new``, from the left."""
    merged: list[int] = []
    i = 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


class ByteBPE:
    """A tokenizer from its merges: any text encodes, and decodes to itself.

    The end token has the last id.
    """

    def __init__(self, merges: Sequence[tuple[int, int]]) -> None:
        self.merges = [tuple(pair) for pair in merges]
        self._rank = {pair: i for i, pair in enumerate(self.merges)}
        self._bytes = [bytes([i]) for i in range(256)]
        for left, right in self.merges:
            self._bytes.append(self._bytes[left] + self._bytes[right])
        self._words: dict[str, list[int]] = {}

    @property
    def end_id(self) -> int:
        """The token that ends a text."""
        return len(self._bytes)

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids after which generation stops."""
        return frozenset({self.end_id})

    @property
    def vocab_size(self) -> int:
        """Bytes, merges and the end token."""
        return len(self._bytes) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text; ``<|end|>`` in it is the end token."""
        ids: list[int] = []
        for i, part in enumerate(text.split(END)):
            if i:
                ids.append(self.end_id)
            for word in CUT.findall(part):
                if word not in self._words:
                    self._words[word] = self._encode_word(word)
                ids += self._words[word]
        return ids

    def _encode_word(self, word: str) -> list[int]:
        ids = list(word.encode())
        while len(ids) > 1:
            earliest = min(pairwise(ids), key=lambda pair: self._rank.get(pair, len(self._rank)))
            if earliest not in self._rank:
                break
            ids = merge(ids, earliest, 256 + self._rank[earliest])
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are no whole character become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, id: int) -> bytes:
        """What one token stands for."""
        return END.encode() if id == self.end_id else self._bytes[id]

    def apply_chat_template(self, messages: Sequence[dict[str, str]]) -> str:
        """A conversation as the toy knows it: what was asked, and a space for the answer."""
        return " ".join(message["content"].strip() for message in messages)
