"""Addresses that clients call and this server does not have: what to set in the client instead, a sentence each.

The status is 404, which no SDK retries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from moa.server.dialects.messages.encoder import messages_error
from moa.server.failures import ErrorBody, Refusal, openai_error


class Direction(NamedTuple):
    """Paths, as a pattern of the whole path, and what a client that calls one of them should do."""

    paths: str
    sentence: str
    error: ErrorBody = openai_error


CHAT = "set your client to Chat Completions (OpenAI compatible), POST /v1/chat/completions"
BASE = "set a base URL that ends in /v1"
API = r"(chat/completions|completions|responses|messages|models|embeddings|moderations|audio|images)"

DIRECTIONS = (
    Direction(
        r"/v1/v1(/.*)?", "the base URL ends in /v1 already, and your client adds it once more: remove one of the two"
    ),
    Direction(rf"/v1/{API}/{API}(/.*)?", f"{BASE}: your client adds the rest of the path"),
    Direction(r"/v1/messages(/.*)?", "this server has POST /v1/messages and /v1/messages/count_tokens", messages_error),
    Direction(r"/v1/complete", "set your client to the Messages API, POST /v1/messages", messages_error),
    Direction(
        r"/v1/(embeddings|rerank|score)", "mixtures have no embeddings: set another server for them in your client"
    ),
    Direction(r"/v1/moderations", "this server has no moderations: set another server for them in your client"),
    Direction(
        r"/v1/(audio|images|videos|realtime)(/.*)?", "answers are texts: set another server for speech and images"
    ),
    Direction(r"/v1(/.*)?", f"{CHAT}; GET /v1/models lists the models"),
    Direction(r"/v1beta(/.*)?", f"this server does not speak Gemini's API: {CHAT}"),
    Direction(r"/openai(/.*)?", f"addresses of Azure's form are not known here: {BASE}"),
    Direction(r"/api(/.*)?", f"this is no Ollama server: choose OpenAI compatible in your client, and {BASE}"),
    Direction(rf"/{API}(/.*)?", f"the API is under /v1: {BASE}"),
)
"""The first that fits a path applies."""

ELSEWHERE = Direction(".*", "the API is under /v1, the page at /")


def no_such_path(method: str, path: str) -> tuple[Refusal, ErrorBody]:
    """The refusal of a request to a path without a route, and its form."""
    found = next((each for each in DIRECTIONS if re.fullmatch(each.paths, path)), ELSEWHERE)
    return Refusal(404, f"there is no {method} {path[:200]} here: {found.sentence}", code="unknown_url"), found.error


def no_such_method(method: str, path: str, allowed: Iterable[str]) -> Refusal:
    """The refusal of a request with a method that the path's routes do not have."""
    return Refusal(
        405, f"{path[:200]} does not take {method}: use {' or '.join(sorted(allowed))}", code="method_not_allowed"
    )
