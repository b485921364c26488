"""One switch forbids real calls, so that a user's test cannot spend money by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import moa
from moa import Endpoint, Function, Mixture, Scripted
from moa.errors import ModelError, NoProposals
from moa.messages import text_of as text_in
from moa.models.embedded import EmbeddedModel
from moa.models.weights import Weights
from tests.fakes.fake_hub import gguf
from tests.fakes.upstream import Upstream, say
from tests.models.calling import HELLO, deltas_of, text_of

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Real calls are allowed again after each test."""
    with moa.allow_real_calls():
        yield


async def test_no_endpoint_is_called_while_real_calls_are_forbidden(upstream: Upstream) -> None:
    """A call to an endpoint, and its list of models, fail before anything is sent, with the remedy."""
    upstream.script("m", say("Hello."))
    async with Endpoint("here", upstream.base_url) as endpoint:
        with moa.forbid_real_calls():
            with pytest.raises(ModelError, match=r"here/m: real calls are forbidden here; use moa\.Scripted") as caught:
                await deltas_of(endpoint.model("m"))
            assert not caught.value.retryable
            with pytest.raises(ModelError, match="real calls are forbidden"):
                await endpoint.models()
        assert upstream.requests == []
        assert await text_of(endpoint.model("m")) == "Hello."


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="not installed: xllamacpp")
async def test_no_weights_are_loaded_while_real_calls_are_forbidden(tmp_path: Path) -> None:
    """An embedded model neither loads nor answers."""
    (tmp_path / "empty.gguf").write_bytes(gguf())
    model = EmbeddedModel(Weights("empty", tmp_path / "empty.gguf", 64))
    with moa.forbid_real_calls():
        for attempt in (model.load(), deltas_of(model)):
            with pytest.raises(ModelError, match="local/empty: real calls are forbidden"):
                await attempt
    assert not model.loaded


async def test_other_models_answer_as_ever() -> None:
    """Scripted models and functions need nothing real."""
    with moa.forbid_real_calls():
        assert await text_of(Scripted("hello")) == "hello"
        assert await text_of(Function(lambda request: text_in(request.messages[-1]))) == "Say hello to everyone."


async def test_the_switch_may_be_thrown_once_for_a_whole_process(upstream: Upstream) -> None:
    """Called without ``with``, it stays as set, and a nested block restores what it found."""
    upstream.script("m", say("Hello."))
    endpoint = Endpoint("here", upstream.base_url)
    model = endpoint.model("m")
    moa.forbid_real_calls()
    with moa.allow_real_calls():
        assert await text_of(model) == "Hello."
        with moa.forbid_real_calls(), pytest.raises(ModelError):
            await deltas_of(model)
        assert await text_of(model) == "Hello."
    with pytest.raises(ModelError):
        await deltas_of(model)
    moa.allow_real_calls()
    assert await text_of(model) == "Hello."
    await endpoint.aclose()


async def test_a_mixture_of_forbidden_models_names_the_reason(upstream: Upstream) -> None:
    """In a mixture, each forbidden call is a failed agent with that reason."""
    endpoint = Endpoint("here", upstream.base_url)
    mixture = Mixture([[endpoint.model("a"), endpoint.model("b")]], Scripted("merged"))
    with moa.forbid_real_calls(), pytest.raises(NoProposals, match="real calls are forbidden"):
        await mixture.answer(HELLO)
    assert upstream.requests == []
