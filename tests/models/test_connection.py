"""An endpoint's connections: a session, a TLS context or a proxy of the caller's own, all over real sockets."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from moa.errors import ConfigError, StreamBroken, Unreachable
from moa.models.connection import Silence, next_packet, whole_body
from moa.models.endpoint import Endpoint, Timeouts
from tests.fakes.forward_proxy import ForwardProxy
from tests.fakes.tls import client_context, server_context
from tests.fakes.upstream import Upstream, hang, pause, say, words
from tests.fakes.waiting import PATIENCE
from tests.models.calling import HELLO, deltas_of, text_of

pytestmark = pytest.mark.anyio

KEY = "sk-0123456789abcdef"


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Upstream]:
    """A server that speaks TLS, with a certificate of its own."""
    async with Upstream(server_context(tmp_path)) as running:
        running.script("m", say("Hello."))
        yield running


@pytest.fixture
def plain(upstream: Upstream) -> Upstream:
    """A server that answers every call."""
    upstream.script("m", say("Hello."))
    return upstream


# The caller's session


async def test_a_session_of_ones_own_is_used_and_left_open(plain: Upstream) -> None:
    """Calls go through the caller's session, with the endpoint's headers beside its own; closing the endpoint leaves it."""
    async with aiohttp.ClientSession(headers={"X-Team": "blue"}) as session:
        async with Endpoint("here", plain.base_url, api_key=KEY, session=session) as endpoint:
            assert await text_of(endpoint.model("m")) == "Hello."
            assert await endpoint.models() == ["m"]
        assert not session.closed
        async with session.get(f"{plain.base_url}/models") as response:
            assert response.status == 200
    call = plain.requests[0]
    assert (call.headers["X-Team"], call.headers["Authorization"]) == ("blue", f"Bearer {KEY}")


async def test_a_sessions_own_limit_on_a_whole_call_does_not_apply(upstream: Upstream) -> None:
    """The endpoint's timeouts replace those of the session: aiohttp would end every answer after five minutes."""
    upstream.script("m", pause(0.2) + say("Hello."))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as session:
        assert await text_of(Endpoint("here", upstream.base_url, session=session).model("m")) == "Hello."


async def test_a_closed_session_fails_the_call(plain: Upstream) -> None:
    """A call through a session that the caller has closed is an error that says so."""
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(Unreachable, match=r"here/m: the session passed to the endpoint of http://127.* is closed"):
        await deltas_of(Endpoint("here", plain.base_url, session=session).model("m"))


# TLS


async def test_a_private_certificate_is_trusted_through_a_context(secure: Upstream) -> None:
    """A context that trusts a private certificate authority opens the connection."""
    async with Endpoint("here", secure.base_url, ssl=client_context()) as endpoint:
        assert secure.base_url.startswith("https://")
        assert await text_of(endpoint.model("m")) == "Hello."


async def test_a_certificate_that_nobody_vouches_for_is_refused(secure: Upstream) -> None:
    """Without that context the call fails, and the reason is the certificate."""
    async with Endpoint("here", secure.base_url) as endpoint:
        with pytest.raises(Unreachable, match=r"no secure connection to https://127.*certificate verify failed"):
            await deltas_of(endpoint.model("m"))
    assert secure.requests == []


async def test_a_context_and_a_session_together(secure: Upstream) -> None:
    """The TLS context applies to calls through the caller's session as well."""
    async with aiohttp.ClientSession() as session:
        endpoint = Endpoint("here", secure.base_url, ssl=client_context(), session=session)
        assert await text_of(endpoint.model("m")) == "Hello."


# A proxy


async def test_a_proxy_carries_the_calls(plain: Upstream) -> None:
    """A proxy passed to the endpoint receives the call, with its password in the proxy's header alone."""
    async with (
        ForwardProxy(plain.base_url) as proxy,
        Endpoint(
            "far", "http://api.example.com/v1", api_key=KEY, proxy=f"http://me:secret@{proxy.address}"
        ) as endpoint,
    ):
        assert await text_of(endpoint.model("m")) == "Hello."
    first, headers = proxy.requests[0]
    assert first == "POST http://api.example.com/v1/chat/completions HTTP/1.1"
    assert headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
    assert plain.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_a_proxy_carries_tls_without_reading_it(secure: Upstream) -> None:
    """To an https server the proxy opens a tunnel: it sees the host, and neither the path nor the key."""
    async with (
        ForwardProxy(secure.base_url) as proxy,
        Endpoint(
            "here",
            secure.base_url.replace("127.0.0.1", "localhost"),
            api_key=KEY,
            ssl=client_context(),
            proxy=f"http://me:secret@{proxy.address}",
        ) as endpoint,
    ):
        assert await text_of(endpoint.model("m")) == "Hello."
    [(first, headers)] = proxy.requests
    assert first.startswith("CONNECT localhost:")
    assert headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
    assert KEY not in str(headers)


async def test_a_proxy_that_refuses_is_named_without_its_password(secure: Upstream) -> None:
    """A proxy that does not open a tunnel makes the server unreachable, and its password is in no error."""
    async with (
        ForwardProxy(secure.base_url, refuses=True) as proxy,
        Endpoint("here", secure.base_url, proxy=f"http://me:secret@{proxy.address}") as endpoint,
    ):
        with pytest.raises(Unreachable, match="the proxy in front of") as caught:
            await deltas_of(endpoint.model("m"))
    assert "secret" not in f"{caught.value} {caught.value!r} {endpoint!r}"


@pytest.mark.parametrize("proxy", ["", "localhost:3128", "socks5://localhost:1080", "http://"])
def test_a_proxy_that_is_no_http_url_is_refused(proxy: str) -> None:
    """A proxy of another kind needs a session with a connector for it, and is refused at once."""
    with pytest.raises(ConfigError, match="the proxy of here must be http:// or https:// and a host"):
        Endpoint("here", "http://127.0.0.1/v1", proxy=proxy)


async def test_the_environments_proxy_is_used_with_its_password(
    plain: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``HTTP_PROXY``, with or without a scheme, carries calls to other machines, and ``NO_PROXY`` exempts hosts."""
    async with ForwardProxy(plain.base_url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@{proxy.address}")
        async with Endpoint("far", "http://api.example.com/v1") as endpoint:
            assert await text_of(endpoint.model("m")) == "Hello."
        assert proxy.requests[0][1]["proxy-authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        async with Endpoint("far", "http://api.example.com/v1") as endpoint:
            assert await text_of(endpoint.model("m")) == "Hello."
        monkeypatch.setenv("NO_PROXY", "example.com")
        async with Endpoint("far", "http://api.example.com/v1", timeouts=Timeouts(connect=5)) as endpoint:
            with pytest.raises(AssertionError, match="must not reach"):  # the suite's guard: no proxy in between
                await deltas_of(endpoint.model("m"))
    assert len(proxy.requests) == 2


async def test_a_netrc_file_does_not_disturb_calls(
    plain: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Entries in ``~/.netrc`` neither replace the key nor break calls with one."""
    (tmp_path / "netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with ForwardProxy(plain.base_url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
        async with Endpoint("far", "http://api.example.com/v1", api_key=KEY) as endpoint:
            assert await text_of(endpoint.model("m")) == "Hello."
    assert plain.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_closing_a_stream_closes_its_connection_in_a_callers_session(upstream: Upstream) -> None:
    """Closing the stream closes the connection, also through the caller's session."""
    upstream.script("m", words("Hello") + hang())
    async with aiohttp.ClientSession() as session:
        stream = Endpoint("here", upstream.base_url, session=session).model("m").stream(HELLO)
        assert (await anext(stream)).text
        await stream.aclose()
        async with asyncio.timeout(PATIENCE):
            await upstream.requests[0].disconnected.wait()


# A connection that is lost while a body is read


class _LostAtTheEndOfAChunk:
    """aiohttp's reader where the connection is lost between the end of a chunk and the reading of it."""

    def __init__(self, *packets: bytes) -> None:
        self.packets = [*packets]

    async def readany(self) -> bytes:
        if not self.packets:
            raise RuntimeError("Connection closed.")
        return self.packets.pop(0)

    async def read(self) -> bytes:
        return await self.readany()


async def test_a_connection_that_is_lost_at_the_end_of_a_chunk_is_lost() -> None:
    """aiohttp has an error of its own for it, which is no defect of ours."""
    response: Any = SimpleNamespace(content=_LostAtTheEndOfAChunk(b"data: "), read=_LostAtTheEndOfAChunk().read)
    silence = Silence(None)
    assert await next_packet("here/m", response, silence) == b"data: "
    with pytest.raises(StreamBroken, match="the connection was lost in the middle of the answer"):
        await next_packet("here/m", response, silence)
    assert await whole_body("here/m", response, silence) == ""


async def test_a_connection_that_is_lost_after_the_answer_loses_nothing(
    plain: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is complete, however its connection ends."""
    readany, received = aiohttp.StreamReader.readany, bytearray()

    async def lost_after_the_answer(reader: aiohttp.StreamReader) -> bytes:
        if b"[DONE]" in received:
            raise RuntimeError("Connection closed.")
        packet = await readany(reader)
        received.extend(packet)
        return packet

    monkeypatch.setattr(aiohttp.StreamReader, "readany", lost_after_the_answer)
    async with Endpoint("here", plain.base_url) as endpoint:
        assert await text_of(endpoint.model("m")) == "Hello."
