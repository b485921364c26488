"""Common mistakes in a custom model: each is one clear line."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from moa import Agent, Cost, Delta, Mixture, Request, Scripted
from moa.errors import ConfigError, RequestRejected
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


class Odd(Parrot):
    """A parrot with an attribute of the wrong kind."""

    def __init__(self, **attributes: object) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (Odd(traits=None), "the traits of Odd"),
        (Odd(traits={"provider": "mine"}), "the traits of Odd"),
        (Odd(name=None), "the name of Odd is None"),
        (Odd(name=""), "the name of Odd is ''"),
        (Odd(name="mine/<b>"), "give its agent a name"),
        (Odd(name="mine/a\nb"), "give its agent a name"),
        ({"model": Parrot(), "name": 3}, "must be strings, not 3"),
        ({"model": Parrot(), "persona": 3}, "must be strings"),
    ],
)
def test_a_wrong_attribute_is_refused_when_the_mixture_is_made(member: Any, message: str) -> None:
    """A name, a persona or traits of the wrong kind would otherwise cost the agent its answer in every run."""
    with pytest.raises(ConfigError, match=message) as refused:
        Mixture([[member]], Scripted("hello"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("layers", [None, "scripted", [Parrot()], [None], [3], {"a": [Parrot()]}])
def test_layers_must_be_lists_of_lists(layers: Any) -> None:
    """A layer that is no list, such as a lone model, is a ConfigError that shows the right form."""
    with pytest.raises(ConfigError, match="a list of lists"):
        Mixture(layers, Scripted("hello"))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (None, "the question is None; expected a text"),
        (3, "the question is 3"),
        (b"Why?", "the question is b'Why"),
        ({"role": "user", "content": "Why?"}, "put it into a list"),
    ],
)
async def test_something_that_is_no_question_is_refused(question: Any, message: str) -> None:
    """The error shows the value and what a question may be."""
    with pytest.raises(RequestRejected, match=message):
        await panel().answer(question)


@pytest.mark.parametrize("argument", ["proposals", "kept"])
def test_proposals_must_be_references(argument: str) -> None:
    """A caller's proposals given as plain texts are refused before a run starts."""
    arguments: Any = {argument: ["a text"]}
    with pytest.raises(TypeError, match=f"{argument}.*Reference"):
        panel().run("Why?", **arguments)


async def test_the_error_of_a_model_is_one_line() -> None:
    """An exception with a message of several lines is reported on one."""
    answer = await Mixture([[Scripted(ValueError("one\ntwo"), name="x/a"), Scripted("b")]], Scripted("c")).answer(
        "Why?"
    )
    assert answer.degraded == ("a (layer 1) failed: x/a: ValueError: one two",)


async def test_an_agent_lost_before_its_call_degrades_the_answer() -> None:
    """An agent whose task fails for another reason than its model is named, too."""

    class CostsText(Parrot):
        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            dollars: Any = "3"
            yield Delta(text="hello", finish_reason="stop", cost=Cost(dollars))

    answer = await Mixture([[CostsText(), Scripted("b")]], Scripted("c")).answer("Why?")
    assert "parrot (layer 1) failed: TypeError" in answer.degraded[0]
