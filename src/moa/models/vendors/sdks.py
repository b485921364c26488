"""The vendors' SDKs: whether they are installed, their clients, and their models as ``pydantic-ai`` wraps them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from moa.models.provider import Api

if TYPE_CHECKING:
    from pydantic_ai.models import Model
    from pydantic_ai.providers import Provider

SDKS = {"anthropic": "anthropic", "google": "google.genai", "bedrock": "boto3", "responses": "openai"}
"""The package that each API needs beside ``pydantic-ai``."""

_REASONS = {"supports_thinking": True, "openai_supports_reasoning": True}
REASONERS: Mapping[str, Mapping[str, bool]] = {
    # https://docs.x.ai/developers/model-capabilities/text/comparison (2026-11-25)
    "grok-": {**_REASONS, "openai_supports_encrypted_reasoning_content": True},
    # https://github.com/vercel/ai/releases/tag/@ai-sdk%2Fperplexity@5.0.0 (2026-11-25): effort in ``reasoning``
    "perplexity/": _REASONS,
}
"""What models of other makers than OpenAI take at a Responses API, by the beginning of their names."""

RESPONSES: ContextVar[list[Any] | None] = ContextVar("RESPONSES", default=None)
"""The HTTP responses that the running call has opened, to be closed with it. Google's SDK leaves that to the garbage
collector, so a call that nobody reads any more would be written, and paid, to its end.
"""

MODULES = {"anthropic": "anthropic", "google": "google", "bedrock": "bedrock", "responses": "openai"}
"""The module of ``pydantic_ai.models`` that has each API's models."""

INSTALL = "pip install 'mixture-of-agents[vendors]'"


def is_installed(api: Api) -> bool:
    try:
        return find_spec("pydantic_ai") is not None and find_spec(SDKS[api]) is not None
    except ModuleNotFoundError:
        return False


def client_of(
    api: Api, base_url: str | None, key: str | None, region: str | None
) -> tuple[Provider[Any], Callable[[], Awaitable[object]]]:
    """The client of a vendor's SDK, and what closes it. A key is never looked up here: the SDK gets the one it is given."""
    for module in ("pydantic_ai.direct", f"pydantic_ai.models.{MODULES[api]}"):
        import_module(module)  # here, in a thread, and not at the first call: these take seconds
    match api:
        case "anthropic":
            from pydantic_ai.providers.anthropic import AnthropicProvider

            provider: Any = AnthropicProvider(api_key=key or "none", base_url=base_url)
            return provider, provider.client.close
        case "google":
            from pydantic_ai.providers.google import GoogleProvider

            http = _followed()
            return GoogleProvider(api_key=key or "none", base_url=base_url, http_client=http), http.aclose
        case "responses":
            from pydantic_ai.providers.openai import OpenAIProvider

            provider = OpenAIProvider(api_key=key or "none", base_url=base_url)
            return provider, provider.client.close
    from pydantic_ai.providers.bedrock import BedrockProvider

    client = _bedrock_client(base_url, key, region)
    return BedrockProvider(bedrock_client=client), partial(asyncio.to_thread, client.close)


def _followed() -> Any:
    """An HTTP client whose responses are appended to :data:`RESPONSES`."""
    import httpx2

    async def opened(response: Any) -> None:
        if (responses := RESPONSES.get()) is not None:
            responses.append(response)

    return httpx2.AsyncClient(timeout=httpx2.Timeout(600, connect=10), event_hooks={"response": [opened]})


def _bedrock_client(base_url: str | None, key: str | None, region: str | None) -> Any:
    """A client that makes one attempt, with a bearer token or the credentials that boto3 finds."""
    import boto3
    import botocore.session
    from botocore.config import Config
    from botocore.tokens import FrozenAuthToken

    session = botocore.session.Session()
    fields: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "read_timeout": 600}
    if key:
        session.get_auth_token = lambda **_: FrozenAuthToken(key)
        session.get_credentials = lambda: None  # or boto3 looks for others, in the network too
        fields["signature_version"] = "bearer"
    region = region or session.get_config_variable("region") or "us-east-1"
    return boto3.Session(botocore_session=session, region_name=region).client(
        "bedrock-runtime", config=Config(**fields), endpoint_url=base_url
    )


def model_of(api: Api, model_id: str, provider: Any) -> Model:
    match api:
        case "anthropic":
            from pydantic_ai.models.anthropic import AnthropicModel

            return AnthropicModel(model_id, provider=provider)
        case "google":
            from pydantic_ai.models.google import GoogleModel

            return GoogleModel(model_id, provider=provider)
        case "responses":
            from pydantic_ai.models.openai import OpenAIResponsesModel

            known = provider.model_profile(model_id) or {}
            more = next((facts for start, facts in REASONERS.items() if model_id.startswith(start)), {})
            return OpenAIResponsesModel(model_id, provider=provider, profile={**known, **more})
    from pydantic_ai.models.bedrock import BedrockConverseModel

    return BedrockConverseModel(model_id, provider=provider)
