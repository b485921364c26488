"""Aggregators that call the private tool, and runs in which nothing may show it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from moa import Delta, Mixture, Request, Scripted, Usage
from moa.events import AgentSaid, Event
from moa.messages import Answer
from moa.models import Traits
from moa.models.profile import Profile

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def calling(*calls: tuple[str, str], text: str = "", **more: Any) -> Scripted:
    """An answer that calls tools."""
    return Scripted(
        text,
        tool_calls=[
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(calls)
        ],
        **more,
    )


def asks(question: str = "Is it?", text: str = "", **more: Any) -> Scripted:
    """An answer that calls the private tool."""
    return calling(("deliberate", json.dumps({"question": question})), text=text, **more)


def panel() -> list[Scripted]:
    return [Scripted("it is", name="x/ann"), Scripted("it is not", name="x/bob")]


def last_of(*script: Any, name: str = "x/last") -> Scripted:
    return Scripted(list(script), name=name)


def body(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Why?"}], **fields}


def private_free(events: Sequence[Event], answer: Answer) -> bool:
    """Whether nothing of the private tool is in what a reader of the run gets."""
    said = [event.delta for event in events if isinstance(event, AgentSaid)]
    return "deliberate" not in repr((said, answer.text, answer.tool_calls, answer.reasoning))


async def asked(mixture: Mixture, question: Any = "Why?") -> tuple[list[Event], Answer]:
    """Events and answer of one run, none of which shows the private tool."""
    async with mixture.run(question) as running:
        events = [event async for event in running]
    assert private_free(events, running.answer)
    return events, running.answer


class Pieces:
    """A model whose server streams a call in pieces of one size, without an ID, under index 0."""

    name = "x/last"

    def __init__(
        self, name: str = "deliberate", finish: str = "tool_calls", *, question: str = "Is it?", size: int = 1
    ) -> None:
        self.requests: list[Request] = []
        self._name, self._finish, self._size = name, finish, size
        self._arguments = json.dumps({"question": question})

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        if len(self.requests) > 1:
            yield Delta(text="It is.")
            yield Delta(finish_reason="stop")
            return
        yield Delta(tool_calls=({"index": 0, "function": {"name": self._name, "arguments": ""}},))
        for start in range(0, len(self._arguments), self._size):
            piece = self._arguments[start : start + self._size]
            yield Delta(tool_calls=({"index": 0, "function": {"arguments": piece}},))
        yield Delta(finish_reason=self._finish)
        yield Delta(usage=Usage(5, 5))


class Toolless(Scripted):
    """A model that is known to call no tools, or, with ``images=False``, only to see no images."""

    def __init__(self, text: str, *, name: str, images: bool | None = None) -> None:
        super().__init__(text, name=name)
        self._images = images

    @property
    def traits(self) -> Traits:
        return Traits(profile=Profile(tools=None if self._images is False else False, images=self._images))


SEEN = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        ],
    }
]
