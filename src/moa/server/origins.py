"""Names in the headers of a request: hosts, origins of web pages, and the marks of a proxy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address

from moa.models.provider import is_loopback

APPLICATIONS = frozenset(
    {
        *("app", "file", "electron", "tauri", "wails", "capacitor", "ionic"),
        *("vscode-webview", "vscode-file"),
        *("chrome-extension", "moz-extension", "safari-web-extension", "safari-extension", "ms-browser-extension"),
    }
)
"""Schemes of the origins of desktop applications, editors and browser extensions. No web page has such an origin; a page can
only have ``null``, which any sandboxed frame has. https://github.com/ollama/ollama/blob/main/envconfig/config.go and
https://github.com/ollama/ollama/issues/2291 have most of them.
"""

OF_CONTAINERS = frozenset({"host.docker.internal", "host.containers.internal"})
"""Names under which containers reach the machine they run on; no public name ends so.
https://docs.docker.com/ai/model-runner/openwebui-integration and Podman's ``--add-host``.
"""

FORWARDED = frozenset(
    {
        *("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-remote-ip", "x-remote-addr"),
        *("x-original-forwarded-for", "x-original-host", "x-original-url", "x-originating-ip", "x-proxyuser-ip"),
        *("cf-connecting-ip", "cf-connecting-ipv6", "cf-ray", "cf-visitor", "cdn-loop", "true-client-ip"),
        *("fastly-client-ip", "fly-client-ip", "x-azure-clientip", "x-appengine-user-ip", "x-envoy-external-address"),
        *("x-nf-client-connection-ip", "x-vercel-id", "tailscale-user-login", "wl-proxy-client-ip"),
    }
)
"""Headers that reverse proxies, CDNs and tunnels add, and programs on this machine do not; and all that begin with
``x-forwarded``. https://www.rfc-editor.org/rfc/rfc7239, https://www.rfc-editor.org/rfc/rfc9110#name-via,
https://developers.cloudflare.com/fundamentals/reference/http-headers/
"""

_HOST = re.compile(r"(\[[0-9a-z:.%]+\]|[^\s:/?#@\[\]\\]+)(?::\d*)?", re.IGNORECASE)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^\s/?#@\\]*)", re.IGNORECASE)


@lru_cache(256)
def host_name(host: str) -> str:
    """The name or address in a ``Host`` header, in lower case, without its port; empty where there is none."""
    match = _HOST.fullmatch(host.strip())
    return match[1].strip("[]").lower().removesuffix(".") if match else ""


@lru_cache(256)
def is_unambiguous(name: str) -> bool:
    """Whether no web page can have this host name and be from elsewhere: an IP address, or a name of this machine.

    A page can point any other name at this machine (DNS rebinding); to its browser, it then has the server's own origin.
    """
    return _is_address(name) or is_loopback(name) or name in OF_CONTAINERS


def is_local_page(origin: str) -> bool:
    """Whether this is the origin of a page on this machine, or of an application on it."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return False
    if match[1].lower() not in ("http", "https"):
        return match[1].lower() in APPLICATIONS
    name = host_name(match[2])
    return is_loopback(name) or name in ("0.0.0.0", "::")


def origin_of(text: str) -> str | None:
    """An origin as browsers send it, from what an operator writes; None where it is none."""
    text = text.strip().removesuffix("/")
    match = _ORIGIN.fullmatch(text)
    if text == "null":
        return text
    if match is None or "*" in text:
        return None
    scheme, host = match[1].lower(), match[2].lower()
    if scheme in ("http", "https"):
        if not host_name(host):
            return None
        host = host.removesuffix({"http": ":80", "https": ":443"}[scheme])
    return f"{scheme}://{host}"


def mark_of_proxy(headers: Mapping[str, str]) -> str | None:
    """The name of a header that a proxy has added, None without one. Names are in lower case."""
    found = headers.keys() & FORWARDED
    return next(iter(found), None) or next((name for name in headers if name.startswith("x-forwarded")), None)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
