"""Responses that a client comes back to: by ``previous_response_id``, and by ``GET /v1/responses/ID``.

A response is a saved run. Its ID is the run's, so whatever can read runs can read responses, too.

https://platform.openai.com/docs/api-reference/responses/get, …/cancel and …/delete
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import fastapi
from fastapi import APIRouter
from starlette.responses import Response

from moa.errors import RunError
from moa.messages import Message, Request
from moa.server.described import ERROR_RESPONSES
from moa.server.dialects.conversation import paired
from moa.server.dialects.dialect import ParsedRequest, Result, message_of
from moa.server.dialects.functions import Tools
from moa.server.dialects.responses import ECHOED
from moa.server.dialects.responses.encoder import ResponsesEncoder
from moa.server.dialects.responses.items import REFERRED
from moa.server.discretion import Discretion
from moa.server.encoding import json_response
from moa.server.failures import Refusal
from moa.server.parts import Parts
from moa.server.usage import answering_usage
from moa.store.archive import SavedRun
from moa.store.record import answer_of
from moa.store.recordings import Recordings

PREFIX = "resp_"

NOT_SAVED = "[an earlier answer that is not saved]"
"""Stands for an answer to which a request refers, and which is not saved."""


def routes(parts: Parts) -> APIRouter:
    """The routes of responses that are in progress or saved."""
    router = APIRouter(tags=["responses"], responses=ERROR_RESPONSES)
    desk, recordings, discretion = parts.desk, parts.recordings, parts.discretion

    @router.get("/v1/responses/{response}", summary="Get a response")
    async def get_response(response: str, request: fastapi.Request) -> Response:
        saved = await _saved(recordings, response, desk.owner(desk.caller(request)))
        return Response(await asyncio.to_thread(_written, saved, discretion), media_type="application/json")

    @router.post("/v1/responses/{response}/cancel", summary="Cancel a response that is in progress")
    async def cancel_response(response: str, request: fastapi.Request) -> Response:
        owner = desk.owner(desk.caller(request))
        saved = await _saved(recordings, response, owner)
        await recordings.stop(saved.begun.run, owner)
        saved = await _saved(recordings, response, owner)
        return Response(await asyncio.to_thread(_written, saved, discretion), media_type="application/json")

    @router.delete("/v1/responses/{response}", summary="Delete a response")
    async def delete_response(response: str, request: fastapi.Request) -> Response:
        if not await recordings.delete(response.removeprefix(PREFIX), desk.owner(desk.caller(request))):
            raise _no_such(response)
        return json_response({"id": response, "object": "response.deleted", "deleted": True})

    return router


async def continued(parsed: ParsedRequest, recordings: Recordings, owner: str) -> ParsedRequest:
    """The request with the conversation of the response that it continues before its own messages, and with the answers to
    which its messages refer. Instructions of an earlier request do not carry over.

    Raises:
        Refusal: 400, there is no such response, or it has no answer.
    """
    own = parsed.request.messages
    if parsed.previous:
        instructions = own[:1] if own and own[0]["role"] == "system" else []
        earlier = await _conversation(parsed.previous, recordings, owner)
        own = [*instructions, *earlier, *own[len(instructions) :]]
    if parsed.refers:
        own = await _with_answers(own, recordings, owner)
    return replace(parsed, request=parsed.request.replaced(messages=paired(own)))


async def _conversation(response: str, recordings: Recordings, owner: str) -> list[Message]:
    """The messages of a response's request, and its answer."""
    try:
        saved = await _saved(recordings, response, owner)
    except Refusal:
        message = f"previous response {response!r} is not saved here; send the whole conversation as input"
        raise Refusal(400, message, code="previous_response_not_found", param="previous_response_id") from None
    answer = await asyncio.to_thread(answer_of, saved.lines)
    if saved.outcome == "running" or answer.error is not None:
        message = f"previous response {response!r} has no answer yet"
        raise Refusal(400, message, code="previous_response_not_found", param="previous_response_id")
    messages = [*saved.begun.request["messages"]]
    if messages and messages[0]["role"] == "system":
        del messages[0]
    return [*messages, message_of(answer)]


async def _with_answers(messages: Sequence[Message], recordings: Recordings, owner: str) -> list[Message]:
    """The messages with the answer of a run for the first reference to it. A client that refers to one item of a response
    refers to all of them. The AI SDK of Vercel does so by default (``store``): it sends no text of earlier answers.
    """
    result, known = list[Message](), set[str]()
    for message in messages:
        run = message.get(REFERRED)
        if run is None:
            result.append(message)
        elif run not in known:
            known.add(run)
            try:
                saved = await _saved(recordings, run, owner)
            except Refusal:
                result.append({"role": "assistant", "content": NOT_SAVED})
            else:
                result.append(message_of(await asyncio.to_thread(answer_of, saved.lines)))
    return result


async def _saved(recordings: Recordings, response: str, owner: str) -> SavedRun:
    saved = await recordings.saved(response.removeprefix(PREFIX), owner)
    if saved is None:
        raise _no_such(response)
    return saved


def _no_such(response: str) -> Refusal:
    return Refusal(404, f"no response has the ID {response[:80]!r}", param="response_id", code="response_not_found")


def _written(saved: SavedRun, discretion: Discretion) -> bytes:
    """A saved run as a response."""
    begun, answer = saved.begun, answer_of(saved.lines)
    encoder = ResponsesEncoder(begun.model, ECHOED, Tools())
    encoder.start(begun.run, begun.started)
    if saved.outcome in ("answered", "degraded"):
        answer = discretion.answer(answer)
        return encoder.whole([Result(answer, {}, usage=answering_usage(answer, Request(begun.request)))])
    if saved.outcome == "failed":
        reason = answer.error.reason if isinstance(answer.error, RunError) else "the run failed"
        return encoder.unfinished("failed", error={"code": "server_error", "message": discretion.text(reason)})
    return encoder.unfinished("in_progress" if saved.outcome == "running" else "cancelled")
