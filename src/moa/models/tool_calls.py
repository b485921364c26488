"""The tool calls of a streamed answer: pieces of any shape in, pieces with one identity each out.

Notable decisions:
- OpenAI's API gives each call an ``index``, and sends its ``id``, ``type`` and name once. Other servers leave these
  out, repeat them, send them empty, or give all calls one index. Each piece here gets an index of ours; the first piece
  of a call holds an ID that no other call of the answer has, and a type; later pieces hold only what they add.
- An ID is made where the server sends none with the first piece, since the client answers to it. An ID that comes later
  is ignored: the client has ours already.
- Arguments that stop in the middle are half a call. Arguments that are wrong in another way are the model's mistake, which
  its caller must see.

https://platform.openai.com/docs/guides/function-calling#streaming
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_OF_IDENTITY = frozenset({"index", "id", "type", "function"})
_LITERALS = ("true", "false", "null", "-")


class ToolCallReader:
    """Reads the pieces of one answer's tool calls."""

    def __init__(self) -> None:
        self._calls: list[_ToolCall] = []
        self._at: dict[int, _ToolCall] = {}  # by the server's index: the call begun last under it

    def __len__(self) -> int:
        """The number of calls so far."""
        return len(self._calls)

    def read(self, pieces: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """The pieces of one chunk, normalized.

        Raises:
            ValueError, TypeError, AttributeError: a piece is malformed.
        """
        in_chunk: list[_ToolCall] = []
        for piece in [pieces] if isinstance(pieces, Mapping) else pieces:
            read = _Piece(piece)
            if read.is_empty:
                continue
            call = self._call_of(read, in_chunk)
            if call is None:
                call = self._begin(read)
            elif call.is_repeated_by(read):
                continue
            if read.index is not None:
                self._at[read.index] = call
            in_chunk.append(call)
            yield call.add(read)

    def rest(self) -> tuple[Mapping[str, Any], ...]:
        """The pieces that complete calls without arguments: clients parse these as JSON, which an empty text is not."""
        return tuple(
            call.add(_Piece({"function": {"arguments": "{}"}})) for call in self._calls if call.lacks_arguments
        )

    @property
    def half(self) -> str | None:
        """Why a call is not whole; None when all are."""
        for call in self._calls:
            if not call.name:
                return "a tool call has no name"
            if call.is_function and _ends_early(call.arguments):
                return f"the call of the tool {call.name} ends in the middle of its arguments"
        return None

    def _call_of(self, piece: _Piece, in_chunk: Sequence[_ToolCall]) -> _ToolCall | None:
        """The call that a piece continues; None where it begins one."""
        known = next((call for call in reversed(self._calls) if piece.id and call.server_id == piece.id), None)
        if piece.index is None:
            call = known if piece.id else (self._calls[-1] if self._calls else None)
        else:
            call = self._at.get(piece.index)
            if call is None:
                return None if piece.name else known
            if piece.id and call.server_id and piece.id != call.server_id:
                if piece.name:
                    return None
                call = known or call  # a server that makes a new ID for each chunk
        if call is None or not (piece.name and call.name):
            return call
        if call in in_chunk and not piece.id:
            return None  # a chunk holds one piece of a call, so this one belongs to another call
        if piece.id and piece.id == call.server_id and not call.is_whole:
            return call
        return call if call.name == piece.name and (not call.is_whole or call.is_repeated_by(piece)) else None

    def _begin(self, piece: _Piece) -> _ToolCall:
        taken = {call.id for call in self._calls}
        call_id = piece.id if piece.id and piece.id not in taken else f"call_{uuid.uuid4().hex[:24]}"
        call = _ToolCall(len(self._calls), call_id, piece.id)
        self._calls.append(call)
        return call


class _Piece:
    """What one piece says, with empty fields as None. ``more`` are fields that this project does not read."""

    def __init__(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function") or {}
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping | list):  # some servers send an object instead of JSON text
            arguments = json.dumps(arguments)
        if not isinstance(function.get("name"), str | None) or not isinstance(arguments, str | None):
            raise ValueError("malformed piece of a tool call")
        index = piece.get("index")
        if isinstance(index, bool) or (isinstance(index, float) and not index.is_integer()):
            raise ValueError("malformed index of a tool call")
        self.index = None if index is None or index == "" else int(index)
        self.id = str(piece["id"]) if piece.get("id") not in (None, "") else None
        self.type = piece.get("type") or None
        self.name = function.get("name") or (piece.get("custom") or {}).get("name") or None
        self.arguments: str = arguments or ""
        self.function = {key: value for key, value in function.items() if key not in ("name", "arguments")}
        self.more = {key: value for key, value in piece.items() if key not in _OF_IDENTITY and value is not None}

    @property
    def is_empty(self) -> bool:
        return not (self.id or self.name or self.arguments or self.function or self.more)


class _ToolCall:
    """A call that is being read."""

    def __init__(self, index: int, call_id: str, server_id: str | None) -> None:
        self.index, self.id, self.server_id = index, call_id, server_id
        self.name: str | None = None
        self.is_function = True
        self._arguments: list[str] = []
        self._began = False

    @property
    def arguments(self) -> str:
        return "".join(self._arguments)

    @property
    def lacks_arguments(self) -> bool:
        return self.is_function and not self.arguments.strip()

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are complete JSON."""
        if not self._arguments or not self._arguments[-1].rstrip().endswith(("}", "]")):
            return False
        try:
            json.loads(self.arguments)
        except (ValueError, RecursionError):
            return False
        return True

    def is_repeated_by(self, piece: _Piece) -> bool:
        """Whether a piece is the whole call once more, as some servers send it at the end."""
        same_name = piece.name is not None and piece.name == self.name
        same_id = piece.id == self.server_id
        return same_name and same_id and piece.id is not None and piece.arguments == self.arguments and self.is_whole

    def add(self, piece: _Piece) -> dict[str, Any]:
        """Add a piece; returns what of it is new, in the API's form."""
        added: dict[str, Any] = {"index": self.index}
        function = dict(piece.function)
        if not self._began:
            self._began = True
            kind = piece.type or ("custom" if "custom" in piece.more else "function")
            self.is_function = kind == "function"
            added |= {"id": self.id, "type": kind}
        if piece.name and not self.name:
            self.name = piece.name
            function["name"] = piece.name
        if self.is_function:
            added["function"] = {**function, "arguments": piece.arguments}
        if piece.arguments:
            self._arguments.append(piece.arguments)
        return {**added, **piece.more}


def _ends_early(text: str) -> bool:
    """Whether a text is the beginning of a JSON value and not the whole."""
    text = text.strip()
    if not text:
        return False
    try:
        json.loads(text)
    except RecursionError:
        return False
    except json.JSONDecodeError as error:
        rest = text[error.pos :]
        unfinished = error.msg.startswith("Unterminated string") or (
            error.msg.startswith("Invalid \\u") and len(text) - error.pos < 6
        )
        return not rest or unfinished or any(literal.startswith(rest) for literal in _LITERALS)
    return False
