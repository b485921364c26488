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
    """The answer with an estimate for each call that is in flight or was interrupted; the same answer if there is none."""
    open_calls = [call for call in answer.calls if _lacks_figures(call, answer)]
    if not open_calls:
        return answer
    conversation = estimated_tokens(conversation_text(request.messages))
    calls = tuple(
        _estimated(call, conversation + _read_by(call, answer), prices) if call in open_calls else call
        for call in answer.calls
    )
    costs = [call.cost or Cost(None) for call in calls]
    return replace(
        answer,
        calls=calls,
        usage=sum((call.usage or Usage() for call in calls), Usage()),
        cost=sum(costs, Cost()),
    )


def _lacks_figures(call: Call, answer: Answer) -> bool:
    """Whether a call has no end, and its figures lack what is in flight. Those of a mixture, which has calls of its own, and
    those at the end of a run that was stopped hold it already.
    """
    if call.duration is not None or call.dropped is not None or call.calls:
        return False
    return call.usage is None or answer.duration is None


def _read_by(call: Call, answer: Answer) -> int:
    """Tokens of the proposals that a call read: those of the previous layer; a moderator's, those of its own."""
    layer = call.layer if call.role == "moderator" else call.layer - 1
    read = (each for each in answer.calls if each.layer == layer and each.role == "proposer" and each.dropped is None)
    return sum(estimated_tokens(each.text) for each in read)


def _estimated(call: Call, input_tokens: int, prices: Prices) -> Call:
    """The call with an estimate of its part in flight, in addition to its attempts that have ended."""
    written = sum(attempt.usage.output_tokens for attempt in call.attempts)
    output_tokens = max(0, estimated_tokens(call.reasoning + call.text) - written)
    usage = Usage(input_tokens, output_tokens, estimated=True)
    cost = prices.price(call.model, usage)
    return replace(call, usage=(call.usage or Usage()) + usage, cost=(call.cost or Cost()) + cost)
