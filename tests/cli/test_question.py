from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from moa.cli.question import question_of
from moa.errors import ConfigError, RequestRejected


class Input(io.TextIOWrapper):
    def __init__(self, text: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(text))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (["Why", "is", "it?"], "Why is it?"),
        ([], "from outside\n"),
        (["-"], "from outside\n"),
        (["What is this?", "-"], "What is this?\n\nfrom outside\n"),
        (["What is this?", "-", "Be brief."], "What is this?\n\nfrom outside\n\n\nBe brief."),
        (["mail", "@ann", "and", "a-b"], "mail @ann and a-b"),
    ],
)
def test_words_and_input_make_a_question(monkeypatch: pytest.MonkeyPatch, words: list[str], question: str) -> None:
    """Words are joined; a - among them, or no words at all, reads standard input."""
    monkeypatch.setattr(sys, "stdin", Input(b"from outside\n"))
    assert question_of(words) == question


def test_a_file_can_hold_the_question(tmp_path: Path) -> None:
    """@FILE is read as UTF-8; a missing, empty or binary file is an error that names it."""
    (tmp_path / "q.txt").write_text("Warum?")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert question_of([f"@{tmp_path}/q.txt"]) == "Warum?"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        question_of([f"@{tmp_path}/none"])
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        question_of([f"@{tmp_path}/bytes"])
    with pytest.raises(RequestRejected, match="is empty"):
        question_of([f"@{tmp_path}/empty"])


def test_no_question_on_a_terminal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a question on a terminal, the error says how to give one instead of waiting for input."""
    monkeypatch.setattr(sys, "stdin", Input(b"", terminal=True))
    with pytest.raises(RequestRejected, match="no question given; use moa ask"):
        question_of([])


@pytest.mark.parametrize("words", [["caf\udce9 costs?"], ["one", "\udcff"], ["-", "caf\udce9"]])
def test_words_that_are_not_utf_8_are_refused(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Bytes of the command line that are not UTF-8 are an error, as they are in a file."""
    monkeypatch.setattr(sys, "stdin", Input(b"text"))
    with pytest.raises(ConfigError, match="the question is not UTF-8 text"):
        question_of(words)
