"""Where a request cannot have what the mixture is set to: another schedule, another aggregation, fewer choices."""

from __future__ import annotations

from collections.abc import Iterator

from moa.messages import Request
from moa.mixture.plan import Plan
from moa.mixture.private_tool import why_not
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.checked import CheckedSchedule


def acts(request: Request) -> bool:
    """Whether a request asks for more than a proposal can be: a call of a tool, a response format."""
    return any(request.body.get(field) for field in ("tools", "response_format"))


def schedule_for(plan: Plan, request: Request) -> CheckedSchedule:
    """The mixture's schedule, or a barrier where a request cannot use it."""
    schedule = CheckedSchedule(plan.schedule)
    whole = acts(request) or bool(request.body.get("stop"))  # a stop sequence may lie across two pieces
    needs_whole = plan.aggregation.whole or plan.keep is not None
    if schedule.grows and (plan.exact or needs_whole or whole):
        return CheckedSchedule(Barrier())
    if schedule.warm and (plan.references != "user" or needs_whole):
        return CheckedSchedule(Barrier())
    return schedule


def substitutes(plan: Plan, request: Request, *, continues: bool) -> Iterator[tuple[str, bool]]:
    """What a request gets in place of what it or the mixture says, and whether the answer is worse for it.

    Args:
        continues: whether the run has proposals of an earlier one.
    """
    if (count := request.body.get("n")) not in (None, 1):
        yield f"the request has n = {count!r}, and this answer is one choice; run it again for others", True
    if acts(request) and not plan.aggregation.writes:
        yield f"the request asks for tools or a response format, so {plan.name} writes its answer", False
    elif plan.when == "tool" and not continues and (why := why_not(plan.aggregator, request)):
        yield f"the proposers are called before the aggregator, which cannot ask them: {why}", False
    elif CheckedSchedule(plan.schedule).grows and not schedule_for(plan, request).grows:
        yield "this request cannot be answered incrementally; waiting for all proposals", False
