"""The failures of Chat Completions servers become errors that give the reason."""

from __future__ import annotations

import asyncio
import socket
import time
from email.utils import formatdate

import pytest

from moa.errors import (
    CallRejected,
    ConfigError,
    KeyRejected,
    ModelError,
    RateLimited,
    TimedOut,
    Unreachable,
    UpstreamFailed,
)
from moa.messages import Usage, collected
from moa.models.endpoint import Endpoint, Timeouts
from tests.fakes.upstream import (
    Received,
    Script,
    Upstream,
    chunk,
    comment,
    drop,
    error_event,
    garbage,
    hang,
    head,
    pause,
    raw,
    refuse,
    say,
    sequence,
    step,
    whole,
    words,
)
from tests.models.endpoints import KEY, QUESTION, answer, failure, impatient, soon

pytestmark = pytest.mark.anyio


# Silence


@pytest.mark.parametrize("silence", [hang(), head() + hang(), chunk({"role": "assistant", "content": ""}) + hang()])
async def test_no_first_token_in_time(upstream: Upstream, silence: Script) -> None:
    """Without a first token in time the call is given up, before the head of the response or after it."""
    upstream.script("m", silence)
    async with impatient(upstream, first_token=0.2) as endpoint:
        deltas, error = await failure(endpoint)
    assert (deltas, type(error), str(error)) == ([], TimedOut, "here/m: no token for 0.2 s")
    await soon(upstream.requests[0].disconnected)


async def test_comments_count_as_silence(upstream: Upstream) -> None:
    """Comments keep the connection open, and do not restart the limit for the first token."""
    upstream.script("m", sequence([comment("OPENROUTER PROCESSING") + pause(0.02)] * 100) + say("Four."))
    async with impatient(upstream, first_token=0.1) as endpoint:
        _, error = await failure(endpoint)
    assert type(error) is TimedOut


async def test_a_stall_between_tokens(upstream: Upstream) -> None:
    """A stream that stalls is given up, and its tokens so far are counted."""
    upstream.script("m", words("It is") + hang())
    async with impatient(upstream, stall=0.2) as endpoint:
        deltas, error = await failure(endpoint)
    assert (type(error), error.retryable) == (TimedOut, False)
    assert deltas[-1].usage == Usage(6, 2, estimated=True)
    await soon(upstream.requests[0].disconnected)


async def test_a_slow_answer_does_not_time_out(upstream: Upstream) -> None:
    """An answer may take longer than any limit, as long as no silence does."""
    upstream.script("m", say("word " * 50, pace=0.02))
    async with impatient(upstream, first_token=0.75, stall=0.75) as endpoint:
        assert collected(await answer(endpoint)).finish_reason == "stop"


async def test_a_slow_reader_is_no_stall(upstream: Upstream) -> None:
    """The time that a reader takes over a token is not the server's silence."""
    upstream.script("m", say("one two three"))
    async with impatient(upstream, stall=0.25) as endpoint:
        stream = endpoint.model("m").stream(QUESTION)
        await anext(stream)
        await asyncio.sleep(0.4)
        assert collected([delta async for delta in stream]).finish_reason == "stop"


async def test_no_limit(upstream: Upstream) -> None:
    """None is no limit."""
    upstream.script("m", pause(0.02) + say("Four."))
    endpoint = Endpoint("here", upstream.base_url, timeouts=Timeouts(connect=None, first_token=None, stall=None))
    async with endpoint:
        assert collected(await answer(endpoint)).text == "Four."


# Refusals


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (307, CallRejected),
        (400, CallRejected),
        (401, KeyRejected),
        (402, CallRejected),
        (403, KeyRejected),
        (404, CallRejected),
        (408, TimedOut),
        (422, CallRejected),
        (425, UpstreamFailed),
        (429, RateLimited),
        (500, UpstreamFailed),
        (529, UpstreamFailed),
    ],
)
async def test_each_status_has_its_kind_of_error(
    upstream: Upstream, endpoint: Endpoint, status: int, kind: type[ModelError]
) -> None:
    """Each status gives its kind of error, which holds it; there is no delta and no second call."""
    upstream.script("m", refuse(status))
    deltas, error = await failure(endpoint)
    assert (deltas, type(error), error.status, len(upstream.requests)) == ([], kind, status, 1)


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {}, None),
        (429, {"Retry-After": "2"}, 2),
        (429, {"Retry-After": "0.5"}, 0.5),
        (429, {"Retry-After": "60", "retry-after-ms": "250"}, 0.25),
        (429, {"Retry-After": formatdate(time.time() - 100, usegmt=True)}, 0),
        (429, {"Retry-After": "soon"}, None),
        (429, {"Retry-After": "nan"}, None),
        (503, {"Retry-After": "3"}, 3),
    ],
)
async def test_how_long_to_wait(
    upstream: Upstream, endpoint: Endpoint, status: int, headers: dict[str, str], wait: float | None
) -> None:
    """Seconds, milliseconds and dates in a refusal become seconds; unreadable values become None."""
    upstream.script("m", refuse(status, headers=headers))
    _, error = await failure(endpoint)
    assert error.retry_after == wait


async def test_a_date_to_wait_for(upstream: Upstream, endpoint: Endpoint) -> None:
    """A date in the future becomes the seconds until then."""
    upstream.script("m", refuse(429, retry_after=formatdate(time.time() + 100, usegmt=True)))
    _, error = await failure(endpoint)
    assert error.retry_after == pytest.approx(100, abs=5)


async def test_a_refusal_does_not_affect_later_calls(upstream: Upstream, endpoint: Endpoint) -> None:
    """After a refused call, the next one is answered."""
    upstream.script("m", refuse(429), refuse(429), say("Four."))
    for _ in range(2):
        await failure(endpoint)
    assert collected(await answer(endpoint)).text == "Four."


@pytest.mark.parametrize(
    ("body", "words_shown"),
    [
        pytest.param({"error": {"message": "No  such\nmodel"}}, "No such model", id="OpenAI"),
        pytest.param({"error": "No such model"}, "No such model", id="Ollama"),
        pytest.param({"message": "No such model"}, "No such model", id="Mistral"),
        pytest.param({"detail": [{"loc": ["body"], "msg": "No such model"}]}, "No such model", id="FastAPI"),
        pytest.param([{"error": {"message": "No such model"}}], "No such model", id="Gemini"),
        pytest.param(
            {"detail": [{"loc": ["body", "top_k"], "msg": "Extra"}, {"loc": ["body", "store"], "msg": "Extra"}]},
            "top_k: Extra; store: Extra",
            id="FastAPI, which names the fields",
        ),
        pytest.param(
            {"error": {"message": "Invalid", "param": "top_k"}}, "Invalid (top_k)", id="OpenAI, which does too"
        ),
        pytest.param("No such model", "No such model", id="plain text"),
        pytest.param("<html>No such model</html>", "", id="a web page"),
        pytest.param({"error": {"message": "x" * 5000}}, "x" * 300 + "…", id="a long tale"),
        pytest.param({}, "", id="nothing"),
    ],
)
async def test_an_error_quotes_the_servers_message(
    upstream: Upstream, endpoint: Endpoint, body: object, words_shown: str
) -> None:
    """The server's message, however it is wrapped, is quoted in one short line; a web page is not."""
    upstream.script("m", whole(body, status=410))
    _, error = await failure(endpoint)
    assert str(error) == "here/m: 410 Gone" + (f": {words_shown}" if words_shown else "")


async def test_a_missing_key_is_mentioned(upstream: Upstream) -> None:
    """A 401 for a call without a key mentions that no key was sent."""
    upstream.script("m", refuse(401, "Unauthorized"))
    async with Endpoint("here", upstream.base_url) as endpoint:
        _, error = await failure(endpoint)
    assert str(error) == "here/m: 401 Unauthorized: Unauthorized (no key was sent)"


@pytest.mark.parametrize(
    "script", [refuse(401, f"Bad key {KEY}."), error_event(f"Bad key {KEY}."), whole(KEY, status=500)]
)
async def test_a_key_that_the_server_quotes_is_not_shown(
    upstream: Upstream, endpoint: Endpoint, script: Script
) -> None:
    """The key is in no error and no ``repr``, not even when the server quotes it."""
    upstream.script("m", script)
    _, error = await failure(endpoint)
    shown = f"{error} {error!r} {error.__cause__!r} {endpoint!r} {endpoint.model('m')!r}"
    assert KEY not in shown
    assert "[key]" in str(error)


async def test_a_secret_header_is_not_shown(upstream: Upstream) -> None:
    """A key in a header of another name is hidden as well."""
    upstream.script("m", refuse(401, f"Bad key {KEY}."))
    async with Endpoint("here", upstream.base_url, headers={"x-api-key": KEY}) as endpoint:
        _, error = await failure(endpoint)
    assert upstream.requests[0].headers["x-api-key"] == KEY
    assert KEY not in str(error)


async def test_a_redirect_is_not_followed(upstream: Upstream, endpoint: Endpoint) -> None:
    """The key is not sent to the target of a redirect."""
    upstream.script("m", refuse(307, headers={"Location": f"{upstream.base_url}/models"}))
    _, error = await failure(endpoint)
    assert "redirects" in str(error)
    assert len(upstream.requests) == 1


async def test_a_web_page_is_no_answer(upstream: Upstream, endpoint: Endpoint) -> None:
    """A web page with status 200 means that the base URL is wrong, and the error reports that."""
    upstream.script("m", whole("<html>Welcome!</html>"))
    _, error = await failure(endpoint)
    assert (type(error), "returns a web page" in str(error)) == (UpstreamFailed, True)


# No connection


async def test_nothing_listens() -> None:
    """A port where nothing listens is unreachable, and the error asks whether the server is running."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with Endpoint("here", f"http://127.0.0.1:{port}/v1") as endpoint:
        _, error = await failure(endpoint)
    assert type(error) is Unreachable
    assert str(error) == f"here/m: cannot connect to http://127.0.0.1:{port}/v1: is the server running?"


async def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name without an address is unreachable, and the error names the host."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with Endpoint("here", "https://nowhere.invalid/v1") as endpoint:
        _, error = await failure(endpoint)
    assert type(error) is Unreachable
    assert "cannot resolve the host nowhere.invalid" in str(error)


async def test_a_connection_that_is_not_made_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer at all is unreachable after the connect limit."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    async with Endpoint("here", "http://127.0.0.1:1/v1", timeouts=Timeouts(connect=0.05)) as endpoint:
        _, error = await failure(endpoint)
    assert type(error) is Unreachable
    assert str(error) == "here/m: no connection to http://127.0.0.1:1/v1 within 0.05 s"


@pytest.mark.parametrize("script", [drop(), garbage()])
async def test_a_server_that_does_not_speak_http(upstream: Upstream, endpoint: Endpoint, script: Script) -> None:
    """A connection that is cut before an answer, or that speaks another protocol, is the server's failure."""
    upstream.script("m", script)
    _, error = await failure(endpoint)
    assert (type(error), error.retryable) == (UpstreamFailed, True)


async def test_tls_to_a_server_without_it(upstream: Upstream) -> None:
    """A server that does not speak TLS is unreachable by https."""
    async with Endpoint("here", upstream.base_url.replace("http:", "https:")) as endpoint:
        _, error = await failure(endpoint)
    assert (type(error), "no secure connection" in str(error)) == (Unreachable, True)


async def test_a_proxy_is_not_used_for_this_machine(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to a server on this machine bypass a proxy in the environment."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    upstream.script("m", say("Four."))
    async with Endpoint("here", upstream.base_url) as endpoint:
        assert collected(await answer(endpoint)).text == "Four."


async def test_a_proxy_is_used_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is used, and named as the cause when it does not answer."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with Endpoint("here", "http://api.example.com/v1") as endpoint:
        _, error = await failure(endpoint)
    assert (type(error), "the proxy in front of" in str(error)) == (Unreachable, True)


@pytest.mark.parametrize(
    "base_url", ["", "localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port", "http://me:word@host/v1"]
)
async def test_an_invalid_base_url(base_url: str) -> None:
    """A base URL that is not an HTTP URL, or holds a password, is refused at once."""
    with pytest.raises(ConfigError, match="the base URL of here must be"):
        Endpoint("here", base_url)


async def test_a_key_in_the_address_is_not_shown(upstream: Upstream) -> None:
    """A key in the query of the base URL is hidden, too, however the server quotes it."""
    upstream.script("m", refuse(401, "No access with /v1?api-key=k%2Fey-1234&x=1, that is k/ey-1234."))
    async with Endpoint("here", f"{upstream.base_url}?api-version=2024&api-key=k%2Fey-1234") as endpoint:
        _, error = await failure(endpoint)
    assert "1234" not in f"{error} {error.refusal} {endpoint!r}"
    assert "[key]" in str(error)


def test_a_socks_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is no HTTP proxy is refused at once, with what to install and without its password."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:word@127.0.0.1:1080")
    with pytest.raises(ConfigError, match=r"socks5 proxy.*aiohttp-socks") as caught:
        Endpoint("here", "https://api.example.com/v1")
    assert "word" not in str(caught.value)


async def test_plain_text_is_quoted(upstream: Upstream, endpoint: Endpoint) -> None:
    """A text with status 200 is no answer, and the error quotes it."""

    async def labelled(call: Received) -> None:
        await call.begin(200, {"Content-Type": "text/plain"})

    upstream.script("m", step(labelled) + raw(b"Internal Server Error"))
    assert "Internal Server Error" in str((await failure(endpoint))[1])
