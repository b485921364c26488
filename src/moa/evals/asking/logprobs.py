"""The log-probabilities of an answer's first token, in whatever form a server reports them.

The forms, each with a place where it is described:

- ``content``: a list of tokens, each with ``top_logprobs``
  (https://platform.openai.com/docs/api-reference/chat/object#chat-object-choices-logprobs)
- ``tokens``, ``token_logprobs``, ``top_logprobs`` side by side, the last a list of mappings from token to log-probability
  (https://pub.dev/documentation/openai_dart/0.4.4/openai_dart/CompletionLogprobs-class.html)
- a list of tokens without ``content`` (https://github.com/ollama/ollama-python/pull/601); candidates as a mapping; ``probs``
  and ``tok_str`` in place of ``top_logprobs`` and ``token``
- -9999 for a token of no probability (https://rocm.docs.amd.com/projects/atom/en/main/chat_logprobs.html)

Whatever is null, is no number or has another form is left out; where nothing is left, the server reported nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from moa.messages import Delta

LEAST = -9999.0
"""The log-probability of an impossible token, where a server sends minus infinity, which JSON cannot hold."""

_TOKEN = ("token", "tok_str", "decoded_token", "text")
_CANDIDATES = ("top_logprobs", "top_probs", "probs")
_BLANK = re.compile(r"[\s▁ĠĊ\ufeff\u200b]*|<[|｜][^>]*[|｜]>|</?s>")
"""A token that says nothing: white space in any tokenizer's notation, or a mark of a chat template."""


def first_token(deltas: Iterable[Delta]) -> dict[str, float] | None:
    """The log-probabilities of the candidates for the first token that says something, by token.

    A candidate that a server does not list is not in the result. None if the server reported none.
    """
    for delta in deltas:
        for chosen, candidates in _positions((delta.extra or {}).get("logprobs")):
            if candidates and not (chosen is not None and _BLANK.fullmatch(chosen)):
                return candidates
    return None


def _positions(value: Any) -> Iterator[tuple[str | None, dict[str, float]]]:
    """For each token of an answer: the one that was chosen, if that is known, and its candidates."""
    if isinstance(value, list):
        for entry in value:
            if isinstance(entry, Mapping):
                yield _text(entry), {**_candidates(_first(entry, _CANDIDATES)), **_one(entry)}
        return
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("content"), list):
        yield from _positions(value["content"])
        return
    if isinstance(value.get("content"), Mapping):
        yield from _positions([value["content"]])
        return
    tokens, chosen = (value[name] if isinstance(value.get(name), list) else [] for name in ("tokens", "token_logprobs"))
    top = value["top_logprobs"] if isinstance(value.get("top_logprobs"), list) else []
    if not tokens and not top:
        yield from _positions([value])
        return
    for place in range(max(len(tokens), len(top))):
        token = str(tokens[place]) if place < len(tokens) and tokens[place] is not None else None
        logprob = _number(chosen[place]) if place < len(chosen) else None
        own = {} if token is None or logprob is None else {token: logprob}
        yield token, {**(_candidates(top[place]) if place < len(top) else {}), **own}


def _candidates(value: Any) -> dict[str, float]:
    if isinstance(value, Mapping):
        found: dict[str, float] = {}
        for token, logprob in value.items():
            if isinstance(logprob, Mapping):  # vLLM's own API: by token ID
                found |= _one({"token": str(token), **logprob})
            elif (number := _number(logprob)) is not None:
                found[str(token)] = number
        return found
    found = {}
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, Mapping):
            found |= _one(entry) if _text(entry) is not None else _candidates(entry)
    return found


def _one(entry: Mapping[str, Any]) -> dict[str, float]:
    token, logprob = _text(entry), _number(entry.get("logprob"))
    if logprob is None and (probability := _number(entry.get("prob"), most=1.0)) is not None:
        logprob = math.log(probability) if probability > 0 else LEAST
    return {} if token is None or logprob is None else {token: logprob}


def _text(entry: Mapping[str, Any]) -> str | None:
    token = _first(entry, _TOKEN)
    return token if isinstance(token, str) else None


def _first(entry: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def _number(value: Any, most: float = 0.0) -> float | None:
    """A log-probability, at most ``most``; None for anything else. Rounding errors above it count as it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if math.isnan(number) or number > most + 0.01:
        return None
    return max(LEAST, min(most, number))
