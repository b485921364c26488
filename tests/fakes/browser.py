"""A real browser on the page of a real server; what it must never do is looked for in every test."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)

PATH = os.environ.get("MOA_CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)

needs_browser = pytest.mark.skipif(PATH is None, reason="no Chromium on this machine; MOA_CHROMIUM can name one")


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Chromium, without a window."""
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=PATH, args=[*QUIET])
        try:
            yield browser
        finally:
            await browser.close()


class Window:
    """A window on the page. Errors, dialogs and requests to other hosts are gathered; :meth:`check` fails for any.

    Attributes:
        page: the tab.
        problems: what went wrong in it, in its own words.
    """

    def __init__(self, page: Page, origin: str) -> None:
        self.page, self.origin = page, origin
        self.problems: list[str] = []
        self.expected: list[str] = []
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"{error.name}: {error.message}\n{error.stack}"))
        page.on("dialog", lambda dialog: self.problems.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda request: self._request(request.url))
        page.on("popup", lambda popup: self.problems.append(f"a window: {popup.url}"))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(part in text for part in self.expected):
            self.problems.append(f"{kind}: {text}")

    def _request(self, url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(self.origin):
            self.problems.append(f"a request to {url}")

    def check(self) -> None:
        assert self.problems == []

    async def ask(self, question: str, mixture: str | None = None) -> None:
        """Choose who answers, type, press Enter, and wait until the run is drawn."""
        if mixture:
            await self.page.select_option("#mixture", mixture)
        drawn = await self.page.locator(".turn").count()
        await self.page.fill("#question", question)
        await self.page.press("#question", "Enter")
        await self.page.locator(".turn").nth(drawn).wait_for()

    async def finished(self, turn: int = -1) -> None:
        """Wait until a turn's run is over and its actions are there."""
        turns = self.page.locator(".turn")
        await (turns.last if turn < 0 else turns.nth(turn)).locator(".actions button").first.wait_for()

    async def text(self, selector: str) -> str:
        return (await self.page.locator(selector).first.inner_text()).strip()

    async def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in await self.page.locator(selector).all_inner_texts()]

    @property
    def run(self) -> str:
        """The run that the address names."""
        return urlsplit(self.page.url).fragment.rsplit("/", 1)[-1]

    async def wider_than_the_window(self) -> int:
        """Pixels that the document is wider than what is seen of it."""
        return int(
            await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )


@asynccontextmanager
async def window(
    browser: Browser, origin: str, at: str = "/", size: tuple[int, int] = (1280, 900), **how: Any
) -> AsyncIterator[Window]:
    """A window of its own on the page; whatever went wrong in it fails the test."""
    context = await browser.new_context(viewport={"width": size[0], "height": size[1]}, **how)
    context.set_default_timeout(15_000)
    try:
        opened = Window(await context.new_page(), origin)
        await opened.page.goto(f"{origin}{at}")
        await opened.page.wait_for_selector("#mixture option", state="attached")
        yield opened
        opened.check()
    finally:
        await context.close()
