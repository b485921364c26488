from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import pytest

from moa.messages import Delta, Request
from moa.mixture.mixture import Mixture
from moa.models import Continuation, Model, ModelWithTraits, Traits, traits_of
from moa.models.endpoint import Endpoint
from moa.models.hedge import Hedged
from moa.models.limits import Limited, Limits
from moa.models.profile import Profile
from moa.models.retries import Retried
from moa.models.scripted import Scripted


class Bare:
    """The least that a model needs."""

    name = "mine/a/b"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta(text="hello", finish_reason="stop")


def test_a_model_needs_no_traits() -> None:
    """A model with a name and a stream alone gets traits made from its name."""
    model = Bare()
    assert isinstance(model, Model)
    assert not isinstance(model, ModelWithTraits)
    assert traits_of(model) == Traits(provider="mine", model_id="a/b", identity="mine/a/b", continuation=None)


def test_declared_traits_win_over_the_name() -> None:
    """A model may declare some traits; the rest comes from its name."""

    class Prefixing(Bare):
        traits = Traits(continuation="prefix", provider="someone")

    expected = Traits(provider="someone", model_id="a/b", identity="mine/a/b", continuation="prefix")
    assert traits_of(Prefixing()) == expected


@pytest.mark.parametrize(
    "wrap",
    [Retried, lambda model: Limited(model, Limits()), lambda model: Hedged(model, 1)],
    ids=["retry", "limit", "hedge"],
)
def test_a_wrapper_has_the_name_and_traits_of_the_model_inside(wrap: Callable[[Model], Model]) -> None:
    """A wrapper is a model and passes on the name and the traits of the model inside, and nothing else."""
    inside = Endpoint("here", "http://127.0.0.1/v1", continuation="flag").model("large")
    wrapped = wrap(inside)
    assert isinstance(wrapped, ModelWithTraits)
    assert (wrapped.name, traits_of(wrapped)) == (inside.name, traits_of(inside))
    assert traits_of(wrapped).identity == "http://127.0.0.1/v1 large"
    assert not hasattr(wrap(Scripted("hello")), "requests")


@pytest.mark.parametrize(("extra", "same"), [({}, True), ({"tier": 2}, False)])
def test_an_answer_depends_on_the_fields_that_every_request_gets(extra: dict[str, int], same: bool) -> None:
    """Models with other settings of ``extra_body`` share no cached answer."""
    plain = Endpoint("a", "http://127.0.0.1/v1").model("b")
    other = Endpoint("a", "http://127.0.0.1/v1", profile_of=lambda _: Profile(extra_body=extra)).model("b")
    assert (traits_of(plain).identity == traits_of(other).identity) == same


@pytest.mark.parametrize(
    ("way", "continuation"),
    [
        ("prefix", "prefix"),
        ("vllm", "prefix"),
        ("flag", "prefix"),
        ("partial", "prefix"),
        ("turns", "turns"),
        ("none", None),
        (None, None),
    ],
)
def test_how_an_endpoint_continues_a_text(way: str | None, continuation: Continuation | None) -> None:
    """The ways to send the beginning of an answer are one trait; only the endpoint knows the difference."""
    assert traits_of(Endpoint("a", "http://127.0.0.1/v1", continuation=way).model("b")).continuation == continuation


def test_a_mixture_is_a_model_with_traits() -> None:
    """A mixture's identity depends on its aggregator; the identity of its proposals does not."""
    one, two = (Mixture([[Bare()]], Scripted("x", name=f"scripted/{name}")) for name in ("one", "two"))
    assert one.proposal_identity == two.proposal_identity
    assert traits_of(one).identity != traits_of(two).identity
