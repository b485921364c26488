from __future__ import annotations

import asyncio
import json
import re
import signal
import tomllib
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from moa import Config
from moa.server.keys import Keys
from tests.fakes.browser import Window, browsing, needs_browser, window
from tests.fakes.serving import CONFIG, Served, answer_well
from tests.fakes.upstream import (
    Upstream,
    call_tool,
    chunk,
    done,
    drop,
    finish,
    hang,
    refuse,
    say,
    think,
    until,
    usage,
    words,
)

pytestmark = [pytest.mark.anyio, needs_browser]

WIDE = """
[mixtures.deep]
layers = [["up/a", "up/b", "up/c"], ["up/a", "up/b", "up/c"], ["up/a", "up/b", "up/c"], ["up/a", "up/b", "up/c"]]
aggregator = "up/last"

[mixtures.picked]
layers = [["up/a", "up/b"]]
aggregate = "select"
aggregator = "up/last"

[mixtures.agreed]
layers = [["up/a", "up/b"], ["up/a", "up/b"]]
aggregator = "up/last"
schedule = { kind = "barrier", early_exit = 0.9 }
"""

SKY = "The sky is blue because air scatters short waves far more than long ones."
SUNSET = "Sunsets are red because evening light crosses forty times as much air."
MILK = "Try it with a drop of milk in a glass of water beside any lamp."


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as running:
        yield running


@pytest.fixture(scope="module")
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
async def served(up: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    config = CONFIG.format(base_url=up.base_url) + WIDE
    async with Served(tmp_path_factory.mktemp("page"), config=config) as server:
        yield server


@pytest.fixture
def upstream(up: Upstream) -> Upstream:
    """Every model answers, and nothing was asked yet."""
    answer_well(up)
    return up


@pytest.fixture
async def page(browser: Browser, served: Served, upstream: Upstream) -> AsyncIterator[Window]:
    async with window(browser, served.origin) as opened:
        yield opened


def card(page: Window, agent: str, layer: int = 1) -> Any:
    return page.page.locator(f"article.card[aria-label='{agent}, layer {layer}']")


# -- asking ------------------------------------------------------------------------------------------------------------


async def test_a_question_is_answered_and_every_layer_is_seen(page: Window) -> None:
    """Enter asks; each proposal stands in a card with its model and figures, the answer beside them, and what it cost."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.texts(".card h4") == ["a", "b", "c"]
    assert await page.texts(".card .model") == ["up/a", "up/b", "up/c"]
    assert await page.texts(".card .text") == ["proposal a", "proposal b", "proposal c"]
    assert await page.text(".answer-text") == "the whole answer"
    assert "5 tokens" in await page.text(".card .figures")
    assert re.fullmatch(
        r"4 calls · 60 tokens · \$[\d.]+ · first token .* s in all · barrier", await page.text(".totals")
    )
    assert await page.page.locator(".timeline li").count() == 4


async def test_cards_fill_while_upstreams_still_write(page: Window, upstream: Upstream) -> None:
    """A proposal is read as it is written, while another agent waits and the answer has not begun."""
    gate = asyncio.Event()
    upstream.script("a", words("the first half") + until(gate) + words(" and the second") + finish() + usage() + done())
    upstream.script("b", until(gate) + say("late"))
    await page.ask("Why?", "moa/trio")
    await expect(card(page, "a").locator(".text")).to_have_text("the first half")
    await expect(card(page, "a").locator(".state")).to_have_text("writing")
    await expect(card(page, "b").locator(".state")).to_have_text("reading")
    await expect(card(page, "c").locator(".state")).to_have_text("done")
    await expect(page.page.locator(".answer .state")).to_have_text("waits for 2 proposals")
    assert await page.page.locator("#stop").is_visible()
    gate.set()
    await page.finished()
    assert await card(page, "a").locator(".text").inner_text() == "the first half and the second"
    assert await page.page.locator("#send").is_visible()


async def test_a_thinking_model_is_seen_to_think(page: Window, upstream: Upstream) -> None:
    """Thinking stands in a card until there is text, and folded above the answer."""
    gate = asyncio.Event()
    upstream.script("a", chunk({"reasoning_content": "let me see"}) + until(gate) + say("seen"))
    upstream.script("last", think("weighing them", "the whole answer"))
    await page.ask("Why?", "moa/trio")
    await expect(card(page, "a").locator(".state")).to_have_text("thinking")
    await expect(card(page, "a").locator(".text")).to_have_text("let me see")
    gate.set()
    await page.finished()
    await page.page.click(".thinking summary")
    assert await page.text(".thinking p") == "weighing them"


async def test_shift_enter_starts_a_line_and_enter_sends(page: Window, upstream: Upstream) -> None:
    """As in every chat; an empty question is not sent."""
    await page.page.press("#question", "Enter")
    await page.page.type("#question", "one")
    await page.page.press("#question", "Shift+Enter")
    await page.page.type("#question", "two")
    assert await page.page.locator(".turn").count() == 0
    await page.page.press("#question", "Enter")
    await page.page.wait_for_selector(".turn")
    await page.finished()
    assert upstream.requests[0].prompt == "one\ntwo"
    assert await page.page.input_value("#question") == ""


async def test_a_second_question_goes_on_with_the_conversation(page: Window, upstream: Upstream) -> None:
    """What was asked and answered before is sent along; the earlier turn folds, and unfolds again."""
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
    first = page.page.locator(".turn").first
    assert not await first.locator(".card").first.is_visible()
    await first.get_by_role("button", name="Layers").click()
    assert await first.locator(".card").first.is_visible()


async def test_the_answer_can_be_copied(browser: Browser, served: Served, upstream: Upstream) -> None:
    """The button puts its source, not its looks, into the clipboard."""
    upstream.script("last", say("**bold** words"))
    async with window(browser, served.origin, permissions=["clipboard-read", "clipboard-write"]) as page:
        await page.ask("Why?", "moa/trio")
        await page.finished()
        await page.page.get_by_role("button", name="Copy answer").click()
        await expect(page.page.get_by_role("button", name="Copied")).to_be_visible()
        assert await page.page.evaluate("navigator.clipboard.readText()") == "**bold** words"
        assert await page.page.locator(".answer-text strong").inner_text() == "bold"


async def test_a_chosen_proposal_says_whose_it_is(page: Window, upstream: Upstream) -> None:
    """Where the answer is a proposal, word for word, the page says so; a ranker stands in the timeline."""
    await page.ask("Why?", "moa/central")
    await page.finished()
    assert "proposal, word for word: most like the other proposals" in await page.text(".answer .model")
    upstream.script("last", say("2"))
    await page.page.click("#new")
    await page.ask("Why?", "moa/picked")
    await page.finished()
    assert (await page.text(".answer .model")).startswith("b’s proposal, word for word: chosen by")
    assert await page.text(".answer-text") == "proposal b"


async def test_a_single_model_answers_alone(page: Window) -> None:
    """A single model is chosen like a mixture; there are no layers, and nothing to compare its answer with."""
    await page.ask("Why?", "up/a")
    await page.finished()
    assert await page.text(".answer-text") == "proposal a"
    assert await page.page.locator(".card").count() == 0
    assert not await page.page.locator(".resemblance").is_visible()


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_an_agent_that_fails_says_why_and_the_answer_comes(page: Window, upstream: Upstream) -> None:
    """Its card is marked and has the reason; the answer is made of the others."""
    upstream.script("b", refuse(500, "out of memory"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await card(page, "b").get_attribute("data-state") == "failed"
    assert "out of memory" in await card(page, "b").locator(".why").inner_text()
    assert await page.text(".answer-text") == "the whole answer"


async def test_a_run_that_fails_keeps_its_proposals_and_goes_on_from_them(page: Window, upstream: Upstream) -> None:
    """Without an answer the page has the causes, the proposals, and a button that asks only who has not answered."""
    upstream.script("b", refuse(500, "out of memory"))
    upstream.script("last", refuse(503, "overloaded"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.text(".answer .state") == "no answer"
    assert "overloaded" in await page.text(".answer .problem")
    failed = page.run
    answer_well(upstream)
    await page.page.get_by_role("button", name="Continue").click()
    await expect(page.page.locator(".answer-text")).to_have_text("the whole answer")
    await page.finished()
    assert page.run != failed
    assert sorted(call.model for call in upstream.requests) == ["b", "last"]
    assert await card(page, "a").locator(".state").inner_text() == "kept from before"


async def test_stop_ends_every_call_and_the_run_can_go_on(page: Window, upstream: Upstream) -> None:
    """Stop closes what is under way; what was finished is kept, and not asked for again."""
    upstream.script("b", words("half of") + hang())
    await page.ask("Why?", "moa/trio")
    await expect(card(page, "a").locator(".state")).to_have_text("done")
    await expect(card(page, "c").locator(".state")).to_have_text("done")
    await expect(card(page, "b").locator(".text")).to_have_text("half of")
    await page.page.click("#stop")
    await page.finished()
    async with asyncio.timeout(5):
        await upstream.calls("b")[0].disconnected.wait()
    assert await card(page, "b").locator(".state").inner_text() == "stopped"
    assert await page.text(".answer .state") == "stopped"
    upstream.script("b", say("whole now"))
    await page.page.get_by_role("button", name="Continue").click()
    await expect(page.page.locator(".answer-text")).to_have_text("the whole answer")
    assert [len(upstream.calls(name)) for name in ("a", "b", "c", "last")] == [1, 2, 1, 1]


async def test_a_refusal_is_said_where_the_question_is(page: Window, upstream: Upstream) -> None:
    """What the server refuses is told in its words, and the question is still there to be sent again."""
    page.expected.append("400")
    await page.page.select_option("#mixture", "moa/trio")
    await page.page.click("#change")
    await page.page.fill("[aria-label='Model of layer 1, agent 2']", "elsewhere/gpt")
    await page.page.press("[aria-label='Model of layer 1, agent 2']", "Tab")
    page.expected.append("404")
    await page.page.fill("#question", "Why?")
    await page.page.press("#question", "Enter")
    await expect(page.page.locator("#problem")).to_contain_text("elsewhere/gpt")
    assert await page.page.input_value("#question") == "Why?"
    assert upstream.requests == []


HOSTILE = {
    "script": "<script>window.bad = 1</script><img src=x onerror='window.bad = 2'><svg onload='window.bad = 3'>",
    "link": "[click](javascript:window.bad=4) [data](data:text/html,<script>window.bad=5</script>) ![p](http://127.0.0.1:9/p.png)",
    "broken": "**bold [link]( `code ``` \n# \n| a | b\n|--\n> > > x\n- \n  - *_~~`\n\n```\nnever closed",
    "rtl": "שלום עולם. זה **מודגש**.\n\n- פריט ראשון",
    "huge": "x" * 1_000_000,
    "control": "a\u202eevil\u2066 \x00 \x1b[31m \ud83d\ude00 👩‍👩‍👧 \u0301" + "\u0300" * 200,
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_text_is_only_text(page: Window, upstream: Upstream, kind: str) -> None:
    """Whatever a model writes stands there as words: nothing runs, nothing is fetched, nothing breaks the page's width."""
    text = HOSTILE[kind]
    upstream.script("a", chunk({"content": text}) + finish() + usage() + done())
    upstream.script("last", chunk({"content": text}) + finish() + usage() + done())
    await page.ask("Why?", "moa/trio")
    await page.page.wait_for_selector(".actions button", timeout=60_000)
    assert await page.page.evaluate("window.bad") is None
    assert await page.page.locator("main script, main img, main svg:not(.lines), main iframe, main style").count() == 0
    for link in await page.page.locator("main .prose a").all():
        assert re.match(r"(https?|mailto):", await link.get_attribute("href") or "")
    assert await page.wider_than_the_window() == 0
    shown = await page.page.locator(".answer-text").evaluate("node => node.textContent")
    if kind == "script":
        assert shown == text
    if kind == "huge":
        assert len(shown) == 1_000_000
    if kind == "rtl":
        paragraph = page.page.locator(".answer-text p").first
        assert await paragraph.evaluate("node => getComputedStyle(node).direction") == "rtl"


MARKDOWN = {
    "Roses are red  \nViolets are blue\\\nSo are you": "<p>Roses are red  \nViolets are blue\nSo are you</p>",
    "***both*** **a *b*** 2 * 3 a_b_c": "<p><strong><em>both</em></strong> <strong>a <em>b</em></strong> 2 * 3 a_b_c</p>",
    "[1] says [this](https://x.org/a_(b))": '<p>[1] says <a href="https://x.org/a_(b)">this</a></p>',
    "[](https://x.org) (https://x.org/a_(b)).": (
        '<p><a href="https://x.org/">https://x.org</a> (<a href="https://x.org/a_(b)">https://x.org/a_(b)</a>).</p>'
    ),
    "See:\n| a | b |\n|---|--:|\n| x<br>y | 2 |": (
        "<p>See:</p><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>x<br>y</td><td>2</td></tr></tbody></table>"
    ),
    "-\tone\n\t- inner\n-\ttwo": "<ul><li>one<ul><li>inner</li></ul></li><li>two</li></ul>",
    "1. one\n    ```js\n    let x\n      y\n    ```\n2. two": (
        "<ol><li><p>one</p><pre><code>let x\n  y</code></pre></li><li>two</li></ol>"
    ),
    "```code``` is *inline*": "<p><code>code</code> is <em>inline</em></p>",
    "\\(a_i * b * c\\) or $x_1*y*z$, for $5 and $6": (
        "<p><span>\\(a_i * b * c\\)</span> or <span>$x_1*y*z$</span>, for $5 and $6</p>"
    ),
    "So\n\\[\nx = a\n- b\n\\]": "<p>So</p><pre><code>\\[\nx = a\n- b\n\\]</code></pre>",
    "&lt;b&gt; <details>": "<p>&amp;lt;b&amp;gt; &lt;details&gt;</p>",
    "# Title\r\n\r\none\r\n- two\r\n\r\n```\r\nx\r\n```": (
        "<h4>Title</h4><p>one</p><ul><li>two</li></ul><pre><code>x</code></pre>"
    ),
}


async def test_markdown_is_read_as_its_writers_mean_it(page: Window, upstream: Upstream) -> None:
    """Lines stay lines; stars, links, tables, tabs, fences, TeX and CRLF come out as what they stand for."""
    answer = "\n\n---\n\n".join(MARKDOWN)
    upstream.script("a", chunk({"content": answer}) + finish() + usage() + done())
    await page.ask("Why?", "up/a")
    await page.finished()
    drawn = await page.page.locator(".answer-text").evaluate(
        """node => [...node.querySelectorAll("*")].reduce((all, each) => {
            for (const name of each.getAttributeNames()) if (name !== "href") each.removeAttribute(name);
            return all;
        }, node).innerHTML.replace(/<\\/?div>/g, "")"""
    )
    assert drawn.split("<hr>") == list(MARKDOWN.values())


async def test_passages_are_found_in_text_with_other_line_ends(page: Window, upstream: Upstream) -> None:
    """CRLF, tabs and escapes before a passage do not shift what lights up."""
    source = f"# Head\r\n\r\n-\tOne\\! two<br>three \\(x_1\\)\r\n-\t{SKY}\r\n"
    upstream.script("a", chunk({"content": source}) + finish() + usage() + done())
    upstream.script("last", chunk({"content": f"Look:\r\n\r\n\t{SKY}"}) + finish() + usage() + done())
    await page.ask("Why?", "moa/trio")
    await page.finished()
    await page.page.hover(".sentence >> text=short waves")
    assert await page.text(".sentence.lit") == SKY
    lit = "[...CSS.highlights.values()].flatMap(each => [...each]).map(String).join('')"
    assert await page.page.evaluate(lit) == SKY


async def test_a_mixture_wide_and_deep_fits_the_window(browser: Browser, served: Served, upstream: Upstream) -> None:
    """Twelve agents in four layers stand side by side on a wide screen, and below each other on a phone."""
    async with window(browser, served.origin, size=(1440, 900)) as page:
        await page.ask("Why?", "moa/deep")
        await page.finished()
        assert await page.page.locator(".card").count() == 12
        boxes = [await each.bounding_box() for each in await page.page.locator(".layers .layer").all()]
        lefts = [box["x"] for box in boxes if box]
        assert lefts == sorted(set(lefts))
        assert len(lefts) == 4
        assert await page.page.locator(".lines path").count() == 3 * 9 + 3
        assert await page.wider_than_the_window() == 0
        run = page.run
    async with window(browser, served.origin, f"/#/runs/{run}", size=(390, 844), has_touch=True) as page:
        await page.finished()
        assert await page.page.locator(".card").count() == 12
        tops = [box["y"] for each in await page.page.locator(".card").all() if (box := await each.bounding_box())]
        assert tops == sorted(tops)
        assert await page.wider_than_the_window() == 0


async def test_a_phone_can_ask_and_reach_the_answer(browser: Browser, served: Served, upstream: Upstream) -> None:
    """On a small window the question box is there, the answer is one tap away, and a tapped sentence tells its share."""
    upstream.script("a", say(SKY))
    upstream.script("b", say("One line.\n\n" * 30))
    upstream.script("last", say(SKY))
    async with window(browser, served.origin, size=(390, 500), has_touch=True, is_mobile=True) as page:
        await page.ask("Why?", "moa/trio")
        await page.finished()
        await page.page.tap("#to-answer")
        await expect(page.page.locator(".answer h3")).to_be_in_viewport()
        await page.page.tap(".sentence")
        await expect(page.page.locator(".pointed ul")).to_be_in_viewport()
        assert "a 100 % of the sentence" in await page.text(".pointed")
        assert await page.wider_than_the_window() == 0


# -- a server in trouble -----------------------------------------------------------------------------------------------


async def test_a_server_that_comes_back_is_found_again(browser: Browser, up: Upstream, tmp_path: Path) -> None:
    """While it is gone the page says so; a run that broke off with it shows what there is of it, and goes on from there."""
    answer_well(up)
    up.script("b", words("half of") + hang())
    config = CONFIG.format(base_url=up.base_url)
    async with Served(tmp_path, config=config) as first:
        port = first.origin.rsplit(":", 1)[1]
        async with window(browser, first.origin) as page:
            page.expected.append("ERR_")
            await page.ask("Why?", "moa/trio")
            await expect(card(page, "b").locator(".text")).to_have_text("half of")
            await asyncio.sleep(1.5)  # what a server writes down, it writes within a second
            await first.stop(signal.SIGKILL)
            await expect(page.page.locator("#problem")).to_have_text("The server cannot be reached. Trying again.")
            async with Served(tmp_path, "--port", port, config=config):
                await expect(page.page.locator(".answer .state")).to_have_text("broken off")
                await expect(page.page.locator("#problem")).to_be_hidden()
                assert await page.text("#status") == "The run was broken off."
                assert await page.texts(".card .text") == ["proposal a", "half of", "proposal c"]
                up.script("b", say("proposal b"))
                await page.page.get_by_role("button", name="Continue").click()
                await expect(page.page.locator(".answer-text")).to_have_text("the whole answer")
                assert await card(page, "a").locator(".state").inner_text() == "kept from before"


async def test_a_question_to_a_server_that_is_gone_stays(browser: Browser, up: Upstream, tmp_path: Path) -> None:
    """What cannot be asked is told, whichever button asked it; the question is still in the box."""
    answer_well(up)
    config = CONFIG.format(base_url=up.base_url)
    async with Served(tmp_path, config=config) as served, window(browser, served.origin) as page:
        page.expected.append("ERR_")
        await page.ask("Why?", "moa/trio")
        await page.finished()
        await served.stop()
        await page.page.get_by_role("button", name="Run again", exact=True).click()
        await expect(page.page.locator("#problem")).to_have_text("The server cannot be reached.")
        await page.page.fill("#question", "And then?")
        await page.page.press("#question", "Enter")
        await expect(page.page.locator("#problem")).to_have_text("The server cannot be reached.")
        assert await page.page.input_value("#question") == "And then?"
        assert await page.page.locator("#send").is_visible()


async def test_a_busy_server_is_waited_for_or_told_of(browser: Browser, up: Upstream, tmp_path: Path) -> None:
    """A question that waits for a place can be taken back; where there is no room to wait, the server's words are told."""
    answer_well(up)
    up.script("last", hang())
    config = CONFIG.format(base_url=up.base_url)
    async with (
        Served(tmp_path, "--max-runs", "1", "--max-queue", "1", config=config) as served,
        window(browser, served.origin) as page,
        window(browser, served.origin) as other,
    ):
        page.expected.append("429")
        await other.ask("First?", "moa/trio")
        await page.page.fill("#question", "Second?")
        await page.page.press("#question", "Enter")
        await expect(page.page.locator("#stop")).to_be_visible()
        async with aiohttp.ClientSession() as http:
            body = {"model": "moa/trio", "messages": [{"role": "user", "content": "Third?"}]}
            async with asyncio.timeout(10):
                while True:
                    async with http.post(f"{served.origin}/runs", json=body) as response:
                        if response.status == 429:
                            break
        await page.page.click("#stop")
        await expect(page.page.locator("#send")).to_be_visible()
        assert await page.page.input_value("#question") == "Second?"
        assert await page.page.locator(".turn").count() == 0
        await other.page.click("#stop")
        await other.finished()


async def test_an_address_without_a_run_is_told_of(page: Window, served: Served) -> None:
    """A run that is not there, alone or in a comparison, and no run's name at all: words, and the page as it begins."""
    page.expected.append("404")
    await page.ask("Why?", "moa/trio")
    await page.finished()
    run, missing = page.run, "0" * 32
    for address in (f"#/runs/{missing}", "#/runs/nonsense", f"#/compare/{run}/{missing}", "#/runs/.."):
        await page.page.evaluate("address => location.hash = address", f"#/runs/{run}")
        await page.finished()
        await page.page.evaluate("address => location.hash = address", address)
        await expect(page.page.locator("#problem")).to_contain_text("o run is called")
        await expect(page.page.locator(".idle-stage")).to_be_visible()
        assert await page.page.locator(".turn, .side").count() == 0


async def test_a_run_deleted_elsewhere_is_told_of_and_left(browser: Browser, page: Window, upstream: Upstream) -> None:
    """What is drawn stays; going on from it is refused in words, and deleting it again is no error."""
    page.expected.append("404")
    upstream.script("last", refuse(500, "out of memory"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    async with aiohttp.ClientSession() as http, http.delete(f"{page.origin}/runs/{page.run}") as response:
        assert response.status == 204
    await page.page.get_by_role("button", name="Continue").click()
    await expect(page.page.locator("#problem")).to_contain_text("no run is called")
    assert await page.texts(".card .text") == ["proposal a", "proposal b", "proposal c"]
    await page.page.get_by_role("button", name="Delete").click()
    await page.page.get_by_role("button", name="Delete for good").click()
    await expect(page.page.locator(".idle-stage")).to_be_visible()
    await expect(page.page.locator("#problem")).to_be_hidden()


async def test_a_run_deleted_while_it_goes_on_ends_here_too(page: Window, upstream: Upstream) -> None:
    """The page says that it is gone, keeps what was drawn, and a further question can be asked."""
    page.expected.append("404")
    upstream.script("last", words("half of") + hang())
    await page.ask("Why?", "moa/trio")
    await expect(page.page.locator(".answer-text")).to_have_text("half of")
    async with aiohttp.ClientSession() as http, http.delete(f"{page.origin}/runs/{page.run}") as response:
        assert response.status == 204
    await expect(page.page.locator("#problem")).to_contain_text("no run is called")
    assert await page.text(".answer-text") == "half of"
    assert await page.page.locator("#send").is_visible()


# -- a run that goes on without the page ------------------------------------------------------------------------------


async def test_a_reload_picks_the_run_up_where_it_is(page: Window, upstream: Upstream) -> None:
    """The run goes on while the page is gone; what was said meanwhile is there, and nothing is asked twice."""
    gate, away = asyncio.Event(), asyncio.Event()
    upstream.script("a", words("before") + until(away) + words(" meanwhile") + until(gate) + say(" after"))
    await page.ask("Why?", "moa/trio")
    await expect(card(page, "a").locator(".text")).to_have_text("before")
    address = page.page.url
    await page.page.goto("about:blank")
    away.set()
    await page.page.goto(address)
    await expect(card(page, "a").locator(".text")).to_have_text("before meanwhile")
    gate.set()
    await page.finished()
    assert await card(page, "a").locator(".text").inner_text() == "before meanwhile after"
    assert len(upstream.requests) == 4


async def test_the_page_is_left_and_found_again_while_a_run_goes_on(page: Window, upstream: Upstream) -> None:
    """New clears the page and the run goes on; Back is the run again, drawn once; a question during it is not lost."""
    gate = asyncio.Event()
    upstream.script("last", words("the first") + until(gate) + say(" and the rest"))
    await page.ask("Why?", "moa/trio")
    await expect(page.page.locator(".answer-text")).to_have_text("the first")
    await page.page.fill("#question", "And then?")
    await page.page.press("#question", "Enter")
    await expect(page.page.locator("#problem")).to_contain_text("A run goes on here")
    await page.page.click("#new")
    assert await page.page.locator(".turn").count() == 0
    assert await page.page.locator("#send").is_visible()
    assert await page.page.input_value("#question") == "And then?"
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    await page.page.go_back()
    await expect(page.page.locator(".answer-text")).to_have_text("the first")
    gate.set()
    await page.finished()
    assert await page.text(".answer-text") == "the first and the rest"
    assert await page.page.locator(".turn").count() == 1
    assert [path for path in asked if path.endswith("/events")] == [f"/runs/{page.run}/events"]
    await page.page.go_back()
    await expect(page.page.locator(".idle-stage")).to_be_visible()
    await page.page.go_forward()
    await page.finished()
    assert len(upstream.requests) == 4


async def test_a_second_window_sees_the_same_run(browser: Browser, page: Window, upstream: Upstream) -> None:
    """Two windows draw the same run, at the same time."""
    gate = asyncio.Event()
    upstream.script("last", words("the first") + until(gate) + words(" and the rest") + finish() + usage() + done())
    await page.ask("Why?", "moa/trio")
    await expect(page.page.locator(".answer-text")).to_have_text("the first")
    async with window(browser, page.origin, f"/#/runs/{page.run}") as other:
        await expect(other.page.locator(".answer-text")).to_have_text("the first")
        gate.set()
        for each in (page, other):
            await each.finished()
            assert await each.text(".answer-text") == "the first and the rest"
        assert await other.text(".totals") == await page.text(".totals")


async def test_a_run_of_another_client_can_be_watched(page: Window, served: Served, upstream: Upstream) -> None:
    """What an SDK asks through the API is in the list, with its layers and its tool calls."""
    upstream.script("last", call_tool("look_up", {"city": "Oslo"}))
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    body = {"model": "moa/trio", "messages": [{"role": "user", "content": "Weather in Oslo?"}], "tools": [tool]}
    async with aiohttp.ClientSession() as http, http.post(f"{served.url}/chat/completions", json=body) as response:
        assert response.status == 200
    await page.page.click("#toggle-runs")
    await page.page.locator("#run-list a", has_text="Weather in Oslo?").click()
    await page.finished()
    assert await page.page.locator(".card").count() == 3
    assert await page.text(".tools") == 'look_up({"city": "Oslo"})'


async def test_a_fallbacks_answer_stands_for_the_one_that_broke_off(page: Window, upstream: Upstream) -> None:
    """While it is written as when it is whole: its words and tool calls alone, and a line that says who failed, and how."""
    alike = "Both begin with the very same words, which is more than sixty-four characters of them. "
    gate = asyncio.Event()
    upstream.script("last", words(f"{alike}\n\nNever to be read. ") + chunk({}) + drop())
    upstream.script("spare", words(f"{alike}\n\nThis is the one, and it is longer. ") + until(gate) + say("End."))
    await page.ask("Why?", "moa/safe")
    await expect(page.page.locator(".answer-text")).to_contain_text("This is the one")
    assert "Never" not in await page.text(".answer-text")
    gate.set()
    await page.finished()
    assert "Never" not in await page.text(".answer-text")
    assert await page.text(".answer .model") == "spare · up/spare"
    assert (await page.text(".notices .degrades")).startswith("last failed, and spare answers:")
    rows = page.page.locator(".timeline li")
    assert [await row.get_attribute("data-state") for row in await rows.all()] == ["done", "failed", "done"]


async def test_half_a_tool_call_of_who_failed_is_not_shown(page: Window, served: Served, upstream: Upstream) -> None:
    """A fallback's tool call stands alone."""
    piece = {"index": 0, "id": "c", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Os'}}
    upstream.script("last", chunk({"tool_calls": [piece]}) + drop())
    upstream.script("spare", call_tool("look_up", {"city": "Bergen"}))
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    body = {"model": "moa/safe", "messages": [{"role": "user", "content": "Weather?"}], "tools": [tool]}
    async with aiohttp.ClientSession() as http, http.post(f"{served.origin}/runs", json=body) as response:
        run = (await response.json())["run"]
    await page.page.goto(f"{served.origin}/#/runs/{run}")
    await page.finished()
    assert await page.text(".tools") == 'look_up({"city": "Bergen"})'


async def test_a_conversation_of_another_client_goes_on_as_it_was(
    page: Window, served: Served, upstream: Upstream
) -> None:
    """System words, pictures and tool calls of earlier messages are shown, and sent along with a further question."""
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
    await page.page.goto(f"{served.origin}/#/runs/{run}")
    await page.finished()
    assert await page.texts(".question") == ["Hello", "What is this?\n[image_url]"]
    assert await page.texts("details.earlier summary") == ["system", "tool"]
    assert await page.text(".turn .tools") == 'look({"at": "it"})'
    await page.ask("And now?")
    await page.finished()
    assert upstream.calls("a")[-1].body["messages"] == [
        *messages,
        {"role": "assistant", "content": "the whole answer"},
        {"role": "user", "content": "And now?"},
    ]
    await page.page.go_back()
    await expect(page.page.locator(".turn")).to_have_count(1)
    await page.finished()
    upstream.requests.clear()
    await page.page.get_by_role("button", name="Run again", exact=True).click()
    await expect(page.page.locator(".side .bar")).to_have_count(2)
    assert upstream.calls("last")[0].body["temperature"] == 0.3


async def test_the_second_of_two_answers_shows_the_proposals_it_had(
    page: Window, served: Served, upstream: Upstream
) -> None:
    """With n=2 each answer is a run; neither's proposals are missing, and only one paid for them."""
    body = {"model": "moa/trio", "messages": [{"role": "user", "content": "Two of them?"}], "n": 2}
    async with aiohttp.ClientSession() as http, http.post(f"{served.url}/chat/completions", json=body) as response:
        assert response.status == 200
    await page.page.click("#toggle-runs")
    await page.page.fill("#search", "Two of them?")
    await expect(page.page.locator("#run-list li")).to_have_count(2)
    calls = []
    for link in await page.page.locator("#run-list a").all():
        await link.click()
        await expect(link).to_have_attribute("aria-current", "page")
        await page.finished()
        assert await page.texts(".card .text") == ["proposal a", "proposal b", "proposal c"]
        calls.append((await page.text(".totals")).split(" · ")[0])
    assert sorted(calls) == ["1 call", "4 calls"]


async def test_what_agreed_early_is_the_answer(page: Window, upstream: Upstream) -> None:
    """Agents behind the layer that agreed say that they were not asked; the line to the answer is that of the one chosen."""
    upstream.script("b", say("proposal a"))
    await page.ask("Why?", "moa/agreed")
    await page.finished()
    assert await card(page, "a", 2).locator(".state").inner_text() == "not asked"
    assert "word for word: the proposals agree" in await page.text(".answer .model")
    assert await page.page.locator(".lines .reads").count() == 0


async def test_runs_beside_each_other_can_be_stopped(page: Window, upstream: Upstream) -> None:
    """Where a run goes on, Stop is there: in a comparison, too, and its state is told in its own column."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    upstream.script("last", words("half of") + hang())
    await page.page.get_by_role("button", name="Run again", exact=True).click()
    await expect(page.page.locator(".side .answer-text").nth(1)).to_have_text("half of")
    await page.page.click("#stop")
    await expect(page.page.locator(".side .state").nth(1)).to_have_text("stopped")
    assert await page.texts(".side .state") == ["done", "stopped"]
    await expect(page.page.locator("#send")).to_be_visible()


# -- where it came from ------------------------------------------------------------------------------------------------


@pytest.fixture
async def merged(page: Window, upstream: Upstream) -> Window:
    """A finished run whose answer has a sentence of one proposal, one of another, and a new one."""
    upstream.script("a", say(f"Here is why. {SKY}"))
    upstream.script("b", say(SUNSET))
    upstream.script("c", say("Nobody knows, and nobody ever will."))
    upstream.script("last", say(f"{SKY} {SUNSET} {MILK}"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    return page


async def test_the_bar_tells_each_agents_share(merged: Window) -> None:
    """Shares of the answer by agent, what is new, and who was ignored: in the bar, on the cards, and in words."""
    legend = " ".join((await merged.text(".legend")).split())
    shares = {name: int(share) for name, share in re.findall(r"(\w+) (\d+) %", legend)}
    assert 20 <= shares["a"] <= 45
    assert 20 <= shares["b"] <= 45
    assert 20 <= shares["new"] <= 45
    assert "ignored" in legend
    told = await merged.page.locator(".bar").get_attribute("aria-label")
    assert told == ", ".join(f"{name} {share} %" for name, share in shares.items())
    assert await card(merged, "c").locator(".share").inner_text() == "hardly anything of the answer"
    await merged.page.click(".resemblance summary")
    assert "resembles" in await merged.text(".resemblance details p")
    assert "caused" not in await merged.page.inner_text("main")


async def test_pointing_at_a_sentence_lights_what_it_resembles(merged: Window) -> None:
    """The passage lights up in its card, the card says its share, and a new sentence lights nothing."""
    lit = "[...(CSS.highlights ?? new Map()).values()].flatMap(each => [...each]).map(String).join('')"
    await merged.page.hover(".sentence[data-sentence='0']")
    assert await merged.page.evaluate(lit) == SKY
    assert await card(merged, "a").get_attribute("class") == "card agent-0 lit"
    assert await card(merged, "a").locator(".share").inner_text() == "100 % of this sentence"
    assert SKY in await merged.text(".pointed")
    await merged.page.hover(".sentence[data-sentence='1']")
    assert await merged.page.evaluate(lit) == SUNSET
    await merged.page.hover(".sentence[data-sentence='2']")
    assert await merged.page.evaluate(lit) == ""
    assert "it is new" in await merged.text(".pointed")
    await merged.page.hover("h1")
    assert await merged.page.locator(".lit").count() == 0


async def test_sentences_can_be_walked_with_the_keyboard(merged: Window) -> None:
    """Arrow keys go from sentence to sentence and tell each; Escape lets go."""
    await merged.page.focus(".answer-text")
    await merged.page.keyboard.press("ArrowRight")
    assert (await merged.text(".pointed")).startswith("Sentence 1 of 3 resembles")
    await merged.page.keyboard.press("ArrowRight")
    await merged.page.keyboard.press("ArrowDown")
    assert (await merged.text(".pointed")).startswith("Sentence 3 of 3")
    await merged.page.keyboard.press("ArrowRight")
    assert (await merged.text(".pointed")).startswith("Sentence 3 of 3")
    await merged.page.keyboard.press("ArrowLeft")
    assert "b 100 % of the sentence" in await merged.text(".pointed")
    await merged.page.keyboard.press("Escape")
    assert await merged.page.locator(".lit").count() == 0


async def test_sentences_are_found_behind_signs_outside_the_basic_plane(page: Window, upstream: Upstream) -> None:
    """Offsets count characters as people do: an emoji before a passage does not shift what lights up."""
    upstream.script("a", say(f"🌞🌅 First a sun. {SKY}"))
    upstream.script("last", say(f"👩‍🔬 Look at it this way! {SKY}"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    await page.page.hover(".sentence >> text=short waves")
    assert await page.text(".sentence.lit") == SKY
    lit = "[...CSS.highlights.values()].flatMap(each => [...each]).map(String).join('')"
    assert await page.page.evaluate(lit) == SKY


async def test_a_sentence_stays_lit_while_its_passage_is_read(merged: Window) -> None:
    """Clicked, it stays when the pointer and the cursor go to a card; Escape or a click beside it lets go."""
    await merged.page.click(".sentence[data-sentence='0']")
    await card(merged, "a").locator(".text").click()
    assert await merged.text(".sentence.lit") == SKY
    await merged.page.keyboard.press("Escape")
    assert await merged.page.locator(".lit").count() == 0
    await merged.page.click(".sentence[data-sentence='1']")
    await merged.page.click(".timeline figcaption")
    await merged.page.hover("h1")
    assert await merged.page.locator(".lit").count() == 0
    await merged.page.locator(".sentence[data-sentence='1']").select_text()
    await merged.page.dispatch_event(".sentence[data-sentence='1']", "click")
    await merged.page.hover("h1")
    assert await merged.page.locator(".lit").count() == 0


async def test_a_long_answer_is_drawn_and_pointed_at_quickly(page: Window, upstream: Upstream) -> None:
    """Twenty thousand words in two thousand sentences: it is there in seconds, and pointing takes a blink."""
    told = [f"In the year {1000 + n} the river rose by {n} hands and took {n * 7 % 977} sheep." for n in range(2000)]
    for place, agent in enumerate("abc"):
        upstream.script(agent, chunk({"content": "🌊 " + "\n\n".join(told[place::3])}) + finish() + usage() + done())
    upstream.script("last", chunk({"content": "🌊 " + "\n\n".join(told)}) + finish() + usage() + done())
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.page.locator(".sentence").count() >= 2000
    slowest = await page.page.evaluate(
        """Math.max(...[...document.querySelectorAll(".sentence")].slice(0, 50).map(each => {
            const began = performance.now();
            each.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
            document.body.getBoundingClientRect();
            return performance.now() - began;
        }))"""
    )
    assert slowest < 250


# -- kept runs ---------------------------------------------------------------------------------------------------------


async def test_runs_are_found_opened_and_deleted(page: Window, upstream: Upstream) -> None:
    """The list has every run, search narrows it, a run opens with its layers, and a deleted one is gone."""
    await page.ask("What of otters?", "moa/trio")
    await page.finished()
    await page.page.click("#new")
    await page.ask("What of herons?")
    await page.finished()
    await page.page.click("#toggle-runs")
    await expect(page.page.locator("#run-list a", has_text="What of herons?")).to_be_visible()
    await page.page.fill("#search", "OTTER")
    await expect(page.page.locator("#run-list li")).to_have_count(1)
    await page.page.locator("#run-list a").click()
    await expect(page.page.locator(".question")).to_have_text("What of otters?")
    await page.finished()
    assert await page.texts(".card .text") == ["proposal a", "proposal b", "proposal c"]
    await page.page.get_by_role("button", name="Delete").click()
    await page.page.get_by_role("button", name="Delete for good").click()
    await expect(page.page.locator("#run-list li")).to_have_count(0)
    assert await page.text("#runs-note") == "Nothing found."


async def test_a_run_can_be_taken_away_as_json(page: Window) -> None:
    """Export saves the record: question, calls with their texts, cost, attribution."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    async with page.page.expect_download() as download:
        await page.page.get_by_role("button", name="Export").click()
    saved = json.loads((await (await download.value).path()).read_text())
    assert saved["run"] == page.run
    assert [call["text"] for call in saved["calls"]] == ["proposal a", "proposal b", "proposal c", "the whole answer"]
    assert saved["attribution"]["layers"][0]["shares"].keys() == {"a", "b", "c"}


async def test_two_runs_stand_side_by_side(page: Window, upstream: Upstream) -> None:
    """Two ticked runs are compared: both answers, what each took, what each resembles."""
    await page.ask("Side by side?", "moa/trio")
    await page.finished()
    upstream.script("last", say("another answer"))
    await page.page.click("#new")
    await page.ask("Side by side?", "moa/own")
    await page.finished()
    await page.page.click("#toggle-runs")
    await page.page.fill("#search", "Side by side?")
    await expect(page.page.locator("#run-list li")).to_have_count(2)
    assert await page.page.is_disabled("#compare")
    for each in await page.page.locator("#run-list input").all():
        await each.check()
    await page.page.click("#compare")
    await expect(page.page.locator(".side .bar")).to_have_count(2)
    assert sorted(await page.texts(".side .answer-text")) == ["another answer", "the whole answer"]
    assert sorted(await page.texts(".side h3")) == ["moa/own", "moa/trio"]
    await page.page.locator(".side a").first.click()
    await page.finished()
    assert await page.page.locator(".card").count() in (2, 3)


# -- the mixture on the spot -------------------------------------------------------------------------------------------


async def test_a_mixture_is_changed_and_run_again_beside_the_answer(page: Window, upstream: Upstream) -> None:
    """One agent off, one hotter, another schedule: the question is asked anew, beside the old answer."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    upstream.requests.clear()
    upstream.script("last", say("a changed answer"))
    await page.page.click("#change")
    await page.page.uncheck("[aria-label='Ask layer 1, agent 2']")
    await page.page.fill("[aria-label='Temperature of layer 1, agent 1']", "0.3")
    await page.page.press("[aria-label='Temperature of layer 1, agent 1']", "Tab")
    await page.page.get_by_label("Schedule").select_option("quorum")
    await page.page.get_by_label("Proposals to wait for").fill("1")
    await page.page.get_by_role("button", name="Run again beside").click()
    await expect(page.page.locator(".side .answer-text").nth(1)).to_have_text("a changed answer")
    await expect(page.page.locator(".side .answer-text").nth(0)).to_have_text("the whole answer")
    assert {call.model for call in upstream.requests} <= {"a", "c", "last"}
    assert upstream.calls("a")[0].body["temperature"] == 0.3
    assert await page.texts(".side h3") == ["moa/trio", "moa/trio-changed"]


async def test_layers_and_agents_are_added_and_removed(page: Window, upstream: Upstream) -> None:
    """The mixture is drawn as it will be; what is asked is what is drawn."""
    await page.page.select_option("#mixture", "moa/trio")
    await page.page.click("#change")
    await page.page.get_by_role("button", name="Remove layer 1, agent 3").click()
    await page.page.get_by_role("button", name="Add layer").click()
    await page.page.fill("[aria-label='Model of layer 2, agent 1']", "up/d")
    await page.page.press("[aria-label='Model of layer 2, agent 1']", "Tab")
    await expect(page.page.locator(".idle-stage .card h4")).to_have_text(["a", "b", "d"])
    await page.ask("Why?")
    await page.finished()
    assert [call.model for call in upstream.requests][2:] == ["d", "last"]
    assert await page.page.locator(".layers .layer").count() == 2


async def test_a_changed_mixture_is_taken_away_as_toml(page: Window, served: Served, tmp_path: Path) -> None:
    """What is saved is a moa.toml that stands for the same mixture; a name that cannot be one is told at once."""
    page.expected.append("400")
    await page.page.select_option("#mixture", "moa/trio")
    await page.page.click("#change")
    await page.page.uncheck("[aria-label='Ask layer 1, agent 1']")
    await page.page.get_by_label("Schedule").select_option("staircase")
    await page.page.get_by_role("button", name="Save as TOML").click()
    table = tomllib.loads(await page.text("#sheet-body pre"))["mixtures"]["trio-changed"]
    assert table["layers"] == [["up/b", "up/c"]]
    assert table["schedule"]["kind"] == "staircase"
    await page.page.fill("#toml-name", "no good")
    await expect(page.page.locator("#sheet-body .problem")).to_contain_text("no good")
    await page.page.fill("#toml-name", "duo")
    await expect(page.page.locator("#sheet-body pre")).to_contain_text("[mixtures.duo]")
    async with page.page.expect_download() as download:
        await page.page.get_by_role("button", name="Download").click()
    saved = (await (await download.value).path()).read_text()
    assert (await download.value).suggested_filename == "duo.toml"
    (tmp_path / "moa.toml").write_text(saved + "[endpoints.up]\nbase_url = 'http://127.0.0.1:1/v1'\n")

    assert [*Config(tmp_path / "moa.toml").mixture("duo").layers[0]] == ["b", "c"]


async def test_a_mixture_of_another_day_is_asked_again(page: Window, upstream: Upstream) -> None:
    """A run whose mixture is in no list brings its own: it is asked again as it was, undone to what it was, and saved."""
    await page.page.select_option("#mixture", "moa/trio")
    await page.page.click("#change")
    await page.page.get_by_role("button", name="Remove layer 1, agent 1").click()
    await page.ask("Why?")
    await page.finished()
    run = page.run
    await page.page.reload()
    await page.finished()
    assert await page.text("#mixture option:checked") == "moa/trio-changed"
    await page.page.click("#change")
    undo = page.page.get_by_role("button", name="Undo changes")
    assert await undo.is_disabled()
    await page.page.get_by_role("button", name="Remove layer 1, agent 1").click()
    await undo.click()
    models = page.page.locator("#editor .model input")
    assert [await each.input_value() for each in await models.all()] == ["up/b", "up/c", "up/last"]
    upstream.requests.clear()
    await page.page.get_by_role("button", name="Run again beside").click()
    await expect(page.page.locator(".side .bar")).to_have_count(2)
    assert sorted(call.model for call in upstream.requests) == ["b", "c", "last"]
    assert await page.texts(".side h3") == ["moa/trio-changed", "moa/trio-changed"]
    await page.page.goto(f"{page.origin}/#/runs/{run}")
    await page.page.get_by_role("button", name="Save as TOML").click()
    await expect(page.page.locator("#sheet-body pre")).to_contain_text("[mixtures.trio-changed]")


async def test_a_field_takes_only_what_it_can_be(page: Window, upstream: Upstream) -> None:
    """A temperature of 7 is marked, and the mixture stays; Enter in a field asks nothing; the question still goes out."""
    await page.page.select_option("#mixture", "moa/trio")
    await page.page.click("#change")
    await page.page.fill("#question", "Why?")
    hot = page.page.get_by_label("Temperature of layer 1, agent 1")
    await hot.fill("7")
    await hot.press("Enter")
    await expect(hot).to_have_attribute("aria-invalid", "true")
    assert await page.page.input_value("#mixture") == "moa/trio"
    assert await page.page.locator(".turn").count() == 0
    await page.page.click("#change")
    await page.page.press("#question", "Enter")
    await page.page.wait_for_selector(".turn")
    await page.finished()
    assert "temperature" not in upstream.calls("a")[0].body


async def test_what_is_typed_in_the_form_outlives_the_end_of_a_run(page: Window, upstream: Upstream) -> None:
    """The mixture is changed while a run goes on: its end takes neither the words nor the cursor away."""
    gate = asyncio.Event()
    upstream.script("last", until(gate) + say("the whole answer"))
    await page.ask("Why?", "moa/trio")
    await page.page.click("#change")
    assert not await page.page.get_by_role("button", name="Run again beside").is_visible()
    await page.page.get_by_label("Model of layer 1, agent 2").fill("up/el")
    gate.set()
    await page.finished()
    await page.page.keyboard.type("se")
    assert await page.page.get_by_label("Model of layer 1, agent 2").input_value() == "up/else"
    assert await page.page.get_by_role("button", name="Run again beside").is_visible()


async def test_the_cursor_stays_in_the_form(page: Window) -> None:
    """Whatever is pressed there with the keyboard, what comes next is at hand."""
    at = "document.activeElement.ariaLabel || document.activeElement.textContent"
    await page.page.select_option("#mixture", "moa/trio")
    await page.page.click("#change")
    for button, following in (
        ("Remove layer 1, agent 2", "Remove layer 1, agent 2"),
        ("Remove layer 1, agent 2", "Add agent"),
        ("Remove layer", "Add layer"),
        ("Undo changes", "Add layer"),
    ):
        await page.page.get_by_role("button", name=button, exact=True).press("Enter")
        assert await page.page.evaluate(at) == following
    await page.page.get_by_label("Ask layer 1, agent 3").press("Space")
    assert await page.page.evaluate(at) == "Ask layer 1, agent 3"


async def test_agents_and_layers_can_all_be_left_out(page: Window, upstream: Upstream) -> None:
    """Every agent off, one without a model, no layer at all: the aggregator answers alone, and nothing breaks."""
    await page.page.select_option("#mixture", "moa/trio")
    await page.page.click("#change")
    await page.page.uncheck("[aria-label='Ask layer 1, agent 1']")
    await page.page.uncheck("[aria-label='Ask layer 1, agent 2']")
    await page.page.get_by_label("Model of layer 1, agent 3").fill("")
    await page.page.get_by_label("Schedule").select_option("quorum")
    await page.ask("Who?")
    await page.finished()
    await page.page.get_by_role("button", name="Remove layer", exact=True).click()
    await page.ask("And now?")
    await page.finished()
    assert [call.model for call in upstream.requests] == ["last", "last"]
    assert await page.texts(".answer-text") == ["the whole answer", "the whole answer"]


async def test_a_name_that_cannot_be_has_no_toml(page: Window) -> None:
    """While the name is wrong there is nothing to copy or download, and the last words typed decide."""
    page.expected.append("400")
    await page.page.select_option("#mixture", "moa/trio")
    await page.page.click("#change")
    await page.page.get_by_role("button", name="Save as TOML").click()
    await page.page.fill("#toml-name", "no good")
    await expect(page.page.locator("#sheet-body .problem")).to_contain_text("no good")
    assert await page.page.get_by_role("button", name="Download").is_disabled()
    assert await page.page.text_content("#sheet-body pre") == ""
    await page.page.type("#toml-name", "!!")
    await page.page.fill("#toml-name", "good")
    await expect(page.page.locator("#sheet-body pre")).to_contain_text("[mixtures.good]")
    assert await page.page.get_by_role("button", name="Download").is_enabled()


# -- safe, quiet, usable -----------------------------------------------------------------------------------------------


async def test_the_page_is_served_under_a_strict_policy(served: Served) -> None:
    """Only its own script and style, no text that becomes a document, no frame around it; nothing is sent twice."""
    async with aiohttp.ClientSession() as http:
        for path in ("/", "/page/page.js", "/page/page.css"):
            async with http.get(served.origin + path) as response:
                assert response.status == 200
                policy = response.headers["content-security-policy"]
                tag = response.headers["etag"]
                text = await response.text()
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'" in policy
            assert response.headers["x-content-type-options"] == "nosniff"
            assert not re.search(r"https?://(?!www\.w3\.org/|localhost)", text), path
            async with http.get(served.origin + path, headers={"if-none-match": tag}) as response:
                assert response.status == 304
        async with http.get(served.url) as response:
            assert str(response.url) == served.origin + "/"


async def test_nothing_of_a_script_gets_past_the_policy(page: Window) -> None:
    """Were a way to put HTML into the page ever found, the browser would still refuse it."""
    page.expected += ["Content Security Policy", "Trusted"]
    for attempt in ("document.body.innerHTML = '<b>x</b>'", "eval('1')", "document.write('x')"):
        refused = await page.page.evaluate(f"(() => {{ try {{ {attempt}; return false }} catch {{ return true }} }})()")
        assert refused or "eval" in attempt
    handler = "document.body.setAttribute('onclick', 'window.bad = 1'); document.body.click()"
    await page.page.evaluate(f"(() => {{ try {{ {handler} }} catch {{}} }})()")
    assert await page.page.evaluate("window.bad") is None


async def test_a_server_with_keys_asks_for_one(browser: Browser, up: Upstream, tmp_path: Path) -> None:
    """The page asks for a key, keeps it to itself, and shows only that key's runs."""
    answer_well(up)

    keys = Keys(tmp_path / "keys.json")
    secret = keys.add("ann")
    async with Served(
        tmp_path, "--keys", str(tmp_path / "keys.json"), config=CONFIG.format(base_url=up.base_url)
    ) as served:
        context = await browser.new_context()
        try:
            tab = Window(await context.new_page(), served.origin)
            tab.expected.append("401")
            await tab.page.goto(served.origin)
            await tab.page.fill("#key-value", "wrong")
            await tab.page.get_by_role("button", name="Use it").click()
            await expect(tab.page.locator("#key-value")).to_have_value("")
            await tab.page.fill("#key-value", secret)
            await tab.page.get_by_role("button", name="Use it").click()
            await tab.page.wait_for_selector("#mixture option", state="attached")
            await tab.ask("Why?", "moa/trio")
            await tab.finished()
            assert await tab.text(".answer-text") == "the whole answer"
            stored = await tab.page.evaluate(
                "JSON.stringify([{...localStorage}, {...sessionStorage}, location.href, document.cookie])"
            )
            assert secret not in stored
            tab.check()
        finally:
            await context.close()
    assert secret not in served.text


AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


async def accessible(page: Window) -> None:
    """No violation that axe-core finds by WCAG 2.1 A and AA."""
    await page.page.evaluate(AXE)
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
    found = await page.page.evaluate("rules => axe.run(document, rules)", rules)
    told = [(each["id"], each["help"], [node["html"] for node in each["nodes"]][:3]) for each in found["violations"]]
    assert told == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_is_accessible(browser: Browser, served: Served, upstream: Upstream, scheme: Any) -> None:
    """Idle, running, finished, with its list, its form, a sheet and two runs: axe-core finds nothing, in both colours."""
    gate = asyncio.Event()
    upstream.script("a", say(f"# Why\n\n{SKY}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\nx = 1\n```"))
    upstream.script("b", refuse(500, "out of memory"))
    upstream.script("last", words(f"{SKY} ") + until(gate) + say(MILK))
    async with window(browser, served.origin, color_scheme=scheme, reduced_motion="reduce") as page:
        await accessible(page)
        await page.ask("Why?", "moa/trio")
        await expect(page.page.locator(".answer-text")).to_contain_text("short waves")
        await accessible(page)
        gate.set()
        await page.finished()
        await page.page.focus(".answer-text")
        await page.page.keyboard.press("ArrowRight")
        await page.page.click("#toggle-runs")
        await expect(page.page.locator("#run-list li").first).to_be_visible()
        await accessible(page)
        await page.page.click("#change")
        await accessible(page)
        await page.page.get_by_role("button", name="Save as TOML").click()
        await expect(page.page.locator("#sheet")).to_be_visible()
        await accessible(page)
        await page.page.keyboard.press("Escape")
        await page.page.get_by_role("button", name="Run again", exact=True).click()
        await expect(page.page.locator(".side .bar").nth(1)).to_be_visible()
        await accessible(page)


async def test_everything_is_reached_with_the_keyboard(page: Window) -> None:
    """From the top, Tab reaches every control that is seen; a question is asked without a mouse."""
    controls = ["toggle-runs", "new", "theme", "mixture", "change", "question", "send"]
    await page.page.focus("#toggle-runs")
    reached = []
    for _ in range(12):
        reached.append(await page.page.evaluate("document.activeElement.id"))
        await page.page.keyboard.press("Tab")
    assert [each for each in dict.fromkeys(reached) if each in controls] == controls
    await page.page.keyboard.press("Escape")
    await page.page.focus("h1 a")
    await page.page.keyboard.press("/")
    await page.page.keyboard.type("Why?")
    await page.page.keyboard.press("Enter")
    await page.finished()
    assert await page.text("#status") != ""


async def test_a_key_is_given_with_enter(browser: Browser, up: Upstream, tmp_path: Path) -> None:
    """As in every such box; Cancel says what is so, and the next question asks for the key again."""
    answer_well(up)
    keys = Keys(tmp_path / "keys.json")
    secret = keys.add("ann")
    config = CONFIG.format(base_url=up.base_url)
    async with Served(tmp_path, "--keys", str(tmp_path / "keys.json"), config=config) as served:
        context = await browser.new_context()
        tab = Window(await context.new_page(), served.origin)
        tab.expected.append("401")
        await tab.page.goto(served.origin)
        await tab.page.get_by_role("button", name="Cancel").click()
        await expect(tab.page.locator("#problem")).not_to_have_text("")
        await tab.page.fill("#question", "Why?")
        await tab.page.press("#question", "Enter")
        await tab.page.fill("#key-value", secret)
        await tab.page.press("#key-value", "Enter")
        await tab.finished()
        assert await tab.text(".question") == "Why?"
        tab.check()
        await context.close()


async def test_the_cursor_is_where_one_goes_on(page: Window) -> None:
    """A run that is opened or compared takes the cursor to what is shown; a sheet that closes gives it back."""
    at = "document.activeElement.id || document.activeElement.ariaLabel"
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.page.evaluate(at) == "question"
    await page.page.get_by_role("button", name="Read all of b").press("Enter")
    await page.page.keyboard.press("Escape")
    assert await page.page.evaluate(at) == "Read all of b"
    await page.page.get_by_role("button", name="Run again", exact=True).press("Enter")
    await expect(page.page.locator(".side .bar")).to_have_count(2)
    assert await page.page.evaluate(at) == "main"
    await page.page.click("#toggle-runs")
    tick = page.page.locator("#run-list li").nth(1).locator("input")
    await tick.focus()
    await page.page.evaluate("location.hash = '#/'")
    await expect(page.page.locator(".idle-stage")).to_be_visible()
    await page.page.locator("#run-list a").first.press("Enter")
    await page.finished()
    assert await page.page.evaluate(at) == "main"
    assert await page.page.title() == "Why? · Mixture-of-Agents"


@pytest.mark.parametrize("size", [(1440, 900), (320, 256)])
async def test_names_and_errors_without_measure_fit(
    browser: Browser, served: Served, upstream: Upstream, size: tuple[int, int]
) -> None:
    """Names of 200 letters, a model of 150, thirty agents, long errors, at every zoom: nothing is wider than the page."""
    upstream.script("b", refuse(500, "out of\n" * 40 + "m" * 500))
    upstream.script("m" * 150, say("x" * 400))
    agents = [{"model": "up/a", "name": f"agent {n}"} for n in range(27)]
    agents += [
        {"model": "up/b", "name": "n" * 200},
        {"model": "up/" + "m" * 150},
        {"model": "up/c", "name": "שלום 👩‍🔬"},
    ]
    mixture = {"layers": [agents], "aggregator": {"model": "up/last"}, "name": "w" * 60}
    body = {"mixture": mixture, "messages": [{"role": "user", "content": "q" * 300}]}
    async with aiohttp.ClientSession() as http, http.post(f"{served.origin}/runs", json=body) as response:
        run = (await response.json())["run"]
    async with window(browser, served.origin, f"/#/runs/{run}", size=size) as page:
        await page.finished()
        assert await page.page.locator(".card").count() == 30
        await page.page.click("#change")
        assert await page.wider_than_the_window() == 0
        if size[1] < 300:  # a zoom of 400 %: nothing sticks over what is read
            stuck = "[...document.querySelectorAll('.top, .ask')].map(each => getComputedStyle(each).position)"
            assert await page.page.evaluate(stuck) == ["static", "static"]
        await page.page.goto(f"{served.origin}/#/compare/{run}/{run}")
        await expect(page.page.locator(".side .bar")).to_have_count(2)
        assert await page.wider_than_the_window() == 0


async def test_the_page_prints_whole(page: Window, upstream: Upstream) -> None:
    """On paper proposals stand in full, dark ink on white, without buttons."""
    upstream.script("a", say("One line.\n\n" * 40))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    await page.page.click("#theme")
    await page.page.emulate_media(media="print")
    text = card(page, "a").locator(".text")
    assert await text.evaluate("node => node.scrollHeight <= node.clientHeight + 1")
    assert not await page.page.locator(".actions, .ask, .top").first.is_visible()
    assert await page.page.evaluate("getComputedStyle(document.body).color") == "rgb(22, 25, 31)"


async def test_forced_colours_keep_what_colour_tells(browser: Browser, served: Served, upstream: Upstream) -> None:
    """Where the system chooses the colours, bars keep theirs, and what is lit has an outline."""
    upstream.script("a", say(SKY))
    upstream.script("last", say(SKY))
    async with window(browser, served.origin, forced_colors="active") as page:
        await page.ask("Why?", "moa/trio")
        await page.finished()
        await page.page.hover(".sentence")
        for lit in (".sentence.lit", ".card.lit"):
            assert await page.page.locator(lit).evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
        bar = "node => getComputedStyle(node).backgroundColor"
        assert await page.page.locator(".bar i").first.evaluate(bar) == "rgb(47, 111, 237)"


async def test_colours_are_chosen_and_remembered(page: Window) -> None:
    """The button goes from the system's colours to dark to light; a reload keeps the choice."""
    paper = "getComputedStyle(document.body).backgroundColor"
    light = await page.page.evaluate(paper)
    await page.page.click("#theme")
    dark = await page.page.evaluate(paper)
    assert dark != light
    await page.page.reload()
    await page.page.wait_for_selector("#mixture option", state="attached")
    assert await page.page.evaluate(paper) == dark
    await page.page.click("#theme")
    assert await page.page.evaluate(paper) == light
