"""Request bodies in JSON, and the parts that every dialect has: forbidden fields, the ``moa`` object, errors by field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moa.models.vendors.requests import OWN_SETTINGS
from moa.server.failures import Refusal

FORBIDDEN = frozenset({"base_url", "api_base", "api_key", "extra_headers", "default_headers", *OWN_SETTINGS})
"""Fields that no request may have: the operator decides where calls go, with which API key, and with which settings of the
vendor, guardrails and storage among them.
"""

BRANCH = re.compile(r"str|(function-|literal\[|dict\[|list\[).*")
"""The parts of an error's location that pydantic adds for each branch of a union."""

B = TypeVar("B", bound=BaseModel)


Tokens = Annotated[int, Field(ge=1, lt=2**31)]
"""A number of tokens that an answer may have."""


class OpenObject(BaseModel):
    """An object of a request: known fields are checked without conversion, all others pass through to the models."""

    model_config = ConfigDict(extra="allow", strict=True)


class MoaOptions(BaseModel):
    """``moa``: options that only a mixture understands."""

    model_config = ConfigDict(extra="forbid", strict=True)

    progress: bool | None = Field(None, description="Stream proposals as reasoning_content while they are written.")
    explain: bool = Field(False, description="Report which passages of the proposals each sentence resembles.")
    usage: Literal["answer", "all"] | None = Field(
        None, description="Whose tokens usage counts: those of the call whose text is the answer, or of all calls."
    )
    small: bool = Field(
        True, description="Whether the server's small model may answer, where it recognises a small task."
    )


def object_of(data: bytes) -> Mapping[str, Any]:
    """A request body as an object.

    Raises:
        Refusal: 400, the body is not a JSON object, or has a forbidden field.
    """
    try:
        body = json.loads(data, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be a JSON object")
    for name in body:
        if name in FORBIDDEN:
            message = f"{name!r} is not accepted: the server's operator decides where calls go"
            raise Refusal(400, message, param=name)
    return body


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
