"""What a model returns: a stream of deltas, and the answers, calls, tokens and costs that result from it.

Notable decisions:
- An answer arrives as a stream of small deltas. The last ones carry the finish reason and the usage.
- A cost is ``None`` where no price is known, never 0.
- A delta is a ``msgspec`` struct, because a run makes one for every chunk of every model (0.1 µs each; a frozen dataclass
  takes 1.3 µs). Everything else here is a dataclass.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from moa.analysis import Analysis

CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call or of a sum of calls.

    ``output_tokens`` includes ``reasoning_tokens``; ``input_tokens`` includes ``cached_tokens``, as the API counts them.
    ``estimated`` marks figures counted as characters / 4 because the server reported none.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
        )

    @property
    def total_tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens


def estimated_tokens(text: str) -> int:
    """Tokens of a text, for servers that report no count; see :func:`tokens_in`."""
    return tokens_in(len(text))


def tokens_in(characters: int) -> int:
    """The estimate of tokens that everything here uses: :data:`CHARACTERS_PER_TOKEN` characters each, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars. ``dollars`` is None when no part has a known price; ``at_least`` when only some parts have."""

    dollars: float | None = 0.0
    at_least: bool = False

    def __add__(self, other: Cost) -> Cost:
        if self.dollars is None and other.dollars is None:
            return Cost(None)
        if self.dollars is None or other.dollars is None:
            known = other.dollars if self.dollars is None else self.dollars
            # $0 plus an unknown cost stays unknown: "at least $0" says less than None.
            return Cost(known, at_least=True) if known else Cost(None)
        return Cost(self.dollars + other.dollars, self.at_least or other.at_least)

    def __str__(self) -> str:
        if self.dollars is None:
            return "cost unknown"
        if self.dollars == 0:
            figure = "$0"
        elif self.dollars >= 0.001:
            figure = f"${self.dollars:.4f}"
        else:
            figure = "$" + f"{self.dollars:.7f}".rstrip("0")
        return f"at least {figure}" if self.at_least else figure


INSTEAD_OF_TEXT = frozenset({"refusal", "audio", "images", "function_call"})
"""Fields of a message that are an answer without text: https://platform.openai.com/docs/api-reference/chat/object"""

_SPOKEN = INSTEAD_OF_TEXT | {"reasoning_details"}


_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffe\uffff")
"""Characters without a mark that are no spaces to Unicode: fillers of Hangul and Khmer, the blank of Braille, a joiner.

https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point"""


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing: only white space, control and format characters (zero-width ones, byte order marks),
    variation selectors and fillers."""
    return all(character.isspace() or _is_invisible(character) for character in text)


def _is_invisible(character: str) -> bool:
    selects_a_variation = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    mongolian = "\u180b" <= character <= "\u180f"
    if character in _INVISIBLE or selects_a_variation or mongolian:
        return True
    return unicodedata.category(character) in ("Cf", "Cc")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call behind an agent's answer whose end was not the agent's: it failed and was retried, was slower than its hedge,
    warmed a cache, or wrote a piece that another call continues.

    ``usage`` and ``cost`` are included in the agent's own; ``cost`` is None until the run knows the model's price. ``calls``
    are the calls behind it, where the model is a mixture. ``part``: its text is a part of the agent's.
    """

    reason: str
    usage: Usage = field(default_factory=Usage)
    cost: Cost | None = None
    calls: tuple[Call, ...] = ()
    part: bool = False


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """One piece of a model's answer. Its JSON holds only the fields that are set.

    Attributes:
        text: a piece of the answer.
        reasoning: a piece of the model's reasoning.
        thought: so many characters at the end of the text before this delta were reasoning, as a closing tag without an
            opening one has shown. They are no part of the answer.
        tool_calls: pieces of tool calls as the server sent them (each has an ``index``).
        finish_reason: ``stop``, ``length``, ``tool_calls``, …; once, near the end.
        usage: tokens of the whole call, as far as they are known: once, near the end; a mixture's at each of its calls. The
            last one counts.
        cost: the cost of the call, where the model knows it better than a price list (OpenRouter, a mixture).
        calls: the calls behind this answer, where a mixture answers.
        attempt: a call that was made in addition, and is not in ``usage``: before a retry, or beside a hedge.
        in_flight: how many calls have been sent and have not ended, where it is not one: none while a call waits for its
            turn or for a retry, two during a hedge. If the answer is abandoned, that many prompts are paid for.
        extra: other fields of the choice or its delta (``logprobs``, ``refusal``, …), as the server sent them.
        notice: a remark for the user about the call; the run emits it.
        degrades: whether the notice says that the answer is worse than it could be.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    calls: tuple[Call, ...] = ()
    attempt: Attempt | None = None
    in_flight: int | None = None
    extra: Mapping[str, Any] | None = None
    notice: str = ""
    degrades: bool = False
    thought: int = 0

    @property
    def speaks(self) -> bool:
        """Whether the delta holds a part of the answer or of its reasoning, not only bookkeeping such as filter results."""
        if self.text or self.reasoning or self.tool_calls or self.thought:
            return True
        return self.extra is not None and not _SPOKEN.isdisjoint(self.extra)

    def replaced(self, **fields: Any) -> Delta:
        """The same delta with these fields set."""
        return msgspec.structs.replace(self, **fields)


@dataclass(frozen=True, slots=True)
class Call:
    """One agent's part in a run, as it ended.

    Attributes:
        agent: the agent's name, unique within its layer.
        layer: counted from 1; the aggregator is in the last.
        model: ``provider/name``.
        role: ``proposer``, ``aggregator``, ``ranker`` (an aggregator that picks a proposal),
            ``moderator`` (one that chooses which proposals of a layer go on), ``analyst`` (one that
            compares the proposals before it answers), or ``step`` (one that merges a part of them for its answer).
        text: the text of the call; for a failed or dropped call, the text up to that point.
        finish_reason: as the server gave it; None when the call did not complete.
        usage, cost: None where the call got no answer.
        started: seconds from the run's start to the call's.
        time_to_first_token: seconds from the call's start to its first text, reasoning or tool call.
        duration: seconds from the call's start to its end.
        dropped: why the text is no reference (or, for an aggregator, no answer); None when it was used.
        cut: the text ends early (``max_tokens``, the deadline or the cost limit).
        calls: the calls behind this one, where the agent's model is a mixture.
        attempts: the calls made for this agent in addition to its last one; ``usage`` and ``cost`` include them.
        answers: its text is the answer of its run, or of the mixture that made it.
    """

    agent: str
    layer: int
    model: str
    role: str = "proposer"
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    started: float | None = None
    time_to_first_token: float | None = None
    duration: float | None = None
    dropped: str | None = None
    cut: bool = False
    calls: tuple[Call, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a run.

    Attributes:
        text, reasoning, tool_calls, finish_reason: the answer itself. Tool calls are whole, not in pieces.
        usage: the sum over every call that was made, used or not.
        cost: likewise; see :class:`Cost` for what "at least" means.
        calls: every call, in the order they started.
        recalled: proposals that no call of this run wrote: they come from an earlier run, or from the turn's first step.
        time_to_first_token: seconds from the run's start to the answer's first token.
        duration: seconds from the run's start to its end.
        agreement: how far the answers of the proposals agree, above 0 and up to 1: the share of the votes for the answer, or
            with ``mux`` the share of its samples in which the chosen model gave it. None where nothing was counted.
        degraded: why the answer is less than the mixture promises (a proposer dropped, a fallback used), one line each.
        error: why there is no answer, a :class:`~moa.errors.RunError`; None when there is one.
        run_id: the run's ID, 32 hexadecimal digits.
        passed_over: complete proposals, of this run's calls or recalled, that a moderator dropped; ``dropped`` says so.
        analysis: what the aggregator noted of the proposals before it answered; None where it made no analysis. The
            ``reasoning`` begins with it.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)
    calls: tuple[Call, ...] = ()
    recalled: tuple[Call, ...] = ()
    time_to_first_token: float | None = None
    duration: float | None = None
    agreement: float | None = None
    degraded: tuple[str, ...] = ()
    error: Exception | None = None
    run_id: str = ""
    passed_over: tuple[Call, ...] = ()
    analysis: Analysis | None = None

    @property
    def proposals(self) -> tuple[Call, ...]:
        """The proposers' calls whose text became a reference, those of earlier runs first."""
        proposers = (*self.recalled, *(call for call in self.calls if call.role == "proposer"))
        return tuple(call for call in proposers if call.dropped is None and call.text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Reference:
    """A proposal as a reader gets it. ``layer`` is its proposer's; ``cut`` marks a text that ends early."""

    agent: str
    text: str
    cut: bool = False
    layer: int = 1
