"""What a call cost whose answer is not used: one that failed and is retried, or the slower one of a hedge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moa.answers import Attempt, Cost, Delta, Usage, estimated_tokens
from moa.errors import MoaError
from moa.messages import Request


def attempts_of(request: Request, received: Sequence[Delta], reason: str, error: MoaError | None) -> Iterator[Delta]:
    """A delta for a call whose answer is not used, after those for the attempts that the call itself reported.

    Args:
        received: the deltas of the call. Without usage among them, its tokens are estimated as characters / 4.
        reason: why its answer is not used.
        error: how it failed; None where it was closed. An error that no provider bills makes it free.
    """
    yield from (Delta(attempt=delta.attempt) for delta in received if delta.attempt)
    usage = next((delta.usage for delta in reversed(received) if delta.usage), None)
    cost = next((delta.cost for delta in reversed(received) if delta.cost), None)
    if usage is None and error is not None and not error.billable:
        usage, cost = Usage(), Cost()
    elif usage is None:
        output_tokens = estimated_tokens("".join(delta.reasoning + delta.text for delta in received))
        usage = Usage(request.tokens, output_tokens, estimated=True)
    calls = next((delta.calls for delta in reversed(received) if delta.calls), ())
    yield Delta(attempt=Attempt(reason, usage, cost, calls))
