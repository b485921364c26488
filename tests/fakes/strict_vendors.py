"""Strict servers: what each vendor refuses, in the words of its own errors, with the source beside it.

A source that is named here was read; the words are in :mod:`tests.fakes.vendor_words`. GitHub Models and Perplexity have
none: the first no longer exists, and the second no longer speaks Chat Completions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes.upstream import Body, Script, say, whole
from tests.fakes.vendor_words import (
    anthropic_words,
    azure_words,
    bedrock_words,
    cohere_words,
    fastapi_words,
    google_words,
    groq_words,
    moonshot_words,
    openai_words,
    pydantic_words,
    quoting_words,
    qwen_words,
    serde_words,
    sglang_words,
    vague_words,
    vercel_words,
    xai_words,
    zai_words,
)

STANDARD = frozenset(
    {
        *(
            "model",
            "messages",
            "stream",
            "stream_options",
            "temperature",
            "top_p",
            "max_tokens",
            "max_completion_tokens",
        ),
        *("stop", "tools", "tool_choice", "response_format", "n", "seed", "frequency_penalty", "presence_penalty"),
    }
)
"""Fields that most vendors take."""


MESSAGE = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
"""Fields of messages that most vendors take."""


@dataclass(frozen=True)
class Vendor:
    """A strict server.

    Attributes:
        name: of the place, as :mod:`moa.models.profiles` calls it.
        model: an ID of the strictest kind.
        takes: the fields of a body that it takes; others are refused. None: it ignores those that it does not know.
        message_fields: the fields of messages that it takes; None: it ignores those that it does not know.
        roles: the roles that it takes.
        images: whether it takes images.
        bare_tool_calls: whether it takes tool calls of the history without ``tools``.
        values: fields with one permitted value.
        efforts: the values of ``reasoning_effort`` that it takes; None: any.
        status: of a refusal.
        error: the body of its refusal of a path in the request, for this reason.
        source: where its strictness is documented or reported; or that it is no certain server's.
    """

    name: str
    model: str
    takes: frozenset[str] | None
    error: Callable[[str, str], Any]
    source: str
    message_fields: frozenset[str] | None = MESSAGE
    roles: frozenset[str] = frozenset({"system", "user", "assistant", "tool"})
    images: bool = True
    bare_tool_calls: bool = True
    values: Mapping[str, Any] | None = None
    efforts: tuple[str, ...] | None = None
    status: int = 400

    def script(self, body: Body) -> Script:
        """An answer, or the refusal of the first thing that it does not take."""
        for path, reason in self.faults(body):
            return whole(self.error(path, reason), status=self.status)
        return say(f"From {self.name}.")

    def faults(self, body: Body) -> Iterator[tuple[str, str]]:
        """Each thing that it does not take: its path, and why."""
        for field in body:
            if self.takes is not None and field not in self.takes:
                yield field, "unknown"
        if self.efforts is not None and body.get("reasoning_effort", self.efforts[0]) not in self.efforts:
            yield "reasoning_effort", body["reasoning_effort"]
        for field, value in (self.values or {}).items():
            if body.get(field, value) != value:
                yield field, "value"
        for at, message in enumerate(body["messages"]):
            if message["role"] not in self.roles:
                yield f"messages[{at}].role", message["role"]
            for field in message:
                if self.message_fields is not None and field not in self.message_fields:
                    yield f"messages[{at}].{field}", "unknown"
            parts = message["content"] if isinstance(message.get("content"), list) else []
            if not self.images and any(part["type"] == "image_url" for part in parts):
                yield f"messages[{at}].content", "image"
            if (
                not self.bare_tool_calls
                and not body.get("tools")
                and (message.get("tool_calls") or message["role"] == "tool")
            ):
                yield f"messages[{at}].tool_calls", "tools"


ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
VENDORS = (
    Vendor(
        "openai",
        "o3-mini",
        STANDARD - {"temperature", "top_p", "max_tokens", "frequency_penalty", "presence_penalty"}
        | {"store", "metadata", "reasoning_effort", "prompt_cache_key", "user", "service_tier", "temperature"},
        openai_words,
        "https://community.openai.com/t/developer-role-not-accepted-for-o1-o1-mini-o3-mini/1110750/7",
        message_fields=MESSAGE | {"refusal", "annotations", "audio"},
        roles=ROLES,
        values={"temperature": 1},
    ),
    Vendor(
        "mistral",
        "mistral-large-latest",
        STANDARD - {"seed", "max_completion_tokens", "stream_options"}
        | {"random_seed", "parallel_tool_calls", "metadata", "prompt_cache_key"},
        pydantic_words,
        "https://github.com/mistralai/client-python/blob/main/src/mistralai/client/models/chatcompletionrequest.py",
        status=422,
    ),
    Vendor(
        "groq",
        "llama-3.3-70b-versatile",
        STANDARD | {"user", "service_tier", "parallel_tool_calls"},
        groq_words,
        "https://console.groq.com/docs/openai",
        message_fields=frozenset({"role", "content", "tool_calls", "tool_call_id"}),
    ),
    Vendor(
        "deepseek",
        "deepseek-chat",
        STANDARD - {"max_completion_tokens", "seed"} | {"logprobs"},
        serde_words,
        "https://github.com/earendil-works/pi/issues/1048",
        images=False,
        status=422,
    ),
    Vendor(
        "google",
        "gemini-2.5-flash",
        STANDARD - {"seed", "frequency_penalty", "presence_penalty"} | {"reasoning_effort"},
        google_words,
        "https://github.com/Vali-98/ChatterUI/issues/227; https://github.com/liliMozi/openhanako/issues/394",
    ),
    Vendor(
        "bedrock",
        "anthropic.claude-3-5-sonnet",
        STANDARD - {"seed", "stream_options"},
        bedrock_words,
        "https://github.com/vxcontrol/pentagi/issues/160",
        bare_tool_calls=False,
        roles=ROLES,
    ),
    Vendor(
        "anthropic",
        "claude-sonnet-4-5",
        STANDARD - {"seed", "frequency_penalty"},
        anthropic_words,
        # Anthropic's own compatible endpoint ignores what it does not know: https://platform.claude.com/docs/en/api/openai-sdk
        "not a certain server: a proxy that passes every field on to Claude's own API",
        bare_tool_calls=False,
        roles=ROLES - {"developer"},
    ),
    Vendor(
        "xai",
        "grok-4",
        STANDARD - {"frequency_penalty", "presence_penalty", "stop"} | {"user"},
        xai_words,
        "https://github.com/miaoxworld/NativeTavern/issues/83",
        roles=ROLES,
    ),
    Vendor(
        "azure",
        "o3-mini-2025-01-31",
        STANDARD - {"temperature", "top_p", "max_tokens", "frequency_penalty", "presence_penalty"}
        | {"store", "metadata", "reasoning_effort", "prompt_cache_key", "user", "service_tier"},
        azure_words,
        "https://learn.microsoft.com/azure/foundry/openai/how-to/reasoning, in its repository's copy",
        message_fields=MESSAGE | {"refusal", "annotations", "audio"},
        roles=ROLES,
        images=False,
        efforts=("low", "medium", "high"),
    ),
    Vendor(
        # "If you pass any unsupported parameter, it is ignored."
        "vertex",
        "google/gemini-3.8-flash",
        None,
        google_words,
        "https://docs.cloud.google.com/vertex-ai/generative-ai/docs/migrate/openai/overview, in a copy",
        message_fields=None,
    ),
    Vendor(
        "moonshot",
        "kimi-k3",
        None,
        moonshot_words,
        "https://github.com/api-evangelist/moonshot-ai/blob/main/openapi/moonshot-ai-chat-api-openapi.yml",
        message_fields=None,
        values={"temperature": 1},
        efforts=("low", "high", "max"),
    ),
    Vendor(
        "zai",
        "glm-5.3",
        STANDARD - {"max_completion_tokens", "n", "frequency_penalty", "presence_penalty"}
        | {"request_id", "user_id", "do_sample", "thinking", "meta", "tool_stream"},
        zai_words,
        "https://github.com/zai-org/z-ai-sdk-python/blob/main/src/zai/api_resource/chat/completions.py",
        message_fields=frozenset({"role", "content", "tool_calls", "tool_call_id", "reasoning_content"}),
    ),
    Vendor(
        "qwen",
        "qwen3.8-flash",
        None,
        qwen_words,
        "https://github.com/ChatLab/ChatLab/issues/480",
        message_fields=None,
        roles=ROLES - {"developer"} | {"function"},
    ),
    Vendor(
        "cohere",
        "command-a-03-2025",
        STANDARD - {"max_completion_tokens", "n", "tool_choice", "stream_options"}
        | {"reasoning_effort", "stream_options"},
        cohere_words,
        "https://github.com/cohere-ai/cohere-developer-experience/blob/main/fern/pages/v2/text-generation/"
        "compatibility-api.mdx",
        roles=ROLES,
        efforts=("none", "high"),
        status=422,
    ),
    Vendor(
        "sambanova",
        "gpt-oss-120b",
        STANDARD | {"do_sample", "logit_bias", "logprobs", "parallel_tool_calls", "reasoning_effort", "top_k"},
        fastapi_words,
        "https://github.com/sambanova/sambanova-python/blob/main/src/sambanova/types/chat/completion_create_params.py",
        message_fields=None,
        efforts=("low", "medium", "high"),
        status=422,
    ),
    Vendor(
        "nebius",
        "moonshotai/kimi-k2.7-code",
        STANDARD | {"store", "logit_bias", "logprobs", "top_logprobs", "user", "service_tier", "reasoning_effort"},
        fastapi_words,
        "https://docs.tokenfactory.nebius.com/api-reference/inference/create-chat-completion; "
        "https://github.com/PrimeIntellect-ai/prime-agent/pull/715",
        message_fields=MESSAGE | {"reasoning_content", "reasoning"},
        status=422,
    ),
    Vendor(
        # A gateway that takes OpenAI's fields; its documentation names none that it refuses.
        "vercel",
        "zai/glm-5.3",
        None,
        vercel_words,
        "https://vercel.com/docs/ai-gateway/openai-compat",
        message_fields=None,
        roles=ROLES,
    ),
    Vendor(
        # pydantic models that ignore what they do not know; newer versions take a developer's message, too.
        "sglang",
        "on-sglang",
        None,
        sglang_words,
        "https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/entrypoints/openai/protocol.py, as of 2025",
        message_fields=None,
        roles=ROLES - {"developer"} | {"function"},
    ),
    Vendor("gateway", "vague", STANDARD - {"seed"}, vague_words, "not a certain server: the worst case"),
    Vendor("vllm", "strict", STANDARD - {"seed"}, quoting_words, "https://github.com/vllm-project/vllm/issues/10078"),
)
