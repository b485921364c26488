"""What one model takes, as data: the fields, roles and contents of a request that it accepts, and how much of them.

Notable decisions:
- None means unknown, and what is unknown is sent as it is: a server that refuses it says so, and
  :mod:`moa.models.learning` reads the refusal.
- A field is named by its path without the numbers of list entries: ``seed``, ``messages.name``,
  ``messages.content.cache_control``, ``tools.function.strict``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Facts about one model at one place. The names are those of ``[endpoints.NAME]`` and ``[models."NAME"]`` of moa.toml.

    Attributes:
        refuses: fields that it refuses, by their paths. They are left out.
        takes: fields that it takes although a more general profile says that it refuses them.
        rename: fields that it calls by another name, from OpenAI's name to its own.
        only: fields that have one permitted value. They are left out where a request has another one.
        extra_body: fields that every request gets, unless it has them.
        roles: roles of messages that it lacks, and the role that replaces each.
        images: whether it sees images. Where it does not, each image becomes the text ``[image]``.
        parts: whether a message may be a list of content parts. Where it may not, the parts become one text.
        tools: whether it calls tools. Where it does not, they are left out of a request, and past calls become text; a
            request that demands a call is refused.
        past_tool_calls: whether a conversation may hold tool calls and their results where the request has no ``tools``.
            Where it may not, they become text.
        system: whether it takes a system message. Where it does not, the text opens the first user message.
        several_system: whether it takes more than one. Where it does not, they become one.
        alternates: whether user and assistant must take turns. Where they must, messages of one role are joined.
        ends_with_assistant: whether the last message may be the assistant's. Where it may not, a user message asks it to
            continue.
        user_after_tool: whether a user message may follow a tool's result. Where it may not, a short message of the
            assistant stands between them.
        reasoning_content: whether the assistant's tool calls must come back with their ``reasoning_content``. Where they
            must, a space replaces one that the client has dropped.
        json_schema: whether it follows a ``response_format`` of the type ``json_schema``.
        efforts: the values of ``reasoning_effort`` that it takes, from little to much; empty: none, the field is left out.
        context_tokens: tokens of a prompt and its answer together.
        answer_tokens: tokens of its longest answer. A higher ``max_tokens`` is lowered to it.
        continuation: how it continues a text that it has begun; see :class:`moa.models.endpoint.Endpoint`.
        prompt_cache: how its cache finds the beginning of a prompt again; see :mod:`moa.models.prompt_caches`.
    """

    refuses: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict, hash=False)
    only: Mapping[str, Any] = field(default_factory=dict, hash=False)
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    roles: Mapping[str, str] = field(default_factory=dict, hash=False)
    images: bool | None = None
    parts: bool | None = None
    tools: bool | None = None
    past_tool_calls: bool | None = None
    system: bool | None = None
    several_system: bool | None = None
    alternates: bool | None = None
    ends_with_assistant: bool | None = None
    user_after_tool: bool | None = None
    reasoning_content: bool | None = None
    json_schema: bool | None = None
    efforts: tuple[str, ...] | None = None
    context_tokens: int | None = None
    answer_tokens: int | None = None
    continuation: str | None = None
    prompt_cache: str | None = None

    def merged(self, over: Profile) -> Profile:
        """This profile with the facts of a more special one, which override it one by one."""
        merged: dict[str, Any] = {
            each.name: getattr(self, each.name) if (value := getattr(over, each.name)) is None else value
            for each in fields(Profile)
        }
        merged["refuses"] = (self.refuses - over.takes) | over.refuses
        merged["takes"] = (self.takes - over.refuses) | over.takes
        for name in ("rename", "only", "extra_body", "roles"):
            merged[name] = {**getattr(self, name), **getattr(over, name)}
        for name in over.takes:
            merged["only"].pop(name, None)
        return Profile(**merged)

    def facts(self) -> dict[str, Any]:
        """The facts that are known, as a table of moa.toml holds them."""
        known = {each.name: getattr(self, each.name) for each in fields(Profile)}
        return {
            name: sorted(value) if isinstance(value, frozenset) else list(value) if isinstance(value, tuple) else value
            for name, value in known.items()
            if value is not None and value != frozenset() and value != {}
        }
