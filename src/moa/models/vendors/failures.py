"""Errors of the vendors' SDKs and of ``pydantic-ai``, as errors of :mod:`moa.errors`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from moa.errors import CallRejected, KeyRejected, ModelError, StreamBroken, TimedOut, Unreachable, UpstreamFailed
from moa.models.redaction import value_without_secrets, without_secrets
from moa.models.refusals import broken_by, message_of, one_line, refused
from moa.models.vendors.requests import CannotSend

_WRONG_REQUESTS = ("ParamValidationError",)
"""Errors of botocore about a request that it does not send."""

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

    body = value_without_secrets(_body_of(error), secrets)

    def said(text: str = "") -> str:
        return message_of(without_secrets(text, secrets) or body or without_secrets(str(error), secrets))

    match error:
        case theirs.ModelHTTPError() if "API_KEY_INVALID" in str(body):  # Gemini, with the status 400
            return KeyRejected(model, said(), status=error.status_code)
        case theirs.ModelHTTPError() if not began:
            refusal = refused(model, error.status_code, said(), body, error.headers)
            return _with_category(refusal, error, json.dumps(body, default=str))
        case theirs.ModelAPIError() if began:
            return broken_by(model, said(), body, began=True)
        case theirs.ModelTimeoutError() | TimeoutError():
            return TimedOut(model, "no response in time")
        case theirs.ModelConnectionError():
            return Unreachable(model, f"cannot connect: {said()}")
        case theirs.UserError() | CannotSend() | ValueError() | NotImplementedError():
            return CallRejected(model, f"this request cannot be sent: {said(str(error))}")
    kind = type(error).__name__
    if kind in _WRONG_REQUESTS:
        return CallRejected(model, f"this request cannot be sent: {said(str(error))}")
    if kind in _NO_CREDENTIALS:
        return KeyRejected(model, one_line(f"the SDK finds no credentials: {error}"))
    if (status := getattr(error, "status_code", None)) and not began:
        return refused(model, status, said(), body)
    broken = StreamBroken if began else UpstreamFailed
    return broken(model, f"the SDK failed with {kind}: {said(str(error))}")


def _body_of(error: Exception) -> object:
    """The vendor's error object; botocore's in the names that the others use."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping) and isinstance(own := body.get("Error"), Mapping):
        return {"message": own.get("Message") or own.get("Code"), "code": own.get("Code")}
    return body


def _with_category(refusal: ModelError, error: Exception, text: str) -> ModelError:
    """The error with what ``pydantic-ai`` knows beside the status: the wait, and two meanings that clients act on."""
    from pydantic_ai import exceptions as theirs

    refusal.refusal = text
    if refusal.retry_after is None:
        refusal.retry_after = getattr(error, "retry_after", None)
    if isinstance(error, theirs.ModelContextWindowExceededError):
        refusal.code, refusal.of_request = "context_length_exceeded", True
    if isinstance(error, theirs.ModelQuotaExceededError):
        refusal.retryable = False
    return refusal
