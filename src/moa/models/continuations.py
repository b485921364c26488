"""How servers are asked to continue a text that a model has begun: by name, what a request needs for it.

The text is the assistant's last message, except with ``turns``, where a user message behind it asks the model to continue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Continuing: TypeAlias = Literal["auto", "prefix", "vllm", "flag", "partial", "turns", "none"]
"""The values of ``continuation`` of a profile. ``auto``: unknown, to be tested where a schedule needs it."""

Continuation: TypeAlias = Literal["prefix", "turns"]
"""How a model continues a text that it has begun.

``prefix``: a request may end with an assistant message that holds the beginning of the answer; the model continues it.
``turns``: the beginning is an assistant message of its own, and a user message after it asks the model to continue.
"""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask for it.

    Attributes:
        kind: the form of the conversation.
        fields: what the request needs in addition.
        message_fields: what the assistant's last message needs in addition.
    """

    kind: Continuation
    fields: Mapping[str, Any] = field(default_factory=dict)
    message_fields: Mapping[str, Any] = field(default_factory=dict)


WAYS: Mapping[str, Way] = {
    "prefix": Way("prefix"),
    # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
    "vllm": Way("prefix", fields={"continue_final_message": True, "add_generation_prompt": False}),
    # Mistral, and DeepSeek's beta: https://docs.litellm.ai/docs/completion/prefix.md
    "flag": Way("prefix", message_fields={"prefix": True}),
    # Moonshot and Qwen: https://platform.kimi.ai/docs/guide/use-partial-mode-feature-of-kimi-api
    "partial": Way("prefix", message_fields={"partial": True}),
    "turns": Way("turns"),
}
"""The ways by name, the best first."""


def with_continuation(body: Mapping[str, Any], way: Way | None) -> dict[str, Any]:
    """The body of a request with what its server needs to continue an assistant's last message."""
    *before, end = body["messages"]
    if way is None or way.kind != "prefix" or end["role"] != "assistant":
        return dict(body)
    return {**body, **way.fields, "messages": [*before, {**end, **way.message_fields}]}
