"""The suite reaches nothing beyond this machine, so it passes on a train and costs nothing."""

from __future__ import annotations

import asyncio
import os
import socket

import aiohttp
import pytest

from moa.models.providers import PROVIDERS


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.com", 443)])
def test_a_connection_elsewhere_fails_and_names_the_address(address: tuple[str, int]) -> None:
    """Connecting to another machine, by either call, fails with its address before a packet leaves."""
    with socket.socket() as client:
        for connect in (client.connect, client.connect_ex):
            with pytest.raises(AssertionError, match=address[0]):
                connect(address)


def test_an_ipv6_connection_elsewhere_fails() -> None:
    """Another machine's IPv6 address is refused too."""
    with socket.socket(socket.AF_INET6) as client, pytest.raises(AssertionError, match="2001:db8::1"):
        client.connect(("2001:db8::1", 80))


def test_a_name_of_another_machine_is_not_looked_up() -> None:
    """No DNS query leaves this machine, for str and bytes."""
    for host in ("api.openai.com", b"api.openai.com"):
        with pytest.raises(AssertionError, match=r"api\.openai\.com"):
            socket.getaddrinfo(host, 443)


@pytest.mark.anyio
async def test_http_clients_meet_the_guard() -> None:
    """The clients that the product uses meet the guard, not only bare sockets."""
    with pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        await asyncio.open_connection("192.0.2.1", 80)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(AssertionError, match=r"example\.com"):
            await session.get("http://example.com")


def test_this_machine_is_allowed() -> None:
    """Loopback connections, by address and by name, work."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1])).close()


def test_no_api_key_of_the_developer_is_visible() -> None:
    """No provider's API key is in the environment of a test."""
    assert not {row.key_variable for row in PROVIDERS.values()} & {*os.environ}
