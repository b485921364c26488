"""Answers as Chat Completions has them on the wire: chunks, whole answers, usage, and the ``moa`` object beside it.

https://platform.openai.com/docs/api-reference/chat/object and …/chat/streaming
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from moa.attribution.shares import Attribution, attribution_json
from moa.messages import Answer, Delta
from moa.store.figures import run_object, usage_object

Explained = Sequence[Attribution | None]
"""What each choice's answer resembles, where the caller asked for it; otherwise empty."""

DONE = b"data: [DONE]\n\n"

OF_MESSAGE = frozenset({"refusal", "annotations", "audio", "function_call", "reasoning_details", "images"})
"""Fields of a message, or of its delta, that are not read here; any other such field is the choice's."""


def encoded(value: object) -> bytes:
    """JSON in UTF-8. Half of a character pair, which servers that cut strings anywhere send, is escaped."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def moa_object(answer: Answer, explained: Explained = ()) -> dict[str, Any]:
    """The ``moa`` object beside ``usage``: the run, its cost and its calls, and the attribution where it was requested."""
    attributions = [attribution_json(each) if each else None for each in explained]
    fields = run_object(answer)
    if len(attributions) == 1:
        return {**fields, "attribution": attributions[0]}
    return {**fields, "attributions": attributions} if attributions else fields


class Wire:
    """One answer's way onto the wire.

    Args:
        run_id: becomes the answer's ``id``.
        model: what the caller asked for, given back as ``model``.
        created: seconds since 1970.
        usage_in_stream: whether the caller asked for ``stream_options.include_usage``.
    """

    def __init__(self, run_id: str, model: str, created: int, *, usage_in_stream: bool = False) -> None:
        self._id, self._model, self._created = f"chatcmpl-{run_id}", model, created
        self._usage_in_stream = usage_in_stream
        head = {"id": self._id, "object": "chat.completion.chunk", "created": created, "model": model}
        if usage_in_stream:
            head["usage"] = None
        # The head is the same in every chunk of an answer: written once, with the choices put behind it.
        self._head = f"data: {json.dumps(head)[:-1]}, ".encode()

    def chunk(
        self,
        delta: Mapping[str, Any],
        index: int = 0,
        finish_reason: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        """One event with one choice. ``extra`` are other fields of the choice, such as ``logprobs``."""
        choice = {"index": index, "delta": delta, "logprobs": None, **(extra or {}), "finish_reason": finish_reason}
        return self._head + b'"choices": [' + encoded(choice) + b"]}\n\n"

    def opening(self, index: int = 0) -> bytes:
        """The first chunk of a choice: its role."""
        return self.chunk({"role": "assistant", "content": ""}, index)

    def said(self, delta: Delta, index: int = 0) -> bytes:
        """What an aggregator said."""
        extra = delta.extra or {}
        more = {key: value for key, value in extra.items() if key in OF_MESSAGE}
        return self.chunk({**_delta_object(delta), **more}, index, extra=_without(extra, OF_MESSAGE))

    def thought(self, text: str, index: int = 0) -> bytes:
        """Progress or thinking, which clients fold away."""
        return self.chunk({"reasoning_content": text}, index)

    def closing(self, answers: Sequence[Answer], explained: Explained = ()) -> bytes:
        """The last chunks: why each choice ended, then the usage and the ``moa`` object, then ``[DONE]``."""
        merged = _merged(answers)
        told = moa_object(merged, explained)
        ends = [self.chunk({}, index, answer.finish_reason) for index, answer in enumerate(answers)]
        if self._usage_in_stream:
            tail = {"choices": [], "usage": usage_object(merged.usage), "moa": told}
            ends.append(self._head.replace(b', "usage": null', b"") + encoded(tail)[1:] + b"\n\n")
        else:
            ends[-1] = ends[-1].removesuffix(b"}\n\n") + b', "moa": ' + encoded(told) + b"}\n\n"
        return b"".join(ends) + DONE

    def whole(
        self, answers: Sequence[Answer], extras: Sequence[Mapping[str, Any]], explained: Explained = ()
    ) -> dict[str, Any]:
        """The answer in one piece. ``extras``: for each choice, other fields of it."""
        merged = _merged(answers)
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": index,
                    "message": {
                        **_message_object(answer),
                        **{key: value for key, value in extra.items() if key in OF_MESSAGE},
                    },
                    "logprobs": None,
                    **_without(extra, OF_MESSAGE),
                    "finish_reason": answer.finish_reason,
                }
                for index, (answer, extra) in enumerate(zip(answers, extras, strict=True))
            ],
            "usage": usage_object(merged.usage),
            "moa": moa_object(merged, explained),
        }


def _without(fields: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in names}


def _delta_object(delta: Delta) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if delta.text:
        told["content"] = delta.text
    if delta.reasoning:
        told["reasoning_content"] = delta.reasoning
    if delta.tool_calls:
        told["tool_calls"] = list(delta.tool_calls)
    return told


def _message_object(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = list(answer.tool_calls)
    elif message["content"] is None:
        message["content"] = ""
    return message


def _merged(answers: Sequence[Answer]) -> Answer:
    """Several choices of one request as one bill."""
    first = answers[0]
    if len(answers) == 1:
        return first
    return Answer(
        usage=sum((answer.usage for answer in answers[1:]), first.usage),
        cost=sum((answer.cost for answer in answers[1:]), first.cost),
        calls=tuple(call for answer in answers for call in answer.calls),
        time_to_first_token=first.time_to_first_token,
        duration=max(answer.duration or 0.0 for answer in answers),
        degraded=tuple(dict.fromkeys(reason for answer in answers for reason in answer.degraded)),
        run_id=first.run_id,
    )
