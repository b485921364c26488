"""Where words end, in any script.

Chinese, Japanese, Thai, Lao, Khmer and Burmese put no spaces between words. There, each character counts as a word of its
own; a character's combining marks belong to it.
"""

from __future__ import annotations

import re
import unicodedata

_LETTERS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
_UNSPACED = re.compile(f"[{_LETTERS}\u3000-\u303f\uff01-\uff65]")
_BEFORE_ITS_CONSONANT = re.compile("[\u0e40-\u0e44\u0ec0-\u0ec4]")
"""Vowels of Thai and Lao that are written before the consonant they follow."""

_WORDS = re.compile(
    rf"[{_LETTERS}]|(?<![\w.)])[-−+±]?[$€£¥]?\d+(?:[.,:]\d+)*%?|[^\W{_LETTERS}]+(?:\+\+|\#(?!\w))?|[<>=≤≥≠≈±×÷→←¬+^%$€£¥]"
)

LONGEST = 500
"""Characters of a word. A longer run without a space (a data URL, a flood of one sign) counts as words of this length."""


def unspaced(character: str) -> bool:
    """Whether the script of this character, a letter or a punctuation mark, puts no spaces between words."""
    return bool(_UNSPACED.match(character))


def whole_words(text: str) -> int:
    r"""How many characters of a text, which may stop anywhere, are whole words. A word is whole once another one begins.

    Spaces behind the last whole word do not count: ``"One two thr"`` has 7, ``"天空是"`` has 2, ``"One"`` none.
    """
    end = text[-LONGEST:]
    last = "" if end[-1:].isspace() else end.rsplit(None, 1)[-1] if end else ""
    if _UNSPACED.search(last):
        start = len(text) - len(last)
        for at in range(len(text) - 1, start, -1):
            if _may_break(text[at - 1], text[at]):
                return at
    if len(last) == LONGEST:
        return len(text) - 1
    return len(text[: len(text) - len(last)].rstrip())


def _may_break(one: str, other: str) -> bool:
    """Whether a word may end between these two neighbours, none of which is a space."""
    if not (unspaced(one) or unspaced(other)):
        return False
    return unicodedata.category(other)[0] != "M" and other != "\u200d" and not _BEFORE_ITS_CONSONANT.match(one)


def words_of(text: str) -> list[str]:
    """The words, numbers and operators of a text, casefolded; a number has its sign and unit: ``-5``, ``$10``, ``10%``."""
    return _WORDS.findall(text.casefold())
