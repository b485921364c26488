"""Keys that a server quotes are hidden, in whatever form."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moa.models.redaction import secrets_in, value_without_secrets, without_secrets

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60)


@pytest.mark.parametrize("before", ["", "Bearer ", "user:", "ab"])
@given(KEYS)
@example("sk-proj-0+/=zQ_\"\\'")
def test_a_key_is_hidden_in_every_form(before: str, key: str) -> None:
    """As it is, in JSON, in JSON inside JSON, in a URL, in another case, in hexadecimal digits and in base64."""
    text = before + key
    in_json = json.dumps({"error": text})
    forms = [
        text,
        in_json,
        json.dumps(in_json),
        text.upper(),
        text.encode().hex(),
        quote(text),
        quote(quote(text, safe="")),
    ]
    for form in forms:
        hidden = without_secrets(f"Incorrect key: {form} (see below)", [key])
        assert key.lower() not in hidden.lower() and key.encode().hex() not in hidden
        assert "[key]" in hidden
    encoded = [base64.b64encode(text.encode()).decode(), base64.urlsafe_b64encode(text.encode()).decode()]
    assert all(form[6:-4] not in without_secrets(form, [key]) for form in encoded)


def test_a_key_that_the_text_is_cut_in_is_hidden() -> None:
    """The first two thirds of a key are as good as the key."""
    assert without_secrets("Incorrect key: sk-0123456789abcdef0123", ["sk-0123456789abcdef0123456789"]) == (
        "Incorrect key: [key]"
    )


def test_a_short_key_hides_itself_alone() -> None:
    """Local servers get keys such as EMPTY; an error about an empty prompt keeps its words."""
    assert (
        without_secrets("the prompt is empty; the key is EMPTY", ["EMPTY"]) == "the prompt is empty; the key is [key]"
    )


def test_a_json_value_is_searched_in_texts_and_names() -> None:
    """All else stays as it is."""
    value = {"debug": [{"Bearer sk-0123456789": 1}, "x sk-0123456789 y", None, 2.5]}
    expected = {"debug": [{"Bearer [key]": 1}, "x [key] y", None, 2.5]}
    assert value_without_secrets(value, ["sk-0123456789"]) == expected
    assert value_without_secrets(value, []) is value


def test_the_keys_of_an_endpoint_are_in_its_headers_and_its_query() -> None:
    """By their names; with the forms that a URL has."""
    found = secrets_in({"X-Team": "search", "X-Api-Key": "Token abc"}, "http://x/v1?api-key=a%2Bb&version=2")
    assert found == ["abc", "a+b", "a%2Bb"]
