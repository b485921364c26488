"""A saved run as one JSON object: its beginning, and the fold of its events.

Everything but the beginning is folded from the lines, so a run in progress has the same object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from moa.attribution.shares import attribution_json, attribution_of
from moa.errors import RunError
from moa.messages import Answer, Call, Reference, Request
from moa.mixture.codec import events_of
from moa.mixture.estimates import with_estimates
from moa.mixture.fold import fold
from moa.mixture.panel import Panel
from moa.prices import Prices
from moa.store.archive import Row, SavedRun
from moa.store.figures import call_object, cost_fields, usage_object
from moa.store.ratings import rating_object


def record_of(saved: SavedRun, prices: Prices) -> dict[str, Any]:
    """The whole run. It includes the attribution, which may take seconds: call it in a thread.

    Args:
        prices: for the estimated cost of interrupted calls.
    """
    begun = saved.begun
    answer = with_estimates(answer_of(saved.lines), Request(begun.request), prices)
    error = answer.error
    return {
        "run": begun.run,
        "started": begun.started,
        "outcome": saved.outcome,
        "model": begun.model,
        "mixture": begun.mixture,
        "continues": begun.continues,
        "request_id": begun.request_id,
        "rating": rating_object(saved.rating),
        "messages": begun.request["messages"],
        "parameters": {name: value for name, value in begun.request.items() if name != "messages"},
        "answer": {
            "text": answer.text,
            "reasoning": answer.reasoning,
            **({"analysis": asdict(answer.analysis)} if answer.analysis else {}),
            "tool_calls": list(answer.tool_calls),
            "finish_reason": answer.finish_reason,
            "error": error.reason if isinstance(error, RunError) else str(error) if error else None,
            "causes": list(error.causes) if isinstance(error, RunError) else [],
        },
        "usage": usage_object(answer.usage),
        **cost_fields(answer.cost),
        "time_to_first_token": answer.time_to_first_token,
        "duration": answer.duration,
        **({} if answer.agreement is None else {"agreement": answer.agreement}),
        "degraded": list(answer.degraded),
        "calls": [_call(call) for call in answer.calls],
        "recalled": [
            {"agent": each.agent, "layer": each.layer, "model": each.model, "text": each.text, "cut": each.cut}
            for each in answer.recalled
        ],
        "attribution": attribution_json(origin) if (origin := attribution_of(answer)) else None,
    }


def taken_apart(recorded: Mapping[str, Any]) -> tuple[Request, Panel]:
    """The request and the panel of a saved run."""
    request = Request(recorded)
    return request.without(("moa",)), Panel.of_fields(recorded.get("moa") or {})


def answer_of(lines: Iterable[bytes]) -> Answer:
    """The result of a run, from its event lines."""
    return fold(events_of(lines))


def finished_proposals(lines: Iterable[bytes]) -> list[Reference]:
    """The proposals that a continuing run reuses, from the lines of the run before it."""
    return proposals_of(answer_of(lines))


def proposals_of(answer: Answer) -> list[Reference]:
    """The proposals that a continuing run reuses: those that are complete, and those that this run reused itself."""
    calls = [
        *answer.recalled,
        *(call for call in answer.calls if call.role == "proposer" and call.duration is not None),
    ]
    return [
        Reference(call.agent, call.text, call.cut, call.layer)
        for call in calls
        if call.text and (not call.dropped or call in answer.passed_over)
    ]


def row_object(row: Row) -> dict[str, Any]:
    """A run in a list."""
    return {
        "run": row.run,
        "started": row.started,
        "outcome": row.outcome,
        "model": row.model,
        "question": row.question,
        "answer": row.answer,
        **cost_fields(row.cost),
        "duration": row.duration,
        "time_to_first_token": row.time_to_first_token,
        "tokens": row.tokens,
        "continues": row.continues,
        "rating": row.rating,
    }


def _call(call: Call) -> dict[str, Any]:
    text = {"text": call.text, "reasoning": call.reasoning, "started": call.started, "cut": call.cut}
    inner_calls = {"calls": [_call(each) for each in call.calls]} if call.calls else {}
    return {**call_object(call), **text, **inner_calls}
