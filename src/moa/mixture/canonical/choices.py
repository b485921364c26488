"""Choices, A to J: ``(B)``, ``B) Paris``, ``Option B``, and ``Paris`` where the question lists it as B."""

from __future__ import annotations

import re
from collections.abc import Mapping

from moa.mixture.canonical.form import Form

_OPTION = re.compile(r"(?:^|(?<=\s))(?:\*\*)?\(?([A-J])(?:\*\*)?[).:](?:\*\*)?[ \t]+(?=\S)", re.MULTILINE)
_WORD = r"(?:(?:the |my )?(?:final |correct |best |right )?(?:option|choice|answer|letter)\s*:?\s*)?"
_ALONE = re.compile(rf"{_WORD}[(\[]?([A-J])[)\]]?[.):]?", re.IGNORECASE)
_LABELLED = re.compile(rf"{_WORD}(?:[(\[]([A-J])[)\]]|([A-J])(\)|[.:]))\s*(\S.*)", re.IGNORECASE | re.DOTALL)
_SAYS_MORE = re.compile(
    r"(?:is|isn['’]t|are|was|can|can['’]t|cannot|could|would|seems|looks|and|or|nor|not|but|vs|versus|to|through)\b|[^\w\s]",
    re.IGNORECASE,
)
"""What begins a sentence about an option, or names another one."""
_SEVERAL = re.compile(r"\(?[A-J]\)?(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*)\(?[A-J]\)?)+")


def options_of(question: str) -> dict[str, str]:
    """The options that a question lists, by letter: the last list in it that begins with A and has at least two."""
    found: dict[str, str] = {}
    best: dict[str, str] = {}
    marks = [*_OPTION.finditer(question)]
    for at, mark in enumerate(marks):
        letter = mark[1]
        if letter == "A":
            found = {}
        elif letter != chr(ord("A") + len(found)):
            continue
        end = marks[at + 1].start() if at + 1 < len(marks) else len(question)
        found[letter] = " ".join(question[mark.end() : end].partition("\n")[0].split())
        if len(found) > 1:
            best = found
    return best


def choice_form(text: str, options: Mapping[str, str]) -> Form | None:
    """The form of a text that is a choice; None for any other text.

    Where the question lists no options, small letters and letters before a full stop are no choices (``b``, ``A. Smith``),
    and the text behind a letter belongs to the answer, since models may number differently.
    """
    if _SEVERAL.fullmatch(text):
        letters = sorted({*re.findall("[A-J]", text)})
        return Form("choice", ", ".join(letters)) if not options or options.keys() >= {*letters} else None
    alone = _ALONE.fullmatch(text)
    if alone:
        clear = alone[1].isupper() or text.startswith(("(", "[")) or bool(options)
        return _choice(alone[1], options) if clear else None
    labelled = _LABELLED.fullmatch(text)
    if labelled and _SAYS_MORE.match(labelled[4]):
        return None
    if labelled and (options or labelled[1] or labelled[3] == ")"):
        form = _choice(labelled[1] or labelled[2], options)
        return form if options or not form else form._replace(tag=" ".join(labelled[4].casefold().split()).rstrip("."))
    return None


def _choice(letter: str, options: Mapping[str, str]) -> Form | None:
    letter = letter.upper()
    return Form("choice", letter) if not options or letter in options else None
