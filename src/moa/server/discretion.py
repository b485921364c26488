"""What of this machine a caller may read: everything where the caller is its user, else no path and no address.

The words of errors and notices, and names of models, may hold a path or an address, and so may upstreams' words. So all of
them pass here on their way to a caller who may be anyone: errors, ``degraded``, events, records of runs, tables and lists.
Questions, answers, reasoning and prompts are left as they are. The store and the log keep the words as they were.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from moa.config.config import Config
from moa.errors import MoaError, UnknownName
from moa.messages import Answer, Attempt, Call
from moa.mixture.events import AgentDropped, AgentFailed, Event, Noticed
from moa.server.access import Access
from moa.server.encoding import log_line
from moa.server.failures import NOT_CONFIGURED, OPERATORS, Refusal

PATH, ADDRESS = "[path]", "[address]"
"""What a caller reads instead."""

UNAVAILABLE = "is not available on this server; its operator finds the reason in the server's log"
"""What a caller reads of a model that the configuration does not make callable."""

CONTENT = frozenset(
    {
        *("text", "reasoning", "content", "messages", "parameters", "tool_calls", "arguments", "question"),
        *("prompt", "persona", "description", "analysis"),
    }
)
"""Fields that hold what people and models wrote, and nothing of ours."""

PRIVATE = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
"""Ends of names that only a private network knows (RFC 6762, RFC 8375)."""

REMEMBERED = 1024
"""Texts whose result is kept: names of models and notices come again and again."""

MOST_LOGGED = 100
"""Different reasons that are logged; each is logged once."""

log = logging.getLogger("moa.server")

LONGEST = 10_000
"""Characters of one text that are looked through; the rest is left out."""

_LOCAL_MODEL = re.compile(r"\blocal/(?:[/~.]|[a-z]:)(?:[^'\",;\s]*[/\\])?([^/\\'\",;\s]+)", re.IGNORECASE)
_URL = re.compile(r"(?<![\w+.-])[a-z][a-z0-9+.-]*://[^\s'\"<>`)\]}]*[^\s'\"<>`)\]}.,:;?!]", re.IGNORECASE)
_NAME = re.compile(r"(?<![\w.-])[\w.-]+(?::\d{1,5})?(?![\w-])")
_IPV6 = re.compile(r"\[?(?<![\w:])[0-9a-f]{0,4}:[0-9a-f:.]*:[0-9a-f:.]*(?:%\w+)?(?:\](?::\d+)?)?", re.IGNORECASE)
_FILE = re.compile(
    r"(?<![\w/\\.:~\]])(?!/v1/)(?:~|\.{1,2})?/(?:[^\s/'\"<>:,;()]+/)+[^\s'\"<>:,;()]*"  # two or more parts
    r"|(?<![\w/\\.:~\]])(?:~|\.{1,2})?/[\w.-]+\.\w{1,8}\b"  # one part with a suffix
    r"|\b[a-z]:[\\/][^\s'\"<>|,;]*|\\\\[\w.-]+\\[^\s'\"<>|,;]*",
    re.IGNORECASE,
)


class Discretion:
    """Replaces paths and addresses.

    Args:
        tells_all: whether to replace nothing.
        known: paths and addresses of the server's own configuration, which need not look like ones.
        models: names of models; those with the path of a file are shown with the file's name.
    """

    def __init__(self, *, tells_all: Callable[[], bool], known: Iterable[str] = (), models: Iterable[str] = ()) -> None:
        self._tells_all = tells_all
        self._logged = set[str]()
        self._looked_through = lru_cache(REMEMBERED)(self._look_through)
        shown = {name: "local/" + re.split(r"[/\\]", name)[-1] for name in models if _LOCAL_MODEL.match(name)}
        for each in known:
            url = urlsplit(each)
            parts = (each, url.netloc, url.hostname) if url.scheme else (each,)
            shown |= {part: ADDRESS if url.scheme else PATH for part in parts if part and len(part) > 2}
        self._shown = shown
        literals = "|".join(re.escape(each) for each in sorted(shown, key=len, reverse=True))
        self._known = re.compile(rf"(?<![\w.-])(?:{literals})(?![\w-])") if literals else None

    @classmethod
    def of(cls, config: Config, access: Access) -> Self:
        """That of a server with this configuration."""
        folder = [str(config.path.absolute()), str(config.path.absolute().parent)] if config.path else []
        models = list[str]()
        for listed in config.listed():
            with suppress(UnknownName):
                models += config.single_models(listed.name)
        return cls(
            tells_all=lambda: access.tells_all,
            known=[*config.catalog.addresses.values(), *folder, str(Path.home())],
            models=models,
        )

    @property
    def tells_all(self) -> bool:
        """Whether it replaces nothing."""
        return self._tells_all()

    def text(self, text: str) -> str:
        """The text without paths and addresses; a model that is named by the path of its file gets the file's name."""
        return text if self.tells_all else self._looked_through(text[:LONGEST])

    def _look_through(self, text: str) -> str:
        if self._known:
            text = self._known.sub(lambda match: self._shown[match[0]], text)
        text = _LOCAL_MODEL.sub(r"local/\1", text)
        for pattern, shown in ((_URL, ADDRESS), (_FILE, PATH), (_IPV6, _shown_address), (_NAME, _shown_name)):
            text = pattern.sub(shown, text)
        return text

    def tree(self, value: Any) -> Any:
        """JSON data whose texts, except those of :data:`CONTENT`, hold no path and no address."""
        if self.tells_all:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.tree(each) for each in value]
        if isinstance(value, dict):
            return {name: self._field(name, each) for name, each in value.items()}
        return value

    def _field(self, name: str, value: Any) -> Any:
        if name in CONTENT or (name == "answer" and isinstance(value, str)):
            return value
        return UNAVAILABLE if name == "why_not" and value else self.tree(value)

    def line(self, line: bytes) -> bytes:
        """An event's line of JSON."""
        if self.tells_all or b'"event":"agent_said"' in line:
            return line
        return json.dumps(self.tree(json.loads(line)), separators=(",", ":")).encode()

    def event(self, event: Event) -> Event:
        """An event whose error or reason a reader of progress sees."""
        match event:
            case _ if self.tells_all:
                return event
            case AgentFailed():
                return msgspec.structs.replace(event, error=MoaError(self.text(str(event.error))))
            case AgentDropped():
                return msgspec.structs.replace(event, reason=self.text(event.reason))
            case Noticed():
                return msgspec.structs.replace(event, message=self.text(event.message))
        return event

    def answer(self, answer: Answer) -> Answer:
        """An answer for a response."""
        if self.tells_all:
            return answer
        return replace(
            answer,
            degraded=tuple(map(self.text, answer.degraded)),
            calls=tuple(map(self._call, answer.calls)),
            recalled=tuple(map(self._call, answer.recalled)),
        )

    def refusal(self, refusal: Refusal) -> Refusal:
        """A refusal for a caller."""
        if self.tells_all or not refusal.private:
            return refusal
        if refusal.code in OPERATORS:
            if refusal.code == NOT_CONFIGURED:  # a schedule's failure is logged where it happens
                self._log(f"{refusal.subject or 'a model'} is not available: {refusal.message}")
            return replace(refusal, message=f"{refusal.subject or 'the model'} {UNAVAILABLE}")
        return replace(refusal, message=self.text(refusal.message), more=self.tree(dict(refusal.more)))

    def _log(self, reason: str) -> None:
        if reason not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(reason)
            log.warning("%s", log_line(reason))

    def _call(self, call: Call) -> Call:
        return replace(
            call,
            agent=self.text(call.agent),
            model=self.text(call.model),
            dropped=call.dropped and self.text(call.dropped),
            calls=tuple(map(self._call, call.calls)),
            attempts=tuple(map(self._attempt, call.attempts)),
        )

    def _attempt(self, attempt: Attempt) -> Attempt:
        return replace(attempt, reason=self.text(attempt.reason), calls=tuple(map(self._call, attempt.calls)))


def _shown_address(match: re.Match[str]) -> str:
    return ADDRESS if _is_address(match[0].lstrip("[").partition("]")[0]) else match[0]


def _shown_name(match: re.Match[str]) -> str:
    """A name as callers read it: an address where it is an IP address, a private name, or has a port."""
    name, _, port = match[0].lower().rstrip(".").partition(":")
    *domain, last = name.split(".")
    is_private = name == "localhost" or (domain and name.endswith(PRIVATE))
    has_port = name[:1].isalpha() and (len(port) >= 4 or (len(port) >= 2 and domain and last.isalpha()))
    return ADDRESS if is_private or has_port or _is_address(name) else match[0]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
