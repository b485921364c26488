"""Lines of bytes: one JSON value each, and a reader that no line can fill the memory of."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec

LONGEST_LINE = 64 * 2**20
"""Bytes of the longest line that is read; a longer one is skipped, and its row fails."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TooLong(ValueError):
    """A line is longer than :data:`LONGEST_LINE`."""


def lines(stream: io.BufferedReader) -> Iterator[tuple[bytes, bool]]:
    """The lines of a stream without line ends, byte order mark and surrounding white space, and whether each is whole.

    A line that is too long is cut, and the rest of it is skipped. Blank lines are left out.
    """
    first = True
    while line := stream.readline(LONGEST_LINE + 1):
        whole = len(line) <= LONGEST_LINE or line.endswith(b"\n")
        if not whole:
            while (rest := stream.readline(2**20)) and not rest.endswith(b"\n"):
                pass
        if first:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            first = False
        if line := line.strip():
            yield line, whole


def decoded(line: bytes) -> Any:
    """The JSON value of a line.

    Raises:
        ValueError: it is not JSON in UTF-8; the message is one line.
    """
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        why = str(error)
    except (UnicodeDecodeError, RecursionError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "it is nested too deeply"
    try:
        return json.loads(line, parse_constant=_refused)  # reads halves of surrogate pairs, which msgspec refuses
    except (ValueError, RecursionError):
        raise ValueError(f"not JSON: {why}") from None


def encoded_line(value: Any) -> bytes:
    """The value as one line of JSON, with its line end; escaped if it holds half a surrogate pair."""
    try:
        return msgspec.json.encode(value, enc_hook=str) + b"\n"
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(msgspec.to_builtins(value, enc_hook=str)).encode() + b"\n"


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
