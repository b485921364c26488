"""Formulas as answers, by math-verify."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from moa.mixture.canonical import canonical, mathematics

pytest.importorskip("math_verify", reason="math-verify is not installed")


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    mathematics.math_form.cache_clear()


def test_equal_formulas_are_one_answer_and_others_are_not() -> None:
    """By their values, in any thread."""
    same = [r"\boxed{\frac{\sqrt{3}}{2}}", r"\boxed{\sqrt{3}/2}", r"\boxed{\frac{\sqrt{12}}{4}}"]
    others = [r"\boxed{2\pi}", r"\boxed{x^2+1}", r"\boxed{x^2-1}", r"\boxed{y^2+1}"]
    with ThreadPoolExecutor(4) as threads:
        forms = [*threads.map(canonical, [*same, *others])]
    assert len({form and form.key for form in forms[: len(same)]}) == 1
    assert len({form and form.key for form in forms}) == 1 + len(others)
    assert forms[0] and forms[0].kind == "math" and str(forms[0]) == r"\frac{\sqrt{3}}{2}"


def test_a_formula_with_an_integer_value_is_a_number() -> None:
    """So a model that computes agrees with one that does not."""
    assert canonical(r"\boxed{2^{10}}") == canonical("1024")


def test_without_math_verify_formulas_are_compared_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without spaces, and numbers still by value."""
    monkeypatch.setattr(mathematics, "installed", lambda: False)
    one, other = canonical(r"\boxed{\dfrac{\sqrt{3}}{2}}"), canonical(r"$\frac{ \sqrt{3} }{2}$")
    assert one and one == other and one.value == r"\frac{\sqrt{3}}{2}"
    assert canonical(r"\boxed{\frac{2}{4}}") == canonical("0.5")
