"""Files and batches as JSON, and the bodies that make them.

https://platform.openai.com/docs/api-reference/files/object and …/batch/object; the shapes are those of openai-python's
``types/file_object.py``, ``types/batch.py`` and ``types/batch_create_params.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.datastructures import QueryParams

from moa.server.body import OpenObject, checked, object_of
from moa.server.failures import Refusal
from moa.store.batches import Batch
from moa.store.shelf import StoredFile

ENDPOINT = "/v1/chat/completions"
"""The endpoint of batches."""

DAY = 86400.0

Seconds = Annotated[int, Field(ge=3600, le=30 * 86400)]


class ExpiresAfter(OpenObject):
    anchor: Literal["created_at"]
    seconds: Seconds


class BatchBody(OpenObject):
    """A batch to create."""

    input_file_id: Annotated[str, Field(min_length=1, description="An uploaded file of the purpose batch.")]
    endpoint: Annotated[str, Field(description="/v1/chat/completions")]
    completion_window: Annotated[str, Field(description="24h")]
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = None
    output_expires_after: ExpiresAfter | None = None


def read_batch(data: bytes) -> BatchBody:
    """A batch from the body of a request.

    Raises:
        Refusal: 400, with the field in ``param``.
    """
    body = checked(BatchBody, object_of(data))
    if body.endpoint != ENDPOINT:
        message = f"batches of the endpoint {body.endpoint[:80]!r} are not supported: use {ENDPOINT}"
        raise Refusal(400, message, param="endpoint", code="invalid_value")
    if body.completion_window != "24h":
        message = f"'completion_window' must be '24h', not {body.completion_window[:80]!r}"
        raise Refusal(400, message, param="completion_window", code="invalid_value")
    return body


def file_object(file: StoredFile) -> dict[str, Any]:
    """A file."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created),
        "expires_at": int(file.expires),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_object(batch: Batch) -> dict[str, Any]:
    """A batch."""
    usage, times = batch.usage, {name: int(time) for name, time in batch.times.items()}
    status = batch.status
    if batch.cancelled is not None:
        times["cancelling"] = int(batch.cancelled)
        status = "cancelling" if status in ("validating", "in_progress") else status
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file,
        "completion_window": batch.window,
        "status": status,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": int(batch.created),
        "in_progress_at": times.get("in_progress"),
        "expires_at": int(batch.expires),
        "finalizing_at": times.get("finalizing"),
        "completed_at": times.get("completed"),
        "failed_at": times.get("failed"),
        "expired_at": times.get("expired"),
        "cancelling_at": times.get("cancelling"),
        "cancelled_at": times.get("cancelled"),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
        "metadata": batch.metadata,
    }


def page_object(rows: Sequence[Any], limit: int, written: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """A page of a list, from its rows and one more where there are more."""
    data = [written(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }


def limit_in(query: QueryParams, default: int, most: int) -> int:
    """The ``limit`` of a list.

    Raises:
        Refusal: 400, it is none.
    """
    text = query.get("limit") or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise Refusal(400, f"'limit' must be a number from 1 to {most}", param="limit", code="invalid_value")
    return int(text)
