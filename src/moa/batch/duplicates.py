"""IDs that occur twice among any number of rows, found with little memory.

The digests of the IDs are distributed over 256 parts by their first byte, and each part is sorted alone. A part is in memory
up to 64 kB, and on disk beyond: ten million rows are 240 MB on disk, and 1 MB in memory at a time.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from moa.closing import Closing

_PARTS, _DIGEST, _ENTRY = 256, 16, 24
_SPILL = 2**16


class Duplicates(Closing):
    """Collects the IDs of rows.

    Args:
        folder: where the digests go that do not fit into memory.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open until this is closed
        self._parts = [bytearray() for _ in range(_PARTS)]
        self._spilled: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]
        self._end = 0

    def add(self, key: bytes, number: int) -> None:
        """Add the ID of a row."""
        digest = hashlib.blake2b(key, digest_size=_DIGEST).digest()
        part = self._parts[digest[0]]
        part += digest + number.to_bytes(_ENTRY - _DIGEST, "big")
        if len(part) >= _SPILL:
            self._file.seek(self._end)
            self._file.write(part)
            self._spilled[digest[0]].append((self._end, len(part)))
            self._end += len(part)
            part.clear()

    def pairs(self) -> Iterator[tuple[int, int]]:
        """The numbers of two rows with the same ID, for each row whose ID an earlier row has."""
        for place, part in enumerate(self._parts):
            data = bytearray()
            for begins, length in self._spilled[place]:
                self._file.seek(begins)
                data += self._file.read(length)
            data += part
            entries = sorted(bytes(data[at : at + _ENTRY]) for at in range(0, len(data), _ENTRY))
            for earlier, later in pairwise(entries):
                if earlier[:_DIGEST] == later[:_DIGEST]:
                    yield int.from_bytes(earlier[_DIGEST:], "big"), int.from_bytes(later[_DIGEST:], "big")

    def close(self) -> None:
        self._file.close()
