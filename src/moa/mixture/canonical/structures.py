"""JSON and tool calls: the order of keys, white space and the spelling of numbers make no difference, all else does."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from moa.mixture.canonical.form import Form

LONGEST = 100_000
"""Characters of a JSON text that is read."""

_FENCED = re.compile(
    r"```[ \t]*(?:json[c5]?|jsonl|javascript|js|python)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL | re.IGNORECASE
)
_TOOL_CALL = re.compile(r"<tool_call>((?:(?!<tool_call>).)*?)</tool_call>", re.DOTALL)


def structure_form(text: str) -> Form | None:
    """The form of a text that is a JSON object or array, or one as Python writes it; None for any other text.

    An object with a name and arguments is a tool call. A text with a key twice, ``NaN`` or ``Infinity`` is no JSON.
    """
    text = text.strip()
    if not text or len(text) > LONGEST or text[0] not in "{[" or text[-1] not in "}]":
        return None
    value = _parsed(text)
    if not isinstance(value, dict | list):
        return None
    try:
        return (_call(value) if isinstance(value, dict) else None) or Form("json", _written(value))
    except RecursionError:
        return None


def call_form(calls: list[Mapping[str, Any]]) -> Form | None:
    """The form of tool calls as a model makes them; None where one is malformed. Their order counts, their IDs do not."""
    forms = [_call(dict(call)) for call in calls]
    whole = [form.value for form in forms if form]
    return Form("call", "\n".join(whole)) if whole and len(whole) == len(forms) else None


def tagged_calls_form(text: str) -> Form | None:
    """The form of tool calls that a text holds between tags, as the Hermes format has it: ``<tool_call>{…}</tool_call>``."""
    values = [_parsed(block.strip()) for block in _TOOL_CALL.findall(text)]
    return call_form([value if isinstance(value, dict) else {} for value in values])


def last_fenced(text: str) -> str | None:
    """The last JSON object or array in a code block of a text."""
    return next((block for block in reversed(_FENCED.findall(text)) if structure_form(block)), None)


def _call(value: dict[str, Any]) -> Form | None:
    inside = value.get("function")
    function = inside if isinstance(inside, dict) else value
    name, arguments = function.get("name"), function.get("arguments")
    known = {"name", "arguments", "id", "type", "index", "function"}
    if not isinstance(name, str) or "arguments" not in function or not known.issuperset({*value, *function}):
        return None
    if isinstance(arguments, str):
        arguments = _parsed(arguments) if arguments.strip() else {}
    if not isinstance(arguments, dict):
        return None
    return Form("call", f"{name}({_written(arguments)})")


class _Number(str):
    """A number by its canonical spelling, written without quotation marks."""


class _NotJson(Exception):
    pass


def _parsed(text: str) -> Any:
    """The value of a text; None where it is no JSON."""
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_number, parse_float=_number, parse_constant=_constant
        )
    except (_NotJson, RecursionError):
        return None
    except ValueError:
        pass
    try:
        return _from_python(ast.parse(text, mode="eval").body) if len(text) <= LONGEST // 10 else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, _NotJson):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise _NotJson
    return dict(pairs)


def _number(text: str) -> _Number:
    """``1.50`` and ``15e-1`` as ``1.5``. The digits are not computed with, so a number of any size is cheap."""
    try:
        sign, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation:
        return _Number(text)
    if isinstance(exponent, str):
        raise _NotJson
    written = "".join(map(str, digits)).lstrip("0")
    stripped = written.rstrip("0")
    exponent += len(written) - len(stripped)
    if not stripped:
        return _Number("0")
    if 0 <= exponent <= 30:
        stripped += "0" * exponent
    elif -30 <= exponent < 0:
        stripped = stripped.rjust(1 - exponent, "0")
        stripped = f"{stripped[:exponent]}.{stripped[exponent:]}"
    else:
        stripped += f"e{exponent}"
    return _Number(f"-{stripped}" if sign else stripped)


def _constant(text: str) -> Any:
    raise _NotJson


def _from_python(node: ast.expr) -> Any:
    """The value of a literal of Python as the JSON reader gives it."""
    match node:
        case ast.Dict(keys=keys, values=values):
            names = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            if not all(isinstance(name, str) for name in names):
                raise _NotJson
            return _object([(str(name), _from_python(value)) for name, value in zip(names, values, strict=True)])
        case ast.List(elts=elements):
            return [_from_python(element) for element in elements]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if value is not True:
            return _number(repr(-value))
        case ast.Constant(value=bool() | None | str() as value):
            return value
        case ast.Constant(value=int() | float() as value):
            return _number(repr(value))
    raise _NotJson


def _written(value: Any) -> str:
    """The value as JSON with sorted keys."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_written(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
