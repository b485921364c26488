"""What goes to a model and what comes back.

Notable decisions:
- A request *is* a Chat Completions body. It is never re-modelled field by field, so a vendor's own field reaches the
  vendor; and it is never changed in place, so two agents can share one.
  https://platform.openai.com/docs/api-reference/chat/create
- What comes back is a stream of small deltas. The last ones carry the finish reason and the usage.
- Money is ``None`` where no price is known, never 0.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from moa.errors import RequestRejected

if TYPE_CHECKING:
    from moa.attribution.shares import Attribution
    from moa.errors import MoaError

Message = Mapping[str, Any]
"""One entry of ``messages``: ``role``, ``content`` (a string or a list of content parts), and what else the API allows."""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


@dataclass(frozen=True, slots=True)
class Request:
    """A Chat Completions body, whole. Make one with :meth:`of`; read it; derive others with :meth:`replaced`."""

    body: Mapping[str, Any]

    @classmethod
    def of(cls, question: str | Sequence[Message] | Mapping[str, Any] | Request) -> Request:
        """A request from a question, a list of messages, or a whole body (which is copied, so later edits do not reach it).

        Raises:
            RequestRejected: there is no message, a message is malformed, or a lone question is empty.
        """
        if isinstance(question, Request):
            return question
        if isinstance(question, str):
            if not question.strip():
                raise RequestRejected("the question is empty", param="messages")
            return cls({"messages": [{"role": "user", "content": question}]})
        body = (
            copy.deepcopy(dict(question))
            if isinstance(question, Mapping)
            else {"messages": copy.deepcopy(list(question))}
        )
        _check_messages(body.get("messages"))
        return cls(body)

    @property
    def messages(self) -> list[Message]:
        """The conversation, a new list each time; the messages in it are shared and must not be changed."""
        return list(self.body["messages"])

    @property
    def last_user(self) -> int | None:
        """Where the last user message stands in ``messages``, or None."""
        messages = self.body["messages"]
        return next((i for i in range(len(messages) - 1, -1, -1) if messages[i]["role"] == "user"), None)

    @property
    def tokens(self) -> int:
        """Tokens of its text, estimated message by message; see :func:`estimated_tokens`."""
        return sum(estimated_tokens(text_of(message)) for message in self.body["messages"])

    def replaced(self, **fields: Any) -> Request:
        """The same body with these fields set; a field set to None is taken out."""
        kept = {key: value for key, value in self.body.items() if key not in fields}
        return Request({**kept, **{key: value for key, value in fields.items() if value is not None}})

    def without(self, names: Iterable[str]) -> Request:
        """The same body without these fields."""
        return Request({key: value for key, value in self.body.items() if key not in set(names)})

    def json(self) -> str:
        """The body as canonical JSON: equal requests give equal text."""
        return json.dumps(self.body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise RequestRejected("'messages' must be a list with at least one message", param="messages")
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, Mapping):
            raise RequestRejected(f"{where} must be an object with 'role' and 'content'", param=where)
        if message.get("role") not in ROLES:
            raise RequestRejected(
                f"{where}.role is {message.get('role')!r}; expected one of {', '.join(sorted(ROLES))}",
                param=f"{where}.role",
            )
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        if not isinstance(content, str | list | None) or not all(isinstance(part, Mapping) for part in parts):
            raise RequestRejected(
                f"{where}.content must be a string or a list of content parts", param=f"{where}.content"
            )


def text_of(message: Message) -> str:
    """The text of a message: its string, or its text parts joined by newlines. Images and other parts are left out."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(
        str(part.get("text") or "") for part in content or () if part.get("type") in ("text", "input_text")
    )


def pieces_of(text: str) -> list[str]:
    """The text in pieces of about a token: a word (at most 16 characters of it) with the white space that follows.

    ``"".join(pieces_of(text)) == text`` for every text.
    """
    return re.findall(r"\S{1,16}\s*|\s+", text)


def with_text(message: Message, addition: str) -> Message:
    """The message with text added at its end, as a new content part where its content is a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [*content, {"type": "text", "text": addition}]}
    return {**message, "content": f"{content}\n\n{addition}" if content else addition}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call or of a sum of calls.

    ``output_tokens`` includes ``reasoning_tokens``; ``input_tokens`` includes ``cached_tokens``, as the API counts them.
    ``estimated`` marks figures counted as characters / 4 because the server reported none.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def estimated_tokens(text: str) -> int:
    """Characters / 4, rounded up: what stands in for a count that the server did not report."""
    return (len(text) + 3) // 4


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars. ``dollars`` is None when no part has a known price; ``at_least`` when only some parts have."""

    dollars: float | None = 0.0
    at_least: bool = False

    def __add__(self, other: Cost) -> Cost:
        if self.dollars is None and other.dollars is None:
            return Cost(None)
        if self.dollars is None or other.dollars is None:
            known = other.dollars if self.dollars is None else self.dollars
            # Nothing spent and nothing known is still not known: "at least $0" tells the reader less than None.
            return Cost(known, at_least=True) if known else Cost(None)
        return Cost(self.dollars + other.dollars, self.at_least or other.at_least)

    def __str__(self) -> str:
        if self.dollars is None:
            return "cost unknown"
        if self.dollars == 0:
            figure = "$0"
        elif self.dollars >= 0.001:
            figure = f"${self.dollars:.4f}"
        else:
            figure = "$" + f"{self.dollars:.7f}".rstrip("0")
        return f"at least {figure}" if self.at_least else figure


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of what a model says.

    Attributes:
        text: a piece of the answer.
        reasoning: a piece of the model's thinking, where the server sends it apart.
        tool_calls: pieces of tool calls, as they came (each has an ``index``).
        finish_reason: ``stop``, ``length``, ``tool_calls``, …; once, near the end.
        usage: tokens of the whole call; once, near the end.
        cost: what the call cost, where whoever answers knows better than a price list (OpenRouter, a mixture).
        calls: the calls this answer was made of, where a mixture answers.
        extra: other fields of the choice or its delta (``logprobs``, ``refusal``, …), as they came.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    calls: tuple[Call, ...] = ()
    extra: Mapping[str, Any] | None = None

    @property
    def speaks(self) -> bool:
        """Whether it holds something said, thought or asked for, not only bookkeeping."""
        return bool(self.text or self.reasoning or self.tool_calls or self.extra)

    @property
    def is_plain(self) -> bool:
        """Whether it holds nothing but text."""
        more = self.reasoning or self.tool_calls or self.finish_reason or self.calls
        return not more and self.usage is None and self.cost is None and self.extra is None


@dataclass(frozen=True, slots=True)
class Call:
    """One agent's part in a run, as it ended.

    Attributes:
        agent: the agent's name, unique within its layer.
        layer: counted from 1; the aggregator is in the last.
        model: ``provider/name``.
        role: ``proposer``, ``aggregator``, or ``ranker`` (an aggregator asked to pick a proposal).
        text: what it wrote; also what a failed or dropped call had written by then.
        finish_reason: as the server gave it; None when the call did not come to its end.
        usage, cost: None where the call never got an answer.
        started: seconds from the run's start to the call's.
        time_to_first_token: seconds from the call's start to its first text, reasoning or tool call.
        duration: seconds from the call's start to its end.
        dropped: why the text is no reference (or, for an aggregator, no answer); None when it was used.
        cut: the text ends before the model was done (its ``max_tokens``, the deadline, the cost limit).
        calls: the calls it was made of, where the agent's model is a mixture.
    """

    agent: str
    layer: int
    model: str
    role: str = "proposer"
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    started: float | None = None
    time_to_first_token: float | None = None
    duration: float | None = None
    dropped: str | None = None
    cut: bool = False
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run came to.

    Attributes:
        text, reasoning, tool_calls, finish_reason: the answer itself. Tool calls are whole, not in pieces.
        usage: the sum over every call that was made, used or not.
        cost: likewise; see :class:`Cost` for what "at least" means.
        calls: every call, in the order they started.
        recalled: proposals that it was made from and that no call of this run wrote: an earlier run's, or the turn's.
        time_to_first_token: seconds from the run's start to the answer's first token.
        duration: seconds from the run's start to its end.
        degraded: why this is less than the mixture promises (a proposer dropped, a fallback used); empty when all went well.
        error: why there is no answer; None when there is one.
        run_id: the run's name, 32 hexadecimal digits.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)
    calls: tuple[Call, ...] = ()
    recalled: tuple[Call, ...] = ()
    time_to_first_token: float | None = None
    duration: float | None = None
    degraded: tuple[str, ...] = ()
    error: MoaError | None = None
    run_id: str = ""

    @property
    def proposals(self) -> tuple[Call, ...]:
        """The proposers' calls whose text became a reference, those of earlier runs first."""
        used = (call for call in self.calls if call.role == "proposer" and call.dropped is None and call.text)
        return (*self.recalled, *used)

    @property
    def attribution(self) -> Attribution | None:
        """Which passages of the proposals each sentence resembles. Computed when asked.

        None without a text, without proposals, or where they are so long that comparing them would take many seconds.
        """
        if not self.text.strip() or not self.proposals:
            return None
        from moa.attribution.shares import attribution, comparable

        return attribution(self.text, self.proposals) if comparable(self.text, self.proposals) else None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Reference:
    """A proposal as a reader gets it, and the ``layer`` it is of; ``cut`` marks one that ends before its writer was done."""

    agent: str
    text: str
    cut: bool = False
    layer: int = 1


def joined_tool_calls(pieces: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Whole tool calls from their streamed pieces: strings of the function are joined, other fields are taken once.

    https://platform.openai.com/docs/guides/function-calling#streaming
    """
    whole: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        call = whole.setdefault(int(piece.get("index") or 0), {})
        function = {**call.get("function", {})}
        for key, value in (piece.get("function") or {}).items():
            if value is not None:
                function[key] = function[key] + value if key == "arguments" and key in function else value
        call.update(
            {key: value for key, value in piece.items() if value is not None and key not in ("index", "function")}
        )
        if function:
            call["function"] = function
    return tuple(whole[index] for index in sorted(whole))


def collected(deltas: Iterable[Delta]) -> Answer:
    """An answer from the deltas of a single call, without times."""
    answer = Answer()
    text: list[str] = []
    reasoning: list[str] = []
    pieces: list[Mapping[str, Any]] = []
    for delta in deltas:
        text.append(delta.text)
        reasoning.append(delta.reasoning)
        pieces.extend(delta.tool_calls)
        answer = replace(
            answer,
            finish_reason=delta.finish_reason or answer.finish_reason,
            usage=delta.usage or answer.usage,
            cost=delta.cost or answer.cost,
            calls=delta.calls or answer.calls,
        )
    return replace(answer, text="".join(text), reasoning="".join(reasoning), tool_calls=joined_tool_calls(pieces))
