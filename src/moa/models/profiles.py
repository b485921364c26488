"""What the servers and models known by name take: a table of facts, each with its source.

Notable decisions:
- Facts follow the place, not the name: ``OPENAI_BASE_URL`` may point at Ollama, and ``[endpoints.mistral]`` anywhere.
- Only refusals that a vendor documents, or that public reports quote, are here. The rest is learned from refusals: a
  wrong refusal here drops a field that the model takes, and nothing would ever correct it.
- Later rows override earlier ones, field by field.
- Where no row says how a vendor's model continues a text, a user message asks it to: that takes nothing but a chat.
"""

from __future__ import annotations

from moa.models.facts import NO_DEVELOPER, OLD_LIMIT, Facts
from moa.models.openai_facts import OPENAI_FACTS
from moa.models.places import HOSTS, place_of
from moa.models.profile import Profile
from moa.models.providers import PROVIDERS

_HOSTED = {*HOSTS, *(name for name, row in PROVIDERS.items() if not row.local)}
"""Places that run on nobody's own machine."""


def profile_at(base_url: str, model_id: str, provider: str | None = None) -> Profile:
    """What is known of a model at an address; arguments as in :func:`~moa.models.places.place_of`."""
    place = place_of(base_url, provider)
    profile = Profile(continuation="turns") if place in _HOSTED else Profile()
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


_PYDANTIC = "https://github.com/pydantic/pydantic-ai/blob/main/pydantic_ai_slim/pydantic_ai"

FACTS: tuple[Facts, ...] = (
    *OPENAI_FACTS,
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
        # "Any text-to-text model"; those that think first are left out.
        "groq",
        Profile(continuation="prefix"),
        "https://console.groq.com/docs/prefilling (2026-11)",
        ("*llama*", "*kimi-k2-instruct*", "*allam*"),
    ),
    *(
        Facts("groq", Profile(efforts=efforts), f"{_PYDANTIC}/profiles/groq.py (2026-11)", models)
        for efforts, models in ((("low", "medium", "high"), ("*gpt-oss*",)), (("none",), ("*qwen3*",)))
    ),
    Facts(
        # Any field that its schema does not have.
        "mistral",
        Profile(
            rename={"seed": "random_seed", **OLD_LIMIT},
            refuses=_all_but(
                *("temperature", "top_p", "seed", "random_seed", "frequency_penalty", "presence_penalty"),
                *("parallel_tool_calls", "prediction", "reasoning_effort", "metadata", "prompt_cache_key"),
            )
            | {"messages.reasoning_content", "messages.name", "messages.refusal", "messages.annotations"},
            roles=NO_DEVELOPER,
            user_after_tool=False,
            continuation="flag",
        ),
        "https://github.com/mistralai/client-python/blob/main/src/mistralai/client/models/chatcompletionrequest.py; "
        "https://github.com/Gitlawb/openclaude/issues/739; https://github.com/BerriAI/litellm/issues/30835; "
        "https://github.com/BerriAI/litellm/issues/17761 (2026-11)",
    ),
    Facts(
        "mistral",
        Profile(prompt_cache="key"),
        "https://docs.mistral.ai/studio-api/conversations/advanced/prompt-caching (2026-11)",
    ),
    *(
        Facts(place, *row)
        for place in ("deepseek", "deepseek-beta")
        for row in (
            (Profile(rename=OLD_LIMIT), "https://api-docs.deepseek.com/news/news0725 (2026-11)"),
            (Profile(roles=NO_DEVELOPER), "https://github.com/earendil-works/pi/issues/1048 (2026-11)"),
            (
                Profile(images=False),
                "https://github.com/SillyTavern/SillyTavern/issues/5964 (2026-11)",
                ("*", "!*vision*"),
            ),
            (Profile(json_schema=False), "https://github.com/UKGovernmentBEIS/inspect_ai/issues/4916 (2026-11)"),
            (
                Profile(efforts=("low", "high", "max")),
                f"{_PYDANTIC}/providers/deepseek.py (2026-11)",
                ("deepseek-v4*", "deepseek-flash*"),
            ),
            (
                Profile(reasoning_content=True),
                "https://github.com/NousResearch/hermes-agent/pull/17341 (2026-11)",
                ("deepseek-v4*", "deepseek-flash*", "deepseek-reasoner"),
            ),
        )
    ),
    Facts(
        "deepseek-beta",
        Profile(continuation="flag"),
        "https://share.apidog.com/apidoc/docs-site/747793/chat-prefix-completion-beta-835845m0, a copy of "
        "https://api-docs.deepseek.com/guides/chat_prefix_completion (2026-11)",
    ),
    Facts(
        "cerebras",
        Profile(refuses=frozenset({"messages.reasoning_content"})),
        "https://github.com/Kilo-Org/kilocode/issues/10375 (2026-11)",
    ),
    Facts(
        # Silently ignores the newer name.
        "ollama",
        Profile(rename=OLD_LIMIT, efforts=("none", "low", "medium", "high", "max")),
        "https://github.com/ollama/ollama/blob/main/openai/openai.go; "
        "https://github.com/ollama/ollama/blob/main/docs/api/openai-compatibility.mdx (2026-11)",
    ),
    Facts("vllm", Profile(continuation="vllm"), "https://github.com/ggml-org/llama.cpp/issues/11755 (2026-11)"),
    Facts("sglang", Profile(continuation="vllm"), "https://github.com/sgl-project/sglang/pull/4226 (2026-11)"),
    Facts("llamacpp", Profile(continuation="prefix"), "https://github.com/ggml-org/llama.cpp/pull/13174 (2026-11)"),
    Facts(
        "google",
        Profile(rename=OLD_LIMIT, roles=NO_DEVELOPER),
        "not confirmed: whether it refuses OpenAI's newer names; the older ones mean the same",
    ),
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
        f"{_PYDANTIC}/profiles/grok.py (2026-11)",
        ("grok-4.3*", "grok-latest", "grok-4-0709", "grok-4-fast*", "grok-4-1-fast*", "grok-3"),
    ),
    Facts(
        "xai",
        Profile(efforts=("low", "medium", "high")),
        f"https://github.com/anomalyco/opencode/issues/39448; {_PYDANTIC}/profiles/grok.py (2026-11)",
        ("grok-4.5*", "grok-4.6*"),
    ),
    Facts(
        "xai",
        Profile(efforts=("low", "medium", "high", "xhigh")),
        f"{_PYDANTIC}/profiles/grok.py (2026-11)",
        ("grok-4.7*",),
    ),
    Facts(
        # "Only a single system/developer message should be used, and it should always be the first message."
        "xai",
        Profile(several_system=False),
        "https://docs.x.ai/docs/guides/chat, in a copy (2026-11)",
    ),
    Facts(
        "moonshot",
        Profile(roles=NO_DEVELOPER),
        "https://github.com/api-evangelist/moonshot-ai/blob/main/openapi/moonshot-ai-chat-api-openapi.yml (2026-11)",
    ),
    Facts(
        # Each has one permitted value, which depends on whether the model thinks.
        "moonshot",
        Profile(refuses=frozenset({"temperature", "top_p"})),
        "https://github.com/HKUDS/nanobot/pull/4962; https://github.com/google-gemini/gemini-cli/pull/18977 (2026-11)",
        ("kimi-k2.5*", "kimi-k2.6*", "kimi-k2.7*", "kimi-k3*"),
    ),
    Facts(
        "moonshot",
        Profile(efforts=("low", "high", "max")),
        f"{_PYDANTIC}/providers/moonshotai.py (2026-11)",
        ("kimi-k3*",),
    ),
    Facts(
        "moonshot",
        Profile(continuation="partial"),
        "https://platform.kimi.ai/docs/guide/use-partial-mode-feature-of-kimi-api (2026-11)",
        ("moonshot-v1*", "kimi-k2*"),
    ),
    Facts(
        "cohere",
        Profile(
            rename=OLD_LIMIT,
            refuses=frozenset({"store", "metadata", "logit_bias", "prediction", "service_tier", "parallel_tool_calls"}),
            efforts=("none", "high"),
        ),
        "https://github.com/cohere-ai/cohere-developer-experience/blob/main/fern/pages/v2/text-generation/"
        "compatibility-api.mdx, the source of https://docs.cohere.com/docs/compatibility-api (2026-11)",
    ),
    Facts(
        "sambanova",
        Profile(roles=NO_DEVELOPER, efforts=("low", "medium", "high")),
        "https://github.com/sambanova/sambanova-python/blob/main/src/sambanova/types/chat/completion_create_params.py "
        "(2026-11)",
    ),
    Facts(
        "nebius",
        Profile(roles=NO_DEVELOPER),
        "https://github.com/PrimeIntellect-ai/prime-agent/pull/715 (2026-11)",
    ),
    Facts(
        "vertex",
        Profile(roles=NO_DEVELOPER),
        "https://docs.cloud.google.com/vertex-ai/generative-ai/docs/migrate/openai/overview, in a copy (2026-11)",
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
    Facts(
        "anthropic",
        Profile(refuses=frozenset({"temperature", "top_p", "top_k"})),
        "https://github.com/sipeed/picoclaw/issues/2939; https://github.com/UKGovernmentBEIS/inspect_ai/issues/3721; "
        f"{_PYDANTIC}/profiles/anthropic.py (2026-11)",
        ("claude-opus-4-[78]*", "claude-*-5*", "!claude-*-4-5*", "!claude-3-5*"),
    ),
    Facts("zai", Profile(roles=NO_DEVELOPER), "https://github.com/openclaw/openclaw/issues/23115 (2026-11)"),
    Facts(
        "zai",
        Profile(rename=OLD_LIMIT),
        "https://github.com/zai-org/z-ai-sdk-python/blob/main/src/zai/api_resource/chat/completions.py (2026-11)",
    ),
    Facts("qwen", Profile(roles=NO_DEVELOPER), "https://github.com/ChatLab/ChatLab/issues/480 (2026-11)"),
    Facts(
        # Without thinking only, which newer models do by default.
        "qwen",
        Profile(continuation="partial"),
        "https://help.aliyun.com/en/model-studio/partial-mode (2026-11)",
        (
            *("qwen-max*", "qwen3-max*", "qwen-plus*", "qwen-flash*", "qwen-turbo*", "qwen*-coder*", "qwen2.5-*"),
            "!*thinking*",
        ),
    ),
    Facts(
        "qwen",
        Profile(prompt_cache="marks"),
        "https://help.aliyun.com/en/model-studio/context-cache (2026-11)",
        ("qwen3-max*", "qwen-max*", "qwen*-plus*", "qwen*-flash*", "!*-2024*", "!*-2025-0[1-8]*"),
    ),
    Facts(
        "openrouter",
        Profile(prompt_cache="marks"),
        "https://github.com/pydantic/pydantic-ai/issues/4392; "
        "https://openrouter.ai/docs/client-sdks/typescript/models/anthropiccachecontroldirective (2026-11)",
        ("anthropic/*",),
    ),
)
"""Every fact, the general ones of a place before those of its models."""
