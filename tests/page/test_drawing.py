"""How texts are drawn, and whether they fit: hostile text, Markdown, sizes, colours, paper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.fakes.browser import Window, expect, needs_browser, window
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, chunk, done, finish, refuse, say, usage
from tests.page.sentences import SKY

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.anyio, needs_browser]

HOSTILE = {
    "script": "<script>window.bad = 1</script><img src=x onerror='window.bad = 2'><svg onload='window.bad = 3'>",
    "link": "[click](javascript:window.bad=4) [data](data:text/html,<script>window.bad=5</script>) ![p](http://127.0.0.1:9/p.png)",
    "broken": "**bold [link]( `code ``` \n# \n| a | b\n|--\n> > > x\n- \n  - *_~~`\n\n```\nnever closed",
    "rtl": "שלום עולם. זה **מודגש**.\n\n- פריט ראשון",
    "huge": "x" * 1_000_000,
    "control": "a\u202eevil\u2066 \x00 \x1b[31m \ud83d\ude00 👩‍👩‍👧 \u0301" + "\u0300" * 200,
}

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


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_text_is_only_text(page: Window, upstream: Upstream, kind: str) -> None:
    """Text of a model stays text: nothing runs, nothing is fetched, nothing widens the page."""
    text = HOSTILE[kind]
    upstream.script("a", chunk({"content": text}) + finish() + usage() + done())
    upstream.script("last", chunk({"content": text}) + finish() + usage() + done())
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.tab.evaluate("window.bad") is None
    drawn = "main script, main img, main svg:not(.lines, .rating svg), main iframe, main style"
    assert await page.tab.locator(drawn).count() == 0
    for link in await page.tab.locator("main .prose a").all():
        assert re.match(r"(https?|mailto):", await link.get_attribute("href") or "")
    assert await page.overflow() == 0
    shown = await page.tab.locator(".answer-text").evaluate("node => node.textContent")
    if kind == "script":
        assert shown == text
    if kind == "huge":
        assert len(shown) == 1_000_000
    if kind == "rtl":
        paragraph = page.tab.locator(".answer-text p").first
        assert await paragraph.evaluate("node => getComputedStyle(node).direction") == "rtl"


async def test_markdown_is_drawn_as_models_write_it(page: Window, upstream: Upstream) -> None:
    """Line breaks, emphasis, links, tables, tabs, fences, TeX and CRLF become the elements they mean."""
    answer = "\n\n---\n\n".join(MARKDOWN)
    upstream.script("a", chunk({"content": answer}) + finish() + usage() + done())
    await page.ask("Why?", "up/a")
    await page.finished()
    drawn = await page.tab.locator(".answer-text").evaluate(
        """node => [...node.querySelectorAll("*")].reduce((all, each) => {
            for (const name of each.getAttributeNames()) if (name !== "href") each.removeAttribute(name);
            return all;
        }, node).innerHTML.replace(/<\\/?div>/g, "")"""
    )
    assert drawn.split("<hr>") == list(MARKDOWN.values())


async def test_a_wide_and_deep_mixture_fits_the_window(browser: Browser, served: Served, upstream: Upstream) -> None:
    """Twelve agents in four layers are side by side on a wide screen, and below each other on a phone."""
    async with window(browser, served.origin, size=(1440, 900)) as page:
        await page.ask("Why?", "moa/deep")
        await page.finished()
        assert await page.tab.locator(".card").count() == 12
        boxes = [await each.bounding_box() for each in await page.tab.locator(".layers .layer").all()]
        lefts = [box["x"] for box in boxes if box]
        assert lefts == sorted(set(lefts))
        assert len(lefts) == 4
        assert await page.tab.locator(".lines path").count() == 3 * 9 + 3
        assert await page.overflow() == 0
        run = page.run
    async with window(browser, served.origin, f"/#/runs/{run}", size=(390, 844), has_touch=True) as page:
        await page.finished()
        assert await page.tab.locator(".card").count() == 12
        tops = [box["y"] for each in await page.tab.locator(".card").all() if (box := await each.bounding_box())]
        assert tops == sorted(tops)
        assert await page.overflow() == 0


async def test_a_phone_can_ask_and_reach_the_answer(browser: Browser, served: Served, upstream: Upstream) -> None:
    """On a small window the answer is one tap away, and a tapped sentence shows what it resembles."""
    upstream.script("a", say(SKY))
    upstream.script("b", say("One line.\n\n" * 30))
    upstream.script("last", say(SKY))
    async with window(browser, served.origin, size=(390, 500), has_touch=True, is_mobile=True) as page:
        await page.ask("Why?", "moa/trio")
        await page.finished()
        await page.tab.tap("#to-answer")
        await expect(page.tab.locator(".answer h3")).to_be_in_viewport()
        await page.tab.tap(".sentence")
        await expect(page.tab.locator(".pointed ul")).to_be_in_viewport()
        assert "a 100 % of the sentence" in await page.text(".pointed")
        assert await page.overflow() == 0


@pytest.mark.parametrize("size", [(1440, 900), (320, 256)])
async def test_long_names_and_errors_fit_the_window(
    browser: Browser, served: Served, upstream: Upstream, size: tuple[int, int]
) -> None:
    """With long names, thirty agents and long errors, at every zoom, nothing is wider than the page."""
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
        assert await page.tab.locator(".card").count() == 30
        await page.tab.click("#change")
        assert await page.overflow() == 0
        if size[1] < 300:  # a zoom of 400 %: nothing sticks over what is read
            stuck = "[...document.querySelectorAll('.top, .ask')].map(each => getComputedStyle(each).position)"
            assert await page.tab.evaluate(stuck) == ["static", "static"]
        await page.tab.goto(f"{served.origin}/#/compare/{run}/{run}")
        await expect(page.tab.locator(".side .bar")).to_have_count(2)
        assert await page.overflow() == 0


async def test_the_page_prints_completely(own_page: Window, upstream: Upstream) -> None:
    """On paper, proposals are complete, dark on white, without buttons."""
    upstream.script("a", say("One line.\n\n" * 40))
    await own_page.ask("Why?", "moa/trio")
    await own_page.finished()
    await own_page.tab.click("#theme")
    await own_page.tab.emulate_media(media="print")
    text = own_page.card("a").locator(".text")
    assert await text.evaluate("node => node.scrollHeight <= node.clientHeight + 1")
    assert not await own_page.tab.locator(".actions, .ask, .top").first.is_visible()
    assert await own_page.tab.evaluate("getComputedStyle(document.body).color") == "rgb(22, 25, 31)"


async def test_forced_colours_keep_their_meaning(browser: Browser, served: Served, upstream: Upstream) -> None:
    """If the system forces its colours, bars keep theirs, and highlighted parts have an outline."""
    upstream.script("a", say(SKY))
    upstream.script("last", say(SKY))
    async with window(browser, served.origin, forced_colors="active") as page:
        await page.ask("Why?", "moa/trio")
        await page.finished()
        await page.tab.hover(".sentence")
        for lit in (".sentence.lit", ".card.lit"):
            assert await page.tab.locator(lit).evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
        bar = "node => getComputedStyle(node).backgroundColor"
        assert await page.tab.locator(".bar i").first.evaluate(bar) == "rgb(47, 111, 237)"


async def test_colours_are_chosen_and_remembered(own_page: Window) -> None:
    """The button cycles through the system's colours, dark and light; a reload keeps the choice."""
    paper = "getComputedStyle(document.body).backgroundColor"
    light = await own_page.tab.evaluate(paper)
    await own_page.tab.click("#theme")
    dark = await own_page.tab.evaluate(paper)
    assert dark != light
    await own_page.tab.reload()
    await own_page.tab.wait_for_selector("#mixture option", state="attached")
    assert await own_page.tab.evaluate(paper) == dark
    await own_page.tab.click("#theme")
    assert await own_page.tab.evaluate(paper) == light


async def test_a_proposal_that_is_cut_fades_at_its_end(page: Window, upstream: Upstream) -> None:
    """In a card with more text below, the last line fades; at the end of the text, and in a short card, it does not."""
    upstream.script("a", say("One line.\n\n" * 40))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    fades = re.compile(r"\bmore\b")
    await expect(page.card("a").locator(".text")).to_have_class(fades)
    await expect(page.card("b").locator(".text")).not_to_have_class(fades)
    await page.card("a").locator(".text").evaluate("node => node.scrollTop = node.scrollHeight")
    await expect(page.card("a").locator(".text")).not_to_have_class(fades)
