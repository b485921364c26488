"""How a call of an agent ended, and why it returned no text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from moa.errors import MoaError
from moa.mixture.draft import Draft
from moa.models.refusals import one_line


class Consults(Exception):
    """An aggregator's call asks for something that it reads with its next call, and is no answer yet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call ended.

    ``completed``
        The stream ended, with a finish reason.
    ``unfinished``
        The stream ended, but the references were still growing. Another call reads the complete ones, and may add nothing.
    ``empty``
        The stream of a last piece ended without any text, though the draft had been paused in the middle.
    ``paused``
        We closed the stream: the reading's room is used up, or a better reading waits. Another call continues the draft.
    ``skipped``
        No call was made: the cost limit leaves no money for this piece. Another call writes from a later reading.
    ``consults``
        The model asks the proposers; another call reads their proposals. See :mod:`moa.mixture.deliberation`.
    ``restarted``
        The model did not continue the draft but started over with a different text.
    ``repeating``
        The text repeats itself without end: we closed the stream, or ``max_tokens`` ended it.
    ``stopped``
        We closed the stream for good, for a ``reason``. The text so far is usable.
    ``failed``
        The call raised ``error``, or its stream ended without a finish reason.
    ``too long``
        The server refused the prompt because of its length. A shorter one is sent.
    ``ended``
        The draft was ended from outside during the call.
    """

    kind: Literal[
        "completed",
        "unfinished",
        "empty",
        "paused",
        "skipped",
        "restarted",
        "consults",
        "repeating",
        "stopped",
        "failed",
        "too long",
        "ended",
    ]
    reason: str = ""
    error: MoaError | None = None


FOLLOWED = {
    "paused": "another call continues its text",
    "unfinished": "another call reads the complete proposals",
    "empty": "it returned no text",
    "restarted": "it did not continue its text",
    "consults": "it asked the proposers",
}
"""The outcomes of a call that another call follows, and why."""


def why_empty(draft: Draft) -> str:
    """Why a call returned no text.

    ``it returned no text``, ``it returned no text (content_filter)``, ``it hit max_tokens while reasoning and returned no
    text``.
    """
    if draft.refusal:
        return f"it refused: {one_line(draft.refusal)}"
    reasoning = " while reasoning" if draft.reasoning else ""
    if draft.finish_reason == "length":
        return f"it hit max_tokens{reasoning} and returned no text"
    reason = f" ({draft.finish_reason})" if draft.finish_reason not in (None, "stop") else ""
    return f"it returned no text{' after reasoning' if reasoning else ''}{reason}"
