"""Answers that follow a JSON schema, from models without ``response_format`` of that type: validated, and repaired once.

The schema reaches the model in words. Its answer is read whole, since a text that somebody has read cannot be replaced; one
that breaks the schema is sent back once with what is wrong. https://platform.openai.com/docs/guides/structured-outputs
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from moa.answers import Delta
from moa.errors import ModelError
from moa.messages import Request
from moa.models import Model
from moa.models.attempts import attempts_of

REPAIR = """\
Your answer does not follow the JSON schema: {fault}

Reply with the corrected JSON value and nothing else."""


async def following(model: Model, request: Request, schema: Mapping[str, Any]) -> AsyncGenerator[Delta, None]:
    """The answer of a model that was given the schema in words; its text comes in one piece.

    An answer that calls a tool, or that was cut or refused, is passed on as it is. The call whose answer is not used counts
    as an attempt. An answer that does not follow the schema even after the repair comes with a notice.

    Raises:
        ModelError: the first call failed.
    """
    received: list[Delta] = []
    try:
        await _receive(model, request, received)
    except ModelError:
        for delta in received:
            yield delta.replaced(text="")  # what the failed call cost
        raise
    if not _is_whole_text(received):
        for delta in received:
            yield delta
        return
    text = _text_of(received)
    value, fault = checked(text, schema)
    if fault:
        answer, objection = (
            {"role": "assistant", "content": text},
            {"role": "user", "content": REPAIR.format(fault=fault)},
        )
        second = request.replaced(messages=[*request.messages, answer, objection])
        repaired: list[Delta] = []
        error: ModelError | None = None
        try:
            await _receive(model, second, repaired)
        except ModelError as raised:
            error = raised
        again, still = checked(_text_of(repaired), schema)
        if still:
            unused = attempts_of(second, repaired, "its answer did not follow the JSON schema either", error)
        else:
            unused = attempts_of(request, received, "its answer did not follow the JSON schema", None)
            value, fault, received = again, "", repaired
        for delta in unused:
            yield delta
    if fault:
        yield Delta(notice=f"{model.name} does not follow the JSON schema: {fault}", degrades=True)
    for delta in received:
        yield delta.replaced(text=value) if delta.text else delta
        value = "" if delta.text else value


async def _receive(model: Model, request: Request, received: list[Delta]) -> None:
    """Append all deltas of a call, those before its failure as well."""
    async with aclosing(model.stream(request)) as deltas:
        async for delta in deltas:
            received += (delta,)


def _text_of(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def _is_whole_text(received: Sequence[Delta]) -> bool:
    """Whether these deltas are a whole text: not a tool call, a refusal, or a text that was cut."""
    reasons = {delta.finish_reason for delta in received if delta.finish_reason}
    return reasons == {"stop"} and not any(
        delta.tool_calls or (delta.extra and "refusal" in delta.extra) for delta in received
    )


def checked(text: str, schema: Mapping[str, Any]) -> tuple[str, str]:
    """The JSON in a text, without a fence or words around it, and what is wrong with it; empty where it follows the schema.

    A schema that is none itself finds no fault: the caller's mistake is not the model's. No reference is fetched.
    """
    from jsonschema.exceptions import best_match
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    found = json_in(text)
    if found is None:
        return text, "it is not JSON"
    try:
        validator = validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())
        error = best_match(validator.iter_errors(json.loads(found)))
    except Exception:  # the schema itself is wrong, in one of many ways
        return found, ""
    if error is None:
        return found, ""
    where = error.json_path.removeprefix("$").removeprefix(".")
    return found, ": ".join(filter(None, (where, error.message[:200])))


def json_in(text: str) -> str | None:
    """The first JSON value in a text: all of it, a fenced block, or from the first bracket to the last."""
    candidates: list[str] = [text.strip(), *re.findall(r"```(?:json)?[^\S\n]*\n(.*?)```", text, re.DOTALL)]
    opening = [place for bracket in "{[" if (place := text.find(bracket)) >= 0]
    if opening:
        candidates.append(text[min(opening) : max(map(text.rfind, "}]")) + 1])
        candidates.append(text[max(opening) : text.rfind("}" if text[max(opening)] == "{" else "]") + 1])
    for candidate in candidates:
        try:
            json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        return candidate.strip()
    return None
