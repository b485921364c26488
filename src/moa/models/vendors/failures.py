"""Errors of the vendors' SDKs and of ``pydantic-ai``, as errors of :mod:`moa.errors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moa.errors import CallRejected, KeyRejected, ModelError, StreamBroken, TimedOut, Unreachable, UpstreamFailed
from moa.models.refusals import message_of, one_line, refused
from moa.models.vendors.requests import CannotSend

_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "SSOTokenLoadError")
"""Errors of botocore: https://github.com/boto/botocore/blob/develop/botocore/exceptions.py"""


def failure_of(model: str, error: Exception, secrets: Sequence[str], *, began: bool) -> ModelError:
    """An error as one of :mod:`moa.errors`.

    Args:
        model: ``provider/name``.
        secrets: what the message must not hold.
        began: whether a part of the answer has arrived.
    """
    from pydantic_ai import exceptions as theirs

    def said(body: object) -> str:
        if isinstance(body, Mapping) and isinstance(body.get("Error"), Mapping):  # botocore
            body = body["Error"].get("Message") or body["Error"].get("Code")
        return message_of(body if isinstance(body, Mapping | str) else str(body or error), secrets)

    match error:
        case theirs.ModelHTTPError() if "API_KEY_INVALID" in str(error.body):  # Gemini, with the status 400
            return KeyRejected(model, said(error.body), status=error.status_code)
        case theirs.ModelHTTPError() if not began:
            return refused(model, error.status_code, said(error.body), error.retry_after)
        case theirs.ModelAPIError() if began:
            status = getattr(error, "status_code", None)
            return StreamBroken(model, f"the answer broke off: {said(error.body)}", status=status)
        case theirs.ModelTimeoutError() | TimeoutError():
            return TimedOut(model, "no response in time")
        case theirs.ModelConnectionError():
            return Unreachable(model, f"cannot connect: {said(error.body)}")
        case theirs.UserError() | CannotSend() | ValueError():
            return CallRejected(model, f"this request cannot be sent: {said(str(error))}")
    kind = type(error).__name__
    if kind in _NO_CREDENTIALS:
        return KeyRejected(model, one_line(f"the SDK finds no credentials: {error}"))
    if (status := getattr(error, "status_code", None)) and not began:
        return refused(model, status, said(getattr(error, "body", None)))
    broken = StreamBroken if began else UpstreamFailed
    return broken(model, f"the SDK failed with {kind}: {said(str(error))}")
