"""What the servers and models known by name take: a table of facts, each with its source.

Notable decisions:
- Facts follow the place, not the name: ``OPENAI_BASE_URL`` may point at Ollama, and ``[endpoints.mistral]`` anywhere.
- Only refusals that a vendor documents, or that public reports quote, are here. The rest is learned from refusals.
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
        source: the page that says so, and the month in which it was read.
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


_REASONING = frozenset(
    {"temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "prediction"}
)
_UNKNOWN_TO_OPENAI = frozenset({"top_k", "min_p", "repetition_penalty", "random_seed", "messages.reasoning_content"})

# OpenAI deprecates max_tokens, and its newer models refuse it.
_NEW_LIMIT = {"max_tokens": "max_completion_tokens"}
_OLD_LIMIT = {"max_completion_tokens": "max_tokens"}

_O_SERIES = ("o1*", "o3*", "o4*")
_GPT_5 = ("gpt-5*", "!gpt-5-chat*", "!gpt-5.*-chat*")
_OPENAI_REASONING = "https://developers.openai.com/api/docs/guides/reasoning (2026-11)"
_OPENAI_FIELDS = "https://platform.openai.com/docs/api-reference/chat/create (2026-11)"


def _openai(place: str) -> tuple[Facts, ...]:
    """The facts of OpenAI's models, which Azure serves, too."""
    return (
        Facts(
            place,
            Profile(rename=_NEW_LIMIT, refuses=_UNKNOWN_TO_OPENAI, past_tool_calls=True, continuation="turns"),
            _OPENAI_FIELDS,
        ),
        Facts(place, Profile(efforts=()), _OPENAI_REASONING, ("gpt-3.5*", "gpt-4*", "chatgpt-4o*", "gpt-5*-chat*")),
        Facts(
            place,
            Profile(refuses=_REASONING - {"seed"}, efforts=("low", "medium", "high")),
            "https://community.openai.com/t/developer-role-not-accepted-for-o1-o1-mini-o3-mini/1110750 (2026-11)",
            _O_SERIES,
        ),
        Facts(
            place,
            Profile(roles={"developer": "user", "system": "user"}, efforts=(), images=False),
            "https://community.openai.com/t/developer-role-not-accepted-for-o1-o1-mini-o3-mini/1110750 (2026-11)",
            ("o1-mini*", "o1-preview*"),
        ),
        Facts(
            place,
            Profile(refuses=_REASONING - {"seed"}),
            "https://developers.openai.com/api/docs/guides/latest-model (2026-11)",
            _GPT_5,
        ),
        Facts(
            place,
            Profile(efforts=("minimal", "low", "medium", "high")),
            _OPENAI_REASONING,
            ("gpt-5", "gpt-5-mini*", "gpt-5-nano*", "gpt-5-20*"),
        ),
        Facts(place, Profile(efforts=("none", "low", "medium", "high")), _OPENAI_REASONING, ("gpt-5.1*", "!*chat*")),
    )


FACTS: tuple[Facts, ...] = (
    *_openai("openai"),
    *_openai("azure"),
    Facts("together", Profile(continuation="turns"), "https://docs.together.ai/reference/chat-completions-1 (2026-11)"),
    Facts(
        "groq",
        Profile(
            refuses=frozenset(
                {
                    *("logit_bias", "messages.name", "store", "metadata", "messages.metadata"),
                    *("messages.reasoning_content", "messages.reasoning_details", "messages.annotations"),
                }
            ),
            continuation="turns",
        ),
        "https://console.groq.com/docs/openai; https://github.com/tashfeenahmed/freellmapi/issues/1070 (2026-11)",
    ),
    Facts("openrouter", Profile(continuation="turns"), "https://openrouter.ai/docs/api-reference/parameters (2026-11)"),
    Facts(
        "fireworks",
        Profile(continuation="turns"),
        "https://docs.fireworks.ai/api-reference/post-chatcompletions (2026-11)",
    ),
    Facts("deepinfra", Profile(continuation="turns"), "https://docs.deepinfra.com/chat/overview (2026-11)"),
    Facts(
        "mistral",
        Profile(
            rename={"seed": "random_seed", **_OLD_LIMIT},
            refuses=_all_but(
                *("temperature", "top_p", "seed", "random_seed", "frequency_penalty", "presence_penalty"),
                *("parallel_tool_calls", "prediction", "reasoning_effort"),
            )
            | {"messages.reasoning_content", "messages.name", "messages.refusal", "messages.annotations"},
            roles={"developer": "system"},
            continuation="flag",
        ),
        "https://docs.mistral.ai/api/endpoint/chat; https://github.com/Gitlawb/openclaude/issues/739 (2026-11)",
    ),
    Facts(
        "deepseek",
        Profile(
            rename=_OLD_LIMIT,
            roles={"developer": "system"},
            images=False,
            json_schema=False,
            continuation="turns",
        ),
        "https://api-docs.deepseek.com/api/create-chat-completion; github.com/earendil-works/pi/issues/1048 (2026-11)",
    ),
    Facts(
        "cerebras",
        Profile(
            refuses=frozenset(
                {"frequency_penalty", "logit_bias", "presence_penalty", "service_tier", "prompt_cache_key"}
            ),
            roles={"developer": "system"},
            continuation="turns",
        ),
        "https://inference-docs.cerebras.ai/resources/openai (2026-11)",
    ),
    Facts("nvidia", Profile(continuation="turns"), "https://docs.api.nvidia.com/nim/reference/llm-apis (2026-11)"),
    Facts("huggingface", Profile(continuation="turns"), "https://huggingface.co/docs/inference-providers (2026-11)"),
    Facts(
        # Silently ignores the newer name.
        "ollama",
        Profile(rename=_OLD_LIMIT),
        "https://github.com/ollama/ollama/issues/7125 (2026-11)",
    ),
    Facts(
        "vllm",
        Profile(continuation="vllm"),
        "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html (2026-11)",
    ),
    Facts(
        "sglang",
        Profile(continuation="vllm"),
        "https://docs.sglang.io (2026-11)",
    ),
    Facts(
        "llamacpp",
        Profile(continuation="prefix"),
        "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md (2026-11)",
    ),
    Facts(
        "google",
        Profile(
            rename=_OLD_LIMIT,
            refuses=frozenset(
                {
                    *(
                        "seed",
                        "prompt_cache_key",
                        "frequency_penalty",
                        "presence_penalty",
                        "top_k",
                        "logit_bias",
                        "store",
                    ),
                    *("metadata", "user", "service_tier", "prediction", "parallel_tool_calls", "verbosity"),
                    *("safety_identifier", "prompt_cache_retention", "min_p", "repetition_penalty"),
                    "messages.reasoning_content",
                }
            ),
            roles={"developer": "system"},
            continuation="turns",
        ),
        "https://ai.google.dev/gemini-api/docs/openai; https://github.com/Vali-98/ChatterUI/issues/227 (2026-11)",
    ),
    Facts(
        "xai",
        Profile(
            refuses=frozenset({"frequency_penalty", "presence_penalty", "logit_bias", "store", "metadata"}),
            roles={"developer": "system"},
            continuation="turns",
        ),
        "https://docs.x.ai/developers/model-capabilities/text/reasoning (2026-11)",
        ("grok-4*", "grok-3-mini*", "grok-code*"),
    ),
    Facts(
        "xai",
        Profile(efforts=()),
        "https://docs.x.ai/developers/model-capabilities/text/reasoning (2026-11)",
        ("grok-4", "grok-4-0709", "grok-4-latest", "grok-4-fast*", "grok-4-1*", "grok-4.20-*reasoning*", "grok-code*"),
    ),
    Facts(
        "moonshot",
        Profile(rename=_OLD_LIMIT, roles={"developer": "system"}, continuation="turns"),
        "https://platform.moonshot.ai/docs/api/chat (2026-11)",
    ),
    Facts(
        "perplexity",
        Profile(
            refuses=_all_but(
                *("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "reasoning_effort")
            ),
            rename=_OLD_LIMIT,
            roles={"developer": "system"},
            several_system=False,
            alternates=True,
            ends_with_assistant=False,
            past_tool_calls=False,
            tools=False,
            continuation="turns",
        ),
        "https://docs.perplexity.ai/api-reference/chat-completions-post (2026-11)",
    ),
    Facts(
        "cohere",
        Profile(
            rename=_OLD_LIMIT,
            refuses=frozenset(
                {
                    *("store", "metadata", "logit_bias", "prediction", "service_tier", "parallel_tool_calls", "user"),
                    *("prompt_cache_key", "safety_identifier", "verbosity"),
                }
            ),
            roles={"developer": "system"},
            continuation="turns",
        ),
        "https://docs.cohere.com/docs/compatibility-api (2026-11)",
    ),
    Facts(
        "bedrock",
        Profile(past_tool_calls=False, continuation="turns"),
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html (2026-11)",
    ),
    Facts(
        "anthropic",
        Profile(past_tool_calls=False, continuation="prefix"),
        "https://platform.claude.com/docs/en/build-with-claude/prompt-engineering/prefill-claudes-response (2026-11)",
        ("claude-3*", "claude-*-4-0*", "claude-*-4-1*", "claude-*-4-2*", "claude-*-4-5*"),
    ),
    Facts(
        "anthropic",
        Profile(past_tool_calls=False, ends_with_assistant=False, continuation="turns"),
        "https://github.com/strands-agents/sdk-python/issues/1694 (2026-11)",
        ("claude-*", "!claude-3*", "!claude-*-4-0*", "!claude-*-4-1*", "!claude-*-4-2*", "!claude-*-4-5*"),
    ),
    Facts(
        "zai",
        Profile(rename=_OLD_LIMIT, roles={"developer": "system"}, continuation="turns"),
        "https://docs.z.ai/api-reference/llm/chat-completion (2026-11)",
    ),
    Facts(
        "qwen",
        Profile(rename=_OLD_LIMIT, roles={"developer": "system"}, continuation="turns"),
        "https://help.aliyun.com/en/model-studio/qwen-api-via-openai-chat-completions (2026-11)",
    ),
    Facts(
        "sambanova",
        Profile(rename=_OLD_LIMIT, roles={"developer": "system"}, continuation="turns"),
        "https://docs.sambanova.ai/docs/en/features/openai-compatibility (2026-11)",
    ),
    Facts("nebius", Profile(continuation="turns"), "https://docs.tokenfactory.nebius.com/api-reference (2026-11)"),
    Facts(
        "vercel",
        Profile(continuation="turns"),
        "https://vercel.com/docs/ai-gateway/sdks-and-apis/openai-chat-completions (2026-11)",
    ),
    Facts(
        "vertex", Profile(continuation="turns"), "https://docs.cloud.google.com/vertex-ai/generative-ai/docs (2026-11)"
    ),
    Facts("github", Profile(continuation="turns"), "https://docs.github.com/en/rest/models/inference (2026-11)"),
)
"""Every fact, the general ones of a place before those of its models."""
