"""The tool calls of a streamed answer: pieces of any shape in, pieces with one identity each out.

Notable decisions:
- OpenAI's API gives each call an ``index``, and sends its ``id``, ``type`` and name once. Other servers leave these
  out, repeat them, send them empty, or give all calls one index. Each piece here gets an index of ours; the first piece
  of a call holds an ID that no other call of the conversation has, a type and the whole name; later pieces hold only
  what they add.
- An ID is made where the server sends none with the first piece, since the client answers to it. An ID that comes later
  is ignored: the client has ours already.
- Some servers send all arguments so far in each piece, or the whole call once more at its end. What is known is left out.
- Arguments that stop in the middle are half a call. Arguments that are wrong in another way are the model's mistake, which
  its caller must see.

https://platform.openai.com/docs/guides/function-calling#streaming
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moa.messages import Request

_OF_IDENTITY = frozenset({"index", "id", "type", "function"})
_LITERALS = ("true", "false", "null", "-")
_BEGUN = re.compile(r"\{\s*(?:\Z|\"\w)")
"""The beginning of an object. JSON in which it stands twice in a row is malformed, except where a value begins."""


class ToolCallReader:
    """Reads the pieces of one answer's tool calls.

    Args:
        request: the request that is answered. No call gets an ID that a call in its messages has, and the names of its tools
            tell a piece of a name from a whole one.
    """

    def __init__(self, request: Request | None = None) -> None:
        self._calls: list[_ToolCall] = []
        self._at: dict[int, _ToolCall] = {}  # by the server's index: the call begun last under it
        self._taken = _known_ids(request)
        self._tools = _tool_names(request)

    def __len__(self) -> int:
        """The number of calls so far."""
        return len(self._calls)

    def read(self, pieces: Sequence[Mapping[str, Any] | None]) -> Iterator[Mapping[str, Any]]:
        """The pieces of one chunk, normalized.

        Raises:
            ValueError, TypeError, AttributeError: a piece is malformed.
        """
        in_chunk: list[_ToolCall] = []
        for given in [pieces] if isinstance(pieces, Mapping) else pieces:
            if given is None:
                continue
            piece = _Piece(given)
            if piece.is_empty:
                continue
            call = self._call_of(piece, in_chunk)
            if call is not None and call.is_repeated_by(piece):
                continue
            if call is not None and call.is_followed_by(piece):
                piece.name, call = call.name, None
            if call is None:
                yield from self._held(name_is_whole=True)
                call = self._begin(piece)
            if piece.index is not None:
                self._at[piece.index] = call
            in_chunk.append(call)
            call.add(piece, self._tools)
            yield from self._held()

    def rest(self, *, complete: bool) -> tuple[Mapping[str, Any], ...]:
        """What has been held back. If the answer is ``complete``, also the arguments of calls without any: clients parse
        them as JSON, which an empty text is not."""
        for call in self._calls:
            call.end(complete=complete)
        return tuple(self._held(name_is_whole=True, at_end=True))

    @property
    def half(self) -> str | None:
        """Why a call is not whole; None when all are."""
        for call in self._calls:
            if not call.name:
                return "a tool call has no name"
            if call.is_function and ends_early(call.arguments):
                return f"the call of the tool {call.name} ends in the middle of its arguments"
        return None

    def _held(self, *, name_is_whole: bool = False, at_end: bool = False) -> Iterator[Mapping[str, Any]]:
        """What clients have not got yet. A call is held back until its name is whole, since clients read that once."""
        for call in self._calls:
            name_is_known = call.name and (name_is_whole or call.has_arguments or not self._may_grow(call.name))
            if at_end or name_is_known:
                yield from call.take()

    def _may_grow(self, name: str) -> bool:
        """Whether a tool's name begins with this name."""
        return any(tool != name and tool.startswith(name) for tool in self._tools)

    def _call_of(self, piece: _Piece, in_chunk: Sequence[_ToolCall]) -> _ToolCall | None:
        """The call that a piece continues; None where it begins one."""
        known = next((call for call in reversed(self._calls) if piece.id and call.server_id == piece.id), None)
        last = self._calls[-1] if self._calls else None
        if piece.index is None:
            call = known or last
            if known is None and last and piece.name and piece.id and last.server_id:
                return None
        else:
            call = self._at.get(piece.index)
            if call is None:
                if piece.name:
                    return None
                return known or (last if last and not piece.id and not last.is_whole else None)
            if piece.id and call.server_id and piece.id != call.server_id:
                if piece.name:
                    return None
                call = known or call  # a server that makes a new ID for each chunk
        if call is None or not (piece.name and call.name):
            return call
        if call in in_chunk and not piece.id:
            return None  # a chunk holds one piece of a call, so this one belongs to another call
        if not call.has_arguments and call.name_with(piece.name, self._tools):
            return call
        if piece.id and piece.id == call.server_id and not call.is_whole:
            return call
        return call if call.name == piece.name and (not call.is_whole or call.is_repeated_by(piece)) else None

    def _begin(self, piece: _Piece) -> _ToolCall:
        call_id = piece.id if piece.id and piece.id not in self._taken else f"call_{uuid.uuid4().hex[:24]}"
        self._taken.add(call_id)
        call = _ToolCall(len(self._calls), call_id, piece.id)
        self._calls.append(call)
        return call


class _Piece:
    """What one piece says, with empty fields as None. ``more`` are fields that this project does not read."""

    def __init__(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function") or {}
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping | list):  # some servers send an object instead of JSON text
            arguments = json.dumps(arguments, ensure_ascii=False)
        if not isinstance(function.get("name"), str | None) or not isinstance(arguments, str | None):
            raise ValueError("malformed piece of a tool call")
        index = piece.get("index")
        if isinstance(index, bool) or (isinstance(index, float) and not index.is_integer()):
            raise ValueError("malformed index of a tool call")
        self.index = None if index is None or index == "" else int(index)
        self.id = str(piece["id"]) if piece.get("id") not in (None, "") else None
        self.type = piece.get("type") or None
        self.name: str | None = function.get("name") or (piece.get("custom") or {}).get("name") or None
        self.arguments: str = arguments or ""
        self.function = {key: value for key, value in function.items() if key not in ("name", "arguments")}
        self.more = {key: value for key, value in piece.items() if key not in _OF_IDENTITY and value is not None}

    @property
    def is_empty(self) -> bool:
        return not (self.id or self.name or self.arguments or self.function or self.more)

    @property
    def has_no_values(self) -> bool:
        """Whether its arguments are those of a tool without parameters; some servers send them before the real ones."""
        return "".join(self.arguments.split()) in ("", "{}", "null")


class _ToolCall:
    """A call that is being read."""

    def __init__(self, index: int, call_id: str, server_id: str | None) -> None:
        self.index, self.id, self.server_id = index, call_id, server_id
        self.name: str | None = None
        self.is_function = True
        self._arguments: list[str] = []
        self._length = 0
        self._has_no_values = self._is_cumulative = False
        self._held: list[dict[str, Any]] = []  # pieces that clients have not got
        self._is_new = self._is_unnamed = True

    @property
    def arguments(self) -> str:
        return "".join(self._arguments)

    @property
    def has_arguments(self) -> bool:
        return bool(self._arguments)

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are complete JSON."""
        if not self._arguments:
            return self._has_no_values
        if not self._arguments[-1].rstrip().endswith(("}", "]")):
            return False
        try:
            json.loads(self.arguments)
        except (ValueError, RecursionError):
            return False
        return True

    def name_with(self, more: str, tools: frozenset[str]) -> str | None:
        """The name with a further piece of it, or as a longer piece repeats it; None where no tool is called like that."""
        name = self.name or ""
        longer = [name + more, *([more] if more != name and more.startswith(name) else [])]
        return next((each for each in longer if any(tool.startswith(each) for tool in tools)), None)

    def is_repeated_by(self, piece: _Piece) -> bool:
        """Whether a piece is the whole call once more, or its name and ID alone, as some servers send it at the end."""
        if piece.name not in (None, self.name) or piece.id not in (None, self.server_id):
            return False
        if (piece.name and not piece.id) or piece.more or piece.function:
            return False  # a second call of the same tool, or something new
        same = piece.has_no_values or (len(piece.arguments) == self._length and piece.arguments == self.arguments)
        return same and self.is_whole

    def is_followed_by(self, piece: _Piece) -> bool:
        """Whether a piece is the next call of the same tool: one more object. open-webui/open-webui#22235"""
        is_object = not piece.name and piece.arguments.startswith("{")
        return is_object and self.has_arguments and not self._is_begun_in(piece) and self.is_whole

    def add(self, piece: _Piece, tools: frozenset[str]) -> None:
        """Add a piece."""
        added: dict[str, Any] = {"index": self.index}
        if self._is_new:
            self._is_new = False
            kind = piece.type or ("custom" if "custom" in piece.more else "function")
            self.is_function = kind == "function"
            added |= {"id": self.id, "type": kind}
        self.server_id = self.server_id or piece.id
        if piece.name and self._is_unnamed:
            self.name = (self.name_with(piece.name, tools) if self.name else None) or self.name or piece.name
        self._hold({**added, **piece.more}, self._new_arguments(piece), piece.function)

    def end(self, *, complete: bool) -> None:
        """Its answer has ended. A call without arguments has an empty object, unless the answer was cut before it."""
        if self.is_function and (complete or self._has_no_values) and not self.arguments.strip():
            self._arguments = ["{}"]
            self._hold({"index": self.index}, "{}", {})

    def take(self) -> Iterator[dict[str, Any]]:
        """The pieces that clients have not got, the name in the first of all."""
        if self._held and self._is_unnamed:
            self._is_unnamed = False
            if self.is_function and self.name:
                self._held[0]["function"] = {"name": self.name, **self._held[0]["function"]}
        yield from self._held
        self._held = []

    def _hold(self, added: dict[str, Any], arguments: str, function: Mapping[str, Any]) -> None:
        if self.is_function:
            added["function"] = {**function, "arguments": arguments}
        self._held.append(added)

    def _new_arguments(self, piece: _Piece) -> str:
        """Add a piece's arguments; returns what of them is new."""
        new = piece.arguments
        if not self._arguments and piece.has_no_values:
            self._has_no_values = self._has_no_values or bool(new)
            new = ""
        elif self._is_begun_in(piece):
            self._is_cumulative = True
            new = new[self._length :]
        if new:
            self._arguments.append(new)
            self._length += len(new)
        return new

    def _is_begun_in(self, piece: _Piece) -> bool:
        """Whether a piece has all arguments so far, too. NousResearch/hermes-agent#35592, vllm-project/vllm#51697"""
        if not self._arguments or not piece.arguments.startswith("{") or not piece.arguments.startswith(self.arguments):
            return False
        before_a_value = self.arguments.rstrip().endswith((":", "[", ","))
        return self._is_cumulative or (bool(_BEGUN.match(self.arguments)) and not before_a_value)


def ends_early(text: str) -> bool:
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


def _known_ids(request: Request | None) -> set[str]:
    """The IDs of all calls in a request's messages."""
    calls = (call for message in (request.messages if request else ()) for call in message.get("tool_calls") or ())
    return {str(call["id"]) for call in calls if isinstance(call, Mapping) and call.get("id")}


def _tool_names(request: Request | None) -> frozenset[str]:
    tools = request.body.get("tools") if request else None
    if not isinstance(tools, list):
        return frozenset()
    functions = (tool.get("function") for tool in tools if isinstance(tool, Mapping))
    names = (function.get("name") for function in functions if isinstance(function, Mapping))
    return frozenset(name for name in names if isinstance(name, str))
