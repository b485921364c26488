"""Runs of the server's own: started, followed, stopped, continued, found and deleted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moa.mixture.codec import event_of
from moa.mixture.fold import fold
from moa.store.archive import Archive
from moa.store.record import finished_proposals
from tests.fakes.run_client import (
    begin,
    call,
    calls_by_model,
    ended,
    follow,
    has_written,
    open_sockets,
    record,
    until_gauges,
)
from tests.fakes.serving import CONFIG, Served, all_events, asking, post, said, streamed
from tests.fakes.upstream import (
    Received,
    Script,
    Upstream,
    call_tool,
    done,
    drop,
    finish,
    hang,
    head,
    refuse,
    say,
    step,
    until,
    usage,
    words,
)
from tests.fakes.waiting import PATIENCE, holds

pytestmark = pytest.mark.anyio

LAST = {"run_finished", "run_failed", "run_stopped"}


# -- a run of the server's own ------------------------------------------------------------------------------------------


async def test_a_run_continues_after_its_client_disconnects(server: Served, upstream: Upstream) -> None:
    """Any client reads the answer later, with every proposal, its costs and times."""
    resume = asyncio.Event()
    upstream.script("a", until(resume) + say("proposal a"))
    async with aiohttp.ClientSession() as http:
        run = await begin(http, server, asking(text="Why is it so?", temperature=0.5))
    await holds(lambda: len(upstream.requests) == 3)
    async with aiohttp.ClientSession() as http:
        so_far = await record(http, server, run)
        assert so_far["outcome"] == "running" and so_far["answer"]["text"] == "" and so_far["duration"] is None
        await holds(lambda: sum(call.finished.is_set() for call in upstream.requests) == 2)
        resume.set()
        payload = await ended(http, server, run)
    assert payload["run"] == run and payload["outcome"] == "answered" and payload["model"] == "moa/trio"
    assert payload["messages"] == [{"role": "user", "content": "Why is it so?"}]
    assert payload["parameters"] == {"temperature": 0.5} and payload["continues"] is None
    assert payload["mixture"]["layers"] == [[{"model": "up/a"}, {"model": "up/b"}, {"model": "up/c"}]]
    assert payload["mixture"]["aggregator"] == {"model": "up/last", "fallbacks": []}
    assert payload["answer"]["text"] == "the whole answer" and payload["answer"]["error"] is None
    assert (
        payload["usage"]["total_tokens"] == 60
        and payload["cost"] == pytest.approx(240e-6)
        and not payload["cost_is_at_least"]
    )
    assert [(call["agent"], call["text"], call["dropped"], call["cut"]) for call in payload["calls"]] == [
        ("a", "proposal a", None, False),
        ("b", "proposal b", None, False),
        ("c", "proposal c", None, False),
        ("last", "the whole answer", None, False),
    ]
    assert abs(payload["started"] - time.time()) < 60
    assert (
        payload["duration"] >= payload["time_to_first_token"] > 0
        and payload["recalled"] == []
        and payload["degraded"] == []
    )
    assert all(call.body["temperature"] == 0.5 for call in upstream.requests)
    line = await server.logged(run)
    assert (line["outcome"], line["model"], line["calls"]) == ("answered", "moa/trio", 4)


async def test_events_are_the_same_for_every_reader_at_any_time(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """From the start, after an ID, live or later: the same events under the same IDs, which fold to the answer."""
    resume = asyncio.Event()
    upstream.script("last", words("one two three ") + until(resume) + words("four") + finish() + done())
    run = await begin(http, server, asking())
    await holds(lambda: upstream.calls("last") and upstream.calls("last")[0].started.is_set())
    live = asyncio.Semaphore(0)

    def watch(**how: Any) -> asyncio.Task[list[tuple[int, dict[str, Any]]]]:
        return asyncio.create_task(follow(http, server, run, on_head=live.release, **how))

    watching = [watch() for _ in range(5)]
    later, again = watch(after=4), watch(headers={"Last-Event-ID": "6"})
    for _ in range(7):
        await live.acquire()
    resume.set()
    whole, *others = await asyncio.gather(*watching)
    assert all(other == whole for other in others)
    assert [number for number, _ in whole] == [*range(1, len(whole) + 1)]
    assert whole[0][1]["event"] == "run_started" and whole[0][1]["run_id"] == run
    assert [event["event"] for _, event in whole if event["event"] in LAST] == ["run_finished"]
    assert whole[-1][1]["event"] == "run_finished"
    assert await later == whole[4:] and await again == whole[6:]
    assert (await ended(http, server, run))["outcome"] == "answered"
    assert await follow(http, server, run) == whole
    assert await follow(http, server, run, after=len(whole) - 1) == whole[-1:]
    assert fold(event_of(event) for _, event in whole).text == "one two three four"
    async with http.get(f"{server.origin}/runs/{run}/events", headers={"Last-Event-ID": str(len(whole))}) as response:
        assert response.status == 204  # an EventSource reconnects after every end but this


async def test_a_follower_that_disconnects_is_forgotten(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Its connection is closed at once, and the run continues."""
    resume = asyncio.Event()
    upstream.script("last", words("begun ") + until(resume) + words("done") + finish() + done())
    run = await begin(http, server, asking())
    await holds(lambda: upstream.calls("last"))
    before = open_sockets(server)
    host, port = server.origin.removeprefix("http://").split(":")
    streams = []
    for _ in range(10):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /runs/{run}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b"200 OK" in await reader.readline()
        streams.append(writer)
    followers = open_sockets(server) - before
    assert len(followers) == 10
    for writer in streams:
        writer.transport.abort()
    await holds(lambda: not followers & open_sockets(server))
    resume.set()
    assert (await ended(http, server, run))["answer"]["text"] == "begun done"


async def test_a_follower_that_does_not_read_blocks_no_run(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Megabytes wait for it; the run ends, and other followers have received all of it."""
    text = "".join(f"{number:06} " for number in range(300_000))
    script = sequence_of(text, 20_000)
    upstream.script("a", script + finish() + usage() + done())
    host, port = server.origin.removeprefix("http://").split(":")
    resume = asyncio.Event()
    upstream.script("b", until(resume) + say("b"))
    run = await begin(http, server, asking())
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"GET /runs/{run}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    await reader.readline()
    resume.set()
    received = await follow(http, server, run)
    assert "".join(event.get("text", "") for _, event in received if event.get("agent") == "a") == text
    assert (await record(http, server, run))["calls"][0]["text"] == text
    writer.transport.abort()


def sequence_of(text: str, size: int) -> Script:
    script = Script()
    for start in range(0, len(text), size):
        data = json.dumps({"choices": [{"index": 0, "delta": {"content": text[start : start + size]}}]})

        async def send(call: Received, data: str = data) -> None:
            await call.send(f"data: {data}\n\n".encode())

        script += step(send)
    return script


async def test_a_single_model_can_run(http: aiohttp.ClientSession, server: Served) -> None:
    """Its record has one call and no mixture."""
    payload = await ended(http, server, await begin(http, server, asking("up/anything-a")))
    assert payload["outcome"] == "failed" and payload["answer"]["causes"]  # the upstream knows no such model
    payload = await ended(http, server, await begin(http, server, asking("up/a")))
    assert (payload["outcome"], payload["model"], payload["mixture"]) == ("answered", "up/a", None)
    assert [(call["role"], call["model"]) for call in payload["calls"]] == [("aggregator", "up/a")]
    assert payload["answer"]["text"] == "proposal a"


async def test_a_failed_run_has_the_reasons(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """Its record has the reason, the causes and the proposals."""
    upstream.script("last", refuse(500, "broken"))
    run = await begin(http, server, asking())
    events = await follow(http, server, run)
    assert events[-1][1]["event"] == "run_failed"
    payload = await record(http, server, run)
    assert payload["outcome"] == "failed" and payload["answer"]["error"] == "the aggregator failed"
    assert "broken" in payload["answer"]["causes"][0] and payload["calls"][0]["text"] == "proposal a"
    assert (await server.logged(run))["outcome"] == "failed"


async def test_messages_are_stored_unchanged(http: aiohttp.ClientSession, server: Served) -> None:
    """Images included; the question in the list is the text of the last user message."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello \ud83d"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": [{"type": "text", "text": "What is this picture of?"}, image]},
    ]
    payload = await ended(http, server, await begin(http, server, {"model": "moa/trio", "messages": messages}))
    assert payload["messages"] == messages
    _, listed = await call(http, "GET", server, "/runs?limit=1")
    assert listed["runs"][0]["question"] == "What is this picture of?"


# -- stopping -----------------------------------------------------------------------------------------------------------


STAGES: dict[str, tuple[dict[str, Script], dict[str, str]]] = {
    "proposers, before their headers": (dict.fromkeys("abc", hang()), dict.fromkeys("abc", "")),
    "proposers, writing": (dict.fromkeys("abc", words("a few words") + hang()), dict.fromkeys("abc", "a few words")),
    "one proposer of three": ({"b": words("a few") + hang()}, {"a": "proposal a", "b": "a few", "c": "proposal c"}),
    "aggregator, before its headers": ({"last": head() + hang()}, {"last": ""}),
    "aggregator, writing": ({"last": words("a few words") + hang()}, {"last": "a few words"}),
}
"""What the models do, and the text of agents when the run is stopped."""


def open_calls(upstream: Upstream) -> list[Received]:
    return [each for each in upstream.requests if not each.finished.is_set()]


@pytest.mark.parametrize("stage", STAGES)
async def test_stopping_cancels_every_upstream_call(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, stage: str
) -> None:
    """At once, wherever the run is; paid text stays, calls that were cut off count, and the last event reports it."""
    scripts, texts = STAGES[stage]
    for name, script in scripts.items():
        upstream.script(name, script)
    run = await begin(http, server, asking())
    following = asyncio.create_task(follow(http, server, run))
    await holds(lambda: sorted(each.model for each in open_calls(upstream)) == sorted(scripts))
    await has_written(http, server, run, texts)
    open_now = open_calls(upstream)
    assert await call(http, "POST", server, f"/runs/{run}/stop") == (204, None)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(each.disconnected.wait() for each in open_now))
    assert (await following)[-1][1]["event"] == "run_stopped"
    assert await call(http, "POST", server, f"/runs/{run}/stop") == (204, None)
    payload = await record(http, server, run)
    assert payload["outcome"] == "stopped" and payload["duration"] > 0
    assert payload["cost"] > 0 and payload["usage"]["prompt_tokens"] > 0
    if stage == "aggregator, writing":
        assert payload["answer"]["text"] == "a few words"
    line = await server.logged(run)
    assert (line["outcome"], line["cost"]) == ("cancelled", payload["cost"])
    _, listed = await call(http, "GET", server, "/runs?limit=1")
    assert (listed["runs"][0]["outcome"], listed["runs"][0]["cost"]) == ("stopped", payload["cost"])


# -- continuing ---------------------------------------------------------------------------------------------------------


async def test_a_stopped_run_continues_from_its_finished_proposals(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Agents that finished are called once over both runs; those that failed or were cut off are called again."""
    upstream.script("b", refuse(500, "down"), say("proposal b"))
    upstream.script("c", words("half a prop") + hang(), say("proposal c"))
    first = await begin(http, server, asking(temperature=0.7))
    await holds(lambda: calls_by_model(upstream) == {"a": 1, "b": 1, "c": 1, "last": 0})
    await has_written(http, server, first, {"a": "proposal a", "b": "", "c": "half a prop"})
    await call(http, "POST", server, f"/runs/{first}/stop")
    second = await begin(http, server, {"continue": first})
    payload = await ended(http, server, second)
    assert calls_by_model(upstream) == {"a": 1, "b": 2, "c": 2, "last": 1}
    assert (payload["outcome"], payload["continues"], payload["model"]) == ("answered", first, "moa/trio")
    assert payload["answer"]["text"] == "the whole answer" and payload["messages"] == asking()["messages"]
    assert payload["recalled"] == [
        {"agent": "a", "layer": 1, "model": "up/a", "text": "proposal a", "cut": False},
    ]
    assert [call["agent"] for call in payload["calls"]] == ["b", "c", "last"]
    prompt = upstream.calls("last")[0].prompt
    assert all(f"proposal {name}" in prompt for name in "abc") and "half" not in prompt
    assert upstream.calls("last")[0].body["temperature"] == 0.7
    assert (await record(http, server, first))["outcome"] == "stopped"
    _, listed = await call(http, "GET", server, "/runs?limit=1")
    assert listed["runs"][0]["continues"] == first


async def test_a_continuation_can_be_continued(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """The aggregator fails twice, then answers from proposals that were paid for once. A complete answer can be redone."""
    upstream.script("last", refuse(500, "broken"), words("half") + drop(), say("at last"))
    first = await begin(http, server, asking())
    assert (await ended(http, server, first))["outcome"] == "failed"
    second = await begin(http, server, {"continue": first})
    payload = await ended(http, server, second)
    assert payload["outcome"] == "failed" and [each["agent"] for each in payload["recalled"]] == ["a", "b", "c"]
    third = await begin(http, server, {"continue": second})
    payload = await ended(http, server, third)
    assert (payload["answer"]["text"], payload["continues"]) == ("at last", second)
    assert [each["text"] for each in payload["recalled"]] == [f"proposal {name}" for name in "abc"]
    fourth = await begin(http, server, {"continue": third})
    assert (await ended(http, server, fourth))["answer"]["text"] == "at last"
    assert calls_by_model(upstream) == {"a": 1, "b": 1, "c": 1, "last": 4}


async def test_a_run_in_progress_cannot_be_continued(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """409; other fields beside continue are 400, and an unknown run is 404."""
    upstream.script("a", hang())
    run = await begin(http, server, asking())
    status, payload = await call(http, "POST", server, "/runs", {"continue": run})
    assert (status, payload["error"]["code"], payload["error"]["param"]) == (409, "run_under_way", "continue")
    status, payload = await call(http, "POST", server, "/runs", {"continue": run, "messages": []})
    assert (status, payload["error"]["param"]) == (400, "messages")
    await call(http, "DELETE", server, f"/runs/{run}")
    for name in (run, 5, ["x"], "\ud800"):
        status, payload = await call(http, "POST", server, "/runs", {"continue": name})
        assert (status, payload["error"]["code"]) == (404, "run_not_found")


async def test_a_run_of_a_killed_server_can_be_continued(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """The server is killed while it writes the answer: the proposals are in the store and are not paid for again."""
    upstream.script("last", words("half an answer") + hang(), say("at last"))
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, config=config) as server:
        run = await begin(http, server, asking())
        await holds(lambda: upstream.calls("last"))
        with Archive(tmp_path / "state" / "moa" / "runs.sqlite") as archive:
            await holds(lambda: len(finished_proposals(archive.lines(run))) == 3)
        await server.stop(signal.SIGKILL)
    async with Served(tmp_path, config=config) as server:
        payload = await record(http, server, run)
        assert payload["outcome"] == "broken off" and [each["text"] for each in payload["calls"][:3]] == [
            f"proposal {name}" for name in "abc"
        ]
        _, listed = await call(http, "GET", server, "/runs")
        assert [each["outcome"] for each in listed["runs"]] == ["broken off"]
        assert (await follow(http, server, run))[-1][1]["event"] not in LAST
        assert await call(http, "POST", server, f"/runs/{run}/stop") == (204, None)
        payload = await ended(http, server, await begin(http, server, {"continue": run}))
        assert payload["answer"]["text"] == "at last" and len(payload["recalled"]) == 3
    assert calls_by_model(upstream) == {"a": 1, "b": 1, "c": 1, "last": 2}


# -- finding and deleting -----------------------------------------------------------------------------------------------


async def test_runs_are_listed_page_by_page_and_searched(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """The newest comes first; a page does not move while new runs arrive; a search looks at questions and answers."""
    async with Served(tmp_path, config=CONFIG.format(base_url=upstream.base_url)) as server:
        upstream.script("a", lambda body: say("re: " + body["messages"][-1]["content"].upper()))

        async def ask(text: str) -> str:
            run = await begin(http, server, asking("up/a", text))
            await follow(http, server, run)
            return run

        runs = [await ask(f"question {name}") for name in ("one", "two", "three", "50%_off", "Ärger")]
        _, first = await call(http, "GET", server, "/runs?limit=2")
        assert [each["run"] for each in first["runs"]] == [runs[4], runs[3]] and first["kept"] is True
        await ask("question six")
        _, second = await call(http, "GET", server, f"/runs?limit=2&before={first['next']}")
        _, third = await call(http, "GET", server, f"/runs?limit=2&before={second['next']}")
        assert [each["run"] for each in (*second["runs"], *third["runs"])] == [runs[2], runs[1], runs[0]]
        assert third["next"] is None
        for search, found in (
            ("RE: QUESTION T", [runs[2], runs[1]]),
            ("50%_OFF", [runs[3]]),
            ("%", [runs[3]]),
            ("ärger", [runs[4]]),
            ("nowhere", []),
        ):
            _, payload = await call(http, "GET", server, "/runs", params={"search": search})
            assert [each["run"] for each in payload["runs"]] == found, search
        _, payload = await call(http, "GET", server, "/runs", params={"search": "two"})
        assert {**payload["runs"][0], "started": 0, "duration": 0, "time_to_first_token": 0} == {
            "run": runs[1],
            "started": 0,
            "outcome": "answered",
            "model": "up/a",
            "question": "question two",
            "answer": "re: QUESTION TWO",
            "cost": pytest.approx(15e-6),
            "cost_is_at_least": False,
            "duration": 0,
            "time_to_first_token": 0,
            "tokens": 15,
            "continues": None,
            "rating": None,
        }


async def test_a_deleted_run_is_gone_from_the_disk(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """Both a finished run and one that is stopped for it; no text stays in the store, nor in a tool loop's turn."""
    secret = os.urandom(8).hex()
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, config=config) as server:
        store = tmp_path / "state" / "moa"

        def on_disk() -> bytes:
            return b"".join(path.read_bytes() for path in store.iterdir())

        upstream.script("a", say(f"proposal {secret}"))
        upstream.script("last", call_tool("f", {}))
        run = await begin(http, server, asking(text=f"question {secret}", tools=tools))
        await follow(http, server, run)
        await call(http, "GET", server, "/runs")  # waits for the store
        assert on_disk().count(secret.encode()) >= 2
        assert await call(http, "DELETE", server, f"/runs/{run}") == (204, None)
        assert secret.encode() not in on_disk()
        upstream.script("last", words(f"answer {secret}") + hang())
        going = await begin(http, server, asking(text=f"question {secret}"))
        await holds(lambda: len(upstream.calls("last")) == 2)
        assert await call(http, "DELETE", server, f"/runs/{going}") == (204, None)
        await asyncio.wait_for(upstream.calls("last")[1].disconnected.wait(), PATIENCE)
        assert secret.encode() not in on_disk()
        for path in ("", "/events"):
            assert (await call(http, "GET", server, f"/runs/{going}{path}"))[0] == 404
        assert (await call(http, "GET", server, "/runs"))[1]["runs"] == []
        assert {path.stat().st_mode & 0o777 for path in store.iterdir()} == {0o600}
    assert secret not in server.text


async def test_an_unknown_run_is_404(http: aiohttp.ClientSession, server: Served) -> None:
    """For each route, in OpenAI's form."""
    for method, path in (
        ("GET", "/runs/nothing"),
        ("GET", "/runs/nothing/events"),
        ("POST", "/runs/nothing/stop"),
        ("DELETE", "/runs/nothing"),
    ):
        status, payload = await call(http, method, server, path)
        assert (status, payload["error"]["code"], payload["error"]["param"]) == (404, "run_not_found", "run"), path


# -- runs of the API ----------------------------------------------------------------------------------------------------


async def test_runs_of_the_api_are_stored_too(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """Under the ID that the answer has, with the request; each choice is a run."""
    _, payload, _ = await post(http, server, asking(text="over the API", max_tokens=7))
    kept = await record(http, server, payload["moa"]["run"])
    assert kept["answer"]["text"] == payload["choices"][0]["message"]["content"] and kept["outcome"] == "answered"
    assert kept["parameters"] == {"max_tokens": 7} and kept["cost"] == payload["moa"]["cost"]
    assert [call["agent"] for call in kept["calls"]] == [call["agent"] for call in payload["moa"]["calls"]]
    upstream.script("last", say("choice 1"), say("choice 2"))
    await post(http, server, asking(text="several", n=2))
    _, listed = await call(http, "GET", server, "/runs?search=choice")
    assert sorted(each["answer"] for each in listed["runs"]) == ["choice 1", "choice 2"]
    second = await record(http, server, listed["runs"][0]["run"])
    assert [each["agent"] for each in second["recalled"]] in ([], ["a", "b", "c"])


async def test_a_run_of_the_api_can_be_followed_and_stopped(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Its client gets an error that it does not retry on; upstream calls are cancelled."""
    upstream.script("last", words("a few words") + hang())
    async with streamed(http, server, asking()) as received:
        begun: list[Any] = []
        while said(begun) != "a few words":
            begun.append(await anext(received))
        _, listed = await call(http, "GET", server, "/runs?limit=1")
        run = listed["runs"][0]["run"]
        assert listed["runs"][0]["outcome"] == "running"
        watching = asyncio.create_task(follow(http, server, run))
        assert await call(http, "POST", server, f"/runs/{run}/stop") == (204, None)
        rest = [event async for event in received]
    assert rest[-1]["error"]["code"] == "run_stopped"
    await asyncio.wait_for(upstream.calls("last")[0].disconnected.wait(), PATIENCE)
    assert (await watching)[-1][1]["event"] == "run_stopped"
    for body in (asking(), asking(n=2), asking(stream=True)):
        upstream.script("a", hang())
        answering = asyncio.create_task(post(http, server, body))
        before = run
        async with asyncio.timeout(PATIENCE):
            while run == before:
                _, listed = await call(http, "GET", server, "/runs?limit=1")
                run = listed["runs"][0]["run"]
        await call(http, "POST", server, f"/runs/{run}/stop")
        status, payload, headers = await answering
        assert (status, payload["error"]["code"], headers["x-moa-run"]) == (400, "run_stopped", run)


async def test_a_client_of_the_api_that_disconnects_stops_its_run(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """As without storing; the text so far stays, and the run can be continued."""
    upstream.script("last", words("a few words") + hang(), say("at last"))
    async with streamed(http, server, asking(text="I leave")) as received:
        await anext(received)
    _, listed = await call(http, "GET", server, "/runs?search=i+leave")
    run = listed["runs"][0]["run"]
    assert (await ended(http, server, run))["outcome"] == "stopped"
    payload = await ended(http, server, await begin(http, server, {"continue": run}))
    assert payload["answer"]["text"] == "at last" and len(payload["recalled"]) == 3


# -- invalid requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ([], 400, None),
        ({}, 400, "model"),
        ({"model": "moa/trio"}, 400, "messages"),
        (asking("moa/trio", mixture={"layers": [["up/a"]]}), 400, "mixture"),
        ({"model": "moa/trio", "continue": "x"}, 400, "continue"),
        ({"mixture": {"layers": [["up/a"]], "aggregator": "up/last"}}, 400, "messages"),
        (asking("moa/nothing"), 404, "model"),
        (asking("nobody/x"), 404, "model"),
        (asking("moa/keyless"), 424, "model"),
        (asking(temperature=9), 400, "temperature"),
        (asking(stream=True), 400, "stream"),
        (asking(n=2), 400, "n"),
        (asking(api_key="x"), 400, "api_key"),
        ({"model": "moa/trio", "messages": [{"role": "nobody", "content": "x"}]}, 400, "messages[0].role"),
    ],
)
async def test_an_invalid_run_is_refused_with_the_field(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, body: Any, status: int, param: str | None
) -> None:
    """No model is called."""
    got, payload = await call(http, "POST", server, "/runs", body)
    assert (got, payload["error"]["param"]) == (status, param), payload
    assert not upstream.requests


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/runs?limit=0", "limit"),
        ("/runs?limit=201", "limit"),
        ("/runs?before=x", "before"),
        ("/runs/x/events?after=-1", "after"),
    ],
)
async def test_an_invalid_query_is_refused(http: aiohttp.ClientSession, server: Served, path: str, param: str) -> None:
    """400, with the parameter's name."""
    status, payload = await call(http, "GET", server, path)
    assert (status, payload["error"]["param"]) == (400, param)


@pytest.mark.parametrize("wrong", ["x", "-1", "²", "9" * 20, "9" * 5000])
async def test_an_invalid_event_id_is_refused(http: aiohttp.ClientSession, server: Served, wrong: str) -> None:
    """Last-Event-ID must be a number, and no larger than one of an event."""
    status, payload = await call(http, "GET", server, "/runs/x/events", headers={"Last-Event-ID": wrong})
    assert (status, payload["error"]["param"]) == (400, "Last-Event-ID")


async def test_runs_take_slots(http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path) -> None:
    """Beside runs of the API: the next one waits, one more is refused, and one whose client disconnects never starts."""
    upstream.script("a", hang())
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--max-runs", "1", "--max-queue", "1", config=config) as server:
        first = await begin(http, server, asking("up/a", "first"))
        waiting = asyncio.create_task(begin(http, server, asking("up/a", "second")))
        await until_gauges(http, server, (1, 1))
        status, payload = await call(http, "POST", server, "/runs", asking("up/a"))
        assert (status, payload["error"]["code"]) == (429, "busy")
        waiting.cancel()
        await until_gauges(http, server, (1, 0))
        waiting = asyncio.create_task(begin(http, server, asking("up/b", "third")))
        await until_gauges(http, server, (1, 1))
        await call(http, "POST", server, f"/runs/{first}/stop")
        assert (await ended(http, server, await waiting))["outcome"] == "answered"
    assert [each.prompt for each in upstream.requests] == ["first", "third"]


async def test_concurrent_runs_of_both_kinds_do_not_mix(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Many runs of both kinds, each with a follower."""
    for name in "abc":
        upstream.script(name, lambda body: say(f"proposal for {body['messages'][-1]['content']}"))
    upstream.script("last", lambda body: say("answer to " + body["messages"][-1]["content"].split("\n")[0]))

    async def one(number: int) -> None:
        run = await begin(http, server, asking(text=f"question {number}"))
        received, payload = await asyncio.gather(follow(http, server, run), ended(http, server, run))
        assert payload["answer"]["text"].startswith(f"answer to question {number}")
        assert [call["text"] for call in payload["calls"][:3]] == [f"proposal for question {number}"] * 3
        assert fold(event_of(event) for _, event in received).text == payload["answer"]["text"]

    await asyncio.gather(
        *(one(number) for number in range(30)), *(all_events(http, server, asking()) for _ in range(10))
    )


# -- rating ------------------------------------------------------------------------------------------------------------


async def test_a_rating_is_kept_with_its_run(server: Served, upstream: Upstream) -> None:
    """Up, then down with a note, then none; the list shows it, and a run that is gone has none."""
    async with aiohttp.ClientSession() as http:
        run = await begin(http, server, asking())
        await ended(http, server, run)
        for body in ({"rating": "up"}, {"rating": "down", "note": "Too long."}):
            assert await _rated(http, server, run, body) == 204
        found = (await record(http, server, run))["rating"]
        assert (found["rating"], found["note"]) == ("down", "Too long.")
        _, listed = await call(http, "GET", server, "/runs")
        assert next(row for row in listed["runs"] if row["run"] == run)["rating"] == "down"
        assert await _rated(http, server, run, {"rating": None}) == 204
        assert (await record(http, server, run))["rating"] is None
        assert await _rated(http, server, "gone", {"rating": "up"}) == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "rating"),
        ({"rating": "meh"}, "rating"),
        ({"rating": ["up"]}, "rating"),
        ({"rating": "up", "note": 5}, "note"),
        ({"rating": "up", "note": "x" * 4001}, "note"),
        ({"rating": "up", "stars": 5}, "stars"),
    ],
)
async def test_a_rating_of_another_form_is_refused(server: Served, body: dict[str, Any], param: str) -> None:
    """The error names the field."""
    async with aiohttp.ClientSession() as http:
        status, refused = await call(http, "POST", server, "/runs/any/rating", body)
        assert (status, refused["error"]["param"]) == (400, param)


async def _rated(http: aiohttp.ClientSession, server: Served, run: str, body: dict[str, Any]) -> int:
    return (await call(http, "POST", server, f"/runs/{run}/rating", body))[0]
