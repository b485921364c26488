"""Replies against references, by every check."""

from __future__ import annotations

import pytest

from moa.evals.tasks import patterns
from moa.evals.tasks.checks import CHECKS, canonical, fault_of, guess, passed
from moa.evals.tasks.task import task_of

CASES = [
    ("exact", "Paris", "The answer is Paris.", "The answer is Lyon."),
    ("exact", True, "true", "False"),
    ("number", 1200, "So it costs $1,200.", "So it costs $1,300."),
    ("number", "0.50", "Answer: .5", "Answer: 5"),
    ("exact", "5 March 2024", "The answer is 2024-03-05.", "The answer is May 5, 2024."),
    ("exact", r"\frac{\sqrt{2}}{2}", r"\boxed{\dfrac{\sqrt{2}}{2}}", r"\boxed{\sqrt{2}}"),
    ("number", "18 dollars", "She makes $18 every day.", "She makes 19 dollars."),
    ("number", 50, "It is 50 %.", "It is 5 %."),
    ("number", "50%", "Half of them, so 0.5", "5"),
    ("number", "1/2", r"\boxed{\frac{1}{2}}", "1 or 2"),
    ("choice", "B", "I think B.\nAnswer: B", "A or B?\nAnswer: A"),
    ("contains", "New York", "It is new york, of course", "It is New Yorkshire"),
    ("contains", ["Paris", "Lutetia"], "Once called Lutetia.", "Rome"),
    ("regex", r"^\d{3}-\d{4}$", "555-1234", "55-1234"),
    ("json", {"a": [1, 2]}, 'Here:\n```json\n{"a": [1,\n2]}\n```', '{"a": [2, 1]}'),
    ("json", [1, 2], "[1, 2]", "[1]"),
]


@pytest.mark.parametrize(("check", "answer", "right", "wrong"), CASES)
def test_a_right_reply_passes_and_a_wrong_one_does_not(check: str, answer: object, right: str, wrong: str) -> None:
    """Whatever the reply says around its answer."""
    task = task_of({"question": "?", "answer": answer, "check": check})
    assert fault_of(task) == ""
    assert passed(task, right)
    assert not passed(task, wrong)
    assert not passed(task, "")


def test_a_reply_that_was_cut_off_counts_if_it_has_marked_its_answer() -> None:
    """A number in the middle of a calculation is no answer."""
    task = task_of({"question": "?", "answer": 6, "check": "number"})
    assert passed(task, "2 and 4 makes 6")
    assert not passed(task, "2 and 4 makes 6", complete=False)
    assert passed(task, r"\boxed{6}, since 2 +", complete=False)


def test_a_number_may_be_off_by_the_tolerance() -> None:
    """The row's own tolerance is absolute."""
    task = task_of({"question": "Pi?", "answer": 3.14159, "check": "number", "tolerance": "0.01"})
    assert passed(task, "About 3.14.")
    assert not passed(task, "About 3.")


def test_a_choice_is_a_letter_or_the_text_of_its_option() -> None:
    """Of the reference and of the reply; equal choices have one canonical form."""
    task = task_of({"question": "Which?", "options": ["green", "red"], "answer": "red", "check": "choice"})
    for reply in ("B", "(B)", "Answer: B", "red", "The answer is red."):
        assert passed(task, reply), reply
        assert canonical(task, reply) == "choice:B"
    assert not passed(task, "Answer: C")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"answer": 4}, "number"),
        ({"answer": ["1,000", "1000"]}, "number"),
        ({"answer": "B", "options": ["x", "y"]}, "choice"),
        ({"answer": "z", "options": ["x", "y"]}, "exact"),
        ({"answer": {"a": 1}}, "json"),
        ({"answer": '{"a": 1}'}, "json"),
        ({"answer": "Paris"}, "contains"),
        ({"answer": "yes"}, "exact"),
        ({"answer": False}, "exact"),
        ({"answer": "One sentence. " * 9}, "judge"),
        ({"rubric": "Is it polite?", "answer": "4"}, "judge"),
        ({}, "judge"),
    ],
)
def test_the_check_is_guessed_from_the_references(row: dict[str, object], expected: str) -> None:
    """A judge is guessed only where no text could be compared."""
    assert guess(task_of({"question": "?", **row})) == expected


def test_descriptions_fit_their_column() -> None:
    """Each check says what passes in at most 60 characters."""
    assert all(len(check.about) <= 60 for check in CHECKS.values())


def test_a_pattern_that_takes_too_long_on_a_reply_ends() -> None:
    """The search stops after its time limit with an error, which is no verdict."""
    task = task_of({"question": "?", "answer": r"(\w+\s?)*$", "check": "regex"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "SECONDS", 0.05)
        with pytest.raises(TimeoutError):
            passed(task, "a" * 5000 + "\0")
