"""What an API must provide so that its clients can use mixtures: a reader of bodies and an encoder of answers.

A dialect knows the wire and nothing else. :mod:`moa.server.completions` does the rest in the same way for all of them: it
checks the caller, waits for a free slot, runs the choices, watches the connection, keeps it alive, records and reports.

To add an API, write one file with a :class:`Dialect` and add it to ``DIALECTS`` in :mod:`moa.server.app`:

- ``read`` checks a body and gives a :class:`ParsedRequest`. A request holds messages in the form of Chat Completions, which
  models understand, so an API with other messages translates them here.
- The request's :class:`Encoder` turns the answer into bytes: ``start``, then either ``progress`` and ``delta`` as often as
  there is something to send and ``end``, or ``whole`` once. ``error`` can come at any time and is the last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from moa.attribution.shares import Attribution, attribution_json
from moa.messages import Answer, Delta, Request, Usage
from moa.mixture.panel import Panel
from moa.server.failures import ErrorBody, Refusal
from moa.server.usage import WhoseUsage
from moa.store.figures import run_object

MOST_MESSAGES = 5000
"""Messages of a conversation. Each agent of a mixture reads all of them, which takes the server time."""


@dataclass(frozen=True, slots=True)
class Result:
    """One choice, complete.

    Attributes:
        answer: with its usage, its cost and its calls.
        extra: further fields of the message or the choice (``logprobs``, ``refusal``, …), their pieces joined.
        attribution: None also where the request did not ask for it.
        usage: what the choice adds to the response's usage; see :func:`moa.server.usage.usage_by_choice`.
        task: the small task that the small model answers, if it does.
    """

    answer: Answer
    extra: dict[str, Any]
    attribution: Attribution | None = None
    usage: Usage = field(default_factory=Usage)
    task: str | None = None


class Encoder(Protocol):
    """Writes the answer to one request. A stream's methods return frames of server-sent events, possibly none (``b""``)."""

    def start(self, run_id: str) -> None:
        """The run has started. Frames that open the response belong to the first ``progress`` or ``delta``: until then the
        response can still become an error with a status of its own."""

    def keep_alive(self) -> bytes:
        """A frame for a time in which there is nothing to send: a comment, or an event of the dialect's own. Called before
        ``start`` too."""

    def progress(self, text: str, index: int) -> bytes:
        """Text about the proposals, for the part of the answer that clients fold away (reasoning, thinking)."""

    def delta(self, delta: Delta, index: int) -> bytes:
        """The next piece of the choice's answer."""

    def end(self, results: Sequence[Result]) -> bytes:
        """The last frames, with every choice's finish reason, the usage (:func:`usage_of`), and the ``moa`` object."""

    def error(self, refusal: Refusal) -> bytes:
        """The last frames of a stream that fails after it started."""

    def whole(self, results: Sequence[Result]) -> bytes:
        """The body of an answer that is not streamed, in JSON."""


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request, checked and taken apart: one part for the models, the other for the server.

    Attributes:
        model: ``moa/NAME`` or ``provider/name``.
        request: goes to the models.
        encoder: writes the answer to this request.
        stream: send the answer piece by piece.
        choices: number of answers.
        progress: stream the proposals while they are written; None leaves it to the mixture.
        explain: report which passages of the proposals the answer resembles.
        usage: whose tokens ``usage`` counts; None leaves it to the configuration.
        small: whether the configured small model may answer, where the request is a small task.
        panel: the part of the mixture that answers.
        task: the small task that it is, where the small model answers.
        previous: the ID of the response whose conversation the request continues; empty for none.
        refers: whether its messages refer to answers of saved runs.
        accepted: the run continues without the connection, and this writes the response that says so; None for a run that
            ends with it.
    """

    model: str
    request: Request
    encoder: Encoder
    stream: bool = False
    choices: int = 1
    progress: bool | None = None
    explain: bool = False
    usage: WhoseUsage | None = None
    small: bool = True
    panel: Panel = field(default_factory=Panel)
    task: str | None = None
    previous: str = ""
    refers: bool = False
    accepted: Callable[[], bytes] | None = None

    @property
    def recorded(self) -> Mapping[str, Any]:
        """The request as a saved run keeps it: with its panel, which a run that continues it has, too."""
        panel = self.panel.fields()
        return {**self.request.body, "moa": panel} if panel else self.request.body

    def __post_init__(self) -> None:
        if (count := len(self.request.body["messages"])) > MOST_MESSAGES:
            message = f"the conversation has {count:,} messages; this server takes {MOST_MESSAGES:,}"
            raise Refusal(400, message, param="messages", code="invalid_value")


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API.

    Attributes:
        path: of its route, such as ``/v1/chat/completions``.
        name, tag, summary: of its route in the OpenAPI document.
        body: describes request bodies in the OpenAPI document.
        read: checks a body; raises Refusal (400).
        error: writes the body of an error response.
        counting: path and answer of a route that counts the tokens of a request; None without one.
    """

    path: str
    name: str
    tag: str
    summary: str
    body: type[BaseModel]
    read: Callable[[bytes], ParsedRequest]
    error: ErrorBody
    counting: tuple[str, Callable[[int], Any]] | None = None


def message_of(answer: Answer) -> dict[str, Any]:
    """An answer as the assistant's message in a conversation of Chat Completions."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = list(answer.tool_calls)
    elif message["content"] is None:
        message["content"] = ""
    return message


def merged(results: Sequence[Result]) -> Answer:
    """The usage, cost, times and calls of all choices of one request together; without a text."""
    answers = [result.answer for result in results]
    first = answers[0]
    if len(answers) == 1:
        return first
    return Answer(
        usage=sum((answer.usage for answer in answers[1:]), first.usage),
        cost=sum((answer.cost for answer in answers[1:]), first.cost),
        calls=tuple(call for answer in answers for call in answer.calls),
        recalled=first.recalled,
        time_to_first_token=first.time_to_first_token,
        duration=max(answer.duration or 0.0 for answer in answers),
        degraded=tuple(dict.fromkeys(reason for answer in answers for reason in answer.degraded)),
        run_id=first.run_id,
    )


def usage_of(results: Sequence[Result]) -> Usage:
    """The usage of a response, in every dialect: by default the tokens of the call whose text is the answer. The sum over
    all calls is in :func:`merged`, and in the ``moa`` object.
    """
    return sum((result.usage for result in results), Usage())


def moa_object(results: Sequence[Result], *, explain: bool) -> dict[str, Any]:
    """The ``moa`` object of a response: the run, its cost and its calls, and the attribution where ``explain`` is set."""
    fields = run_object(merged(results))
    if results[0].task:
        fields["small"] = results[0].task
    if not explain:
        return fields
    attributions = [attribution_json(each.attribution) if each.attribution else None for each in results]
    if len(attributions) == 1:
        return {**fields, "attribution": attributions[0]}
    return {**fields, "attributions": attributions}
