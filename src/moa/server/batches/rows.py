"""One row of a batch, answered: as a chat completion of its key, with the same checks, limits, records and errors."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from moa.config.names import full_name
from moa.errors import MoaError
from moa.events import AgentFinished
from moa.messages import Reference
from moa.mixture.mixture import Mixture
from moa.server.batches.lines import answered_line
from moa.server.body import object_of
from moa.server.choices import Step
from moa.server.completions import Completion
from moa.server.correlation import REQUEST_ID
from moa.server.dialects.chat import CHAT, read_chat
from moa.server.dialects.dialect import ParsedRequest
from moa.server.failures import Refusal, openai_error, refusal_of
from moa.server.keys import Key
from moa.server.panels import suited
from moa.server.parts import Parts
from moa.server.unanswered import Asked, Unanswered
from moa.store.batches import Usage
from moa.tracebacks import traceback_of

BUSY = 1.0
"""Seconds after which a row is tried again that found no slot."""

NOT_ASKED = Asked(b"")

log = logging.getLogger("moa.server")


class Proposals(msgspec.Struct, frozen=True):
    """The finished proposals of a row, and the identity of the mixture whose agents wrote them."""

    mixture: str = ""
    proposals: tuple[Reference, ...] = ()


class Kept(Unanswered):
    """The proposals of one row, which survive the process.

    Args:
        before: of an earlier try.
        on_more: called with all proposals so far, whenever there is one more.
    """

    def __init__(self, before: Proposals, on_more: Callable[[Proposals], None]) -> None:
        super().__init__()
        self._known, self._on_more = before, on_more

    def of(self, mixture: Mixture) -> None:
        """This mixture answers the row. Where it has changed since the earlier try, the proposals are not its own."""
        identity = hashlib.sha256(mixture.proposal_identity.encode("utf-8", "surrogatepass")).hexdigest()
        if identity != self._known.mixture:
            self._known = Proposals(identity)

    def proposals(self, asked: Asked) -> tuple[Reference, ...]:
        return self._known.proposals

    def keep(self, asked: Asked, proposals: Sequence[Reference]) -> None:
        if len(proposals) > len(self._known.proposals):
            self._known = Proposals(self._known.mixture, tuple(proposals))
            self._on_more(self._known)

    def forget(self, asked: Asked) -> None:
        pass


class RowCompletion(Completion):
    """A completion without a connection, which keeps each proposal as soon as it is complete."""

    async def _steps(self) -> AsyncGenerator[Step, None]:
        async with aclosing(super()._steps()) as steps:
            async for step in steps:
                if isinstance(step.event, AgentFinished):
                    self._keep_proposals()
                yield step


class Later(Exception):
    """The row is to be tried again.

    Attributes:
        seconds: after which.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class RowAnswer(NamedTuple):
    """The line of an answered row, and its tokens."""

    line: bytes
    failed: bool
    usage: Usage = Usage()


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Counted(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details = _Details()
    completion_tokens_details: _Details = _Details()


class _Body(msgspec.Struct, frozen=True):
    usage: _Counted = _Counted()


async def answer_of_row(parts: Parts, owner: str, custom_id: str, body: bytes, kept: Kept) -> RowAnswer:
    """Answer a row.

    Raises:
        Later: a limit of its key or of the server says to retry.
        CancelledError: the row is not answered; its proposals are kept.
    """
    try:
        key = parts.desk.key_of(owner)
        parsed = await parts.bodies.apart(lambda: read_chat(object_of(body)))
        if parsed.stream:
            raise Refusal(400, "rows of a batch cannot stream: leave 'stream' out", param="stream")
        await parts.recordings.room()
        response = await _completion(parts, key, parsed, kept).answered()
    except Exception as error:  # a defect of ours too: a row is data, never the end of its batch
        refusal = refusal_of(error)
        if not isinstance(error, Refusal | MoaError):
            log.error("a row of a batch failed on an internal error\n%s", traceback_of(error))
        if refusal.kind == "rate_limit_error" or refusal.status == 503:
            raise Later(refusal.retry_after or BUSY) from None
        refused = openai_error(parts.discretion.refusal(refusal))
        return RowAnswer(answered_line(custom_id, uuid.uuid4().hex, refusal.status, refused), failed=True)
    run = response.headers.get("x-moa-run") or uuid.uuid4().hex
    data = bytes(response.body)
    line = answered_line(custom_id, run, response.status_code, data)
    if response.status_code != 200:
        return RowAnswer(line, failed=True)
    usage = msgspec.json.decode(data, type=_Body).usage
    cached, reasoning = usage.prompt_tokens_details, usage.completion_tokens_details
    tokens = (usage.prompt_tokens, cached.cached_tokens, usage.completion_tokens, reasoning.reasoning_tokens)
    return RowAnswer(line, failed=False, usage=Usage(*tokens))


def _completion(parts: Parts, key: Key, parsed: ParsedRequest, kept: Kept) -> RowCompletion:
    parts.desk.check_models(key, [parsed.model])
    parsed = parts.small_tasks.routed(parsed)
    mixture = suited(parts.model_list.mixture(parsed.model), parsed.request, parsed.panel)
    kept.of(mixture)
    charge = parts.charges.of(key, mixture, parsed.request, parsed.choices)
    model, table, owner = full_name(parsed.model), parts.tables.written(parsed.model), parts.desk.owner(key)
    return RowCompletion(
        CHAT,
        mixture,
        parsed,
        parts.reports.of(parsed.model, key, charge),
        charge.within_limits(parts.admission.slot()),
        parts.shutdown,
        NOT_ASKED,
        kept,
        parts.discretion,
        whose_usage=parts.config.whose_usage,
        new_recording=(
            lambda: parts.recordings.new(
                owner=owner, model=model, request=parsed.recorded, mixture=table, request_id=REQUEST_ID.get()
            )
        )
        if parts.keeps
        else None,
    )
