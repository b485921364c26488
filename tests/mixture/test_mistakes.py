"""A beginner's mistakes in a model of one's own: each is one clear line."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from moa import Agent, Delta, Mixture, Request, Scripted
from moa.errors import ConfigError
from tests.mixture.panels import panel

pytestmark = pytest.mark.anyio


class Parrot:
    """A model as a beginner would write it; each subclass below has one mistake."""

    name = "mine/parrot"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta(text="hello", finish_reason="stop")


class Returns:
    name = "mine/returns"

    async def stream(self, request: Request) -> str:
        return "hello"


class IsSync:
    name = "mine/sync"

    def stream(self, request: Request) -> Iterator[Delta]:
        yield Delta(text="hello")


class ReturnsText:
    name = "mine/text"

    def stream(self, request: Request) -> str:
        return "hello"


class YieldsText:
    name = "mine/text"

    async def stream(self, request: Request) -> AsyncGenerator[str, None]:
        yield "hello"


class Nameless:
    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta(text="hello")


class Silent:
    name = "mine/silent"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (Parrot, "moa/mixture: Parrot is a class; pass an instance: Parrot(…)"),
        (Returns(), "Returns.stream returns its answer; it must yield it: yield Delta(text=…)"),
        (IsSync(), "IsSync.stream must be asynchronous: async def stream(self, request)"),
        (Nameless(), "Nameless has no name; a model needs one, such as name = 'mine/nameless'"),
        (Silent(), "is no model, agent or name of one"),
        (panel, "panel is a function; moa.Function(panel) makes it a model"),
        ({"model": Parrot}, "Parrot is a class; pass an instance: Parrot(…)"),
    ],
)
@pytest.mark.parametrize("build", [lambda member: Mixture([[member]], "x"), lambda member: Mixture([], member)])
def test_a_member_that_is_no_model_is_refused_in_one_line(
    build: Callable[[Any], Mixture], member: object, message: str
) -> None:
    """The error names the class and what to change, where the mixture is made."""
    with pytest.raises(ConfigError) as caught:
        build(member)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (ReturnsText(), "its stream() returned str; it must be 'async def' and yield Delta(text=…)"),
        (YieldsText(), "its stream() yielded 'hello'; expected Delta(text=…)"),
    ],
)
async def test_a_model_that_answers_wrongly_fails_with_one_line(member: Any, message: str) -> None:
    """Some mistakes show only in a call; they cost the agent's own proposal and say what to change."""
    answer = await Mixture([[Agent(member), Parrot()]], Scripted("fine", name="x/last")).answer("Why?")
    assert answer.text == "fine"
    assert answer.calls[0].dropped == f"mine/text: {message}"
