"""Asking on the page: what it shows of a run, its agents and its answer."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.fakes.browser import Window, expect, needs_browser, window
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, call_tool, chunk, done, drop, finish, say, think, until, usage, words

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.anyio, needs_browser]


async def test_a_question_is_answered_and_every_layer_is_shown(page: Window) -> None:
    """Enter asks; each proposal appears in a card with its model and figures, beside the answer and the run's cost."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.texts(".card h4") == ["a", "b", "c"]
    assert await page.texts(".card .model") == ["up/a", "up/b", "up/c"]
    assert await page.texts(".card .text") == ["proposal a", "proposal b", "proposal c"]
    assert await page.text(".answer-text") == "the whole answer"
    assert "5 tokens" in await page.text(".card .figures")
    assert re.fullmatch(
        r"4 calls · 60 tokens · \$[\d.]+ · first token .* s total · barrier", await page.text(".totals")
    )
    assert await page.tab.locator(".timeline li").count() == 4


async def test_cards_fill_while_agents_write(page: Window, upstream: Upstream) -> None:
    """A proposal is readable while its agent writes, while another agent waits and the answer has not begun."""
    gate = asyncio.Event()
    upstream.script("a", words("the first half") + until(gate) + words(" and the second") + finish() + usage() + done())
    upstream.script("b", until(gate) + say("late"))
    await page.ask("Why?", "moa/trio")
    await expect(page.card("a").locator(".text")).to_have_text("the first half")
    await expect(page.card("a").locator(".state")).to_have_text("writing")
    await expect(page.card("b").locator(".state")).to_have_text("reading")
    await expect(page.card("c").locator(".state")).to_have_text("done")
    await expect(page.tab.locator(".answer .state")).to_have_text("waiting for 2 proposals")
    assert await page.tab.locator("#stop").is_visible()
    gate.set()
    await page.finished()
    assert await page.card("a").locator(".text").inner_text() == "the first half and the second"
    assert await page.tab.locator("#send").is_visible()


async def test_reasoning_is_shown_until_there_is_text(page: Window, upstream: Upstream) -> None:
    """A card shows reasoning until there is text; above the answer, reasoning is folded."""
    gate = asyncio.Event()
    upstream.script("a", chunk({"reasoning_content": "let me see"}) + until(gate) + say("seen"))
    upstream.script("last", think("weighing them", "the whole answer"))
    await page.ask("Why?", "moa/trio")
    await expect(page.card("a").locator(".state")).to_have_text("thinking")
    await expect(page.card("a").locator(".text")).to_have_text("let me see")
    gate.set()
    await page.finished()
    await page.tab.click(".thinking:not(.analysis) summary")
    assert await page.text(".thinking:not(.analysis) p") == "weighing them"


async def test_shift_enter_starts_a_line_and_enter_sends(page: Window, upstream: Upstream) -> None:
    """As in every chat; an empty question is not sent."""
    await page.tab.press("#question", "Enter")
    await page.tab.type("#question", "one")
    await page.tab.press("#question", "Shift+Enter")
    await page.tab.type("#question", "two")
    assert await page.tab.locator(".turn").count() == 0
    await page.tab.press("#question", "Enter")
    await page.tab.wait_for_selector(".turn")
    await page.finished()
    assert upstream.requests[0].prompt == "one\ntwo"
    assert await page.tab.input_value("#question") == ""


async def test_a_second_question_continues_the_conversation(page: Window, upstream: Upstream) -> None:
    """The earlier question and answer are sent along; the earlier turn folds, and unfolds again."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    await page.ask("And then?")
    await page.finished()
    messages = upstream.calls("a")[-1].body["messages"]
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "Why?"),
        ("assistant", "the whole answer"),
        ("user", "And then?"),
    ]
    first = page.tab.locator(".turn").first
    assert not await first.locator(".card").first.is_visible()
    await first.get_by_role("button", name="Layers").click()
    assert await first.locator(".card").first.is_visible()


async def test_the_answer_can_be_copied(browser: Browser, served: Served, upstream: Upstream) -> None:
    """The button copies the answer's source, not its rendered text."""
    upstream.script("last", say("**bold** words"))
    async with window(browser, served.origin, permissions=["clipboard-read", "clipboard-write"]) as page:
        await page.ask("Why?", "moa/trio")
        await page.finished()
        await page.press("Copy answer")
        await expect(page.tab.get_by_role("button", name="Copied")).to_be_visible()
        assert await page.tab.evaluate("navigator.clipboard.readText()") == "**bold** words"
        assert await page.tab.locator(".answer-text strong").inner_text() == "bold"


async def test_a_selected_proposal_names_its_agent(page: Window, upstream: Upstream) -> None:
    """If the answer is a proposal word for word, the page names its agent and the reason."""
    await page.ask("Why?", "moa/central")
    await page.finished()
    assert "proposal, word for word: most like the other proposals" in await page.text(".answer .model")
    upstream.script("last", say("2"))
    await page.tab.click("#new")
    await page.ask("Why?", "moa/picked")
    await page.finished()
    assert (await page.text(".answer .model")).startswith("b’s proposal, word for word: chosen by")
    assert await page.text(".answer-text") == "proposal b"


async def test_a_single_model_answers_alone(page: Window) -> None:
    """A single model is chosen like a mixture; there are no layers, and nothing to compare its answer with."""
    await page.ask("Why?", "up/a")
    await page.finished()
    assert await page.text(".answer-text") == "proposal a"
    assert await page.tab.locator(".card").count() == 0
    assert not await page.tab.locator(".resemblance").is_visible()


async def test_an_early_agreement_is_the_answer(page: Window, upstream: Upstream) -> None:
    """Agents behind the layer that agreed are marked as not called; no line leads from them to the answer."""
    upstream.script("b", say("proposal a"))
    await page.ask("Why?", "moa/agreed")
    await page.finished()
    assert await page.card("a", 2).locator(".state").inner_text() == "not called"
    assert "word for word: the proposals agree" in await page.text(".answer .model")
    assert await page.tab.locator(".lines .reads").count() == 0


async def test_a_fallbacks_answer_replaces_the_failed_one(page: Window, upstream: Upstream) -> None:
    """During the run and after it, only the fallback's text is shown, and a line says which agent failed, and how."""
    alike = "Both begin with the very same words, which is more than sixty-four characters of them. "
    gate = asyncio.Event()
    upstream.script("last", words(f"{alike}\n\nNever to be read. ") + chunk({}) + drop())
    upstream.script("spare", words(f"{alike}\n\nThis is the one, and it is longer. ") + until(gate) + say("End."))
    await page.ask("Why?", "moa/safe")
    await expect(page.tab.locator(".answer-text")).to_contain_text("This is the one")
    assert "Never" not in await page.text(".answer-text")
    gate.set()
    await page.finished()
    assert "Never" not in await page.text(".answer-text")
    assert await page.text(".answer .model") == "spare · up/spare"
    assert (await page.text(".notices .degrades")).startswith("last failed, so spare answers instead:")
    rows = page.tab.locator(".timeline li")
    assert [await row.get_attribute("data-state") for row in await rows.all()] == ["done", "failed", "done"]


async def test_a_failed_agents_partial_tool_call_is_not_shown(page: Window, served: Served, upstream: Upstream) -> None:
    """A fallback's tool call is shown alone."""
    piece = {"index": 0, "id": "c", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Os'}}
    upstream.script("last", chunk({"tool_calls": [piece]}) + drop())
    upstream.script("spare", call_tool("look_up", {"city": "Bergen"}))
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    body = {"model": "moa/safe", "messages": [{"role": "user", "content": "Weather?"}], "tools": [tool]}
    async with aiohttp.ClientSession() as http, http.post(f"{served.origin}/runs", json=body) as response:
        run = (await response.json())["run"]
    await page.tab.goto(f"{served.origin}/#/runs/{run}")
    await page.finished()
    assert await page.text(".tools") == 'look_up({"city": "Bergen"})'
