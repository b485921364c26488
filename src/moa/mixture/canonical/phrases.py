"""Short phrases: case, spaces, emphasis, quotation marks and a full stop make no difference.

The case of a word of two letters counts (``CO`` and ``Co``), except for a few that every sentence has.
"""

from __future__ import annotations

import re
import unicodedata

from moa.mixture.canonical.form import Form

LONGEST = 100
"""Characters of a text that counts as a phrase without being marked as the answer."""
LONGEST_MARKED = 2000
"""Characters of an answer between marks, such as ``<answer>…</answer>``: a matrix, a list of moves."""

_SMALL = "no is it of in on to an up he we me my so do go be by as at or if am pm a i"
_FOLDED = frozenset(_SMALL.split())
_BEFORE = re.compile(r"(?:it is|it's|it’s|this is|that is|they are)\s+(?=\S)", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:the|an?)\s+(?=[^\W\d_]{3})", re.IGNORECASE)
_QUOTES = [
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("_", "_"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("“", "”"),
    ("«", "»"),
    ("「", "」"),
    ("‘", "’"),
]


def phrase_form(text: str, longest: int = LONGEST) -> Form | None:
    """The form of a short text; None where it is empty or too long to be compared."""
    text = bare(unicodedata.normalize("NFC", text))
    if not text or len(text) > longest:
        return None
    lines = [" ".join(_folded(word) for word in line.split()) for line in text.splitlines() if line.strip()]
    lines[0] = _ARTICLE.sub("", lines[0], count=1)
    return Form("text", "\n".join(lines))


def bare(text: str) -> str:
    """The text without what surrounds it: "it is", spaces, emphasis, quotation marks, and a full stop."""
    while True:
        before = text
        text = _BEFORE.sub("", text.strip(), count=1) if _BEFORE.match(text) else text.strip()
        if text[-1:] in (".", "。", "．", ",", ";") and not text.endswith("..."):
            text = text[:-1]
        for opening, closing in _QUOTES:
            inside = text[len(opening) : len(text) - len(closing)]
            around = text.startswith(opening) and text.endswith(closing)
            if around and inside and opening not in inside and closing not in inside:
                text = inside
        if text.endswith("**") and text.count("**") == 1:
            text = text[:-2]
        if text == before:
            return text


def _folded(word: str) -> str:
    letters = sum(map(str.isalpha, word))
    return word.casefold() if letters > 2 or word.casefold() in _FOLDED else word
