"""The lines of a batch's files: requests are read and checked, answers are written.

https://platform.openai.com/docs/api-reference/batch/request-input and …/request-output
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterable
from typing import Any

import msgspec

from moa.server.batches.objects import ENDPOINT
from moa.server.encoding import json_bytes

MOST_ROWS = 50_000
"""Rows of a batch, as of OpenAI's."""

MOST_ERRORS = 20
"""Errors that a batch reports."""

EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}
"""The error of rows that a batch did not reach in time. https://platform.openai.com/docs/guides/batch#batch-expiration"""


class Line(msgspec.Struct, frozen=True):
    """A line of an input file."""

    custom_id: str
    body: msgspec.Raw
    url: str
    method: str = "POST"


class _Model(msgspec.Struct, frozen=True):
    model: str | None = None


class Check:
    """The check of an input file, line by line.

    Args:
        most_bytes: of a line.

    Attributes:
        rows: how many there are.
        errors: in the form of a batch's ``errors``, the first :data:`MOST_ERRORS`.
    """

    def __init__(self, most_bytes: int) -> None:
        self.rows, self.errors, self._most = 0, list[dict[str, Any]](), most_bytes
        self._ids, self._models = set[str](), set[str | None]()

    @property
    def model(self) -> str | None:
        """The model of all rows; None where they have several."""
        return next(iter(self._models)) if len(self._models) == 1 else None

    @property
    def is_enough(self) -> bool:
        """Whether the other lines change nothing."""
        return len(self.errors) >= MOST_ERRORS

    def add(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """Check these lines with their numbers."""
        for number, data in lines:
            if not self.is_enough:
                self._add(number, data)

    def _add(self, number: int, data: bytes) -> None:
        self.rows += 1
        if self.rows == MOST_ROWS + 1:
            self._fail("too_many_requests", f"the file has more than {MOST_ROWS} requests: split it", number)
        if len(data) > self._most:
            self._fail("request_too_large", f"the line is larger than {self._most} bytes", number)
            return
        try:
            line = msgspec.json.decode(data, type=Line)
            model = msgspec.json.decode(line.body, type=_Model).model
        except msgspec.ValidationError as error:
            self._fail("invalid_request", str(error), number)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._fail("invalid_json_line", "the line is not a JSON object", number)
        else:
            self._check(line, model, number)

    def end(self) -> None:
        """There are no more lines."""
        if not self.rows:
            self._fail("empty_file", "the file has no requests", None)

    def _check(self, line: Line, model: str | None, number: int) -> None:
        self._models.add(model)
        if line.method != "POST":
            self._fail("invalid_method", f"'method' must be 'POST', not {line.method[:40]!r}", number, "method")
        elif line.url != ENDPOINT:
            self._fail("invalid_url", f"'url' must be the batch's endpoint, not {line.url[:80]!r}", number, "url")
        elif line.custom_id in self._ids:
            self._fail("duplicate_custom_id", f"{line.custom_id[:80]!r} is in another line too", number, "custom_id")
        self._ids.add(line.custom_id)

    def _fail(self, code: str, message: str, line: int | None, param: str | None = None) -> None:
        if not self.is_enough:
            self.errors.append({"code": code, "line": line, "message": message, "param": param})


def numbered(text: bytes, before: int) -> list[tuple[int, bytes]]:
    """The lines of a text that follows so many lines, with their numbers; blank ones are left out."""
    lines = enumerate(text.split(b"\n"), before + 1)
    return [(number, line.strip().removeprefix(BOM_UTF8)) for number, line in lines if line.strip()]


def answered_line(custom_id: str, run: str, status: int, body: bytes) -> bytes:
    """The line of a request that was made, with the body of its response."""
    before = {"id": f"batch_req_{run}", "custom_id": custom_id}
    response = b'"response": {"status_code": %d, "request_id": %b, "body": %b}'
    return json_bytes(before)[:-1] + b", " + response % (status, json.dumps(run).encode(), body) + b', "error": null}'


def expired_line(custom_id: str, run: str) -> bytes:
    """The line of a request that was not made before the batch expired."""
    return json_bytes({"id": f"batch_req_{run}", "custom_id": custom_id, "response": None, "error": EXPIRED})
