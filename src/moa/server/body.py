"""What a request to the server may hold. Known fields are checked; all others pass through to the models.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from moa.errors import RequestRejected
from moa.messages import Request
from moa.server.failures import Refusal

MOST_CHOICES = 16
Tokens = Annotated[int, Field(ge=1, lt=2**31)]

FORBIDDEN = ("base_url", "api_base", "api_key", "extra_headers", "default_headers")
"""What no request may name: where calls go and with what key is the operator's to say."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class StreamOptions(_Strict):
    include_usage: bool = False


class Parameters(_Strict):
    properties: dict[str, Any] | None = None


class Extras(BaseModel):
    """``moa``: what only a mixture understands."""

    model_config = ConfigDict(extra="forbid", strict=True)

    progress: bool | None = Field(None, description="Stream proposals as reasoning_content while they are written.")
    explain: bool = Field(False, description="Say which passages of the proposals each sentence resembles.")


class Function(_Strict):
    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: Parameters | None = None


class Tool(_Strict):
    """A tool; those that are not functions pass through."""

    type: str
    function: Function | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.type == "function" and self.function is None:
            raise ValueError("a tool of type 'function' needs a 'function'")
        return self


class ChatBody(_Strict):
    """A Chat Completions request. Further fields pass through."""

    model: Annotated[str, Field(min_length=1, description="moa/NAME, or provider/name.")]
    messages: list[dict[str, Any]] = Field(description="The conversation.", min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    user: str | None = None
    moa: Extras | None = None


class Asked:
    """A request, checked and taken apart: the part for the server and the part for the models.

    Attributes:
        model: who is to answer.
        request: what goes to the models.
        stream, usage_in_stream, choices, progress, explain: what the server is to do; ``progress`` None leaves it to the
            mixture.
    """

    def __init__(self, data: bytes | Mapping[str, Any]) -> None:
        """
        Args:
            data: the body as it came, or the object in it.

        Raises:
            Refusal: 400; with the field in ``param``.
        """
        body = object_of(data) if isinstance(data, bytes) else data
        try:
            checked = ChatBody.model_validate(body)
            # Request.of copies level by level, in Python: nesting that JSON's reader bore may be too deep for it.
            self.request = Request.of({key: value for key, value in body.items() if key not in _FOR_THE_SERVER})
        except ValidationError as error:
            raise _refused(error) from None
        except RecursionError:
            raise Refusal(400, "the body is nested too deeply") from None
        except RequestRejected as error:
            raise Refusal(400, str(error), param=error.param) from None
        self.model = checked.model
        self.stream = bool(checked.stream)
        self.usage_in_stream = bool(checked.stream_options and checked.stream_options.include_usage)
        self.choices = checked.n or 1
        self.progress = checked.moa.progress if checked.moa else None
        self.explain = bool(checked.moa and checked.moa.explain)


_FOR_THE_SERVER = frozenset({"model", "stream", "stream_options", "n", "moa"})


BRANCH = re.compile(r"str|(function-|literal\[|dict\[|list\[).*")
"""What pydantic puts into the place of an error for the branch of a union that it tried."""


def object_of(data: bytes) -> Mapping[str, Any]:
    """The object that a body is.

    Raises:
        Refusal: 400; it is none, or holds a field that no request may name.
    """
    try:
        body = json.loads(data, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be a JSON object")
    for name in FORBIDDEN:
        if name in body:
            raise Refusal(400, f"{name!r} is not accepted: the operator says where calls go", param=name)
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large")
    return number


def _refused(error: ValidationError) -> Refusal:
    problems = error.errors(include_url=False, include_input=False)
    # Of the branches of a union (a string or a list of them), the one that came furthest knows best.
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
