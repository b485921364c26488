"""The servers that this project knows by name: address, API key and differences from OpenAI.

Notable decisions:
- A provider is a row of facts, not a class: the differences are small enough to be data.
- API keys come from the environment variables that the vendors' own tools read, and are never stored.
- A server on this machine needs no key. Where its usual variable is set, the key is sent, since such a server may have
  been started with one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from urllib.parse import urlsplit

from moa.errors import KeyMissing


@dataclass(frozen=True, slots=True)
class Provider:
    """A server that speaks Chat Completions.

    Attributes:
        name: the part of ``provider/model`` before the first slash.
        label: its name as its vendor writes it.
        base_url: its address, up to and with the ``/v1`` before ``/chat/completions``.
        key_variable: the environment variable that holds its API key; None where there is no usual one.
        page: the URL where one gets a key, or that explains how to start the server.
        local: whether it runs on this machine, so that it needs no key and may not be running.
        url_variable: the environment variable that overrides its address; None where there is no usual one.
        continuation: how its models continue a text that they have begun; see :class:`moa.models.endpoint.Endpoint`.
        renames: request fields that have another name there, from OpenAI's name to its own.
    """

    name: str
    label: str
    base_url: str
    key_variable: str | None
    page: str
    local: bool = False
    url_variable: str | None = None
    renames: Mapping[str, str] = field(default_factory=dict, hash=False)
    continuation: str | None = None

    def url(self, environ: Mapping[str, str] = os.environ) -> str:
        """Its address, with the environment's override."""
        override = environ.get(self.url_variable, "").strip() if self.url_variable else ""
        if not override:
            return self.base_url
        return ollama_url(override) if self.url_variable == "OLLAMA_HOST" else override

    def key(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """Its API key from the environment; None where it is on this machine and no key is set.

        Raises:
            KeyMissing: it needs a key, and the variable is unset or empty.
        """
        key = environ.get(self.key_variable, "").strip() if self.key_variable else ""
        if key or self.key_variable is None:
            return key or None
        if self.local or is_loopback(urlsplit(self.url(environ)).hostname):
            return None
        raise KeyMissing(self.key_variable, f"{self.label} ({self.page})")


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address means this machine."""
    if host is None:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def ollama_url(host: str) -> str:
    """The base URL for a value of ``OLLAMA_HOST``, which may lack the scheme, the port and even the host.

    The server reads the same variable as its listening address, so it may mean "every address", which no client can
    connect to: that becomes this machine. https://github.com/ollama/ollama/blob/main/envconfig/config.go
    """
    scheme, _, rest = host.strip().strip("\"'").rpartition("://")
    parts = urlsplit(f"{scheme or 'http'}://{rest}")
    name = parts.hostname or "127.0.0.1"
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    port = parts.port or {"http": 80, "https": 443}.get(scheme, 11434)
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{port}{parts.path.rstrip('/')}/v1"


# OpenAI deprecates max_tokens, and its newer models refuse it. Mistral refuses the newer name, and Ollama silently
# ignores it: https://github.com/ollama/ollama/issues/7125
_OPENAI = MappingProxyType({"max_tokens": "max_completion_tokens"})
_OLDER = MappingProxyType({"max_completion_tokens": "max_tokens"})
# https://docs.mistral.ai/api/endpoint/chat
_MISTRAL = MappingProxyType({"seed": "random_seed", **_OLDER})

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        provider.name: provider
        for provider in (
            Provider(
                name="openai",
                label="OpenAI",
                base_url="https://api.openai.com/v1",
                key_variable="OPENAI_API_KEY",
                page="https://platform.openai.com/api-keys",
                url_variable="OPENAI_BASE_URL",
                renames=_OPENAI,
                continuation="turns",
            ),
            Provider(
                name="together",
                label="Together AI",
                base_url="https://api.together.xyz/v1",
                key_variable="TOGETHER_API_KEY",
                page="https://api.together.ai/settings/api-keys",
                continuation="turns",
            ),
            Provider(
                name="groq",
                label="Groq",
                base_url="https://api.groq.com/openai/v1",
                key_variable="GROQ_API_KEY",
                page="https://console.groq.com/keys",
                continuation="turns",
            ),
            Provider(
                name="openrouter",
                label="OpenRouter",
                base_url="https://openrouter.ai/api/v1",
                key_variable="OPENROUTER_API_KEY",
                page="https://openrouter.ai/settings/keys",
                continuation="turns",
            ),
            Provider(
                name="fireworks",
                label="Fireworks AI",
                base_url="https://api.fireworks.ai/inference/v1",
                key_variable="FIREWORKS_API_KEY",
                page="https://app.fireworks.ai/settings/users/api-keys",
                continuation="turns",
            ),
            Provider(
                name="deepinfra",
                label="DeepInfra",
                base_url="https://api.deepinfra.com/v1/openai",
                key_variable="DEEPINFRA_API_KEY",
                page="https://deepinfra.com/dash/api_keys",
                continuation="turns",
            ),
            Provider(
                name="mistral",
                label="Mistral AI",
                base_url="https://api.mistral.ai/v1",
                key_variable="MISTRAL_API_KEY",
                page="https://console.mistral.ai/api-keys",
                renames=_MISTRAL,
                continuation="flag",
            ),
            Provider(
                name="deepseek",
                label="DeepSeek",
                base_url="https://api.deepseek.com/v1",
                key_variable="DEEPSEEK_API_KEY",
                page="https://platform.deepseek.com/api_keys",
                renames=_OLDER,
                continuation="turns",
            ),
            Provider(
                name="cerebras",
                label="Cerebras",
                base_url="https://api.cerebras.ai/v1",
                key_variable="CEREBRAS_API_KEY",
                page="https://cloud.cerebras.ai",
                continuation="turns",
            ),
            Provider(
                name="nvidia",
                label="NVIDIA",
                base_url="https://integrate.api.nvidia.com/v1",
                key_variable="NVIDIA_API_KEY",
                page="https://build.nvidia.com/settings/api-keys",
                continuation="turns",
            ),
            Provider(
                name="huggingface",
                label="Hugging Face",
                base_url="https://router.huggingface.co/v1",
                key_variable="HF_TOKEN",
                page="https://huggingface.co/settings/tokens",
                continuation="turns",
            ),
            Provider(
                name="ollama",
                label="Ollama",
                base_url="http://127.0.0.1:11434/v1",
                key_variable="OLLAMA_API_KEY",
                page="https://docs.ollama.com/quickstart",
                local=True,
                url_variable="OLLAMA_HOST",
                renames=_OLDER,
            ),
            Provider(
                name="vllm",
                label="vLLM",
                base_url="http://127.0.0.1:8000/v1",
                key_variable="VLLM_API_KEY",
                page="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
                local=True,
                continuation="vllm",
            ),
            Provider(
                name="lmstudio",
                label="LM Studio",
                base_url="http://127.0.0.1:1234/v1",
                key_variable="LM_API_TOKEN",
                page="https://lmstudio.ai/docs/developer",
                local=True,
            ),
            Provider(
                name="llamacpp",
                label="llama.cpp",
                base_url="http://127.0.0.1:8080/v1",
                key_variable="LLAMA_API_KEY",
                page="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
                local=True,
                continuation="prefix",
            ),
        )
    }
)
"""Every provider known by name, in the order of listings."""
