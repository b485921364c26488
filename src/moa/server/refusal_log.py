"""The log of refused callers: who was not let in, without the key that was sent.

A scanner sends thousands of requests a minute. So :data:`MOST` lines are written in a minute, then one with the number of
those that were left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from starlette.requests import Request

from moa.server.failures import Refusal

STATUSES = frozenset({401, 403, 429})

MOST = 10
"""Refusals that are logged in a minute, each on a line of its own."""

MINUTE = 60.0

log = logging.getLogger("moa.server")


class RefusalLog:
    """Logs refusals with these :data:`STATUSES`: status, code, address, and the name of a known key."""

    def __init__(self) -> None:
        self._written = 0
        self._left_out = Counter[int]()

    def add(self, request: Request, refusal: Refusal) -> None:
        """A request was refused."""
        if refusal.status not in STATUSES:
            return
        if not self._written:
            asyncio.get_running_loop().call_later(MINUTE, self._next_minute)
        if self._written >= MOST:
            self._left_out[refusal.status] += 1
            return
        self._written += 1
        address = request.client.host if request.client else "an unknown address"
        key = getattr(request.state, "key", None)
        log.warning(
            "refused %s with %d (%s)%s", address, refusal.status, refusal.code, f", key {key.name}" if key else ""
        )

    def _next_minute(self) -> None:
        if self._left_out:
            counts = ", ".join(f"{count} with {status}" for status, count in sorted(self._left_out.items()))
            log.warning("refused %s more in the last minute", counts)
        self._written, self._left_out = 0, Counter()
