"""The mixture: layers of agents and an aggregator that answer as one model (arXiv 2406.04692, section 2.2)."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from moa.closing import AsyncClosing
from moa.messages import Answer, Delta, Reference, pieces_of
from moa.mixture.agent import Agent, Member
from moa.mixture.aggregation import Aggregate, RankerFunction
from moa.mixture.background import EventHandler, run_in_background
from moa.mixture.events import (
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentSaid,
    AgentSpent,
    AgentStarted,
    RunFailed,
    Seat,
    Selected,
)
from moa.mixture.memory import Memory, Recent
from moa.mixture.plan import Fanout, Plan
from moa.mixture.prompts import SYNTHESIZE, Place
from moa.mixture.question import Question, request_of
from moa.mixture.run import Run
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.protocol import Schedule
from moa.mixture.silence import PATIENCE
from moa.mixture.subsets import Reads
from moa.models import Traits
from moa.models.catalog import Catalog
from moa.prices import Prices


class Mixture(AsyncClosing):
    """Several models that answer as one, and are one: a :class:`~moa.models.Model` like any other.

    ::

        mixture = Mixture(layers=[["groq/qwen/qwen3.8-27b", "mistral/mistral-large-latest"]],
                          aggregator="openrouter/qwen/qwen3-max")
        answer = await mixture.answer("Why is the sky blue?")

    Args:
        layers: the proposers, layer by layer. A member is ``provider/name``, a :class:`~moa.models.Model` (another mixture,
            too), an :class:`Agent`, or a mapping with ``model`` and optionally ``name``, ``persona`` and sampling fields. A
            layer may hold a model several times; each then gets a seed of its own. No layers: the aggregator alone.
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
        fanout: ``turn``: proposers answer each user message once, and requests with its tool results reuse their proposals;
            ``every``: they are called at every step.
        exact: always wait for complete proposals, whatever the schedule: for tasks where late content changes the beginning
            of the answer.
        progress: whether servers stream proposals, as reasoning, while they are written.
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
        fanout: Fanout = "turn",
        exact: bool = False,
        progress: bool = False,
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
            fanout=fanout,
            exact=exact,
            progress=progress,
            memory=memory or Recent(),
            prices=prices,
        )

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
        return Run(self.plan, request_of(question, sampling), restart=restart, proposals=proposals, kept=kept)

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
        async with self.run(request, restart=False, **sampling) as run:
            async for event in run:
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

    async def aclose(self) -> None:
        """Close the connections and embedded models that this mixture opened for itself."""
        await self._open.aclose()

    def __repr__(self) -> str:
        layers = [[*layer] for layer in self.layers]
        return f"<Mixture {self.name}: {layers} -> {', '.join(self.aggregators)}>"

    # -- its settings ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """``moa/`` and the mixture's name."""
        return self.plan.name

    @property
    def layers(self) -> tuple[Mapping[str, Agent], ...]:
        """The proposers by name, layer by layer."""
        return self.plan.layers

    @property
    def aggregators(self) -> Mapping[str, Agent]:
        """The aggregator by name, then its fallbacks in order."""
        return self.plan.aggregators

    @property
    def aggregator(self) -> Agent:
        """The agent that answers unless it fails. For the mixture above, ``mixture.aggregator.label`` is ``qwen3-max``."""
        return self.plan.aggregator

    @property
    def agents(self) -> list[Agent]:
        """All agents, layer by layer, then the aggregator and its fallbacks."""
        return self.plan.agents

    @property
    def depth(self) -> int:
        """The number of layers as the paper counts them: the aggregator is the last."""
        return self.plan.depth

    @property
    def seats(self) -> tuple[Seat, ...]:
        """The places of all agents, in the order of :attr:`agents`."""
        return self.plan.seats

    @property
    def traits(self) -> Traits:
        """The identity is everything that the mixture's answers depend on; no mixture continues a text that it has begun."""
        return Traits(identity=self.plan.identity, may_be_silent=True, composite=True)

    @property
    def proposal_identity(self) -> str:
        """Everything but the conversation that proposals depend on; see :attr:`Plan.proposal_identity`."""
        return self.plan.proposal_identity

    @property
    def aggregate(self) -> Aggregate:
        return self.plan.aggregate

    @property
    def schedule(self) -> Schedule:
        return self.plan.schedule

    @property
    def references(self) -> Place:
        return self.plan.references

    @property
    def anonymous(self) -> bool:
        return self.plan.anonymous

    @property
    def prompt(self) -> str:
        return self.plan.prompt

    @property
    def min_proposals(self) -> int:
        return self.plan.min_proposals

    @property
    def deadline(self) -> float | None:
        return self.plan.deadline

    @property
    def patience(self) -> float | None:
        return self.plan.patience

    @property
    def max_cost(self) -> float | None:
        return self.plan.max_cost

    @property
    def reads(self) -> Reads | None:
        return self.plan.reads

    @property
    def fanout(self) -> Fanout:
        return self.plan.fanout

    @property
    def exact(self) -> bool:
        return self.plan.exact

    @property
    def progress(self) -> bool:
        return self.plan.progress

    @property
    def memory(self) -> Memory:
        return self.plan.memory

    @property
    def prices(self) -> Prices:
        return self.plan.prices
