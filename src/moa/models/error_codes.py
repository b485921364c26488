"""What a server's error means: OpenAI's code for it, the HTTP status it would have had, and whether a retry can help.

Clients act on OpenAI's codes: coding agents shorten a conversation at ``context_length_exceeded`` and stop at
``insufficient_quota``. Other servers have other names for these, or only words.

Notable decisions:
- A name that the table knows counts before words, and words before a name that it does not know: DeepSeek calls an empty
  account ``invalid_request_error``.
- Words about a quota do not count where the server says when to call again: Gemini says "You exceeded your current quota" of
  a limit per minute.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moa.models.contexts import is_too_long


@dataclass(frozen=True, slots=True)
class Meaning:
    """One kind of error.

    Attributes:
        code: OpenAI's word for it.
        status: the HTTP status that it has at OpenAI.
        names: its names at other servers, in lower case, as ``code``, ``type`` or ``status`` of an error.
        kept: other names that clients of OpenAI's API know, so that they stay as they are.
        words: recognise it in a message that has no name for it.
        permanent: a retry cannot help.
        of_request: the request caused it, and not its server, model or account.
    """

    code: str
    status: int
    names: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    permanent: bool = False
    of_request: bool = False

    def is_in(self, text: str) -> bool:
        """Whether a text has words of this kind."""
        return self.words is not None and self.words.search(text) is not None


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


QUOTA = Meaning(
    "insufficient_quota",
    429,
    # OpenAI: promptfoo/promptfoo#10855; Moonshot; Alibaba Cloud; Zhipu (1113); Anthropic's BillingError
    names=frozenset(
        {
            *("credit_balance_exhausted", "exceeded_current_quota_error", "arrearage", "1113", "billing_error"),
            *("insufficient_balance", "insufficient_credits", "insufficient_user_quota", "payment_required"),
            *("insufficient_balance_error", "quotaexceeded", "quota_exceeded", "usage_limit_reached"),
        }
    ),
    kept=frozenset({"billing_hard_limit_reached", "billing_not_active"}),
    words=_words(
        # Anthropic: anthropics/anthropic-sdk-typescript#618; OpenCode: can1357/oh-my-pi#3102; xAI, OpenRouter, LiteLLM
        r"credit balance is too low|insufficient (credits?|balance|funds|quota)|exceeded your current quota",
        r"no credits remaining|out of credits|requires more credits|used all (of your |your )?available credits",
        r"credits? (are|is|has been|have been) (depleted|exhausted)|billing hard limit|spend(ing)? limit",
        r"budget has been exceeded|account is not active|余额不足|欠费",
    ),
    permanent=True,
)
CONTEXT = Meaning(
    "context_length_exceeded",
    400,
    names=frozenset({"exceed_context_size_error", "context_window_exceeded", "context_window_exceeded_error"}),
    permanent=True,
    of_request=True,
)
FILTERED = Meaning(
    "content_filter",
    400,
    # Azure's inner code; Alibaba Cloud; Zhipu (1301); OpenAI's reasoning models (invalid_prompt)
    names=frozenset({"responsibleaipolicyviolation", "data_inspection_failed", "datainspectionfailed", "1301"}),
    kept=frozenset(
        {"content_policy_violation", "moderation_blocked", "invalid_prompt", "content_filtered", "moderation_error"}
    ),
    words=_words(
        r"requires moderation|(input|prompt|content|message|request)s? (was|were|has been|have been|is|got) flagged",
        r"content (management )?policy|usage polic(y|ies)|safety (system|polic)",
        r"content filter(ing)?\b|content (exists|contains) risk|inappropriate content",
        r"violat\w+ .{0,40}(policy|policies|guidelines)",
    ),
    permanent=True,
    of_request=True,
)
REGION = Meaning(
    "unsupported_country_region_territory",
    403,
    names=frozenset({"unsupported_location"}),
    words=_words(
        r"country, region, or territory not supported|(location|region|country) is not supported",
        r"not available in your (region|country)|unsupported (country|region|location)",
    ),
    permanent=True,
)
NO_MODEL = Meaning(
    "model_not_found",
    404,
    names=frozenset({"deploymentnotfound", "model_not_available", "unknown_model", "model_not_exist"}),
    words=_words(
        r"\bmodels?\b.{0,120}\b(not found|does ?n[o']t exist|not exist|is not available|not supported for)\b",
        r"no such model|unknown model|invalid model name|deployment for this resource does not exist|not a valid model id",
    ),
    permanent=True,
)
KEY = Meaning(
    "invalid_api_key",
    401,
    names=frozenset({"authentication_error", "unauthenticated", "unauthorized", "invalid_authentication_error"}),
    permanent=True,
)
TOO_LARGE = Meaning(
    "rate_limit_exceeded",
    429,
    # One request that is larger than a minute's tokens: OpenAI and Groq.
    words=_words(r"request too large for .{0,200}per min", r"request too large for .{0,200}\(TPM\)"),
    permanent=True,
    of_request=True,
)
DAILY = Meaning("rate_limit_exceeded", 429, words=_words(r"Per_?Day"), permanent=True)  # google-gemini/gemini-cli
RATE = Meaning(
    "rate_limit_exceeded",
    429,
    names=frozenset(
        {
            *(
                "rate_limit_error",
                "resource_exhausted",
                "rate_limit_reached_error",
                "throttlingexception",
                "throttling",
            ),
            *("rate_limited", "toomanyrequests", "too_many_requests", "ratelimitexceeded", "ratelimitreached"),
            *("throttling.ratequota", "service_tier_capacity_exceeded", "ratelimiterror"),
        }
    ),
    kept=frozenset({"rate_limit", "requests_per_minute_exceeded", "tokens_per_minute_exceeded"}),
)
OVERLOADED = Meaning(
    "overloaded",
    503,
    names=frozenset(
        {"overloaded_error", "unavailable", "unavailable_error", "engine_overloaded_error", "service_unavailable"}
    ),
)
_OTHERS = (
    Meaning("invalid_request_error", 400, names=frozenset({"invalid_argument", "badrequesterror", "bad_request"})),
    Meaning("permission_denied", 403, names=frozenset({"permission_error", "permissiondeniederror"}), permanent=True),
    Meaning("not_found_error", 404, names=frozenset({"notfounderror", "not_found"})),
    Meaning("request_too_large", 413, names=frozenset({"payload_too_large"}), permanent=True, of_request=True),
    Meaning(
        "server_error", 500, names=frozenset({"api_error", "internal_server_error", "internalservererror", "internal"})
    ),
    Meaning("timeout", 504, names=frozenset({"timeout_error", "deadline_exceeded", "request_timeout"})),
)
_VAGUE = frozenset(
    {"invalid_request_error", "not_found_error", "server_error", "permission_denied", "api_error", "unknown_error"}
)
"""Names that say no more than the status: words may say more."""

_MEANINGS = (QUOTA, CONTEXT, FILTERED, REGION, NO_MODEL, KEY, RATE, OVERLOADED, *_OTHERS)
_BY_NAME = {name: meaning for meaning in _MEANINGS for name in (meaning.code, *meaning.names, *meaning.kept)}


def parsed(error: object) -> object:
    """The error as JSON where it is the text of a JSON document; else as it is."""
    if isinstance(error, str) and error.lstrip().startswith(("{", "[")):
        try:
            return parsed(json.loads(error))
        except (ValueError, RecursionError):
            pass
    return error


def fields_of(error: object) -> Iterator[Mapping[str, Any]]:
    """The objects of an error from the outside in, also those that stand as JSON text in a field of another.

    ``{"error": {"metadata": {"raw": "{…}"}}}`` (OpenRouter), ``{"error": {"innererror": {…}}}`` (Azure), ``[{"error": …}]``
    (Gemini), ``{"message": "{…}"}``.
    """
    error = parsed(error)
    if isinstance(error, list):
        error = next(iter(error), None)
    if isinstance(error, Mapping):
        yield error
        for name in ("error", "errors", "message", "detail", "innererror", "metadata", "raw", "base_resp"):
            yield from fields_of(error.get(name))


@dataclass(frozen=True, slots=True)
class Reading:
    """What an error says.

    Attributes:
        code: OpenAI's code for it, or the server's own; None without any.
        status: the HTTP status that it would have had; None where nothing shows it.
        meaning: its kind, if it is one of the table.
        param: the field of the request that it names.
    """

    code: str | None
    status: int | None
    meaning: Meaning | None
    param: str | None = None


def read_error(error: object, words: str, wait: float | None, status: int | None = None) -> Reading:
    """Read a server's error.

    Args:
        error: as it came: JSON, or its text.
        words: its message.
        wait: seconds after which the server wants the next call, if it says so.
        status: the HTTP status of the response; None for an error in a stream.
    """
    objects = list(fields_of(error))
    names = [name for fields in objects for name in _names(fields)]
    status = status or next(filter(None, map(_status_in, objects)), None)
    known = [_BY_NAME[name.lower()] for name in names if name.lower() in _BY_NAME]
    clear = [meaning for meaning in known if meaning.code not in _VAGUE]
    whole = error if isinstance(error, str) else json.dumps(error, default=str)
    meaning = next((meaning for meaning in clear if meaning is not RATE), None) or _by_words(words, whole, wait, status)
    meaning = meaning or (QUOTA if status == 402 else next(iter([*clear, *known]), None))
    own = next(filter(None, map(_code, objects)), None)
    if meaning is None or meaning.code in _VAGUE:
        code = own if own and own.lower() not in _BY_NAME else None
    else:
        code = next((name for name in names if name in meaning.kept), meaning.code)
    param = next((fields["param"] for fields in objects if isinstance(fields.get("param"), str)), None)
    return Reading(code, status or (meaning.status if meaning else None), meaning, param)


def _by_words(words: str, whole: str, wait: float | None, status: int | None) -> Meaning | None:
    if status in (429, None) and TOO_LARGE.is_in(words):
        return TOO_LARGE
    if status in (429, None) and DAILY.is_in(whole):
        return DAILY
    if status in (400, 413, 422, 500, None) and is_too_long(words):
        return CONTEXT
    for meaning, statuses in (
        (QUOTA, (400, 401, 402, 403, 429, None)),
        (FILTERED, (400, 403, 422, 451, None)),
        (REGION, (400, 403, 451, None)),
        (NO_MODEL, (400, 404, None)),
    ):
        counts = status in statuses and (meaning is not QUOTA or wait is None or status == 402)
        if counts and meaning.is_in(words):
            return meaning
    return None


def _names(fields: Mapping[str, Any]) -> Iterator[str]:
    """The names that an error object has for its kind; numbers that are no HTTP status among them."""
    for key in ("code", "type", "status", "error_type", "__type"):
        value = fields.get(key)
        name = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if name and name != "error" and not (name.isdecimal() and len(name) == 3):
            yield name


def _code(fields: Mapping[str, Any]) -> str | None:
    value = fields.get("code")
    return value if isinstance(value, str) and value and not value.isdecimal() and " " not in value else None


def _status_in(fields: Mapping[str, Any]) -> int | None:
    for key in ("code", "status", "status_code", "statusCode", "http_status"):
        value = str(fields.get(key) or "")
        if value.isdecimal() and 400 <= int(value) < 600:
            return int(value)
    return None
