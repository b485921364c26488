"""A question with the reference answers that a reply is checked against, made from one row of a file.

Notable decisions:
- The names of fields are read without regard to case, and common synonyms are known: spreadsheets spell them freely.
- A cell of a CSV file holds a list as JSON (``["a", "b"]``), or, for options and tags, separated by ``|`` or by lines.
- A row without an ``id`` is known by a digest of its question and options, so that rows may be added, removed and sorted
  between two measurements, and two systems are still compared on the same questions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moa.errors import RequestRejected
from moa.evals.asking.data import Row
from moa.messages import Message, Request

LETTERS = "ABCDEFGHIJ"
ENDING = "End with a line of this form: Answer: LETTER"
"""What a question with options asks for, so that the choice can be read from the reply."""

SYNONYMS = {
    "question": ("question", "prompt", "input"),
    "answer": ("answer", "answers", "expected", "target", "reference"),
    "options": ("options", "choices"),
    "tags": ("tags", "tag", "category", "categories"),
}


class BadRow(Exception):
    """A row that cannot be used: what is wrong with it, and the remedy."""


@dataclass(frozen=True, slots=True)
class Task:
    """A question and how replies to it are checked.

    Attributes:
        id: unique in its file.
        messages: the conversation that is sent, the options included.
        check: a name in :data:`moa.evals.tasks.checks.CHECKS`.
        answers: the reference answers: any of them is right.
        options: the options of a choice, in their order: ``A`` is the first.
        rubric: what a judge looks for.
        tags: the groups whose scores are reported.
        guessed: whether the row left the check to the program.
        fields: the row's other fields, for checks that need them.
    """

    id: str
    messages: tuple[Message, ...]
    check: str = ""
    answers: tuple[Any, ...] = ()
    options: tuple[str, ...] = ()
    rubric: str = ""
    tags: tuple[str, ...] = ()
    guessed: bool = False
    fields: Row = field(default_factory=dict)

    @property
    def question(self) -> str:
        """The text of the last user message."""
        return Request.of(self.messages).question

    @property
    def texts(self) -> tuple[str, ...]:
        """The reference answers as texts."""
        return tuple(as_text(answer) for answer in self.answers)


def task_of(row: Row) -> Task:
    """The task of a row, whose check is "" if the row names none.

    Raises:
        BadRow: the row has no question, no valid conversation, or fields of the wrong kind.
    """
    fields = {str(name).strip().lower(): value for name, value in row.items()}
    options = _options(fields)
    messages = _messages(fields, options)
    identity = _taken(fields, ("id",))
    if identity is None or not str(identity).strip():
        content = json.dumps([messages, options], ensure_ascii=False, sort_keys=True, default=str)
        identity = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    check = str(_taken(fields, ("check",)) or "").strip().lower()
    answer, rubric = _taken(fields, SYNONYMS["answer"]), str(_taken(fields, ("rubric",)) or "").strip()
    tags = tuple(as_text(tag) for tag in _listed(_taken(fields, SYNONYMS["tags"]), "tags", "|;,"))
    return Task(
        str(identity).strip(),
        tuple(messages),
        check,
        _answers(answer, check),
        tuple(options),
        rubric,
        tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip())),
        fields=fields,
    )


def as_text(value: object) -> str:
    """A JSON value as text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _taken(fields: dict[str, Any], names: Sequence[str]) -> Any:
    """The first of these fields that is set; it is removed from the others."""
    found = None
    for name in names:
        value = fields.pop(name, None) if found is None else None
        found = value if value not in (None, "") else found
    return found


def _messages(fields: dict[str, Any], options: Sequence[str]) -> list[Message]:
    given = _taken(fields, ("messages",))
    if isinstance(given, str):
        given = _json(given)
        if not isinstance(given, list):
            raise BadRow("messages is a text; write a list of messages as JSON, or put the text under question")
    question = _taken(fields, SYNONYMS["question"])
    if given is None:
        if question is None:
            raise BadRow("no question; name a column question, prompt or messages")
        if not isinstance(question, str):
            raise BadRow(f"the question is {as_text(question)[:40]}, not a text; put it in quotes")
        given = [{"role": "user", "content": question}]
    try:
        request = Request.of(given)
    except RequestRejected as error:
        raise BadRow(f"{error}; correct the messages") from None
    messages = request.messages
    if request.last_user != len(messages) - 1:
        raise BadRow("the last message is not the user's; end messages with the question")
    if not request.question.strip():
        raise BadRow("the question is empty; write one, or remove the row")
    if options:
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
        messages[-1] = _extended(messages[-1], f"{listed}\n\n{ENDING}")
    return messages


def _extended(message: Message, text: str) -> Message:
    """The message with a further paragraph; its images stay."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": f"{content.rstrip()}\n\n{text}"}
    return {**message, "content": [*content, {"type": "text", "text": text}]}


def _options(fields: dict[str, Any]) -> list[str]:
    given = _taken(fields, SYNONYMS["options"])
    if given is None and {"a", "b"} <= fields.keys():
        given = [fields.pop(name) for name in "abcdefghij" if fields.get(name) not in (None, "")]
    if isinstance(given, str) and (parsed := _json(given)) is not None:
        given = parsed
    if isinstance(given, Mapping):
        labels = [str(label).strip(" .)(").upper() for label in given]
        if labels != [*LETTERS[: len(labels)]]:
            raise BadRow(f"the options are named {', '.join(labels)}; name them A, B, C, …, or give a list")
        given = [*given.values()]
    options = [as_text(option).strip() for option in _listed(given, "options", "|")]
    if given is not None and not 2 <= len(options) <= len(LETTERS):
        raise BadRow(f"options has {len(options)} entries; give 2 to {len(LETTERS)} as a list, or separated by |")
    return options


def _answers(given: object, check: str) -> tuple[Any, ...]:
    if isinstance(given, str):
        given = given.strip()
        parsed = _json(given) if given.startswith("[") and check not in ("json", "regex", "exact") else None
        if isinstance(parsed, list) and all(isinstance(one, str | int | float) for one in parsed):
            given = parsed
    if isinstance(given, Mapping) and isinstance(given.get("text"), list):
        given = given["text"]
    several = isinstance(given, list) and check != "json"
    answers = given if isinstance(given, list) and several else [given]
    return tuple(answer for answer in answers if answer is not None and answer != "")


def _listed(value: object, name: str, separators: str) -> list[Any]:
    """A list, or the list in a text: as JSON, by lines, or by the first of these separators that it has."""
    if value is None:
        return []
    if isinstance(value, str):
        parsed = _json(value)
        if isinstance(parsed, list):
            return parsed
        separator = next((each for each in f"\n{separators}" if each in value), None)
        return value.split(separator) if separator else [value]
    if isinstance(value, list | tuple):
        return [*value]
    if isinstance(value, int | float):
        return [value]
    raise BadRow(f"{name} is {as_text(value)[:40]}; give a list of texts")


def _json(text: str) -> Any:
    """The list or object that a text holds as JSON; None for anything else."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
