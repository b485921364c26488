"""Every face reports the same cost of a run: the response, the saved run, the log, the metrics, and the key's spending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from moa.prices import Prices
from moa.server.keys import Keys
from moa.store.archive import Archive
from moa.store.ledger import Ledger
from moa.store.record import record_of
from tests.fakes.run_client import call
from tests.fakes.serving import CONFIG, Served, asking
from tests.fakes.upstream import Script, Scripted, Upstream, data, done, finish, hang, refuse, say, usage, words
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

MORE = """
[endpoints.again]
base_url = "{base_url}"
attempts = 2
[prices."again/*"]
input = 1.0
output = 1.0
[mixtures.retrying]
layers = [["again/a", "up/b"]]
aggregator = "up/last"
[mixtures.inner]
layers = [["up/a"]]
aggregator = "up/spare"
[mixtures.outer]
layers = [["moa/inner", "up/b"]]
aggregator = "up/last"
"""


@dataclass(frozen=True)
class Case:
    """A run: its model, what models do that do not simply answer, and what comes of it."""

    model: str
    scripts: dict[str, Callable[[], Scripted]]
    outcome: str
    leaves: bool = False
    attempts: list[str] = field(default_factory=list)
    unknown: bool = False


def first(one: Script, other: Script) -> Callable[[], Scripted]:
    """One answer to the first call, and another one to those after it."""

    def script() -> Scripted:
        answers = [one]
        return lambda _: answers.pop() if answers else other

    return script


IMPOSSIBLE = words("fine") + finish() + data('{"choices": [], "usage": {"prompt_tokens": -5, "cost": NaN}}') + done()
CASES = {
    "answered": Case("moa/trio", {}, "answered"),
    "retried": Case(
        "moa/retrying",
        {"a": first(refuse(503), say("a"))},
        "answered",
        attempts=["again/a: 503 Service Unavailable: no"],
    ),
    "a proposer failed": Case("moa/trio", {"a": lambda: refuse(500)}, "degraded"),
    "failed": Case("moa/trio", {"last": lambda: refuse(400)}, "failed"),
    "a nested mixture failed": Case("moa/outer", {"spare": lambda: refuse(400)}, "degraded"),
    "left while proposers write": Case("moa/trio", {"a": lambda: words("a b c") + hang()}, "stopped", leaves=True),
    "left while the answer is written": Case(
        "moa/trio", {"last": lambda: words("a b c") + hang()}, "stopped", leaves=True
    ),
    "left inside a nested mixture": Case(
        "moa/outer", {"spare": lambda: words("a b") + hang()}, "stopped", leaves=True, unknown=True
    ),
    "impossible figures": Case("moa/trio", {"last": lambda: IMPOSSIBLE}, "answered", unknown=True),
    "usage alone": Case("moa/trio", {"last": lambda: words("fine") + usage(7, 2) + finish() + done()}, "answered"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("books")


@pytest.fixture(scope="module")
def key(folder: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {Keys(folder / 'keys.json').add('ann', dollars_per_day=1000)}"}


@pytest.fixture(scope="module")
async def server(upstream: Upstream, folder: Path, key: dict[str, str]) -> AsyncIterator[Served]:
    config = (CONFIG + MORE).format(base_url=upstream.base_url)
    args = ("--keys", str(folder / "keys.json"), "--keep", "--store", str(folder / "runs.sqlite"))
    async with Served(folder, *args, config=config) as server:
        yield server


async def counters(http: aiohttp.ClientSession, server: Served, key: dict[str, str]) -> dict[str, float]:
    """The sum of each counter of the metrics."""
    async with http.get(f"{server.origin}/metrics", headers=key) as response:
        families = [*text_string_to_metric_families(await response.text())]
    return {family.name: sum(s.value for s in family.samples if s.name.endswith("_total")) for family in families}


async def text_of(http: aiohttp.ClientSession, server: Served, body: Any, key: dict[str, str]) -> str:
    async with http.post(f"{server.url}/chat/completions", json=body, headers=key) as response:
        return await response.text()


@pytest.mark.parametrize(("name", "stream"), [(name, number % 2 == 0) for number, name in enumerate(CASES)])
async def test_all_faces_agree(
    http: aiohttp.ClientSession,
    server: Served,
    upstream: Upstream,
    folder: Path,
    key: dict[str, str],
    name: str,
    stream: bool,
) -> None:
    """However the run ends: dollars and tokens are the same everywhere, and nothing that was paid for is nothing."""
    case = CASES[name]
    for model, make in case.scripts.items():
        upstream.script(model, make())
    ann = next(iter(Keys(folder / "keys.json"))).id
    ledger = Ledger(folder / "runs.sqlite")
    before, spent = await counters(http, server, key), ledger.spent(ann).total
    request = asyncio.create_task(text_of(http, server, asking(case.model, stream=stream), key))
    if case.leaves:
        await holds(lambda: any(each.model in case.scripts and each.started.is_set() for each in upstream.requests))
        request.cancel()
    await asyncio.wait([request])
    text = "" if case.leaves else request.result()
    _, listed = await call(http, "GET", server, "/runs?limit=1", headers=key)
    run = listed["runs"][0]["run"]
    line = await server.logged(run)
    _, saved = await call(http, "GET", server, f"/runs/{run}", headers=key)
    after = await counters(http, server, key)
    assert saved["outcome"] == case.outcome
    assert saved["cost"] == line["cost"]
    tokens = saved["usage"]["prompt_tokens"], saved["usage"]["completion_tokens"]
    assert tokens == (line["input_tokens"], line["output_tokens"])
    assert saved["cost"] and saved["cost_is_at_least"] is case.unknown
    close = pytest.approx(saved["cost"])
    assert after["moa_dollars"] - before["moa_dollars"] == close
    assert after["moa_key_dollars"] - before["moa_key_dollars"] == close
    await holds(lambda: ledger.spent(ann).total - spent == close)  # booked by a thread
    assert sum(every["cost"] or 0 for every in saved["calls"]) == close
    attempts = [attempt["reason"] for every in saved["calls"] for attempt in every.get("attempts", ())]
    assert attempts == case.attempts
    _, listed = await call(http, "GET", server, "/runs?limit=1", headers=key)  # which writes all to the file
    assert listed["runs"][0]["cost"] == saved["cost"]
    with Archive(folder / "runs.sqlite") as archive:
        record = archive.saved(run)
        assert record and record_of(record, Prices())["cost"] == saved["cost"]
    assert "NaN" not in text and "Infinity" not in text
    if case.outcome in ("answered", "degraded"):
        _, _, moa = text.partition(f'"run":"{run}","cost":')
        assert float(moa.partition(",")[0]) == saved["cost"]
    ledger.close()
