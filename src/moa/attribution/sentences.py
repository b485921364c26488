"""The sentences of a text, the units of attribution.

Notable decisions:
- Markdown structure separates sentences: a heading, a list item and a table's row are sentences of their own, as is each
  sentence of a paragraph.
- Each line of code is a sentence. Programs change line by line, which whole blocks would hide.
- A line break ends a sentence, unless the line is long enough to have been wrapped and the next one starts in lower case.
- A full stop ends a sentence only before something that can start one, and not after an abbreviation.
- No sentence is longer than :data:`LONGEST`, so that a text without a stop or a space costs no more than any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 1000
"""Maximum characters of a sentence. Longer ones are cut, between words if there are any."""

WRAPPED = 50
"""Minimum characters of a line that may have been wrapped."""

_LINE = re.compile(r"[^\n\r\x0b\x0c\x85\u2028\u2029]+")
_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})(.*)")
_MARKERS = re.compile(
    r"(?:[ \t]*+(?:>|#{1,6}(?=\s)|[-*+•‣◦▪●·–—](?=\s)"
    r"|\(?(?:\d{1,3}|[A-Za-z]|[ivx]{2,4})\)(?=\s)|\d{1,3}\.(?=\s)|\[[ xX]\](?=\s)))*+"
)
_STOP = re.compile(r"(?:[.!?…؟۔।॥։።]++|([。！？｡]++))(?:[\"'”’»)\]*_`」』）】》]|\[\d{1,3}\])*+")
_SPACE = re.compile(r"\s*+")
_OPENS = re.compile(r"[\"'“‘«(\[*_`]*+")
_WORD_BEFORE = re.compile(r"[^\s(\[\"“*_]+$")
_LETTERS = re.compile(r"[^\W\d_]")
WORDED = re.compile(r"[^\W_]|[\u2190-\u2bff\U0001f000-\U0001faff]")
"""What a sentence must contain: a letter, a digit, or a symbol such as an arrow or an emoji."""

_ABBREVIATIONS = """
e.g i.e eg ie cf vs v mr mrs ms dr prof sr jr st mt nos figs eq vol ch pp p approx ca c al viz resp
lt sgt capt hon gov jan feb apr jun jul aug sep sept oct nov dec tue thu
z.b d.h u.a bzw usw nr bspw ggf bd env p.ex
"""
_AT_ENDS_TOO = re.compile(
    r"(?:[A-Za-z]\.)*[A-Za-z]|etc|inc|ltd|co|corp|ph\.d|bros|dept|univ|assn"
    r"|no|fig|sec|gen|col|rev|sen|rep|mar|mon|wed|fri|sat|sun|art|abs",
    re.IGNORECASE,
)
"""Abbreviations that may end a sentence or are also words. They end one if the next word often starts a sentence."""

_OPENERS = """
the this that these those it its he she they we you i a an in on at for from with as by if when while where what
why how who however but and so or to there here some many most all each every one no not after before since
because although though then thus also their our your his her my
"""

_NEVER_AT_ENDS, _BEGINNINGS = frozenset(_ABBREVIATIONS.split()), frozenset(_OPENERS.split())


def sentences(text: str) -> list[tuple[int, int]]:
    """The start and end of each sentence, in order: code points of ``text``, without white space or list markers around it.

    They do not overlap. Between them there is only white space, markup, or text without a letter or digit.
    """
    found: list[tuple[int, int]] = []
    for start, end, code in _blocks(text):
        for piece in [(start, end)] if code else _pieces(text, start, end):
            found.extend(_cut(text, *piece))
    return found


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Start and end of parts that no sentence crosses, and whether a part is code: lines, with wrapped lines joined."""
    fence = ""
    held: tuple[int, int] | None = None
    for line in _LINE.finditer(text):
        start, end = line.span()
        if fence:
            mark = text[start:end].strip(" \t>")
            if mark.startswith(fence) and not mark.strip(fence[0]):
                fence = ""
            else:
                yield start, end, True
            continue
        opening = _FENCE.match(text, start, end)
        plain = opening is None or ("`" in opening[1] and "`" in opening[2])
        bare = _end_of(_MARKERS, text, start, end)
        if held:
            first = text[_end_of(_SPACE, text, start, end) :][:1] if bare == start else ""
            wrapped = held[1] - held[0] >= WRAPPED and text[held[1] : start] in ("\n", "\r\n")
            if plain and wrapped and first.islower() and not _STOP.search(text, max(held[0], held[1] - 4), held[1]):
                held = held[0], end
                continue
            yield *held, False
            held = None
        if opening and not plain:
            fence = opening[1]
        elif text.startswith("|", _end_of(_SPACE, text, bare, end)):
            row = text[bare:end]
            yield bare + len(row) - len(row.lstrip(" \t|")), end - len(row) + len(row.rstrip(" \t|")), True
        else:
            held = bare, end
    if held:
        yield *held, False


def _end_of(pattern: re.Pattern[str], text: str, start: int, end: int) -> int:
    match = pattern.match(text, start, end)
    return match.end() if match else start


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence of a paragraph."""
    lower = not any(letter.isupper() for letter in text[start : min(end, start + LONGEST)])
    for stop in _STOP.finditer(text, start, end):
        if stop.start() < start:
            continue
        following = _end_of(_SPACE, text, stop.end(), end)
        if following == end:
            break
        if stop[1] is None and (following == stop.end() or not _ends(text, start, stop, following, end, lower)):
            continue
        yield start, stop.end()
        start = following
    yield start, end


def _ends(text: str, start: int, stop: re.Match[str], following: int, end: int, lower: bool) -> bool:
    """Whether a full stop followed by white space ends the sentence that began at ``start``."""
    head = _end_of(_OPENS, text, following, min(end, following + 8))
    if text[head : head + 1].islower() and not lower:
        return False
    if text[stop.start() : stop.start() + 2].strip() != "." and text[stop.start()] != ".":
        return True
    if not _LETTERS.search(text, max(start, stop.start() - 40), stop.start()):
        return stop.start() - start > 40  # a number alone numbers the text that follows
    before = _WORD_BEFORE.search(text, max(start, stop.start() - 12), stop.start())
    word = before[0].lower() if before else ""
    if word in _NEVER_AT_ENDS:
        return False
    if _AT_ENDS_TOO.fullmatch(word) and word != "i":
        next_word = re.match(r"[^\W\d_]+", text[head : head + 12])
        return not text[head : head + 1].isdigit() and (next_word is None or next_word[0].lower() in _BEGINNINGS)
    return True


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A sentence without surrounding white space, in pieces of at most :data:`LONGEST`; none without a word."""
    while start < end:
        start = _end_of(_SPACE, text, start, end)
        last = min(end, start + LONGEST)
        if last < end and not text[last].isspace():
            space = max(text.rfind(" ", start + LONGEST // 2, last), text.rfind("\n", start + LONGEST // 2, last))
            last = space if space > 0 else last
        tight = start + len(text[start:last].rstrip())
        if WORDED.search(text, start, tight):
            yield start, tight
        start = last
