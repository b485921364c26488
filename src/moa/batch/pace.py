"""How many calls an endpoint takes at a time, learned from what it does: grow until it pushes back, then halve.

An endpoint pushes back with 429 or 503, with a timeout, or by answering later and later: the time to the first token,
averaged over a round of calls, has doubled. After a cut the number of calls grows fast up to near the number at which the
endpoint pushed back, and from there by one a round, as TCP does. https://www.rfc-editor.org/rfc/rfc5681#section-3.1

Times are compared only between calls of the same model with prompts of about the same length, since an aggregator's call
takes longer than a proposer's without any load.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar

from moa.errors import ModelError, RateLimited, TimedOut
from moa.messages import Delta, Request
from moa.models import Model
from moa.models.catalog import Access
from moa.models.wrapper import Wrapper

START = 16
"""Calls at a time before anything is known."""

MOST = 4096
"""Calls at a time that no endpoint passes."""

SLOWER = 2.0
"""The ratio of a round's time to the first token to the best one's from which an endpoint counts as overloaded."""

NEAR = 0.95
"""Up to this share of the number at which the endpoint pushed back, growth is fast."""

PATIENCE = 600.0
"""Seconds for which a call that is refused for a rate limit is repeated before it fails."""

ROW: ContextVar[int] = ContextVar("ROW", default=0)
"""The number of the row for which the current task makes calls."""

OVERLOADED = frozenset({503, 529})

_SMALLEST_ROUND = 32
_LONGEST_WAIT = 30.0
_HELD_UP = 0.1
"""Seconds from which a call counts as held up by a limit per minute, so that more calls at a time would be no use."""


def connections() -> int:
    """How many connections this process may open: its limit on open files, raised as far as that is allowed, less some."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + 256 if hard == resource.RLIM_INFINITY else min(hard, MOST + 256)
    if soft < wanted and soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST if soft == resource.RLIM_INFINITY else max(START, min(MOST, soft - 256))


class Pace:
    """The calls of one endpoint at a time.

    Args:
        most: calls at a time that are never passed.
        on_change: called whenever a call has left the queue.

    Attributes:
        limit: calls at a time, now.
        in_use: calls that have a place.
    """

    def __init__(self, most: int | None = None, on_change: Callable[[], None] = lambda: None) -> None:
        self.most = min(most or MOST, MOST)
        self.limit = float(min(START, self.most))
        self.in_use = 0
        self._ceiling = float("inf")  # the number of calls at which the endpoint pushed back
        self._cut = float("-inf")  # when the number was cut, on the loop's clock
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap: by row, then in the order they came
        self._came = 0
        self._elsewhere = 0
        self._on_change = on_change
        self._rounds: dict[
            object, tuple[int, int, float]
        ] = {}  # by key: calls of the round, calls so far, their seconds
        self._best: dict[object, float] = {}

    @property
    def waiting(self) -> int:
        """Calls that wait: for a place, or with one for a limit per minute."""
        return len(self._queue) + self._elsewhere

    @property
    def is_full(self) -> bool:
        """Whether so many calls wait that no more rows are needed to keep the endpoint busy."""
        return self.waiting >= max(4.0, self.limit / 4)

    async def take(self) -> None:
        """Wait for a place: calls of earlier rows (:data:`ROW`) come first, so that rows end before others begin."""
        if self.in_use < int(self.limit) and not self._queue:
            self.in_use += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._came += 1
        heapq.heappush(self._queue, (ROW.get(), self._came, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.free()
            raise

    def free(self) -> None:
        """Give a place back."""
        self.in_use -= 1
        self._hand_out()

    def held_up(self, calls: int) -> None:
        """So many more calls (or fewer) wait with a place for a limit per minute."""
        self._elsewhere += calls

    def answered(self, key: object, began: float, first: float) -> None:
        """A call that needed its place has been answered.

        Args:
            key: calls with the same key take about the same time.
            began, first: when the call was sent, and when its first token came, on the loop's clock.
        """
        rise = self._rise(key, first - began) if began >= self._cut else 1.0
        if rise > SLOWER:
            self.pushed_back(began, self.limit * SLOWER / rise)
        elif self._queue:
            self.limit = min(self.most, self.limit + (1.0 if self.limit < NEAR * self._ceiling else 1 / self.limit))
            if self.limit > 1.25 * self._ceiling:
                self._ceiling = float("inf")
            self._hand_out()

    def pushed_back(self, began: float, ceiling: float | None = None) -> None:
        """The endpoint refused a call that was sent at this time; of calls that were in flight together, only one counts.

        Args:
            ceiling: the number of calls that it seems to take; None for as many as now.
        """
        if began < self._cut:
            return
        self._ceiling = ceiling or self.limit
        self.limit = max(1.0, min(self.limit / 2, self._ceiling))
        self._cut = asyncio.get_running_loop().time()
        self._rounds.clear()

    def _rise(self, key: object, seconds: float) -> float:
        """Count a time to the first token; once a round of calls is complete, its mean as a multiple of the best round's."""
        size, count, total = self._rounds.get(key) or (max(_SMALLEST_ROUND, int(self.limit)), 0, 0.0)
        count, total = count + 1, total + seconds
        if count < size:
            self._rounds[key] = size, count, total
            return 1.0
        self._rounds.pop(key, None)
        mean, best = total / count, self._best.get(key)
        # The best is forgotten slowly: prompts and endpoints change.
        self._best[key] = mean if best is None else min(mean, best * 1.02)
        return 1.0 if best is None else mean / max(best, 0.05)  # below that, the time is this process's own

    def _hand_out(self) -> None:
        while self._queue and self.in_use < int(self.limit):
            _, _, place = heapq.heappop(self._queue)
            if not place.done():
                self.in_use += 1
                place.set_result(None)
        self._on_change()


class Paces:
    """The paces of all endpoints that a job calls. Pass :meth:`around` to the catalog that opens its models."""

    def __init__(self) -> None:
        self.by_endpoint: dict[str, Pace] = {}
        self._connections = connections()
        self._changed = asyncio.Event()

    def around(self, provider: str, access: Access, model: Model) -> Model:
        """The model, with its calls at the pace of its endpoint."""
        if provider not in self.by_endpoint:
            most = min(access.max_concurrency or MOST, self._connections)
            self.by_endpoint[provider] = Pace(most, self._changed.set)
        return Paced(model, self.by_endpoint[provider])

    @property
    def calls(self) -> int:
        """Calls that all endpoints together take at a time, now."""
        return sum(int(pace.limit) for pace in self.by_endpoint.values())

    @property
    def full(self) -> bool:
        """Whether an endpoint has all the calls that it needs to be busy."""
        return any(pace.is_full for pace in self.by_endpoint.values())

    async def change(self) -> None:
        """Wait until a call has left a queue, or :meth:`notify`."""
        self._changed.clear()
        await self._changed.wait()

    def notify(self) -> None:
        """Wake the caller of :meth:`change`."""
        self._changed.set()


class Paced(Wrapper):
    """A model whose calls wait for a place at their endpoint, and again where it refuses them for a rate limit."""

    def __init__(self, model: Model, pace: Pace) -> None:
        super().__init__(model)
        self._pace = pace

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer.

        Raises:
            ModelError: the call failed; a RateLimited after :data:`PATIENCE` seconds of refusals, or where it is final.
        """
        now, pace = asyncio.get_running_loop().time, self._pace
        until, refusals, key = now() + PATIENCE, 0, (self.name, request.tokens.bit_length() // 2)
        while True:
            if pace.in_use >= int(pace.limit):
                yield Delta(in_flight=0)
                await pace.take()
                yield Delta(in_flight=1)
            else:
                await pace.take()
            began, waits, waited = now(), False, False
            try:
                async with aclosing(self.model.stream(request)) as deltas:
                    async for delta in deltas:
                        yield delta
                        if delta.speaks:
                            break
                        if delta.in_flight is not None and not delta.attempt and waits == bool(delta.in_flight):
                            # A limit per minute, or none: the endpoint's own limits report it before they know.
                            waited = waited or (waits and now() - began > _HELD_UP)
                            waits, began = not waits, now()
                            pace.held_up(1 if waits else -1)
                    first = now()
                    async for delta in deltas:
                        yield delta
                if not waited:
                    pace.answered(key, began, first)
                return
            except ModelError as error:
                if isinstance(error, RateLimited | TimedOut) or error.status in OVERLOADED:
                    pace.pushed_back(began)
                wait = error.retry_after or min(_LONGEST_WAIT, 0.5 * 2 ** min(refusals, 10))
                if not isinstance(error, RateLimited) or not error.retryable or now() + wait > until:
                    raise
            finally:
                if waits:
                    pace.held_up(-1)
                pace.free()
            refusals += 1
            yield Delta(in_flight=0)
            await asyncio.sleep(wait * random.uniform(1.0, 1.5))
            yield Delta(in_flight=1)
