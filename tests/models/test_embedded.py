"""Embedded models: their answers, and their callers; real processes with the smallest weights."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from contextlib import aclosing
from multiprocessing import get_context
from typing import Any

import aiohttp
import pytest

from moa.errors import CallRejected
from moa.messages import Answer, Cost, collected
from moa.models import Model, probe
from moa.models.embedded import EmbeddedModel
from tests.fakes.waiting import PATIENCE, holds
from tests.models.calling import deltas_of
from tests.models.embedding import answered, ask, endless, needs_weights, process_of, processor_seconds

pytestmark = [pytest.mark.anyio, needs_weights]


@pytest.fixture(scope="module")
def model() -> Iterator[EmbeddedModel]:
    """One loaded model, for the tests that leave it as it was; each of them may have an event loop of its own."""
    model = EmbeddedModel("smollm2", context=256)
    asyncio.run(model.load())
    yield model
    asyncio.run(model.aclose())


async def test_it_streams_and_costs_nothing(model: EmbeddedModel) -> None:
    """An answer streams token by token, and ends with its finish reason, its counted usage, and a cost of $0."""
    assert isinstance(model, Model)
    assert model.name == "local/smollm2"
    deltas = await deltas_of(model, ask())
    assert sum(bool(delta.text) for delta in deltas) > 5
    answer = collected(deltas)
    assert answer.finish_reason == "length"
    assert answer.usage.input_tokens > 10
    assert answer.usage.output_tokens == 12
    assert not answer.usage.estimated
    assert deltas[-1].cost == Cost(0.0)


async def test_the_same_seed_gives_the_same_answer(model: EmbeddedModel) -> None:
    """At temperature 0 and with one seed, two answers are equal."""
    first, second = [await answered(model, ask(temperature=0, seed=1)) for _ in range(2)]
    assert first.text == second.text != ""


async def test_it_continues_the_message_that_it_has_begun(model: EmbeddedModel) -> None:
    """llama.cpp continues the assistant's last message, as its traits promise."""
    assert model.traits.continuation == "prefix"
    messages = [{"role": "user", "content": probe.QUESTION}, {"role": "assistant", "content": probe.BEGUN}]
    assert probe.shows_that_it_works(
        "prefix", (await answered(model, ask(messages=messages, temperature=0, max_tokens=4))).text
    )


async def test_two_samples_are_written_at_the_same_time(model: EmbeddedModel) -> None:
    """Two slots answer at the same time, and different seeds give different answers."""
    order: list[int] = []

    async def sample(seed: int) -> str:
        text = ""
        async for delta in model.stream(ask(temperature=1.0, seed=seed, max_tokens=16)):
            order.append(seed)
            text += delta.text
        return text

    one, two = await asyncio.gather(sample(1), sample(2))
    assert one != two
    assert order.index(2) < len(order) - 1 - order[::-1].index(1)
    assert order.index(1) < len(order) - 1 - order[::-1].index(2)


async def test_closing_the_stream_stops_the_writing(model: EmbeddedModel) -> None:
    """After both slots' streams are closed half-way, the next answer does not wait for the rest of theirs."""
    began = processor_seconds(process_of(model))
    streams = [model.stream(endless(f"Tell me story {number}.")) for number in range(2)]
    for stream in streams:
        assert [(await anext(stream)).text for _ in range(3)]
    for stream in streams:
        await stream.aclose()
    closed = processor_seconds(process_of(model))
    async with aclosing(model.stream(ask())) as stream:
        assert await anext(stream)
    beginnings, answer = closed - began, processor_seconds(process_of(model)) - closed
    assert answer < 10 * beginnings, "the stories would have taken a hundred times as long as their beginnings"


async def test_cancelling_a_task_stops_the_reading_of_a_long_question(model: EmbeddedModel) -> None:
    """A cancelled question that the model was still reading does not delay the next one."""
    began = processor_seconds(process_of(model))
    task = asyncio.create_task(deltas_of(model, ask("word " * 200)))
    await holds(lambda: processor_seconds(process_of(model)) > began + 0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await answered(model, ask())).text


async def test_a_question_beyond_the_context_is_refused(model: EmbeddedModel) -> None:
    """The error gives the length of the question and of the context, in tokens."""
    with pytest.raises(CallRejected, match=r"\(\d{4} tokens\) exceeds the available context size \(256 tokens\)"):
        await deltas_of(model, ask("word " * 2000))


async def test_an_answer_that_fills_the_context_ends_with_length(model: EmbeddedModel) -> None:
    """The question is not pushed out of the context to make room; the answer reports that it was cut."""
    answer = await answered(model, ask("word " * 200, max_tokens=250, ignore_eos=True))
    assert answer.finish_reason == "length"
    assert answer.usage.total_tokens <= 256


async def test_other_programs_cannot_use_it(model: EmbeddedModel) -> None:
    """A call from another program on the machine, without the key, gets 401."""
    assert model._load
    assert model._load.result
    base_url = model._load.result.endpoint.base_url
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{base_url}/chat/completions", json=ask().body) as response,
    ):
        assert response.status == 401


def test_one_event_loop_after_another_may_use_it() -> None:
    """A model that one loop loaded answers in the next, without loading again."""
    model = EmbeddedModel("smollm2", context=512, slots=1)
    first = asyncio.run(answered(model, ask(max_tokens=3)))
    process = process_of(model)

    async def second() -> Answer:
        async with model:
            assert process_of(model) == process
            return await answered(model, ask(max_tokens=3))

    assert first.text
    assert asyncio.run(second()).text
    assert not model.loaded


async def test_event_loops_in_several_threads_may_use_it_at_once(model: EmbeddedModel) -> None:
    """Event loops in other threads get answers from the one load while this loop runs."""
    process = process_of(model)
    texts = await asyncio.gather(
        *(asyncio.to_thread(lambda: asyncio.run(answered(model, ask(max_tokens=3))).text) for _ in range(3))
    )
    assert all(texts)
    assert process_of(model) is process


async def test_a_forked_process_may_use_it(model: EmbeddedModel) -> None:
    """A child made by fork gets answers from the parent's server, and leaves it running at its end."""
    fork = get_context("fork")

    def child(texts: Any) -> None:
        async def call() -> str:
            async with model:  # closing is the parent's affair
                return (await answered(model, ask(max_tokens=3))).text

        texts.put(asyncio.run(call()))

    texts = fork.Queue()
    process = process_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
        forked = fork.Process(target=child, args=(texts,))
        forked.start()
    assert await asyncio.to_thread(texts.get, True, PATIENCE)
    await asyncio.to_thread(forked.join, PATIENCE)
    assert forked.exitcode == 0
    assert process.poll() is None
    assert (await answered(model, ask(max_tokens=3))).text
