"""One browser, one upstream and one server for all tests of the page; a window for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tests.fakes.browser import Window, browsing, tab, window
from tests.fakes.serving import CONFIG, Served, answer_well
from tests.fakes.upstream import Upstream

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

MIXTURES = """
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

[mixtures.counted]
layers = [["up/a", "up/b", "up/c"]]
aggregate = "vote"
min_proposals = 3
"""


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as running:
        yield running


@pytest.fixture(scope="session")
async def profile(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser profile whose cache has the page's files. Tests that store something use ``own_page``."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    await context.close()


@pytest.fixture(scope="session")
async def shared_upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture(scope="session")
async def served(shared_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A server without keys, which saves its runs. Tests share its list of runs: they search for their own."""
    config = CONFIG.format(base_url=shared_upstream.base_url) + MIXTURES
    async with Served(tmp_path_factory.mktemp("page"), config=config) as server:
        yield server


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    """The shared upstream, without requests; every model answers."""
    answer_well(shared_upstream)
    return shared_upstream


@pytest.fixture
def config(upstream: Upstream) -> str:
    """The configuration for a test that starts a server of its own."""
    return CONFIG.format(base_url=upstream.base_url)


@pytest.fixture
async def page(profile: BrowserContext, served: Served, upstream: Upstream) -> AsyncIterator[Window]:
    async with tab(profile, served.origin) as opened:
        yield opened


@pytest.fixture
async def own_page(browser: Browser, served: Served, upstream: Upstream) -> AsyncIterator[Window]:
    """A window with a profile of its own, for a test that stores something."""
    async with window(browser, served.origin) as opened:
        yield opened
