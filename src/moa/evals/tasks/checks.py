"""How a reply is checked against the reference answers: a table of small functions.

What makes two answers the same is the canonical form of :mod:`moa.mixture.canonical`, as in a vote. To add a check, write a
function from a reply (or a reference) to its form, and one line in :data:`CHECKS`; a check that compares no two forms gives
``passes`` instead. Nothing else knows the names.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from moa.evals.tasks import instructions, patterns
from moa.evals.tasks.task import LETTERS, Task, as_text
from moa.mixture.canonical import Form, keys
from moa.mixture.canonical import canonical as canonical_form
from moa.mixture.canonical.numbers import number_form
from moa.mixture.canonical.structures import structure_form

Forming = Callable[[str, Task, bool], Form | None]
"""The canonical form of a reply or a reference, None if it has none: of the text, the task, and whether it is complete."""

NUMBER = re.compile(r"[-−+]?[$€£¥]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?%?|[-−+]?\.\d+")
WORD = re.compile(r"[^\W_]+|[%+]")


form_of = lru_cache(256)(canonical_form)
"""Cached, as a reference is looked at to guess its check, to find faults, and for each reply."""


def _answer(text: str, task: Task, complete: bool = True) -> Form | None:
    """The final answer; the whole text where that is not found."""
    return form_of(text, complete=complete) or (Form("text", _words(text)) if _words(text) else None)


@dataclass(frozen=True, slots=True)
class Check:
    """How replies are checked.

    Attributes:
        about: what passes, in at most 60 characters.
        form: the canonical form of a text; a reply passes if its form is that of a reference, and a reference without a form
            is refused. None if references are no answers, such as patterns.
        passes: takes a reply, a reference, the task, and whether the reply is complete; replaces the comparison of forms.
        fault: what is wrong with a task, and the remedy; "" if nothing is.
        judged: a judge decides, so ``passes`` is not called.
    """

    about: str
    form: Forming | None = _answer
    passes: Callable[[str, str, Task, bool], bool] | None = None
    fault: Callable[[Task], str] = lambda task: ""
    judged: bool = False


def passed(task: Task, reply: str, *, complete: bool = True) -> bool:
    """Whether a reply passes the check of its task: whether any of the references accepts it.

    Args:
        complete: False for a reply that was cut off: only what it has clearly marked as its answer counts then.

    Raises:
        TimeoutError: the task's regular expression took too long on this reply.
    """
    check = CHECKS[task.check]
    if check.passes is not None:
        return any(check.passes(reply, reference, task, complete) for reference in task.texts)
    form = check.form or _answer
    found = form(reply, task, complete)
    return any(same(found, form(reference, task, True)) for reference in task.texts)


def canonical(task: Task, reply: str, *, complete: bool = True) -> str | None:
    """The canonical form of a reply: equal forms are the same answer. None if the reply has none."""
    form = (CHECKS[task.check].form or _answer)(reply, task, complete)
    return form and form.key


def same(one: Form | None, other: Form | None) -> bool:
    """Whether two forms are the same answer; a unit that only one of them names is no difference."""
    if one is None or other is None:
        return False
    first, second = keys([one, other])
    return first == second


def fault_of(task: Task) -> str:
    """What is wrong with a task, and the remedy; "" if replies can be checked."""
    check = CHECKS.get(task.check)
    if check is None:
        return f"no check {task.check!r}; there are {', '.join(CHECKS)}"
    if not task.answers and not (check.judged and task.rubric):
        return "no answer; give the row an answer" + (" or a rubric" if check.judged else ", or a rubric for a judge")
    if found := check.fault(task):
        return found
    for reference in task.texts:
        if check.form is not None and check.form(reference, task, True) is None:
            return f"the answer {reference[:40]!r} does not suit the check {task.check}; correct one of them"
    return ""


def guess(task: Task) -> str:
    """The check that suits the references of a task that names none."""
    texts = task.texts
    if task.rubric or not texts:
        return "judge"
    if task.options and all(_choice(text, task, True) for text in texts):
        return "choice"
    if all(isinstance(answer, int | float) and not isinstance(answer, bool) for answer in task.answers):
        return "number"
    kinds = {form.kind if (form := form_of(text)) else "text" for text in texts}
    if kinds == {"number"}:
        return "number"
    if kinds <= {"json", "call"}:
        return "json"
    if "text" not in kinds:
        return "exact"
    if any(len(text) > 100 or "\n" in text for text in texts):
        return "judge"
    return "exact" if any(len(text) < 4 for text in texts) or {*map(str.lower, texts)} <= {*ALONE} else "contains"


ALONE = ("true", "false", "yes", "no", "none", "null", "unknown")
"""References that other answers often contain, so they are compared as a whole."""


def _number(text: str, task: Task, complete: bool = True) -> Form | None:
    """The number that is the final answer, else the last number of a complete text."""
    form = form_of(text, complete=complete)
    if form is not None and form.kind == "number":
        return form
    found = NUMBER.findall(text) if complete else []
    return number_form(found[-1]) if found else None


def _number_passes(reply: str, reference: str, task: Task, complete: bool) -> bool:
    """A percent sign may be in both, or left out by one: ``50`` accepts ``50 %``, and so does ``0.5``."""
    pairs = [(reply, reference), (_without_percent(reply), _without_percent(reference))]
    forms = [(_number(found, task, complete), _number(expected, task)) for found, expected in pairs]
    if any(same(found, expected) for found, expected in forms):
        return True
    tolerance = task.fields.get("tolerance")
    if tolerance in (None, ""):
        return False
    values = [[_value(form) for form in pair] for pair in forms]
    return any(a is not None and b is not None and abs(a - b) <= Fraction(str(tolerance)) for a, b in values)


def _without_percent(text: str) -> str:
    return re.sub(r"\s?\\?(?:%|\bper ?cent\b)", "", text)


def _value(form: Form | None) -> Fraction | None:
    try:
        return Fraction(form.value) if form else None
    except ValueError:  # a spelling that could be two numbers
        return None


def _choice(text: str, task: Task, complete: bool = True) -> Form | None:
    """The letter of an option, from the letter or from the option's own text."""
    options = dict(zip(LETTERS, task.options, strict=False))
    whole = [letter for letter, option in options.items() if _words(option) == _words(text) != ""]
    if len(whole) == 1:
        return Form("choice", whole[0])
    form = canonical_form(text, options, complete=complete)
    return form if form and form.kind == "choice" else None


def _json(text: str, task: Task, complete: bool = True) -> Form | None:
    """The JSON that a text is, or ends with, or holds between its first and its last bracket."""
    form = form_of(text, complete=complete)
    if form is None or form.kind not in ("json", "call"):
        starts, ends = [text.find(each) for each in "{["], [text.rfind(each) for each in "}]"]
        form = structure_form(text[min((start for start in starts if start >= 0), default=0) : max(ends) + 1])
    return form


def _contains(reply: str, reference: str, task: Task, complete: bool) -> bool:
    return f" {_words(reference)} " in f" {_words(reply)} "


def _words(text: str) -> str:
    """The words of a text, without case, punctuation and marks of its layout."""
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _matches(reply: str, reference: str, task: Task, complete: bool) -> bool:
    return patterns.found(reference, reply)


def _follows(reply: str, reference: str, task: Task, complete: bool) -> bool:
    return all(instructions.followed(reply, each) for each in json.loads(reference)["follow"])


def _instructions_fault(task: Task) -> str:
    answer = task.answers[0]
    return instructions.fault(answer.get("follow") if isinstance(answer, dict) else None)


def _options_fault(task: Task) -> str:
    if wrong := [text for text in task.texts if _choice(text, task) is None]:
        known = f"{len(task.options)} options" if task.options else "letters"
        return f"the answer {wrong[0][:40]!r} is none of the {known}; give its letter or its text"
    return ""


def _tolerance_fault(task: Task) -> str:
    tolerance = task.fields.get("tolerance")
    try:
        wrong = tolerance not in (None, "") and Fraction(str(tolerance)) < 0
    except (ValueError, ZeroDivisionError):
        wrong = True
    return f"the tolerance {as_text(tolerance)[:20]!r} is no number from 0; correct it" if wrong else ""


def _regex_fault(task: Task) -> str:
    return next(filter(None, map(patterns.fault, task.texts)), "")


CHECKS: dict[str, Check] = {
    "exact": Check("The final answer is the reference."),
    "number": Check("The final number is the reference's.", _number, _number_passes, _tolerance_fault),
    "choice": Check("The chosen option is the reference.", _choice, fault=_options_fault),
    "contains": Check("The reply has the reference's words.", passes=_contains),
    "regex": Check("The pattern matches in the reply.", None, _matches, fault=_regex_fault),
    "json": Check("The reply's JSON equals the reference.", _json),
    "instructions": Check("The reply follows all instructions.", None, _follows, _instructions_fault),
    "judge": Check("A judge accepts it by rubric or reference.", None, judged=True),
}
"""The checks by name, as in a row's ``check``."""
