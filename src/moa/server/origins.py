"""Which web pages may ask a server that has no keys.

Any page can make its visitor's browser post to 127.0.0.1, and make a name of its own mean 127.0.0.1. It would spend the
money of whoever runs the server. Browsers say which page asks, in ``Origin``; programs do not send it. A page whose name was
made to mean this machine is of the server's own origin, as the browser sees it, and could read what is kept here: it shows
in ``Host``.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request

from moa.models.providers import is_loopback


def foreign_page(request: Request) -> str | None:
    """The origin of the page that asks, where it is neither on this machine nor the server's own; else None."""
    origin = request.headers.get("origin")
    if origin is None:
        return None
    try:
        page = urlsplit(origin)
        name = page.hostname
    except ValueError:
        return origin
    if page.scheme not in ("http", "https"):
        # An application (app://…, vscode-webview://…) has its own scheme; "null" is any page in a sandbox.
        return None if page.scheme else origin
    if is_loopback(name):
        return None
    server = request.scope.get("server")
    if server and not is_loopback(server[0]) and page.netloc == request.headers.get("host"):
        return None
    return origin


def foreign_host(request: Request) -> str | None:
    """The name by which a server on loopback was reached, where it is neither loopback's nor an address; else None."""
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
