"""The page's files: how they are served, how its modules depend on each other, and the pure ones alone."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import AsyncIterator
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from moa.server.static import FILES, INDEX, matches
from tests.fakes.browser import Window, needs_browser, tab, window
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

pytestmark = pytest.mark.anyio

MODULES = {path: file.content.decode() for path, file in FILES.items() if path.endswith(".js")}
PURE = ("figures.js", "run.js", "draft.js", "markdown/blocks.js", "markdown/inline.js", "markdown/source.js")


def imports(path: str) -> set[str]:
    """The modules that a module imports, as paths below ``page/``."""
    found = re.findall(r'^import .* from "(.*)";$', MODULES[path], re.MULTILINE)
    return {posixpath.normpath(posixpath.join(posixpath.dirname(path), each)) for each in found}


def test_modules_import_each_other_without_a_circle() -> None:
    """Every import names a module of the page, and an order exists in which each module follows its imports."""
    graph = {path: imports(path) for path in MODULES}
    assert set().union(*graph.values()) <= MODULES.keys()
    order = list(TopologicalSorter(graph).static_order())
    assert order[-1] == "page.js"


def test_modules_are_short() -> None:
    """No module is longer than 290 lines."""
    assert {path: lines for path, text in MODULES.items() if (lines := text.count("\n")) > 290} == {}


@pytest.mark.parametrize("path", PURE)
def test_pure_modules_touch_neither_document_nor_server(path: str) -> None:
    """They import pure modules alone, and name nothing of the browser's document, storage or network."""
    assert imports(path) <= {*PURE}
    assert not re.search(r"\b(document|window|location|localStorage|fetch)\b[.(]", MODULES[path])


def test_the_html_preloads_every_module() -> None:
    """A browser loads all modules in one round trip, since none has to be found in another one first."""
    html = INDEX.content.decode()
    preloaded = re.findall(r'<link rel="modulepreload" href="page/(.*)">', html)
    assert sorted(preloaded) == sorted(MODULES.keys() - {"page.js"})
    assert '<script type="module" src="page/page.js"></script>' in html


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", W/"abc"', True),
        ("*", True),
        ('"ab"', False),
        ('"x", *', False),
        ("", False),
    ],
)
def test_a_tag_is_found_in_if_none_match(header: str, found: bool) -> None:
    """Lists, weak tags and ``*`` are understood; other tags do not match."""
    assert matches(header, '"abc"') is found


async def test_every_file_has_a_strict_policy_and_a_tag(served: Served) -> None:
    """Only script and style of the page's own, no text that becomes a document, no frame around it; 304 for a known tag."""
    async with aiohttp.ClientSession() as http:
        for path in ("/", *(f"/page/{each}" for each in FILES)):
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
            async with http.get(served.origin + path, headers={"if-none-match": f"W/{tag}"}) as response:
                assert response.status == 304
        for path in ("/page/", "/page/index.html", "/page/../static.py", "/page/none.js"):
            async with http.get(served.origin + path) as response:
                assert response.status == 404


@pytest.fixture
async def proxied(served: Served) -> AsyncIterator[str]:
    """The server below a path prefix of a reverse proxy; gives the address of the page."""

    async def forward(request: web.Request) -> web.Response:
        path = request.raw_path.removeprefix("/deep/moa")
        async with (
            aiohttp.ClientSession() as http,
            http.request(request.method, served.origin + path, data=await request.read(), allow_redirects=False) as got,
        ):
            kept = {name: got.headers[name] for name in ("location", "content-type") if name in got.headers}
            return web.Response(status=got.status, body=await got.read(), headers=kept)

    app = web.Application()
    app.router.add_route("*", "/deep/moa/{path:.*}", forward)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/deep/moa"
    await runner.cleanup()


@needs_browser
async def test_the_page_works_below_a_path_prefix(browser: Browser, proxied: str, upstream: Upstream) -> None:
    """Modules, requests and the redirect from the API's address are relative to the page."""
    for address in ("/v1", "/v1/"):
        async with window(browser, proxied, address) as page:
            assert page.tab.url == f"{proxied}/"
            await page.ask("Why?", "moa/trio")
            await page.finished()
            assert await page.text(".answer-text") == "the whole answer"


@pytest.fixture(scope="module")
async def opened(profile: BrowserContext, served: Served) -> AsyncIterator[Window]:
    """One window for all tests of pure modules, which change nothing in it."""
    async with tab(profile, served.origin) as page:
        yield page


async def call(page: Window, module: str, expression: str, *arguments: Any) -> Any:
    """Import a module of the page and evaluate an expression of its exports, ``m``, and of the arguments, ``a``."""
    script = f"a => import(new URL('page/{module}', document.baseURI)).then(m => {expression})"
    return await page.tab.evaluate(script, [*arguments])


@needs_browser
async def test_blocks_know_their_source_offsets(opened: Window) -> None:
    """Each block and line of Markdown has the offset of its text in the source."""
    text = "# Title\n\n- one\n  two\n\n> quoted"
    source = await opened.tab.evaluate("new URL('page/markdown/source.js', document.baseURI).href")
    blocks = await call(
        opened, "markdown/blocks.js", f"import('{source}').then(s => m.blocksOf(s.linesOf(a[0])))", text
    )
    assert [(block["kind"], block["at"]) for block in blocks] == [("heading", 0), ("list", 9), ("quote", 22)]
    assert blocks[0]["lines"] == [{"text": "Title", "at": 2}]
    assert blocks[1]["items"] == [
        [{"kind": "paragraph", "at": 11, "lines": [{"text": "one", "at": 11}, {"text": "two", "at": 17}]}]
    ]


@needs_browser
async def test_inline_elements_are_bounded_by_offsets(opened: Window) -> None:
    """An inline element has the bounds of its content and the offset after it; a dangerous link is no link."""
    inline = "m.inlineAt(a[0], 0, a[0].length)"
    assert await call(opened, "markdown/inline.js", inline, "**bold** text") == {
        "tag": "strong",
        "start": 2,
        "end": 6,
        "next": 8,
    }
    link = await call(opened, "markdown/inline.js", inline, "[click](javascript:alert(1))")
    assert link["tag"] == "span"
    assert await call(opened, "markdown/inline.js", inline, "2 * 3") is None


@needs_browser
async def test_figures_are_written_as_people_read_them(opened: Window) -> None:
    """Seconds, US dollars and shares; an unknown cost stays unknown."""
    texts = {
        "seconds(3.21)": "3.2 s",
        "seconds(754)": "12 min 34 s",
        "money(null)": "cost unknown",
        "money(0.00004, true)": "at least $0.00004",
        "percent(0.002)": "under 1 %",
        "plural(1, 'call')": "1 call",
        "ago(1000, 8300)": "2 h ago",
    }
    for expression, text in texts.items():
        assert await call(opened, "figures.js", f"m.{expression}") == text


@needs_browser
async def test_a_run_is_a_fold_of_its_events(opened: Window) -> None:
    """Applying a run's events gives its parts, its answer and its state, without drawing anything."""
    seats = [
        {"agent": "a", "layer": 1, "model": "up/a", "role": "proposer"},
        {"agent": "last", "layer": 2, "model": "up/last", "role": "aggregator"},
    ]
    last = {"agent": "last", "layer": 2}
    events = [
        {"event": "run_started", "at": 100.0, "mixture": "moa/duo", "schedule": "Barrier()", "seats": seats},
        {"event": "agent_started", "at": 100.5, **last, "model": "up/last", "role": "aggregator", "references": ["a"]},
        {"event": "agent_said", "at": 101.0, **last, "text": "Four."},
        {"event": "run_finished", "at": 102.0},
    ]
    fold = """(run => {
        for (const event of a) run.apply(event);
        const states = [...run.parts.values()].map(part => part.state);
        return [run.answer, run.state, run.firstToken, run.ended, states];
    })(new m.Run('id'))"""
    assert await call(opened, "run.js", fold, *events) == ["Four.", "answered", 1.0, 2.0, ["unasked", "stopped"]]


@needs_browser
async def test_events_are_read_however_packets_part(opened: Window) -> None:
    """Events that arrive byte by byte are read whole, and keep-alive comments are skipped."""
    stream = 'id: 1\ndata: {"event":"a","text":"é🌊"}\n\n: still here\n\nid: 2\ndata: {"event":"b"}\n\n'
    read = """(async () => {
        const bytes = new TextEncoder().encode(a[0]);
        const body = new ReadableStream({ start(controller) {
            for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
            controller.close();
        } });
        const events = [];
        for await (const each of m.numberedEvents(new Response(body), new AbortController().signal)) events.push(each);
        return events;
    })()"""
    assert await call(opened, "events.js", read, stream) == [[1, {"event": "a", "text": "é🌊"}], [2, {"event": "b"}]]


@needs_browser
async def test_a_draft_is_the_table_it_stands_for(opened: Window) -> None:
    """Agents that are off, and layers without agents, are not in the table; the table gets a name of its own."""
    layers = [[{"model": "up/a"}, {"model": "up/b"}], [{"model": "up/c"}]]
    table = {"layers": layers, "aggregator": {"model": "up/last"}}
    change = """(draft => {
        const before = [draft.isChanged, draft.tableName];
        draft.fields.layers[0][1].off = true;
        draft.fields.layers[1][0].model = "";
        return [before, draft.isChanged, draft.tableName, JSON.stringify(draft.table())];
    })(new m.Draft('moa/trio', a[0]))"""
    before, changed, name, changed_table = await call(opened, "draft.js", change, table)
    assert before == [False, "trio"]
    assert changed
    assert name == "trio-changed"
    assert json.loads(changed_table) == {
        "aggregate": "synthesize",
        "layers": [[{"model": "up/a"}]],
        "aggregator": {"model": "up/last"},
    }
