"""Estimates of what interrupted calls cost: providers bill them, but do not report the amount.

Tokens are estimated as characters / 4. If they counted as nothing, a caller could read an answer up to its last word,
disconnect, and never reach a spending limit.
"""

from __future__ import annotations

from dataclasses import replace

from moa.answers import Answer, Call, Cost, Usage, estimated_tokens
from moa.messages import Request
from moa.mixture.prompts import conversation_text
from moa.prices import Prices


def with_estimates(answer: Answer, request: Request, prices: Prices) -> Answer:
    """The answer with an estimate for each call that did not complete; the same answer if all did."""
    if all(call.usage for call in answer.calls):
        return answer
    conversation = estimated_tokens(conversation_text(request.messages))
    calls = tuple(
        call if call.usage else _estimated(call, conversation + _read_by(call, answer), prices) for call in answer.calls
    )
    costs = [call.cost or Cost(None) for call in calls]
    return replace(
        answer,
        calls=calls,
        usage=sum((call.usage or Usage() for call in calls), Usage()),
        cost=sum(costs[1:], costs[0]),
    )


def _read_by(call: Call, answer: Answer) -> int:
    """Tokens of the proposals that a call read: those of the previous layer."""
    read = (each for each in answer.calls if each.layer == call.layer - 1 and each.dropped is None)
    return sum(estimated_tokens(each.text) for each in read)


def _estimated(call: Call, input_tokens: int, prices: Prices) -> Call:
    usage = Usage(input_tokens, estimated_tokens(call.reasoning + call.text), estimated=True)
    return replace(call, usage=usage, cost=prices.price(call.model, usage))
