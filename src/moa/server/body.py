"""Request bodies in JSON, and the parts that every dialect has: forbidden fields, the ``moa`` object, errors by field."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moa.errors import RequestRejected
from moa.mixture.panel import Panel
from moa.mixture.when import When
from moa.models.vendors.requests import OWN_SETTINGS
from moa.server.failures import Refusal

FORBIDDEN = frozenset({"base_url", "api_base", "api_key", "extra_headers", "default_headers", *OWN_SETTINGS})
"""Fields that no request may have: the operator decides where calls go, with which API key, and with which settings of the
vendor, guardrails and storage among them.
"""

BRANCH = re.compile(r"str|(function-|literal\[|dict\[|list\[).*")
"""The parts of an error's location that pydantic adds for each branch of a union."""

MOST_VALUES = 100_000
"""JSON values that a body may hold. A conversation of 5,000 messages with tool calls holds about 60,000."""

SIMPLE, FEW_VALUES = 65536, 2000
"""Bytes and values up to which a body is parsed in a moment."""

MOST_DEPTH = 128
"""Levels of objects and lists that a body may have."""

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,]', re.DOTALL)

B = TypeVar("B", bound=BaseModel)


Tokens = Annotated[int, Field(ge=1, lt=2**31)]
"""A number of tokens that an answer may have."""


Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=64)]
"""Members of a mixture."""


class OpenObject(BaseModel):
    """An object of a request: known fields are checked without conversion, all others pass through to the models."""

    model_config = ConfigDict(extra="allow", strict=True)


class MoaOptions(BaseModel):
    """``moa``: options that only a mixture understands."""

    model_config = ConfigDict(extra="forbid", strict=True)

    progress: bool | None = Field(
        default=None, description="Stream proposals as reasoning_content while they are written."
    )
    explain: bool = Field(default=False, description="Report which passages of the proposals each sentence resembles.")
    usage: Literal["answer", "all"] | None = Field(
        default=None,
        description="Whose tokens usage counts: those of the call whose text is the answer, or of all calls.",
    )
    small: bool = Field(
        default=True, description="Whether the server's small model may answer, where it recognises a small task."
    )
    when: When | None = Field(default=None, description="When the proposers are called, in place of the mixture's own.")
    only: Names | None = Field(default=None, description="The proposers to call, by name or by model.")
    without: Names | None = Field(default=None, description="The proposers not to call, by name or by model.")
    aggregator: str | None = Field(default=None, description="The agent of the mixture that answers.")
    layers: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="So many layers of proposers; 0: the aggregator alone."
    )

    @property
    def panel(self) -> Panel:
        """The part of the mixture that the request chooses."""
        return Panel.of_fields(self.model_dump(include=set(Panel.FIELDS)))


def values_in(data: bytes) -> int:
    """At most how many JSON values there are in a body. It is not parsed: the values of a small body can take gigabytes.

    Raises:
        Refusal: 400, more than :data:`MOST_VALUES`.
    """
    most = _separators(data)  # those in strings included, which makes this the faster way
    if most <= MOST_VALUES:
        return most
    values = 0
    for number, token in enumerate(_TOKEN.finditer(data)):
        values += data[token.start()] != ord('"')
        if values > MOST_VALUES or number > 4 * MOST_VALUES:
            raise Refusal(400, f"the body holds more than {MOST_VALUES:,} values", code="invalid_value")
    return values


def is_simple(data: bytes) -> bool:
    """Whether a body can be parsed in a moment."""
    return len(data) <= SIMPLE and _separators(data) <= FEW_VALUES


def _separators(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def object_of(data: bytes) -> dict[str, Any]:
    """A request body as an object, which nothing else holds.

    Raises:
        Refusal: 400, the body is not a JSON object, or has a forbidden field.
    """
    body = _parsed(data.removeprefix(codecs.BOM_UTF8))
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be a JSON object")
    for name in body:
        if name in FORBIDDEN:
            message = f"{name!r} is not accepted: the server's operator decides where calls go"
            raise Refusal(400, message, param=name)
    return body


def _parsed(data: bytes) -> object:
    too_deep = Refusal(400, f"the body is nested too deeply: more than {MOST_DEPTH} levels")
    try:
        value: object = msgspec.json.decode(data)
    except RecursionError:
        raise too_deep from None
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not valid JSON: it is not in UTF-8") from None
    except msgspec.MsgspecError as error:
        value = _with_surrogates(data, error)
    if data.count(b"[") + data.count(b"{") > MOST_DEPTH:
        level = [value]
        for _ in range(MOST_DEPTH):
            level = [
                child
                for each in level
                if isinstance(each, dict | list)
                for child in (each.values() if isinstance(each, dict) else each)
            ]
        if any(isinstance(each, dict | list) for each in level):
            raise too_deep
    return value


def _with_surrogates(data: bytes, error: Exception) -> object:
    """JSON with lone surrogates, which clients send that cut a string in the middle of an emoji; msgspec refuses them."""
    try:
        if b"\\ud" in data or b"\\uD" in data:
            return json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        pass
    raise Refusal(400, f"the body is not valid JSON: {error}") from None


@contextmanager
def refusing(messages: str = "messages") -> Iterator[None]:
    """Make a request of a body within; ``messages`` is the name that the caller's API has for them.

    Raises:
        Refusal: 400, the request is malformed (with the field in ``param``), or nested too deeply.
    """
    try:
        yield
    except RecursionError:
        raise Refusal(400, "the body is nested too deeply") from None
    except RequestRejected as error:
        raise Refusal(400, str(error).replace("'messages'", f"'{messages}'"), param=error.param) from None


def checked(kind: type[B], body: Mapping[str, Any]) -> B:
    """The body, checked against its model.

    Raises:
        Refusal: 400, with the field in ``param``.
        RecursionError: the body is nested too deeply.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise _refusal_of(error) from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large")
    return number


def _refusal_of(error: ValidationError) -> Refusal:
    problems = error.errors(include_url=False, include_input=False)
    # A union (a string or a list of strings) has an error for each branch; the deepest one is the most precise.
    problem = max(
        (each for each in problems if each["loc"][:1] == problems[0]["loc"][:1]), key=lambda each: len(each["loc"])
    )
    param = ""
    for part in problem["loc"]:
        if isinstance(part, int):
            param += f"[{part}]"
        elif not BRANCH.fullmatch(part):
            param += f".{part}" if param else part
    if problem["type"] == "missing":
        return Refusal(400, f"you must provide {param!r}", param=param, code="missing_required_parameter")
    return Refusal(400, f"invalid {param!r}: {problem['msg']}", param=param, code="invalid_value")
