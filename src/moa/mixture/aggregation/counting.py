"""Counting: what ``vote`` and ``mux`` share. They read the answer of each proposal, count, and select a proposal."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from moa.errors import ConfigError
from moa.messages import Reference
from moa.mixture.agent import Agent
from moa.mixture.aggregation.central import Central
from moa.mixture.aggregation.protocol import Aggregation, Running
from moa.mixture.aggregation.synthesize import Synthesize
from moa.mixture.canonical import Form, keys, strict_keys
from moa.mixture.events import Cluster, Seat, VotesCounted
from moa.mixture.tally import Tally, checked_accuracy


class Ballot(NamedTuple):
    """A member and its proposal; None while it has none.

    ``sampled`` is equal for members that are samples of one model: the same model with the same persona. ``vote`` is what
    its vote counts where the aggregation has a calibration.
    """

    agent: str
    sampled: str
    weight: float | None
    proposal: Reference | None
    vote: float = 0.0

    @property
    def model(self) -> str:
        """The name of the member's model."""
        return self.sampled.partition("\n")[0]


class Counting(Aggregation):
    """An aggregation that counts answers.

    Where fewer than half of the proposals give an answer that can be compared, the aggregator writes the answer, and without
    an aggregator the most central proposal is the answer.

    Args:
        weights: accuracies strictly between 0 and 1, by an agent's name or its model's.

    Raises:
        ConfigError: a weight is none.
    """

    needs_aggregator = False
    ends_early = True

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        if not isinstance(weights or {}, Mapping):
            raise ConfigError(f"weights is {weights!r:.80}; expected accuracies by an agent's name or model")
        self.weights = {
            str(name): checked_accuracy(value, f"the weight of {name!r}") for name, value in (weights or {}).items()
        }

    @property
    def identity(self) -> str:
        return f"{self.name} {sorted(self.weights.items())}" if self.weights else self.name

    def check(self, layers: Sequence[Mapping[str, Agent]], where: str) -> None:
        self.check_names(self.weights, layers, f"{where}: weights")

    @staticmethod
    def check_names(names: Iterable[str], layers: Sequence[Mapping[str, Agent]], where: str) -> None:
        """Check that each of these is a proposer or a proposer's model.

        Raises:
            ConfigError: one is not.
        """
        known = [each for layer in layers for name, agent in layer.items() for each in (name, agent.model.name)]
        for name in names:
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.3)
                hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(dict.fromkeys(known))}"
                raise ConfigError(f"{where} names {name!r}, which is no proposer and no proposer's model; {hint}")

    def seats(self, aggregators: Mapping[str, Agent], layer: int) -> tuple[Seat, ...]:
        return tuple(
            Seat(agent=name, layer=layer, model=agent.model.name, role=self.role) for name, agent in aggregators.items()
        )

    @abstractmethod
    def count(self, ballots: Sequence[Ballot], answers: Sequence[str | None], possible: int | None) -> Tally | None:
        """The result, from the key of each ballot's answer; ``possible``: how many answers are, if that is known."""

    @abstractmethod
    def is_decided(
        self,
        ballots: Sequence[Ballot],
        answers: Sequence[str | None],
        outstanding: Collection[int],
        possible: int | None,
    ) -> bool:
        """Whether the ballots that are outstanding, by index, cannot change the winner."""

    async def settled(self, run: Running, proposals: Sequence[Reference], outstanding: Collection[str]) -> bool:
        ballots = self._ballots(run, proposals)
        forms = await self._forms(run, ballots)
        read = [form for form in forms if form]
        if 2 * len(read) < len(proposals) + len(outstanding):
            return False  # the proposals may still turn out not to be comparable
        left = {
            index for index, ballot in enumerate(ballots) if ballot.proposal is None and ballot.agent in outstanding
        }
        possible = len(run.votes.options) or None
        merged, strict = keys(forms), strict_keys(forms)  # an outstanding answer may show that units differ
        winners = [self.count(ballots, answers, possible) for answers in (merged, strict)]
        if not all(self.is_decided(ballots, answers, left, possible) for answers in (merged, strict)):
            return False
        return all(winner and merged[winner.index] == winners[0].winner for winner in winners if winners[0])

    async def answer(self, run: Running, proposals: Sequence[Reference]) -> None:
        ballots = self._ballots(run, proposals)
        forms = await self._forms(run, ballots)
        answers = keys(forms)
        tally = self.count(ballots, answers, len(run.votes.options) or None)
        if tally is None or 2 * sum(form is not None for form in forms) < len(proposals):
            await self._answer_without_count(run, proposals)
            return
        shown = {key: str(form) for key, form in zip(reversed(answers), reversed(forms), strict=True) if key}
        clusters = tuple(
            Cluster(answer=shown[key], score=score, agents=tuple(ballots[index].agent for index in tally.voters[key]))
            for key, score in tally.scores.items()
        )
        run.emit(VotesCounted(at=run.now(), way=self.name, clusters=clusters, agreement=tally.agreement))
        chosen = ballots[tally.index].proposal
        assert chosen is not None
        run.select(chosen, self.reason(tally, shown[tally.winner]))

    def reason(self, tally: Tally, answer: str) -> str:
        """Why a proposal is the answer, for a reader."""
        votes, total = len(tally.voters[tally.winner]), sum(map(len, tally.voters.values()))
        return f"{votes} of {total} {'vote' if total == 1 else 'votes'} for {_short(answer)}"

    async def _answer_without_count(self, run: Running, proposals: Sequence[Reference]) -> None:
        why = "the answers of the proposals cannot be compared"
        if run.may_write(proposals):
            run.notice(f"{why}; the aggregator writes the answer")
            await Synthesize().answer(run, proposals)
        else:
            run.notice(f"{why}; the most central proposal is the answer")
            await Central().answer(run, proposals)

    def _ballots(self, run: Running, proposals: Iterable[Reference]) -> list[Ballot]:
        """A ballot for each member of the proposals' layer, or for each proposal where they come from outside."""
        given = {(proposal.layer, proposal.agent): proposal for proposal in proposals}
        layer = next(iter(given))[0] if given else len(run.layers)
        agents = run.layers[layer - 1] if 0 < layer <= len(run.layers) else {}
        if len(given) < len([*proposals]) or not all(at == layer and name in agents for at, name in given):
            return self.calibrated(run, [self._ballot(proposal.agent, None, proposal) for proposal in proposals])
        ballots = [self._ballot(name, agent, given.get((layer, name))) for name, agent in agents.items()]
        return self.calibrated(run, ballots)

    def calibrated(self, run: Running, ballots: list[Ballot]) -> list[Ballot]:
        """The ballots, with what their votes count for this question."""
        return ballots

    def _ballot(self, name: str, agent: Agent | None, proposal: Reference | None) -> Ballot:
        model = agent.model.name if agent else name
        weight = self.weights.get(name, self.weights.get(model))
        return Ballot(name, f"{model}\n{agent.persona or ''}" if agent else name, weight, proposal)

    async def _forms(self, run: Running, ballots: Sequence[Ballot]) -> list[Form | None]:
        """The form of each ballot's answer."""
        given = [ballot.proposal for ballot in ballots if ballot.proposal]
        found = dict(zip(given, await run.votes.of(given), strict=True))
        return [found[ballot.proposal] if ballot.proposal else None for ballot in ballots]


def _short(answer: str) -> str:
    line = " ".join(answer.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
