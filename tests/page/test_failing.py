"""What the page shows if agents, runs or the server fail."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from moa.store.archive import Archive
from moa.store.record import answer_of
from tests.fakes.browser import Window, expect, needs_browser, window
from tests.fakes.run_client import until_gauges
from tests.fakes.serving import Served, answer_well
from tests.fakes.upstream import Upstream, hang, refuse, say, words
from tests.fakes.waiting import PATIENCE, holds

if TYPE_CHECKING:
    from playwright.async_api import Browser, Route

pytestmark = [pytest.mark.anyio, needs_browser]


async def until_stored(served: Served, run: str, texts: dict[str, str]) -> None:
    """Wait until the server's store has these texts of a run's agents."""
    with Archive(served.folder / "state" / "moa" / "runs.sqlite") as archive:

        def stored() -> bool:
            calls = answer_of(archive.lines(run)).calls
            return texts.items() <= {call.agent: call.text for call in calls}.items()

        await holds(stored)


async def until_queued(served: Served, runs: int) -> None:
    """Wait until so many runs are in the server's queue."""
    async with aiohttp.ClientSession() as http:
        await until_gauges(http, served, (1, runs))


async def delete_run(page: Window) -> None:
    """Delete the page's run, as another client."""
    async with aiohttp.ClientSession() as http, http.delete(f"{page.origin}/runs/{page.run}") as response:
        assert response.status == 204


async def test_a_failed_agent_shows_its_error_and_the_run_continues(page: Window, upstream: Upstream) -> None:
    """Its card is marked and has the reason; the answer is made of the other proposals."""
    upstream.script("b", refuse(500, "out of memory"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.card("b").get_attribute("data-state") == "failed"
    assert "out of memory" in await page.card("b").locator(".why").inner_text()
    assert await page.text(".answer-text") == "the whole answer"


async def test_a_failed_run_continues_from_its_proposals(page: Window, upstream: Upstream) -> None:
    """A run without an answer shows the causes and its proposals; Continue calls only agents without an answer."""
    upstream.script("b", refuse(500, "out of memory"))
    upstream.script("last", refuse(503, "overloaded"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.text(".answer .state") == "no answer"
    assert "overloaded" in await page.text(".answer .problem")
    failed = page.run
    answer_well(upstream)
    await page.press("Continue")
    await expect(page.tab.locator(".answer-text")).to_have_text("the whole answer")
    await page.finished()
    assert page.run != failed
    assert sorted(call.model for call in upstream.requests) == ["b", "last"]
    assert await page.card("a").locator(".state").inner_text() == "reused"


async def test_stop_cancels_every_call_and_the_run_can_continue(page: Window, upstream: Upstream) -> None:
    """Stop closes the calls in flight; finished proposals are reused when the run continues."""
    upstream.script("b", words("half of") + hang())
    await page.ask("Why?", "moa/trio")
    await expect(page.card("a").locator(".state")).to_have_text("done")
    await expect(page.card("c").locator(".state")).to_have_text("done")
    await expect(page.card("b").locator(".text")).to_have_text("half of")
    await page.tab.click("#stop")
    await page.finished()
    async with asyncio.timeout(PATIENCE):
        await upstream.calls("b")[0].disconnected.wait()
    assert await page.card("b").locator(".state").inner_text() == "stopped"
    assert await page.text(".answer .state") == "stopped"
    upstream.script("b", say("whole now"))
    await page.press("Continue")
    await expect(page.tab.locator(".answer-text")).to_have_text("the whole answer")
    assert [len(upstream.calls(name)) for name in ("a", "b", "c", "last")] == [1, 2, 1, 1]


async def test_a_refused_request_is_shown_beside_the_question(page: Window, upstream: Upstream) -> None:
    """The server's error message appears, and the question stays in the box, to be sent again."""
    page.expected.append("400")
    await page.tab.select_option("#mixture", "moa/trio")
    await page.tab.click("#change")
    await page.tab.fill("[aria-label='Model of layer 1, agent 2']", "elsewhere/gpt")
    await page.tab.press("[aria-label='Model of layer 1, agent 2']", "Tab")
    page.expected.append("404")
    await page.tab.fill("#question", "Why?")
    await page.tab.press("#question", "Enter")
    await expect(page.tab.locator("#problem")).to_contain_text("elsewhere/gpt")
    assert await page.tab.input_value("#question") == "Why?"
    assert upstream.requests == []


async def test_a_restarted_server_is_found_again(
    browser: Browser, upstream: Upstream, config: str, tmp_path: Path
) -> None:
    """The page reports the outage and retries; an interrupted run shows its finished part, and continues from there."""
    upstream.script("b", words("half of") + hang())
    async with Served(tmp_path, config=config) as first:
        port = first.origin.rsplit(":", 1)[1]
        async with window(browser, first.origin) as page:
            page.expected.append("ERR_")
            await page.ask("Why?", "moa/trio")
            await expect(page.card("b").locator(".text")).to_have_text("half of")
            await until_stored(first, page.run, {"a": "proposal a", "b": "half of", "c": "proposal c"})
            await first.stop(signal.SIGKILL)
            await expect(page.tab.locator("#problem")).to_have_text("The server cannot be reached. Retrying.")
            async with Served(tmp_path, "--port", port, config=config):
                await expect(page.tab.locator(".answer .state")).to_have_text("broken off")
                await expect(page.tab.locator("#problem")).to_be_hidden()
                await expect(page.tab.locator("#status")).to_have_text("The run was broken off.")
                await page.finished()
                assert await page.texts(".card .text") == ["proposal a", "half of", "proposal c"]
                upstream.script("b", say("proposal b"))
                await page.press("Continue")
                await expect(page.tab.locator(".answer-text")).to_have_text("the whole answer")
                assert await page.card("a").locator(".state").inner_text() == "reused"


async def test_a_question_to_an_unreachable_server_stays(
    browser: Browser, upstream: Upstream, config: str, tmp_path: Path
) -> None:
    """Every button reports that the server is unreachable, and the question stays in the box."""
    async with Served(tmp_path, "--grace", "1", config=config) as served, window(browser, served.origin) as page:
        page.expected.append("ERR_")
        await page.ask("Why?", "moa/trio")
        await page.finished()
        await served.stop()
        await page.press("Run again")
        await expect(page.tab.locator("#problem")).to_have_text("The server cannot be reached.")
        await page.tab.fill("#question", "And then?")
        await page.tab.press("#question", "Enter")
        await expect(page.tab.locator("#problem")).to_have_text("The server cannot be reached.")
        assert await page.tab.input_value("#question") == "And then?"
        assert await page.tab.locator("#send").is_visible()


async def test_a_question_waits_for_a_busy_server(
    browser: Browser, upstream: Upstream, config: str, tmp_path: Path
) -> None:
    """A queued question can be taken back; if the queue is full, the server's error is shown."""
    upstream.script("last", hang())
    async with (
        Served(tmp_path, "--max-runs", "1", "--max-queue", "1", config=config) as served,
        window(browser, served.origin) as page,
        window(browser, served.origin) as other,
    ):
        await other.ask("First?", "moa/trio")
        await page.tab.fill("#question", "Second?")
        await page.tab.press("#question", "Enter")
        await expect(page.tab.locator("#stop")).to_be_visible()
        await until_queued(served, 1)
        async with window(browser, served.origin) as third:
            third.expected.append("429")
            await third.tab.fill("#question", "Third?")
            await third.tab.press("#question", "Enter")
            await expect(third.tab.locator("#problem")).to_contain_text("busy")
            assert await third.tab.input_value("#question") == "Third?"
        await page.tab.click("#stop")
        await expect(page.tab.locator("#send")).to_be_visible()
        assert await page.tab.input_value("#question") == "Second?"
        assert await page.tab.locator(".turn").count() == 0
        await other.tab.click("#stop")
        await other.finished()


async def test_an_address_without_a_run_shows_an_error(page: Window) -> None:
    """An unknown run, alone or in a comparison, or an invalid run ID shows an error and the page's beginning."""
    page.expected.append("404")
    await page.ask("Why?", "moa/trio")
    await page.finished()
    run, missing = page.run, "0" * 32
    for address in (f"#/runs/{missing}", "#/runs/nonsense", f"#/compare/{run}/{missing}", "#/runs/.."):
        wrong = address.rsplit("/", 1)[-1]
        await page.tab.evaluate("address => location.hash = address", f"#/runs/{run}")
        await page.finished()
        await page.tab.evaluate("address => location.hash = address", address)
        await expect(page.tab.locator("#problem")).to_contain_text(f"'{wrong}'")
        await expect(page.tab.locator(".idle-stage")).to_be_visible()
        assert await page.tab.locator(".turn, .side").count() == 0


async def test_a_run_deleted_elsewhere_cannot_continue(page: Window, upstream: Upstream) -> None:
    """What is drawn stays; continuing the run shows an error, and deleting it again is no error."""
    page.expected.append("404")
    upstream.script("last", refuse(500, "out of memory"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    await delete_run(page)
    await page.press("Continue")
    await expect(page.tab.locator("#problem")).to_contain_text(page.run)
    assert await page.texts(".card .text") == ["proposal a", "proposal b", "proposal c"]
    await page.press("Delete")
    await page.press("Delete permanently")
    await expect(page.tab.locator(".idle-stage")).to_be_visible()
    await expect(page.tab.locator("#problem")).to_be_hidden()


async def test_a_run_deleted_in_progress_ends_here_too(page: Window, upstream: Upstream) -> None:
    """The page shows that the run is gone, keeps what was drawn, and accepts another question."""
    page.expected.append("404")
    upstream.script("last", words("half of") + hang())
    await page.ask("Why?", "moa/trio")
    await expect(page.tab.locator(".answer-text")).to_have_text("half of")
    deleted = asyncio.Event()

    async def wait(route: Route) -> None:
        await deleted.wait()  # else the page may read the stopped run before the server has deleted it
        await route.continue_()

    await page.tab.route(re.compile(r"/runs/[0-9a-f]{32}$"), wait)
    await delete_run(page)
    deleted.set()
    await expect(page.tab.locator("#problem")).to_contain_text(page.run)
    assert await page.text(".answer-text") == "half of"
    assert await page.tab.locator("#send").is_visible()
