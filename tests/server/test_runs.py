"""Runs that are the server's own: begun, followed, stopped, gone on with, found and deleted."""

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
from tests.fakes.run_client import asked_times, begin, call, ended, follow, holds, record
from tests.fakes.serving import CONFIG, PATIENCE, Served, all_events, asking, post, said, streamed
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

pytestmark = pytest.mark.anyio

SOON = 2.0
"""Seconds: a generous bound on a busy machine."""

LAST = {"run_finished", "run_failed", "run_stopped"}


# -- a run of the server's ---------------------------------------------------------------------------------------------


async def test_a_run_goes_on_without_whoever_began_it(server: Served, upstream: Upstream) -> None:
    """The client leaves; the answer is there when somebody comes back, with every proposal, its costs and times."""
    go_on = asyncio.Event()
    upstream.script("a", until(go_on) + say("proposal a"))
    async with aiohttp.ClientSession() as http:
        run = await begin(http, server, asking(text="Why is it so?", temperature=0.5))
    await holds(lambda: len(upstream.requests) == 3)
    async with aiohttp.ClientSession() as http:
        so_far = await record(http, server, run)
        assert so_far["outcome"] == "running" and so_far["answer"]["text"] == "" and so_far["duration"] is None
        await holds(lambda: sum(call.finished.is_set() for call in upstream.requests) == 2)
        go_on.set()
        told = await ended(http, server, run)
    assert told["run"] == run and told["outcome"] == "answered" and told["model"] == "moa/trio"
    assert told["messages"] == [{"role": "user", "content": "Why is it so?"}]
    assert told["parameters"] == {"temperature": 0.5} and told["continues"] is None
    assert told["mixture"]["layers"] == [[{"model": "up/a"}, {"model": "up/b"}, {"model": "up/c"}]]
    assert told["mixture"]["aggregator"] == {"model": "up/last", "fallbacks": []}
    assert told["answer"]["text"] == "the whole answer" and told["answer"]["error"] is None
    assert (
        told["usage"]["total_tokens"] == 60 and told["cost"] == pytest.approx(240e-6) and not told["cost_is_at_least"]
    )
    assert [(call["agent"], call["text"], call["dropped"], call["cut"]) for call in told["calls"]] == [
        ("a", "proposal a", None, False),
        ("b", "proposal b", None, False),
        ("c", "proposal c", None, False),
        ("last", "the whole answer", None, False),
    ]
    assert abs(told["started"] - time.time()) < 60
    assert told["duration"] >= told["time_to_first_token"] > 0 and told["recalled"] == [] and told["degraded"] == []
    assert all(call.body["temperature"] == 0.5 for call in upstream.requests)
    line = await server.logged(run)
    assert (line["outcome"], line["model"], line["calls"]) == ("answered", "moa/trio", 4)


async def test_events_are_the_same_for_everybody_at_any_time(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """From the start, behind an id, live, and afterwards: the same events under the same ids, and the answer folds out."""
    go_on = asyncio.Event()
    upstream.script("last", words("one two three ") + until(go_on) + words("four") + finish() + done())
    run = await begin(http, server, asking())
    await holds(lambda: upstream.calls("last") and upstream.calls("last")[0].started.is_set())
    watching = [asyncio.create_task(follow(http, server, run)) for _ in range(5)]
    later = asyncio.create_task(follow(http, server, run, after=4))
    again = asyncio.create_task(follow(http, server, run, headers={"Last-Event-ID": "6"}))
    await asyncio.sleep(0.1)
    go_on.set()
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
        assert response.status == 204  # an EventSource comes back after every end, unless it is told this


def open_files(server: Served) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


async def test_a_follower_that_leaves_leaves_nothing_behind(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Its connection is closed at once, and the run goes on."""
    go_on = asyncio.Event()
    upstream.script("last", words("begun ") + until(go_on) + words("done") + finish() + done())
    run = await begin(http, server, asking())
    await holds(lambda: upstream.calls("last"))
    before = open_files(server)
    host, port = server.origin.removeprefix("http://").split(":")
    streams = []
    for _ in range(10):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /runs/{run}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b"200 OK" in await reader.readline()
        streams.append(writer)
    assert open_files(server) == before + 10
    for writer in streams:
        writer.transport.abort()
    async with asyncio.timeout(SOON):
        while open_files(server) > before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    go_on.set()
    assert (await ended(http, server, run))["answer"]["text"] == "begun done"


async def test_a_follower_that_does_not_read_holds_up_nobody(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Megabytes wait for it; the run ends, and others have heard all of it."""
    text = "word " * 400_000
    script = sequence_of(text, 20_000)
    upstream.script("a", script + finish() + usage() + done())
    host, port = server.origin.removeprefix("http://").split(":")
    go_on = asyncio.Event()
    upstream.script("b", until(go_on) + say("b"))
    run = await begin(http, server, asking())
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"GET /runs/{run}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    await reader.readline()
    go_on.set()
    heard = await follow(http, server, run)
    assert "".join(event.get("text", "") for _, event in heard if event.get("agent") == "a") == text
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


async def test_a_single_model_can_be_asked(http: aiohttp.ClientSession, server: Served) -> None:
    """Its record has one call, and no mixture."""
    told = await ended(http, server, await begin(http, server, asking("up/anything-a")))
    assert told["outcome"] == "failed" and told["answer"]["causes"]  # the upstream does not know it
    told = await ended(http, server, await begin(http, server, asking("up/a")))
    assert (told["outcome"], told["model"], told["mixture"]) == ("answered", "up/a", None)
    assert [(call["role"], call["model"]) for call in told["calls"]] == [("aggregator", "up/a")]
    assert told["answer"]["text"] == "proposal a"


async def test_a_failed_run_tells_why(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """Its record has the reason and the causes, and what was proposed."""
    upstream.script("last", refuse(500, "broken"))
    run = await begin(http, server, asking())
    events = await follow(http, server, run)
    assert events[-1][1]["event"] == "run_failed"
    told = await record(http, server, run)
    assert told["outcome"] == "failed" and told["answer"]["error"] == "the aggregator failed"
    assert "broken" in told["answer"]["causes"][0] and told["calls"][0]["text"] == "proposal a"
    assert (await server.logged(run))["outcome"] == "failed"


async def test_messages_are_kept_as_they_came(http: aiohttp.ClientSession, server: Served) -> None:
    """Images and all; the question in the list is the text of the last user message."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello \ud83d"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": [{"type": "text", "text": "What is this picture of?"}, image]},
    ]
    told = await ended(http, server, await begin(http, server, {"model": "moa/trio", "messages": messages}))
    assert told["messages"] == messages
    _, listed = await call(http, "GET", server, "/runs?limit=1")
    assert listed["runs"][0]["question"] == "What is this picture of?"


# -- stopping ----------------------------------------------------------------------------------------------------------


STAGES: dict[str, tuple[dict[str, Script], list[str]]] = {
    "proposers, before their headers": (dict.fromkeys("abc", hang()), ["a", "b", "c"]),
    "proposers, writing": (dict.fromkeys("abc", words("a few words") + hang()), ["a", "b", "c"]),
    "one proposer of three": ({"b": words("a few") + hang()}, ["b"]),
    "aggregator, before its headers": ({"last": head() + hang()}, ["last"]),
    "aggregator, writing": ({"last": words("a few words") + hang()}, ["last"]),
}


@pytest.mark.parametrize("stage", STAGES)
async def test_stopping_cancels_every_upstream_call(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, stage: str
) -> None:
    """At once, wherever the run is; what was paid for stays, also what was cut off counts, and the last event says so."""
    scripts, open_calls = STAGES[stage]
    for name, script in scripts.items():
        upstream.script(name, script)
    run = await begin(http, server, asking())
    following = asyncio.create_task(follow(http, server, run))
    await holds(lambda: sorted(each.model for each in upstream.requests if not each.finished.is_set()) == open_calls)
    await asyncio.sleep(0.1)
    open_now = [each for each in upstream.requests if not each.finished.is_set()]
    assert await call(http, "POST", server, f"/runs/{run}/stop") == (204, None)
    async with asyncio.timeout(SOON):
        await asyncio.gather(*(each.disconnected.wait() for each in open_now))
    assert (await following)[-1][1]["event"] == "run_stopped"
    assert await call(http, "POST", server, f"/runs/{run}/stop") == (204, None)
    told = await record(http, server, run)
    assert told["outcome"] == "stopped" and told["duration"] > 0
    assert told["cost"] > 0 and told["usage"]["prompt_tokens"] > 0
    if stage == "aggregator, writing":
        assert told["answer"]["text"] == "a few words"
    line = await server.logged(run)
    assert (line["outcome"], line["cost"]) == ("cancelled", told["cost"])
    _, listed = await call(http, "GET", server, "/runs?limit=1")
    assert (listed["runs"][0]["outcome"], listed["runs"][0]["cost"]) == ("stopped", told["cost"])


# -- going on ----------------------------------------------------------------------------------------------------------


async def test_a_stopped_run_goes_on_from_its_finished_proposals(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Who has finished is asked once over both runs; who had failed or was cut off is asked again; all reach the answer."""
    upstream.script("b", refuse(500, "down"), say("proposal b"))
    upstream.script("c", words("half a prop") + hang(), say("proposal c"))
    first = await begin(http, server, asking(temperature=0.7))
    await holds(lambda: asked_times(upstream) == {"a": 1, "b": 1, "c": 1, "last": 0})
    await asyncio.sleep(0.1)
    await call(http, "POST", server, f"/runs/{first}/stop")
    second = await begin(http, server, {"continue": first})
    told = await ended(http, server, second)
    assert asked_times(upstream) == {"a": 1, "b": 2, "c": 2, "last": 1}
    assert (told["outcome"], told["continues"], told["model"]) == ("answered", first, "moa/trio")
    assert told["answer"]["text"] == "the whole answer" and told["messages"] == asking()["messages"]
    assert told["recalled"] == [
        {"agent": "a", "layer": 1, "model": "up/a", "text": "proposal a", "cut": False},
    ]
    assert [call["agent"] for call in told["calls"]] == ["b", "c", "last"]
    prompt = upstream.calls("last")[0].prompt
    assert all(f"proposal {name}" in prompt for name in "abc") and "half" not in prompt
    assert upstream.calls("last")[0].body["temperature"] == 0.7
    assert (await record(http, server, first))["outcome"] == "stopped"
    _, listed = await call(http, "GET", server, "/runs?limit=1")
    assert listed["runs"][0]["continues"] == first


async def test_a_failed_run_goes_on_and_so_does_one_that_went_on(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The aggregator was down twice; then it answers from proposals that were paid for once. An answer can be had anew."""
    upstream.script("last", refuse(500, "broken"), words("half") + drop(), say("at last"))
    first = await begin(http, server, asking())
    assert (await ended(http, server, first))["outcome"] == "failed"
    second = await begin(http, server, {"continue": first})
    told = await ended(http, server, second)
    assert told["outcome"] == "failed" and [each["agent"] for each in told["recalled"]] == ["a", "b", "c"]
    third = await begin(http, server, {"continue": second})
    told = await ended(http, server, third)
    assert (told["answer"]["text"], told["continues"]) == ("at last", second)
    assert [each["text"] for each in told["recalled"]] == [f"proposal {name}" for name in "abc"]
    fourth = await begin(http, server, {"continue": third})
    assert (await ended(http, server, fourth))["answer"]["text"] == "at last"
    assert asked_times(upstream) == {"a": 1, "b": 1, "c": 1, "last": 4}


async def test_a_run_under_way_does_not_go_on_twice(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """409; and nothing else may be said beside continue; and what is not there is 404."""
    upstream.script("a", hang())
    run = await begin(http, server, asking())
    status, told = await call(http, "POST", server, "/runs", {"continue": run})
    assert (status, told["error"]["code"], told["error"]["param"]) == (409, "run_under_way", "continue")
    status, told = await call(http, "POST", server, "/runs", {"continue": run, "messages": []})
    assert (status, told["error"]["param"]) == (400, "messages")
    await call(http, "DELETE", server, f"/runs/{run}")
    for name in (run, 5, ["x"]):
        status, told = await call(http, "POST", server, "/runs", {"continue": name})
        assert (status, told["error"]["code"]) == (404, "run_not_found")


async def test_a_run_of_a_killed_server_goes_on(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """Killed without warning while the answer was written: the proposals are in the store, and are not paid for again."""
    upstream.script("last", words("half an answer") + hang(), say("at last"))
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, config=config) as server:
        run = await begin(http, server, asking())
        await holds(lambda: upstream.calls("last"))
        await asyncio.sleep(1.7)
        await server.stop(signal.SIGKILL)
    async with Served(tmp_path, config=config) as server:
        told = await record(http, server, run)
        assert told["outcome"] == "broken off" and [each["text"] for each in told["calls"][:3]] == [
            f"proposal {name}" for name in "abc"
        ]
        _, listed = await call(http, "GET", server, "/runs")
        assert [each["outcome"] for each in listed["runs"]] == ["broken off"]
        assert (await follow(http, server, run))[-1][1]["event"] not in LAST
        assert await call(http, "POST", server, f"/runs/{run}/stop") == (204, None)
        told = await ended(http, server, await begin(http, server, {"continue": run}))
        assert told["answer"]["text"] == "at last" and len(told["recalled"]) == 3
    assert asked_times(upstream) == {"a": 1, "b": 1, "c": 1, "last": 2}


# -- finding and forgetting --------------------------------------------------------------------------------------------


async def test_runs_are_listed_page_by_page_and_searched(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """The latest first; a page stays where it is while new ones come in; a search looks at question and answer."""
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
            _, told = await call(http, "GET", server, "/runs", params={"search": search})
            assert [each["run"] for each in told["runs"]] == found, search
        _, told = await call(http, "GET", server, "/runs", params={"search": "two"})
        assert {**told["runs"][0], "started": 0, "duration": 0, "time_to_first_token": 0} == {
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
        }


async def test_a_deleted_run_is_gone_from_the_disk(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """One that is over and one that is stopped for it; no word is left in the store, also of a tool loop\'s turn."""
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
        await asyncio.wait_for(upstream.calls("last")[1].disconnected.wait(), SOON)
        assert secret.encode() not in on_disk()
        for path in ("", "/events"):
            assert (await call(http, "GET", server, f"/runs/{going}{path}"))[0] == 404
        assert (await call(http, "GET", server, "/runs"))[1]["runs"] == []
        assert {path.stat().st_mode & 0o777 for path in store.iterdir()} == {0o600}
    assert secret not in server.text


async def test_what_is_not_there_is_404(http: aiohttp.ClientSession, server: Served) -> None:
    """For each route, in OpenAI's form."""
    for method, path in (
        ("GET", "/runs/nothing"),
        ("GET", "/runs/nothing/events"),
        ("POST", "/runs/nothing/stop"),
        ("DELETE", "/runs/nothing"),
    ):
        status, told = await call(http, method, server, path)
        assert (status, told["error"]["code"], told["error"]["param"]) == (404, "run_not_found", "run"), path


# -- runs of the API ---------------------------------------------------------------------------------------------------


async def test_runs_of_the_api_are_kept_too(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """Under the id that the answer has, with what was asked; each choice is a run."""
    _, told, _ = await post(http, server, asking(text="over the API", max_tokens=7))
    kept = await record(http, server, told["moa"]["run"])
    assert kept["answer"]["text"] == told["choices"][0]["message"]["content"] and kept["outcome"] == "answered"
    assert kept["parameters"] == {"max_tokens": 7} and kept["cost"] == told["moa"]["cost"]
    assert [call["agent"] for call in kept["calls"]] == [call["agent"] for call in told["moa"]["calls"]]
    upstream.script("last", say("choice 1"), say("choice 2"))
    await post(http, server, asking(text="several", n=2))
    _, listed = await call(http, "GET", server, "/runs?search=choice")
    assert sorted(each["answer"] for each in listed["runs"]) == ["choice 1", "choice 2"]
    second = await record(http, server, listed["runs"][0]["run"])
    assert [each["agent"] for each in second["recalled"]] in ([], ["a", "b", "c"])


async def test_a_run_of_the_api_can_be_watched_and_stopped(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Its client is told, with an error that it does not ask again on; upstream calls are cancelled."""
    upstream.script("last", words("a few words") + hang())
    async with streamed(http, server, asking()) as heard:
        begun: list[Any] = []
        while said(begun) != "a few words":
            begun.append(await anext(heard))
        _, listed = await call(http, "GET", server, "/runs?limit=1")
        run = listed["runs"][0]["run"]
        assert listed["runs"][0]["outcome"] == "running"
        watching = asyncio.create_task(follow(http, server, run))
        assert await call(http, "POST", server, f"/runs/{run}/stop") == (204, None)
        rest = [event async for event in heard]
    assert rest[-1]["error"]["code"] == "run_stopped"
    await asyncio.wait_for(upstream.calls("last")[0].disconnected.wait(), SOON)
    assert (await watching)[-1][1]["event"] == "run_stopped"
    for body in (asking(), asking(n=2), asking(stream=True)):
        upstream.script("a", hang())
        answering = asyncio.create_task(post(http, server, body))
        before = run
        while run == before:
            _, listed = await call(http, "GET", server, "/runs?limit=1")
            run = listed["runs"][0]["run"]
        await call(http, "POST", server, f"/runs/{run}/stop")
        status, told, headers = await answering
        assert (status, told["error"]["code"], headers["x-moa-run"]) == (400, "run_stopped", run)


async def test_a_client_of_the_api_that_leaves_stops_its_run(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """As without keeping; what there is of it stays, and can be gone on with."""
    upstream.script("last", words("a few words") + hang(), say("at last"))
    async with streamed(http, server, asking(text="I leave")) as heard:
        await anext(heard)
    async with asyncio.timeout(PATIENCE):
        while True:
            _, listed = await call(http, "GET", server, "/runs?search=i+leave")
            if listed["runs"][0]["outcome"] == "stopped":
                break
    told = await ended(http, server, await begin(http, server, {"continue": listed["runs"][0]["run"]}))
    assert told["answer"]["text"] == "at last" and len(told["recalled"]) == 3


# -- what may be asked -------------------------------------------------------------------------------------------------


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
        (asking("moa/keyless"), 503, "model"),
        (asking(temperature=9), 400, "temperature"),
        (asking(stream=True), 400, "stream"),
        (asking(n=2), 400, "n"),
        (asking(api_key="x"), 400, "api_key"),
        ({"model": "moa/trio", "messages": [{"role": "nobody", "content": "x"}]}, 400, "messages[0].role"),
    ],
)
async def test_a_run_that_cannot_be_is_refused(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, body: Any, status: int, param: str | None
) -> None:
    """With the field, and nobody is asked."""
    got, told = await call(http, "POST", server, "/runs", body)
    assert (got, told["error"]["param"]) == (status, param), told
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
async def test_a_question_that_is_wrong_is_refused(
    http: aiohttp.ClientSession, server: Served, path: str, param: str
) -> None:
    """400, with its name."""
    status, told = await call(http, "GET", server, path)
    assert (status, told["error"]["param"]) == (400, param)


async def test_an_id_that_is_none_is_refused(http: aiohttp.ClientSession, server: Served) -> None:
    """Last-Event-ID is a number."""
    status, told = await call(http, "GET", server, "/runs/x/events", headers={"Last-Event-ID": "x"})
    assert (status, told["error"]["param"]) == (400, "Last-Event-ID")


async def test_runs_take_places(http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path) -> None:
    """Beside those of the API: the next one waits, one more is refused, and one whose client leaves never begins."""
    upstream.script("a", hang())
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--max-runs", "1", "--max-queue", "1", config=config) as server:
        first = await begin(http, server, asking("up/a", "first"))
        waiting = asyncio.create_task(begin(http, server, asking("up/a", "second")))
        await asyncio.sleep(0.2)
        status, told = await call(http, "POST", server, "/runs", asking("up/a"))
        assert (status, told["error"]["code"]) == (429, "busy")
        waiting.cancel()
        await asyncio.sleep(0.2)
        waiting = asyncio.create_task(begin(http, server, asking("up/b", "third")))
        await asyncio.sleep(0.2)
        await call(http, "POST", server, f"/runs/{first}/stop")
        assert (await ended(http, server, await waiting))["outcome"] == "answered"
    assert [each.prompt for each in upstream.requests] == ["first", "third"]


async def test_all_at_once(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """Many runs of both kinds, each followed, none mixed up with another."""
    for name in "abc":
        upstream.script(name, lambda body: say(f"proposal for {body['messages'][-1]['content']}"))
    upstream.script("last", lambda body: say("answer to " + body["messages"][-1]["content"].split("\n")[0]))

    async def one(number: int) -> None:
        run = await begin(http, server, asking(text=f"question {number}"))
        heard, told = await asyncio.gather(follow(http, server, run), ended(http, server, run))
        assert told["answer"]["text"].startswith(f"answer to question {number}")
        assert [call["text"] for call in told["calls"][:3]] == [f"proposal for question {number}"] * 3
        assert fold(event_of(event) for _, event in heard).text == told["answer"]["text"]

    await asyncio.gather(
        *(one(number) for number in range(30)), *(all_events(http, server, asking()) for _ in range(10))
    )
