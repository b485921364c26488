"""Canonical forms of answers: what makes two differently written answers the same, and two different ones never.

    >>> str(canonical("3 boxes hold 12 eggs each, so 3 × 12 = 36. The answer is **36 eggs**."))
    '36 egg'
    >>> canonical("x = 1,234.50").key == canonical(r"\\boxed{x=1234.5}").key
    True

Where in doubt, two answers differ: a vote that is split costs a little, a vote for what nobody said costs the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from moa.answers import is_blank
from moa.mixture.canonical.choices import choice_form, options_of
from moa.mixture.canonical.dates import date_form
from moa.mixture.canonical.extraction import Stated, statements
from moa.mixture.canonical.form import Form, keys, strict_keys
from moa.mixture.canonical.latex import parts_of, plain_latex, spaceless, without_delimiters
from moa.mixture.canonical.mathematics import math_form
from moa.mixture.canonical.numbers import number_form
from moa.mixture.canonical.phrases import LONGEST_MARKED, bare, phrase_form
from moa.mixture.canonical.structures import call_form, last_fenced, structure_form, tagged_calls_form

__all__ = ["Form", "call_form", "canonical", "keys", "options_of", "strict_keys"]

LONGEST = 50_000
"""Characters at the end of a response that are looked at."""

_VARIABLE = re.compile(
    r"(\\?[A-Za-z](?:_\{?\w{1,8}\}?)?|[a-zA-Z]\([a-zA-Z]\)|\\[a-z]{2,8})\s*=(?!=)\s*(\S.*)", re.DOTALL
)
_CALCULATION = re.compile(r"[\d\s+\-*/×÷·().,^]+=(?!=)([^=<>]+)")


def canonical(text: str, options: Mapping[str, str] | None = None, *, complete: bool = True) -> Form | None:
    """The answer that a response gives, in its canonical form; None where it gives none that can be compared.

    Args:
        options: what the question lists by letter; see :func:`options_of`.
        complete: False for a response that ends early: only what it has clearly marked counts then.
    """
    text = text[-LONGEST:].rpartition("</think>")[2].strip()
    options = options or {}
    if is_blank(text):
        return None
    if complete and (form := structure_form(text) or tagged_calls_form(text)):
        return form
    fenced = last_fenced(text)
    for stated in statements(text, complete=complete):
        if fenced and stated.marked != "marks":
            break
        if form := _form(stated, options):
            return form
    return structure_form(fenced) if fenced else None


def _form(stated: Stated, options: Mapping[str, str]) -> Form | None:
    """The form of a text that a response states as its answer."""
    text = bare(without_delimiters(bare(stated.text)))
    if typed := _typed(text, options):
        return typed
    if stated.marked == "statement":
        return None
    phrase = (
        phrase_form(plain_latex(text), LONGEST_MARKED) if stated.marked == "marks" else phrase_form(plain_latex(text))
    )
    return _option(phrase, options) or phrase if phrase else None


def _typed(text: str, options: Mapping[str, str]) -> Form | None:
    """The form of a text that is a number, a choice, a date, a formula, a list of these, or JSON."""
    if structure := structure_form(text):
        return structure
    plain = bare(plain_latex(text))
    if form := choice_form(plain, options) or date_form(plain) or number_form(plain):
        return _option(form, options) or form
    if match := _VARIABLE.fullmatch(plain):
        computed, _, last = match[2].rpartition("=")
        value = None if re.search("[^\\W\\d_]", computed) else _typed(bare(last), {})  # x = 5 or x = 6 is no number
        if value and value.kind in ("number", "math") and not value.tag:
            return value._replace(tag=f"{match[1]}=", shown=value.shown or value.value)
        return None
    if match := _CALCULATION.fullmatch(plain):
        return _typed(bare(match[1]), {})
    if parts := parts_of(plain):
        return _sequence(*parts)
    if "\\" in plain or "^" in plain:
        written = Form("math", spaceless(plain)) if "\\" in plain and len(plain) <= LONGEST_MARKED else None
        return math_form(plain) or written
    return None


def _sequence(opening: str, elements: list[str], closing: str) -> Form | None:
    """The form of a list, a tuple, an interval or a set whose elements all have a type."""
    forms = [_typed(bare(without_delimiters(element)), {}) for element in elements]
    known = [form for form in forms if form]
    if len(known) < len(forms) or any(form.kind in ("json", "call", "list") for form in known):
        return None
    if opening == "{":
        known = sorted(set(known))
    values = [form.key.replace("\n", " ") for form in known]
    return Form(
        "list", f"{opening}{', '.join(values)}{closing}", shown=f"{opening}{', '.join(map(str, known))}{closing}"
    )


def _option(form: Form, options: Mapping[str, str]) -> Form | None:
    """The letter of the only option that says the same."""
    if form.kind == "choice":
        return None
    same = [
        letter
        for letter, option in options.items()
        if (other := number_form(bare(option)) or date_form(bare(option)) or phrase_form(option))
        and other.key == form.key
    ]
    return Form("choice", same[0]) if len(same) == 1 else None
