"""What OpenAI's models take, at OpenAI and at Azure: the same facts, each with the page of the place that says so."""

from __future__ import annotations

from moa.models.facts import NEW_LIMIT, OLD_LIMIT, Facts
from moa.models.profile import Profile

_SAMPLING = frozenset({"temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias"})
_UNKNOWN = frozenset({"top_k", "min_p", "repetition_penalty", "random_seed", "messages.reasoning_content"})

_O_SERIES = ("o1*", "o3*", "o4*")
# GPT-5.1 to 5.4 do not reason by default, and take sampling fields then; their chat, codex-5.1 and pro models always reason.
_ALWAYS_REASON = (
    *("gpt-5", "gpt-5-*", "gpt-5.1-codex*", "gpt-5.[1-3]-chat*", "gpt-5.[24]-pro*", "gpt-5.[56]*"),
    "!gpt-5-chat*",
)

_FORUM = "https://community.openai.com/t/developer-role-not-accepted-for-o1-o1-mini-o3-mini/1110750/7 (2026-11)"
_PYDANTIC = (
    "https://github.com/pydantic/pydantic-ai/blob/main/pydantic_ai_slim/pydantic_ai/profiles/openai.py (2026-11)"
)
_EFFORTS = "https://learn.microsoft.com/en-us/javascript/api/@azure/ai-projects/reasoningeffort (2026-11)"
_AZURE = "https://learn.microsoft.com/azure/foundry/openai/how-to/reasoning, in its repository's copy (2026-11)"


def _rows(place: str, cache_page: str, page: str | None = None) -> tuple[Facts, ...]:
    """The rows of one place; ``page`` is the place's own source of all of them."""
    return (
        Facts(
            place,
            Profile(rename=NEW_LIMIT, refuses=_UNKNOWN, past_tool_calls=True),
            "https://github.com/openai/openai-python/blob/main/src/openai/types/chat/completion_create_params.py; "
            "https://github.com/xlinx/sd-webui-decadetw-auto-prompt-llm/issues/29 (2026-11)",
        ),
        Facts(place, Profile(prompt_cache="key"), cache_page, ("*", "!mistral*", "!ministral*", "!codestral*")),
        Facts(
            place,
            Profile(efforts=()),
            "https://github.com/yaroslavyaroslav/OpenAI-sublime-text/issues/146 (2026-11)",
            ("gpt-3.5*", "gpt-4*", "chatgpt-4o*", "gpt-5-chat*"),
        ),
        Facts(place, Profile(refuses=_SAMPLING | {"prediction"}), page or _FORUM, _O_SERIES),
        Facts(
            place,
            Profile(efforts=("low", "medium", "high")),
            page
            or "https://docs.rs/openai-tools/3.0.0/openai_tools/responses/request/enum.ReasoningEffort.html (2026-11)",
            _O_SERIES,
        ),
        Facts(
            place,
            Profile(roles={"developer": "user", "system": "user"}, efforts=(), images=False),
            _FORUM,
            ("o1-mini*", "o1-preview*"),
        ),
        Facts(place, Profile(refuses=_SAMPLING), page or _PYDANTIC, _ALWAYS_REASON),
        Facts(place, Profile(efforts=("medium",)), _PYDANTIC, ("gpt-5.[1-3]-chat*",)),
        Facts(
            place,
            Profile(efforts=("minimal", "low", "medium", "high")),
            page or "https://github.com/mpdifran/openai-kit/releases/tag/1.7.1 (2026-11)",
            ("gpt-5", "gpt-5-mini*", "gpt-5-nano*", "gpt-5-20*"),
        ),
        Facts(place, Profile(efforts=("high",)), page or _EFFORTS, ("gpt-5-pro*",)),
        Facts(place, Profile(efforts=("none", "low", "medium", "high")), page or _EFFORTS, ("gpt-5.1", "gpt-5.1-20*")),
    )


OPENAI_FACTS: tuple[Facts, ...] = (
    *_rows("openai", "https://developers.openai.com/docs/guides/prompt-caching (2026-11)"),
    *_rows("azure", "https://learn.microsoft.com/azure/foundry/openai/how-to/prompt-caching (2026-11)", _AZURE),
    # "You should not use both a developer message and a system message in the same API request."
    Facts("azure", Profile(several_system=False, refuses=frozenset({"parallel_tool_calls"})), _AZURE, _O_SERIES),
    Facts("azure", Profile(images=False), _AZURE, ("o3-mini*",)),
    Facts(
        "azure",
        Profile(rename=OLD_LIMIT),
        "https://github.com/pydantic/pydantic-ai/blob/main/pydantic_ai_slim/pydantic_ai/providers/azure.py (2026-11)",
        ("mistral*", "ministral*", "codestral*"),
    ),
)
"""The rows of both places."""
