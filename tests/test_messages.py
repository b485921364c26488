"""What a request means, in the forms that clients write it."""

from __future__ import annotations

from moa.messages import Request


def test_null_and_empty_lists_mean_not_set() -> None:
    """Servers refuse an empty list of tools (https://github.com/earendil-works/pi/issues/3649), and a choice among none."""
    answer = {"role": "assistant", "content": None}
    messages = [{"role": "user", "content": "Why?"}, {**answer, "tool_calls": []}, {"role": "user", "content": "Well?"}]
    body = {"messages": messages, "tools": [], "tool_choice": "auto", "stop": None, "seed": 1}
    assert Request.of(body).body == {"messages": [messages[0], answer, messages[2]], "seed": 1}


def test_tools_stay_with_their_choice() -> None:
    """A list that holds a tool, and what the caller says of it, are kept."""
    tools = [{"type": "function", "function": {"name": "look"}}]
    body = {"messages": [{"role": "user", "content": "Why?"}], "tools": tools, "tool_choice": "auto"}
    assert Request.of(body).body == body
