"""The log-probabilities of the first token, in the forms that servers use."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.evals.asking.logprobs import first_token
from moa.messages import Delta


def read(logprobs: Any) -> dict[str, float] | None:
    return first_token([Delta(text="M", extra={"logprobs": logprobs}), Delta(finish_reason="stop")])


LESS_LIKELY = [{"token": "m", "logprob": -2.4}]
TOKEN = {"token": "M", "logprob": -0.1, "top_logprobs": LESS_LIKELY}
PROBABILITIES = [{"tok_str": "M", "prob": math.exp(-0.1)}, {"tok_str": "m", "prob": math.exp(-2.4)}]


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [TOKEN]},
        {"content": [{"token": "M", "logprob": -0.1, "top_logprobs": {"M": -0.1, "m": -2.4}}]},
        [TOKEN],
        {"tokens": ["M"], "token_logprobs": [-0.1], "top_logprobs": [{"M": -0.1, "m": -2.4}]},
        {"top_logprobs": [{"M": -0.1, "m": -2.4}]},
        {"content": [{"content": "M", "probs": PROBABILITIES}]},
        {"content": [{"token": "\n", "logprob": -0.2, "top_logprobs": []}, TOKEN]},
        {"content": [{**TOKEN, "logprob": "-0.1", "top_logprobs": [*LESS_LIKELY, {"token": "x", "logprob": None}]}]},
    ],
)
def test_every_form_gives_the_candidates(logprobs: Any) -> None:
    """White space before the first word is skipped, and a candidate without a number left out."""
    assert read(logprobs) == pytest.approx({"M": -0.1, "m": -2.4})


NOTHING: list[Any] = [
    *(None, {}, [], -0.1, "x", {"content": None}, {"content": []}, {"content": [None]}),
    *({"content": [{"token": "M", "logprob": nothing}]} for nothing in (None, math.nan, "x", True, 3)),
    {"tokens": ["M"], "token_logprobs": [None]},
]


@pytest.mark.parametrize("logprobs", NOTHING)
def test_what_is_no_number_is_not_reported(logprobs: Any) -> None:
    """A server that sends null, or another form, has returned no log-probabilities."""
    assert read(logprobs) is None


def test_minus_infinity_is_a_number_that_json_can_hold() -> None:
    """Some servers send it for impossible tokens."""
    content = [{"token": "M", "logprob": 0.0, "top_logprobs": [{"token": "m", "logprob": -math.inf}]}]
    assert read({"content": content}) == {"M": 0.0, "m": -9999.0}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from(["token", "M", "content"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "token", "logprob", "top_logprobs", "tokens", "token_logprobs"]), inner
        )
    ),
    max_leaves=8,
)


@given(JSON)
def test_no_form_is_an_error(logprobs: Any) -> None:
    """Whatever a server sends, the result is nothing or finite numbers up to 0."""
    found = read(logprobs)
    assert found is None or all(-9999 <= value <= 0 for value in found.values())
