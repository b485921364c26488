"""The form of an answer that is compared: two answers are the same exactly if their keys are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Form(NamedTuple):
    """A canonical answer.

    Attributes:
        kind: ``number``, ``choice``, ``date``, ``json``, ``call``, ``math`` or ``text``.
        value: what is compared, together with the kind and the tag.
        tag: what some models write beside the value and others leave out: a unit, a variable's name, an option's text.
        shown: the answer for a reader; the value where it is empty.
    """

    kind: str
    value: str
    tag: str = ""
    shown: str = ""

    @property
    def key(self) -> str:
        """Equal for equal answers."""
        return f"{self.kind}:{self.value}\n{self.tag}" if self.tag else f"{self.kind}:{self.value}"

    def __str__(self) -> str:
        text = self.shown or self.value
        if self.tag.endswith("=") or self.tag in ("$", "€", "£", "¥", "₹"):
            return f"{self.tag}{text}"
        return f"{text} {self.tag}".rstrip()


def keys(forms: Sequence[Form | None]) -> list[str | None]:
    """The keys of answers to one question.

    An answer without a tag counts as the tagged one of the same kind where all tags are the same: with ``18`` and ``18 USD``
    nobody disagrees about the unit, with ``18``, ``18 USD`` and ``20 EUR`` somebody does.
    """
    tags: dict[str, set[str]] = {}
    for form in forms:
        if form and form.tag:
            tags.setdefault(_scope(form), set()).add(form.tag)
    found: list[str | None] = []
    for form in forms:
        known = tags.get(_scope(form), set()) if form and not form.tag else set()
        found.append(form and (form._replace(tag=next(iter(known))) if len(known) == 1 else form).key)
    return found


def strict_keys(forms: Sequence[Form | None]) -> list[str | None]:
    """The keys of answers where every tag counts."""
    return [form and form.key for form in forms]


def _scope(form: Form) -> str:
    """Which answers share their tags: numbers and formulas all do, an option's text belongs to its letter."""
    return f"choice {form.value}" if form.kind == "choice" else "math" if form.kind in ("number", "math") else form.kind
