"""Where a response states its answer. A model may reason for pages first.

The first of these that a text has is its answer:

1. the last ``<answer>…</answer>``;
2. the last ``\\boxed{…}``;
3. the last statement: ``the answer is …``, ``Answer: …``, ``#### …``, in several languages;
4. the last JSON in a code block, or the text itself where it is JSON;
5. the final line, or the whole text where it is short.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from moa.mixture.canonical.latex import last_boxes

LINES = 60
"""How many lines at the end of a text are looked through for a statement."""
LONGEST_LINE = 2000
"""How many characters at the end of a line are looked through."""
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_MARK = r"[*_`:：=\s]*"
_STATEMENT = re.compile(
    r"(?:####[ \t]*|\b(?:final |correct |right |best |my |our )*answers?\b[*_`]*(?:[ \t]*\([^()\n]{0,40}\))?[ \t]*"
    rf"(?:to [^:\n]{{1,80}}? )?(?:is|are|was|would be|must be|should be|=|→|[:：]){_MARK}"
    r"(?:simply |just |therefore |thus |clearly )?"
    rf"|\b(?:correct|right|best|final) (?:option|choice|solution|result|value|letter)\b[*_`]*[ \t]*(?:is|are|[:：=]){_MARK}"
    rf"|\bI(?:'d|’d| would)? (?:choose|pick|select|go with)\b{_MARK}"
    rf"|(?:最终)?答案\s*(?:是|为|為|[:：])\s*{_MARK}"
    rf"|\b(?:respuesta|resposta|risposta)\b(?: (?:correcta|correta|corretta|final|finale))?[*_`]*\s*(?:es|é|è|[:：]){_MARK}"
    rf"|\bréponse\b(?: (?:correcte|finale))?[*_`]*\s*(?:est|[:：]){_MARK}"
    rf"|\bAntwort\b[*_`]*\s*(?:ist|lautet|[:：]){_MARK}"
    rf"|(?:正解|答え)\s*(?:は|[:：])\s*{_MARK}|(?:정답|답)\s*(?:은|는|[:：])\s*{_MARK}|\bответ\b[*_`]*\s*[:：—-]{_MARK}|الإجابة\s*(?:هي|[:：]){_MARK})",
    re.IGNORECASE,
)
_RESULT = re.compile(
    r"\b(?:total|result|value|sum|product|difference|quotient|remainder|solution|gcd|lcm|probability|area|volume|perimeter|"
    r"average|mean|median|number of [\w ]{1,40}|next number|result of [^=\n]{1,60}) (?:is|are|equals|=)[*_`:\s]*(?=\S)",
    re.IGNORECASE,
)
_EXPLAINED = re.compile(r"[,;]?\s+(?:because|since|as|which|so|where|not)\b|[.。!]\s|[.。!]\**$|\s+[-–—(]\s*|\n")
_CORRECT = re.compile(r"(.{1,40}?) is (?:the |my )?(?:final |correct|right|best|answer)", re.IGNORECASE)
_CONCLUDES = re.compile(
    r"[*_]*(?:so|thus|therefore|hence|in total|finally)\b[,:]?\s+(?:we get |that makes )?(.+)", re.IGNORECASE
)
_FORMULA = re.compile(r"(?<!\$)\$([^$]+)\$[.*_ ]*$")
_COMPUTED = re.compile(
    r"(?:^|[^\W\d_]{2,}[,:]?\s+|[:$]\s*)[\d\s+\-*/×÷·().,^%]*[\d)%]\s*=\s*([^=<>]+)$"  # and so 3 × 6 = 18
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_EMPTY_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{\s*(?:\}|[^{}]*$)")
_FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)


class Stated(NamedTuple):
    """A text that may be an answer.

    Attributes:
        text: as the response has it.
        marked: how clearly the response marks it: between marks it may be any text, in a statement at the end of the
            response a phrase, elsewhere only what has a type: a number, a choice, a date, a formula, JSON.
    """

    text: str
    marked: str


def statements(text: str, *, complete: bool) -> Iterator[Stated]:
    """What may be the answer of a response, the clearest first. ``complete``: the response does not end early."""
    if tags := [match for match in _TAG.finditer(text) if complete or match[0].lower().endswith("</answer>")]:
        yield Stated(tags[-1][1], "marks")
    if (boxed := last_boxes(text)) is not None:
        yield Stated(boxed, "marks")
    lines = _FENCE.sub("", _EMPTY_BOX.sub("", text)).strip().splitlines()[-LINES:]
    lines = [line[-LONGEST_LINE:] for line in lines]
    if not complete:
        lines = lines[:-1]
    yield from _in_statements(lines)
    if complete:
        yield from _at_the_end(lines)


def _in_statements(lines: list[str]) -> Iterator[Stated]:
    for at in range(len(lines) - 1, -1, -1):
        for match in reversed([*_STATEMENT.finditer(lines[at])]):
            after = [lines[at][match.end() :], *lines[at + 1 :]]
            first = next((number for number, line in enumerate(after) if line.strip(" *_`")), None)
            if first is None or first > 2:
                continue
            block = after[first:]
            length = next((number for number, line in enumerate(block) if not line.strip()), len(block))
            rows = 1
            while rows < length and _is_row(block[rows]):
                rows += 1
            rest = [line for line in block[rows:] if line.strip()]
            if rows > 1:
                yield Stated("\n".join(block[:rows]), "marks")
                return
            yield Stated(block[0], "statement")
            for cut in _EXPLAINED.finditer(block[0]):
                yield Stated(block[0][: cut.start()], "statement")
            if not rest:
                yield Stated(block[0], "end")
                return


def _at_the_end(lines: list[str]) -> Iterator[Stated]:
    rows = _rows_at_the_end(lines)
    if rows > 1:
        yield Stated("\n".join(lines[-rows:]), "end")
        return
    last = lines[-1] if lines else ""
    yield Stated(last, "statement")
    if match := _CONCLUDES.match(last):
        yield Stated(match[1], "statement")
    if match := _CORRECT.match(last):
        yield Stated(match[1], "statement")
    for match in reversed([*_RESULT.finditer(last)]):
        yield Stated(last[match.end() :], "statement")
    for way in (_FORMULA, _COMPUTED):
        if match := way.search(last):
            yield Stated(match[1], "statement")
    if len(lines) == 1:
        yield Stated(last, "end")


def _rows_at_the_end(lines: list[str]) -> int:
    """How many lines at the end are rows of data that belong together: without a blank line, or all without a word."""
    rows, blank = 0, False
    for at, line in enumerate(reversed(lines), 1):
        if not line.strip():
            blank = True
        elif _is_row(line) and not (blank and rows and _WORD.search(line)):
            rows = at
        else:
            break
    return rows


def _is_row(line: str) -> bool:
    """Whether a line is a row of data, no sentence."""
    words, text = _WORD.findall(line), line.strip()
    return bool(text) and len(words) <= 3 and not text.startswith("#") and not (words and text[-1] in ".!?:")
