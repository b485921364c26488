from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

import pytest

from moa import Agent, Mixture, Scripted
from moa.errors import ModelError
from moa.messages import Delta, Request, Usage, pieces_of, text_of
from moa.mixture.events import AgentContinued, AgentSaid, AgentStarted, AnswerBegan, Noticed
from moa.models import Continuation, Traits
from moa.schedules import Barrier, Staircase
from tests.mixture.writers import long_text, run, writer


class InPackets:
    """A model that can continue a text, and sends the same packets in answer to each request, ``pause`` seconds apart."""

    name = "scripted/packets"
    traits = Traits(continuation="prefix")

    def __init__(self, *packets: Delta, pause: float = 0.0) -> None:
        self.packets, self.pause, self.requests = packets, pause, 0

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests += 1
        for packet in self.packets:
            yield packet
            await asyncio.sleep(self.pause)


@pytest.mark.parametrize("way", ["prefix", "turns"])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_answer_is_complete_and_its_first_token_waits_for_two_calls_only(way: str, depth: int) -> None:
    """However deep the mixture, the pieces join without a flaw, and the text starts after the first tokens of two calls."""
    layers = [[writer(f"p{layer}{n}", continuation=way) for n in range(3)] for layer in range(depth - 1)]
    last = writer("answer", continuation=way)
    _, answer = run(Mixture(layers, last, schedule=Staircase()))
    assert answer.text == long_text("answer")
    assert [call.text for call in answer.proposals] == [
        long_text(model.name[9:]) for layer in layers for model in layer
    ]
    assert answer.degraded == ()
    _, barrier = run(Mixture(layers, last, schedule=Barrier()))
    assert answer.time_to_first_token is not None
    assert barrier.time_to_first_token is not None
    # 32 tokens are 128 characters, 26 of these words: 0.5 s + 1.3 s, then the aggregator's own time to first token.
    assert answer.time_to_first_token < 3.5
    assert barrier.time_to_first_token > 10 * (depth - 1)
    assert (answer.duration or 0) < (barrier.duration or 0)


def test_each_call_reads_longer_references_and_the_last_complete_ones() -> None:
    """Every further call of the aggregator also has its own text so far."""
    last = writer("answer")
    events, answer = run(Mixture([[writer("p"), writer("q")]], last, schedule=Staircase()))
    sizes = [len(text_of(request.messages[0])) for request in last.requests]
    assert len(sizes) == 3
    assert sizes == sorted(sizes)
    begun = [text_of(request.messages[-1]) for request in last.requests]
    assert all(answer.text.startswith(text) for text in begun[1:])
    assert "(unfinished)" in begun[0] and "still being written" in begun[0]
    final = text_of(last.requests[-1].messages[0])
    assert long_text("p") in final and long_text("q") in final and "(unfinished)" not in final
    assert sum(isinstance(event, AgentContinued) and event.agent == "answer" for event in events) == 2
    assert sum(isinstance(event, AnswerBegan) for event in events) == 1


USAGE = Delta(usage=Usage(1000, 8))


@pytest.mark.parametrize(
    "packets",
    [
        [Delta(text="The capital of France is Paris.", finish_reason="stop"), USAGE],
        [Delta(text="The capital of France is Paris.", finish_reason="stop", usage=USAGE.usage)],
        [Delta(text="The "), Delta(text="capital of France is Paris.", finish_reason="stop"), USAGE],
    ],
)
def test_an_answer_that_ends_beyond_its_room_is_complete(packets: list[Delta]) -> None:
    """A text whose finish reason has arrived is not paused, so the last word, held back until then, is not lost.

    The model ended it before the proposals were complete, so it is called once more; a repetition adds nothing.
    """
    last = InPackets(*packets)
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase((32, 128), (1, 2))))
    assert (answer.text, answer.finish_reason) == ("The capital of France is Paris.", "stop")
    assert (last.requests, answer.degraded) == (2, ())


def test_an_answer_that_ends_while_the_proposals_end_is_complete() -> None:
    """Nothing is lost where the proposals are complete by the time the usage arrives."""
    last = InPackets(Delta(text="It is Paris."), Delta(finish_reason="stop"), USAGE, pause=7.0)
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase((32,), (100,))))
    assert (answer.text, answer.finish_reason) == ("It is Paris.", "stop")
    assert (last.requests, answer.degraded) == (2, ())


def test_turns_only_append() -> None:
    """Every request begins with the exact messages of the one before, so the upstream has them cached."""
    last = writer("answer", continuation="turns")
    _, answer = run(Mixture([[writer("p"), writer("q")]], last, schedule=Staircase()))
    conversations = [request.messages for request in last.requests]
    for earlier, later in pairwise(conversations):
        assert later[: len(earlier)] == earlier
    prompts = "\n".join(text_of(message) for message in conversations[-1] if message["role"] == "user")
    for number in range(200):
        assert prompts.count(f"p{number} ") + prompts.count(f"p{number}\n") == 1
    assert answer.text == long_text("answer")


def test_usage_counts_every_call() -> None:
    """The usage of a text written in several calls is their sum."""
    last = writer("answer")
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase()))
    assert answer.calls[-1].usage is not None
    characters = sum(len(text_of(message)) for request in last.requests for message in request.messages)
    assert answer.calls[-1].usage.input_tokens == pytest.approx(characters / 4, rel=0.05)
    assert len(answer.calls) == 2


def test_a_slow_proposer_does_not_delay_the_first_token() -> None:
    """The first reading needs a quorum only; the last one has every proposal."""
    slow = writer("slow", first=8.0, pace=100)
    last = writer("answer")
    _, answer = run(Mixture([[writer("p"), writer("q"), slow]], last, schedule=Staircase()))
    assert (answer.time_to_first_token or 99) < 3
    assert "slow0" not in text_of(last.requests[0].messages[0])
    assert long_text("slow") in text_of(last.requests[-1].messages[0])


def test_no_agent_waits_for_a_model_that_reasons() -> None:
    """Reasoning is no part of a chunk, and an agent that only reasons does not count for the quorum."""
    thinker = writer("thinker", reasoning="hm " * 400, pace=40)
    last = writer("answer")
    _, answer = run(Mixture([[writer("p"), thinker, thinker]], last, schedule=Staircase(quorum=1.0)))
    assert (answer.time_to_first_token or 99) < 3.5
    assert "hm" not in text_of(last.requests[-1].messages[0])
    assert long_text("thinker") in text_of(last.requests[-1].messages[0])


def test_a_model_that_cannot_continue_a_text_waits_for_the_complete_proposals() -> None:
    """It is called once, as under the barrier; the other agents do not wait for it."""
    plain = writer("plain", continuation=None)
    _, answer = run(Mixture([[writer("p")], [plain, writer("q")]], writer("answer"), schedule=Staircase()))
    assert len(plain.requests) == 1
    assert long_text("p") in text_of(plain.requests[0].messages[0])
    assert (answer.time_to_first_token or 99) < 3.5
    last = writer("answer", continuation=None)
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase()))
    assert len(last.requests) == 1
    assert answer.text == long_text("answer")


class Answers:
    """A model that can continue a text, and answers its calls with these texts or errors, in order."""

    name = "scripted/answers"

    def __init__(self, *answers: str | Exception, continuation: Continuation = "prefix", finish: str = "stop") -> None:
        self.traits, self.answers, self.finish = Traits(continuation=continuation), answers, finish
        self.requests: list[Request] = []

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        answer = self.answers[len(self.requests) - 1]
        if isinstance(answer, Exception):
            raise answer
        for piece in pieces_of(answer):
            await asyncio.sleep(0.05)
            yield Delta(text=piece)
        yield Delta(finish_reason=self.finish)


ways = pytest.mark.parametrize("way", ["prefix", "turns"])


@ways
def test_an_agent_that_ends_on_unfinished_references_reads_the_complete_ones(way: Continuation) -> None:
    """It is called once more with the complete proposals, and what it adds belongs to its answer."""
    last = Answers("Let me see.", " It holds 42 tons.", continuation=way)
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase()))
    assert (answer.text, answer.finish_reason) == ("Let me see. It holds 42 tons.", "stop")
    assert answer.degraded == ()
    assert len(last.requests) == 2
    assert "p199" in "".join(text_of(message) for message in last.requests[1].messages)


@ways
@pytest.mark.parametrize("more", ["", "  \n", "It is Paris."])
def test_an_agent_that_ends_on_unfinished_references_may_add_nothing(way: Continuation, more: str) -> None:
    """Its text stands, and the proposals that were still being written are part of the run."""
    last = Answers("It is Paris.", more, continuation=way)
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase()))
    assert (answer.text.rstrip(), answer.finish_reason, answer.degraded) == ("It is Paris.", "stop", ())
    assert len(last.requests) == 2
    assert [call.text for call in answer.proposals] == [long_text("p")]


def test_a_proposer_that_ends_on_unfinished_references_reads_the_complete_ones() -> None:
    """The same holds in every layer."""
    middle = Answers("Let me see.", " It holds 42 tons.")
    _, answer = run(Mixture([[writer("p")], [middle]], writer("answer"), schedule=Staircase()))
    assert [call.text for call in answer.proposals][1] == "Let me see. It holds 42 tons."
    assert answer.text == long_text("answer")


@pytest.mark.parametrize("nothing", ["", " ", "\ufeff"])
def test_an_agent_without_text_on_unfinished_references_answers_from_the_complete_ones(nothing: str) -> None:
    """An empty first piece does not end the answer."""
    _, answer = run(Mixture([[writer("p")]], Answers(nothing, "It is Paris."), schedule=Staircase()))
    assert (answer.text.strip(" \ufeff"), answer.degraded) == ("It is Paris.", ())


@pytest.mark.parametrize("error", [ModelError("scripted/answers", "gone"), "It is Paris, which lies on the Seine."])
def test_a_text_whose_agent_cannot_read_the_complete_references_stands_and_is_degraded(error: str | Exception) -> None:
    """The agent had ended its text, so it is usable; the run reports that it rests on unfinished proposals."""
    last = Answers("It is Paris, which lies in France.", error, "It is Paris, which lies in France, of course.")
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase()))
    assert answer.text == "It is Paris, which lies in France."
    assert answer.finish_reason == "length"
    assert any("the complete proposals" in reason or "did not" in reason for reason in answer.degraded)


@ways
@pytest.mark.parametrize("nothing", ["", " ", "\n\n", "\ufeff", "\u200b "])
def test_an_empty_last_piece_is_requested_once_more(way: Continuation, nothing: str) -> None:
    """A draft that was paused in the middle is not complete when its continuation says nothing."""
    begun = long_text("answer", 100)
    last = Answers(begun, nothing, "and that is all.", continuation=way)
    _, answer = run(Mixture([[writer("p", words=40)]], last, schedule=Staircase((8,), (8,))))
    assert answer.text.startswith("answer0 answer1 ")
    assert re.search(r"answer\d+ and that is all\.$", answer.text)
    assert (len(last.requests), answer.degraded) == (3, ())


def test_a_last_piece_that_stays_empty_degrades_the_answer() -> None:
    """After the second empty piece the text stands as it is, marked as incomplete."""
    last = Answers(long_text("answer", 100), "", "")
    _, answer = run(Mixture([[writer("p", words=40)]], last, schedule=Staircase((8,), (8,))))
    assert answer.text.startswith("answer0 ")
    assert answer.finish_reason == "length"
    assert answer.degraded == ("answers may be incomplete: its last piece was empty, twice",)


@pytest.mark.parametrize("member", [False, True])
def test_a_text_with_stop_sequences_is_written_in_one_piece(member: bool) -> None:
    """A stop sequence may lie across two pieces, and a stop at one would not end the answer."""
    last = writer("answer")
    sampling = {"stop": ["END"]} if member else {}
    question = {"messages": [{"role": "user", "content": "Why?"}], **({} if member else {"stop": ["END"]})}
    _, answer = run(Mixture([[writer("p")]], Agent(last, sampling=sampling), schedule=Staircase()), question)
    assert (answer.text, len(last.requests)) == (long_text("answer"), 1)


@pytest.mark.parametrize(
    "body", [{"tools": [{"type": "function", "function": {"name": "f"}}]}, {"response_format": {"type": "json_object"}}]
)
def test_a_request_that_cannot_be_answered_incrementally_waits_for_all_proposals(body: dict[str, Any]) -> None:
    """The barrier applies for tools and response formats, and a notice says so."""
    last = writer("answer")
    question = {"messages": [{"role": "user", "content": "Why?"}], **body}
    events, _ = run(Mixture([[writer("p")]], last, schedule=Staircase()), question)
    assert len(last.requests) == 1
    assert any(isinstance(event, Noticed) and "waiting for" in event.message for event in events)
    exact = writer("answer")
    run(Mixture([[writer("p")]], exact, schedule=Staircase(), exact=True))
    assert len(exact.requests) == 1


def test_a_model_that_starts_over_finishes_in_a_single_call() -> None:
    """A different text cannot be joined, so one fresh call is shown the text so far and writes the rest."""
    opening = (
        "The sky looks blue because of the air and what the air does to light that comes from the sun, which is white."
    )

    def script(request: Request) -> str:
        if "You have begun your answer" in text_of(request.messages[-1]):
            return "And that is all there is to it."
        if request.messages[-1]["role"] == "assistant":
            return "The sky looks blue because of the sea, of course."
        return opening * 3

    last = Scripted(script, name="scripted/last", first_token=0.1, tokens_per_second=20, continuation="prefix")
    events, answer = run(Mixture([[writer("p")]], last, schedule=Staircase()))
    assert any(isinstance(event, Noticed) and "did not continue where it stopped" in event.message for event in events)
    assert answer.text.startswith("The sky looks blue because of the air")
    assert answer.text.endswith(" And that is all there is to it.")
    assert "sea" not in answer.text


def test_a_proposer_that_fails_after_its_first_chunk_is_left_out_of_the_last_reading() -> None:
    """The first calls read its text, the last one does not, and the answer is degraded."""
    broken = writer("broken", fail_after=60)
    last = writer("answer")
    _, answer = run(Mixture([[writer("p"), broken]], last, schedule=Staircase()))
    assert answer.text == long_text("answer")
    assert "broken0" not in text_of(last.requests[-1].messages[0])
    assert len(answer.degraded) == 1


def test_a_deadline_cuts_the_proposals() -> None:
    """At the deadline the aggregator continues with the text there is."""
    _, answer = run(Mixture([[writer("p", words=2000)]], writer("answer"), schedule=Staircase(), deadline=10))
    assert answer.text == long_text("answer")
    assert (answer.duration or 99) < 22


def test_a_fallback_takes_over_before_the_first_token() -> None:
    """The fallback of an aggregator that fails at once also starts from incomplete proposals."""
    last = Scripted(ConnectionError("gone"), name="scripted/l", continuation="prefix")
    saved = writer("saved")
    _, answer = run(Mixture([[writer("p")]], last, fallbacks=[saved], schedule=Staircase()))
    assert answer.text == long_text("saved")
    assert (answer.time_to_first_token or 99) < 4


def test_a_staircase_nests() -> None:
    """A mixture inside a mixture runs by its own schedule, and only from complete proposals: it cannot continue a text."""
    inner = Mixture([[writer("i")]], writer("inner"), schedule=Staircase(), name="inner")
    last = writer("answer")
    _, answer = run(Mixture([[Agent(inner), writer("p")]], last, schedule=Staircase()))
    assert answer.text == long_text("answer")
    assert long_text("inner") in text_of(last.requests[-1].messages[0])


def test_text_flows_through_all_layers_at_once() -> None:
    """The second layer streams text while the first still writes, and the answer streams while both do."""
    events, _ = run(Mixture([[writer("a")], [writer("b")]], writer("c"), schedule=Staircase()))
    said = {
        name: [event.at for event in events if isinstance(event, AgentSaid) and event.agent == name] for name in "abc"
    }
    assert said["b"][0] < said["a"][-1]
    assert said["c"][0] < said["a"][-1]
    assert len([event for event in events if isinstance(event, AgentStarted)]) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"chunks": ()},
        {"chunks": (96, 32)},
        {"chunks": (32,), "writes": (8, 16)},
        {"chunks": (0,)},
        {"quorum": 0},
        {"quorum": 1.5},
    ],
)
def test_a_staircase_with_figures_out_of_range_is_refused(arguments: dict[str, Any]) -> None:
    """Chunks must grow, and a quorum is a share."""
    with pytest.raises(ValueError):
        Staircase(**arguments)


CHINESE = "天空看起来是蓝色的，因为空气对短波长光线的散射远远强于长波长光线。"
THAI = "ท้องฟ้าเป็นสีฟ้าเพราะอากาศกระเจิงแสงสีน้ำเงินมากกว่าแสงสีแดง"
JAPANESE = "空が青いのは、空気が短い波長の光を強く散乱させるからです。"


class Character:
    """A model that writes its text character by character, 20 a second, and continues it to the letter."""

    traits = Traits(continuation="prefix")

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text, self.requests = f"scripted/{name}", text, list[Request]()

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        last = request.messages[-1]
        for character in self.text[len(text_of(last)) if last["role"] == "assistant" else 0 :]:
            yield Delta(text=character)
            await asyncio.sleep(0.05)
        yield Delta(finish_reason="stop")


@pytest.mark.parametrize("sentence", [CHINESE, THAI, JAPANESE])
def test_a_script_without_spaces_streams_early_and_reads_every_proposal(sentence: str) -> None:
    """Its first words come while the proposals are written, in many pieces, and the last call has all proposals."""
    text = "".join(f"{number}{sentence}" for number in range(12))
    last = Character("last", text)
    events, answer = run(Mixture([[Character("a", text), Character("b", text)]], last, schedule=Staircase()))
    assert answer.text == text
    assert (answer.time_to_first_token or 99) < 0.4 * len(text) / 20
    assert len(last.requests) >= 2
    final = "".join(text_of(message) for message in last.requests[-1].messages[:-1])
    assert final.count(text) == 2
    assert sum(isinstance(event, AgentSaid) and event.agent == "last" for event in events) > 100
