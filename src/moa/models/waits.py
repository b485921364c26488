"""How long a server asks to wait: in a header, in the body of its error, or in the words of that error.

Notable decisions:
- What a server says of this call (``Retry-After``, ``retryDelay``, "try again in 4.5s") counts before what it says of its
  limits (``x-ratelimit-reset…``): a bucket that is full again in six minutes may have room in a second.
- Of several limits, those count that have nothing left; where the server does not say which, the one that ends first.
- A moment is compared with the server's own clock (``Date``) where that is not ours.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

_UNITS = {
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "m": 60.0,
    "min": 60.0,
    "mins": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "": 1.0,
    "ms": 0.001,
    "millisecond": 0.001,
    "milliseconds": 0.001,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_UNIT = "|".join(sorted(filter(None, _UNITS), key=len, reverse=True))
_PARTS = re.compile(rf"(\d+(?:\.\d+)?) ?({_UNIT})?", re.IGNORECASE)
_ONE = rf"\d+(?:\.\d+)?(?: ?(?:{_UNIT})(?![a-z]))?"
_DURATION = rf"{_ONE}(?:,?(?: and)? ?{_ONE})*"
_WHOLE = re.compile(_DURATION, re.IGNORECASE)
_IN_WORDS = re.compile(
    rf"\b(?:(?:try|tried|retry|retried|available|resets?)(?: again| it| this| your request| the request)*"
    rf" (?:in|after)|wait(?: for)?)(?: about| at least| approximately)? ({_DURATION})",
    re.IGNORECASE,
)
"""OpenAI, Groq: "Please try again in 7m12s."; Azure: "Please retry after 24 seconds."; Gemini: "Please retry in 55.1s."."""

_OF_A_CALL = ("retrydelay", "retryafter", "retryafterseconds", "retryafterms", "retryin")
"""Names of a wait in a body, without case, dashes and underscores."""


def wait_in(headers: Mapping[str, str], body: object = None, words: str = "", *, limited: bool = False) -> float | None:
    """Seconds to wait before the call is made again; None where the server does not say.

    Args:
        headers: of the response; names in lower case, or a mapping that ignores case.
        body: the error as JSON.
        words: the error's message.
        limited: whether the server refused for its limits (429), so that the end of a limit is the end of the wait.
    """
    named = {name.lower(): value for name, value in headers.items()}
    now = _now(named)
    inner = [found for found in _named(body, "headers") if isinstance(found, Mapping)]  # OpenRouter's error.metadata
    every = [named, *({str(name).lower(): str(value) for name, value in found.items()} for found in inner)]
    waits: Iterable[float | None] = (
        *(_milliseconds(fields.get("retry-after-ms")) for fields in every),
        *(_duration_or_moment(fields.get("retry-after"), now) for fields in every),
        *_in_body(body, now),
        _in_words(words),
        *((_end_of_limit(fields, now) for fields in every) if limited else ()),
    )
    return next((max(wait, 0.0) for wait in waits if wait is not None and math.isfinite(wait)), None)


def _now(headers: Mapping[str, str]) -> float:
    """Seconds since 1970 by the server's clock, where it is far from ours."""
    with suppress(KeyError, ValueError, OverflowError):
        served = parsedate_to_datetime(headers["date"]).timestamp()
        if abs(served - time.time()) > 5:
            return served
    return time.time()


def _milliseconds(value: object) -> float | None:
    with suppress(TypeError, ValueError):
        return float(str(value)) / 1000
    return None


def _duration_or_moment(value: object, now: float) -> float | None:
    """Seconds in ``4.5``, ``4.5s``, ``6m0s``, an HTTP date, RFC 3339, or seconds or milliseconds since 1970.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    with suppress(ValueError):
        number = float(text)
        return number / 1000 - now if number > 1e11 else number - now if number > 1e9 else number
    if _WHOLE.fullmatch(text):
        return _seconds(text)
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text).timestamp() - now
    with suppress(ValueError, OverflowError, TypeError):
        return parsedate_to_datetime(text).timestamp() - now
    return None


def _seconds(duration: str) -> float:
    return sum(float(number) * _UNITS[unit.lower()] for number, unit in _PARTS.findall(duration))


def _in_body(body: object, now: float) -> Iterator[float | None]:
    """Gemini's ``RetryInfo`` (``"4.5s"``, or ``{"seconds": 4, "nanos": 500000000}``) and fields like ``retry_after``."""
    for name in _OF_A_CALL:
        for value in _named(body, name):
            if isinstance(value, Mapping):
                with suppress(TypeError, ValueError):
                    yield float(value.get("seconds") or 0) + float(value.get("nanos") or 0) / 1e9
            elif name.endswith("ms"):
                yield _milliseconds(value)
            else:
                yield _duration_or_moment(value, now)


def _named(body: object, wanted: str, depth: int = 0) -> Iterator[Any]:
    """Every value of this name in a JSON document, the names without case, dashes and underscores."""
    if depth > 8:
        return
    if isinstance(body, Mapping):
        for name, value in body.items():
            if re.sub(r"[-_ ]", "", str(name)).lower() == wanted:
                yield value
            yield from _named(value, wanted, depth + 1)
    elif isinstance(body, list):
        for item in body:
            yield from _named(item, wanted, depth + 1)


def _in_words(words: str) -> float | None:
    found = _IN_WORDS.search(words)
    return _seconds(found[1]) if found else None


def _end_of_limit(headers: Mapping[str, str], now: float) -> float | None:
    """The end of the limits that are used up: OpenAI's and Groq's ``x-ratelimit-reset-tokens: 6m0s``, Anthropic's
    ``anthropic-ratelimit-requests-reset`` (RFC 3339), OpenRouter's ``x-ratelimit-reset`` (milliseconds since 1970)."""
    ends: dict[str, float] = {}
    for name, value in headers.items():
        if "ratelimit" in name.replace("-", "").replace("_", "") and "reset" in name:
            end = _duration_or_moment(value, now)
            if end is not None and math.isfinite(end):
                ends[name] = end
    used_up = [end for name, end in ends.items() if _is_zero(headers.get(name.replace("reset", "remaining")))]
    return max(used_up) if used_up else min(ends.values(), default=None)


def _is_zero(value: str | None) -> bool:
    with suppress(TypeError, ValueError):
        return float(str(value)) <= 0
    return False
