"""Instructions on the form of a reply: one reply that follows each, and one that does not."""

from __future__ import annotations

from typing import Any

import pytest

from moa.evals.tasks.checks import fault_of, passed
from moa.evals.tasks.instructions import INSTRUCTIONS, followed
from moa.evals.tasks.task import Task, task_of

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["Mom", "mother"]}, "My mom is a mother.", "My mom."),
    ("keywords:frequency", {"keyword": "war", "frequency": 2, "relation": "at least"}, "War and war.", "War."),
    ("keywords:frequency", {"keyword": "c++", "frequency": 2, "relation": "less than"}, "C++ is.", "C++ and c++."),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "Rocket science.", "We Rock!"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "#a #b", "#a"),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}, "One. Two!", "A. B? C…"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo\n***\n", "One\n\nTwo"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***One***Two", "One *** *** Two"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "Just three words.", "Only two."),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        "First.\n\n'Then, it ended.",
        "Then.\n\nFirst.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [street]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\n\nP. S. More.", "Bye. PS"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S more", "P.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n  - two", "* one\n**bold**"),
    ("detectable_format:constrained_response", {}, "Well: My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and **two**", "*one* and * *"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\na\nSECTION 2\nb",
        "SECTION 1\na",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<poem of joy>>\nOh!", "<< >>"),
    ("combination:two_responses", {}, "This\n******\nThat", "Same\n******\nSame"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Write a line."}, "write a line. Here.", "Here: Write a line."),
    (
        "startend:end_checker",
        {"end_phrase": "Any other questions?"},
        '"Yes. any other questions?"',
        "Any other questions? No.",
    ),
    ("startend:quotation", {}, ' "Quoted." ', 'Not "quoted"'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        "NASA and Esa",
        "NASA and ESA",
    ),
    ("change_case:english_capital", {}, "ALL OF IT, 1!", "ALL of it"),
    ("change_case:english_lowercase", {}, "all of it", "All of it"),
    ("punctuation:no_comma", {}, "One; two", "One, two"),
]


def _task(*instructions: dict[str, Any]) -> Task:
    return task_of({"question": "?", "check": "instructions", "answer": {"follow": [*instructions]}})


@pytest.mark.parametrize(("name", "arguments", "right", "wrong"), CASES)
def test_an_instruction_is_followed_or_not(name: str, arguments: dict[str, Any], right: str, wrong: str) -> None:
    """An empty reply follows none."""
    task = _task({"instruction": name, **arguments})
    assert fault_of(task) == ""
    assert passed(task, right)
    assert not passed(task, wrong)
    assert not followed(" ", {"instruction": name, **arguments})


def test_every_instruction_has_a_case() -> None:
    """None is left unchecked here."""
    assert {name for name, *_ in CASES} == {*INSTRUCTIONS}


def test_all_instructions_must_be_followed() -> None:
    """One that is not is enough to fail."""
    task = _task({"instruction": "punctuation:no_comma"}, {"instruction": "change_case:english_lowercase"})
    assert passed(task, "all of it")
    assert not passed(task, "all, of it")


@pytest.mark.parametrize(
    ("instruction", "problem"),
    [
        ({"instruction": "keywords:rhyme"}, "no instruction 'keywords:rhyme'"),
        ({"instruction": "punctuation:no_comma", "count": 3}, "do not suit it"),
        ({"instruction": "length_constraints:number_words", "num_words": "many"}, "do not suit it"),
    ],
)
def test_instructions_that_cannot_be_checked_are_refused(instruction: dict[str, Any], problem: str) -> None:
    """Unknown names, unknown arguments, arguments of another kind."""
    assert problem in fault_of(_task(instruction))
    assert "correct it" in fault_of(task_of({"question": "?", "check": "instructions", "answer": "no commas"}))
