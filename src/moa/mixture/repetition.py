"""A text that repeats itself without end, recognised while it is written.

Models fall into loops: a word, a phrase, a line or a whole paragraph, again and again up to ``max_tokens``. Here a loop is a
text whose end has a period: each character equals the one a fixed distance before it, over enough repetitions. How many are
enough depends on what repeats (see :class:`Limit`), since much repetition is meant: refrains, tables, zeros, code.

Notable decisions:
- The numbers of list items do not count: a line ``1. Save water`` and a line ``2. Save water`` are a repetition. All other
  numbers count, so rows of a multiplication table differ.
- Every :data:`STEP` characters, the end of the text is searched for in the :data:`WINDOW` before it, and the distance is
  checked as the period. Step and window are fixed, so the time is linear and the memory bounded. The pieces in which a text
  arrives make no difference.

https://github.com/QwenLM/qwen-code/issues/1403, https://github.com/anthropics/claude-code/issues/82803 (hosted models, too)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from moa.answers import Delta
from moa.mixture.words import unspaced, words_of

STEP = 64
"""Characters between two checks."""

WINDOW = 16_384
"""Characters that are remembered: four repetitions of some 700 words."""

NEAR = 2048
FAR_STEPS = 8
"""Most checks look for periods of up to :data:`NEAR` characters; every eighth looks through the whole window."""

PROBE = 24
"""Characters at the end of the text that are searched for."""

CANDIDATES = 3
"""Periods that are checked: a unit that repeats a part of itself has several places that look like its end."""

QUESTION = 8192
"""Characters at each end of a question in which repetitions may be asked for; a long one holds a document between them."""

_NUMBER = re.compile(r"^([ \t]*(?:[-*#>]+[ \t]*)?(?:\*\*)?)\d{1,4}(?=[.)])", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_UNDECIDED = re.compile(r"[ \t]*(?:[-*#>]+[ \t]*)?(?:\*\*)?\d{0,4}|[ \t]*[`~]{1,2}")
_LONGEST_UNDECIDED = 24
_CODE = re.compile(r"[{};|=\\]|</|::|[\"'],|\n(?:\t| {2,})\S")


@dataclass(frozen=True, slots=True)
class Limit:
    """How often a unit may repeat: up to ``times``, and up to ``length`` characters in all."""

    times: int
    length: int

    @property
    def cut(self) -> Limit:
        """The limit for a text that ``max_tokens`` has cut in the middle of its repetitions."""
        return Limit(max(4, self.times // 6), self.length // 5)


MARKS = Limit(100, 2000)
"""Units without letters and digits: separators, blanks to fill in, empty table rows, drawings."""

ZEROS = Limit(100, 12_000)
"""Units without any other letter or digit than 0: matrices."""

DIGITS = Limit(40, 1000)
"""Units of digits within a line."""

ROWS = Limit(30, 2400)
"""Units of digits that span lines: matrices, dumps."""

SHORT = Limit(40, 1500)
"""Units of up to three letters: laughter, sequences of bases."""

PHRASES = ((60, Limit(24, 1500)), (200, Limit(8, 1500)), (WINDOW, Limit(4, 1500)))
"""Units within a line, by their length."""

LINES = ((60, Limit(24, 1500)), (200, Limit(12, 1500)), (WINDOW, Limit(4, 1500)))
"""Units that span lines, by their length: lists, verses, paragraphs."""

IN_CODE = 4
"""How many times as often code may repeat."""


class Loops:
    """Watches one agent's text, and what it thinks.

    Args:
        question: what the user asks.

    Attributes:
        reason: why the agent must stop; empty while its text goes on.
    """

    def __init__(self, question: str = "") -> None:
        self._question = question
        self._text, self._reasoning = Repetition(question), Repetition(question)
        self.reason = ""

    def add(self, delta: Delta) -> None:
        """Take the next piece."""
        if delta.thought:
            self._text = Repetition(self._question)
        if self._text.feed(delta.text):
            self.reason = "it repeats itself"
        elif self._reasoning.feed(delta.reasoning):
            self.reason = "it repeats itself while reasoning"

    def end_cut(self) -> None:
        """``max_tokens`` has cut the text: fewer repetitions at its end are enough."""
        if self._text.end_cut():
            self.reason = "it repeats itself"

    def before(self, text: str) -> str:
        """A text, which is the one that was watched, up to the first repetition."""
        again, end = Repetition(self._question), 0
        while end < len(text) and not again.unit:
            again.feed(text[end : end + STEP])
            end = min(end + STEP, len(text))
        again.end_cut()
        start = max(0, end - again.length)
        return text[: start + len(again.unit)].rstrip() if again.unit else text


class Repetition:
    """The end of one text. Feed it the text as it comes, until it finds a loop.

    Args:
        question: what the user asks. Where it holds all words of a loop and a number, that many repetitions are meant.

    Attributes:
        unit: what repeats, with ``#`` for the numbers of list items; empty while nothing does.
        length: characters of the loop.
    """

    def __init__(self, question: str = "") -> None:
        self.unit = ""
        self.length = 0
        self._question = question
        self._window = ""
        self._steps = 0
        self._undecided = ""
        self._unread = ""
        self._starts_line = True
        self._in_fence = False

    def feed(self, text: str) -> bool:
        """Take the next text; returns whether its end is a loop. After a loop nothing more is read."""
        if self.unit:
            return True
        self._unread += self._normal(text)
        while len(self._unread) >= STEP and not self.unit:
            step, self._unread = self._unread[:STEP], self._unread[STEP:]
            if len(_FENCE.findall(step)) % 2:
                self._in_fence = not self._in_fence
            self._window = (self._window + step)[-WINDOW:]
            self._steps += 1
            self._check(WINDOW if self._steps % FAR_STEPS == 0 else NEAR)
        return bool(self.unit)

    def end_cut(self) -> bool:
        """The text has been cut at its end; returns whether this is a loop, by lower limits."""
        if not self.unit:
            self._window = (self._window + self._unread + self._undecided)[-WINDOW:]
            self._check(WINDOW, cut=True)
        return bool(self.unit)

    def _normal(self, text: str) -> str:
        """The text without the numbers of list items; the beginning of a line may be held back until it is clear."""
        text = self._undecided + text
        start = text.rfind("\n") + 1
        end = text[start:]
        if (start or self._starts_line) and len(end) < _LONGEST_UNDECIDED and _UNDECIDED.fullmatch(end):
            text, self._undecided = text[:start], end
        else:
            self._undecided = ""
        if not text:
            return ""
        cut = 0 if self._starts_line else text.find("\n") + 1 or len(text)
        self._starts_line = text.endswith("\n")
        return text[:cut] + _NUMBER.sub(r"\1#", text[cut:])

    def _check(self, reach: int, *, cut: bool = False) -> None:
        """Look for a period of up to ``reach`` characters."""
        window = self._window
        probe, end = window[-PROBE:], len(window) - 1
        for _ in range(CANDIDATES):
            place = window.rfind(probe, max(0, len(window) - reach), end)
            if place < 0:
                return
            unit = window[place + PROBE :]
            limit = self._limit(unit).cut if cut else self._limit(unit)
            period, length = len(unit), max(limit.times * len(unit), limit.length)
            asked, times = _asked_in(self._question)
            if times > 2 and asked.issuperset(words_of(unit + unit)[1:-1]):
                length = max(length, (times + 1) * period)
            if length <= len(window) and window[period - length :] == window[-length:-period]:
                self.unit, self.length = unit, length
                return
            end = place + PROBE - 1

    def _limit(self, unit: str) -> Limit:
        lines = "\n" in unit
        if any(character.isalpha() for character in unit):
            if len(unit) <= 3 and not unit.strip().isspace() and len(unit.split()) == 1:
                limit = SHORT
            else:
                limit = next(limit for longest, limit in (LINES if lines else PHRASES) if len(unit) <= longest)
                if unspaced(unit[len(unit) // 2]):
                    limit = Limit(limit.times, limit.length // 2)
        elif digits := {character for character in unit if character.isdigit()}:
            limit = ZEROS if digits == {"0"} else ROWS if lines else DIGITS
        else:
            limit = MARKS
        if self._in_fence or _CODE.search(unit):
            return Limit(limit.times * IN_CODE, limit.length * IN_CODE)
        return limit


def _asked_in(question: str) -> tuple[frozenset[str], int]:
    """The words of a question, and the largest number in it."""
    if len(question) > 2 * QUESTION:
        question = f"{question[:QUESTION]}\n{question[-QUESTION:]}"
    return _words_and_number(question)


@lru_cache(maxsize=64)
def _words_and_number(question: str) -> tuple[frozenset[str], int]:
    numbers = re.findall(r"(?<!\d)\d{1,4}(?!\d)", question)
    return frozenset(words_of(question)), max(map(int, numbers), default=0)
