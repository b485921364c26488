from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest

from moa import Agent, Mixture, Scripted, fold
from moa.messages import Answer, Delta, Request, Usage, text_of
from moa.mixture.events import AgentContinued, AgentDropped, AgentSaid, AgentStarted, AnswerBegan, Event, Noticed
from moa.models import Traits
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule, Staircase
from tests.fakes.virtual_time import run_in_virtual_time

WORDS = "word {} of the {} text "


def long_text(name: str, words: int = 200) -> str:
    return "".join(f"{name}{number} " for number in range(words)).strip()


def writer(name: str, *, pace: float = 20.0, first: float = 0.5, words: int = 200, **how: object) -> Scripted:
    """A model that writes so many words at so many a second, and can go on with what it began."""
    how.setdefault("continuation", "prefix")
    return Scripted(
        long_text(name, words),
        name=f"scripted/{name}",
        first_token=first,
        tokens_per_second=pace,
        **how,  # type: ignore[arg-type]
    )


def run(mixture: Mixture, question: object = "Why?") -> tuple[list[Event], Answer]:
    async def heard() -> list[Event]:
        return [event async for event in mixture.run(question)]  # type: ignore[arg-type]

    events = run_in_virtual_time(heard())
    return events, fold(events)


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
def test_the_answer_is_whole_and_its_first_word_comes_after_two_calls_first_words(way: str, depth: int) -> None:
    """However deep the mixture, the text is joined without a seam and begins after two calls, not after all of them."""
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
    # 32 tokens are 128 characters, 26 of these words: 0.5 s + 1.3 s, then the aggregator's own first word.
    assert answer.time_to_first_token < 3.5
    assert barrier.time_to_first_token > 10 * (depth - 1)
    assert (answer.duration or 0) < (barrier.duration or 0)


def test_readers_read_what_has_grown_and_at_last_all_of_it() -> None:
    """Each further call of the aggregator has longer references and its own text so far; the last has them complete."""
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
    """A text whose finish reason has arrived is not paused, so the last word, held back until then, is not lost."""
    last = InPackets(*packets)
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase((32, 128), (1, 2))))
    assert (answer.text, answer.finish_reason) == ("The capital of France is Paris.", "stop")
    assert last.requests == 1


def test_an_answer_that_ends_while_the_proposals_end_is_complete() -> None:
    """Nothing is lost where the proposals are complete by the time the usage arrives, and nothing is called again."""
    last = InPackets(Delta(text="It is Paris."), Delta(finish_reason="stop"), USAGE, pause=7.0)
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase((32,), (100,))))
    assert (answer.text, answer.finish_reason) == ("It is Paris.", "stop")
    assert last.requests == 1


def test_turns_only_ever_append() -> None:
    """In turns every request begins with the one before it, to the letter, so that all of it is cached upstream."""
    last = writer("answer", continuation="turns")
    _, answer = run(Mixture([[writer("p"), writer("q")]], last, schedule=Staircase()))
    asked = [request.messages for request in last.requests]
    for earlier, later in pairwise(asked):
        assert later[: len(earlier)] == earlier
    told = "\n".join(text_of(message) for message in asked[-1] if message["role"] == "user")
    for number in range(200):
        assert told.count(f"p{number} ") + told.count(f"p{number}\n") == 1
    assert answer.text == long_text("answer")


def test_usage_counts_every_step() -> None:
    """What a text costs that was written in several calls is the sum of those calls."""
    last = writer("answer")
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase()))
    assert answer.calls[-1].usage is not None
    asked = sum(len(text_of(message)) for request in last.requests for message in request.messages)
    assert answer.calls[-1].usage.input_tokens == pytest.approx(asked / 4, rel=0.05)
    assert len(answer.calls) == 2


def test_a_slow_proposer_does_not_delay_the_first_word_and_its_text_joins_when_it_comes() -> None:
    """The first chunk takes a quorum; the complete references hold everyone."""
    slow = writer("slow", first=8.0, pace=100)
    last = writer("answer")
    _, answer = run(Mixture([[writer("p"), writer("q"), slow]], last, schedule=Staircase()))
    assert (answer.time_to_first_token or 99) < 3
    assert "slow0" not in text_of(last.requests[0].messages[0])
    assert long_text("slow") in text_of(last.requests[-1].messages[0])


def test_a_model_that_thinks_holds_nobody_up() -> None:
    """Chunks begin after the thinking, and a proposal that is being thought about does not count for the quorum."""
    thinker = writer("thinker", reasoning="hm " * 400, pace=40)
    last = writer("answer")
    _, answer = run(Mixture([[writer("p"), thinker, thinker]], last, schedule=Staircase(quorum=1.0)))
    assert (answer.time_to_first_token or 99) < 3.5
    assert "hm" not in text_of(last.requests[-1].messages[0])
    assert long_text("thinker") in text_of(last.requests[-1].messages[0])


def test_a_model_that_cannot_go_on_waits_for_the_complete_proposals() -> None:
    """Where neither way is known to work an agent writes once, as under the barrier; others do not wait for it."""
    plain = writer("plain", continuation=None)
    _, answer = run(Mixture([[writer("p")], [plain, writer("q")]], writer("answer"), schedule=Staircase()))
    assert len(plain.requests) == 1
    assert long_text("p") in text_of(plain.requests[0].messages[0])
    assert (answer.time_to_first_token or 99) < 3.5
    last = writer("answer", continuation=None)
    _, answer = run(Mixture([[writer("p")]], last, schedule=Staircase()))
    assert len(last.requests) == 1
    assert answer.text == long_text("answer")


def test_an_answer_that_is_complete_early_ends_the_run() -> None:
    """An aggregator that ends its answer while proposals still run has answered: the rest is cancelled."""
    proposer = writer("p", words=2000)
    events, answer = run(Mixture([[proposer]], writer("answer", words=3), schedule=Staircase()))
    assert answer.text == long_text("answer", 3)
    assert (answer.duration or 99) < 4
    assert (proposer.running, proposer.cancelled) == (0, 1)
    assert [event.reason for event in events if isinstance(event, AgentDropped)] == [
        "the answer was complete without it"
    ]


@pytest.mark.parametrize(
    "body", [{"tools": [{"type": "function", "function": {"name": "f"}}]}, {"response_format": {"type": "json_object"}}]
)
def test_where_late_content_decides_the_proposals_are_waited_for(body: dict[str, object]) -> None:
    """With tools or a response format the barrier is in force, and an event says so."""
    last = writer("answer")
    question = {"messages": [{"role": "user", "content": "Why?"}], **body}
    events, _ = run(Mixture([[writer("p")]], last, schedule=Staircase()), question)
    assert len(last.requests) == 1
    assert any(isinstance(event, Noticed) and "waited for" in event.message for event in events)
    exact = writer("answer")
    run(Mixture([[writer("p")]], exact, schedule=Staircase(), exact=True))
    assert len(exact.requests) == 1


def test_a_model_that_starts_over_is_told_its_opening_in_one_full_call() -> None:
    """A text that begins anew, differently, cannot be joined: the staircase ends there, with one call for the rest."""
    opening = (
        "The sky looks blue because of the air and what the air does to light that comes from the sun, which is white."
    )

    def script(request: Request) -> str:
        asked = text_of(request.messages[-1])
        if "You have begun your answer" in asked:
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


def test_a_proposer_that_fails_after_its_first_chunk_is_left_out_of_the_end() -> None:
    """What it had said was read; the complete references are without it, and the answer says so."""
    broken = writer("broken", fail_after=60)
    last = writer("answer")
    _, answer = run(Mixture([[writer("p"), broken]], last, schedule=Staircase()))
    assert answer.text == long_text("answer")
    assert "broken0" not in text_of(last.requests[-1].messages[0])
    assert len(answer.degraded) == 1


def test_a_deadline_ends_the_stairs() -> None:
    """At the deadline the aggregator goes on with what is there."""
    _, answer = run(Mixture([[writer("p", words=2000)]], writer("answer"), schedule=Staircase(), deadline=10))
    assert answer.text == long_text("answer")
    assert (answer.duration or 99) < 22


def test_a_fallback_takes_over_before_the_first_word() -> None:
    """An aggregator that fails at once is replaced, and the stairs go on."""
    last = Scripted(ConnectionError("gone"), name="scripted/l", continuation="prefix")
    saved = writer("saved")
    _, answer = run(Mixture([[writer("p")]], last, fallbacks=[saved], schedule=Staircase()))
    assert answer.text == long_text("saved")
    assert (answer.time_to_first_token or 99) < 4


def test_a_staircase_nests() -> None:
    """A mixture inside a mixture runs by its own schedule; it is waited for, since it cannot go on with a text."""
    inner = Mixture([[writer("i")]], writer("inner"), schedule=Staircase(), name="inner")
    last = writer("answer")
    _, answer = run(Mixture([[Agent(inner), writer("p")]], last, schedule=Staircase()))
    assert answer.text == long_text("answer")
    assert long_text("inner") in text_of(last.requests[-1].messages[0])


def test_text_flows_through_all_layers_at_once() -> None:
    """The second layer speaks while the first still writes, and the answer while both do."""
    events, _ = run(Mixture([[writer("a")], [writer("b")]], writer("c"), schedule=Staircase()))
    said = {
        name: [event.at for event in events if isinstance(event, AgentSaid) and event.agent == name] for name in "abc"
    }
    assert said["b"][0] < said["a"][-1]
    assert said["c"][0] < said["a"][-1]
    assert len([event for event in events if isinstance(event, AgentStarted)]) == 3


@pytest.mark.parametrize(
    "how",
    [
        {"chunks": ()},
        {"chunks": (96, 32)},
        {"chunks": (32,), "writes": (8, 16)},
        {"chunks": (0,)},
        {"quorum": 0},
        {"quorum": 1.5},
    ],
)
def test_a_staircase_that_makes_no_sense_is_refused(how: dict[str, object]) -> None:
    """Figures must grow and a quorum is a share."""
    with pytest.raises(ValueError):
        Staircase(**how)  # type: ignore[arg-type]


# -- the quorum --------------------------------------------------------------------------------------------------------


def test_a_quorum_does_not_wait_for_stragglers() -> None:
    """When enough proposals are there and the grace has passed, the losers are cancelled, counted and told of."""
    slow = writer("slow", words=4000)
    last = writer("answer")
    layers = [[writer("p"), writer("q", words=220), slow]]
    events, answer = run(Mixture(layers, last, schedule=Quorum(2, grace=1.0)))
    assert answer.time_to_first_token == pytest.approx(0.5 + 219 / 20 + 1.0 + 0.5, abs=0.01)
    assert (slow.running, slow.cancelled) == (0, 1)
    dropped = [event for event in events if isinstance(event, AgentDropped)]
    assert [(event.agent, event.reason) for event in dropped] == [("slow", "2 usable proposals were there without it")]
    assert dropped[0].usage.output_tokens > 100
    assert "slow0" not in text_of(last.requests[0].messages[0])


def test_the_grace_ends_when_all_are_there() -> None:
    """Nobody waits for a grace that nobody needs."""
    _, answer = run(Mixture([[writer("p"), writer("q", words=210)]], writer("answer"), schedule=Quorum(1, grace=60)))
    assert answer.time_to_first_token == pytest.approx(0.5 + 209 / 20 + 0.5, abs=0.01)
    assert len(answer.proposals) == 2


def test_required_agents_are_waited_for() -> None:
    """A quorum is not enough without those it requires; one of them that failed is not waited for."""
    slow = writer("slow", words=400)
    _, answer = run(Mixture([[writer("p"), slow]], writer("answer"), schedule=Quorum(1, require=["slow"])))
    assert len(answer.proposals) == 2
    broken = writer("slow", fail_after=5)
    _, answer = run(Mixture([[writer("p"), broken]], writer("answer"), schedule=Quorum(1, require=["slow"])))
    assert len(answer.proposals) == 1


def test_a_quorums_deadline_takes_what_there_is() -> None:
    """With too few by then it goes on with those, or with the first that comes."""
    _, answer = run(
        Mixture([[writer("p", words=40), writer("q", words=4000)]], writer("answer"), schedule=Quorum(2, deadline=5))
    )
    assert answer.time_to_first_token == pytest.approx(5.5, abs=0.01)
    assert answer.degraded == ("q (layer 1) was dropped: the layer's 5 s deadline passed",)
    _, late = run(Mixture([[writer("p"), writer("q")]], writer("answer"), schedule=Quorum(2, deadline=1)))
    assert late.text == long_text("answer")


def test_a_call_that_does_not_begin_to_speak_is_made_again() -> None:
    """With a hedge the second call, made after so many seconds, is kept if it speaks first; the other is cancelled."""
    asked: list[float] = []

    def slow_once(request: Request) -> Scripted:
        asked.append(len(asked))
        return Scripted("spoken", first_token=30.0 if len(asked) == 1 else 0.5, tokens_per_second=20)

    model = Scripted(slow_once, name="scripted/p")
    _, answer = run(Mixture([[model, writer("q", words=20)]], writer("answer"), schedule=Quorum(2, hedge=2.0)))
    assert answer.time_to_first_token == pytest.approx(2.0 + 0.5 + 0.5, abs=0.01)
    assert answer.calls[0].text == "spoken"
    assert (model.running, model.cancelled, len(asked)) == (0, 1, 2)
    assert answer.calls[0].usage is not None
    assert answer.calls[0].usage.input_tokens == 2


def test_a_hedge_survives_the_failure_of_either_call() -> None:
    """When the first call fails the second is waited for, and only both failing is a failure."""
    calls = iter([Scripted(OSError("gone"), first_token=3.0), Scripted("spoken", first_token=2.0)])
    model = Scripted(lambda request: next(calls), name="scripted/p")
    _, answer = run(Mixture([[model]], writer("answer"), schedule=Quorum(1, hedge=2.0)))
    assert answer.calls[0].text == "spoken"
    dead = Scripted(OSError("gone"), name="scripted/d", first_token=3.0)
    _, answer = run(Mixture([[dead, writer("p")]], writer("answer"), schedule=Quorum(1, hedge=2.0)))
    assert "gone" in str(answer.calls[0].dropped)


# -- the early exit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Barrier(), Quorum(2)])
def test_when_proposals_agree_the_rest_is_left_out(schedule: Schedule) -> None:
    """Short answers that are the same but for case and punctuation are the answer; nobody behind them is asked."""
    deeper, last = writer("deeper"), writer("answer")
    first = [Scripted(text, name="scripted/p") for text in ("It is Paris.", "It is Paris", "it is paris!")]
    events, answer = run(Mixture([first[:], [deeper]], last, schedule=EarlyExit(schedule)))
    assert answer.text == "It is Paris."
    assert (deeper.requests, last.requests) == ([], [])
    assert any(isinstance(event, Noticed) and "layer 1 agree" in event.message for event in events)


def test_the_aggregator_can_be_given_the_proposal_that_all_agree_on() -> None:
    """answer="aggregate": it writes from that one alone."""
    last = writer("answer")
    first = [Scripted("It is Paris.", name="scripted/p") for _ in range(3)]
    _, answer = run(Mixture([first], last, schedule=EarlyExit(Barrier(), answer="aggregate")))
    assert answer.text == long_text("answer")
    assert text_of(last.requests[0].messages[0]).count("<response ") == 1


def test_proposals_that_differ_go_on_to_the_next_layer() -> None:
    """Different short answers, long ones that are not alike enough, and a lone proposal are no agreement."""
    short = [Scripted(text, name="scripted/p") for text in ("It is Paris.", "It is Rome.")]
    for first in (short, [writer("p"), writer("q")], [writer("p")]):
        last = writer("answer")
        run(Mixture([first], last, schedule=EarlyExit(Barrier())))
        assert len(last.requests) == 1
    alike = EarlyExit(Barrier(), threshold=0.8)
    assert alike.agree([long_text("p"), long_text("p") + " and more"])
    assert not alike.agree([long_text("p"), long_text("q")])


# -- warming -----------------------------------------------------------------------------------------------------------


def test_a_warm_barrier_sends_the_growing_prompt_ahead() -> None:
    """Each warming call's prompt is the beginning of the next and of the answer's; references are in order of arrival."""
    last = writer("answer")
    layer = [writer("slow", words=60), writer("quick", words=20), writer("middle", words=40)]
    events, answer = run(Mixture([layer], last, schedule=Barrier(warm=True)))
    prompts = [text_of(request.messages[0]) for request in last.requests]
    assert len(prompts) == 3
    assert prompts[1].startswith(prompts[0]) and prompts[2].startswith(prompts[1])
    assert [request.body.get("max_tokens") for request in last.requests] == [1, 1, None]
    assert prompts[2].index("quick0") < prompts[2].index("middle0") < prompts[2].index("slow0")
    assert answer.text == long_text("answer")
    assert len(answer.calls) == 4
    assert sum(isinstance(event, AgentStarted) and event.agent == "answer" for event in events) == 1
    assert answer.calls[-1].usage is not None
    assert answer.calls[-1].usage.input_tokens > sum(len(prompt) for prompt in prompts) / 4 - 10


def test_warming_that_fails_harms_nobody() -> None:
    """A warming call that is refused is forgotten; the answer comes as without."""

    def refuse_short(request: Request) -> str:
        if request.body.get("max_tokens") == 1:
            raise OSError("no")
        return "fine"

    last = Scripted(refuse_short, name="scripted/last")
    _, answer = run(Mixture([[writer("p", words=10), writer("q")]], last, schedule=Barrier(warm=True)))
    assert answer.text == "fine"
    assert answer.degraded == ()


@pytest.mark.parametrize("how", [{"references": "system"}, {"aggregate": "central"}])
def test_a_prompt_that_is_not_append_only_is_not_warmed(how: dict[str, str]) -> None:
    """References in the system message stand before the question: nothing could be reused."""
    last = writer("answer")
    run(Mixture([[writer("p", words=10), writer("q")]], last, schedule=Barrier(warm=True), **how))  # type: ignore[arg-type]
    assert len(last.requests) == (how.get("aggregate") != "central")


@pytest.mark.parametrize("schedule", [Barrier(), Barrier(warm=True), Quorum(1), Staircase(), EarlyExit(Staircase())])
def test_every_schedule_works_at_every_depth_and_through_failures(schedule: Schedule) -> None:
    """An answer comes from three layers with an agent that fails in each."""
    layers = [[writer(f"a{n}"), writer(f"b{n}", fail_after=0), writer(f"c{n}", words=150)] for n in range(2)]
    _, answer = run(Mixture(layers, writer("answer"), schedule=schedule))
    assert answer.text == long_text("answer")
