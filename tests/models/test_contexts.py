"""Refusals of prompts that are too long, as servers word them."""

from __future__ import annotations

import pytest

from moa.models import traits_of
from moa.models.contexts import context_in, is_too_long
from moa.models.endpoint import Endpoint
from tests.fakes.upstream import Upstream, whole

pytestmark = pytest.mark.anyio

WORDINGS = [
    # OpenAI, Azure, DeepSeek, vLLM: https://community.openai.com/t/context-length-vs-max-token-vs-maximum-length/125585
    ("This model's maximum context length is 4096 tokens. However, your messages resulted in 4500 tokens.", 4096),
    ("maximum context length is 128000 tokens. However, you requested 129000 tokens (119000 in the messages)", 128000),
    ("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.", 272000),
    ("Your input exceeds the context window of this model. Please adjust your input and try again.", None),
    # GitHub Copilot, code model_max_prompt_tokens_exceeded
    ("prompt token count of 140000 exceeds the limit of 128000", 128000),
    # Anthropic: https://docs.anthropic.com/en/docs/build-with-claude/context-windows
    ("prompt is too long: 208310 tokens > 200000 maximum", 200000),
    ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length", 200000),
    # Gemini
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1048576),
    # vLLM: https://github.com/vllm-project/vllm/blob/main/vllm/v1/engine/input_processor.py
    ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 4096),
    # llama.cpp: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/server-context.cpp
    ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", 4096),
    ("the request exceeds the available context size. try increasing the context size", None),
    ('"type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096', 4096),
    # Mistral: https://github.com/BerriAI/litellm/issues
    ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", 32768),
    # Groq, Cerebras
    ("Please reduce the length of the messages or completion.", None),
    ("Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192", 8192),
    # Together, text-generation-inference
    ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000", 8193),
    # xAI
    ("This model's maximum prompt length is 131072 but the request contains 140000 tokens.", 131072),
    # Bedrock
    ("Input is too long for requested model.", None),
    # LM Studio
    ("the model is loaded with context length of only 4096 tokens, which is not enough", 4096),
    # Moonshot
    ("Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)", 8192),
    # SGLang
    ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 4096),
    # Qwen
    ("Range of input length should be [1, 30720]", 30720),
    # GitHub Models
    ("Request body too large for gpt-4o model. Max size: 8000 tokens.", 8000),
    # Fireworks
    ("The prompt is too long: 9000, model maximum context length: 8192", 8192),
]

OTHERS = [
    "Rate limit reached for model `m` on tokens per minute (TPM): Limit 6000, Requested 7000. Reduce the length",
    "Unsupported parameter: 'temperature' is not supported with this model.",
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
    "The model `m` does not exist",
    "",
]


@pytest.mark.parametrize(("refusal", "size"), WORDINGS)
def test_every_servers_wording_is_understood(refusal: str, size: int | None) -> None:
    """A refusal of a long prompt is recognised, and so is the size of the context where the refusal gives it."""
    assert is_too_long(refusal)
    assert context_in(refusal) == size


@pytest.mark.parametrize("refusal", OTHERS)
def test_other_refusals_are_not_about_the_context(refusal: str) -> None:
    """A rate limit, an answer's limit and a refused field say nothing of the context."""
    assert not is_too_long(refusal)
    assert context_in(refusal) is None


@pytest.mark.parametrize(
    "entry",
    [
        {"id": "m", "context_length": 8192},
        {"id": "m", "max_model_len": 8192},
        {"id": "m", "context_window": 8192},
        {"id": "m", "max_context_length": 8192},
        {"id": "m", "meta": {"n_ctx": 8192}},
    ],
)
async def test_a_list_of_models_may_have_the_sizes_of_their_contexts(
    upstream: Upstream, endpoint: Endpoint, entry: dict[str, object]
) -> None:
    """Whatever the field is called, the size is in the profile of the model from then on."""
    upstream.script("/models", whole({"data": [entry, {"id": "other"}]}))
    assert await endpoint.models() == ["m", "other"]
    assert traits_of(endpoint.model("m")).profile.context_tokens == 8192
    assert traits_of(endpoint.model("other")).profile.context_tokens is None
