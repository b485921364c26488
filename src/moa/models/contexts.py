"""Refusals of prompts that do not fit a model's context: every vendor words them differently, and few give a code.

The wordings are those of the vendors' own errors, as public reports quote them; the tests hold one of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = r"(\d[\d,]*)"

_TOO_LONG = re.compile(
    r"|".join(
        (
            r"context[_ -]?(length|window|size|limit)|model token limit|maximum prompt length|maximum model length",
            r"prompt is too long|prompt exceeds|too many tokens|input is too long|input is longer than|input length exceeds",
            r"(input|prompt) token count|input tokens exceed|range of input length|inputs?`? tokens \+|reduce the length of",
            r"n_ctx|max_model_len|exceed_context_size|tokens_limit_reached|request body too large for|too large for model",
        )
    ),
    re.IGNORECASE,
)
_ANOTHER_LIMIT = re.compile(
    r"per (minute|second|day|hour)|\b[tr]p[md]\b|max_(completion_|output_)?tokens\W{0,2} (must|should|has to) be",
    re.IGNORECASE,
)
"""Words about a rate, or about the longest answer."""


_SIZE = re.compile(
    r"|".join(
        (
            rf"(?:context|prompt|model|input)[ _](?:length|window|size|limit)(?: of(?: only)?| is)?:? \(?{_NUMBER}\b(?! \+)",
            rf"(?:context|available) size \({_NUMBER} tokens\)",
            rf"context length \({_NUMBER} tokens\)",
            rf"\"?n_ctx\"?:? ?{_NUMBER}",
            rf"> {_NUMBER}(?: maximum|, decrease)",
            rf"maximum number of tokens allowed \(?{_NUMBER}",
            rf"configured limit of {_NUMBER} tokens",
            rf"with {_NUMBER} maximum context length",
            rf"must be <= {_NUMBER}",
            rf"while limit is {_NUMBER}",
            rf"model token limit: {_NUMBER}",
            rf"input length should be \[\d+, ?{_NUMBER}\]",
            rf"Max size: {_NUMBER} tokens",
            rf"cannot exceed {_NUMBER}",
            rf"token count of [\d,]+ exceeds the limit of {_NUMBER}",
        )
    ),
    re.IGNORECASE,
)
_LEAST = 256
"""A smaller number is no size of a context: it may be a version, a place in a list, a count of messages."""


def context_of(model: Mapping[str, Any]) -> int | None:
    """The tokens of a model's context, where its entry in a server's list of models has them.

    ``context_length``: OpenRouter, Together, Fireworks, Moonshot; ``max_model_len``: vLLM, SGLang; ``context_window``: Groq;
    ``max_context_length``: Mistral, LM Studio; ``meta.n_ctx``: llama.cpp.
    """
    meta = model.get("meta")
    sizes = [model.get(name) for name in ("context_length", "max_model_len", "context_window", "max_context_length")]
    sizes.append(meta.get("n_ctx") if isinstance(meta, Mapping) else None)
    return next((size for size in sizes if isinstance(size, int) and size >= _LEAST), None)


def is_too_long(refusal: str) -> bool:
    """Whether a server's refusal says that the prompt, or the prompt and its answer, exceed the model's context."""
    return bool(_TOO_LONG.search(refusal)) and not _ANOTHER_LIMIT.search(refusal)


def context_in(refusal: str) -> int | None:
    """The tokens of the model's context, where a refusal of a prompt that is too long gives them."""
    if not is_too_long(refusal):
        return None
    sizes = (int(next(filter(None, found.groups())).replace(",", "")) for found in _SIZE.finditer(refusal))
    return next((size for size in sizes if size >= _LEAST), None)
