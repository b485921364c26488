"""Runs after they have begun: reloads, second windows, other clients, the list, comparisons."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.fakes.browser import Window, expect, needs_browser, window
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, call_tool, done, finish, hang, say, until, usage, words

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.anyio, needs_browser]


async def test_a_reload_continues_to_show_the_run(page: Window, upstream: Upstream) -> None:
    """The run continues without the page; a reload shows what was written meanwhile, and no call is repeated."""
    gate, away = asyncio.Event(), asyncio.Event()
    upstream.script("a", words("before") + until(away) + words(" meanwhile") + until(gate) + say(" after"))
    await page.ask("Why?", "moa/trio")
    await expect(page.card("a").locator(".text")).to_have_text("before")
    address = page.tab.url
    await page.tab.goto("about:blank")
    away.set()
    await page.tab.goto(address)
    await expect(page.card("a").locator(".text")).to_have_text("before meanwhile")
    gate.set()
    await page.finished()
    assert await page.card("a").locator(".text").inner_text() == "before meanwhile after"
    assert len(upstream.requests) == 4


async def test_new_leaves_a_run_in_progress_and_back_returns_to_it(page: Window, upstream: Upstream) -> None:
    """New clears the page and the run continues; Back shows it again, once; a question typed meanwhile is kept."""
    gate = asyncio.Event()
    upstream.script("last", words("the first") + until(gate) + say(" and the rest"))
    await page.ask("Why?", "moa/trio")
    await expect(page.tab.locator(".answer-text")).to_have_text("the first")
    await page.tab.fill("#question", "And then?")
    await page.tab.press("#question", "Enter")
    await expect(page.tab.locator("#problem")).to_contain_text("A run is in progress")
    await page.tab.click("#new")
    assert await page.tab.locator(".turn").count() == 0
    assert await page.tab.locator("#send").is_visible()
    assert await page.tab.input_value("#question") == "And then?"
    requests: list[str] = []
    page.tab.on("request", lambda request: requests.append(urlsplit(request.url).path))
    await page.tab.go_back()
    await expect(page.tab.locator(".answer-text")).to_have_text("the first")
    gate.set()
    await page.finished()
    assert await page.text(".answer-text") == "the first and the rest"
    assert await page.tab.locator(".turn").count() == 1
    assert [path for path in requests if path.endswith("/events")] == [f"/runs/{page.run}/events"]
    await page.tab.go_back()
    await expect(page.tab.locator(".idle-stage")).to_be_visible()
    await page.tab.go_forward()
    await page.finished()
    assert len(upstream.requests) == 4


async def test_two_windows_show_the_same_run(browser: Browser, page: Window, upstream: Upstream) -> None:
    """Two windows draw the same run at the same time."""
    gate = asyncio.Event()
    upstream.script("last", words("the first") + until(gate) + words(" and the rest") + finish() + usage() + done())
    await page.ask("Why?", "moa/trio")
    await expect(page.tab.locator(".answer-text")).to_have_text("the first")
    async with window(browser, page.origin, f"/#/runs/{page.run}") as other:
        await expect(other.tab.locator(".answer-text")).to_have_text("the first")
        gate.set()
        for each in (page, other):
            await each.finished()
            assert await each.text(".answer-text") == "the first and the rest"
        assert await other.text(".totals") == await page.text(".totals")


async def test_a_run_of_another_client_is_listed_and_opened(page: Window, served: Served, upstream: Upstream) -> None:
    """A request of an SDK appears in the list, and opens with its layers and its tool calls."""
    upstream.script("last", call_tool("look_up", {"city": "Oslo"}))
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    body = {"model": "moa/trio", "messages": [{"role": "user", "content": "Weather in Oslo?"}], "tools": [tool]}
    async with aiohttp.ClientSession() as http, http.post(f"{served.url}/chat/completions", json=body) as response:
        assert response.status == 200
    await page.tab.click("#toggle-runs")
    await page.tab.locator("#run-list a", has_text="Weather in Oslo?").click()
    await page.finished()
    assert await page.tab.locator(".card").count() == 3
    assert await page.text(".tools") == 'look_up({"city": "Oslo"})'


async def test_a_conversation_of_another_client_continues_unchanged(
    page: Window, served: Served, upstream: Upstream
) -> None:
    """System messages, images and tool calls of earlier messages are shown, and sent along with a further question."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
    ]
    async with aiohttp.ClientSession() as http:
        body = {"model": "moa/trio", "messages": messages, "temperature": 0.3}
        async with http.post(f"{served.url}/chat/completions", json=body) as response:
            run = response.headers["x-moa-run"]
    await page.tab.goto(f"{served.origin}/#/runs/{run}")
    await page.finished()
    assert await page.texts(".question") == ["Hello", "What is this?\n[image_url]"]
    assert await page.texts("details.earlier summary") == ["system", "tool"]
    assert await page.text(".turn .tools") == 'look({"at": "it"})'
    await page.ask("And now?")
    await page.finished()
    sent = upstream.calls("last")[-1].body["messages"]
    assert sent[:-1] == [*messages, {"role": "assistant", "content": "the whole answer"}]
    assert sent[-1]["content"].startswith("And now?")
    await page.tab.go_back()
    await expect(page.tab.locator(".turn")).to_have_count(1)
    await page.finished()
    upstream.requests.clear()
    await page.press("Run again")
    await expect(page.tab.locator(".side .bar")).to_have_count(2)
    assert upstream.calls("last")[0].body["temperature"] == 0.3


async def test_each_of_two_answers_shows_its_proposals(page: Window, served: Served, upstream: Upstream) -> None:
    """With n=2 each answer is a run; both show the proposals, and only one paid for them."""
    body = {"model": "moa/trio", "messages": [{"role": "user", "content": "Two of them?"}], "n": 2}
    async with aiohttp.ClientSession() as http, http.post(f"{served.url}/chat/completions", json=body) as response:
        assert response.status == 200
    await page.tab.click("#toggle-runs")
    await page.tab.fill("#search", "Two of them?")
    await expect(page.tab.locator("#run-list li")).to_have_count(2)
    calls = []
    for link in await page.tab.locator("#run-list a").all():
        await link.click()
        await expect(link).to_have_attribute("aria-current", "page")
        await page.finished()
        assert await page.texts(".card .text") == ["proposal a", "proposal b", "proposal c"]
        calls.append((await page.text(".totals")).split(" · ")[0])
    assert sorted(calls) == ["1 call", "4 calls"]


async def test_runs_are_found_opened_and_deleted(page: Window, upstream: Upstream) -> None:
    """Search narrows the list of runs, a run opens with its layers, and a deleted one is gone."""
    await page.ask("What of otters?", "moa/trio")
    await page.finished()
    await page.tab.click("#new")
    await page.ask("What of herons?")
    await page.finished()
    await page.tab.click("#toggle-runs")
    await expect(page.tab.locator("#run-list a", has_text="What of herons?")).to_be_visible()
    await page.tab.fill("#search", "OTTER")
    await expect(page.tab.locator("#run-list li")).to_have_count(1)
    await page.tab.locator("#run-list a").click()
    await expect(page.tab.locator(".question")).to_have_text("What of otters?")
    await page.finished()
    assert await page.texts(".card .text") == ["proposal a", "proposal b", "proposal c"]
    await page.press("Delete")
    await page.press("Delete permanently")
    await expect(page.tab.locator("#run-list li")).to_have_count(0)
    assert await page.text("#runs-note") == "Nothing found."


async def test_a_run_is_exported_as_json(page: Window) -> None:
    """Export saves the record: question, calls with their texts, cost, attribution."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    async with page.tab.expect_download() as download:
        await page.press("Export")
    saved = json.loads((await (await download.value).path()).read_text())
    assert saved["run"] == page.run
    assert [call["text"] for call in saved["calls"]] == ["proposal a", "proposal b", "proposal c", "the whole answer"]
    assert saved["attribution"]["layers"][0]["shares"].keys() == {"a", "b", "c"}


async def test_two_runs_are_compared_side_by_side(page: Window, upstream: Upstream) -> None:
    """Two selected runs are compared: both answers, their figures, what each resembles."""
    await page.ask("Side by side?", "moa/trio")
    await page.finished()
    upstream.script("last", say("another answer"))
    await page.tab.click("#new")
    await page.ask("Side by side?", "moa/own")
    await page.finished()
    await page.tab.click("#toggle-runs")
    await page.tab.fill("#search", "Side by side?")
    await expect(page.tab.locator("#run-list li")).to_have_count(2)
    assert await page.tab.is_disabled("#compare")
    for each in await page.tab.locator("#run-list input").all():
        await each.check()
    await page.tab.click("#compare")
    await expect(page.tab.locator(".side .bar")).to_have_count(2)
    assert sorted(await page.texts(".side .answer-text")) == ["another answer", "the whole answer"]
    assert sorted(await page.texts(".side h3")) == ["moa/own", "moa/trio"]
    await page.tab.locator(".side a").first.click()
    await page.finished()
    assert await page.tab.locator(".card").count() in (2, 3)


async def test_a_compared_run_can_be_stopped(page: Window, upstream: Upstream) -> None:
    """Stop is available while a run of the comparison is in progress, and its column shows the state."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    upstream.script("last", words("half of") + hang())
    await page.press("Run again")
    await expect(page.tab.locator(".side .answer-text").nth(1)).to_have_text("half of")
    await page.tab.click("#stop")
    await expect(page.tab.locator(".side .state").nth(1)).to_have_text("stopped")
    assert await page.texts(".side .state") == ["done", "stopped"]
    await expect(page.tab.locator("#send")).to_be_visible()


async def test_an_answer_is_rated_with_thumbs_and_a_note(page: Window, upstream: Upstream) -> None:
    """Each press is saved: a reload shows it, the list names it, and a second press removes it; the keyboard suffices."""
    await page.ask("Rate me?", "moa/trio")
    await page.finished()
    good, bad, note = (page.tab.get_by_label(name) for name in ("Good answer", "Bad answer", "Note on the rating"))
    await expect(note).to_be_hidden()
    await good.focus()
    await page.tab.keyboard.press("Tab")
    await page.tab.keyboard.press("Space")
    await expect(bad).to_have_attribute("aria-pressed", "true")
    await note.fill("Too short.")
    await note.press("Tab")
    await expect(page.tab.locator("#status")).to_have_text("Note saved.")
    await page.tab.reload()
    await page.finished()
    await expect(bad).to_have_attribute("aria-pressed", "true")
    await expect(note).to_have_value("Too short.")
    await page.tab.click("#toggle-runs")
    await page.tab.fill("#search", "Rate me?")
    await expect(page.tab.locator("#run-list li").first).to_contain_text("rated down")
    await good.click()
    await expect(page.tab.locator("#run-list li").first).to_contain_text("rated up")
    await expect(bad).to_have_attribute("aria-pressed", "false")
    await good.click()
    await expect(note).to_be_hidden()
    await expect(page.tab.locator("#run-list li").first).not_to_contain_text("rated")
