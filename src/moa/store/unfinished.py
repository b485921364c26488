"""What a run cost that was given up: calls that were cut off are billed all the same, and nobody says how much.

They count as estimated, characters / 4. Counting them as nothing would let a caller read an answer up to its last word,
hang up, and never reach a limit.
"""

from __future__ import annotations

from dataclasses import replace

from moa.messages import Answer, Cost, Request, Usage, estimated_tokens
from moa.mixture.prompts import conversation_text
from moa.prices import Prices


def with_estimates(answer: Answer, request: Request, prices: Prices) -> Answer:
    """The answer with an estimate for each call that did not come to its end; the same one where all did."""
    if all(call.usage for call in answer.calls):
        return answer
    asked = estimated_tokens(conversation_text(request.messages))
    calls = []
    for call in answer.calls:
        if call.usage is None:
            read = sum(
                estimated_tokens(each.text)
                for each in answer.calls
                if each.layer == call.layer - 1 and each.dropped is None
            )
            usage = Usage(asked + read, estimated_tokens(call.reasoning + call.text), estimated=True)
            call = replace(call, usage=usage, cost=prices.price(call.model, usage))
        calls.append(call)
    costs = [call.cost or Cost(None) for call in calls]
    return replace(
        answer,
        calls=tuple(calls),
        usage=sum((call.usage or Usage() for call in calls), Usage()),
        cost=sum(costs[1:], costs[0]),
    )
