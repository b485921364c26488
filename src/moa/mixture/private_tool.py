"""The aggregator's own tool, with which it puts a question to the proposers; nobody else sees it or a call of it.

Notable decisions:
- Its name is one that no tool and no earlier call of the request has. So a call in the caller's history is the caller's,
  whatever its name is.
- Models write names of tools with additions of their templates (``functions.deliberate``, ``deliberate<|channel|>…``:
  https://github.com/openai/harmony); those are calls of this tool, too.
- Wrong arguments are no error: the question that is missing is the user's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from moa.messages import Message, Request, with_text
from moa.mixture.agent import Agent
from moa.models import traits_of
from moa.models.demands import asks_about_images, demanded_call

NAME = "deliberate"

LONGEST = 20_000
"""Characters of a question; the rest is left out."""

DESCRIPTION = """\
Puts a question to several other language models, which know this conversation, and returns their answers. That takes time \
and money. Call it once, and only where you may well be wrong without it: a hard problem, a doubtful fact, a decision with \
consequences. Answer everything else at once. The user sees neither the call nor the answers: do not mention them."""

ASKS = """\
The assistant that will answer this request puts a question to you, to answer it better:

{question}

Answer this question."""

_ADDITIONS = re.compile(r"(?:^|.*[.:/])(\w+)(?:<\|.*)?", re.DOTALL)


class PrivateTool:
    """The tool as one request offers it."""

    def __init__(self, request: Request) -> None:
        self._taken = {*_names(request.body.get("tools")), *_called(request.messages)}
        self.name = NAME
        while self.name in self._taken:
            self.name = f"{NAME}_{int(self.name.rpartition('_')[2]) + 1}" if self.name != NAME else f"{NAME}_2"
        question = {"type": "string", "description": "The question, with what is needed to answer it."}
        self._definition = {
            "type": "function",
            "function": {
                "name": self.name,
                "description": DESCRIPTION,
                "parameters": {"type": "object", "properties": {"question": question}, "required": ["question"]},
            },
        }

    def added_to(self, request: Request) -> Request:
        """The request with this tool behind the caller's."""
        return request.replaced(tools=[*(request.body.get("tools") or ()), self._definition])

    def is_called(self, name: object) -> bool:
        """Whether a call of this name is one of this tool."""
        if not isinstance(name, str) or name in self._taken:
            return False
        found = _ADDITIONS.fullmatch(name.strip())
        return found is not None and found[1].lower() == self.name


def why_not(agent: Agent, request: Request) -> str | None:
    """Why an agent cannot be offered a further tool with a request; None where it can."""
    body = request.body
    if traits_of(agent.model).profile.tools is False:
        return f"{agent.label} calls no tools"
    if traits_of(agent.model).profile.images is False and asks_about_images(request):
        return f"{agent.label} does not see the request's images"
    if body.get("response_format"):
        return "it asks for a response format, which many servers do not combine with tools"
    if body.get("functions"):
        return "it has functions, which cannot be combined with tools"
    if body.get("tools") and (body.get("tool_choice") == "none" or demanded_call(request)):
        return "its tool_choice leaves the aggregator no choice"
    return None


def question_in(arguments: str) -> str:
    """The question of a call; empty where its arguments hold none."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return ""
    question = value.get("question") if isinstance(value, dict) else value
    if not isinstance(question, str):
        return ""
    question = question.strip()
    return question if len(question) <= LONGEST else f"{question[:LONGEST]} […]"


def with_question(request: Request, questions: Sequence[str]) -> Request:
    """What the proposers are asked: the conversation, and after it the questions. Without any, the user's request."""
    asked = list(dict.fromkeys(question for question in questions if question))
    if not asked:
        return request
    text = ASKS.format(question="\n\n".join(asked))
    messages = request.messages
    if messages[-1]["role"] == "user":
        messages[-1] = with_text(messages[-1], text)
    else:
        messages.append({"role": "user", "content": text})
    return request.replaced(messages=messages)


def _names(tools: object) -> set[str]:
    listed = tools if isinstance(tools, list) else []
    inner = ((tool, tool.get("function"), tool.get("custom")) for tool in listed if isinstance(tool, Mapping))
    fields = (each for group in inner for each in group if isinstance(each, Mapping))
    return {name for each in fields if isinstance(name := each.get("name"), str)}


def _called(messages: Sequence[Message]) -> set[str]:
    """The names of the tools that a conversation calls."""
    calls: list[Any] = [call for message in messages for call in message.get("tool_calls") or ()]
    calls += [{"function": call} for message in messages if (call := message.get("function_call"))]
    return _names([call for call in calls if isinstance(call, Mapping)]) | {
        name for message in messages if message["role"] == "tool" and isinstance(name := message.get("name"), str)
    }
