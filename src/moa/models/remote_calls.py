"""The calls behind the answer of an upstream that is a mixture on another server of this project: its ``moa`` object.

Its ``usage`` counts the answering call alone, or all calls; ``moa.usage`` and ``moa.cost`` always count all of them, so an
upstream is booked by these (:mod:`moa.models.usage`). The answering call is among ``moa.calls``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from moa.answers import Attempt, Call, Usage
from moa.models.usage import bill_of

DEEPEST, MOST = 8, 1000
"""Nested mixtures and calls of one mixture that are read; an upstream may send anything."""


def calls_in(chunk: Mapping[str, Any]) -> tuple[Call, ...]:
    """The calls in a chunk's ``moa`` object; none where it has none."""
    moa = chunk.get("moa")
    return _calls(moa.get("calls"), DEEPEST) if isinstance(moa, Mapping) else ()


def _calls(listed: object, depth: int) -> tuple[Call, ...]:
    return tuple(_call(fields, depth) for fields in _objects(listed)) if depth else ()


def _objects(listed: object) -> Iterator[Mapping[str, Any]]:
    return (each for each in listed[:MOST] if isinstance(each, Mapping)) if isinstance(listed, list) else iter(())


def _call(fields: Mapping[str, Any], depth: int) -> Call:
    layer = fields.get("layer")
    return Call(
        agent=_text(fields, "agent") or "",
        layer=layer if isinstance(layer, int) else 1,
        model=_text(fields, "model") or "",
        role=_text(fields, "role") or "proposer",
        finish_reason=_text(fields, "finish_reason"),
        usage=_usage(fields),
        cost=bill_of(fields).cost,
        time_to_first_token=_seconds(fields, "time_to_first_token"),
        duration=_seconds(fields, "duration"),
        dropped=_text(fields, "dropped"),
        calls=_calls(fields.get("calls"), depth - 1),
        attempts=tuple(_attempt(each, depth) for each in _objects(fields.get("attempts"))),
        answers=fields.get("answers") is True,
    )


def _attempt(fields: Mapping[str, Any], depth: int) -> Attempt:
    return Attempt(
        _text(fields, "reason") or "",
        _usage(fields) or Usage(),
        bill_of(fields).cost,
        _calls(fields.get("calls"), depth - 1),
        part=fields.get("part") is True,
    )


def _usage(fields: Mapping[str, Any]) -> Usage | None:
    usage = bill_of(fields).usage
    return usage and replace(usage, estimated=fields.get("estimated") is True)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def _seconds(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
