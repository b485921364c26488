"""Usage, cost and calls as JSON: the same in a client's answer and in a saved run. Tokens, US dollars and seconds."""

from __future__ import annotations

from typing import Any

from moa.messages import Answer, Attempt, Call, Cost, Usage


def usage_object(usage: Usage) -> dict[str, Any]:
    """``usage`` in the form of OpenAI's API. https://platform.openai.com/docs/api-reference/chat/object"""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def run_object(answer: Answer) -> dict[str, Any]:
    """The run behind an answer, as in the ``moa`` object of a response: its ID, usage, cost, times, calls, and the
    proposals that it reused. The usage is the sum over all calls.
    """
    agreement = {} if answer.agreement is None else {"agreement": answer.agreement}
    return {
        "run": answer.run_id,
        **cost_fields(answer.cost),
        "usage": usage_object(answer.usage),
        "time_to_first_token": answer.time_to_first_token,
        "duration": answer.duration,
        **agreement,
        "degraded": list(answer.degraded),
        "calls": [call_object(call) for call in answer.calls],
        "recalled": [{"agent": each.agent, "layer": each.layer, "model": each.model} for each in answer.recalled],
    }


def call_object(call: Call) -> dict[str, Any]:
    """One call: its agent, role and model, and its tokens, dollars and seconds; ``answers`` where its text is the answer.
    Nested, where there are any: a mixture's own calls, and the attempts that the figures include.
    """
    fields: dict[str, Any] = {
        "agent": call.agent,
        "layer": call.layer,
        "role": call.role,
        "model": call.model,
        **_spent(call),
        "time_to_first_token": call.time_to_first_token,
        "duration": call.duration,
        "finish_reason": call.finish_reason,
        "dropped": call.dropped,
    }
    if call.answers:
        fields["answers"] = True
    if call.calls:
        fields["calls"] = [call_object(inner) for inner in call.calls]
    if call.attempts:
        fields["attempts"] = [_attempt_object(attempt) for attempt in call.attempts]
    return fields


def _attempt_object(attempt: Attempt) -> dict[str, Any]:
    fields = {"reason": attempt.reason, **_spent(attempt)}
    if attempt.part:
        fields["part"] = True
    return {**fields, "calls": [call_object(inner) for inner in attempt.calls]} if attempt.calls else fields


def _spent(call: Call | Attempt) -> dict[str, Any]:
    usage = call.usage or Usage()
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "estimated": usage.estimated,
        **cost_fields(call.cost or Cost(None)),
    }


def cost_fields(cost: Cost) -> dict[str, Any]:
    """US dollars, None where the price is unknown, and whether they are a lower bound."""
    return {"cost": cost.dollars, "cost_is_at_least": cost.at_least}
