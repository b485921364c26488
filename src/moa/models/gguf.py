"""Tells from a GGUF file's header, without loading it, whether it is a complete model that chats, and calls tools.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_BLOCKS = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    20: (32, 18),
    23: (256, 136),
    30: (1, 2),
}
"""Elements and bytes of a block, for the common types of tensors. https://github.com/ggml-org/ggml/blob/master/src/ggml.c"""
_NO_CHAT = ("bert", "t5encoder", "embedding", "clip", "wavtokenizer", "whisper")


_UNREADABLE = (OSError, ValueError, struct.error, KeyError, OverflowError)


def can_chat(path: Path) -> bool:
    """Whether the file is complete, its architecture is known, and it is no embedding model."""
    try:
        with _header(path) as header:
            return header.can_chat()
    except _UNREADABLE:
        return False


def calls_tools(path: Path) -> bool | None:
    """Whether the model's chat template shows it tools. Where it does not, llama.cpp ignores a request's. None: unknown."""
    try:
        with _header(path) as header:
            return "tools" in str(header.values().get("tokenizer.chat_template", ""))
    except _UNREADABLE:
        return None


@contextmanager
def _header(path: Path) -> Iterator[_Header]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield _Header(data)


class _Header:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at, self._tensors = data, 0, 0

    def values(self) -> dict[str, object]:
        """The metadata; of an array only its length. Raises ValueError where it is no GGUF file of a known version."""
        magic, version = self._data[:4], int.from_bytes(self._data[4:8], "little")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("not a GGUF file of a known version")
        self._at = 8
        self._tensors, pairs = self._number("Q"), self._number("Q")
        values = dict[str, object]()
        for _ in range(pairs):
            name = self._text()
            values[name] = self._value(self._number("I"))
        return values

    def can_chat(self) -> bool:
        values = self.values()
        architecture = str(values.get("general.architecture", ""))
        if not architecture or any(part in architecture for part in _NO_CHAT):
            return False
        if values.get(f"{architecture}.pooling_type"):  # a model that gives one vector for a text
            return False
        return self._is_complete(self._tensors, int(str(values.get("general.alignment", 32))))

    def _is_complete(self, tensors: int, alignment: int) -> bool:
        end = 0
        for _ in range(tensors):
            self._text()
            elements = prod(self._number("Q") for _ in range(self._number("I")))
            block, size = _BLOCKS.get(self._number("I"), (1, 0))
            end = max(end, self._number("Q") + elements // block * size)
        start = -(-self._at // alignment) * alignment
        return tensors > 0 and start + end <= len(self._data)

    def _number(self, code: str) -> int:
        return int(self._scalar(code))

    def _scalar(self, code: str) -> float:
        [value] = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += struct.calcsize(f"<{code}")
        return float(value) if code in "fd" else int(value)

    def _text(self) -> str:
        length = self._number("Q")
        text = self._data[self._at : self._at + length]
        self._at += length
        return text.decode("utf-8", "replace")

    def _value(self, kind: int) -> object:
        """A value; of an array only its length."""
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            return self._scalar(_SCALARS[kind])
        inner, count = self._number("I"), self._number("Q")
        if inner in _SCALARS:
            self._at += count * struct.calcsize(f"<{_SCALARS[inner]}")
            return count
        if inner == _STRING:  # a vocabulary has some 100,000 of them
            at, data, length = self._at, self._data, struct.Struct("<Q")
            for _ in range(count):
                at += 8 + length.unpack_from(data, at)[0]
            self._at = at
            return count
        for _ in range(count):
            self._value(inner)
        return count
