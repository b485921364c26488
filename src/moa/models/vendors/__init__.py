"""Anthropic, Gemini, Bedrock and Perplexity through their own APIs, by way of ``pydantic-ai``. Needs the extra ``vendors``.

Notable decisions:
- Where a maker does not recommend its OpenAI-compatible endpoint, or has none, its own API is called through its own SDK.
- The SDKs do not retry: :mod:`moa.models.retries` does, so that every attempt is seen.
- Nothing of an SDK is imported before the first call: the imports take five seconds of CPU, in a thread.

https://pydantic.dev/docs/ai/models/overview/
"""
