"""The words of vendors' refusals: the body of an error for one path in a request and one reason.

A source that is named here was read. Where it does not show the words for one kind of refusal, they are modelled on those
that it shows.
"""

from __future__ import annotations

import json
from typing import Any


def openai_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/xlinx/sd-webui-decadetw-auto-prompt-llm/issues/29; the words for a value are not confirmed."""
    message = f"Unrecognized request argument supplied: {path}"
    if reason == "value":
        message = (
            f"Unsupported value: '{path}' does not support 0.3 with this model. Only the default (1) is supported."
        )
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": path if reason == "value" else None}
    }


def pydantic_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/editor-code-assistant/eca/issues/231; the words for a role are not confirmed."""
    loc: list[str | int] = ["body"]
    steps = path.replace("]", "").replace("[", ".").split(".")
    loc.extend(int(step) if step.isdecimal() else step for step in steps)
    kind, words = ("extra_forbidden", "Extra inputs are not permitted")
    if path.endswith("role"):
        kind, words = "enum", "Input should be 'system', 'user', 'assistant' or 'tool'"
    return {
        "object": "error",
        "message": {"detail": [{"type": kind, "loc": loc, "msg": words}]},
        "type": "invalid_request_error",
    }


def groq_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/fanenr/chatbot/issues/21 and, for messages, https://github.com/tashfeenahmed/freellmapi/issues/1070."""
    message = f"property '{path}' is unsupported"
    if path.startswith("messages"):
        at, _, field = path.removeprefix("messages[").partition("].")
        message = (
            f"'messages.{at}' : for 'role:assistant' the following must be satisfied[('messages.{at}' : property "
            f"'{field}' is unsupported)]"
        )
    return {"error": {"message": message, "type": "invalid_request_error"}}


def serde_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/earendil-works/pi/issues/1048 and https://github.com/rikkahub/rikkahub/issues/1433.

    The words for an unknown field are not confirmed.
    """
    before = "Failed to deserialize the JSON body into the target type"
    if path.endswith("role"):
        message = f"{before}: {path}: unknown variant `{reason}`, expected one of `system`, `user`, `assistant`, `tool`"
    elif reason == "image":
        message = f"{before}: {path}[1]: unknown variant `image_url`, expected `text` at line 1 column 500"
    else:
        message = (
            f"{before}: unknown field `{path}`, expected one of `messages`, `model`, `temperature`, `seed` at line 1"
        )
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": "invalid_request_error"}
    }


def google_words(path: str, reason: str) -> list[Any]:
    """https://github.com/Vali-98/ChatterUI/issues/227; the words for a role are not confirmed."""
    message = f'Invalid JSON payload received. Unknown name "{path.rpartition(".")[2]}": Cannot find field.'
    if path.endswith("role"):
        message = f"Invalid value at 'messages[0].role': role '{reason}' is not supported."
    return [{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]


def bedrock_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/vxcontrol/pentagi/issues/160 and https://github.com/lastmile-ai/mcp-agent/pull/126."""
    if reason == "tools":
        return {"message": "The toolConfig field must be defined when using toolUse and toolResult content blocks."}
    return {"message": f"Malformed input request: extraneous key [{path}] is not permitted, please reformat your input"}


def anthropic_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/anthropics/anthropic-sdk-python/issues/849, as Anthropic answered until February 2025.

    The words for a role are not confirmed.
    """
    if reason == "tools":
        message = "Requests which include `tool_use` or `tool_result` blocks must define tools"
    elif path.endswith("role"):
        message = f'messages.0: Unexpected role "{reason}". Allowed roles are "user" or "assistant"'
    else:
        message = f"{path}: Extra inputs are not permitted"
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


def xai_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/open-webui/open-webui/issues/21266; the code: https://github.com/neavo/LinguaGacha/issues/159."""
    head, *more = path.split("_")
    camel = head + "".join(part.title() for part in more)
    return {
        "code": "Client specified an invalid argument",
        "error": f"Model grok-4 does not support parameter {camel}.",
    }


def vague_words(path: str, reason: str) -> dict[str, Any]:
    """A server that says nothing of what was wrong: the worst case, not a certain vendor's."""
    return {"error": "Bad Request"}


def quoting_words(path: str, reason: str) -> dict[str, Any]:
    """vLLM's, a Python list as text, with the input quoted: https://github.com/vllm-project/vllm/issues/10078"""
    quoted = json.dumps({"temperature": 0.3, "seed": 1})
    said = "'msg': 'Extra inputs are not permitted'"
    message = f"[{{'type': 'extra_forbidden', 'loc': ('body', '{path}'), {said}, 'input': {quoted}}}]"
    if path.endswith("role"):
        message = f"Unexpected message role: {reason}"
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


def azure_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/appatalks/eva-agent/issues/83; the words for an unknown field are OpenAI's, those for an image are
    not confirmed."""
    if reason == "image":
        return {"error": {"message": "Invalid content type. image_url is only supported by certain models."}}
    if path in ("temperature", "top_p", "max_tokens", "presence_penalty", "frequency_penalty", "parallel_tool_calls"):
        message = f"Unsupported parameter: '{path}' is not supported with this model."
        code, kind = "unsupported_parameter", "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": path, "code": code}}
    return openai_words(path, reason)


def moonshot_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/countbot-ai/CountBot/issues/61; the words for a role and for an effort are not confirmed."""
    message = f"invalid {path}: only 1 is allowed for this model" if reason == "value" else f"unknown field {path}"
    if path.endswith("role"):
        message = f"Invalid request: role {reason} is not supported"
    if path == "reasoning_effort":
        message = f"invalid reasoning_effort: {reason}, supported values are low, high, max"
    return {"error": {"message": message, "type": "invalid_request_error"}}


def zai_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/cline/cline/issues/9939 and, for messages, https://github.com/continuedev/continue/issues/13259."""
    if path.startswith("messages"):
        return {
            "error": {"code": "1214", "message": "The messages parameter is illegal. Please check the documentation."}
        }
    return {"error": {"code": "1210", "message": "Invalid API parameter, please check the documentation."}}


def qwen_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/maotoumao/Cebian/issues/46; the words for a field are not confirmed."""
    message = f"parameter {path} is not supported"
    if path.endswith("role"):
        message = f"{reason} is not one of ['system', 'assistant', 'user', 'tool', 'function'] - '{path}'"
    kind, code = "invalid_request_error", "invalid_parameter_error"
    return {"error": {"code": code, "param": None, "message": message, "type": kind}, "id": "chatcmpl-aaca8aff"}


def cohere_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/davidmigloz/ai_clients_dart/issues/26; the words for an effort are not confirmed."""
    said = f"{path} is not supported" if reason == "unknown" else f"{path} must be one of none, high: {reason}"
    return {"id": "3039bcc8-6be7-4c38-a667-5de880ca2c80", "message": f"unprocessable entity: {said}"}


def fastapi_words(path: str, reason: str) -> dict[str, Any]:
    """https://fastapi.tiangolo.com/tutorial/handling-errors/; that SambaNova and Nebius word it so is not confirmed."""
    error = pydantic_words(path, reason)["message"]["detail"][0]
    if path == "reasoning_effort":
        error |= {"type": "enum", "msg": "Input should be 'low', 'medium' or 'high'"}
    return {"detail": [error]}


def sglang_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/entrypoints/openai/protocol.py, read as of 2025."""
    message = "'role' must be one of 'system', 'assistant', 'tool', or 'function' (case-insensitive)."
    return {"object": "error", "message": f"1 validation error: {message}", "type": "BadRequest", "code": 400}


def vercel_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/vercel/ai/blob/main/packages/gateway/src/errors/create-gateway-error.ts"""
    return {"error": {"message": f"Invalid input: {path}", "type": "invalid_request_error", "param": path}}
