"""A model that replays recorded answers.

Published benchmark outputs replay through it at no cost: the same interface, the same events, the texts of the real models.
The text of the last user message is the key, so an aggregator finds its recording too, as long as its references are in
another message.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from moa.errors import CallRejected, ConfigError
from moa.messages import Delta, Request, text_of
from moa.models.scripted import Scripted


class Recorded:
    """A model with a recorded answer for each prompt; a :class:`~moa.models.Model`."""

    def __init__(
        self,
        answers: Mapping[str, str],
        *,
        name: str = "recorded/model",
        first_token: float = 0.0,
        tokens_per_second: float | None = None,
    ) -> None:
        """
        Args:
            answers: prompt -> answer.
            name: ``provider/name``.
            first_token: seconds to the first delta.
            tokens_per_second: deltas per second after the first, about a token each; None streams all at once.
        """
        self.answers = answers
        self._name = name
        self._first_token, self._tokens_per_second = first_token, tokens_per_second

    @classmethod
    def from_jsonl(
        cls,
        path: Path | str,
        *,
        prompt: str = "instruction",
        answer: str = "output",
        name: str = "recorded/model",
        first_token: float = 0.0,
        tokens_per_second: float | None = None,
    ) -> Recorded:
        """Read recordings from JSON Lines, one object a line, gzipped where the path ends in ``.gz``.

        If a prompt appears twice, the later answer counts.

        Args:
            path: the file.
            prompt: the field with the prompt.
            answer: the field with the answer.
            name, first_token, tokens_per_second: as in the constructor.

        Raises:
            ConfigError: the file cannot be read, or a line is not an object with these two strings.
        """
        answers = dict(_pairs(Path(path), prompt, answer))
        return cls(answers, name=name, first_token=first_token, tokens_per_second=tokens_per_second)

    @property
    def name(self) -> str:
        return self._name

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the recorded answer; the usage is estimated.

        Raises:
            CallRejected: there is no recorded answer for this prompt.
        """
        prompt = "" if request.last_user is None else text_of(request.messages[request.last_user])
        if prompt not in self.answers:
            beginning = " ".join(prompt[:200].split())
            raise CallRejected(self._name, f"there is no recorded answer for the prompt {_shortened(beginning)!r}")
        replay = Scripted(
            self.answers[prompt],
            name=self._name,
            first_token=self._first_token,
            tokens_per_second=self._tokens_per_second,
        )
        async with aclosing(replay.stream(request)) as deltas:
            async for delta in deltas:
                yield delta


def _shortened(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _pairs(path: Path, prompt: str, answer: str) -> Iterator[tuple[str, str]]:
    try:
        # Not splitlines(): it would also split at U+2028 and the like, which JSON strings may hold unescaped.
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _pair(line, prompt, answer, f"{path}:{number}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the recordings cannot be read: {error}") from error


def _pair(line: str, prompt: str, answer: str, where: str) -> tuple[str, str]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get(prompt), str) or not isinstance(row.get(answer), str):
        raise ConfigError(f"{where}: expected an object with the strings {prompt!r} and {answer!r}")
    return row[prompt], row[answer]
