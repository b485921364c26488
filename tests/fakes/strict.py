"""A strict server, made from a profile: it refuses every request that the profile says its model does not take."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from moa.models.demands import TOOL_FIELDS, images_of
from moa.models.fitting import NEEDED, TOKEN_LIMITS, has_path
from moa.models.profile import Profile


def faults(body: Mapping[str, Any], profile: Profile) -> list[str]:
    """Why the model of a profile would refuse this body, one line each."""
    messages = body["messages"]
    roles = [message["role"] for message in messages]
    system = [at for at, role in enumerate(roles) if role in ("system", "developer")]
    turns = [role for role in roles if role not in ("system", "developer")]
    calls = any(message.get("tool_calls") or message["role"] in ("tool", "function") for message in messages)
    lists = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    only_text = [parts for parts in lists if all(part.get("type") == "text" for part in parts)]
    efforts = profile.efforts
    found = {
        "refused field": any(has_path(body, path.split(".")) for path in profile.refuses - NEEDED),
        "renamed field": any(ours in body for ours in profile.rename),
        "value": any(name in body and body[name] != value for name, value in profile.only.items()),
        "role": any(role in profile.roles for role in roles),
        "image": profile.images is False and any(images_of(message) for message in messages),
        "parts": profile.parts is False and bool(only_text),
        "tools": profile.tools is False and (calls or any(field in body for field in TOOL_FIELDS)),
        "past tool calls": profile.past_tool_calls is False and calls and not body.get("tools"),
        "system": profile.system is False and bool(system),
        "several system": profile.several_system is False and (len(system) > 1 or system[:1] not in ([], [0])),
        "alternation": bool(profile.alternates)
        and (any(one == other != "tool" for one, other in pairwise(turns)) or turns[:1] == ["assistant"]),
        "end": profile.ends_with_assistant is False and roles[-1] == "assistant",
        "effort": efforts is not None and "reasoning_effort" in body and body["reasoning_effort"] not in efforts,
        "answer": profile.answer_tokens is not None
        and any(body.get(limit, 0) > profile.answer_tokens for limit in TOKEN_LIMITS),
    }
    return [fault for fault, holds in found.items() if holds]
