"""Chromium on the page of a real server. Every window checks what must never happen: script errors, requests elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.fakes.packages import missing, needs

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Locator, Page
    from playwright.async_api._generated import LocatorAssertions

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
PATIENCE = 30_000.0
"""Milliseconds that a busy machine may take for one step."""

PATH = os.environ.get("MOA_CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)

needs_browser = (
    needs("playwright")
    if missing("playwright")
    else pytest.mark.skipif(PATH is None, reason="no Chromium on this machine; MOA_CHROMIUM can name one")
)

HIGHLIGHTED = "[...CSS.highlights.values()].flatMap(each => [...each]).map(String).join('')"
"""Gives the text of all highlighted passages."""

FOCUSED = "document.activeElement.id || document.activeElement.ariaLabel || document.activeElement.textContent"
"""Gives the ID, label or text of the focused element."""


def expect(locator: Locator) -> LocatorAssertions:
    """Playwright's assertions, which wait until they hold."""
    from playwright.async_api import expect

    expect.set_options(timeout=PATIENCE)
    return expect(locator)


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Chromium, headless."""
    from playwright.async_api import async_playwright

    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=PATH, args=[*QUIET])
        try:
            yield browser
        finally:
            await browser.close()


class Window:
    """A window on the page. It collects errors, dialogs and requests to other hosts; :meth:`check` fails for any of them.

    Attributes:
        tab: Playwright's page.
        origin: the server's address.
        problems: what it has collected.
        expected: parts of console messages that are no problem.
    """

    def __init__(self, tab: Page, origin: str) -> None:
        self.tab, self.origin = tab, origin
        self.problems: list[str] = []
        self.expected: list[str] = []
        tab.on("console", lambda message: self._console(message.type, message.text))
        tab.on("pageerror", lambda error: self.problems.append(f"{error.name}: {error.message}\n{error.stack}"))
        tab.on("dialog", lambda dialog: self.problems.append(f"a dialog: {dialog.message}"))
        tab.on("request", lambda request: self._request(request.url))
        tab.on("popup", lambda popup: self.problems.append(f"a window: {popup.url}"))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(part in text for part in self.expected):
            self.problems.append(f"{kind}: {text}")

    def _request(self, url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(self.origin):
            self.problems.append(f"a request to {url}")

    def check(self) -> None:
        assert self.problems == []

    async def ask(self, question: str, mixture: str | None = None) -> None:
        """Choose a mixture or model, type, press Enter, and wait until the run is drawn."""
        if mixture:
            await self.tab.select_option("#mixture", mixture)
        drawn = await self.tab.locator(".turn").count()
        await self.tab.fill("#question", question)
        await self.tab.press("#question", "Enter")
        await self.tab.locator(".turn").nth(drawn).wait_for()

    async def finished(self) -> None:
        """Wait until the last turn's run has ended and its actions are drawn."""
        await self.tab.locator(".turn").last.locator(".actions button").first.wait_for()

    async def press(self, name: str, *, exact: bool = True) -> None:
        """Click the button of this name."""
        await self.tab.get_by_role("button", name=name, exact=exact).click()

    def card(self, agent: str, layer: int = 1) -> Locator:
        return self.tab.locator(f"article.card[aria-label='{agent}, layer {layer}']")

    async def text(self, selector: str) -> str:
        """The text of the first element that matches."""
        return (await self.tab.locator(selector).first.inner_text()).strip()

    async def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in await self.tab.locator(selector).all_inner_texts()]

    @property
    def run(self) -> str:
        """The ID of the run that the address names."""
        return urlsplit(self.tab.url).fragment.rsplit("/", 1)[-1]

    async def overflow(self) -> int:
        """Pixels by which the document is wider than the window."""
        return int(
            await self.tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )


@asynccontextmanager
async def window(
    browser: Browser,
    origin: str,
    at: str = "/",
    size: tuple[int, int] = (1280, 900),
    ready: str = "#mixture option",
    **options: Any,
) -> AsyncIterator[Window]:
    """A window with a profile of its own: its size, its options, no cache and no storage. See :func:`tab` for the rest."""
    context = await browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    try:
        async with tab(context, origin, at, ready) as opened:
            yield opened
    finally:
        await context.close()


@asynccontextmanager
async def tab(
    context: BrowserContext, origin: str, at: str = "/", ready: str = "#mixture option"
) -> AsyncIterator[Window]:
    """A window of a profile, opened until the selector ``ready`` matches; any problem in it fails the test."""
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    try:
        opened = Window(page, origin)
        if ready == "#key[open]":
            opened.expected.append("401")
        await page.goto(f"{origin}{at}")
        await page.wait_for_selector(ready, state="attached")
        yield opened
        opened.check()
    finally:
        await page.close()
