"""What must be equal in two texts that say the same: numbers, signs, operators and negations.

Similarity counts words, so it cannot see that "exit 12" and "exit 21", or "it is safe" and "it is not safe", disagree.
"""

from __future__ import annotations

import re
import unicodedata

from moa.mixture.words import unspaced

_MARKUP = "*_`"
_OPENING = '"“‘«„「『' + _MARKUP
_CLOSING = '.,;:!?…"”’»。，、！？；：」』' + _MARKUP

_DECISIVE = """
not no none never nor neither cannot without yes true false left right above below before after increase decrease increases
decreases up down more less fewer greater smaller higher lower min max minimum maximum north south east west odd even am pm
zero two three four five six seven eight nine ten eleven twelve hundred thousand million billion nicht nichts kein
keine keinen keinem keiner nie niemals ohne ne pas jamais sans nunca jamás sin não nem sem non mai senza не нет ни без
nej inte aldrig ikke aldri niet geen nooit değil hayır không لا ليس لم لن नहीं אין לא 안 못
"""
_WORDS = frozenset(_DECISIVE.split())
_CHARACTERS = re.compile(
    "[左右男女或不没沒無无非未别勿否一二三四五六七八九十百千万萬億亿两兩零〇]|ない|なかった|ません|ไม่|មិន|ບໍ່|မဟုတ်"
)
_OPPOSITE = re.compile(r"(?:dis|ill|imm|imp|in|irr|non|un)[a-z]{4,}")
"""Words that may be another one with a negating prefix: ``impossible``, ``unsafe``."""
_NUMBER = re.compile(r"[-+±$€£¥]?\d[\d.,:]*")
_KOREAN = re.compile("않|없|아니")


def plain(text: str) -> str:
    """A text without what makes no difference: case, spaces, emphasis, quotation marks, and punctuation behind words.

    ``"It is **Paris**."`` becomes ``"it is paris"``; ``"-5"``, ``"x < 3"``, ``"C++"``, ``"5!"`` and ``"1.5"`` stay.
    """
    return " ".join(_words(text))


def facts(text: str) -> list[str]:
    """The words of a text that tell two answers apart, in their order: those that hold a digit or an operator, units behind
    a number, single letters, and those that negate."""
    words = _words(text)
    behind = ["", *words]
    return [fact for before, word in zip(behind, words, strict=False) for fact in _facts_of(word, before)]


def _words(text: str) -> list[str]:
    text = unicodedata.normalize("NFC", text).casefold().replace("−", "-").replace("’", "'")
    words = (_without_marks(word) for word in text.split())
    return [word for word in words if word]


def _without_marks(word: str) -> str:
    """A word without quotation marks, emphasis and the punctuation behind it; a word of operators stays: ``*``."""
    kept = word.lstrip(_OPENING)
    while kept and kept[-1] in _CLOSING and not _counts(kept):
        kept = kept[:-1]
    return kept or (word if word == "*" else "")


def _counts(word: str) -> bool:
    """Whether the last character of a word is more than punctuation: a factorial, feet or inches."""
    return word[-1] in "!\"'" and word[-2:-1].isdigit()


def _facts_of(word: str, before: str) -> list[str]:
    if any(map(unspaced, word)):
        digits = re.findall(r"[-+]?[$€£¥]?\d+(?:[.,:/]\d+)*[%％°]?|[<>=≤≥≠+*/^]", word)
        return [*digits, *_CHARACTERS.findall(word)]
    negates = word in _WORDS or word.endswith("n't") or bool(_KOREAN.search(word) or _OPPOSITE.fullmatch(word))
    letter = len(word) == 1 and word.isalpha() and word not in "ai"
    return [word] if negates or letter or bool(_NUMBER.fullmatch(before)) or any(map(_tells, word)) else []


def _tells(character: str) -> bool:
    """Whether a character is a digit or an operator."""
    if character.isnumeric() or character in "#%&→←↑↓":
        return True
    return unicodedata.category(character) in ("Sm", "Sc") and character != "|"
