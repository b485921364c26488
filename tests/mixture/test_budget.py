"""The money of a run: what is spent, and whether one more call would exceed the limit."""

from __future__ import annotations

import pytest

from moa import Delta, Mixture, Price, Prices, Request, Scripted, Usage
from moa.mixture.budget import Budget
from moa.mixture.draft import Draft
from moa.schedules import Barrier, Schedule, Staircase
from tests.fakes.virtual_time import run_in_virtual_time

MODEL = Scripted("x", name="x/a")
PRICES = Prices({"x/*": Price(1.0, 4.0)}, free=frozenset())


@pytest.mark.parametrize(("spent", "exceeded"), [(94_000, False), (95_000, True)])
def test_one_more_call_is_weighed_by_what_it_reads_and_writes(spent: int, exceeded: bool) -> None:
    """The documented example: 4,500 tokens to read and 375 to write cost $0.006."""
    budget, draft = Budget(PRICES, 0.1), Draft("a", 1)
    budget.open(draft, MODEL, Request.of("Why?"))
    draft.append(Delta(usage=Usage(spent, 0)))
    _, cost = budget.close(draft)
    assert cost.dollars == pytest.approx(spent / 1e6)
    assert budget.exceeded(MODEL, [4000, 8000, 6000], room=0.25) == exceeded


def test_a_call_in_flight_counts_as_estimated() -> None:
    """Its prompt and its text so far count as characters / 4, until the server reports."""
    budget, draft = Budget(PRICES, 0.1), Draft("a", 1)
    budget.open(draft, MODEL, Request.of("x" * 40_000))
    draft.append(Delta(text="x" * 80_000))
    assert not budget.exceeded(MODEL)  # 10,000 x $1 / M + 20,000 x $4 / M = $0.09
    draft.append(Delta(text="x" * 20_000))
    assert budget.exceeded(MODEL)


def test_a_refused_call_costs_nothing() -> None:
    """A call that failed before it produced anything is not billed."""
    budget, draft = Budget(PRICES, 0.1), Draft("a", 1)
    budget.open(draft, MODEL, Request.of("x" * 40_000))
    assert budget.close(draft, free=True)[0] == Usage()


def test_without_a_limit_nothing_is_exceeded() -> None:
    """No limit, no estimate."""
    assert not Budget(PRICES, None).exceeded(MODEL, [10**12])


COSTLY = Prices({"scripted/*": Price(1.0, 10.0)}, free=frozenset())
SCHEDULES: list[Schedule] = [Barrier(), Barrier(warm=True), Staircase(), Staircase((4, 16, 64, 256))]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("limit", [0.001, 0.003, 0.006])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_run_stays_within_its_limit_under_every_schedule(schedule: Schedule, limit: float, depth: int) -> None:
    """Each piece of a staircase pays for its prompt before it is written; the last one, or a proposal, is the answer."""

    def model(name: str) -> Scripted:
        text = " ".join(f"w{number}" for number in range(150))
        return Scripted(text, name=f"scripted/{name}", tokens_per_second=50, continuation="prefix")

    def cost(max_cost: float | None) -> float:
        layers = [[model(f"p{layer}{place}") for place in range(3)] for layer in range(depth)]
        mixture = Mixture(layers, model("z"), schedule=schedule, max_cost=max_cost, prices=COSTLY)
        answer = run_in_virtual_time(mixture.answer("Why is the sky blue? " * 40))
        assert answer.text and answer.cost.dollars
        return answer.cost.dollars

    assert cost(None) > limit
    assert cost(limit) <= 1.05 * limit
