"""Why an answer ended: the words that servers use, read as OpenAI's.

Notable decisions:
- The list of reasons that mean *complete* is short and closed. A word that is in no list means that the answer is broken:
  a reason that nobody knows is more often an error than an end (``insufficient_system_resource``, ``error``, ``abort``).
- Clients get OpenAI's words only, because SDKs that check the field reject others.

https://platform.openai.com/docs/api-reference/chat/object (``finish_reason``)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_WORDS = {
    "stop": (
        "stop eos eos_token eos_found stop_token end end_turn end_of_turn end_of_text end_of_sequence stop_sequence "
        "stop_sequences stop_string stop_string_found stop_str complete completed finish finished done success normal"
    ),
    "tool_calls": "tool_calls tool_call tool_use function_calls",
    "function_call": "function_call",
    "length": (
        "length max_length max_tokens max_output_tokens max_completion_tokens max_new_tokens max_tokens_reached "
        "maximum_tokens max_predicted_tokens_reached model_length model_context_window_exceeded context_length "
        "context_length_reached context_length_exceeded context_window_exceeded token_limit token_limit_reached "
        "output_limit error_limit cutoff truncated incomplete"
    ),
    "content_filter": (
        "content_filter content_filter_error content_filtered content_blocked filtered safety recitation blocklist "
        "blacklist prohibited_content spii image_safety image_prohibited_content image_recitation refusal sensitive "
        "error_toxic guardrail_intervened guardrails moderation content_policy content_policy_violation"
    ),
}


def _letters(word: str) -> str:
    """A word without case, underscores and the name of its field: ``FinishReason.MAX_TOKENS`` is ``maxtokens``."""
    return re.sub(r"[\W_]", "", word.lower()).removeprefix("finishreason")


_MEANING: Mapping[str, str] = MappingProxyType(
    {_letters(word): name for name, words in _WORDS.items() for word in words.split()}
)

_NO_REASON = frozenset({"", "null", "none", "undefined", "nil", "false", "unspecified"})

COMPLETE = frozenset({"stop", "tool_calls", "function_call"})
"""The reasons of an answer that its model has completed."""

CUTS: Mapping[str, str] = MappingProxyType(
    {"length": "it hit max_tokens", "content_filter": "the upstream's content filter stopped it"}
)
"""The reasons of an answer that ends before its model was done, and what to tell the user."""


def finish_reason_of(reported: object) -> str | None:
    """A reported reason as one of OpenAI's words.

    Returns:
        None where the server gave no reason, which includes the text ``"null"``; the word as it came where it is unknown,
        that is, where the answer is broken.
    """
    if not isinstance(reported, str):
        return None if not reported or reported is True else str(reported)
    word = _letters(reported)
    return None if word in _NO_REASON else _MEANING.get(word, reported.strip())


def is_known(reason: str) -> bool:
    """Whether a reason is one of OpenAI's words; an answer that ends with another one is broken."""
    return reason in COMPLETE or reason in CUTS
