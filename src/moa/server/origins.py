"""Web pages that must not use a server without keys.

Any page can make its visitor's browser post to 127.0.0.1, which would spend the operator's money. Browsers name the page in
``Origin``; programs do not send it. A page can also point a domain of its own at 127.0.0.1 (DNS rebinding). To the browser
such a page has the server's own origin and could read saved runs; the domain shows in ``Host``.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request

from moa.models.provider import is_loopback


def foreign_page(request: Request) -> str | None:
    """The origin of the page that sends the request; None without one, on this machine, or with the server's own origin."""
    origin = request.headers.get("origin")
    if origin is None:
        return None
    if is_local_page(origin):
        return None
    server = request.scope.get("server")
    own = (f"http://{host}", f"https://{host}") if (host := request.headers.get("host")) else ()
    return None if server and not is_loopback(server[0]) and origin in own else origin


def is_local_page(origin: str) -> bool:
    """Whether this is the origin of a page on this machine, or of a desktop application."""
    try:
        page = urlsplit(origin)
        name = page.hostname
    except ValueError:
        return False
    if page.scheme not in ("http", "https"):
        # Desktop applications have schemes of their own (app://…, vscode-webview://…); "null" is any sandboxed page.
        return bool(page.scheme)
    return is_loopback(name)


def foreign_host(request: Request) -> str | None:
    """The ``Host`` of a request to a server on loopback, if it is neither a loopback name nor an IP address; else None."""
    server = request.scope.get("server")
    if not server or not is_loopback(server[0]):
        return None
    host = request.headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if not is_loopback(name):
            ip_address(name)
    except ValueError:
        return host
    return None
