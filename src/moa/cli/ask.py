"""``moa ask``: one question, one answer; on a terminal as it happens, in a pipe the answer's words alone."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from moa.cli.terminal import Show, clean, live, one_line, say, screen, tell, tell_more
from moa.config.config import Config
from moa.errors import RunError
from moa.messages import Answer, Request, pieces_of
from moa.mixture.codec import as_json
from moa.mixture.events import (
    AgentEvent,
    AgentFinished,
    AgentRecalled,
    AgentSaid,
    AgentStarted,
    Event,
    Noticed,
    RunStarted,
    Selected,
)
from moa.mixture.fold import Fold
from moa.mixture.mixture import Mixture


class Opened:
    """The configuration in use, and the mixtures opened from it; notices go to whoever listens at the time."""

    def __init__(self, path: str | None) -> None:
        self.hear: Callable[[str], None] = tell
        self.config = Config(path, on_notice=lambda line: self.hear(line))

    def mixture(self, name: str | None) -> Mixture:
        """A mixture by its name; a single model as a mixture that has only an aggregator. What ``auto`` is, is told."""
        name = name or self.config.default
        if name.removeprefix("moa/") == "auto":
            choice = self.config.auto_choice()
            self.hear(f"{choice.why}" if choice.mixture == "auto" else f"auto is {choice.mixture}: {choice.why}")
        model = self.config.model(name)
        if isinstance(model, Mixture):
            return model
        return Mixture([], model, name=name, prices=self.config.prices, catalog=self.config.catalog)


@asynccontextmanager
async def opened(path: str | None) -> AsyncGenerator[Opened, None]:
    """The configuration, closed in the end."""
    here = Opened(path)
    async with here.config:
        yield here


async def ask(
    question: str,
    mixture: str | None,
    show: Show | None,
    as_lines: bool,
    config: str | None,
    explain: bool = False,
    keep: bool = False,
) -> int:
    """Answer on standard output; 0 when there is an answer, 1 when there is none.

    Args:
        explain: and say what it resembles.
        keep: and keep the run, however it ends.
    """
    async with opened(config) as here, AsyncExitStack() as kept:
        asked, request = here.mixture(mixture), Request.of(question)
        events: AsyncGenerator[Event, None] = asked.run(request, restart=as_lines or live())
        if keep:
            from moa.cli.runs import keeping

            recorded = await kept.enter_async_context(keeping(here.config, mixture or here.config.default, request))
            events = recorded(events)
        answer = await (_as_json(events) if as_lines else shown(events, show, here=here))
    if answer.error is None:
        if explain:
            _explain(answer, as_lines)
        return 0
    fail(answer.error, answer if live() and not as_lines else None)
    return 1


def _explain(answer: Answer, as_lines: bool) -> None:
    from moa.cli.explain import explain_drawn, explain_plainly, explained_json

    if as_lines:
        say(json.dumps(explained_json(answer)))
    elif live():
        explain_drawn(answer)
    else:
        explain_plainly(answer)


async def shown(
    events: AsyncGenerator[Event, None], show: Show | None, fold: Fold | None = None, *, here: Opened | None = None
) -> Answer:
    """A run, as it happens: drawn on a terminal; in a pipe the answer's words, see :func:`as_text`.

    Args:
        events: the run's. Words in a pipe cannot be taken back, so its answer must not be started anew there.
        fold: gathers the answer, for those who want it however the run ends.
        here: whose notices are shown with it.
    """
    if not live():
        return await as_text(events, show, fold)
    from moa.cli.live import View

    view = View(screen(), show, fold)
    if here is None:
        return await view.follow(events)
    here.hear = view.notice
    try:
        return await view.follow(events)
    finally:
        here.hear = tell


def fail(error: Exception, answer: Answer | None = None) -> None:
    """Say why there is no answer, a cause a line, and where what was paid for is, if it was shown."""
    if not isinstance(error, RunError):
        tell(str(error))
        return
    tell(f"no answer: {error.reason}")
    for cause in error.causes:
        tell_more(cause)
    if answer and answer.proposals:
        count = len(answer.proposals)
        tell_more(f"what was paid for ({answer.cost}) is above: {count} proposal{'s' if count != 1 else ''}")


async def _as_json(events: AsyncGenerator[Event, None]) -> Answer:
    fold = Fold()
    async with aclosing(events):
        async for event in events:
            fold.add(event)
            say(json.dumps(as_json(event)))
    return fold.answer


async def as_text(events: AsyncGenerator[Event, None], show: Show | None, fold: Fold | None = None) -> Answer:
    """The answer's words as they come, and nothing else; with ``proposals``, each under a heading before it."""
    fold = fold or Fold()
    # A terminal that cannot draw is one all the same, and must not be given anything that it would obey.
    harmless = clean if sys.stdout.isatty() else str
    writing = _Writing(harmless, headings=show is Show.PROPOSALS)
    async with aclosing(events):
        async for event in events:
            fold.add(event)
            writing.take(event, fold)
    writing.end()
    answer = fold.answer
    if answer.error is None:
        for reason in answer.degraded:
            tell(reason)
    return answer


class _Writing:
    """Writes the answer, and proposals where they are wanted, as plain text."""

    def __init__(self, harmless: Callable[[str], str], *, headings: bool) -> None:
        self._harmless, self._headings = harmless, headings
        self._names: dict[tuple[int, str], str] = {}
        self._speaker: tuple[int, str] | None = None
        self._last = ""
        self._answering = False
        self._held: list[str] = []

    def take(self, event: Event, fold: Fold) -> None:
        place = (event.layer, event.agent) if isinstance(event, AgentEvent) else None
        match event:
            case RunStarted():
                self._names = {
                    (seat.layer, seat.agent): f"{one_line(seat.agent)} ({one_line(seat.model)}), layer {seat.layer}"
                    for seat in event.seats
                }
            case AgentStarted(role="aggregator"):
                self._speaker = place
            case AgentSaid(role="aggregator"):
                self._answer(event.delta.text)
            case Selected():
                for piece in pieces_of(event.text):
                    self._answer(piece)
            case AgentFinished() | AgentRecalled() if (
                self._headings and place != self._speaker and place in self._names
            ):
                answer = fold.answer
                text = next(
                    call.text for call in (*answer.calls, *answer.recalled) if (call.layer, call.agent) == place
                )
                proposal = f"## {self._names[place]}\n\n{self._harmless(text).strip()}\n"
                # Once the answer flows, nothing may come between its words.
                self._held.append(proposal) if self._answering else say(proposal)
            case Noticed(degrades=False):
                tell(event.message)

    def _answer(self, piece: str) -> None:
        if not piece:
            return
        if not self._answering and self._headings:
            say("## answer\n")
        self._answering = True
        piece = self._harmless(piece)
        say(piece, end="")
        self._last = piece[-1:] or self._last

    def end(self) -> None:
        if self._answering and self._last != "\n":
            say()
        for proposal in self._held:
            say(f"\n{proposal}", end="")


def run(work: Callable[[], Awaitable[int]]) -> int:
    """Run a command's coroutine. An interruption cancels it, which closes every call it has open, before this returns."""

    async def main() -> int:
        return await work()

    return asyncio.run(main())
