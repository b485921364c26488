"""A server's error response, as an error of :mod:`moa.errors`.

Notable decisions:
- Every vendor wraps its message differently; all the usual places are searched, and a web page counts as no message.
- An error in the middle of a stream gets the HTTP status that it would have had, where its code or type shows it.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from moa.errors import CallRejected, KeyRejected, ModelError, RateLimited, TimedOut, UpstreamFailed

_ERROR_LENGTH = 300  # characters shown of a server's error message
_KINDS = {401: KeyRejected, 403: KeyRejected, 408: TimedOut, 425: UpstreamFailed, 429: RateLimited}


PERMANENT = frozenset(
    {
        *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "context_length_exceeded"),
        *("content_policy_violation", "content_filter", "moderation_blocked", "model_not_found", "invalid_api_key"),
    }
)
"""Codes of errors that a retry cannot fix, whatever their status is. https://platform.openai.com/docs/guides/error-codes"""

_STATUS = {
    "context_length_exceeded": 400,
    "insufficient_quota": 429,
    "content_policy_violation": 400,
    "content_filter": 400,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "overloaded_error": 503,
    "server_error": 500,
}
_SAME_CODE = {"exceed_context_size_error": "context_length_exceeded"}  # llama.cpp
_DELAY = re.compile(r"([0-9]+(?:\.[0-9]+)?)s")


def refused(
    model: str, status: int, message: str, retry_after: float | None = None, code: str | None = None
) -> ModelError:
    """The error for an HTTP status; ``code`` is the server's word for it, see :func:`code_of`."""
    kind = _KINDS.get(status) or (UpstreamFailed if status >= 500 else CallRejected)
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = f"HTTP status {status}"
    error = kind(model, f"{phrase}: {message}" if message else phrase, status=status, retry_after=retry_after)
    error.code = code
    if code in PERMANENT:
        error.retryable = False
    return error


def _object(error: object) -> Mapping[str, Any]:
    """The innermost error object of a body, which may be JSON text, a list, or an object around it; empty without one."""
    if isinstance(error, str):
        try:
            error = json.loads(error)
        except (ValueError, RecursionError):
            return {}
    if isinstance(error, list):
        error = next(iter(error), None)
    if not isinstance(error, Mapping):
        return {}
    inner = error.get("error")
    return inner if isinstance(inner, Mapping) else error


def code_of(error: object) -> str | None:
    """The word for what was wrong in a server's error: its ``code``, or a ``type`` that says as much."""
    fields = _object(error)
    for name in ("code", "type"):
        word = fields.get(name)
        if isinstance(word, str) and word and not word.isdecimal():
            word = _SAME_CODE.get(word, word)
            if name == "code" or word in PERMANENT:
                return word
    return None


def delay_in(error: object) -> float | None:
    """Seconds to wait, as Gemini's errors give them: https://cloud.google.com/apis/design/errors (``RetryInfo``)"""
    details = _object(error).get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, Mapping) else None
        if isinstance(delay, str) and (match := _DELAY.fullmatch(delay)):
            return _seconds(float(match[1]))
    return None


def status_of(error: object) -> int | None:
    """The HTTP status that an error in the middle of a stream would have had, where its code or type shows it."""
    if not isinstance(error, Mapping):
        return None
    code = str(error.get("code") or "")
    if code.isdecimal():
        return int(code) if 400 <= int(code) < 600 else None
    if "rate_limit" in f"{code} {error.get('type')}":
        return 429
    return _STATUS.get(code_of(error) or "") or _STATUS.get(str(error.get("type")))


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after, or OpenAI's ``retry-after-ms``."""
    with suppress(KeyError, ValueError):
        return _seconds(float(headers["retry-after-ms"]) / 1000)
    with suppress(KeyError, ValueError):
        return _seconds(float(headers["Retry-After"]))
    with suppress(KeyError, ValueError):
        return _seconds(parsedate_to_datetime(headers["Retry-After"]).timestamp() - time.time())
    return None


def _seconds(wait: float) -> float | None:
    return max(wait, 0.0) if math.isfinite(wait) else None


def message_of(error: object, secrets: Iterable[str] = ()) -> str:
    """The message in a server's error, in one short line and without secrets that it may have quoted."""
    return one_line(without_secrets(_message(error), secrets))


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text with ``[key]`` in place of each secret that a server may have quoted."""
    for secret in secrets:
        text = text.replace(secret, "[key]")
    return text


def _message(error: object) -> str:
    """The message in an error of any usual shape: OpenAI's, Ollama's, Mistral's, FastAPI's; empty for a web page."""
    if isinstance(error, str):
        try:
            error = json.loads(error)
        except (ValueError, RecursionError):
            return "" if str(error).lstrip().startswith("<") else str(error)
    if isinstance(error, list):
        return "; ".join(filter(None, map(_message, error)))
    if isinstance(error, Mapping) and isinstance(error.get("loc"), list):  # FastAPI's: where, and what is wrong there
        where = ".".join(str(step) for step in error["loc"] if step != "body")
        return ": ".join(filter(None, (where, str(error.get("msg") or ""))))
    if isinstance(error, Mapping):
        return next(filter(None, (_message(error.get(key)) for key in ("error", "message", "detail", "msg"))), "")
    return error if isinstance(error, str) else ""


def one_line(text: str) -> str:
    """The text on one line, shortened."""
    line = " ".join(text.split())
    return line if len(line) <= _ERROR_LENGTH else f"{line[:_ERROR_LENGTH]}…"
