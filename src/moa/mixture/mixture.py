"""The mixture: layers of agents and an aggregator, answering as one model (arXiv 2406.04692, section 2.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self, get_args

from moa.errors import ConfigError
from moa.messages import Answer, Delta, Message, Reference, Request, pieces_of
from moa.mixture.agent import Agent
from moa.mixture.events import AgentSaid, AgentStarted, Event, Fold, RunFailed, Seat, Selected
from moa.mixture.memory import Memory, Recent
from moa.mixture.prompts import SYNTHESIZE, Place
from moa.mixture.run import Run
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.checked import CheckedSchedule
from moa.mixture.schedules.protocol import Schedule
from moa.models import Model, Traits, traits_of
from moa.models.catalog import Catalog
from moa.prices import Prices

Aggregation = Literal["synthesize", "select", "central"]
Fanout = Literal["turn", "every"]
Member = str | Model | Agent | Mapping[str, Any]
Question = str | Sequence[Message] | Mapping[str, Any] | Request


class Mixture:
    """Several models that answer as one, and are one: a :class:`~moa.models.Model` like any other.

    ::

        mixture = Mixture(layers=[["groq/llama-3.3-70b-versatile", "mistral/mistral-large-latest"]],
                          aggregator="openrouter/qwen/qwen3-max")
        answer = await mixture.answer("Why is the sky blue?")

    Args:
        layers: the proposers, layer by layer. A member is ``provider/name``, a :class:`Model` (another mixture, too), an
            :class:`Agent`, or a mapping with ``model`` and optionally ``name``, ``persona`` and sampling fields. The same
            model may stand several times in a layer; each then gets a seed of its own. No layers: the aggregator alone.
        aggregator: who writes the answer, or picks it. Not needed for ``aggregate="central"``.
        fallbacks: who answers when the aggregator fails, in this order.
        name: how it is called, without ``moa/``.
        aggregate: ``synthesize`` (the paper's): the aggregator writes; ``select``: it picks one proposal (the paper's
            ranker); ``central``: the proposal most like the others, without a call.
        schedule: when the next layer may start, and on what.
        references: ``user``: after the last user message; ``system``: in the system message, as the paper does.
        anonymous: references carry no names.
        prompt: the instruction before the references, in place of our own aggregate-and-synthesize.
        min_proposals: how many usable proposals a layer needs.
        deadline: seconds after which the aggregator starts with what is there. None: no limit.
        max_cost: US dollars that a run may cost. None: no limit.
        fanout: ``turn``: proposers answer each user's message once, and while its tool calls go on their proposals are put
            back; ``every``: they are asked at every step.
        exact: wait for the complete proposals whatever the schedule, because what comes late decides what is said first.
        progress: whether servers show the proposals, as thinking, while they are written.
        memory: who remembers a turn's proposals; with none given, the last thousand turns, in this process.
        prices: what tokens cost.
        catalog: who resolves ``provider/name``; with none given, one of its own, closed with the mixture.

    Raises:
        ConfigError: a value is out of range or a member is malformed.
        UnknownName, KeyMissing: a member names a provider that is not known, or whose key is not set.
    """

    def __init__(
        self,
        layers: Sequence[Sequence[Member]],
        aggregator: Member | None = None,
        *,
        fallbacks: Sequence[Member] = (),
        name: str = "mixture",
        aggregate: Aggregation = "synthesize",
        schedule: Schedule | None = None,
        references: Place = "user",
        anonymous: bool = True,
        prompt: str = SYNTHESIZE,
        min_proposals: int = 1,
        deadline: float | None = None,
        max_cost: float | None = None,
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
        self.name = f"moa/{name}"
        _check(
            self.name,
            "aggregate",
            aggregate,
            aggregate in get_args(Aggregation),
            f"one of {', '.join(get_args(Aggregation))}",
        )
        _check(
            self.name, "references", references, references in get_args(Place), f"one of {', '.join(get_args(Place))}"
        )
        _check(self.name, "fanout", fanout, fanout in get_args(Fanout), f"one of {', '.join(get_args(Fanout))}")
        _check(self.name, "deadline", deadline, deadline is None or deadline > 0, "seconds above 0")
        _check(self.name, "max_cost", max_cost, max_cost is None or max_cost > 0, "US dollars above 0")
        if isinstance(layers, str) or any(isinstance(layer, str) for layer in layers):
            raise ConfigError(f"{self.name}: layers must be a list of lists, one list for each layer of proposers")
        for number, layer in enumerate(layers, 1):
            _check(self.name, f"layer {number}", list(layer), bool(layer), "at least one proposer")
        smallest = min((len(layer) for layer in layers), default=min_proposals)
        _check(
            self.name,
            "min_proposals",
            min_proposals,
            1 <= min_proposals <= smallest,
            f"1 to {smallest}, its smallest layer",
        )
        if aggregator is None and (aggregate != "central" or not layers):
            raise ConfigError(f"{self.name} needs an aggregator")
        self.layers = [_seated([_agent(member, catalog, self.name) for member in layer]) for layer in layers]
        answering = [
            _agent(member, catalog, self.name) for member in ([] if aggregator is None else [aggregator, *fallbacks])
        ]
        # A central selection has no aggregator of its own; where a request needs one (tools), the first proposer acts.
        self.aggregators = _seated(answering or [next(iter(self.layers[0].values()))])
        self.aggregate: Aggregation = aggregate
        self.schedule = schedule or Barrier()
        CheckedSchedule(self.schedule)  # raises ConfigError if it is no schedule
        self.references, self.anonymous, self.prompt = references, anonymous, prompt
        self.min_proposals, self.deadline, self.max_cost = min_proposals, deadline, max_cost
        self.fanout: Fanout = fanout
        self.exact, self.progress = exact, progress
        self.memory = memory or Recent()
        self.prices = prices or Prices()

    @property
    def aggregator(self) -> Agent:
        return next(iter(self.aggregators.values()))

    @property
    def depth(self) -> int:
        """How many layers, as the paper counts them: the aggregator is the last."""
        return len(self.layers) + 1

    @property
    def agents(self) -> list[Agent]:
        """All agents, layer by layer, then the aggregator and its fallbacks."""
        return [agent for layer in [*self.layers, self.aggregators] for agent in layer.values()]

    @property
    def traits(self) -> Traits:
        """Its identity is everything that its answers depend on; no mixture continues a text that it has begun."""
        rest = (_identities(self.aggregators), self.aggregate, self.schedule, self.exact, self.min_proposals)
        limits = (self.deadline, self.max_cost, self.fanout, self.progress)
        return Traits(identity=repr((self.proposal_identity, rest, limits)))

    @property
    def proposal_identity(self) -> str:
        """Everything that its proposals depend on, apart from the conversation: its proposers and how they are called."""
        layers = [_identities(layer) for layer in self.layers]
        return repr((self.name, layers, self.references, self.anonymous, self.prompt))

    @property
    def seats(self) -> tuple[Seat, ...]:
        """All agents' places, in the same order."""
        roles = ["proposer"] * len(self.layers) + ["ranker" if self.aggregate == "select" else "aggregator"]
        layers = [*self.layers, {} if self.aggregate == "central" else self.aggregators]
        return tuple(
            Seat(agent=name, layer=number, model=agent.model.name, role=role)
            for number, (role, layer) in enumerate(zip(roles, layers, strict=True), 1)
            for name, agent in layer.items()
        )

    async def answer(self, question: Question) -> Answer:
        """Ask, and wait for the whole answer with its usage, cost and every proposal.

        Raises:
            RunError: there is no answer; ``error.answer`` holds the proposals that there are.
            RequestRejected: the question is malformed.
        """
        folding = Fold()
        async with aclosing(self.run(question)) as events:
            async for event in events:
                folding.add(event)
        answer = folding.answer
        if answer.error:
            raise answer.error
        return answer

    def run(
        self,
        question: Question,
        *,
        restart: bool = True,
        proposals: Sequence[Reference] | None = None,
        kept: Sequence[Reference] = (),
    ) -> AsyncGenerator[Event, None]:
        """Ask, and hear everything as it happens; :func:`~moa.mixture.events.fold` makes an answer of it.

        A run without an answer ends with ``RunFailed`` and does not raise. Closing the generator cancels every call.

        Raises:
            ScheduleError: a mistake in a schedule of one's own.

        Args:
            question: a question, a list of messages, or a Chat Completions body.
            restart: whether a fallback may start the answer anew after an aggregator broke off in the middle of it.
            proposals: what the aggregator is to read, where it is there already; no proposer is asked.
            kept: proposals of an earlier run. The agents that wrote them, found by layer and name, are not asked again, and
                all others are asked as ever; what fits no agent is left out.
        """
        request = Request.of(question)
        return self._events(request, restart=restart, proposals=proposals, kept=kept)

    async def _events(
        self,
        request: Request,
        *,
        restart: bool,
        proposals: Sequence[Reference] | None,
        kept: Sequence[Reference],
    ) -> AsyncGenerator[Event, None]:
        run = Run(self, request, restart=restart, proposals=proposals, kept=kept)
        async with aclosing(run.events()) as events:
            async for event in events:
                yield event

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say the answer piece by piece: the run's events with only the last agent's words kept.

        The last delta carries the usage and cost of all calls, and the calls themselves.
        """
        folding = Fold()
        speaker: tuple[int, str] | None = None
        async with aclosing(self.run(request, restart=False)) as events:
            async for event in events:
                folding.add(event)
                match event:
                    case AgentStarted(role="aggregator"):
                        speaker = (event.layer, event.agent)
                    case AgentSaid() if (event.layer, event.agent) == speaker:
                        yield event.delta
                    case Selected():
                        for piece in pieces_of(event.text):
                            yield Delta(text=piece)
                    case RunFailed():
                        raise event.error
        answer = folding.answer
        yield Delta(finish_reason=answer.finish_reason, usage=answer.usage, cost=answer.cost, calls=answer.calls)

    async def aclose(self) -> None:
        """Close the connections and embedded models that this mixture opened for itself."""
        await self._open.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        layers = [[*layer] for layer in self.layers]
        return f"<Mixture {self.name}: {layers} -> {', '.join(self.aggregators)}>"


def _check(where: str, field: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{where}: {field} is {value!r}; expected {expected}")


def _agent(member: Member, catalog: Catalog, where: str) -> Agent:
    if isinstance(member, Agent):
        return member
    if isinstance(member, str):
        return Agent(catalog.model(member))
    if isinstance(member, Mapping):
        fields = dict(member)
        if "model" not in fields:
            raise ConfigError(f"{where}: a member needs a model: {dict(member)!r}")
        model = fields.pop("model")
        return Agent(
            catalog.model(model) if isinstance(model, str) else model,
            fields.pop("name", ""),
            fields.pop("persona", None),
            fields,
        )
    if isinstance(member, Model):
        return Agent(member)
    raise ConfigError(f"{where}: {member!r} is no model, agent or name of one")


def _identities(layer: Mapping[str, Agent]) -> list[tuple[object, ...]]:
    """Everything that the answers of these agents depend on."""
    return [
        (name, traits_of(agent.model).identity, agent.persona, [*agent.sampling.items()])
        for name, agent in layer.items()
    ]


def _seated(agents: Sequence[Agent]) -> dict[str, Agent]:
    """Agents by name; names used twice get a number, and so do samples of the same model."""
    seats: dict[str, Agent] = {}
    uses = Counter(agent.model.name for agent in agents)
    samples: Counter[str] = Counter()
    for agent in agents:
        name, number = agent.label, 2
        while name in seats:
            name, number = f"{agent.label}-{number}", number + 1
        if uses[agent.model.name] > 1:
            samples[agent.model.name] += 1
            agent = replace(agent, sample=samples[agent.model.name])
        seats[name] = agent
    return seats
