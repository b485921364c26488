"""The page: one HTML file, one ES module, one stylesheet, given out as they are.

The policy lets nothing in from elsewhere and no text become HTML or code: script and style come from this server alone,
and Trusted Types without a policy turn off every way from a string to a document.
https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # asked for each time, answered 304 where nothing changed
}
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}

router = APIRouter(include_in_schema=False)


def _serve(path: str, name: str, kind: str) -> None:
    content = (files("moa.server") / "page" / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**HEADERS, "etag": tag}

    @router.get(path, name=name)
    async def file(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)


for _path, (_name, _kind) in FILES.items():
    _serve(_path, _name, _kind)


@router.get("/v1")
@router.get("/v1/")
async def from_the_address_printed() -> Response:
    """Who opens the API's address in a browser means the page."""
    return RedirectResponse("/")
