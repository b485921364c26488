"""Which requests a server answers, besides what its keys decide: by host, by origin, and by the way they came.

Notable decisions:
- Keys are no cookies: no page has one unless its user gave it one. So with keys nothing here refuses a request, except one
  that hides its content type from the browser's own check.
- Without keys the address is all that protects the operator's money and saved runs. So a request through a proxy is refused
  (the proxy may stand on the Internet), and so is every page that is not of this machine. Browsers name the page in
  ``Origin`` or mark the request in ``Sec-Fetch-Site``; programs send neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from moa.errors import ConfigError
from moa.server.failures import Refusal
from moa.server.keys import Keys
from moa.server.origins import host_name, is_local_page, is_unambiguous, mark_of_proxy, origin_of

API = "/v1/"
"""Paths that pages on this machine may read; the paths of saved runs, mixtures and metrics answer no other page."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused request: what the caller gets, and what the log says, with the remedy."""

    refusal: Refusal
    reason: str


@dataclass(frozen=True, slots=True)
class Access:
    """Which requests a server answers.

    Attributes:
        keys: the callers' keys; None if there can be none.
        no_auth: the operator lets everyone in without keys, also through a proxy.
        beyond_loopback: other machines can reach the server's address.
        hosts: names, besides this machine's, under which a server without keys is reached.
        origins: of pages elsewhere that may use the server.
    """

    keys: Keys | None = None
    no_auth: bool = False
    beyond_loopback: bool = False
    hosts: frozenset[str] = field(default=frozenset())
    origins: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(
        cls,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        *,
        keys: Keys | None = None,
        no_auth: bool = False,
        beyond_loopback: bool = False,
    ) -> Self:
        """The access that an operator's options describe.

        Raises:
            ConfigError: a host or an origin is none.
        """
        names = {host: host_name(host) for host in hosts}
        pages = {origin: origin_of(origin) for origin in origins}
        for host, name in names.items():
            if not name or "*" in name:
                raise ConfigError(
                    f"--allow-host {host!r} is not a host name; write one such as 'moa' or 'ai.example.com'"
                )
        for origin, page in pages.items():
            if page is None:
                example = "'https://chat.example.com'"
                raise ConfigError(
                    f"--allow-origin {origin!r} is not an origin; write a page's scheme and host: {example}"
                )
            if page == "null" and (keys is None or not keys.apply):
                raise ConfigError("--allow-origin null needs API keys: every web page can have the origin null")
        allowed = frozenset(filter(None, pages.values()))
        return cls(keys, no_auth, beyond_loopback, frozenset(names.values()), allowed)

    @property
    def keyed(self) -> bool:
        """Whether callers need a key."""
        return self.keys is not None and self.keys.apply

    @property
    def tells_all(self) -> bool:
        """Whether every caller is this machine's user, who may read its paths and addresses in errors."""
        return not (self.keyed or self.no_auth or self.beyond_loopback)

    def refused(self, method: str, headers: Mapping[str, str], *, keyed: bool) -> Refused | None:
        """Why a request is refused; None where it is answered. ``headers`` have names in lower case."""
        return (None if keyed else self._refused_without_keys(method, headers)) or _refused_for_its_type(headers)

    def _refused_without_keys(self, method: str, headers: Mapping[str, str]) -> Refused | None:
        if not self.no_auth and (header := mark_of_proxy(headers)):
            message = "this server answers no requests from a network"
            remedy = "create API keys with `moa key add NAME`, or let everyone in with --no-auth"
            reason = f"it came through a proxy (it has the header {header}), and there are no keys: {remedy}"
            return _forbidden(message, "proxy_not_allowed", reason)
        host = headers.get("host")
        if host is not None and not ((name := host_name(host)) in self.hosts or is_unambiguous(name)):
            message = f"requests to the host {host[:100]!r} are refused"
            reason = f"its host is {host[:100]!r}: without keys, allow a name of this server with --allow-host NAME"
            return _forbidden(message, "host_not_allowed", reason)
        if (page := self._foreign_page(method, headers)) is not None:
            message = f"requests from pages of {page} are refused: without keys, any page could spend your money"
            reason = f"a page of {page} sent it: allow a page with --allow-origin ORIGIN"
            return _forbidden(message, "origin_not_allowed", reason)
        return None

    def _foreign_page(self, method: str, headers: Mapping[str, str]) -> str | None:
        """The page elsewhere that sends a request; None for a program, and for a page that may."""
        origin = headers.get("origin")
        if origin is None:
            # Opening an address from a link on another site is no more than typing it in.
            opened = headers.get("sec-fetch-mode") == "navigate" and method in ("GET", "HEAD")
            return None if headers.get("sec-fetch-site") != "cross-site" or opened else "another site"
        allowed = origin in self.origins or is_local_page(origin) or _is_own(origin, headers)
        return None if allowed else repr(origin[:100])

    def may_read(self, path: str, headers: Mapping[str, str], *, keyed: bool) -> bool:
        """Whether a browser may show a page the response to its request."""
        origin = headers.get("origin")
        if origin is None:
            return False
        if origin in self.origins or _is_own(origin, headers):
            return True
        return not keyed and path.startswith(API) and is_local_page(origin)


def _is_own(origin: str, headers: Mapping[str, str]) -> bool:
    """Whether this is the origin of the server's own pages, under the name or address that the request has."""
    host = headers.get("host", "").lower()
    return bool(host) and origin in (f"http://{host}", f"https://{host}")


def _refused_for_its_type(headers: Mapping[str, str]) -> Refused | None:
    """Why a body from a page is refused: a browser sends other types than JSON without asking the server first."""
    of_page = "origin" in headers or headers.get("sec-fetch-site") in ("cross-site", "same-site")
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (of_page and has_body) or kind == "application/json":
        return None
    message = f"a page must send its request as application/json, not {kind[:100] or 'without a content type'!r}"
    return Refused(Refusal(415, message, code="unsupported_media_type"), "it came from a page and is not JSON")


def _forbidden(message: str, code: str, reason: str) -> Refused:
    return Refused(Refusal(403, message, "permission_error", code), reason)
