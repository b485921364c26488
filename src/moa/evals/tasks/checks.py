"""How a reply is checked against the reference answers: a table of small functions.

To add a check, write a function from a reply (or a reference) to its canonical form, and one line in :data:`CHECKS`; a check
that is no comparison of two forms gives ``passes`` instead. Nothing else knows the names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from moa.evals.tasks import forms, instructions, patterns
from moa.evals.tasks.task import LETTERS, Task, as_text

Form = Callable[[str, Task], str | None]
"""The canonical form of a reply or a reference; None if the text has none."""


def _words(text: str, task: Task) -> str | None:
    return forms.words(text) or None


@dataclass(frozen=True, slots=True)
class Check:
    """How replies are checked.

    Attributes:
        about: what passes, in at most 60 characters.
        form: the canonical form of a text; a reply passes if its form is that of a reference, and a reference without a form
            is refused. None if references are no answers, such as patterns.
        passes: takes a reply, a reference and the task; replaces the comparison of forms.
        fault: what is wrong with a task, and the remedy; "" if nothing is.
        judged: a judge decides, so ``passes`` is not called.
    """

    about: str
    form: Form | None = _words
    passes: Callable[[str, str, Task], bool] | None = None
    fault: Callable[[Task], str] = lambda task: ""
    judged: bool = False


def passed(task: Task, reply: str) -> bool:
    """Whether a reply passes the check of its task: whether any of the references accepts it.

    Raises:
        TimeoutError: the task's regular expression took too long on this reply.
    """
    check = CHECKS[task.check]
    if check.passes is not None:
        return any(check.passes(reply, reference, task) for reference in task.texts)
    form = check.form or _words
    return form(reply, task) in {form(reference, task) for reference in task.texts} - {None}


def canonical(task: Task, reply: str) -> str | None:
    """The canonical form of a reply: equal forms are the same answer. None if the reply has none."""
    return (CHECKS[task.check].form or _words)(reply, task)


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
        if check.form is not None and check.form(reference, task) is None:
            return f"the answer {reference[:40]!r} does not suit the check {task.check}; correct one of them"
    return ""


def guess(task: Task) -> str:
    """The check that suits the references of a task that names none."""
    texts = task.texts
    if task.rubric or not texts:
        return "judge"
    if task.options and all(_choice(text, task) for text in texts):
        return "choice"
    if all(forms.plain_number(text) for text in texts):
        return "number"
    if any(isinstance(answer, dict | list) for answer in task.answers) or all(_is_object(text) for text in texts):
        return "json"
    if any(len(text) > 100 or "\n" in text for text in texts):
        return "judge"
    return "exact" if any(len(text) < 4 for text in texts) or {*map(str.lower, texts)} <= {*WORDS} else "contains"


WORDS = ("true", "false", "yes", "no", "none", "null", "unknown")
"""References that other answers often contain, so they are compared as a whole."""


def _number(text: str, task: Task) -> str | None:
    return forms.number(text)


def _number_passes(reply: str, reference: str, task: Task) -> bool:
    found, expected = forms.number(reply), forms.number(reference)
    if found is None or expected is None:
        return False
    tolerance = task.fields.get("tolerance")
    if tolerance in (None, ""):
        return found == expected
    return math.isclose(float(found), float(expected), rel_tol=0, abs_tol=float(str(tolerance)))


def _choice(text: str, task: Task) -> str | None:
    """The letter of an option, from the letter or from the option's own text."""
    for letter, option in zip(LETTERS, task.options, strict=False):
        if forms.words(option) == forms.words(text):
            return letter
    chosen = forms.choice(text)
    return chosen if chosen and (not task.options or chosen in LETTERS[: len(task.options)]) else None


def _json(text: str, task: Task) -> str | None:
    return forms.json_form(text)


def _is_object(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[") and forms.json_form(text) is not None


def _contains(reply: str, reference: str, task: Task) -> bool:
    return f" {forms.words(reference)} " in f" {forms.words(reply, whole=True)} "


def _matches(reply: str, reference: str, task: Task) -> bool:
    return patterns.found(reference, reply)


def _options_fault(task: Task) -> str:
    if wrong := [text for text in task.texts if _choice(text, task) is None]:
        known = f"{len(task.options)} options" if task.options else "letters"
        return f"the answer {wrong[0][:40]!r} is none of the {known}; give its letter or its text"
    return ""


def _tolerance_fault(task: Task) -> str:
    tolerance = task.fields.get("tolerance")
    try:
        wrong = tolerance not in (None, "") and not float(str(tolerance)) >= 0
    except ValueError:
        wrong = True
    return f"the tolerance {as_text(tolerance)[:20]!r} is no number from 0; correct it" if wrong else ""


def _follows(reply: str, reference: str, task: Task) -> bool:
    return all(instructions.followed(reply, each) for each in json.loads(reference)["follow"])


def _instructions_fault(task: Task) -> str:
    answer = task.answers[0]
    return instructions.fault(answer.get("follow") if isinstance(answer, dict) else None)


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
