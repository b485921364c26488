"""Which server answers at an address: facts about a server follow its address, not the name that a user gives it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from moa.models.providers import PROVIDERS

HOSTS = {
    "azure": ("*.openai.azure.com", "*.services.ai.azure.com", "*.cognitiveservices.azure.com"),
    "bedrock": ("bedrock-runtime.*.amazonaws.com", "bedrock-mantle.*.api.aws"),
    "google": ("generativelanguage.googleapis.com",),
    "vertex": ("*aiplatform.googleapis.com",),
    "anthropic": ("api.anthropic.com",),
    "xai": ("api.x.ai", "*.api.x.ai"),
    "moonshot": ("api.moonshot.ai", "api.moonshot.cn"),
    "zai": ("api.z.ai", "open.bigmodel.cn"),
    "qwen": ("dashscope*.aliyuncs.com", "*.maas.aliyuncs.com"),
    "perplexity": ("api.perplexity.ai",),
    "cohere": ("api.cohere.ai", "api.cohere.com"),
    "sambanova": ("api.sambanova.ai",),
    "github": ("models.github.ai",),
    "openai": ("api.openai.com", "*.api.openai.com"),
    "together": ("api.together.xyz", "api.together.ai"),
    # https://api-docs.deepseek.com/guides/chat_prefix_completion: only there does it continue a text
    "deepseek-beta": ("api.deepseek.com/beta*",),
    "deepseek": ("api.deepseek.com",),
}
"""Patterns of the hosts of a place, or of its hosts with a path, besides the address of the provider of that name."""

PORTS = {11434: "ollama", 1234: "lmstudio"}
"""Ports that only one kind of server uses by default, wherever it runs."""


def place_of(base_url: str, provider: str | None = None) -> str | None:
    """The place that an address belongs to: a key of :data:`HOSTS` or a provider's name; None where it is unknown.

    Args:
        provider: a provider known by name that the address was taken from. It is the place of an address on this machine
            or of the user's own, where the address itself does not say which server answers.
    """
    url = urlsplit(base_url)
    host = (url.hostname or "").lower()
    for place, hosts in HOSTS.items():
        if matches([host, f"{host}{url.path}"], hosts):
            return place
    for known in PROVIDERS.values():
        if not known.local and urlsplit(known.base_url).hostname == host:
            return known.name
    if provider is not None and provider in PROVIDERS and PROVIDERS[provider].local:
        return provider
    return PORTS.get(url.port or 0)


def matches(names: Iterable[str], patterns: Iterable[str]) -> bool:
    """Whether one of the names has the form of one of the patterns."""
    patterns = tuple(patterns)
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
