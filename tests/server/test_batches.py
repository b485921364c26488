"""OpenAI's files and batches, with OpenAI's SDK: a batch and its files, errors, keys, cancel and restart."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from openai.types import Batch

from moa.config.config import Config
from moa.server.app import create_app
from moa.server.batches.lines import MOST_ERRORS, Check, numbered
from moa.server.batches.shelf_thread import ShelfThread
from moa.server.keys import Keys
from moa.server.parts import Settings
from moa.store.batches import Usage
from moa.store.shelf import Shelf
from tests.fakes.local_server import serving
from tests.fakes.serving import CONFIG, Served
from tests.fakes.upstream import Upstream, hang, refuse, say, until
from tests.fakes.waiting import PATIENCE, comes_true, holds

pytestmark = pytest.mark.anyio

ENDED = ("completed", "failed", "expired", "cancelled")


def row(number: int, model: str = "moa/trio", **fields: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": f"Question {number}?"}]}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} | fields


def jsonl(*rows: Any) -> bytes:
    return "\n".join(each if isinstance(each, str) else json.dumps(each) for each in rows).encode()


def sdk(server: Served, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.url, api_key=key, max_retries=0)


@pytest.fixture
async def client(server: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with sdk(server) as client:
        yield client


async def begun(client: openai.AsyncOpenAI, *rows: Any, **how: Any) -> Batch:
    """A batch of these rows."""
    file = await client.files.create(file=("rows.jsonl", jsonl(*rows)), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **how
    )


async def ended(client: openai.AsyncOpenAI, batch: Batch) -> Batch:
    """The batch, when it has ended."""
    found = batch

    async def has_ended() -> bool:
        nonlocal found
        found = await client.batches.retrieve(batch.id)
        return found.status in ENDED

    await comes_true(has_ended)
    return found


async def lines(client: openai.AsyncOpenAI, file: str | None) -> list[dict[str, Any]]:
    """The lines of a file."""
    assert file
    return [json.loads(line) for line in (await client.files.content(file)).text.splitlines()]


async def test_a_batch_is_answered(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """Answers are in the output file and errors in the error file, in the order of the rows; each row has its own model."""
    upstream.script("y", refuse(400, "a bad request"))
    rows = [row(1), row(2, "moa/unpriced"), row(3, "moa/nothing"), row(4, "up/a"), row(5, stream=True)]
    rows[4]["body"]["stream"] = True
    batch = await begun(client, *rows, metadata={"for": "a test"})
    assert (batch.object, batch.status, batch.metadata) == ("batch", "validating", {"for": "a test"})
    batch = await ended(client, batch)
    assert batch.status == "completed" and batch.request_counts
    assert batch.request_counts.model_dump() == {"total": 5, "completed": 2, "failed": 3}
    assert batch.completed_at and batch.in_progress_at and batch.finalizing_at
    first, fourth = await lines(client, batch.output_file_id)
    assert (first["custom_id"], first["error"], first["response"]["status_code"]) == ("row-1", None, 200)
    body = first["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "the whole answer"
    assert body["moa"]["run"] == first["response"]["request_id"] and body["usage"]["cost"] > 0
    assert (fourth["custom_id"], fourth["response"]["body"]["choices"][0]["message"]["content"]) == (
        "row-4",
        "proposal a",
    )
    total = sum(each["response"]["body"]["usage"]["total_tokens"] for each in (first, fourth))
    assert batch.usage and batch.usage.total_tokens == total > 0
    errors = await lines(client, batch.error_file_id)
    assert [each["custom_id"] for each in errors] == ["row-2", "row-3", "row-5"]
    assert [each["response"]["status_code"] for each in errors] == [400, 404, 400]
    assert errors[1]["response"]["body"]["error"]["code"] == "model_not_found"


async def test_files_are_listed_and_deleted(client: openai.AsyncOpenAI, server: Served) -> None:
    """A file comes back as it was sent, by pages, and nothing of it stays on the disk once it is deleted."""
    secret = b"the brown fox of this test"
    files = [await client.files.create(file=(f"{n}.jsonl", secret * n), purpose="batch") for n in (1, 2, 3)]
    assert (files[1].filename, files[1].bytes, files[1].purpose) == ("2.jsonl", 2 * len(secret), "batch")
    assert await client.files.retrieve(files[1].id) == files[1]
    assert (await client.files.content(files[1].id)).content == secret * 2
    listed = [file.id async for file in client.files.list(limit=2, purpose="batch") if file in files]
    assert listed == [file.id for file in reversed(files)]
    after: Any = {"anchor": "created_at", "seconds": 3600}
    soon = await client.files.create(file=("soon.jsonl", b"x"), purpose="batch", expires_after=after)
    assert soon.expires_at == soon.created_at + 3600
    for file in files:
        deleted = await client.files.delete(file.id)
        assert (deleted.id, deleted.deleted) == (file.id, True)
    with pytest.raises(openai.NotFoundError):
        await client.files.content(files[0].id)
    stored = [*server.folder.rglob("*.batches.sqlite*")]
    assert stored and not any(secret in path.read_bytes() for path in stored)


async def test_what_cannot_be_a_batch_is_refused(client: openai.AsyncOpenAI) -> None:
    """Other purposes, endpoints, windows and files are a 400 or a 404 that names the field."""
    file = await client.files.create(file=("rows.jsonl", jsonl(row(1))), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await client.files.create(file=("rows.jsonl", b"x"), purpose="assistants")
    right: dict[str, Any] = {
        "input_file_id": file.id,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    for field, value, kind in (
        ("endpoint", "/v1/embeddings", openai.BadRequestError),
        ("completion_window", "1h", openai.BadRequestError),
        ("input_file_id", "file-of-nobody", openai.NotFoundError),
    ):
        with pytest.raises(kind) as caught:
            await client.batches.create(**{**right, field: value})
        assert caught.value.param == field
    with pytest.raises(openai.NotFoundError):
        await client.batches.retrieve("batch_of_nobody")


async def test_a_file_with_mistakes_fails_as_a_whole(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """The batch names each line and what is wrong with it; no row is answered."""
    batch = await ended(
        client, await begun(client, row(1), "no JSON", "", row(1), row(2, url="/v1/embeddings"), row(3, method="GET"))
    )
    assert batch.status == "failed" and batch.errors and batch.errors.data
    assert [(error.line, error.code) for error in batch.errors.data] == [
        *((2, "invalid_json_line"), (4, "duplicate_custom_id"), (5, "invalid_url"), (6, "invalid_method"))
    ]
    assert upstream.requests == []
    empty = await ended(client, await begun(client, ""))
    assert empty.errors and empty.errors.data and empty.errors.data[0].code == "empty_file"


async def test_a_batch_is_cancelled(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """Rows that are answered stay, calls in flight end, and the others are not made; a second cancel is a 409."""
    batch = await ended(client, await begun(client, row(1)))
    with pytest.raises(openai.ConflictError):
        await client.batches.cancel(batch.id)
    upstream.script("y", hang())
    batch = await begun(client, row(1), row(2, "moa/unpriced"))

    async def first_is_answered() -> bool:
        counts = (await client.batches.retrieve(batch.id)).request_counts
        return counts is not None and counts.completed == 1 and bool(upstream.calls("y"))

    await comes_true(first_is_answered)
    with pytest.raises(openai.ConflictError):
        await client.files.delete(batch.input_file_id)
    assert (await client.batches.cancel(batch.id)).status in ("cancelling", "cancelled")
    batch = await ended(client, batch)
    assert batch.status == "cancelled" and batch.cancelling_at and batch.cancelled_at and not batch.error_file_id
    assert [each["custom_id"] for each in await lines(client, batch.output_file_id)] == ["row-1"]
    await asyncio.wait_for(upstream.calls("y")[-1].disconnected.wait(), PATIENCE)


async def test_batches_are_listed_by_pages(client: openai.AsyncOpenAI) -> None:
    """The latest first; the SDK fetches the next page by itself."""
    made = [(await ended(client, await begun(client, row(number)))).id for number in range(3)]
    assert [batch.id async for batch in client.batches.list(limit=2)][:3] == made[::-1]


@asynccontextmanager
async def restarted(folder: Path, keys: Keys | None = None) -> AsyncIterator[tuple[FastAPI, Served]]:
    """A server in this process with the moa.toml and the batches of a folder, which answers one row at a time."""
    shelf = ShelfThread(folder / "state/moa/runs.batches.sqlite", None)
    app = create_app(Config(folder / "moa.toml"), keys=keys, settings=Settings(max_runs=4), shelf=shelf)
    served = Served(folder, config=(folder / "moa.toml").read_text())
    async with serving(app) as address:
        served.url = f"{address}/v1"
        yield app, served


async def test_a_batch_survives_restarts(upstream: Upstream, tmp_path: Path) -> None:
    """Where a server is killed, and where it ends with rows in flight, the next one continues: it pays for no answered row
    and for no finished proposal again."""
    upstream.script("y", hang())
    async with Served(tmp_path, config=CONFIG.format(base_url=upstream.base_url)) as server, sdk(server) as client:
        batch = await begun(client, row(1), row(2, "moa/unpriced"))

        async def first_is_answered() -> bool:
            counts = (await client.batches.retrieve(batch.id)).request_counts
            return counts is not None and counts.completed == 1 and bool(upstream.calls("y"))

        await comes_true(first_is_answered)
        await server.stop(signal.SIGKILL)
    async with restarted(tmp_path) as (app, _):
        await holds(lambda: len(upstream.calls("y")) == 2)
        app.state.parts.stop_in(0)
        await asyncio.wait_for(upstream.calls("y")[-1].disconnected.wait(), PATIENCE)
    upstream.script("y", say("at last"))
    async with restarted(tmp_path) as (_, server), sdk(server) as client:
        batch = await ended(client, batch)
        assert [each["custom_id"] for each in await lines(client, batch.output_file_id)] == ["row-1", "row-2"]
    assert [len(upstream.calls(model)) for model in ("last", "x", "y")] == [1, 1, 3]


async def test_a_server_that_ends_lets_rows_in_flight_finish(upstream: Upstream, tmp_path: Path) -> None:
    """Within its grace; where they were the last ones, the batch is complete."""
    go = asyncio.Event()
    upstream.script("y", until(go) + say("at last"))
    (tmp_path / "moa.toml").write_text(CONFIG.format(base_url=upstream.base_url))
    async with restarted(tmp_path) as (app, server), sdk(server) as client:
        batch = await begun(client, row(1, "moa/unpriced"))
        await holds(lambda: upstream.calls("y"))
        app.state.parts.stop_in(1000)
        go.set()
        batch = await ended(client, batch)
    assert batch.status == "completed" and batch.request_counts and batch.request_counts.completed == 1


async def test_a_batch_expires(upstream: Upstream, tmp_path: Path) -> None:
    """Rows that it did not reach are lines of its error file."""
    (tmp_path / "moa.toml").write_text(CONFIG.format(base_url=upstream.base_url))
    with Shelf(tmp_path / "state/moa/runs.batches.sqlite") as shelf:
        file = shelf.add("", "rows", "batch", [jsonl(row(1)), b"\n", jsonl(row(2))])
        made = shelf.batches.add("", file.id, "/v1/chat/completions", "24h", 0, None, None)
    async with restarted(tmp_path) as (_, server), sdk(server) as client:
        batch = await ended(client, await client.batches.retrieve(made.id))
        assert batch.status == "expired" and batch.expired_at and not batch.output_file_id
        errors = await lines(client, batch.error_file_id)
    assert [(each["custom_id"], each["response"], each["error"]["code"]) for each in errors] == [
        *(("row-1", None, "batch_expired"), ("row-2", None, "batch_expired"))
    ]


async def test_batches_belong_to_keys(upstream: Upstream, tmp_path: Path) -> None:
    """Other keys get a 404; rows keep to the key's models and dollars, with the errors that a request would get."""
    ring = Keys(tmp_path / "keys.json")
    ann, bob = ring.add("ann", dollars_per_day=0.0001), ring.add("bob", models=["up/a"], requests_per_minute=1000)
    (tmp_path / "moa.toml").write_text(CONFIG.format(base_url=upstream.base_url))
    async with restarted(tmp_path, ring) as (_, server), sdk(server, ann) as by_ann, sdk(server, bob) as by_bob:
        batch = await ended(by_ann, await begun(by_ann, *(row(number) for number in range(6))))
        counts = batch.request_counts
        assert counts and counts.completed >= 1 and counts.completed + counts.failed == 6
        errors = await lines(by_ann, batch.error_file_id)
        assert {each["response"]["body"]["error"]["code"] for each in errors} == {"insufficient_quota"}
        for missing in (
            by_bob.batches.retrieve(batch.id),
            by_bob.batches.cancel(batch.id),
            by_bob.files.content(batch.output_file_id or ""),
            by_bob.files.delete(batch.input_file_id),
        ):
            with pytest.raises(openai.NotFoundError):
                await missing
        assert (await by_bob.batches.list()).data == [] == (await by_bob.files.list()).data
        batch = await ended(by_bob, await begun(by_bob, row(1), row(2, "up/a")))
        (refused,) = await lines(by_bob, batch.error_file_id)
        assert (refused["custom_id"], refused["response"]["status_code"]) == ("row-1", 403)
        async with sdk(server) as nobody:
            with pytest.raises(openai.AuthenticationError):
                await nobody.files.list()


async def test_a_batch_leaves_room_for_other_requests(upstream: Upstream, tmp_path: Path) -> None:
    """All batches together have a quarter of the slots: here one of four."""
    upstream.script("y", hang())
    (tmp_path / "moa.toml").write_text(CONFIG.format(base_url=upstream.base_url))
    async with restarted(tmp_path) as (app, server), sdk(server) as client:
        for number in range(2):
            await begun(client, *(row(10 * number + each, "moa/unpriced") for each in range(3)))
        await holds(lambda: upstream.calls("y"))
        answer = await client.chat.completions.create(model="up/a", messages=[{"role": "user", "content": "Hello?"}])
        assert answer.choices[0].message.content == "proposal a"
        assert (len(upstream.calls("y")), app.state.parts.admission.running) == (1, 1)


async def test_a_row_that_waits_for_a_limit_holds_up_no_end(upstream: Upstream, tmp_path: Path) -> None:
    """A key's limit of requests makes rows wait; a server that ends leaves them to the next one at once."""
    ring = Keys(tmp_path / "keys.json")
    secret = ring.add("ann", requests_per_minute=1)
    (tmp_path / "moa.toml").write_text(CONFIG.format(base_url=upstream.base_url))
    async with restarted(tmp_path, ring) as (app, server), sdk(server, secret) as client:
        batch = await begun(client, row(1, "up/a"), row(2, "up/a"))

        async def first_is_answered() -> bool:
            counts = (await client.batches.retrieve(batch.id)).request_counts
            return counts is not None and counts.completed == 1

        await comes_true(first_is_answered)
        app.state.parts.stop_in(1000)
    with Shelf(tmp_path / "state/moa/runs.batches.sqlite") as shelf:
        left = shelf.batches.of_id(batch.id)
    assert (left.status, left.completed, left.failed) == ("in_progress", 1, 0)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with Shelf(tmp_path / "batches.sqlite", days=1) as shelf:
        yield shelf


def test_files_and_batches_expire(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day after they were made, where the operator keeps nothing longer; the input of a batch in progress stays."""
    files = [shelf.add("ann", f"{number}", "batch", [b"x"]) for number in range(2)]
    batch = shelf.batches.add("ann", files[1].id, "/v1/chat/completions", "24h", 86400, None, None)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86401)
    shelf.sweep()
    assert shelf.number_of(files[0].id) == 0 and shelf.number_of(files[1].id)
    shelf.end(batch.id, "expired")
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86401)
    shelf.sweep()
    assert shelf.bytes() == 0 and shelf.batches.find(batch.id, "ann") is None


def test_one_process_runs_a_batch(shelf: Shelf) -> None:
    """A second process gets it when the first has left it, with the answers so far."""
    file = shelf.add("", "rows", "batch", [b"x"])
    batch = shelf.batches.add("", file.id, "/v1/chat/completions", "24h", 60, None, None)
    here, there = "here/1/x", "there/1/x"
    assert [each.id for each in shelf.batches.claim(here, (), lambda owner: True)] == [batch.id]
    assert shelf.batches.claim(there, (), lambda owner: True) == []
    shelf.batches.answer(batch.id, 1, b"{}", Usage(1, 0, 1, 0), failed=False)
    shelf.batches.release(batch.id)
    assert shelf.batches.claim(there, (), lambda owner: False) == []
    (taken,) = shelf.batches.claim(there, (), lambda owner: True)
    assert taken.completed == 1 and shelf.batches.answered(batch.id) == {1}


def test_a_check_ends_with_many_errors() -> None:
    """A file of another kind gives a bounded number of errors."""
    check = Check(100)
    check.add(numbered(b"\n".join([b"x"] * 1000), 0))
    assert len(check.errors) == MOST_ERRORS and check.is_enough
    check = Check(5)
    check.add([(1, b'{"body": {}}')])
    assert check.errors[0]["code"] == "request_too_large"
