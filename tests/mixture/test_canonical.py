"""Canonical forms: which spellings are one answer, and which never are."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa.mixture.canonical import Form, call_form, canonical, keys, mathematics, options_of, strict_keys

QUESTION = "What is the capital of France?\nA) London\nB) Paris\nC. Rome\n(D) 12\nAnswer with a letter."
OPTIONS = options_of(QUESTION)

SAME = {
    "a number": [
        *(
            "1,234.50",
            "1234.5",
            "1.234,50",
            "The answer is 1,234.5.",
            r"\boxed{1{,}234.5}",
            "**Answer:** 1234.500",
            "１２３４.５",
        ),
        *(
            "x\n\n#### 1234.50",
            "<answer>1234.5</answer>",
            "It is 1.2345e3.",
            "So 1000 + 234.5 = 1,234.5",
            "١٢٣٤٫٥",
            "1'234.5",
        ),
    ],
    "a fraction": ["1/2", "2/4", "0.5", "½", "50%", "50 percent", r"\boxed{\frac{1}{2}}", r"$\dfrac12$", "百分之五十"],
    "a mixed fraction": ["1 1/2", "1½", r"\boxed{1\frac{1}{2}}", "3/2", "1.5"],
    "Chinese": ["答案是四十二。", "答案：42", "42", "正解は42", "Die Antwort lautet: 42"],
    "money": ["$18", "18 dollars", "The answer is $18.00.", r"\boxed{\$18}", "18 USD"],
    "a length": ["5 km", "5km", "5 kilometres", r"\boxed{5\text{ km}}", "Answer: 5 Kilometers", "Thus, 5 km."],
    "a large number": ["5 million", "5,000,000", "5e6", r"5 \times 10^6", "5 × 10⁶"],
    "a power of ten": ["1e999999999", "10e999999998"],
    "a variable": ["x = 5", r"So $x=5$.", r"\boxed{x = 5}", "x = 2 + 3 = 5"],
    "a date": [
        "March 5, 2024",
        "5th of March 2024",
        "2024-03-05",
        "05.03.2024",
        "2024年3月5日",
        "The answer is Mar 5 2024.",
    ],
    "JSON": [
        '{"a": 1, "b": [1.0, 2]}',
        '```json\n{"b":[1,2.00],"a":1e0}\n```',
        "Here:\n```\n{'b': [1, 2], 'a': 1}\n```\nEnjoy!",
    ],
    "a tool call": [
        '{"name": "get", "arguments": {"b": 1, "a": 2}}',
        '{"arguments": "{\\"a\\": 2, \\"b\\": 1}", "name": "get"}',
        '<tool_call>\n{"name": "get", "arguments": {"a": 2.0, "b": 1}}\n</tool_call>',
    ],
    "a phrase": ["Paris", "**Paris**.", "paris", 'The answer is "Paris".', r"\boxed{\text{Paris}}", "It is Paris."],
    "a list": ["3, 5", "3 and 5", r"\boxed{3} and \boxed{5}", "The answers are 3 and 5."],
    "a pair": ["(1, 2)", r"\boxed{(1,2)}", r"\boxed{\left(1, \frac{4}{2}\right)}"],
    "a set": [r"\boxed{\{1, 2\}}", r"\boxed{\{2,1\}}"],
    "rows": ["<answer>\n1 2\n3 4\n</answer>", "The grid:\n\n1  2\n3 4", "Answer:\n1 2\n3 4"],
}
DIFFERENT = [
    *("x = 6 or x = 5", "x = 5 or x = 6", "0.333...", "at least 5", "> 5", "5 °C", "5 °F", "The answer is 9? No."),
    *(
        "1.500",
        "1.5",
        "1500",
        "1.000",
        "1",
        "1000",
        "3,5",
        "3.5",
        "35",
        "-5",
        "5",
        "5!",
        "5²",
        "25",
        "5x",
        "2pi",
        "2",
        "5 or 6",
    ),
    *(
        "5, 6",
        "5, 7",
        "56",
        "5 million",
        "5 hundred",
        "5:30",
        "0x2",
        "≥ 5",
        "5 ± 1",
        "5%",
        "0.5%",
        "1/3",
        "0.333",
        "3 out of 4",
    ),
    *(
        "CO",
        "Co",
        "Dr. Smith",
        "Dr. Jones",
        "A. Smith",
        "A. Jones",
        "(A) Smith",
        "(A) Jones",
        "not 5",
        "B",
        "B or C",
        "B, C",
        "b",
    ),
    *(
        "3/5/2024",
        "2024-03-05",
        "2024-05-03",
        "Feb 30 2024",
        "Monday, March 4, 2024",
        "Tuesday, March 4, 2024",
        "[1, 2]",
        "[2, 1]",
    ),
    *(
        '{"a": 1}',
        '{"a": "1"}',
        '{"a": true}',
        '{"a": 1, "a": 2}',
        '{"a": 2}',
        '{"a": NaN}',
        '{"a": null}',
        "(1, 2)",
        "(1, 2]",
    ),
    *(
        "3x+2=5",
        "2x=5",
        "y = 5",
        "7\n0\n3",
        "5\n2\n3",
        "The primes:\n\n2\n\n3",
        "The primes:\n\n5\n\n3",
        r"\boxed{|x|}",
        r"\boxed{x}",
    ),
    *(
        "Tom has 18 more than Jane.",
        "Jane has 18 more than Tom.",
        "Tom is 18",
        "Jane is 18",
        "true",
        "false",
        "yes",
        "no",
    ),
    *(
        '{"name": "get", "arguments": {"a": 1}}',
        '{"name": "set", "arguments": {"a": 1}}',
        '{"name": "get", "arguments": {"a": 2}}',
    ),
    *(
        "9^9^9^9",
        "9^{729}",
        "9^9",
        "5 years older",
        "5 years younger",
        "5 km",
        "5 miles",
        "$5",
        "€5",
        "5 cm",
        "5 m",
        "5 M",
        "５ km²",
    ),
]


@pytest.mark.parametrize("texts", SAME.values(), ids=SAME.keys())
def test_spellings_of_one_answer_have_one_key(texts: list[str]) -> None:
    """However a model writes it, in a sentence, a box, or another script."""
    forms = [canonical(text) for text in texts]
    assert len({form and form.key for form in forms}) == 1 and forms[0] is not None, dict(
        zip(texts, forms, strict=True)
    )


def test_different_answers_never_have_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without math-verify, which takes a second to load."""
    monkeypatch.setattr(mathematics, "installed", lambda: False)
    forms = {text: canonical(text) for text in DIFFERENT}
    seen: dict[str, str] = {}
    for text, form in forms.items():
        if form:
            assert form.key not in seen, (text, seen[form.key])
            seen[form.key] = text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The answer is (B).",
            "**B**",
            r"\boxed{B}",
            r"The final answer is $\boxed{\text{(B)}}$.",
            "B",
            "b",
            "(b)",
            "B) Paris",
        ),
        *(
            "B. Paris",
            "Paris",
            "The answer is Paris",
            "Answer:\n\nB",
            "The correct option is B because it is.",
            "I choose B.",
        ),
        *(
            "A is wrong. The answer is B. A is a distractor.",
            "答案是B",
            "La respuesta correcta es B.",
            "B is the correct answer.",
        ),
        *(
            "**Final Answer: B**",
            "Some words here first, then more.\n\n(B) Paris",
            "Answer: [B]",
            "### Answer\nB",
            "paris.",
        ),
    ],
)
def test_a_choice_is_read_as_models_write_it(text: str) -> None:
    """The letter, or the text that the question lists for it."""
    assert canonical(text, OPTIONS) == Form("choice", "B")


def test_a_text_that_is_no_choice_is_none() -> None:
    """A letter that the question does not list, an article, two letters."""
    assert list(OPTIONS) == ["A", "B", "C", "D"] and OPTIONS["D"] == "12"
    for text in ("H", "A dog", "I think", "B or C", "The answer is not B", "A or B", "(C) is incorrect.", "(A) or (B)"):
        form = canonical(text, OPTIONS)
        assert form is None or form.kind == "text", text
    assert options_of("A) only one") == {} and options_of("Tell me about A. Smith and B. Jones.") != {"A": ""}


def test_a_box_comes_before_a_statement_and_the_last_of_several_counts() -> None:
    """The order is documented, so a text with two answers has one."""
    assert str(canonical(r"The answer is 4. No: \boxed{5}. The answer is 6.")) == "5"
    assert str(canonical("The answer is 4. Wait, no. The answer is 5.")) == "5"
    assert str(canonical("<answer>4</answer> or rather <answer>5</answer>")) == "5"
    assert str(canonical("</answer> The answer is 5")) == "5"
    assert str(canonical("The answer is 4</think>The answer is 5")) == "5"


@pytest.mark.parametrize(
    "text", ["", "  ", "\u200b", "**", r"\boxed{}", "words that go on " * 30, "First.\nThen this.\nI hope this helps!"]
)
def test_prose_and_emptiness_have_no_form(text: str) -> None:
    """A closing line that many models write is no answer."""
    assert canonical(text) is None


def test_a_text_that_ends_early_counts_only_with_a_marked_answer() -> None:
    """The last digits of a number may be missing."""
    assert canonical("The answer is 12", complete=False) is None
    assert str(canonical("The answer is 12.\nThis is because", complete=False)) == "12"
    assert str(canonical(r"\boxed{12} since", complete=False)) == "12"
    assert canonical(r"So \boxed{12", complete=False) is None


def test_a_unit_counts_only_where_answers_name_different_ones() -> None:
    """18 and 18 dollars agree, until somebody says euros."""
    bare, dollars, euros = canonical("18"), canonical("$18"), canonical("€20")
    merged = keys([bare, dollars, None])
    assert merged[0] == merged[1] and merged[2] is None
    assert len({*keys([bare, dollars, euros])}) == 3 == len({*strict_keys([bare, dollars, euros])})


def test_tool_calls_have_a_form_without_their_ids() -> None:
    """The order of arguments makes no difference, the order of calls does."""
    one = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1, "b": 2}'}}
    other = {"id": "2", "type": "function", "function": {"name": "f", "arguments": '{"b":2,"a":1.0}'}}
    form = call_form([one])
    assert form and form == call_form([other]) and form.value == 'f({"a": 1, "b": 2})'
    assert call_form([{"function": {"name": "f", "arguments": "{"}}]) is None and call_form([]) is None


@given(st.text())
@settings(max_examples=30)
def test_any_text_can_be_read(text: str) -> None:
    """Nothing raises, and reading a form again changes nothing for numbers."""
    for response in (text, f"The answer is {text}", rf"\boxed{{{text}}}", f"```json\n{text}\n```"):
        form = canonical(response, OPTIONS)
        if form and form.kind == "number" and not form.tag:
            assert canonical(form.value) == form


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_numbers_are_equal_exactly_if_their_values_are(value: Decimal) -> None:
    """However the digits are grouped."""
    plain, grouped, boxed = canonical(f"{value:f}"), canonical(f"{value:,f}"), canonical(rf"\boxed{{{value:f}}}")
    assert plain and plain == grouped == boxed and Decimal(plain.value) == value
    other = canonical(f"{value + Decimal('0.0001'):f}")
    assert other and other.key != plain.key


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a" * 60_000,
            "$" * 60_000,
            "\\boxed{" * 9000,
            "<tool_call>" * 6000,
            "the total is " * 5000,
            "[" * 60_000,
            "1," * 30_000,
        ),
        *(
            r"\boxed{9^{9^{9^9}}}",
            r"\boxed{((9^{999})^{999})^{999}}",
            r"\boxed{10^{10^{10}}!}",
            "答案是" + "一" * 60_000,
        ),
    ],
    ids=lambda text: text[:12],
)
def test_no_text_takes_long(text: str) -> None:
    """Not even one made to."""
    began = time.process_time()
    canonical(text)
    assert time.process_time() - began < 0.5
