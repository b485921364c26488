"""What a measurement will take, before anything is called: items, calls, and dollars.

The benchmark itself runs, with a stand-in for the system and one for the judge: so the number of calls and their prompts are
those of the measurement. How long answers will be is not known: it is the mean of the answers that the folder has already,
else an assumption, which the forecast states.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf, read_rows
from moa.evals.asking.harness import JUDGE, SYSTEM, Item, Measurement
from moa.evals.asking.journal import Reply
from moa.evals.benchmark import Benchmark, Options
from moa.messages import Cost, Message, Request, Usage
from moa.mixture.mixture import Mixture
from moa.models import Model
from moa.prices import Prices

ANSWER_TOKENS, JUDGMENT_TOKENS = 500, 300
"""The assumed lengths."""

_VERDICT = "[[5]] {'Readability': 3} M"
"""A stand-in for any judgment: each benchmark reads its own part of it."""


class Rehearsal(Measurement):
    """A measurement that calls nothing and writes nothing: it counts the requests, and answers them with stand-ins.

    Args:
        tokens: the assumed tokens of a reply, by whose it is.

    Attributes:
        requests: the model, the tokens read and the tokens written of each call, by whose it is.
        items: how many items there are.
    """

    def __init__(self, tokens: dict[str, float]) -> None:
        self.tokens = tokens
        self.requests: dict[str, list[tuple[Model, int, int]]] = {SYSTEM: [], JUDGE: []}
        self.items = 0
        self.notices = []

    async def call(self, key: str, model: Model, request: Request | str | Sequence[Message]) -> Reply:
        request = Request.of(request)
        whose = key.partition("/")[0]
        length = int(min(self.tokens[whose], request.body.get("max_tokens", self.tokens[whose])))
        self.requests[whose].append((model, request.tokens, length))
        text = _VERDICT if whose == JUDGE else "word " * length
        return Reply(text, "stop", Usage(request.tokens, length), Cost(), logprobs={"m": -0.7, "M": -0.7})

    def has(self, key: str, model: Model, request: Request) -> bool:
        return False

    def judged(self, why_not: str) -> None:
        """Nothing is counted."""

    def notice(self, line: str) -> None:
        self.notices.append(line)

    def write(self, name: str, identity: str, row: Row) -> None:
        """Nothing is written."""

    def rows(self, name: str) -> list[Row]:
        return []

    def save(self, name: str, value: object) -> None:
        """Nothing is written."""

    async def each(
        self, items: Collection[Item], work: Callable[[Item], Awaitable[None]], kind: Callable[[Item], str] = str
    ) -> int:
        self.items = len(items)
        for item in items:
            await work(item)
        return 0

    def close(self) -> None:
        """Nothing is open."""


@dataclass(slots=True)
class Forecast:
    """What a measurement will take.

    Attributes:
        items: how many items are measured.
        answers, judgments: calls of the system and of the judge.
        agents: calls of models for the answers: a mixture makes several for each.
        answers_cost, judgments_cost: US dollars; unknown where a price is.
        assumptions: what the figures rest on, one sentence each.
    """

    items: int
    answers: int
    judgments: int
    agents: int
    answers_cost: Cost
    judgments_cost: Cost
    assumptions: list[str] = field(default_factory=list)


async def forecast(
    benchmark: Benchmark,
    shelf: Shelf,
    options: Options,
    system: Model,
    judges: Sequence[Model],
    prices: Prices,
    folder: Path,
    repeats: int = 1,
) -> Forecast:
    """Forecast a measurement.

    Args:
        folder: where the measurement will be; the lengths of answers that it holds already replace the assumed ones.
        repeats: how often the system answers each item.
        others: as in :func:`moa.evals.measuring.Measuring`.

    Raises:
        ConfigError: the data cannot be used.
    """
    known, assumptions = _known(folder)
    rehearsal = Rehearsal(known)
    judge = judges[0] if judges else None
    if judge is not None and benchmark.trial is not None:
        await benchmark.trial(rehearsal, shelf, judge, options)
    await benchmark.measure(rehearsal, shelf, system, judge, options)
    answers, judgments = rehearsal.requests[SYSTEM], rehearsal.requests[JUDGE]
    agents, answers_cost = 0, Cost()
    for model, read, written in answers:
        calls, cost = _priced(model, read, written, prices)
        agents, answers_cost = agents + calls, answers_cost + cost
    judging = Cost()
    for each in judges:
        times = repeats if each is judge else 1
        for _, read, written in judgments:
            _, cost = _priced(each, read, written, prices)
            judging += _times(cost, times)
    return Forecast(
        rehearsal.items,
        repeats * len(answers),
        (repeats + max(0, len(judges) - 1)) * len(judgments),
        repeats * agents,
        _times(answers_cost, repeats),
        judging,
        assumptions,
    )


def _times(cost: Cost, count: int) -> Cost:
    return cost if cost.dollars is None else Cost(cost.dollars * count, cost.at_least)


def _known(folder: Path) -> tuple[dict[str, float], list[str]]:
    """The tokens of a reply by whose it is, and where the figures come from."""
    found: dict[str, float] = {}
    assumptions = []
    try:
        journal = read_rows(folder / "journal.jsonl")
    except ConfigError:
        journal = []
    for whose, called, assumed in ((SYSTEM, "an answer", ANSWER_TOKENS), (JUDGE, "a judgment", JUDGMENT_TOKENS)):
        rows = [row for row in journal if row["key"].startswith(f"{whose}/")]
        lengths = [-(-len(row["text"]) // 4) for row in rows]
        found[whose] = mean(lengths) if lengths else assumed
        origin = f"the mean of {len(lengths)} in {folder}" if lengths else "assumed"
        assumptions.append(f"{called} has {found[whose]:.0f} tokens ({origin}), and no reasoning")
    return found, assumptions


def _priced(model: Model, read: int, written: int, prices: Prices) -> tuple[int, Cost]:
    """The calls of one answer, and their cost: a proposal is as long as the answer, and later layers read the one before."""
    if not isinstance(model, Mixture):
        price = prices.per_million(model.name)
        return 1, Cost(None) if price is None else Cost(price.of(Usage(read, written)))
    calls, cost, before = 0, Cost(), 0
    writers = [] if not model.plan.aggregation.needs_aggregator and model.layers else [model.aggregator]
    for agents in ([*layer.values()] for layer in model.layers):
        for agent in agents:
            more, dollars = _priced(agent.model, read + before * written, written, prices)
            calls, cost = calls + more, cost + dollars
        before = len(agents)
    for agent in writers:
        more, dollars = _priced(agent.model, read + before * written, written, prices)
        calls, cost = calls + more, cost + dollars
    return calls, cost
