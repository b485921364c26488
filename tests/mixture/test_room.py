"""Requests that fit their model's context."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa import Delta, Mixture, Request
from moa.errors import AggregatorFailed, CallRejected, ModelError
from moa.messages import Reference, text_of
from moa.mixture.room import LEAST, shortened
from moa.models import Traits
from moa.models.fitting import prompt_tokens, text_tokens
from moa.models.profile import Profile
from moa.models.scripted import Scripted
from moa.schedules import Staircase
from tests.mixture.writers import long_text, run, writer

pytestmark = pytest.mark.anyio

LONG = " ".join(f"word{number}" for number in range(3500))


@dataclass
class Small:
    """A model with a small context, which refuses longer prompts; ``known``: what its profile says of it."""

    context: int
    known: int | None = None
    name: str = "mine/small"
    prompts: list[Request] = field(default_factory=list)

    @property
    def traits(self) -> Traits:
        return Traits(profile=Profile(context_tokens=self.known))

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.prompts.append(request)
        if prompt_tokens(request) > self.context:
            error: ModelError = CallRejected(self.name, "400: too long", status=400)
            error.code = "context_length_exceeded"
            raise error
        yield Delta(text="merged", finish_reason="stop")


def two_long(aggregator: Small, **settings: object) -> Mixture:
    """Two long proposals and a short one."""
    proposers = [Scripted(text, name=f"x/{name}") for name, text in (("a", LONG), ("b", LONG[:20000]), ("c", "short"))]
    return Mixture([proposers], aggregator, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [4096, None])
async def test_references_that_would_not_fit_are_shortened(known: int | None) -> None:
    """The longest first, with a mark and a notice, whether the size of the context is known or only the refusal says it."""
    small = Small(4096, known)
    answer = await two_long(small).answer("What is it?")
    assert answer.text == "merged"
    assert len(small.prompts) == (1 if known else 3)
    prompt = small.prompts[-1].messages[-1]["content"]
    assert prompt.count("characters left out") == 2
    assert "short" in prompt
    assert [line for line in answer.degraded if "small read 2 of 3 proposals shortened" in line]
    assert answer.calls[-1].usage is not None


async def test_references_that_fit_are_whole() -> None:
    """Nothing is shortened, and no notice is emitted, where all proposals fit."""
    large = Small(100_000, 100_000)
    answer = await two_long(large).answer("What is it?")
    assert LONG.strip() in large.prompts[0].messages[-1]["content"]
    assert answer.degraded == ()


async def test_a_proposer_that_cannot_hold_the_request_is_not_called() -> None:
    """Its place in the answer's degradations says why; the others answer."""
    small, other = Small(1000, 1000, name="mine/tiny"), Scripted("fine", name="x/other")
    answer = await Mixture([[small, other]], Scripted("merged", name="x/last")).answer(LONG)
    assert answer.text == "merged"
    assert small.prompts == []
    assert [line for line in answer.degraded if line.startswith("tiny was not called: its context of 1,000 tokens")]


async def test_a_request_that_no_aggregator_can_hold_is_refused_by_that_name() -> None:
    """The error has the code that clients act on."""
    with pytest.raises(AggregatorFailed) as caught:
        await Mixture([[Scripted("p", name="x/p")]], Small(1000, 1000)).answer(LONG)
    assert [error.code for error in caught.value.errors] == ["context_length_exceeded"]


async def test_a_fallback_with_a_larger_context_answers() -> None:
    """An aggregator that cannot hold the request is passed over."""
    large = Small(100_000, name="mine/large")
    mixture = Mixture([[Scripted("p", name="x/p")]], Small(1000, 1000), fallbacks=[large])
    assert (await mixture.answer(LONG)).text == "merged"


class TurnTaker:
    """A model of the context that continues its text in turns; it refuses longer prompts, and ``known`` says so before."""

    name = "mine/turns"

    def __init__(self, context: int, known: int | None) -> None:
        self.context, self.prompts, self.refused = context, list[Request](), 0
        self.traits = Traits(continuation="turns", profile=Profile(context_tokens=known))

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if prompt_tokens(request) > self.context:
            self.refused += 1
            error: ModelError = CallRejected(self.name, "400: too long", status=400)
            error.code = "context_length_exceeded"
            raise error
        self.prompts.append(request)
        shown = "\n".join(text_of(message) for message in request.messages)
        begun = re.search(r"<begun \S+>\n(.*?)\n</begun", shown, re.DOTALL)
        pieces = [
            begun[1] if begun else "",
            *(text_of(each) for each in request.messages if each["role"] == "assistant"),
        ]
        written = len(" ".join(pieces).split())
        for word in long_text("answer", 400).split()[written:]:
            yield Delta(text=f"{word} ")
            await asyncio.sleep(0.05)
        yield Delta(finish_reason="stop")


@pytest.mark.parametrize("known", [4000, None])
def test_a_conversation_in_turns_that_outgrows_its_model_begins_anew(known: int | None) -> None:
    """Proposals grow past the model's context while it writes in turns: it gets them shortened, with its own text quoted."""
    model = TurnTaker(4000, known)
    proposers = [writer(name, words=1500, pace=60) for name in ("p", "q")]
    _, answer = run(Mixture([proposers], model, schedule=Staircase((50, 400, 1500), (20, 60, 200))))
    assert answer.text.strip() == long_text("answer", 400)
    assert all(prompt_tokens(prompt) <= 4000 for prompt in model.prompts)
    assert len(model.prompts[1].messages) > 1  # a turn, before it became too long
    assert "<begun " in text_of(model.prompts[-1].messages[0])
    assert bool(model.refused) == (known is None)
    assert [line for line in answer.degraded if "turns read 2 of 2 proposals shortened" in line]


texts = st.text(st.sampled_from("abcdefgh\nя日"), max_size=2000)


@given(st.lists(texts, min_size=1, max_size=5), st.integers(0, 2000))
def test_shortening_is_fair(texts: list[str], tokens: int) -> None:
    """What remains fits; short texts stay whole; no text is shortened below one that was longer before."""
    references = [Reference(str(number), text) for number, text in enumerate(texts)]
    shorter = shortened(references, tokens)
    if not shorter:
        assert tokens < LEAST * len(texts) + sum(map(text_tokens, texts))
        return
    sizes = [text_tokens(reference.text) for reference in shorter]
    assert sum(sizes) <= tokens + 2 * LEAST * len(texts)
    kept = [one.text == other.text for one, other in zip(references, shorter, strict=True)]
    longest_whole = max((size for size, whole in zip(sizes, kept, strict=True) if whole), default=0)
    assert all(whole or text_tokens(text) >= longest_whole for text, whole in zip(texts, kept, strict=True))
