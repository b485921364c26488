"""The interface of aggregations, and the part of a run that they can use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from moa.analysis import Analysis
from moa.messages import Reference, Request
from moa.mixture.agent import Agent
from moa.mixture.asides import Asides
from moa.mixture.continuation import MakeRequest
from moa.mixture.draft import Draft
from moa.mixture.events import Event, Seat
from moa.mixture.prompts import Layout
from moa.mixture.votes import Votes


class Running(Protocol):
    """A run in progress, as an aggregation sees it."""

    @property
    def request(self) -> Request:
        """The caller's request."""
        ...

    @property
    def continues(self) -> bool:
        """Whether messages follow the user's last one, such as the results of tool calls."""
        ...

    @property
    def asides(self) -> Asides:
        """Makes calls that the answer can do without."""
        ...

    @property
    def layout(self) -> Layout:
        """How references go into a request."""
        ...

    @property
    def aggregators(self) -> Mapping[str, Agent]:
        """The aggregator by name, then its fallbacks in order."""
        ...

    @property
    def layers(self) -> Sequence[Mapping[str, Agent]]:
        """The proposers by name, layer by layer."""
        ...

    @property
    def votes(self) -> Votes:
        """Reads the answers of proposals."""
        ...

    @property
    def depth(self) -> int:
        """The number of the last layer, the aggregator's."""
        ...

    async def write(self, proposals: Sequence[Reference], analysis: Analysis | None = None) -> None:
        """Let the aggregator write the answer from these proposals, or the first fallback that succeeds.

        It reads the analysis behind them.

        Raises:
            AggregatorFailed: all of them failed.
        """
        ...

    def may_write(self, proposals: Sequence[Reference]) -> bool:
        """Whether the mixture has an aggregator, and money to let it write an answer from these proposals."""
        ...

    async def call(
        self, agent: Agent, name: str, role: str, make_request: MakeRequest, proposals: Sequence[Reference]
    ) -> Draft:
        """Make one call in the last layer. A failed call raises nothing: its draft is not ``usable``."""
        ...

    def select(self, proposal: Reference, reason: str) -> None:
        """Make this proposal the answer, word for word."""
        ...

    def notice(self, message: str, *, degrades: bool = False) -> None:
        """Emit a notice; ``degrades`` when the answer is less than the mixture promises."""
        ...

    def emit(self, event: Event) -> None:
        """Emit an event."""
        ...

    def now(self) -> float:
        """The time that events carry, in seconds."""
        ...


class Aggregation(ABC):
    """How proposals become the answer. A kind defines ``name`` and :meth:`answer`.

    Attributes:
        name: as notices and error messages show it.
        role: the role of the agents in the last layer; see :class:`~moa.messages.Call`.
        needs_aggregator: it calls the aggregator, so the mixture must have one, and ``max_cost`` must leave money for it.
        writes: the aggregator writes the answer. A kind that selects cannot.
        whole: it needs complete proposals. One that only writes can start from unfinished ones.
        ends_early: :meth:`settled` may find that the proposals which are still written cannot change the answer.
    """

    name: str
    role: str = "aggregator"
    needs_aggregator: bool = True
    writes: bool = False
    ends_early: bool = False

    @property
    def whole(self) -> bool:
        return not self.writes

    @abstractmethod
    async def answer(self, run: Running, proposals: Sequence[Reference]) -> None:
        """Give the answer, by :meth:`Running.write`, :meth:`Running.select` or events of an aggregator's call.

        ``proposals`` holds at least one, unless the kind ``writes``.

        Raises:
            RunError: there is no answer.
        """

    async def settled(self, run: Running, proposals: Sequence[Reference], outstanding: Collection[str]) -> bool:
        """Whether no outstanding proposal can change the answer.

        Args:
            proposals: those of the last layer that have ended.
            outstanding: the agents of that layer that still write.
        """
        return False

    def check(self, layers: Sequence[Mapping[str, Agent]], where: str) -> None:
        """Check that the kind fits a mixture's proposers; ``where`` opens the error message.

        Raises:
            ConfigError: it does not.
        """
        return

    @property
    def identity(self) -> str:
        """Everything in the aggregation that answers depend on, for caches of whole mixtures."""
        return self.name

    def seats(self, aggregators: Mapping[str, Agent], layer: int) -> tuple[Seat, ...]:
        """The agents of the last layer, fallbacks included; none where the kind calls nothing."""
        if not self.needs_aggregator:
            return ()
        return tuple(
            Seat(agent=name, layer=layer, model=agent.model.name, role=self.role) for name, agent in aggregators.items()
        )
