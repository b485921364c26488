"""The mixture: layers of agents and an aggregator that answer as one model (arXiv 2406.04692, section 2.2)."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from copy import copy
from typing import Any

from moa.closing import AsyncClosing
from moa.messages import Answer, Delta, Reference, Request, pieces_of
from moa.mixture.agent import Member
from moa.mixture.aggregation import Aggregate, RankerFunction
from moa.mixture.background import EventHandler, run_in_background
from moa.mixture.effort import level_for
from moa.mixture.events import (
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentSaid,
    AgentSpent,
    AgentStarted,
    RunFailed,
    Selected,
)
from moa.mixture.memory import Memory, Recent
from moa.mixture.narrowing import check_effort, part_of
from moa.mixture.panel import Panel
from moa.mixture.plan import Fanout, Plan
from moa.mixture.prompts import SYNTHESIZE, Place
from moa.mixture.question import Question, request_of
from moa.mixture.run import Run
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.protocol import Schedule
from moa.mixture.settings import Settings
from moa.mixture.silence import PATIENCE
from moa.mixture.subsets import Reads
from moa.mixture.thoughts import Thoughts
from moa.mixture.when import When
from moa.models.catalog import Catalog
from moa.prices import Prices

MOST_PARTS = 64
"""Parts of a mixture that it keeps."""


class Mixture(Settings, AsyncClosing):
    """Several models that answer as one, and are one: a :class:`~moa.models.Model` like any other.

    ::

        mixture = Mixture(layers=[["groq/qwen/qwen3.8-27b", "mistral/mistral-large-latest"]],
                          aggregator="openrouter/qwen/qwen3-max")
        answer = await mixture.answer("Why is the sky blue?")

    Args:
        layers: the proposers, layer by layer. A member is ``provider/name``, a :class:`~moa.models.Model` (another mixture,
            too), an :class:`~moa.mixture.agent.Agent`, or a mapping with ``model`` and optionally ``name``, ``persona`` and
            sampling fields. A layer may hold a model several times; each then gets a seed of its own. No layers: the
            aggregator alone.
        aggregator: writes the answer, or picks it. Optional with ``aggregate="central"``, a function or a ``ranker``.
        fallbacks: answer when the aggregator fails, in this order.
        name: the mixture's name, without ``moa/``.
        aggregate: ``synthesize`` (the paper's): the aggregator writes; ``select``: it picks one proposal (the paper's
            ranker); ``central``: the proposal most like the others, without a call. Or a function, sync or async, of the
            :class:`~moa.messages.Request` and the proposals (:class:`~moa.messages.Reference`) that returns the answer's
            text or the index of the proposal that is the answer.
        ranker: with ``aggregate="select"``: picks the proposal in place of the aggregator; a function as above that returns
            an index.
        schedule: decides when the next layer may start, and on what.
        references: ``user``: after the last user message; ``system``: in the system message, as the paper does.
        anonymous: references carry no names.
        prompt: the instruction before the references; replaces the default aggregate-and-synthesize prompt.
        min_proposals: the number of usable proposals that each layer needs.
        deadline: seconds after which the aggregator starts with the proposals so far. None: no limit.
        patience: seconds that a proposer may stay silent after all others of its layer have ended. Then it is dropped,
            unless too few proposals are left. Also the seconds of the aggregator's silence before a notice. None: no limit.
        max_cost: US dollars that a run may cost. None: no limit.
        reads: how many answers of the layer before each agent after the first layer reads, drawn by the run's seed and for
            each agent differently (recursive self-aggregation); ``all-layers``: all, and those of earlier layers, too. The
            aggregator reads the whole last layer. None: the layer before, whole.
        rounds: how often the last layer stands in the mixture.
        keep: how many proposals of each layer go on; the aggregator chooses them, and may end the run early. None: all.
        fanout: ``turn``: proposers answer each user message once, and requests with its tool results reuse their proposals;
            ``every``: they are called at every step.
        exact: always wait for complete proposals, whatever the schedule: for tasks where late content changes the beginning
            of the answer.
        progress: whether servers stream proposals, as reasoning, while they are written.
        when: ``always``: the proposers are called for every request; ``disagree``: the first of the first layer are, and the
            others only where those differ; ``tool``: the aggregator is called at once, and may call the proposers as a tool.
        first: with ``when="disagree"``, how many proposers are called first; 2 by default.
        effort: for values of ``reasoning_effort``, the part of the mixture that answers: ``{"low": {"model": "groq/x"},
            "medium": {"only": ["a", "b"]}, "high": {"samples": 2}}``. See :mod:`moa.mixture.effort`.
        memory: keeps each turn's proposals; by default the last thousand turns, in this process.
        prices: what tokens cost; by default the price list, where servers on the user's own network are free.
        catalog: resolves ``provider/name``; by default the mixture's own, which closes with it.

    A request with tools or a ``response_format`` is always answered by the aggregator, since no proposal can call a tool; a
    mixture without one uses its first proposer.

    Raises:
        ConfigError: a value is out of range, or a member is malformed.
        UnknownName, KeyMissing: a member names an unknown provider, or the provider's API key is not set.
    """

    def __init__(
        self,
        layers: Sequence[Sequence[Member]],
        aggregator: Member | None = None,
        *,
        fallbacks: Sequence[Member] = (),
        name: str = "mixture",
        aggregate: Aggregate = "synthesize",
        ranker: RankerFunction | None = None,
        schedule: Schedule | None = None,
        references: Place = "user",
        anonymous: bool = True,
        prompt: str = SYNTHESIZE,
        min_proposals: int = 1,
        deadline: float | None = None,
        patience: float | None = PATIENCE,
        max_cost: float | None = None,
        reads: Reads | None = None,
        rounds: int = 1,
        keep: int | None = None,
        fanout: Fanout = "turn",
        exact: bool = False,
        progress: bool = False,
        when: When = "always",
        first: int | None = None,
        effort: Mapping[str, Mapping[str, Any]] | None = None,
        memory: Memory | None = None,
        prices: Prices | None = None,
        catalog: Catalog | None = None,
    ) -> None:
        self._open = AsyncExitStack()
        if catalog is None:
            catalog = Catalog()
            self._open.push_async_callback(catalog.aclose)
        self.plan = Plan.of(
            layers,
            aggregator,
            fallbacks,
            catalog,
            name=f"moa/{name}",
            aggregate=aggregate,
            ranker=ranker,
            schedule=schedule or Barrier(),
            references=references,
            anonymous=anonymous,
            prompt=prompt,
            min_proposals=min_proposals,
            deadline=deadline,
            patience=patience,
            max_cost=max_cost,
            reads=reads,
            rounds=rounds,
            keep=keep,
            fanout=fanout,
            exact=exact,
            progress=progress,
            when=when,
            first=first,
            effort=effort,
            memory=memory or Recent(),
            prices=prices,
        )
        check_effort(self.plan)
        self._parts: OrderedDict[tuple[Panel, str | None], Mixture] = OrderedDict()

    async def answer(self, question: Question, *, on_event: EventHandler | None = None, **sampling: Any) -> Answer:
        """Ask, and wait for the whole answer with its usage, cost and every proposal.

        ::

            answer = await mixture.answer("Why is the sky blue?", temperature=0.2, on_event=print)

        Args:
            question: a question, a list of messages, or a Chat Completions body.
            on_event: called with every event as it happens, sync or async. It must not block; an error in it cancels the run
                and is raised here.
            sampling: fields of the request (``temperature``, ``max_tokens``, a vendor's own, …). They override those of a
                body; None removes one. An agent's own sampling may override them, as it does those of a body. Also the
                arguments of :meth:`run`: ``restart``, ``proposals``, ``kept``.

        Raises:
            RunError: there is no answer; ``error.answer`` holds the proposals so far.
            RequestRejected: the question is malformed.
            TypeError: a keyword is misspelt, or is a setting of the mixture.
            ScheduleError: a bug in a custom schedule.
        """
        async with self.run(question, **sampling) as run:
            async for event in run:
                if on_event is not None:
                    returned = on_event(event)
                    if inspect.isawaitable(returned):
                        await returned
                if isinstance(event, RunFailed):
                    raise event.error.with_answer(run.answer) from event.error.__cause__
        return run.answer

    def ask(self, question: Question, *, on_event: EventHandler | None = None, **sampling: Any) -> Answer:
        """Like :meth:`answer`, for code without ``await``: scripts, threads, and notebooks, whose event loop already runs.

        ::

            print(mixture.ask("Why is the sky blue?"))

        The calls run in an event loop of their own, in a thread that all mixtures of the process share. Its connections stay
        open for the next question, and close when the process ends. Ctrl-C cancels every call. A function as ``on_event`` is
        called in the caller's thread and may block; an async one runs in the loop.

        Raises:
            RuntimeError: a coroutine that ``ask`` itself runs (of a model, say) calls it; await :meth:`answer` there.
            RunError, RequestRejected, TypeError, ScheduleError: as in :meth:`answer`.
        """
        return run_in_background(lambda handler: self.answer(question, on_event=handler, **sampling), on_event)

    def run(
        self,
        question: Question,
        *,
        restart: bool = True,
        proposals: Sequence[Reference] | None = None,
        kept: Sequence[Reference] = (),
        **sampling: Any,
    ) -> Run:
        """Ask, and get every event as it happens.

        The :class:`~moa.mixture.run.Run` is an async iterator and an async context manager. A run without
        an answer ends with ``RunFailed`` and does not raise. Closing the run cancels every call.

        Args:
            question: a question, a list of messages, or a Chat Completions body.
            restart: whether a fallback may start the answer again after an aggregator broke off in the middle of it.
            proposals: proposals for the aggregator; with them no proposer is called.
            kept: proposals of an earlier run. The agents that wrote them, found by layer and name, are not called again, and
                all others are. A proposal that fits no agent is ignored.
            sampling: fields of the request, as in :meth:`answer`.

        Raises:
            RequestRejected: the question is malformed.
            TypeError: a keyword is misspelt, or is a setting of the mixture.
            ScheduleError: raised by the run for a bug in a custom schedule.
        """
        for name, given in (("proposals", proposals or ()), ("kept", kept)):
            if not all(isinstance(reference, Reference) for reference in given):
                raise TypeError(f"{name!r} must be a list of moa.Reference(agent, text)")
        request = request_of(question, sampling)
        plan = self.suited(request).plan
        if plan.member_effort:
            request = request.replaced(reasoning_effort=plan.member_effort)
        return Run(plan, request, restart=restart, proposals=proposals, kept=kept)

    async def stream(self, request: Question, **sampling: Any) -> AsyncGenerator[Delta, None]:
        """Yield the answer piece by piece: of all agents, only the text of the last one.

        The last delta carries the usage and cost of all calls, and the calls themselves; so does a delta at the start and at
        the end of each call, for a caller that reads no further. Arguments as in :meth:`answer`.

        Raises:
            RunError: there is no answer, or it broke off.
            RequestRejected: the question is malformed.
            TypeError: a keyword is misspelt, or is a setting of the mixture.
            ScheduleError: a bug in a custom schedule.
        """
        thoughts = Thoughts()
        async with self.run(request, restart=False, **sampling) as run:
            async for event in run:
                for delta in thoughts.add(event):
                    yield delta
                match event:
                    case AgentSaid(role="aggregator"):
                        yield event.delta
                    case AgentStarted() | AgentSpent() | AgentFinished() | AgentFailed() | AgentDropped():
                        answer = run.estimated_answer
                        yield Delta(usage=answer.usage, cost=answer.cost, calls=answer.calls)
                    case Selected():
                        for piece in pieces_of(event.text):
                            yield Delta(text=piece)
                    case RunFailed():
                        raise event.error.with_answer(run.answer)
        answer = run.answer
        yield Delta(finish_reason=answer.finish_reason, usage=answer.usage, cost=answer.cost, calls=answer.calls)

    def with_panel(
        self,
        *,
        only: Sequence[str] = (),
        without: Sequence[str] = (),
        aggregator: str | None = None,
        layers: int | None = None,
        when: When | None = None,
    ) -> Mixture:
        """The part of this mixture with these of its members. It shares their models, prices and memory with this mixture.

        ::

            answer = await mixture.with_panel(without=["gpt-oss-20b"], layers=1).answer("Why is the sky blue?")

        Args:
            only: the proposers to call, by name or by model. Empty: all.
            without: the proposers not to call.
            aggregator: the agent of this mixture that answers; None: its own.
            layers: so many layers of proposers; 0: the aggregator alone; None: all.
            when: as in the mixture's own settings; None: as there.

        Raises:
            ConfigError: a name is no member's, nothing is left, or ``when`` does not fit.
        """
        panel = Panel(only=tuple(only), without=tuple(without), aggregator=aggregator, layers=layers, when=when)
        return self._part(panel, None)

    def suited(self, request: Request, panel: Panel | None = None) -> Mixture:
        """The part of this mixture that answers a request: its panel, or what its effort chooses; else the mixture itself.

        Raises:
            ConfigError: as :meth:`with_panel`.
        """
        chosen = panel or Panel()
        level = None if chosen.selects else level_for(self.plan.effort, request.body.get("reasoning_effort"))
        return self._part(chosen, level)

    def _part(self, panel: Panel, level: str | None) -> Mixture:
        """A part, made once for the latest of them: what is learned of its costs belongs to it."""
        if level is None and panel == Panel():
            return self
        part = self._parts.pop((panel, level), None)
        if part is None:
            part = copy(self)
            part.plan = part_of(self.plan, panel, self.plan.effort[level] if level else None)
            part._open, part._parts = AsyncExitStack(), OrderedDict()
        self._parts[panel, level] = part
        if len(self._parts) > MOST_PARTS:
            self._parts.popitem(last=False)
        return part

    async def aclose(self) -> None:
        """Close the connections and embedded models that this mixture opened for itself."""
        await self._open.aclose()

    def __repr__(self) -> str:
        layers = [[*layer] for layer in self.layers]
        return f"<Mixture {self.name}: {layers} -> {', '.join(self.aggregators)}>"
