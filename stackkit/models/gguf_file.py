"""Read a GGUF file, as llama.cpp has them: a model's shape, its tokenizer and its weights.

    magic "GGUF", version, counts | keys and values | names, shapes, offsets | the tensors

The weights are unpacked by the package ``gguf``. The head is read here, because that package's
reader makes an array of each of the 98,000 strings of a tokenizer, which takes six seconds.
Source: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"GGUF"
_NUMBERS = "BbHhIif?"  # struct codes of the types 0 to 7
_STRING, _ARRAY = 8, 9
_WIDE = {10: "Q", 11: "q", 12: "d"}
_DIMS, _NESTED = 4, 4  # the most that ggml has; the deepest that an array is followed


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in the file."""

    shape: tuple[int, ...]  # (out, in), as torch has it; the file says (in, out)
    type: int  # a number that gguf.GGMLQuantizationType knows
    offset: int  # from the start of the file
    room: int  # bytes until the next tensor, or the end of the file; less than 0 beyond it


@dataclass(frozen=True)
class GGUFFile:
    """The head of a file; ``tensor`` reads and unpacks one."""

    path: Path
    values: dict[str, Any]
    tensors: dict[str, Stored]

    def shape(self, name: str) -> tuple[int, ...]:
        """(out, in) of one tensor.

        Raises:
            ValueError: when it is not there.
        """
        if name not in self.tensors:
            raise ValueError(
                f"{self.path.name} has no tensor {name!r}: it is another kind of model."
            )
        return self.tensors[name].shape

    def texts(self, key: str) -> list[str]:
        """A value that is a list of texts.

        Raises:
            ValueError: when it is not there, or is something else.
        """
        found = self.values.get(key)
        if found is None:
            raise ValueError(f"{self.path.name} does not say its {key}.")
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise ValueError(f"{self.path.name} has a {key} that is no list of texts.")
        return found

    def tensor(self, name: str) -> np.ndarray:
        """One tensor in fp32, unpacked from whatever the file keeps.

        Raises:
            ValueError: when it is not there, does not fit in its place, or is packed in a way
                that ``gguf`` cannot unpack.
        """
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize

        self.shape(name)
        stored = self.tensors[name]
        if stored.type not in iter(GGMLQuantizationType):
            raise ValueError(f"{self.path.name} packs {name!r} as the unknown type {stored.type}.")
        kind = GGMLQuantizationType(stored.type)
        per_block, block_bytes = GGML_QUANT_SIZES[kind]
        if prod(stored.shape[-1:]) % per_block:
            raise ValueError(
                f"{self.path.name} packs {name!r} as {kind.name} in rows of {stored.shape[-1]} "
                f"numbers; they come in blocks of {per_block}."
            )
        n_bytes = prod(stored.shape) // per_block * block_bytes
        if stored.offset + n_bytes > self.path.stat().st_size:
            raise ValueError(truncated(self.path))
        if n_bytes > stored.room:
            raise ValueError(
                f"{self.path.name} is broken: {name!r} needs {n_bytes} bytes, but the next tensor "
                f"starts after {stored.room}. Fetch it again."
            )
        with self.path.open("rb") as file:
            file.seek(stored.offset)
            data = np.frombuffer(file.read(n_bytes), dtype=np.uint8)
        try:
            return dequantize(data, kind).reshape(stored.shape)
        except NotImplementedError as error:
            raise ValueError(
                f"{self.path.name} packs {name!r} as {kind.name}, which gguf cannot unpack yet."
            ) from error


def read_gguf(path: str | Path) -> GGUFFile:
    """Read the head of a GGUF file; no tensor is read yet.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no GGUF file, of another version, cut short or broken.
    """
    path = Path(path)
    data = path.read_bytes() if path.stat().st_size < 1 << 16 else _head(path)
    if data[:4] != MAGIC:
        raise ValueError(
            f"{path.name} is no GGUF file: it starts with {bytes(data[:4])!r}, not {MAGIC!r}."
        )
    cursor = _Cursor(data, 4, path)
    version = cursor.number("I")
    if version not in (2, 3):
        raise ValueError(f"{path.name} is GGUF version {version}; 2 and 3 can be read.")
    n_tensors, n_values = cursor.number("Q"), cursor.number("Q")
    values = {}
    for _ in range(n_values):
        key = cursor.string()
        values[key] = cursor.value(cursor.number("I"))
    found = []
    for _ in range(n_tensors):
        name, n_dims = cursor.string(), cursor.number("I")
        if n_dims > _DIMS:
            raise ValueError(f"{path.name} has {name!r} in {n_dims} dimensions, above {_DIMS}.")
        shape = tuple(cursor.number("Q") for _ in range(n_dims))
        found.append((name, shape[::-1], cursor.number("I"), cursor.number("Q")))
    return GGUFFile(path, values, _placed(path, values, found, cursor.at, len(data)))


def _placed(
    path: Path, values: dict[str, Any], found: list[tuple], at: int, size: int
) -> dict[str, Stored]:
    """Tensors by name, each with the room it has; the first may lie at ``at``."""
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1:
        raise ValueError(
            f"{path.name} says {alignment!r} as its general.alignment; "
            "a whole number from 1 is needed."
        )
    start, tensors, ends = -(-at // alignment) * alignment, {}, size
    for name, shape, kind, offset in sorted(found, key=lambda each: each[3], reverse=True):
        if offset % alignment:
            raise ValueError(
                f"{path.name} is broken: {name!r} lies at byte {offset}, which is no multiple of "
                f"{alignment}. Fetch it again."
            )
        if name in tensors:
            raise ValueError(f"{path.name} has two tensors {name!r}. Fetch it again.")
        tensors[name] = Stored(shape, kind, start + offset, ends - start - offset)
        ends = min(ends, start + offset)
    return tensors


def truncated(path: Path) -> str:
    """What is said of a file that ends too soon."""
    return f"{path.name} is cut short: it ends before its weights do. Fetch it again."


def _head(path: Path) -> memoryview:
    """The file, mapped: only the pages that are looked at are read."""
    import mmap

    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class _Cursor:
    """Reads one thing after the other."""

    def __init__(self, data: bytes | memoryview, at: int, path: Path) -> None:
        self.data, self.at, self.path = data, at, path

    def number(self, code: str) -> Any:
        size = struct.calcsize("<" + code)
        if self.at + size > len(self.data):
            raise ValueError(truncated(self.path))
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += size
        return value

    def string(self) -> str:
        size = self.number("Q")
        if self.at + size > len(self.data):
            raise ValueError(truncated(self.path))
        self.at += size
        return str(self.data[self.at - size : self.at], "utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind < len(_NUMBERS):
            return self.number(_NUMBERS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            if depth == _NESTED:
                raise ValueError(f"{self.path.name} nests arrays more than {_NESTED} deep.")
            inner, size = self.number("I"), self.number("Q")
            return [self.value(inner, depth + 1) for _ in range(size)]
        if kind in _WIDE:
            return self.number(_WIDE[kind])
        raise ValueError(f"{self.path.name} has a value of the unknown type {kind}.")
