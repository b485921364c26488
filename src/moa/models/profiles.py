"""What the servers and models known by name take: a table of facts, each with its source.

Notable decisions:
- Facts follow the place, not the name: ``OPENAI_BASE_URL`` may point at Ollama, and ``[endpoints.mistral]`` anywhere.
- Only refusals that a vendor documents, or that public reports quote, are here. The rest is learned from refusals: a
  wrong refusal here drops a field that the model takes, and nothing would ever correct it.
- Later rows override earlier ones, field by field.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from moa.models.places import matches, place_of
from moa.models.profile import Profile


@dataclass(frozen=True, slots=True)
class Facts:
    """A row of the table.

    Attributes:
        place: the provider's name in :data:`~moa.models.providers.PROVIDERS`, or a key of :data:`~moa.models.places.HOSTS`.
        profile: what holds there.
        source: the page that says so, and the month in which it was read; or what about the row is not confirmed. Such a
            row does no harm where it is wrong: it leaves no field out, and lowers no limit.
        models: patterns of model IDs, in lower case, that it holds for; ``!`` before one that it does not hold for.
    """

    place: str
    profile: Profile
    source: str
    models: tuple[str, ...] = field(default=("*",))

    def hold_for(self, model_id: str) -> bool:
        """Whether the row says something about a model. An ID may have its maker before a slash."""
        name = model_id.lower()
        names = (name, name.rpartition("/")[2])
        excluded = [pattern[1:] for pattern in self.models if pattern.startswith("!")]
        return matches(names, self.models) and not matches(names, excluded)


def profile_at(base_url: str, model_id: str, provider: str | None = None) -> Profile:
    """What is known of a model at an address; arguments as in :func:`~moa.models.places.place_of`."""
    place, profile = place_of(base_url, provider), Profile()
    for facts in FACTS:
        if facts.place == place and facts.hold_for(model_id):
            profile = profile.merged(facts.profile)
    return profile


OPTIONAL = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "random_seed", "frequency_penalty", "presence_penalty"),
        *("repetition_penalty", "logit_bias", "reasoning_effort", "verbosity", "store", "metadata", "user"),
        *("prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "prediction"),
        *("parallel_tool_calls", "stream_options"),
    }
)
"""The fields of Chat Completions, and of its relatives, that steer an answer or the caller's account."""


def _all_but(*taken: str) -> frozenset[str]:
    return OPTIONAL - set(taken)


_REASONING = frozenset({"temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "prediction"})
_UNKNOWN_TO_OPENAI = frozenset({"top_k", "min_p", "repetition_penalty", "random_seed", "messages.reasoning_content"})

# OpenAI deprecates max_tokens, and its newer models refuse it.
_NEW_LIMIT = {"max_tokens": "max_completion_tokens"}
_OLD_LIMIT = {"max_completion_tokens": "max_tokens"}
_NO_DEVELOPER = {"developer": "system"}

_O_SERIES = ("o1*", "o3*", "o4*")
# GPT-5.1 to 5.4 do not reason by default, and take sampling fields then; their chat, codex-5.1 and pro models always reason.
_ALWAYS_REASON = (
    *("gpt-5", "gpt-5-*", "gpt-5.1-codex*", "gpt-5.[1-3]-chat*", "gpt-5.[24]-pro*", "gpt-5.[56]*"),
    "!gpt-5-chat*",
)
_OPENAI_TABLE = "https://community.openai.com/t/developer-role-not-accepted-for-o1-o1-mini-o3-mini/1110750/7 (2026-11)"
_OPENAI_FIELDS = (
    "https://github.com/openai/openai-python/blob/main/src/openai/types/chat/completion_create_params.py; "
    "https://github.com/xlinx/sd-webui-decadetw-auto-prompt-llm/issues/29 (2026-11)"
)
_PYDANTIC_OPENAI = (
    "https://github.com/pydantic/pydantic-ai/blob/main/pydantic_ai_slim/pydantic_ai/profiles/openai.py (2026-11)"
)
_OPENAI_EFFORTS = "https://learn.microsoft.com/en-us/javascript/api/@azure/ai-projects/reasoningeffort (2026-11)"

_TURNS = (
    "not confirmed: whether it continues an assistant's text; a user message that asks for it works with any chat model"
)
_OLDER_NAMES = "not confirmed: whether it refuses OpenAI's newer names; the older ones mean the same"


def _openai(place: str) -> tuple[Facts, ...]:
    """The facts of OpenAI's models, which Azure serves, too."""
    return (
        Facts(place, Profile(rename=_NEW_LIMIT, refuses=_UNKNOWN_TO_OPENAI, past_tool_calls=True), _OPENAI_FIELDS),
        Facts(place, Profile(continuation="turns"), _TURNS),
        Facts(
            place,
            Profile(efforts=()),
            "https://github.com/yaroslavyaroslav/OpenAI-sublime-text/issues/146 (2026-11)",
            ("gpt-3.5*", "gpt-4*", "chatgpt-4o*", "gpt-5-chat*"),
        ),
        Facts(place, Profile(refuses=_REASONING), _OPENAI_TABLE, _O_SERIES),
        Facts(
            place,
            Profile(efforts=("low", "medium", "high")),
            "https://docs.rs/openai-tools/3.0.0/openai_tools/responses/request/enum.ReasoningEffort.html (2026-11)",
            _O_SERIES,
        ),
        Facts(
            place,
            Profile(roles={"developer": "user", "system": "user"}, efforts=(), images=False),
            _OPENAI_TABLE,
            ("o1-mini*", "o1-preview*"),
        ),
        Facts(place, Profile(refuses=_REASONING - {"prediction"}), _PYDANTIC_OPENAI, _ALWAYS_REASON),
        Facts(place, Profile(efforts=("medium",)), _PYDANTIC_OPENAI, ("gpt-5.[1-3]-chat*",)),
        Facts(
            place,
            Profile(efforts=("minimal", "low", "medium", "high")),
            "https://github.com/mpdifran/openai-kit/releases/tag/1.7.1 (2026-11)",
            ("gpt-5", "gpt-5-mini*", "gpt-5-nano*", "gpt-5-20*"),
        ),
        Facts(place, Profile(efforts=("high",)), _OPENAI_EFFORTS, ("gpt-5-pro*",)),
        Facts(place, Profile(efforts=("none", "low", "medium", "high")), _OPENAI_EFFORTS, ("gpt-5.1", "gpt-5.1-20*")),
    )


FACTS: tuple[Facts, ...] = (
    *_openai("openai"),
    *_openai("azure"),
    *(
        Facts(place, Profile(continuation="turns"), _TURNS)
        for place in (
            *("together", "openrouter", "fireworks", "deepinfra", "cerebras", "nvidia", "huggingface", "google", "xai"),
            *("perplexity", "cohere", "bedrock", "zai", "sambanova", "nebius", "vercel", "vertex", "github"),
            # Each of these also has a way of its own, for some models or at another address.
            *("groq", "deepseek", "moonshot", "qwen"),
        )
    ),
    *(
        Facts(place, Profile(rename=_OLD_LIMIT, roles=_NO_DEVELOPER), _OLDER_NAMES)
        for place in ("google", "perplexity", "cohere", "sambanova")
    ),
    Facts("xai", Profile(roles=_NO_DEVELOPER), _OLDER_NAMES),
    Facts("moonshot", Profile(roles=_NO_DEVELOPER), _OLDER_NAMES),
    Facts("zai", Profile(rename=_OLD_LIMIT), _OLDER_NAMES),
    Facts("qwen", Profile(rename=_OLD_LIMIT), _OLDER_NAMES),
    Facts(
        "groq",
        Profile(refuses=frozenset({"logit_bias", "messages.name"})),
        "https://console.groq.com/docs/openai (2026-11)",
    ),
    Facts(
        "groq",
        Profile(refuses=frozenset({"store", "metadata"})),
        "https://github.com/groq/groq-python/blob/main/src/groq/types/chat/completion_create_params.py; "
        "https://github.com/fanenr/chatbot/issues/21 (2026-11)",
    ),
    Facts(
        # Any field of a message that it does not know.
        "groq",
        Profile(
            refuses=frozenset(
                {
                    *("messages.metadata", "messages.reasoning_content", "messages.reasoning_details"),
                    "messages.annotations",
                }
            )
        ),
        "https://github.com/tashfeenahmed/freellmapi/issues/1070; https://github.com/ServiceStack/llms/issues/17 (2026-11)",
    ),
    Facts(
        # Any field that its schema does not have.
        "mistral",
        Profile(
            rename={"seed": "random_seed", **_OLD_LIMIT},
            refuses=_all_but(
                *("temperature", "top_p", "seed", "random_seed", "frequency_penalty", "presence_penalty"),
                *("parallel_tool_calls", "prediction", "reasoning_effort", "metadata", "prompt_cache_key"),
            )
            | {"messages.reasoning_content", "messages.name", "messages.refusal", "messages.annotations"},
            roles=_NO_DEVELOPER,
            continuation="flag",
        ),
        "https://github.com/mistralai/client-python/blob/main/src/mistralai/client/models/chatcompletionrequest.py; "
        "https://github.com/Gitlawb/openclaude/issues/739; https://github.com/BerriAI/litellm/issues/30835 (2026-11)",
    ),
    Facts("deepseek", Profile(rename=_OLD_LIMIT), "https://api-docs.deepseek.com/news/news0725 (2026-11)"),
    Facts("deepseek", Profile(roles=_NO_DEVELOPER), "https://github.com/earendil-works/pi/issues/1048 (2026-11)"),
    Facts(
        "deepseek",
        Profile(images=False),
        "https://github.com/rikkahub/rikkahub/issues/1433; https://github.com/SillyTavern/SillyTavern/issues/5964 (2026-11)",
        ("*", "!*vision*"),
    ),
    Facts(
        "deepseek",
        Profile(json_schema=False),
        "https://github.com/UKGovernmentBEIS/inspect_ai/issues/4916 (2026-11)",
    ),
    Facts(
        "cerebras",
        Profile(refuses=frozenset({"messages.reasoning_content"})),
        "https://github.com/Kilo-Org/kilocode/issues/10375 (2026-11)",
    ),
    Facts(
        # Silently ignores the newer name.
        "ollama",
        Profile(rename=_OLD_LIMIT),
        "https://github.com/ollama/ollama/blob/main/openai/openai.go (2026-11)",
    ),
    Facts("vllm", Profile(continuation="vllm"), "https://github.com/ggml-org/llama.cpp/issues/11755 (2026-11)"),
    Facts("sglang", Profile(continuation="vllm"), "https://github.com/sgl-project/sglang/pull/4226 (2026-11)"),
    Facts("llamacpp", Profile(continuation="prefix"), "https://github.com/ggml-org/llama.cpp/pull/13174 (2026-11)"),
    Facts(
        "google",
        Profile(refuses=frozenset({"seed", "frequency_penalty"})),
        "https://github.com/Vali-98/ChatterUI/issues/227 (2026-11)",
    ),
    Facts(
        "google", Profile(refuses=frozenset({"store"})), "https://github.com/liliMozi/openhanako/issues/394 (2026-11)"
    ),
    Facts(
        "google",
        Profile(refuses=frozenset({"metadata"})),
        "https://github.com/mjunaidca/langmem-openaiagents-adapter/issues/1 (2026-11)",
    ),
    Facts(
        "google",
        Profile(refuses=frozenset({"prompt_cache_key"})),
        "https://github.com/leookun/cursor-byok/issues/112 (2026-11)",
    ),
    Facts(
        "xai",
        Profile(refuses=frozenset({"frequency_penalty", "presence_penalty"})),
        "https://github.com/miaoxworld/NativeTavern/issues/83; https://github.com/lobehub/lobehub/issues/7370 (2026-11)",
        ("grok-4*", "grok-3-mini*"),
    ),
    Facts(
        "xai",
        Profile(efforts=()),
        "https://github.com/vercel/ai/releases/tag/@ai-sdk/xai@4.0.8 (2026-11)",
        ("grok-4.20-*reasoning*",),
    ),
    Facts(
        "xai",
        Profile(efforts=("none", "low", "medium", "high")),
        "https://github.com/pydantic/pydantic-ai/blob/main/pydantic_ai_slim/pydantic_ai/profiles/grok.py (2026-11)",
        ("grok-4.3*",),
    ),
    Facts(
        "xai",
        Profile(efforts=("low", "medium", "high")),
        "https://github.com/anomalyco/opencode/issues/39448 (2026-11)",
        ("grok-4.5*",),
    ),
    Facts("moonshot", Profile(rename=_OLD_LIMIT), "https://github.com/can1357/oh-my-pi/issues/2289 (2026-11)"),
    Facts(
        "perplexity",
        Profile(alternates=True),
        "https://github.com/perplexityai/api-discussion/issues/265 (2026-11)",
    ),
    Facts(
        "perplexity",
        Profile(tools=False, past_tool_calls=False),
        "https://github.com/pipecat-ai/pipecat/pull/4862; https://github.com/BerriAI/litellm/issues/11665 (2026-11)",
    ),
    Facts(
        "perplexity",
        Profile(ends_with_assistant=False),
        "https://github.com/BerriAI/litellm/issues/3918 (2026-11)",
    ),
    Facts(
        "cohere",
        Profile(
            refuses=frozenset({"store", "metadata", "logit_bias", "prediction", "service_tier", "parallel_tool_calls"})
        ),
        "https://docs.cohere.com/docs/compatibility-api, in a copy of llms-full.txt of 2025-11 (2026-11)",
    ),
    Facts("bedrock", Profile(past_tool_calls=False), "https://github.com/vxcontrol/pentagi/issues/160 (2026-11)"),
    Facts(
        "anthropic",
        Profile(continuation="prefix"),
        "https://github.com/strands-agents/sdk-python/issues/1694 (2026-11)",
        ("claude-3*", "claude-*-4-0*", "claude-*-4-1*", "claude-*-4-2*", "claude-*-4-5*"),
    ),
    Facts(
        "anthropic",
        Profile(ends_with_assistant=False, continuation="turns"),
        "https://github.com/strands-agents/sdk-python/issues/1694 (2026-11)",
        ("claude-*", "!claude-3*", "!claude-*-4-0*", "!claude-*-4-1*", "!claude-*-4-2*", "!claude-*-4-5*"),
    ),
    Facts("zai", Profile(roles=_NO_DEVELOPER), "https://github.com/openclaw/openclaw/issues/23115 (2026-11)"),
    Facts("qwen", Profile(roles=_NO_DEVELOPER), "https://github.com/mcowger/plexus/issues/77 (2026-11)"),
)
"""Every fact, the general ones of a place before those of its models."""
