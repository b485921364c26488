"""Finished proposals of requests that got no answer: the client's retry starts from them, and pays for no proposal twice.

SDKs retry by themselves, often two times within a second, and send the same body again.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from moa.messages import Reference


class Asked(NamedTuple):
    """A request as a retry repeats it."""

    digest: bytes

    @classmethod
    def of(cls, caller: str, path: str, body: bytes) -> Self:
        """The request of this caller (a key's ID; without keys, an address), at this path, with this body."""
        digest = hashlib.sha256(f"{len(caller)} {caller} {path}\n".encode("utf-8", "surrogatepass"))
        digest.update(body)
        return cls(digest.digest())


class _Kept(NamedTuple):
    until: float
    proposals: tuple[Reference, ...]
    bytes: int


class Unanswered:
    """The proposals of the latest requests without an answer, in this process.

    Args:
        seconds: how long after its failure a request's proposals are kept.
        most: how many requests.
        megabytes: of texts, all requests together.
        now: a clock, in seconds.
    """

    def __init__(
        self, seconds: float = 60, most: int = 256, megabytes: float = 32, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._most, self._limit, self._now = seconds, most, megabytes * 1e6, now
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._used = 0

    def __len__(self) -> int:
        return len(self._kept)

    def proposals(self, asked: Asked) -> tuple[Reference, ...]:
        """The proposals of the same request, where it has failed lately; none otherwise."""
        self._expire()
        kept = self._kept.get(asked.digest) if self._kept else None
        return kept.proposals if kept else ()

    def keep(self, asked: Asked, proposals: Sequence[Reference]) -> None:
        """The request got no answer. Its proposals replace those that were kept for it."""
        digest = asked.digest
        self._remove(digest)
        size = sum(sys.getsizeof(proposal.text) for proposal in proposals)
        if proposals and size <= self._limit:
            self._kept[digest] = _Kept(self._now() + self._seconds, tuple(proposals), size)
            self._used += size
        self._expire()

    def forget(self, asked: Asked) -> None:
        """The request got its answer: the same one makes new proposals."""
        if self._kept:
            self._remove(asked.digest)

    def _remove(self, digest: bytes) -> None:
        if kept := self._kept.pop(digest, None):
            self._used -= kept.bytes

    def _expire(self) -> None:
        while self._kept:
            oldest, kept = next(iter(self._kept.items()))
            if kept.until > self._now() and len(self._kept) <= self._most and self._used <= self._limit:
                return
            self._remove(oldest)
