"""A row of the input: its request, its ID, and the columns that pass through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa.batch.rows import Raw, Row, id_key


def row(value: Any, number: int = 7) -> Row:
    line = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Row.of(Raw(number, line))


def body(value: Any) -> Any:
    request = row(value).request
    assert request
    return request.body


ASKED = [{"role": "user", "content": "Why?"}]


def test_a_prompt_a_conversation_and_a_body_ask_the_same() -> None:
    """A row has a prompt, messages, or a whole Chat Completions body."""
    openai = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    for value in (
        {"prompt": "Why?"},
        {"messages": ASKED},
        {"messages": json.dumps(ASKED)},
        {"body": {"model": "gpt-4o", "messages": ASKED, "stream": True}},
        {**openai, "body": {"model": "gpt-4o", "messages": ASKED}},
    ):
        assert body(value) == {"messages": ASKED}, value


def test_sampling_beside_messages_belongs_to_the_request_and_other_columns_pass_through() -> None:
    """``temperature`` is of the request; ``topic`` and ``user`` are columns of the user's own."""
    asked = row({"messages": ASKED, "temperature": 0, "topic": "sky", "user": "ann", "model": "x"})
    assert asked.request
    assert asked.request.body == {"messages": ASKED, "temperature": 0}
    assert asked.columns == {"topic": "sky", "user": "ann", "model": "x"}


@pytest.mark.parametrize(
    ("value", "identity"),
    [
        ({"id": "a"}, "a"),
        ({"id": 3}, 3),
        ({"id": "3"}, "3"),
        ({"id": None}, 7),
        ({"id": ""}, 7),
        ({}, 7),
        ({"custom_id": "c", "id": "a"}, "c"),
    ],
)
def test_an_id_or_else_the_number_names_the_row(value: Any, identity: object) -> None:
    """Texts and whole numbers are IDs, and keep their type."""
    assert row({**value, "prompt": "Why?"}).id == identity


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"prompt": NaN}', "not JSON"),
        ([1], "expected an object"),
        ({}, "no 'prompt', 'messages' or 'body'"),
        ({"prompt": 3}, "'prompt' is 3"),
        ({"prompt": " "}, "empty"),
        ({"messages": []}, "at least one message"),
        ({"messages": "[{"}, "not JSON"),
        ({"body": "x"}, "not JSON"),
        ({"body": 1}, "expected a Chat Completions body"),
        ({"id": 1.5, "prompt": "x"}, "'id' is 1.5"),
        ({"id": True, "prompt": "x"}, "'id' is True"),
        ({"custom_id": "a", "url": "/v1/embeddings", "body": {}}, "expected POST /v1/chat/completions"),
    ],
)
def test_a_malformed_row_has_a_problem(value: Any, words: str) -> None:
    """A bad row is data: it has no request, and a line that says why."""
    bad = row(value)
    assert bad.request is None
    assert words in bad.problem
    assert "\n" not in bad.problem


def test_half_a_surrogate_pair_is_text() -> None:
    """JSON may escape characters that UTF-8 cannot hold; the row is read."""
    assert body(b'{"prompt": "\\ud83d?"}')["messages"][0]["content"] == "\ud83d?"


def test_a_number_and_its_text_are_two_ids_unless_the_output_holds_texts() -> None:
    """1 and "1" differ in JSON Lines, and are the same in Parquet."""
    number, text = (Raw(5, json.dumps({"id": each}).encode()) for each in (1, "1"))
    assert id_key(number, as_text=False) != id_key(text, as_text=False)
    assert id_key(number, as_text=True) == id_key(text, as_text=True)
    assert id_key(Raw(1, b"{}"), as_text=False) == id_key(number, as_text=False)


SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)


@settings(max_examples=40)
@given(SIMPLE | st.lists(SIMPLE, max_size=2) | st.dictionaries(st.text(max_size=3), SIMPLE, max_size=2))
def test_any_value_is_a_row_or_has_a_problem(value: Any) -> None:
    """No line of JSON raises, and exactly one of request and problem is there."""
    read = row(json.dumps({"prompt": value, "id": value}).encode())
    assert (read.request is None) == bool(read.problem)
    assert id_key(Raw(7, json.dumps({"id": value}).encode()), as_text=True)
