"""Limits of API keys on real servers: requests at once, several processes on one store, and stores of older versions."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.requests import Request as HTTPRequest

from moa.answers import Answer, Cost
from moa.messages import Request
from moa.mixture.aggregation import Synthesize
from moa.mixture.mixture import Mixture
from moa.models.scripted import Scripted
from moa.prices import Price, Prices
from moa.server.charges import Charges
from moa.server.failures import Refusal
from moa.server.forecast import ANSWER, Forecast
from moa.server.keys import Key, Keys
from moa.server.refusal_log import MOST, RefusalLog
from moa.store.bookings import Bookings
from moa.store.ledger import Ledger
from tests.fakes.serving import CONFIG, Served, asking, post
from tests.fakes.terminal import run
from tests.fakes.upstream import Upstream, say
from tests.fakes.waiting import holds
from tests.store.test_file import OLD_FILE, REQUEST

pytestmark = pytest.mark.anyio

Pair = tuple[Served, Served]


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
async def pair(upstream: Upstream, ring: Keys, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Two servers with one store."""
    config, folder = CONFIG.format(base_url=upstream.base_url), tmp_path_factory.mktemp("pair")
    ring.add("first")
    args = ("--keys", str(ring.path), "--store", str(folder / "runs.sqlite"))
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(Served(folder / name, *args, config=config)) for name in "ab"]
        yield one, two
        for server in (one, two):
            assert "Traceback" not in server.text


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def test_requests_at_once_keep_to_the_minute(http: aiohttp.ClientSession, pair: Pair, ring: Keys) -> None:
    """Exactly as many as the limit allows, over two servers; requests that are refused for another reason do not count."""
    headers = bearer(ring.add("quick", requests_per_minute=10, models=["up/a"]))
    for body in (asking("up/b"), asking("moa/nobody"), {"model": "up/a"}, {"model": "up/a", "messages": 5}):
        assert (await post(http, pair[0], body, headers=headers))[0] in (400, 403)
    answers = await asyncio.gather(
        *(post(http, pair[number % 2], asking("up/a"), headers=headers) for number in range(30))
    )
    assert Counter(status for status, _, _ in answers) == {200: 10, 429: 20}
    await holds(lambda: " with 403 (model_not_found), key quick" in pair[0].text)


async def test_requests_at_once_keep_to_the_dollars(
    http: aiohttp.ClientSession, pair: Pair, ring: Keys, upstream: Upstream
) -> None:
    """Over two servers: what is spent beyond the limit is at most what one request costs; all of it is booked."""
    upstream.script("last", say("the whole answer " * 40))
    headers, costs = bearer(ring.add("many", dollars_per_day=0.002)), list[float]()

    async def ask(server: Served) -> str:
        status, payload, response = await post(http, server, asking(), headers=headers)
        if status == 200:
            costs.append(payload["moa"]["cost"])
            return ""
        assert status == 429 and int(response["retry-after"]) >= 1
        return str(payload["error"]["code"])

    known = next(key.id for key in ring if key.name == "many")
    await asyncio.gather(*(ask(pair[number % 2]) for number in range(40)))
    with Ledger(pair[0].folder.parent / "runs.sqlite") as ledger:
        await holds(lambda: ledger.spent(known).total == pytest.approx(sum(costs)))  # by both servers
        while (code := await ask(pair[0])) != "insufficient_quota":
            assert not code, "one after the other, nothing is refused before the budget is spent"
        assert 0.002 <= sum(costs) <= 0.002 + 1.01 * max(costs)
        await holds(lambda: ledger.spent(known).total == pytest.approx(sum(costs)))


async def test_a_small_budget_is_used_up_one_by_one(http: aiohttp.ClientSession, pair: Pair, ring: Keys) -> None:
    """A request that may cost more than what is left begins where nothing is in flight, and none is refused before."""
    headers = bearer(ring.add("poor", dollars_per_day=0.0004))
    statuses = [(await post(http, pair[0], asking(), headers=headers))[0] for _ in range(5)]
    assert statuses[0] == 200 and statuses[-1] == 429
    assert statuses == sorted(statuses)


async def test_a_locked_store_stops_nothing_and_loses_nothing(
    http: aiohttp.ClientSession, pair: Pair, ring: Keys
) -> None:
    """Requests of keys with limits wait; the server answers others meanwhile, and everything is booked."""
    store = pair[0].folder.parent / "runs.sqlite"
    headers = bearer(ring.add("sure", requests_per_minute=1000, dollars_per_day=10))
    await post(http, pair[0], asking(), headers=headers)
    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(post(http, pair[0], asking(), headers=headers)) for _ in range(5)]
        for _ in range(20):
            async with asyncio.timeout(0.5), http.get(pair[0].origin + "/healthz") as response:
                assert response.status == 200
            await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        other.execute("COMMIT")
    answers = await asyncio.gather(*waiting)
    cost = sum(payload["moa"]["cost"] for _, payload, _ in answers)
    with Ledger(store) as ledger:
        known = next(key.id for key in ring if key.name == "sure")
        await holds(lambda: ledger.spent(known).total == pytest.approx(cost * 6 / 5))
    listed = await run("key", "list", "--keys", str(ring.path), "--store", str(store), env={})
    assert f"\t${cost * 6 / 5:.4g} today, ${cost * 6 / 5:.4g} in total" in listed.out


async def test_a_key_and_a_store_of_an_older_version(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """The key sees its runs and has spent what it had spent. A new key of its name is another caller."""
    path, store = tmp_path / "keys.json", tmp_path / "runs.sqlite"
    row: dict[str, Any] = {"name": "ann", "sha256": hashlib.sha256(b"moa-old").hexdigest(), "requests_per_minute": None}
    path.write_text(json.dumps([{**row, "dollars_per_day": 0.25}]))
    with closing(sqlite3.connect(store)) as file:
        file.executescript(OLD_FILE)
        file.execute("INSERT INTO spending VALUES ('ann', date('now'), 0.5)")
        file.execute(
            "INSERT INTO runs VALUES (1, 'old', 'ann', 1.0, 'answered', 'moa/trio', NULL, 0.5, 0, 2.0, 1.0, 42, '?', '!')"
        )
        file.execute("INSERT INTO run_requests VALUES (1, ?, NULL)", (json.dumps(REQUEST).encode(),))
        file.commit()
    args = ("--keys", str(path), "--store", str(store), "--keep")
    async with Served(tmp_path / "home", *args, config=CONFIG.format(base_url=upstream.base_url)) as server:

        async def seen(secret: str) -> tuple[list[str], int]:
            async with http.get(f"{server.origin}/runs", headers=bearer(secret)) as response:
                runs = [each["run"] for each in (await response.json())["runs"]]
            return runs, (await post(http, server, asking(), headers=bearer(secret)))[0]

        assert await seen("moa-old") == (["old"], 429)
        ring = Keys(path)
        ring.remove("ann")
        assert await seen(ring.add("ann", dollars_per_day=0.25)) == ([], 200)
        await server.stop(signal.SIGTERM)


# -- in one process -----------------------------------------------------------------------------------------------------


async def test_a_request_without_a_slot_counts_for_nothing() -> None:
    """Where the queue is full, or the client leaves it."""

    @asynccontextmanager
    async def slot(error: BaseException | None) -> AsyncIterator[None]:
        if error:
            raise error
        yield

    mixture, request = mixture_of("up/a"), Request(asking())
    with Charges(Bookings(Ledger()), Forecast(Prices())) as charges:
        key = Key("ann", "", requests_per_minute=1, dollars_per_day=1.0)
        for error in (Refusal(429, "busy"), asyncio.CancelledError()):
            with pytest.raises(type(error)):
                async with charges.of(key, mixture, request).within_limits(slot(error)):
                    pass
        async with charges.of(key, mixture, request).within_limits(slot(None)):
            pass
        with pytest.raises(Refusal) as refused:
            async with charges.of(key, mixture, request).within_limits(slot(None)):
                pass
        assert refused.value.code == "rate_limit_exceeded" and "1 requests in 60 seconds" in refused.value.message


async def test_what_a_request_costs_is_booked_when_its_last_run_ends() -> None:
    """Before its response is complete, so that the caller's next request finds it; a run that ends late is booked, too."""

    @asynccontextmanager
    async def slot() -> AsyncIterator[None]:
        yield

    key = Key("ann", "", dollars_per_day=1.0)
    with Charges(Bookings(Ledger()), Forecast(Prices())) as charges:
        charge = charges.of(key, mixture_of("up/a"), Request(asking()), choices=2)
        async with charge.within_limits(slot()):
            charge.add(Answer(cost=Cost(0.4)), "answered")
            charge.add(Answer(cost=Cost(0.5)), "failed")
            async with charges.of(key, mixture_of("up/a"), Request(asking())).within_limits(slot()):
                pass
        charge.add(Answer(cost=Cost(0.2)), "cancelled")
        with pytest.raises(Refusal, match="has spent its budget"):
            async with charges.of(key, mixture_of("up/a"), Request(asking())).within_limits(slot()):
                pass


def mixture_of(*names: str, **settings: Any) -> Mixture:
    *proposers, last = [Scripted("", name=name) for name in names]
    return Mixture([proposers] if proposers else [], last, **settings)


def test_a_forecast_goes_by_prices_and_sizes_and_then_by_runs() -> None:
    """Before the first run, every call counts as a full answer; afterwards the mean of the runs; never above max_cost."""
    prices = Prices({"up/a": Price(1.0, 2.0), "up/b": Price(10.0, 20.0)})
    forecast, mixture = Forecast(prices), mixture_of("up/a", "up/a", "up/b")
    request = Request(asking(text="word " * 4000))
    reading = request.tokens * 12e-6
    writing = ANSWER * (2 * 2e-6 + 20e-6 + 2 * 10e-6)
    assert forecast.dollars(mixture, request) == pytest.approx(reading + writing)
    assert forecast.dollars(mixture, request, choices=3) == pytest.approx(3 * (reading + writing))
    for dollars in (1.0, 2.0, 3.0):
        forecast.learn(mixture, dollars)
    assert forecast.dollars(mixture, request) == pytest.approx(2.0)
    assert forecast.dollars(mixture_of("up/a", max_cost=1e-4), request) == 1e-4
    assert forecast.dollars(mixture_of("up/free"), request) == 0
    analysing = mixture_of("up/a", "up/a", "up/b", aggregate=Synthesize(analysis=True))
    assert forecast.dollars(analysing, request) > reading + writing + ANSWER * 20e-6
    nested = Mixture([[mixture]], Scripted("", name="up/a"))
    assert forecast.dollars(nested, request) > reading + writing


async def test_a_scanner_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A few lines a minute, then the number of the others; other statuses are not logged, and no header is."""
    monkeypatch.setattr("moa.server.refusal_log.MINUTE", 0.05)
    request = HTTPRequest({"type": "http", "client": ("10.0.0.1", 5), "headers": [(b"x-api-key", b"moa-secret")]})
    refusals = RefusalLog()
    with caplog.at_level(logging.WARNING):
        for status in [401] * 500 + [400] * 50 + [429] * 20:
            refusals.add(request, Refusal(status, "no", code="some_code"))
        assert len(caplog.records) == MOST
        await holds(lambda: len(caplog.records) > MOST)
    assert caplog.messages[0] == "refused 10.0.0.1 with 401 (some_code)"
    assert caplog.messages[-1] == "refused 490 with 401, 20 with 429 more in the last minute"
    assert "secret" not in caplog.text
