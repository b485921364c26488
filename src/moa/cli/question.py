"""The question of ``moa ask``: from the command line, a file, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from moa.errors import ConfigError, RequestRejected


def question_of(words: Sequence[str]) -> str:
    """The question: the words, in which ``-`` stands for standard input; the content of ``@file``; or standard input alone.

    Raises:
        ConfigError: the file or the input cannot be read, or the question is not UTF-8.
        RequestRejected: the question is empty.
    """
    if len(words) == 1 and words[0].startswith("@") and len(words[0]) > 1:
        question, place = _text_of_file(Path(words[0][1:]).expanduser()), f"the file {words[0][1:]!r} is empty"
    elif not words or "-" in words:
        question, place = _with_input(words), "the question is empty: standard input has no text"
    else:
        question, place = " ".join(words), "the question is empty"
    check_unicode(question, "the question")
    if not question.strip():
        raise RequestRejected(place)
    return question


def _with_input(words: Sequence[str]) -> str:
    if not words and sys.stdin.isatty():
        raise RequestRejected('no question given; use moa ask "…", moa ask @FILE, or pipe the question into moa ask')
    piped = _text(sys.stdin.buffer.read(), "standard input")
    at = [*words].index("-") if words else 0
    parts = (" ".join(words[:at]), piped, " ".join(words[at + 1 :]))
    return "\n\n".join(part for part in parts if part.strip())


def _text_of_file(path: Path) -> str:
    try:
        return _text(path.read_bytes(), f"the file {str(path)!r}")
    except OSError as error:
        raise ConfigError(f"the file {str(path)!r} cannot be read: {error.strerror}") from None


def check_unicode(text: str, where: str) -> None:
    """Refuse text that was not UTF-8: Python passes such bytes of the command line on as halves of surrogate pairs.

    Raises:
        ConfigError: the text cannot be encoded.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text (character {error.start + 1})") from None


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text (byte {error.start})") from None
