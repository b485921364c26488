"""Keys, the security policy, keyboards and screen readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import pytest

from moa.server.keys import Keys
from tests.fakes.browser import FOCUSED, Window, expect, needs_browser, window
from tests.fakes.packages import needs
from tests.fakes.serving import CONFIG, Served
from tests.fakes.upstream import Upstream, refuse, say, until, words
from tests.page.sentences import MILK, SKY

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.anyio, needs_browser]

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], "resultTypes": ["violations"]}
COLOURS = {
    "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
    "resultTypes": ["violations"],
}
"""axe-core's options: all rules, and those about colours; ``resultTypes`` leaves out the nodes that passed."""


@pytest.fixture(scope="session")
async def keyed(
    shared_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Served, str]]:
    """A server that requires an API key, and the key."""
    folder = tmp_path_factory.mktemp("keyed")
    keys = folder / "keys.json"
    secret = Keys(keys).add("ann")
    config = CONFIG.format(base_url=shared_upstream.base_url)
    async with Served(folder, "--keys", str(keys), config=config) as server:
        yield server, secret


async def check_accessibility(page: Window) -> None:
    """Neither in light nor in dark does axe-core find a violation of WCAG 2.1 A and AA, or of its best practices."""
    if not await page.tab.evaluate("Boolean(window.axe)"):
        await page.tab.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    schemes: dict[Literal["light", "dark"], dict[str, Any]] = {"light": RULES, "dark": COLOURS}
    for scheme, rules in schemes.items():
        await page.tab.emulate_media(color_scheme=scheme)
        found = await page.tab.evaluate("rules => axe.run(document, rules)", rules)
        assert found["passes"], "no rule was tested"
        violations = [
            (each["id"], each["help"], [node["html"] for node in each["nodes"]][:3]) for each in found["violations"]
        ]
        assert violations == [], scheme


async def test_the_policy_blocks_injected_html_and_script(page: Window) -> None:
    """If a way to put HTML into the page were found, the browser would still refuse it."""
    page.expected += ["Content Security Policy", "Trusted"]
    for attempt in ("document.body.innerHTML = '<b>x</b>'", "eval('1')", "document.write('x')"):
        refused = await page.tab.evaluate(f"(() => {{ try {{ {attempt}; return false }} catch {{ return true }} }})()")
        assert refused or "eval" in attempt
    handler = "document.body.setAttribute('onclick', 'window.bad = 1'); document.body.click()"
    await page.tab.evaluate(f"(() => {{ try {{ {handler} }} catch {{}} }})()")
    assert await page.tab.evaluate("window.bad") is None


async def test_a_server_with_keys_prompts_for_one(
    browser: Browser, keyed: tuple[Served, str], upstream: Upstream
) -> None:
    """The page prompts for an API key until it is valid, and stores it nowhere."""
    served, secret = keyed
    async with window(browser, served.origin, ready="#key[open]") as page:
        await page.tab.fill("#key-value", "wrong")
        await page.press("Use this key")
        await expect(page.tab.locator("#key-value")).to_have_value("")
        await page.tab.fill("#key-value", secret)
        await page.press("Use this key")
        await page.ask("Why?", "moa/trio")
        await page.finished()
        assert await page.text(".answer-text") == "the whole answer"
        stored = await page.tab.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, location.href, document.cookie])"
        )
        assert secret not in stored
    assert secret not in served.text


async def test_enter_submits_the_key(browser: Browser, keyed: tuple[Served, str], upstream: Upstream) -> None:
    """Cancel shows the server's error, and the next question prompts for the key again."""
    served, secret = keyed
    async with window(browser, served.origin, ready="#key[open]") as page:
        await page.press("Cancel")
        await expect(page.tab.locator("#problem")).not_to_have_text("")
        await page.tab.fill("#question", "Why?")
        await page.tab.press("#question", "Enter")
        await page.tab.fill("#key-value", secret)
        await page.tab.press("#key-value", "Enter")
        await page.finished()
        assert await page.text(".question") == "Why?"


@needs("axe_playwright_python")
async def test_the_page_is_accessible(browser: Browser, served: Served, upstream: Upstream) -> None:
    """Idle, running, finished, with list, form, sheet and comparison: axe-core finds nothing, in both colour schemes."""
    gate = asyncio.Event()
    upstream.script("a", say(f"# Why\n\n{SKY}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\nx = 1\n```"))
    upstream.script("b", refuse(500, "out of memory"))
    upstream.script("last", words(f"{SKY} ") + until(gate) + say(MILK))
    async with window(browser, served.origin, reduced_motion="reduce") as page:
        await check_accessibility(page)
        await page.ask("Why?", "moa/trio")
        await expect(page.tab.locator(".answer-text")).to_contain_text("short waves")
        await check_accessibility(page)
        gate.set()
        await page.finished()
        await page.tab.focus(".answer-text")
        await page.tab.keyboard.press("ArrowRight")
        await page.tab.click("#toggle-runs")
        await expect(page.tab.locator("#run-list li").first).to_be_visible()
        await check_accessibility(page)
        await page.tab.click("#change")
        await check_accessibility(page)
        await page.press("Save as TOML")
        await expect(page.tab.locator("#sheet")).to_be_visible()
        await check_accessibility(page)
        await page.tab.keyboard.press("Escape")
        await page.press("Run again")
        await expect(page.tab.locator(".side .bar").nth(1)).to_be_visible()
        await check_accessibility(page)


async def test_every_control_is_reached_with_the_keyboard(page: Window) -> None:
    """Tab reaches every visible control, and a question is asked without a mouse."""
    controls = ["toggle-runs", "new", "theme", "mixture", "change", "question", "send"]
    await page.tab.focus("#toggle-runs")
    reached = []
    for _ in range(12):
        reached.append(await page.tab.evaluate("document.activeElement.id"))
        await page.tab.keyboard.press("Tab")
    assert [each for each in dict.fromkeys(reached) if each in controls] == controls
    await page.tab.keyboard.press("Escape")
    await page.tab.focus("h1 a")
    await page.tab.keyboard.press("/")
    await page.tab.keyboard.type("Why?")
    await page.tab.keyboard.press("Enter")
    await page.finished()
    assert await page.text("#status") != ""


async def test_the_focus_follows_what_is_shown(page: Window) -> None:
    """Opening or comparing a run moves the focus to it; closing a sheet returns it."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    assert await page.tab.evaluate(FOCUSED) == "question"
    await page.tab.get_by_role("button", name="Read all of b").press("Enter")
    await page.tab.keyboard.press("Escape")
    assert await page.tab.evaluate(FOCUSED) == "Read all of b"
    await page.tab.get_by_role("button", name="Run again", exact=True).press("Enter")
    await expect(page.tab.locator(".side .bar")).to_have_count(2)
    assert await page.tab.evaluate(FOCUSED) == "main"
    await page.tab.click("#toggle-runs")
    tick = page.tab.locator("#run-list li").nth(1).locator("input")
    await tick.focus()
    await page.tab.evaluate("location.hash = '#/'")
    await expect(page.tab.locator(".idle-stage")).to_be_visible()
    await page.tab.locator("#run-list a").first.press("Enter")
    await page.finished()
    assert await page.tab.evaluate(FOCUSED) == "main"
    assert await page.tab.title() == "Why? · Mixture-of-Agents"
