"""Small things that clients ask of the same model as the user's questions: titles, tags, follow-ups, who speaks next.

A mixture of five calls is wasted on them. Where ``small`` of moa.toml names a model, it answers the requests that a rule of
:data:`RULES` recognises. A rule is the beginning of one message and further short marks of the client's prompt: a user who
quotes such a prompt is not mistaken for the client.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import NamedTuple

from moa.config.config import Config
from moa.config.names import is_single_model
from moa.errors import ConfigError
from moa.messages import Request, text_of
from moa.mixture.panel import Panel
from moa.server.dialects.dialect import ParsedRequest
from moa.server.failures import Refusal
from moa.server.model_list import ModelList

LONGEST_BEGINNING = 200
"""Characters of a message, behind white space, that a rule's beginning may need."""

log = logging.getLogger("moa.server")


class Rule(NamedTuple):
    """How a client's prompt is recognised.

    Attributes:
        task: the client and what it wants, as ``moa.small`` names it.
        role: of the message: ``system``, or ``user`` for the last one.
        beginning: of the message's text, white space aside.
        marks: words that follow in the text.
        tools: whether the client may send tools with it.
    """

    task: str
    role: str
    beginning: str
    marks: tuple[str, ...] = ()
    tools: bool = False


_HISTORY = ("<chat_history>",)

RULES = (
    # https://github.com/open-webui/open-webui/blob/main/backend/open_webui/config.py (2026-11)
    Rule("open-webui title", "user", "### Task: Generate a concise", ("title", *_HISTORY)),
    Rule("open-webui tags", "user", "### Task: Generate 1-3 broad tags", _HISTORY),
    Rule("open-webui follow-ups", "user", "### Task: Suggest 3-5 relevant follow-up questions", _HISTORY),
    Rule(
        "open-webui search queries", "user", "### Task: Analyze the chat history to determine the necessity", _HISTORY
    ),
    Rule("open-webui image prompt", "user", "### Task: Generate a detailed prompt for am image generation", _HISTORY),
    Rule("open-webui autocomplete", "user", "### Task: You are an autocompletion system.", ("<type>", "<text>")),
    Rule("open-webui emoji", "user", "Your task is to reflect the speaker's likely facial expression", ("emoji",)),
    # https://github.com/anomalyco/opencode/blob/dev/packages/opencode/src/agent/prompt/title.txt (2026-11)
    Rule("opencode title", "system", "You are a title generator. You output ONLY a thread title"),
    # https://github.com/danny-avila/agents/blob/main/src/utils/title.ts (2026-11): two ways to ask
    Rule("librechat title", "user", "Provide a concise, 5-word-or-less title for the conversation"),
    Rule("librechat title", "user", "Analyze this conversation and provide:", ("A concise title",), tools=True),
    # https://github.com/lobehub/lobe-chat/blob/main/packages/prompts/src/chains/summaryTitle.ts (2026-11)
    Rule("lobechat title", "system", "You are a professional conversation summarizer. Generate a concise title"),
    # https://github.com/continuedev/continue/blob/main/core/util/chatDescriber.ts (2026-11)
    Rule("continue title", "user", "Given the following... please reply with a title for the chat"),
    # https://github.com/QwenLM/qwen-code/blob/main/packages/core/src/utils/nextSpeakerChecker.ts (2026-11)
    Rule(
        "qwen-code next speaker",
        "user",
        "Analyze *only* the content and structure of your immediately preceding response",
        ("who should logically speak next",),
        tools=True,
    ),
)
"""The known tasks. Each names where its prompt was read."""


def task_of(request: Request) -> str | None:
    """The small task that a request is; None if no rule recognises it."""
    messages = request.body["messages"]
    texts = {"system": text_of(messages[0]) if messages[0]["role"] in ("system", "developer") else ""}
    texts["user"] = text_of(messages[-1]) if messages[-1]["role"] == "user" else ""
    opening = {role: " ".join(text[: 2 * LONGEST_BEGINNING].split()) for role, text in texts.items()}
    calls_tools = bool(request.body.get("tools"))
    for rule in RULES:
        begins = opening[rule.role].startswith(rule.beginning) and (rule.tools or not calls_tools)
        if begins and all(mark in texts[rule.role] for mark in rule.marks):
            return rule.task
    return None


class SmallTasks:
    """Sends small tasks to the configured model.

    Args:
        config: names the model; None leaves every request where it is.
        model_list: opens it.
    """

    def __init__(self, config: Config, model_list: ModelList) -> None:
        self._config, self._model_list, self._model = config, model_list, config.small

    def routed(self, parsed: ParsedRequest) -> ParsedRequest:
        """The request, with the small model where it is a small task of a mixture; ``task`` then says which."""
        if self._model is None or parsed.small is False or is_single_model(parsed.model):
            return parsed
        if (task := task_of(parsed.request)) is None or not self._may_answer(self._model, parsed.model):
            return parsed
        return replace(parsed, model=self._model, task=task, panel=Panel())

    def _may_answer(self, model: str, asked: str) -> bool:
        """Whether the small model can be called, and may read the text of the mixture that the caller names."""
        try:
            self._model_list.mixture(model)
        except Refusal as refusal:
            log.warning("small = %r in moa.toml answers nothing: %s", model, refusal.message)
            return False
        try:
            local_only = self._config.table(asked).local_only
        except ConfigError:
            return False  # the caller reads what is wrong with the mixture
        return not local_only or all(place.local for place in self._config.destinations(model))
