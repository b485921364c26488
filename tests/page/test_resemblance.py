"""What the answer resembles: shares, sentences and their passages."""

from __future__ import annotations

import re

import pytest

from tests.fakes.browser import HIGHLIGHTED, Window, needs_browser
from tests.fakes.upstream import Upstream, chunk, done, finish, say, usage
from tests.page.sentences import MILK, SKY, SUNSET

pytestmark = [pytest.mark.anyio, needs_browser]


@pytest.fixture
async def merged(page: Window, upstream: Upstream) -> Window:
    """A finished run: its answer has a sentence of one proposal, one of another, and a new one."""
    upstream.script("a", say(f"Here is why. {SKY}"))
    upstream.script("b", say(SUNSET))
    upstream.script("c", say("Nobody knows, and nobody ever will."))
    upstream.script("last", say(f"{SKY} {SUNSET} {MILK}"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    return page


async def test_the_bar_shows_each_agents_share(merged: Window) -> None:
    """Shares of the answer by agent, the new part and ignored agents: in the bar, on the cards, and in words."""
    legend = " ".join((await merged.text(".legend")).split())
    shares = {name: int(share) for name, share in re.findall(r"(\w+) (\d+) %", legend)}
    assert 20 <= shares["a"] <= 45
    assert 20 <= shares["b"] <= 45
    assert 20 <= shares["new"] <= 45
    assert "ignored" in legend
    label = await merged.tab.locator(".bar").get_attribute("aria-label")
    assert label == ", ".join(f"{name} {share} %" for name, share in shares.items())
    assert await merged.card("c").locator(".share").inner_text() == "almost none of the answer"
    await merged.tab.click(".resemblance summary")
    assert "resembles" in await merged.text(".resemblance details p")
    assert "caused" not in await merged.tab.inner_text("main")


async def test_pointing_at_a_sentence_highlights_its_passages(merged: Window) -> None:
    """The passage is highlighted in its card, the card shows its share, and a new sentence highlights nothing."""
    await merged.tab.hover(".sentence[data-sentence='0']")
    assert await merged.tab.evaluate(HIGHLIGHTED) == SKY
    assert await merged.card("a").get_attribute("class") == "card agent-0 lit"
    assert await merged.card("a").locator(".share").inner_text() == "100 % of this sentence"
    assert SKY in await merged.text(".pointed")
    await merged.tab.hover(".sentence[data-sentence='1']")
    assert await merged.tab.evaluate(HIGHLIGHTED) == SUNSET
    await merged.tab.hover(".sentence[data-sentence='2']")
    assert await merged.tab.evaluate(HIGHLIGHTED) == ""
    assert "it is new" in await merged.text(".pointed")
    await merged.tab.hover("h1")
    assert await merged.tab.locator(".lit").count() == 0


async def test_arrow_keys_move_through_the_sentences(merged: Window) -> None:
    """Arrow keys move from sentence to sentence and describe each; Escape ends it."""
    await merged.tab.focus(".answer-text")
    await merged.tab.keyboard.press("ArrowRight")
    assert (await merged.text(".pointed")).startswith("Sentence 1 of 3 resembles:")
    await merged.tab.keyboard.press("ArrowRight")
    await merged.tab.keyboard.press("ArrowDown")
    assert (await merged.text(".pointed")).startswith("Sentence 3 of 3")
    await merged.tab.keyboard.press("ArrowRight")
    assert (await merged.text(".pointed")).startswith("Sentence 3 of 3")
    await merged.tab.keyboard.press("ArrowLeft")
    assert "b 100 % of the sentence" in await merged.text(".pointed")
    await merged.tab.keyboard.press("Escape")
    assert await merged.tab.locator(".lit").count() == 0


async def test_emoji_do_not_shift_the_passages(page: Window, upstream: Upstream) -> None:
    """The server counts code points: an emoji before a passage does not shift the highlight."""
    upstream.script("a", say(f"🌞🌅 First a sun. {SKY}"))
    upstream.script("last", say(f"👩‍🔬 Look at it this way! {SKY}"))
    await page.ask("Why?", "moa/trio")
    await page.finished()
    await page.tab.hover(".sentence >> text=short waves")
    assert await page.text(".sentence.lit") == SKY
    assert await page.tab.evaluate(HIGHLIGHTED) == SKY


async def test_line_ends_and_escapes_do_not_shift_the_passages(page: Window, upstream: Upstream) -> None:
    """CRLF, tabs and escapes before a passage do not shift the highlight."""
    source = f"# Head\r\n\r\n-\tOne\\! two<br>three \\(x_1\\)\r\n-\t{SKY}\r\n"
    upstream.script("a", chunk({"content": source}) + finish() + usage() + done())
    upstream.script("last", chunk({"content": f"Look:\r\n\r\n\t{SKY}"}) + finish() + usage() + done())
    await page.ask("Why?", "moa/trio")
    await page.finished()
    await page.tab.hover(".sentence >> text=short waves")
    assert await page.text(".sentence.lit") == SKY
    assert await page.tab.evaluate(HIGHLIGHTED) == SKY


async def test_a_clicked_sentence_stays_highlighted(merged: Window) -> None:
    """It stays highlighted while the pointer is elsewhere; Escape or a click beside it ends that."""
    await merged.tab.click(".sentence[data-sentence='0']")
    await merged.card("a").locator(".text").click()
    assert await merged.text(".sentence.lit") == SKY
    await merged.tab.keyboard.press("Escape")
    assert await merged.tab.locator(".lit").count() == 0
    await merged.tab.click(".sentence[data-sentence='1']")
    await merged.tab.click(".timeline figcaption")
    await merged.tab.hover("h1")
    assert await merged.tab.locator(".lit").count() == 0
    await merged.tab.locator(".sentence[data-sentence='1']").select_text()
    await merged.tab.dispatch_event(".sentence[data-sentence='1']", "click")
    await merged.tab.hover("h1")
    assert await merged.tab.locator(".lit").count() == 0


async def test_pointing_at_a_long_answer_changes_little(page: Window, upstream: Upstream) -> None:
    """In an answer of two thousand sentences, pointing at one changes a few elements, and not one for each sentence."""
    sentences = [
        f"In the year {1000 + n} the river rose by {n} hands and took {n * 7 % 977} sheep." for n in range(2000)
    ]
    for place, agent in enumerate("abc"):
        upstream.script(
            agent, chunk({"content": "🌊 " + "\n\n".join(sentences[place::3])}) + finish() + usage() + done()
        )
    upstream.script("last", chunk({"content": "🌊 " + "\n\n".join(sentences)}) + finish() + usage() + done())
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.tab.locator(".sentence").count() >= 2000
    changes = await page.tab.evaluate(
        """() => {
            const observer = new MutationObserver(() => {});
            observer.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
            return [...document.querySelectorAll(".sentence")].slice(0, 50).map(each => {
                each.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
                return observer.takeRecords().length;
            });
        }"""
    )
    assert min(changes) > 0
    assert max(changes) < 30
