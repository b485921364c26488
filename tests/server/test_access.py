"""Who may use a server, by host, origin, proxy and content type, through real connections: with and without keys."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.config.config import Config
from moa.errors import ConfigError
from moa.server.access import Access
from moa.server.app import create_app
from moa.server.keys import Keys
from moa.server.origins import host_name, is_local_page, is_unambiguous, origin_of
from tests.fakes.local_server import serving
from tests.fakes.serving import CONFIG, Served, asking
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

CHAT, PAGE = "/v1/chat/completions", "https://chat.example.com"
READS = (
    "/",
    "/v1/models",
    "/v1/models/moa/trio",
    "/metrics",
    "/openapi.json",
    "/runs",
    "/mixtures",
    "/page/page.js",
    "/no",
)
ASKS = (CHAT, "/runs")
HEALTH = ("/healthz", "/readyz")
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    "Access-Control-Request-Private-Network": "true",
}


@asynccontextmanager
async def running(
    folder: Path, upstream: Upstream, access: Access | None = None, keys: Keys | None = None
) -> AsyncIterator[str]:
    Served(folder, config=CONFIG.format(base_url=upstream.base_url))  # writes the moa.toml
    app = create_app(Config(folder / "moa.toml"), keys=keys, access=access)
    async with serving(app) as address:
        yield address


@pytest.fixture(scope="module")
async def keyless(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running(tmp_path_factory.mktemp("keyless"), upstream) as address:
        yield address


@pytest.fixture(scope="module")
async def allowing(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Without keys, beyond loopback, with a host and a page that are allowed."""
    access = Access.of(["moa", "AI.example.com:8000"], [f"{PAGE}:443/"], no_auth=True, beyond_loopback=True)
    async with running(tmp_path_factory.mktemp("allowing"), upstream, access) as address:
        yield address


@pytest.fixture(scope="module")
async def keyed(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, str]]:
    """The address of a server with keys, and a key."""
    folder = tmp_path_factory.mktemp("keyed")
    keys = Keys(folder / "keys.json")
    secret = keys.add("ann")
    async with running(folder, upstream, Access.of(origins=[PAGE], keys=keys), keys) as address:
        yield address, secret


async def status_of(
    http: aiohttp.ClientSession, address: str, path: str, headers: Mapping[str, str], asks: bool = False
) -> int:
    """The status of a GET, or of a question to this path."""
    if not asks:
        async with http.get(address + path, headers=headers) as response:
            return response.status
    body = json.dumps(asking())
    async with http.post(
        address + path, data=body, headers={"Content-Type": "application/json", **headers}
    ) as response:
        return response.status


OWN_HOSTS = (
    *("127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:8000", "localhost.:80", "moa.localhost", "[::1]:8000"),
    *("192.168.1.7:8000", "10.0.0.5", "[fe80::1%25eth0]:8000", "0.0.0.0:8000"),
    *("host.docker.internal:8000", "host.containers.internal"),
)
OTHER_HOSTS = (
    *(
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example#@127.0.0.1",
    ),
    *("moa", "moa:8000", "my-laptop.local", "x@127.0.0.1", "127.0.0.1/x", "[", "", "127.0.0.1, x"),
    *("docker.internal", "evil.host.docker.internal"),
)


@pytest.mark.parametrize("host", OTHER_HOSTS)
async def test_without_keys_no_other_host_is_served(
    http: aiohttp.ClientSession, keyless: str, upstream: Upstream, host: str
) -> None:
    """A page that points a name of its own at this machine (DNS rebinding) reads no route and spends nothing."""
    for path in READS:
        assert await status_of(http, keyless, path, {"Host": host}) == 403, path
    for path in ASKS:
        assert await status_of(http, keyless, path, {"Host": host}, asks=True) == 403, path
    for path in HEALTH:
        assert await status_of(http, keyless, path, {"Host": host}) == 200
    assert upstream.requests == []


async def test_names_of_this_machine_and_addresses_are_hosts(http: aiohttp.ClientSession, keyless: str) -> None:
    """No page elsewhere can have them; containers reach this machine under names of their own."""
    for host in OWN_HOSTS:
        assert await status_of(http, keyless, "/runs", {"Host": host}) == 200, host
        assert await status_of(http, keyless, CHAT, {"Host": host}, asks=True) == 200, host


OWN_ORIGINS = (
    *("http://localhost:3000", "https://localhost", "http://127.0.0.1:8080", "http://[::1]:1", "http://0.0.0.0:3000"),
    *("http://tauri.localhost", "tauri://localhost", "app://obsidian.md", "file://", "capacitor://localhost"),
    *("vscode-webview://1c0t3", "chrome-extension://abc", "moz-extension://0-1", "safari-web-extension://0-1"),
)
OTHER_ORIGINS = (
    *("https://evil.example", "http://evil.example:8000", "https://localhost.evil.example", "http://moa:3000", PAGE),
    *(
        "null",
        "evil://x",
        "data:",
        "data:text/html,x",
        "file",
        "",
        "http://[",
        "http://",
        "*",
        "javascript://localhost",
    ),
    *("http://127.0.0.1@evil.example", "http://evil.example/127.0.0.1", "http://localhost, https://evil.example"),
)


@pytest.mark.parametrize("origin", OTHER_ORIGINS)
async def test_without_keys_pages_elsewhere_are_refused(
    http: aiohttp.ClientSession, keyless: str, upstream: Upstream, origin: str
) -> None:
    """Any page that the user opens could spend their money; its browser is allowed nothing, and the server refuses it."""
    async with http.options(keyless + CHAT, headers={"Origin": origin, **PREFLIGHT}) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers
    for path in READS:
        assert await status_of(http, keyless, path, {"Origin": origin}) == 403, path
    for path in ASKS:
        assert await status_of(http, keyless, path, {"Origin": origin}, asks=True) == 403, path
    for path in HEALTH:
        assert await status_of(http, keyless, path, {"Origin": origin}) == 200
    assert upstream.requests == []


async def test_pages_of_this_machine_and_applications_may_use_the_api(
    http: aiohttp.ClientSession, keyless: str
) -> None:
    """Browser extensions, desktop applications and editors have schemes that no web page can have."""
    for origin in OWN_ORIGINS:
        async with http.options(keyless + CHAT, headers={"Origin": origin, **PREFLIGHT}) as response:
            assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, origin)
        assert await status_of(http, keyless, CHAT, {"Origin": origin}, asks=True) == 200, origin


async def test_the_browser_of_a_local_page_is_allowed_what_clients_need(
    http: aiohttp.ClientSession, keyless: str
) -> None:
    """Any header, the private network, and to read run IDs and waiting times, in streams and in errors; but no saved run."""
    here = "http://localhost:3000"
    async with http.options(keyless + CHAT, headers={"Origin": here, **PREFLIGHT}) as response:
        allowed = response.headers
        assert allowed["Access-Control-Allow-Headers"] == PREFLIGHT["Access-Control-Request-Headers"]
        assert "POST" in allowed["Access-Control-Allow-Methods"]
        assert allowed["Access-Control-Allow-Private-Network"] == "true"
    for body, status in ((asking(), 200), (asking(stream=True), 200), (asking("moa/nobody"), 404), ({"model": 5}, 400)):
        async with http.post(keyless + CHAT, json=body, headers={"Origin": here}) as response:
            assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (status, here)
            exposed = response.headers["Access-Control-Expose-Headers"]
            assert all(name in exposed for name in ("x-request-id", "retry-after", "x-moa-run", "x-should-retry"))
            assert response.headers["Vary"] == "Origin"
            await response.read()
    async with http.get(f"{keyless}/v1/models") as response:
        assert response.headers["Vary"] == "Origin", "a cache must not give a page what a program got"
    for path in ("/runs", "/mixtures", "/metrics"):
        async with http.get(keyless + path, headers={"Origin": here}) as response:
            assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    ("fetch", "served"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, True),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, True),
        ({"Sec-Fetch-Mode": "cors"}, True),  # Node's fetch sends this one alone
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "http://127.0.0.1:3000"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "vscode-webview://1c0t3"}, True),
    ],
)
async def test_without_an_origin_browsers_say_where_a_request_comes_from(
    http: aiohttp.ClientSession, keyless: str, fetch: dict[str, str], served: bool
) -> None:
    """A script or image tag of another site is refused, where the browser marks it; applications' own pages are not."""
    for path in READS:
        assert (await status_of(http, keyless, path, fetch) != 403) == served, path
    assert (await status_of(http, keyless, CHAT, fetch, asks=True) == 200) == served


async def test_a_link_on_another_site_opens_the_page(
    http: aiohttp.ClientSession, keyless: str, upstream: Upstream
) -> None:
    """Opening an address reads nothing for the other site; a form that it sends does more, and is refused."""
    opened = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert await status_of(http, keyless, "/", opened) == 200
    assert await status_of(http, keyless, CHAT, {**opened, "Content-Type": "text/plain"}, asks=True) == 403
    assert upstream.requests == []


@pytest.mark.parametrize("kind", ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("path", [CHAT, "/runs", "/mixtures/toml"])
async def test_a_page_sends_json_alone(
    http: aiohttp.ClientSession, keyless: str, upstream: Upstream, path: str, kind: str
) -> None:
    """A browser sends other types without asking first, so another page of this machine could spend; programs may."""
    body = json.dumps(asking()).encode()
    typed = {"Content-Type": kind} if kind else {}
    for page in ({"Origin": "http://localhost:3000"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": keyless}):
        headers = {**typed, **page}
        async with http.post(
            keyless + path, data=body, headers=headers, skip_auto_headers=["Content-Type"]
        ) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (415, "unsupported_media_type")
    assert upstream.requests == []
    async with http.post(keyless + path, data=body, headers=typed, skip_auto_headers=["Content-Type"]) as response:
        assert response.status != 415
    async with http.post(keyless + CHAT, json=asking(), headers={"Origin": keyless}) as response:
        assert response.status == 200


MARKS = (
    *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via", "CF-Connecting-IP"),
    *("True-Client-IP", "X-Client-IP", "CDN-Loop", "Tailscale-User-Login", "Fly-Client-IP"),
)


@pytest.mark.parametrize("name", MARKS)
async def test_without_keys_nothing_comes_through_a_proxy(
    http: aiohttp.ClientSession, keyless: str, allowing: str, upstream: Upstream, name: str
) -> None:
    """The proxy may stand on the Internet. The caller reads one sentence without a remedy; ``--no-auth`` lets it through."""
    mark = {name: "for=203.0.113.7"}
    for path in (*READS, *ASKS):
        method = "POST" if path in ASKS else "GET"
        async with http.request(method, keyless + path, json=asking(), headers=mark) as response:
            assert response.status == 403
            error = (await response.json())["error"]
            assert error["code"] == "proxy_not_allowed"
            assert not any(word in error["message"] for word in ("key", "auth", "proxy", "moa"))
    for path in HEALTH:
        assert await status_of(http, keyless, path, mark) == 200
    assert upstream.requests == []
    assert await status_of(http, allowing, CHAT, mark, asks=True) == 200


async def test_hosts_and_pages_are_allowed_by_name(
    http: aiohttp.ClientSession, allowing: str, upstream: Upstream
) -> None:
    """``--allow-host`` and ``--allow-origin``; an allowed page may read every path, another page of its site nothing."""
    for host, served in (("moa:8000", True), ("ai.example.com", True), ("x.moa", False), ("evil.example", False)):
        assert (await status_of(http, allowing, CHAT, {"Host": host}, asks=True) == 200) == served
        own = {"Host": host, "Origin": f"http://{host}"}
        assert (await status_of(http, allowing, "/runs", own, asks=True) == 201) == served
    for path, method in ((CHAT, "POST"), ("/runs", "POST"), ("/runs/x", "DELETE"), ("/v1/models", "GET")):
        asked = {**PREFLIGHT, "Access-Control-Request-Method": method}
        async with http.options(allowing + path, headers={"Origin": PAGE, **asked}) as response:
            assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
            assert method in response.headers["Access-Control-Allow-Methods"]
        async with http.get(allowing + path, headers={"Origin": PAGE}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
    for page in (f"{PAGE}:8443", PAGE.replace("https", "http"), "https://x.chat.example.com"):
        assert await status_of(http, allowing, CHAT, {"Origin": page}, asks=True) == 403


async def test_with_keys_only_allowed_pages_may_read(
    http: aiohttp.ClientSession, keyed: tuple[str, str], upstream: Upstream
) -> None:
    """Keys decide, whatever the host and the proxy; a page that is not allowed gets no header for its browser."""
    address, secret = keyed
    bearer = {"Authorization": f"Bearer {secret}"}
    for more in (
        {},
        {"Host": "ai.example.com"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Origin": "https://evil.example"},
    ):
        assert await status_of(http, address, CHAT, {**bearer, **more}, asks=True) == 200
        assert await status_of(http, address, CHAT, more, asks=True) == 401
    for origin, allowed in (
        (PAGE, True),
        (address, True),
        ("http://localhost:3000", False),
        ("app://x", False),
        ("null", False),
    ):
        async with http.options(address + CHAT, headers={"Origin": origin, **PREFLIGHT}) as response:
            assert ("Access-Control-Allow-Origin" in response.headers) == allowed
        for headers in ({"Origin": origin}, {"Origin": origin, **bearer}):
            async with http.post(address + CHAT, json=asking(), headers=headers) as response:
                assert ("Access-Control-Allow-Origin" in response.headers) == allowed, "a page must see its 401, too"


async def test_every_response_has_the_type_it_says(http: aiohttp.ClientSession, keyless: str) -> None:
    """``nosniff`` stands on JSON, errors and streams too; ``/docs``, whose scripts would come from elsewhere, is off."""
    for path in ("/v1/models", "/openapi.json", "/no", "/docs", "/redoc", "/healthz", "/"):
        async with http.get(keyless + path) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert (response.status == 404) == (path in ("/no", "/docs", "/redoc"))
            assert b"cdn." not in await response.read()


async def test_keys_apply_on_this_machine_too(http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path) -> None:
    """A server on loopback takes the keys of the default file from the first one on; ``--no-auth`` turns them off."""
    config = CONFIG.format(base_url=upstream.base_url)
    ring = Keys(tmp_path / "config" / "moa" / "keys.json")
    async with Served(tmp_path, config=config) as server:
        assert await status_of(http, server.origin, CHAT, {}, asks=True) == 200
        bearer = {"Authorization": f"Bearer {ring.add('ann')}"}
        assert await status_of(http, server.origin, CHAT, {}, asks=True) == 401
        assert await status_of(http, server.origin, CHAT, {**bearer, "Via": "1.1 x"}, asks=True) == 200
        ring.remove("ann")
        assert await status_of(http, server.origin, CHAT, {}, asks=True) == 401
        await holds(lambda: "callers need one" in server.text)
    async with Served(tmp_path, "--no-auth", "--allow-host", "moa", config=config) as server:
        assert await status_of(http, server.origin, CHAT, {"Host": "moa", "Via": "1.1 x"}, asks=True) == 200
        assert await status_of(http, server.origin, CHAT, {"Host": "evil.example"}, asks=True) == 403
        await holds(lambda: "--allow-host" in server.text)


async def test_the_operator_reads_the_remedy_once(
    http: aiohttp.ClientSession, keyless: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each reason is one line of the log, however often callers come; a caller cannot break the line."""
    for _ in range(3):
        await status_of(http, keyless, "/v1/models", {"X-Forwarded-Server": "x"})
        await status_of(http, keyless, "/v1/models%0aforged", {"Host": "first.example"})
    lines = [record.getMessage() for record in caplog.records if record.name == "moa.server"]
    assert [("--no-auth" in line, "--allow-host" in line) for line in lines] == [(True, False), (False, True)]
    assert not any("\n" in line for line in lines)


# -- names in headers ---------------------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_none(text: str) -> None:
    """No header raises, and what is no host is not this machine's."""
    assert isinstance(is_local_page(text), bool)
    assert not is_unambiguous(host_name(f"{text}.evil.example"))
    assert not is_local_page(f"https://{text}.evil.example")


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://chat.example.com", "https://chat.example.com"),
        ("HTTPS://Chat.Example.com:443/", "https://chat.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("null", "null"),
        *[(wrong, None) for wrong in ("", "*", "https://*.example.com", "chat.example.com", "https://x/y", "https://")],
    ],
)
def test_an_origin_is_read_as_browsers_send_it(written: str, sent: str | None) -> None:
    """Lower case, without the scheme's own port; None for what no browser sends."""
    assert origin_of(written) == sent


@pytest.mark.parametrize(
    ("hosts", "origins"),
    [(["http://moa"], []), (["*"], []), ([""], []), ([], ["moa"]), ([], ["*"]), ([], ["https://x.example/y"])],
)
def test_what_an_operator_allows_is_checked(hosts: list[str], origins: list[str]) -> None:
    """The error names the option and the value."""
    with pytest.raises(ConfigError, match=r"--allow-(host|origin) '"):
        Access.of(hosts, origins)


def test_null_is_allowed_with_keys_alone(tmp_path: Path) -> None:
    """Local files and sandboxed frames of every site have this origin."""
    assert Access.of(origins=["null"], keys=Keys(tmp_path / "keys.json")).origins == {"null"}
    with pytest.raises(ConfigError, match="needs API keys"):
        Access.of(origins=["null"])
