"""What a server's refusal says about its model: a pure function from the refusal to a :class:`Profile`.

Notable decisions:
- A field that ``param`` or ``loc`` names counts before one that only the message names: some servers quote the whole
  request. Lists of what a server permits instead are cut off first.
- A refused value (``temperature must be at most 1``) is a lesson for this call alone: other values may be fine.
- Where a refusal names nothing, the fields go first that no answer depends on, then those that steer it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from moa.errors import ModelError
from moa.messages import Request
from moa.models.contexts import context_in
from moa.models.demands import images_of
from moa.models.error_codes import CONTEXT
from moa.models.fitting import EFFORTS, NEEDED, TOKEN_LIMITS, schema_of
from moa.models.profile import Profile

STATUSES = (400, 404, 413, 415, 422, 500, 501)
"""HTTP statuses of a refusal that another form of the request may avoid. OpenRouter gives 404 where no server of a model
takes images; llama.cpp gives 500 where a chat template raises."""

_BOOKKEEPING = (
    *("store", "metadata", "user", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier"),
    *("verbosity", "parallel_tool_calls", "prediction", "stream_options"),
)
"""Fields that an answer does not depend on."""

_GUESSED = {*_BOOKKEEPING, "tools.function.strict"}
"""Fields that a refusal may mean that names none of them, or only ``tools``."""

_OURS = {"stream_options"}
"""Fields that every call has, so they are dropped only where a refusal names them."""

_MESSAGE_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id", "function_call"})

_SCHEMA_NOTES = ("additionalProperties", "$schema", "$id", "strict", "title", "default", "examples", "format")
"""Fields of a tool's parameters that some servers refuse and that a tool works without."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a refusal says; ``lasting``: of every call to this model, not only of this one."""

    profile: Profile
    lasting: bool = True


def lesson_of(error: ModelError, request: Request) -> Lesson | None:
    """The lesson of a refusal; None where it says nothing that another form of the request could avoid.

    Args:
        request: the request that was refused, as it was sent.
    """
    refusal = error.refusal or error.reason
    if error.status not in STATUSES:
        return None
    if error.code == CONTEXT.code:
        size = context_in(refusal)
        return Lesson(Profile(context_tokens=size)) if size else None
    text, places = _text_and_places(refusal)
    for about in (_schema, _roles, _contents, _turns, _limits, _efforts):
        if profile := about(text, request):
            return Lesson(profile)
    if error.status in (404, 413, 500):
        return None
    if named := _named(text, places, request):
        a_value = bool(_RANGE.search(text)) and not _UNKNOWN.search(text)
        return Lesson(Profile(refuses=frozenset(named)), lasting=not a_value)
    about_logprobs = "logprobs" in request.body and re.search(r"\b(top_)?logprobs\b", text)
    return None if about_logprobs or _ABOUT_SOMETHING_ELSE.search(text) else _guess(request)


# -- what stands in a refusal ------------------------------------------------------------------------------------------

_RANGE = re.compile(
    r"must be|should be|(less|greater|lower|higher|larger) than|between|maximum|minimum|at (most|least)|range|above|below|"
    r"too (large|small|high|low|long)|out of|invalid value|cannot both|not both|only one of",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"unknown|unrecogni|unexpected|unsupported|not supported|does not support|doesn't support|extra|not permitted|"
    r"not allowed|cannot find field|no such|only the default",
    re.IGNORECASE,
)
_PERMITTED = re.compile(
    r"(expected one of|(supported|allowed|valid|available|permitted|accepted) (values|fields|parameters|arguments|roles))"
    r"[^.;\n]*",
    re.IGNORECASE,
)
_LOC_IN_WORDS = re.compile(r"""["']loc["']\s*:\s*[(\[]([^)\]]*)[)\]]""")
_QUOTED_INPUT = re.compile(r"""["']input["']\s*:\s*[{\[].*""", re.DOTALL)


def _text_and_places(refusal: str) -> tuple[str, list[list[Any]]]:
    """The words of a refusal, and the places in the request that its ``param`` and ``loc`` name."""
    try:
        body = json.loads(refusal)
    except (ValueError, RecursionError):
        body = None
    places: list[list[Any]] = []
    words: list[str] = []
    for key, value in _leaves(body):
        if key in ("param", "loc", "field", "parameter", "path", "property"):
            places.append([*value] if isinstance(value, list) else re.split(r"[^\w$*-]+", str(value)))
        elif isinstance(value, str) and key != "input":
            words.append(value)
    text = _QUOTED_INPUT.sub("", "\n".join(words) if words else refusal)
    places.extend(re.findall(r"[\w$-]+", found[1]) for found in _LOC_IN_WORDS.finditer(text))
    named = (".".join(str(step) for step in place if step != "body") for place in places)
    return "\n".join([text, *named]), places


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a JSON document that is no object, with its key; a ``loc`` as the list that it is."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, str(name))
    elif isinstance(value, list) and key not in ("loc", "path"):
        for item in value:
            yield from _leaves(item, key)
    elif value is not None:
        yield key, value


# -- fields that it names ----------------------------------------------------------------------------------------------


_ROLE = re.compile(r"\broles?\b", re.IGNORECASE)


def _named(text: str, places: Iterable[Sequence[Any]], request: Request) -> set[str]:
    """The fields of the request that a refusal names and that an answer can do without."""
    optional = {path: path.rsplit(".", 1)[-1] for path in _optional(request.body)}
    by_place = {path for place in places if (path := _path_of(place, request.body)) in optional}
    if by_place:
        return by_place
    words = _words(_PERMITTED.sub("", text))
    if _ROLE.search(text):
        words -= {"user"}  # a role, not the field
    named = {path for path, name in optional.items() if name in words or ("penalty" in words and "_penalty" in name)}
    top = {path for path in named if "." not in path}
    return top or named


def _path_of(place: Sequence[Any], body: Mapping[str, Any]) -> str:
    """The path of a field of the body that a ``param`` or ``loc`` means: without numbers, and without names that pydantic
    adds for the branches of a union."""
    path: list[str] = []
    values: list[Any] = [body]
    for step in map(str, place):
        inner = [value[step] for value in values if isinstance(value, Mapping) and step in value]
        if inner:
            path.append(step)
            values = [item for value in inner for item in (value if isinstance(value, list) else [value])]
    return ".".join(path if path[:1] in (["messages"], ["tools"]) else path[:1])


_AFTER_ITS_KIND = re.compile(
    r"(?=\b(?:argument|parameter|param|field|property|key|supplied|input|option|name|invalid)(?:s|\(s\))?:?\s+([\w$]+))",
    re.IGNORECASE,
)
_BEFORE_ITS_FAULT = re.compile(
    r"([\w$]+)(?:: (?:Extra inputs|range)| (?:is|are) (?:not |un)(?:supported|allowed|permitted|enabled)|"
    r" (?:must|should|cannot|has to) )"
)


def _words(text: str) -> set[str]:
    """The names in a text that may be fields: those with an underscore, in quotes, or after a word such as "parameter".
    A name in camel case counts in snake case too."""
    names = set(re.findall(r"[A-Za-z$]+(?:_[A-Za-z0-9]+)+|[a-z]+(?:[A-Z][a-z]+)+", text))
    names |= set(re.findall(r"""["'`‘“]([\w$.\[\]-]+)["'`’”]""", text))
    names |= set(_AFTER_ITS_KIND.findall(text)) | set(_BEFORE_ITS_FAULT.findall(text))
    names |= {part for name in names for part in re.split(r"[.\[\]]+", name) if part}
    return names | {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in names}


def _optional(body: Mapping[str, Any]) -> set[str]:
    """The paths of a request's fields that an answer can do without."""
    paths = {key for key in body if key not in NEEDED}
    for message in body["messages"]:
        paths |= _keys("messages", message) | _keys("messages.tool_calls", *(message.get("tool_calls") or ()))
        content = message.get("content")
        if isinstance(content, list):
            paths |= _keys("messages.content", *content)
            paths |= _keys("messages.content.image_url", *(part.get("image_url") for part in content))
    for tool in body.get("tools") or ():
        function = tool.get("function")
        paths |= _keys("tools", tool) | _keys("tools.function", function)
        schema = json.dumps(function)
        paths |= {f"tools.**.{note}" for note in _SCHEMA_NOTES if f'"{note}":' in schema}
    return paths - NEEDED - {"messages.content.image_url.url"}


def _keys(path: str, *values: Any) -> set[str]:
    return {f"{path}.{key}" for value in values if isinstance(value, Mapping) for key in value}


# -- the other things that servers refuse ------------------------------------------------------------------------------


def _schema(text: str, request: Request) -> Profile | None:
    """A response format of the type ``json_schema`` that the model does not follow."""
    if schema_of(request) is None or re.search(r"invalid schema", text, re.IGNORECASE):
        return None
    return Profile(json_schema=False) if re.search(r"response[_ ]format|json[_ ]schema", text, re.IGNORECASE) else None


def _roles(text: str, request: Request) -> Profile | None:
    """A role that the model lacks."""
    roles = {message["role"] for message in request.messages}
    about_roles = re.search(r"\brole\b|\broles\b|unknown variant|developer", text, re.IGNORECASE)
    if "developer" in roles and about_roles and not re.search(r"alternat", text, re.IGNORECASE):
        return Profile(roles={"developer": "system"})
    if "system" in roles and re.search(
        r"(system|developer) (role|message|prompt|instruction)s?( \w+)? (is |are )?not (supported|enabled|allowed)|"
        r"(not|n't) support (the )?('?system'?|developer) (role|message|prompt|instruction)|"
        r"does not support ['`\"]system['`\"]|unknown variant `system`",
        text,
        re.IGNORECASE,
    ):
        return Profile(system=False)
    return None


_IMAGES = re.compile(
    r"image|vision|multi-?modal|only supports? text|must be a string|valid string|expected a string|text only|"
    r"expected `?text",
    re.IGNORECASE,
)
_ONE_IMAGE = re.compile(
    r"download|fetch|invalid image|decode|process|too large|size|format|corrupt|resolution", re.IGNORECASE
)
_STRING = re.compile(
    r"content.{0,40}(must be|should be|expected|valid).{0,20}string|invalid type: sequence, expected a string",
    re.IGNORECASE,
)
_SYSTEM_FIRST = re.compile(
    r"(system|developer) (message|prompt)s?.{0,40}(begin|first|start|only|one|single|multiple)|"
    r"(only|one|single|multiple).{0,20}system (message|prompt)|'?system'? role.{0,40}(begin|first)",
    re.IGNORECASE,
)
_ALTERNATE = re.compile(r"alternat|roles must|consecutive|must be followed by|first message.{0,30}user", re.IGNORECASE)
_USER_AFTER_TOOL = re.compile(r"role '?(user|system|developer)'? after (role )?'?tool", re.IGNORECASE)
_REASONING = re.compile(
    r"reasoning_content.{0,60}(missing|must be (passed|sent)|required)|missing .?reasoning_content", re.IGNORECASE
)
_ENDS = re.compile(
    r"prefill|last (message|role)|final (message|role)|must end with|expected last|continue_final", re.IGNORECASE
)


def _contents(text: str, request: Request) -> Profile | None:
    """Images, lists of content parts, or tool calls without tools that the model does not take."""
    messages = request.messages
    if any(images_of(message) for message in messages) and _IMAGES.search(text) and not _ONE_IMAGE.search(text):
        return Profile(images=False)
    if any(isinstance(message.get("content"), list) for message in messages) and _STRING.search(text):
        return Profile(parts=False)
    if any(message.get("tool_calls") for message in messages) and _REASONING.search(text):
        return Profile(reasoning_content=True)
    calls = any(message["role"] in ("tool", "function") or message.get("tool_calls") for message in messages)
    if calls and not request.body.get("tools") and re.search(r"tool", text, re.IGNORECASE):
        return Profile(past_tool_calls=False)
    return None


def _turns(text: str, request: Request) -> Profile | None:
    """The order of messages that the model's chat template demands."""
    messages = request.messages
    system = [message for message in messages if message["role"] in ("system", "developer")]
    if (system[1:] or (system and messages[0] is not system[0])) and _SYSTEM_FIRST.search(text):
        return Profile(several_system=False)
    if _ALTERNATE.search(text):
        if _alternates(messages):
            return Profile(system=False) if system else None
        return Profile(alternates=True)
    if _USER_AFTER_TOOL.search(text):
        return Profile(user_after_tool=False)
    if messages[-1]["role"] == "assistant" and _ENDS.search(text):
        return Profile(ends_with_assistant=False)
    return None


def _alternates(messages: Sequence[Mapping[str, Any]]) -> bool:
    roles = [message["role"] for message in messages if message["role"] in ("user", "assistant")]
    return roles[:1] == ["user"] and all(one != other for one, other in pairwise(roles))


def _limits(text: str, request: Request) -> Profile | None:
    """The name of ``max_tokens``, or the longest answer."""
    ours = next((limit for limit in TOKEN_LIMITS if limit in request.body), None)
    if ours is None or not any(word in text for word in (ours, "max_tokens", "completion tokens")):
        return None
    other = TOKEN_LIMITS[1 - TOKEN_LIMITS.index(ours)]
    most = re.search(
        r"(?:at most|maximum(?: value)?(?: allowed)?(?: for `?max_tokens`?)?(?: is| of)?|<=|>|less than or equal to|"
        r"\[\d+, ?|between \d+ and|up to|supports only|limit is) `?(\d[\d,]+)",
        text,
        re.IGNORECASE,
    )
    if most and int(most[1].replace(",", "")) < int(request.body[ours]):
        return Profile(answer_tokens=int(most[1].replace(",", "")))
    if f"{other}' instead" in text or (ours in text and _UNKNOWN.search(text)):
        return Profile(rename={ours: other})
    return None


def _efforts(text: str, request: Request) -> Profile | None:
    """The values of ``reasoning_effort`` that are taken, where a refusal of one lists them."""
    effort = request.body.get("reasoning_effort")
    if effort is None or not re.search(r"effort|reasoning value", text, re.IGNORECASE):
        return None
    words = re.findall(r"[a-z]+", text.lower())
    taken = tuple(value for value in EFFORTS if value in words and value != effort)
    return Profile(efforts=taken) if taken else None


# -- a refusal that names nothing --------------------------------------------------------------------------------------

_ABOUT_SOMETHING_ELSE = re.compile(
    r"context length|too long|policy|safety|moderat|does not exist|not found|no such model|billing|credit|quota|api key|"
    r"deprecat|decommission|content filter|inappropriate|sensitive",
    re.IGNORECASE,
)


def _guess(request: Request) -> Lesson | None:
    body = request.body
    optional = _optional(body)
    extras = {path for path in optional if path in _GUESSED or path.startswith("messages.")} - _OURS
    if any(message["role"] == "developer" for message in request.messages):
        return Lesson(Profile(roles={"developer": "system"}, refuses=frozenset(extras)))
    if extras:
        return Lesson(Profile(refuses=frozenset(extras)))
    steering = {path for path in optional if "." not in path} - _OURS
    return Lesson(Profile(refuses=frozenset(steering))) if steering else None
