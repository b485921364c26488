"""Serves the page: ``/`` is its HTML, and ``/page/…`` its ES modules and its stylesheet, as they are in the package.

The policy admits script and style from this server alone, and lets no text become HTML or code: Trusted Types without a
policy turn off every way from a string to a document.
https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Content-Security-Policy

All addresses in the page, and the redirect, are relative: the page also works below a path prefix of a proxy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, HTTPException, Request
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
    "cache-control": "no-cache",  # the browser revalidates each time, and receives a 304 unless the file has changed
}
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
"""Media types of the page's files, by suffix; the server serves no other file."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page.

    Attributes:
        content: its bytes.
        kind: its media type.
        tag: its entity tag, in quotes.
    """

    content: bytes
    kind: str
    tag: str

    def answer(self, if_none_match: str | None) -> Response:
        """The file, or a 304 if the client has it already."""
        headers = {**HEADERS, "etag": self.tag}
        if if_none_match is not None and matches(if_none_match, self.tag):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.kind)


def matches(if_none_match: str, tag: str) -> bool:
    """Whether an ``If-None-Match`` header names a tag: in a list, as ``*``, or as a weak tag, which compressing proxies
    make of a strong one. https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match
    """
    listed = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return tag in listed or listed == ["*"]


def _read(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, PageFile]]:
    """The page's files, each with its path below the folder."""
    for each in folder.iterdir():
        if each.is_dir():
            yield from _read(each, f"{prefix}{each.name}/")
        elif kind := KINDS.get("." + each.name.rpartition(".")[2]):
            content = each.read_bytes()
            yield prefix + each.name, PageFile(content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')


FILES = dict(_read(files("moa.server") / "page"))
"""Every file of the page, by its path, read once."""

INDEX = FILES.pop("index.html")

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index(request: Request) -> Response:
    return INDEX.answer(request.headers.get("if-none-match"))


@router.get("/page/{path:path}")
async def asset(path: str, request: Request) -> Response:
    if path not in FILES:
        raise HTTPException(404)
    return FILES[path].answer(request.headers.get("if-none-match"))


@router.get("/v1")
async def from_api_address() -> Response:
    """The printed address is the API's; opened in a browser, it leads to the page."""
    return RedirectResponse("./")


@router.get("/v1/")
async def from_api_folder() -> Response:
    return RedirectResponse("../")
