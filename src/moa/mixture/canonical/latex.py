r"""LaTeX in answers: boxes, and the plain text of what needs no mathematics: ``\dfrac{1}{2}`` is ``1/2``."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BETWEEN_BOXES = re.compile(r"[\s,;$]*(?:and|or|\\text\{\s*(?:and|or)\s*\}|\\\]|\\\[|\\\)|\\\()?[\s,;$]*")
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|texttt|mathrm|mathbf|mathit|mathsf|operatorname|mbox)\s*\{([^{}]*)\}"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b|\\deg\b")
_POWER_OF_TEN = re.compile(r"\\(?:times|cdot)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))")
_NOTHING = re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?)(?![a-zA-Z])|\\[!]")
_SPACE = re.compile(r"\\[,;: ]|\\q?quad\b|~")
_WORDS = {r"\%": "%", r"\$": "$", r"\#": "#", r"\&": "&", r"\_": "_", r"\approx": "≈", "{,}": ",", r"\-": ""}
_WRAPPED = [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")]


def last_boxes(text: str) -> str | None:
    r"""What the last ``\boxed{…}`` holds; with several that only "and" or a comma separates, all of them."""
    groups: list[list[str]] = []
    ended = -1
    for start, end in _boxes(text):
        inside = text[start:end]
        if groups and _BETWEEN_BOXES.fullmatch(text, ended, text.rindex("\\", 0, start)):
            groups[-1].append(inside)
        else:
            groups.append([inside])
        ended = end + 1
    if not groups:
        return None
    last = groups[-1]
    return last[0] if len(last) == 1 or len({*map(str.strip, last)}) == 1 else ", ".join(last)


def _boxes(text: str) -> Iterator[tuple[int, int]]:
    """Where the outermost closed boxes begin and end inside."""
    at = 0
    while match := _BOX.search(text, at):
        depth, end = 1, match.end()
        while depth and end < len(text):
            character = text[end]
            if character == "\\":
                end += 1
            depth += {"{": 1, "}": -1}.get(character, 0)
            end += 1
        if depth:
            return
        yield match.end(), end - 1
        at = end


def without_delimiters(text: str) -> str:
    """The text without the signs around it that only say that it is mathematics."""
    for opening, closing in _WRAPPED:
        inside = text[len(opening) : -len(closing)].strip()
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            alone = inside and opening not in inside.replace(r"\$", "") and not inside.endswith("\\")
            return inside if alone else text
    return text


def plain_latex(text: str) -> str:
    r"""The text with simple LaTeX written plainly; other commands stay: ``\frac{1}{2}\text{ km}`` becomes ``1/2 km``."""
    if "\\" not in text and "{," not in text:
        return text
    text = _POWER_OF_TEN.sub(lambda match: f"×10^{match[1] or match[2]}", _DEGREES.sub("°", text))
    text = re.sub(r"(?<=\d)\\[,;: !](?=\d{3})", "", _NOTHING.sub("", text))
    text = _SPACE.sub(" ", _TEXT.sub(lambda match: f" {match[1]} " if match[1] != match[1].strip() else match[1], text))
    for command, plain in _WORDS.items():
        text = text.replace(command, plain)

    def fraction(match: re.Match[str]) -> str:
        whole = match.start() and text[match.start() - 1].isdigit()
        return f"{' ' if whole else ''}{match[1] or match[2]}/{match[3] or match[4]}"

    return " ".join(_FRACTION.sub(fraction, text).split())


def spaceless(text: str) -> str:
    r"""One spelling for LaTeX that is not understood: without spaces, and with ``\frac`` for ``\dfrac`` and ``\tfrac``."""
    text = re.sub(r"\\[dtc]frac", r"\\frac", _SPACE.sub("", _NOTHING.sub("", text)))
    return re.sub(r"\s+(?![a-zA-Z])|(?<![a-zA-Z])\s+", "", text.strip())


def parts_of(text: str) -> tuple[str, list[str], str] | None:
    r"""The brackets and the elements of ``(1, 2]``, ``\{1, 2\}`` or ``3 and 5``; None for a text without several elements.

    Without brackets, a space must follow each comma: ``3,5`` is one number in half of Europe.
    """
    text = text.replace(r"\{", "{").replace(r"\}", "}").strip()
    opening, closing = (text[0], text[-1]) if text[:1] in ("(", "[", "{") and text[-1:] in (")", "]", "}") else ("", "")
    inside = text[1:-1] if opening else text
    if len(text) > 500 or (opening in ("(", "[") and closing == "}") or (opening == "{" and closing != "}"):
        return None
    if not opening:
        inside = re.sub(r",?\s+and\s+", ", ", inside)
        if "," in inside and not re.fullmatch(r"[^,]+(?:, [^,]+)+", re.sub(r"(?<=\d),(?=\d{3})", "", inside)):
            return None
    elements, depth = [""], 0
    for at, character in enumerate(inside):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        separates = character in ",;" and depth == 0 and (opening or inside[at + 1 : at + 2] == " ")
        if depth < 0:
            return None
        elements[-1] += "" if separates else character
        if separates:
            elements.append("")
    elements = [element.strip() for element in elements]
    return (opening, elements, closing) if len(elements) > 1 and all(elements) else None
