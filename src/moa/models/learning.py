"""A model that learns from refusals: it calls again without the field that a server refuses, and remembers it.

A refused call costs nothing, so neither does learning. At most :data:`MOST_LESSONS` calls follow a refusal, and only before
an answer has begun. What is learned is kept once a call has succeeded with it: a server that merely quotes the request in
a refusal of something else teaches nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, MutableMapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cache, partial
from typing import Any

from moa.errors import ModelError
from moa.messages import Delta, Request
from moa.models import Model, Traits
from moa.models.attempts import attempts_of
from moa.models.continuations import WAYS, Continuing, with_continuation
from moa.models.demands import calls_no_tools, demanded_call
from moa.models.fitting import fit, has_path, prompt_tokens, schema_of
from moa.models.json_schema import following
from moa.models.lessons import Lesson, lesson_of
from moa.models.profile import Profile
from moa.models.wrapper import Wrapper, opened

MOST_LESSONS = 6
"""The most calls that follow one refused call, each with one lesson more."""

LEAST_CONTEXT = 1000
"""Tokens: no server has a smaller context, so a smaller figure counts something else."""

CUT = 0.5
"""A prompt of which the server reports less than this share of the estimate was cut. Estimates err less than that."""

_NOTHING = Profile()


class Learning(Wrapper):
    """A model that gets each request in the form it takes, as far as its profile, or a refusal, says.

    Args:
        model: the model to call.
        profile: what is known of it.
        fields: fields that every call has unless the model refuses them, such as ``stream_options``; they override
            the request's own.
        memory: where to keep what refusals teach, by the model's name, for all objects that stand for the model.
        ways: where to keep how models continue a text, by their identities, where a test has found it.
    """

    def __init__(
        self,
        model: Model,
        profile: Profile,
        *,
        fields: Mapping[str, Mapping[str, Any]] | None = None,
        memory: MutableMapping[str, Profile] | None = None,
        ways: MutableMapping[str, Continuing] | None = None,
    ) -> None:
        super().__init__(model)
        self._ways: MutableMapping[str, Continuing] = {} if ways is None else ways
        self._known, self._fields = profile, dict(fields or {})
        self._memory: MutableMapping[str, Profile] = {} if memory is None else memory
        self._merged = _NOTHING, profile  # what was learned, and what is known with it
        self._made: tuple[Traits, Profile, str, Traits] | None = None  # what the traits were made of, and the traits

    @property
    def learned(self) -> Profile:
        """What refusals have taught in this process, in addition to what was known."""
        return self._memory.get(self.name, _NOTHING)

    @property
    def profile(self) -> Profile:
        """What is known and learned."""
        if (learned := self.learned) is not self._merged[0]:
            self._merged = learned, self._known.merged(learned)
        return self._merged[1]

    @property
    def traits(self) -> Traits:
        traits, extra, profile = super().traits, self._known.extra_body, self.profile
        continuing = self._continuing
        if (last := self._made) and last[0] is traits and last[1] is profile and last[2] == continuing:
            return last[3]
        identity = f"{traits.identity} {json.dumps(extra, sort_keys=True, default=str)}" if extra else traits.identity
        way = WAYS.get(continuing)
        made = replace(
            traits,
            profile=profile,
            identity=identity,
            continuation=way.kind if way else None,
            learn_continuation=self._learn_continuation if continuing == "auto" else None,
        )
        self._made = traits, profile, continuing, made
        return made

    @property
    def _continuing(self) -> str:
        """How the model continues a text, as far as it is known, or was found."""
        known = self._known.continuation or "auto"
        return self._ways.get(super().traits.identity, "auto") if known == "auto" else known

    def _learn_continuation(self, way: Continuing) -> None:
        self._ways[super().traits.identity] = way

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer of the first call that is not refused. A notice says what the model does not take.

        Raises:
            ModelError: the call failed, or its refusal teaches nothing more.
        """
        fields = {name: {**_table(request.body.get(name)), **value} for name, value in self._fields.items()}
        whole, profile = request.replaced(**fields), self.profile
        if profile.tools is False and demanded_call(request) is not None:
            raise calls_no_tools(self.name)
        drawn: list[Lesson] = []
        while True:
            sent, notices = self._form(whole, profile)
            schema = schema_of(whole) if profile.json_schema is False else None
            stream = self.model.stream(sent) if schema is None else following(self.model, sent, schema)
            async with aclosing(stream) as deltas:
                opening: list[Delta] = []
                try:
                    async with aclosing(opened(deltas, opening)) as in_flight:
                        async for delta in in_flight:
                            yield delta
                except ModelError as error:
                    lesson = lesson_of(error, sent) if len(drawn) < MOST_LESSONS else None
                    taught = profile.merged(lesson.profile) if lesson else profile
                    if lesson and self._form(whole, taught)[0] != sent:
                        profile = taught
                        drawn.append(lesson)
                        for delta in attempts_of(sent, opening, str(error), error):
                            yield delta
                        continue
                    if lesson and lesson.profile.context_tokens:
                        self._keep(lesson.profile)
                    for delta in opening:
                        yield delta
                    raise
                for lesson in drawn:
                    if lesson.lasting:
                        self._keep(lesson.profile)
                for notice in notices:
                    yield Delta(notice=f"{self.name} {notice}", degrades=True)
                if changes := _described([lesson.profile for lesson in drawn], request):
                    yield Delta(notice=f"{self.name} {changes}")
                prompt = cache(partial(prompt_tokens, sent, image=0))  # counted for long prompts only: it takes time
                for delta in opening:
                    yield self._checked(delta, prompt)
                async for delta in deltas:
                    yield self._checked(delta, prompt)
                return

    def _form(self, whole: Request, profile: Profile) -> tuple[Request, tuple[str, ...]]:
        """The request as the model takes it, and what the user should know of the changes."""
        sent, notices = fit(whole, profile)
        return Request(with_continuation(sent.body, WAYS.get(self._continuing))), notices

    def _checked(self, delta: Delta, prompt: Callable[[], int]) -> Delta:
        """The delta, with a notice where its usage shows that the server cut the prompt without a word.

        Ollama does, from the front, at 4,096 tokens by default: https://docs.ollama.com/context-length
        """
        if delta.usage is None or delta.usage.estimated:
            return delta
        read = delta.usage.input_tokens
        if read < LEAST_CONTEXT or read >= prompt() * CUT:
            return delta
        size = round(read / 1024) * 1024
        if abs(size - read) < size / 20:
            self._keep(Profile(context_tokens=size))
        notice = (
            f"{self.name} read {read:,} of about {prompt():,} tokens of its prompt: its server cut off the rest. Raise the "
            "server's context length (Ollama: OLLAMA_CONTEXT_LENGTH) or set context_tokens of the model in moa.toml"
        )
        return delta.replaced(notice="; ".join(filter(None, (delta.notice, notice))), degrades=True)

    def _keep(self, lesson: Profile) -> None:
        self._memory[self.name] = self.learned.merged(lesson)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _described(lessons: Sequence[Profile], request: Request) -> str:
    """What the lessons of one call say of the request that the caller made; empty for nothing."""
    refused = {path for lesson in lessons for path in lesson.refuses if has_path(request.body, path.split("."))}
    roles = {role for lesson in lessons for role in lesson.roles}
    efforts = next((lesson.efforts for lesson in lessons if lesson.efforts), ())
    parts = [
        f"does not take {', '.join(sorted(refused))}: left out" if refused else "",
        f"has no role {', '.join(sorted(roles))}" if roles else "",
        f"takes reasoning_effort {', '.join(efforts)} only" if efforts else "",
    ]
    return "; ".join(filter(None, parts))
