"""The user's turn that a request belongs to: a message of the user, and the tool calls that follow it."""

from __future__ import annotations

from moa.messages import Request
from moa.mixture.memory import turn_of
from moa.mixture.plan import Plan


def turn_of_request(plan: Plan, request: Request) -> str | None:
    """The digest of the user's turn, or None where no later request can belong to it: it calls no tools."""
    at = request.last_user
    if plan.fanout != "turn" or not plan.layers or at is None:
        return None
    calls_tools = any(request.body.get(field) for field in ("tools", "functions"))
    if not calls_tools and not continues_a_turn(request):
        return None
    return turn_of(plan.proposal_identity, request.messages[: at + 1])


def continues_a_turn(request: Request) -> bool:
    """Whether messages follow the user's last one, such as the results of tool calls."""
    at = request.last_user
    return at is not None and at + 1 < len(request.body["messages"])
