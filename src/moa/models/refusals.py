"""A server's error response, as an error of :mod:`moa.errors`.

Notable decisions:
- Every vendor wraps its message differently; all the usual places are searched, and a web page counts as no message.
- An error in the middle of a stream gets the HTTP status that it would have had, where its code or type shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from moa.errors import CallRejected, KeyRejected, ModelError, RateLimited, StreamBroken, TimedOut, UpstreamFailed
from moa.models.error_codes import FILTERED, NO_MODEL, QUOTA, REGION, Reading, parsed, read_error
from moa.models.waits import wait_in

_ERROR_LENGTH = 300  # characters shown of a server's error message
_KINDS = {401: KeyRejected, 403: KeyRejected, 408: TimedOut, 424: UpstreamFailed, 425: UpstreamFailed, 429: RateLimited}


def refused(
    model: str, status: int, message: str, body: object = None, headers: Mapping[str, str] | None = None
) -> ModelError:
    """The error for a response with an HTTP status that is none of success.

    Args:
        message: what to show, see :func:`message_of`.
        body: the server's error: JSON, or its text.
    """
    wait = wait_in(headers or {}, parsed(body), message, limited=status == 429)
    reading = read_error(body, _message(body) or message, wait, status)  # the whole message: the shown one is cut
    kind = _KINDS.get(status) or (UpstreamFailed if status >= 500 else CallRejected)
    if status in (401, 403) and reading.meaning in (QUOTA, FILTERED, REGION):
        kind = CallRejected
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = f"HTTP status {status}"
    error = kind(model, f"{phrase}: {message}" if message else phrase, status=status, retry_after=wait)
    return _with_reading(error, reading)


def broken_by(
    model: str, message: str, error: object, *, began: bool, headers: Mapping[str, str] | None = None
) -> ModelError:
    """The error for an error object in a stream.

    Args:
        began: whether a part of the answer had come before it; without one, the call counts as refused.
        headers: of the response, which had the status 200.
    """
    wait = wait_in({}, parsed(error), message, limited=True)
    reading = read_error(error, _message(error) or message, wait)
    if reading.status is not None and not began:
        return refused(model, reading.status, message, error)
    said = f"the answer broke off: {message}" if message else "the answer broke off, and its server does not say why"
    return _with_reading(StreamBroken(model, said, status=reading.status, retry_after=wait), reading)


def _with_reading(error: ModelError, reading: Reading) -> ModelError:
    error.code, error.param = reading.code, reading.param
    if reading.meaning:
        error.of_request = reading.meaning.of_request
        if reading.meaning.permanent:
            error.retryable = False
    if isinstance(error, CallRejected) and error.status in (400, 413, 422):
        error.of_request = (
            error.of_request or reading.meaning is None or reading.meaning not in (QUOTA, REGION, NO_MODEL)
        )
    return error


def message_of(error: object) -> str:
    """The message in a server's error, in one short line."""
    return one_line(_message(error))


_MESSAGES = (
    "error",
    "errors",
    "message",
    "Message",
    "detail",
    "msg",
    "error_msg",
    "errorMessage",
    "status_msg",
    "base_resp",
)


def _message(error: object) -> str:
    """The message in an error of any usual shape: OpenAI's, Ollama's, Mistral's, FastAPI's; empty for a web page."""
    error = parsed(error)
    if isinstance(error, list):
        return "; ".join(dict.fromkeys(filter(None, map(_message, error))))
    if isinstance(error, Mapping) and isinstance(error.get("loc"), list):  # FastAPI's: where, and what is wrong there
        where = ".".join(str(step) for step in error["loc"] if step != "body")
        return ": ".join(filter(None, (where, str(error.get("msg") or ""))))
    if isinstance(error, Mapping):
        message = next(filter(None, (_message(error.get(key)) for key in _MESSAGES)), "")
        metadata = error.get("metadata")
        if isinstance(metadata, Mapping) and (raw := _message(metadata.get("raw"))) and raw not in message:
            provider = metadata.get("provider_name")
            source = f" ({provider})" if isinstance(provider, str) else ""
            return f"{message.rstrip('.') or 'Provider returned error'}{source}: {raw}"
        param = error.get("param")
        return f"{message} ({param})" if message and isinstance(param, str) and param not in message else message
    if not isinstance(error, str):
        return ""
    return "" if error.lstrip().startswith("<") else error


def one_line(text: str) -> str:
    """The text on one line, shortened."""
    line = " ".join(text.split())
    return line if len(line) <= _ERROR_LENGTH else f"{line[:_ERROR_LENGTH]}…"
