"""One row, answered: a plain function of the row, a mixture, and an allowance for its cost.

Nothing here knows where rows come from, where answers go, or how many workers share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from moa.batch.lines import decoded, encoded_line
from moa.batch.rows import Row
from moa.batch.spending import Share
from moa.errors import CallRejected, MoaError, ModelError, RunError, model_errors
from moa.messages import Answer, Call, Cost, Reference, Usage
from moa.mixture.events import AgentFailed, AgentFinished
from moa.mixture.mixture import Mixture

_OF_THE_ROW = frozenset({400, 413, 422})
"""Statuses with which a server refuses a request for what it holds."""


class Allowance(Protocol):
    """What rows may cost: on one machine the job's limit, on many a lease of it."""

    def row(self) -> AbstractAsyncContextManager[Share]:
        """Admit a row; the dollars of its share are what it has cost when the context ends.

        Raises:
            OverLimit: the row would exceed the limit on cost.
        """


class Proposal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A proposal that was paid for: as :class:`~moa.messages.Call` has it; ``cost`` in US dollars."""

    agent: str
    layer: int
    model: str
    text: str
    cut: bool = False
    usage: Usage = msgspec.field(default_factory=Usage)
    cost: float | None = 0.0
    cost_is_at_least: bool = False

    @classmethod
    def of(cls, call: Call) -> Proposal:
        cost = call.cost or Cost()
        usage = call.usage or Usage()
        return cls(call.agent, call.layer, call.model, call.text, call.cut, usage, cost.dollars, cost.at_least)


class Failure(msgspec.Struct, frozen=True):
    """Why a row has no answer: a class of :mod:`moa.errors`, and one line. ``status`` is the HTTP status that fits it."""

    type: str
    message: str
    status: int = 400


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row with its answer, or with an error.

    Attributes:
        number, id, columns, openai: as in :class:`~moa.batch.rows.Row`.
        answer, finish_reason, tool_calls, degraded, run: as in :class:`~moa.messages.Answer`; ``answer`` is None with an
            error.
        usage, cost, cost_is_at_least: over all calls, those of an earlier run that broke off too; US dollars, None where no
            price is known.
        usage_of_answer: tokens of the call whose text is the answer.
        seconds: from the run's start to its end.
        error: why there is no answer.
        proposals: the proposals that the answer was made of.
    """

    number: int
    id: str | int
    answer: str | None = None
    finish_reason: str | None = None
    tool_calls: list[Mapping[str, Any]] = []
    usage: Usage = msgspec.field(default_factory=Usage)
    usage_of_answer: Usage = msgspec.field(default_factory=Usage)
    cost: float | None = 0.0
    cost_is_at_least: bool = False
    seconds: float = 0.0
    degraded: list[str] = []
    error: Failure | None = None
    proposals: list[Proposal] = []
    columns: Mapping[str, Any] = {}
    openai: bool = False
    run: str = ""
    model: str = ""

    def record(self) -> bytes:
        """Itself as JSON."""
        return encoded_line(self)

    @classmethod
    def read(cls, record: bytes) -> Answered:
        """The inverse of :meth:`record`."""
        return msgspec.convert(decoded(record), cls)


@dataclass(frozen=True, slots=True)
class Watch:
    """What a caller sees of a row while it is answered.

    Attributes:
        proposed: called with each usable proposal, once it is complete.
        worked: called with the name of each model whose call succeeded.
        failed: called with the error of each agent whose call failed.
    """

    proposed: Callable[[Proposal], None] = lambda proposal: None
    worked: Callable[[str], None] = lambda model: None
    failed: Callable[[MoaError], None] = lambda error: None


async def answered(
    row: Row, mixture: Mixture, allowance: Allowance, *, kept: Sequence[Proposal] = (), watch: Watch | None = None
) -> Answered:
    """Answer a row. An error of the row, of an endpoint or of the code of a model is part of what this returns.

    Args:
        row: what to answer.
        mixture: what answers.
        allowance: admits the row, and takes its cost.
        kept: proposals of an earlier run of the row that broke off; they are not paid again.

    Raises:
        OverLimit: the row would exceed the limit on cost; nothing was called.
        ScheduleError: a bug in a custom schedule.
    """
    if row.request is None:
        return refused(row, mixture.name)
    watch = watch or Watch()
    references = [Reference(each.agent, each.text, each.cut, each.layer) for each in kept]
    async with allowance.row() as share:
        run = mixture.run(row.request, kept=references)
        try:
            async with run:
                async for event in run:
                    if isinstance(event, AgentFinished):
                        call = run.call(event.layer, event.agent)
                        assert call
                        watch.worked(call.model)
                        if call.role == "proposer":
                            watch.proposed(Proposal.of(call))
                    elif isinstance(event, AgentFailed):
                        watch.failed(event.error)
        except BaseException:
            share.dollars = run.estimated_answer.cost.dollars or 0.0
            raise
        answer = run.answer
        share.dollars = answer.cost.dollars or 0.0
    return _of_answer(row, mixture.name, answer, kept)


def refused(row: Row, mixture: str) -> Answered:
    """The answer to a row that has a problem of its own: nothing was called."""
    failure = Failure("RequestRejected", row.problem)
    return Answered(row.number, row.id, error=failure, columns=row.columns, openai=row.openai, model=mixture)


def _of_answer(row: Row, mixture: str, answer: Answer, kept: Sequence[Proposal]) -> Answered:
    usage = sum((each.usage for each in kept), answer.usage)
    cost = sum((Cost(each.cost, each.cost_is_at_least) for each in kept), answer.cost)
    answering = next((call.usage for call in answer.calls if call.answers and call.usage), answer.usage)
    error = answer.error
    return Answered(
        number=row.number,
        id=row.id,
        answer=None if error else answer.text,
        finish_reason=answer.finish_reason,
        tool_calls=list(answer.tool_calls),
        usage=usage,
        usage_of_answer=answering,
        cost=cost.dollars,
        cost_is_at_least=cost.at_least,
        seconds=round(answer.duration or 0.0, 3),
        degraded=list(answer.degraded),
        error=failure_of(error) if error else None,
        proposals=_proposals(answer, kept),
        columns=row.columns,
        openai=row.openai,
        run=answer.run_id,
        model=mixture,
    )


def _proposals(answer: Answer, kept: Sequence[Proposal]) -> list[Proposal]:
    """The proposals of this run and of the one before, each once."""
    before = {(each.layer, each.agent): each for each in kept}
    return [before.get((call.layer, call.agent)) or Proposal.of(call) for call in answer.proposals]


def failure_of(error: Exception) -> Failure:
    """An error as a row has it. Its type is that of the calls' errors where they have one type, else the run's own."""
    errors = model_errors([error])
    kinds = {type(each).__name__ for each in errors}
    deciding = next(iter(errors), None)
    status = 400 if of_the_row(error) else (deciding.status if deciding and deciding.status else 502)
    return Failure(kinds.pop() if len(kinds) == 1 else type(error).__name__, " ".join(str(error).split()), status)


def of_the_row(error: Exception) -> bool:
    """Whether a row has no answer because of what it holds, so that the endpoints are not to blame."""
    errors = model_errors([error])
    if isinstance(error, RunError) and not errors:
        return True
    return bool(errors) and all(_is_of_request(each) for each in errors)


def _is_of_request(error: ModelError) -> bool:
    return error.of_request or (isinstance(error, CallRejected) and error.status in _OF_THE_ROW)
