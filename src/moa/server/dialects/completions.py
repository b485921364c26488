"""OpenAI's Completions API, which some editors and evaluation tools still use: ``POST /v1/completions``.

A prompt is the one message of a user. Models that continue a text, and what only they can do (echo, infilling, prompts of
token IDs), do not exist here.

https://platform.openai.com/docs/api-reference/completions
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from moa.messages import Delta, Request
from moa.server.body import MoaOptions, OpenObject, Tokens, checked, object_of, refusing
from moa.server.connection import COMMENT
from moa.server.dialects.chat import DONE, MOST_CHOICES, StreamOptions, usage_with_cost
from moa.server.dialects.dialect import Dialect, ParsedRequest, Result, moa_object
from moa.server.encoding import frame, json_bytes
from moa.server.failures import Refusal, openai_error

FOR_THE_SERVER = frozenset(
    {"model", "prompt", "stream", "stream_options", "n", "best_of", "echo", "suffix", "logprobs", "moa"}
)
"""Fields of a body that no model receives."""

OF_CONVERSATIONS = ("messages", "tools", "tool_choice", "functions", "top_logprobs")
"""Fields that the answers of this API have no place for."""


class CompletionsBody(OpenObject):
    """A Completions request. Further fields pass through."""

    model: Annotated[str, Field(min_length=1, description="moa/NAME, or provider/name.")]
    prompt: str | list[Any] = Field(description="A text, or a list of one text.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: int | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Tokens | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    user: str | None = None
    moa: MoaOptions | None = None


def read_completions(body: Mapping[str, Any]) -> ParsedRequest:
    """A request from its body.

    Raises:
        Refusal: 400; with the field in ``param``.
    """
    with refusing():
        read = checked(CompletionsBody, body)
        _check(read, body)
        rest = {name: value for name, value in body.items() if name not in FOR_THE_SERVER}
        request = Request.owned({"messages": [{"role": "user", "content": _prompt(read.prompt)}], **rest})
    options = read.moa or MoaOptions()
    include_usage = bool(read.stream_options and read.stream_options.include_usage)
    return ParsedRequest(
        model=read.model,
        request=request,
        encoder=CompletionsEncoder(read.model, include_usage=include_usage, explain=options.explain),
        stream=bool(read.stream),
        choices=read.n or 1,
        progress=False,  # an answer of this API has no place for proposals
        explain=options.explain,
        usage=options.usage,
        small=options.small,
        panel=options.panel,
    )


def _check(read: CompletionsBody, body: Mapping[str, Any]) -> None:
    """Refuse what would otherwise be ignored in silence.

    Raises:
        Refusal: 400.
    """
    chat = "use POST /v1/chat/completions"
    refused = {name: f"{name!r} is not a field of this API: {chat}" for name in OF_CONVERSATIONS if body.get(name)}
    if read.echo:
        refused["echo"] = "'echo' is not supported: the answer does not contain the prompt"
    if read.suffix:
        refused["suffix"] = "'suffix' is not supported: a mixture answers a prompt, and does not fill a gap in a text"
    if read.logprobs is not None:
        refused["logprobs"] = f"'logprobs' are not available in this API: {chat} with 'logprobs': true"
    if read.best_of not in (None, read.n or 1):
        refused["best_of"] = "'best_of' must be equal to 'n': every answer is returned"
    if read.stream_options and not read.stream:
        refused["stream_options"] = "'stream_options' is only allowed with 'stream': true"
    for param, message in refused.items():
        raise Refusal(400, message, param=param, code="unsupported_parameter")


def _prompt(prompt: str | Sequence[Any]) -> str:
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1 and isinstance(prompt[0], str):
        return prompt[0]
    if prompt and all(isinstance(each, str) for each in prompt):
        message = f"'prompt' has {len(prompt)} texts: send a request for each"
    elif prompt and isinstance(prompt[0], int | list):
        message = "'prompt' has token IDs, and a mixture has no tokenizer of its own: send a text"
    else:
        message = "'prompt' must be a text, or a list of one text"
    raise Refusal(400, message, param="prompt", code="invalid_value")


class CompletionsEncoder:
    """The answer to one request, as chunks or as one object; see :class:`~moa.server.dialects.dialect.Encoder`.

    Args: as for :class:`~moa.server.dialects.chat.ChatEncoder`.
    """

    def __init__(self, model: str, *, include_usage: bool = False, explain: bool = False) -> None:
        self._model, self._include_usage, self._explain = model, include_usage, explain
        self._head: dict[str, Any] = {}

    def start(self, run_id: str) -> None:
        created = int(time.time())
        self._head = {"id": f"cmpl-{run_id}", "object": "text_completion", "created": created, "model": self._model}

    def keep_alive(self) -> bytes:
        return COMMENT

    def progress(self, text: str, index: int) -> bytes:
        return b""

    def delta(self, delta: Delta, index: int) -> bytes:
        return self._chunk(index, delta.text) if delta.text else b""

    def end(self, results: Sequence[Result]) -> bytes:
        moa = moa_object(results, explain=self._explain)
        *chunks, last = [(index, result.answer.finish_reason) for index, result in enumerate(results)]
        frames = [self._chunk(index, "", reason) for index, reason in chunks]
        if self._include_usage:
            frames.append(self._chunk(last[0], "", last[1]))
            usage = usage_with_cost(results, moa)
            frames.append(frame(json_bytes({**self._head, "choices": [], "usage": usage, "moa": moa})))
        else:
            frames.append(self._chunk(last[0], "", last[1], moa=moa))
        return b"".join(frames) + DONE

    def error(self, refusal: Refusal) -> bytes:
        return frame(openai_error(refusal))

    def whole(self, results: Sequence[Result]) -> bytes:
        moa = moa_object(results, explain=self._explain)
        choices = [
            _choice(index, result.answer.text, result.answer.finish_reason) for index, result in enumerate(results)
        ]
        return json_bytes({**self._head, "choices": choices, "usage": usage_with_cost(results, moa), "moa": moa})

    def _chunk(self, index: int, text: str, finish_reason: str | None = None, **fields: Any) -> bytes:
        """One frame with one choice."""
        usage = {"usage": None} if self._include_usage else {}
        return frame(json_bytes({**self._head, "choices": [_choice(index, text, finish_reason)], **usage, **fields}))


def _choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}


COMPLETIONS = Dialect(
    path="/v1/completions",
    name="completions",
    tag="completions",
    summary="Create a completion",
    body=CompletionsBody,
    read=lambda data: read_completions(object_of(data)),
    error=openai_error,
)
