"""A question as callers give it, and the request that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from moa.messages import Message, Request
from moa.mixture.asking import AGGREGATOR_ONLY, SAMPLING
from moa.mixture.plan import Plan

Question = str | Sequence[Message] | Mapping[str, Any] | Request
"""A text, a list of messages, a Chat Completions body, or a request."""

_SETTINGS = frozenset(setting.name for setting in fields(Plan)) | {"aggregator", "fallbacks", "ranker", "catalog"}
_ARGUMENTS = ("on_event", "restart", "proposals", "kept")
_KNOWN = (*SAMPLING, *sorted(AGGREGATOR_ONLY), "user", "metadata", "store", "service_tier", "verbosity")


def request_of(question: Question, sampling: Mapping[str, Any]) -> Request:
    """The request for a question, with fields that override those of a body; a field that is None is removed.

    Any field of a Chat Completions body may be given, a vendor's own as well.

    Raises:
        RequestRejected: the question is malformed.
        TypeError: a field's name is misspelt, or belongs to something else.
    """
    for name in sampling:
        _check(name)
    request = Request.of(question)
    return request.replaced(**sampling) if sampling else request


def _check(name: str) -> None:
    if name == "messages":
        raise TypeError("'messages' is no keyword: pass the list of messages as the question")
    if name in _SETTINGS:
        raise TypeError(f"{name!r} is a setting of the mixture, not a field of a request: Mixture(…, {name}=…)")
    if name == "on_event":
        raise TypeError("'on_event' is an argument of answer() and ask(); iterate run() for events")
    near = get_close_matches(name, (*_KNOWN, *_ARGUMENTS), n=1, cutoff=0.85)
    if near and name not in _KNOWN:
        raise TypeError(f"{name!r} is no field of a request; did you mean {near[0]!r}?")
