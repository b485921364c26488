"""A provider: address and API key, as one row of facts. What its models take: :mod:`moa.models.profiles`.

Notable decisions:
- A provider is a row of facts, not a class: the differences are small enough to be data.
- API keys come from the environment variables that the vendors' own tools read, and are never stored.
- A server on this machine needs no key. Where its usual variable is set, the key is sent, since such a server may have
  been started with one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from moa.errors import AddressMissing, ConfigError, KeyMissing

Api: TypeAlias = Literal["chat", "responses", "anthropic", "google", "bedrock"]
"""What a server speaks. ``chat`` is Chat Completions; the others are vendors' own APIs, see :mod:`moa.models.vendors`."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A server known by name.

    Attributes:
        name: the part of ``provider/model`` before the first slash.
        label: its name as its vendor writes it.
        base_url: its address, up to and with the ``/v1`` before ``/chat/completions``; empty where every user has one of
            their own, which ``url_variable`` holds.
        key_variable: the environment variable that holds its API key; None where there is no usual one.
        key_synonyms: other variables that tools read for the same key, in order.
        keyless_with: variables that mean that credentials come from elsewhere, so that no key is needed.
        page: the URL where one gets a key, or that explains how to start the server.
        local: whether it runs on this machine, so that it needs no key and may not be running.
        url_variable: the environment variable that overrides its address; None where there is no usual one.
        address: makes the base URL from the value of ``url_variable`` and the environment; None: the value is the base URL.
        url_example: what ``url_variable`` holds, for the error that says it is not set.
        api: what it speaks.
        auth_header: the header that holds the key; another than ``Authorization`` holds the key alone, without ``Bearer``.
        key_command: prints a key that expires; see :class:`moa.models.credential.Credential`.
        auto_variable: the environment variable that lets ``auto`` pick it; by default those of its key.
        retired: where it no longer exists: since when, and what replaces it.
        source: the documentation behind this row, as of ``checked``; by default ``page``.
        checked: the date on which somebody read it.
    """

    name: str
    label: str
    base_url: str
    key_variable: str | None
    page: str
    local: bool = False
    key_synonyms: tuple[str, ...] = ()
    keyless_with: tuple[str, ...] = ()
    url_variable: str | None = None
    address: Callable[[str, Mapping[str, str]], str] | None = None
    url_example: str = ""
    api: Api = "chat"
    auth_header: str = "Authorization"
    key_command: tuple[str, ...] = ()
    auto_variable: str | None = None
    retired: str = ""
    source: str = ""
    checked: str = "2026-11-25"

    def url(self, environ: Mapping[str, str] = os.environ) -> str:
        """Its address, with the environment's override.

        Raises:
            AddressMissing: every user has an address of their own there, and the variable is unset or empty.
            ConfigError: it no longer exists.
        """
        if self.retired:
            raise ConfigError(f"{self.label} was retired {self.retired} ({self.source or self.page})")
        value = environ.get(self.url_variable, "").strip() if self.url_variable else ""
        if value:
            return self.address(value, environ) if self.address else value
        if not self.base_url and self.url_variable:
            raise AddressMissing(self.url_variable, f"{self.label} ({self.page})", self.url_example)
        return self.base_url

    def key(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """Its API key from the environment; None where it needs none, or is on this machine and no key is set.

        Raises:
            KeyMissing: it needs a key, and the variable is unset or empty.
        """
        if variable := self.key_is_in(environ):
            return environ[variable].strip()
        if self.key_variable is None or self.local or any(environ.get(name) for name in self.keyless_with):
            return None
        if is_loopback(urlsplit(self.url(environ)).hostname):
            return None
        raise KeyMissing(self.key_variable, f"{self.label} ({self.page})")

    def auto_is_set(self, environ: Mapping[str, str]) -> str | None:
        """The variable that is set and lets ``auto`` pick this provider; None where none is, or where it is "false"."""
        if self.auto_variable is None:
            return self.key_is_in(environ)
        switched_on = environ.get(self.auto_variable, "").strip().lower() not in ("", "0", "false")
        return self.auto_variable if switched_on else None

    def key_is_in(self, environ: Mapping[str, str]) -> str | None:
        """The first of its key's variables that is set; None where none is."""
        names = (self.key_variable, *self.key_synonyms)
        return next((name for name in names if name and environ.get(name, "").strip()), None)


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address means this machine."""
    if host is None:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_remote(url: str | None) -> bool:
    """Whether a server is outside the user's own network, so that a call may be billed whatever the server is called."""
    return url is not None and not is_own_network(urlsplit(url).hostname)


_OWN_SUFFIXES = (".localhost", ".local", ".lan", ".internal", ".home.arpa")


def is_own_network(host: str | None) -> bool:
    """Whether a host name or address means this machine or a private network: a name without a dot (a container's), a
    private name (RFC 6762, RFC 8375), or an address that the Internet does not route.
    """
    if host is None:
        return False
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_OWN_SUFFIXES)


def ollama_url(host: str, environ: Mapping[str, str] | None = None) -> str:
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


def azure_url(endpoint: str, environ: Mapping[str, str]) -> str:
    """The base URL for a value of ``AZURE_OPENAI_ENDPOINT``: a resource's address, or its address up to ``/openai/v1``.

    With ``OPENAI_API_VERSION`` it is the deployments API, where the deployment's name stands in the URL; without, the v1
    API, which takes no version. https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
    """
    resource = endpoint.strip().rstrip("/")
    version = environ.get("OPENAI_API_VERSION", "").strip()
    if resource.endswith("/v1"):
        return resource
    resource = resource.removesuffix("/openai")
    return f"{resource}/openai/deployments/{{model}}?api-version={version}" if version else f"{resource}/openai/v1"


def vertex_url(project: str, environ: Mapping[str, str]) -> str:
    """The base URL for a value of ``GOOGLE_CLOUD_PROJECT``, in ``GOOGLE_CLOUD_LOCATION`` (``global`` by default).

    https://docs.cloud.google.com/vertex-ai/generative-ai/docs/migrate/openai/examples
    """
    location = environ.get("GOOGLE_CLOUD_LOCATION", "").strip() or "global"
    host = "aiplatform.googleapis.com" if location == "global" else f"{location}-aiplatform.googleapis.com"
    return f"https://{host}/v1/projects/{project}/locations/{location}/endpoints/openapi"


def bedrock_url(region: str, environ: Mapping[str, str] | None = None) -> str:
    """The address of Bedrock's runtime in a region. https://docs.aws.amazon.com/general/latest/gr/bedrock.html"""
    return f"https://bedrock-runtime.{region}.amazonaws.com"
