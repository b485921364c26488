"""Models, prompts and requests that the tests of mixtures share."""

from __future__ import annotations

from typing import Any

from moa import Mixture, Scripted, text_of
from moa.events import Event


def model(text: str, name: str = "scripted/a", **settings: Any) -> Scripted:
    """A scripted model with a short name."""
    return Scripted(text, name=name, **settings)


def prompt_of(of: Scripted, call: int = 0) -> str:
    """All text of one request to a scripted model."""
    return "\n".join(text_of(message) for message in of.requests[call].messages)


async def events_of(mixture: Mixture, question: str = "Why?") -> list[Event]:
    """All events of one run."""
    return [event async for event in mixture.run(question)]


BODY: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:x"}}],
        },
    ],
    "temperature": 0.1,
    "max_tokens": 50,
    "stop": ["END"],
    "response_format": {"type": "json_object"},
    "tools": [
        {
            "type": "function",
            "function": {"name": "look", "description": "Looks  it\nup.", "parameters": {"properties": {"at": {}}}},
        }
    ],
    "vendor_field": {"a": 1},
}


def panel(**settings: Any) -> Mixture:
    """Two proposers and an aggregator."""
    proposers = [Scripted("one", name="x/ann"), Scripted("two", name="x/bob")]
    return Mixture([proposers], Scripted("merged", name="x/last"), **settings)
