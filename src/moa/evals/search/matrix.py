"""A matrix: the recorded answers of many models to checkable questions. JSON Lines, gzipped or not, one question a line.

    {"id": "q/70", "task": "business", "question": …, "options": […], "gold": "I",
     "answers": {"openai/gpt-4o": [{"answer": "I", "correct": true, "characters": 812}, …], …}}

``answers`` has one entry per sample of a model. ``id``, ``task``, ``options`` and ``gold`` may be absent. So may everything
in a sample but ``answer`` or ``text``: a sample without a label is compared with ``gold``, and an item with neither is left
out. ``answer`` is the extracted answer, null where the model gave none. ``correct`` is a boolean or a number from 0 to 1;
without it, ``score`` is the label. ``cost`` is in US dollars, ``seconds`` is the duration of the call.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moa.errors import ConfigError

__all__ = ["Item", "Sample", "read_matrix", "write_matrix"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One recorded answer.

    Attributes:
        answer: the extracted answer; None where there is none.
        correct: from 0, wrong, to 1, right; None where nothing tells.
        characters: the length of the whole response; None where it is unknown.
        text: the whole response, where it was kept.
        score: a benchmark's own score, where it has one.
        cost: US dollars; None where the price is unknown.
        seconds: how long the call took; None where nobody measured it.
    """

    answer: str | None
    correct: float | None = None
    characters: int | None = None
    text: str | None = None
    score: float | None = None
    cost: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One question with every model's answers. ``answers`` has a list of samples by the model's name."""

    id: str
    question: str
    answers: Mapping[str, tuple[Sample, ...]]
    task: str = ""
    options: tuple[str, ...] = ()
    gold: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


_OWN = {"id", "question", "answers", "task", "options", "gold"}
_GZIP = b"\x1f\x8b"


def read_matrix(path: Path) -> list[Item]:
    """Read a file.

    Raises:
        ConfigError: it cannot be read, holds no item, or a line is not an item; the message has the line's number.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(_GZIP) else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: the matrix cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the matrix is not UTF-8; save it as JSON Lines in UTF-8") from None
    items = list(_items(path, text))
    if not items:
        raise ConfigError(f"{path}: the matrix holds no question; expected one JSON object per line")
    return items


def _items(path: Path, text: str) -> Iterator[Item]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield _item(json.loads(line), str(number))
        except (json.JSONDecodeError, _Wrong) as error:
            reason = f"not JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise ConfigError(f"{path}, line {number}: {reason}") from None


class _Wrong(Exception):
    """What is wrong with a line."""


def _item(row: object, number: str) -> Item:
    if not isinstance(row, dict) or not isinstance(row.get("answers"), dict):
        raise _Wrong('expected an object with "answers", a list of samples by model')
    options = row.get("options") or ()
    if not isinstance(options, list | tuple):
        raise _Wrong(f'"options" is {options!r:.60}; expected a list')
    return Item(
        id=str(row.get("id", number)),
        question=_text(row.get("question")) or "",
        answers={str(model): _samples(model, value) for model, value in row["answers"].items()},
        task=_text(row.get("task")) or "",
        options=tuple(_text(option) or "" for option in options),
        gold=_text(row.get("gold")),
        more={name: value for name, value in row.items() if name not in _OWN},
    )


def _samples(model: str, value: object) -> tuple[Sample, ...]:
    entries: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, dict) for entry in entries):
        raise _Wrong(f'the answers of "{model}" are {value!r:.60}; expected a list of objects with "answer"')
    return tuple(_sample(model, entry) for entry in entries)


def _sample(model: str, entry: Mapping[str, Any]) -> Sample:
    def number(name: str) -> float | None:
        value = entry.get(name)
        if value is None:
            return None
        if not isinstance(value, bool | int | float) or value != value:
            raise _Wrong(f'"{name}" of "{model}" is {value!r:.60}; expected a number')
        return float(value)

    score, correct = number("score"), number("correct")
    correct = score if correct is None else correct
    if correct is not None and not 0 <= correct <= 1:
        raise _Wrong(f'the label of "{model}" is {correct:g}; expected 0, wrong, to 1, right')
    text = _text(entry.get("text"))
    characters = number("characters")
    return Sample(
        answer=_text(entry.get("answer")),
        correct=correct,
        characters=len(text) if characters is None and text is not None else _whole(characters),
        text=text,
        score=score,
        cost=number("cost"),
        seconds=number("seconds"),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _text(value: object) -> str | None:
    """A string as it is; another JSON value in JSON; None for null."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_matrix(path: Path, items: Iterable[Item]) -> None:
    """Write a file, gzipped if its name ends in ``.gz``. The same items give the same bytes.

    Raises:
        ConfigError: the file cannot be written.
    """
    lines = "".join(json.dumps(_row(item), ensure_ascii=False) + "\n" for item in items).encode()
    try:
        path.write_bytes(gzip.compress(lines, mtime=0) if path.suffix == ".gz" else lines)
    except OSError as error:
        raise ConfigError(f"{path}: the matrix cannot be written: {error.strerror}") from None


def _row(item: Item) -> dict[str, Any]:
    row: dict[str, Any] = {"id": item.id}
    if item.task:
        row["task"] = item.task
    row["question"] = item.question
    if item.options:
        row["options"] = list(item.options)
    if item.gold is not None:
        row["gold"] = item.gold
    row |= item.more
    row["answers"] = {model: [_entry(sample) for sample in samples] for model, samples in item.answers.items()}
    return row


def _entry(sample: Sample) -> dict[str, Any]:
    entry: dict[str, Any] = {"answer": sample.answer}
    if sample.correct is not None:
        entry["correct"] = bool(sample.correct) if sample.correct in (0, 1) else sample.correct
    for name in ("score", "characters", "text", "cost", "seconds"):
        if (value := getattr(sample, name)) is not None:
            entry[name] = value
    return entry
