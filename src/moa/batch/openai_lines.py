"""Lines of an OpenAI Batch output file.

A request that failed has its error as the body of a response with another status than 200, as in OpenAI's error files.
Output and errors are one file here, as vLLM's ``run_batch`` writes it. ``error`` is for requests that were never made.

https://platform.openai.com/docs/api-reference/batch/request-output
https://github.com/vllm-project/vllm/blob/main/vllm/entrypoints/openai/run_batch.py
"""

from __future__ import annotations

import time
from typing import Any

from moa.batch.answering import Answered
from moa.store.figures import usage_object


def output_line(answered: Answered) -> dict[str, Any]:
    """The answer to a line of an OpenAI Batch file. Its ``usage`` is that of the answering call, with the ``cost`` of all
    calls; the ``moa`` object has the tokens of all calls, as in a chat completion of ``moa serve``."""
    run = answered.run or f"{answered.number:032x}"
    error = answered.error
    return {
        "id": f"batch_req_{run}",
        "custom_id": answered.id if isinstance(answered.id, str) else str(answered.id),
        "response": {
            "status_code": error.status if error else 200,
            "request_id": run,
            "body": _error(answered) if error else _completion(answered, run),
        },
        "error": None,
    }


def _completion(answered: Answered, run: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answered.answer, "refusal": None}
    if answered.tool_calls:
        message |= {"content": answered.answer or None, "tool_calls": answered.tool_calls}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answered.finish_reason}
    return {
        "id": f"chatcmpl-{run}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answered.model,
        "choices": [choice],
        "usage": {**usage_object(answered.usage_of_answer), "cost": answered.cost},
        "moa": _moa(answered),
    }


def _moa(answered: Answered) -> dict[str, Any]:
    return {
        "run": answered.run,
        "cost": answered.cost,
        "cost_is_at_least": answered.cost_is_at_least,
        "usage": usage_object(answered.usage),
        "duration": answered.seconds,
        "degraded": answered.degraded,
    }


def _error(answered: Answered) -> dict[str, Any]:
    assert answered.error
    kind = "invalid_request_error" if answered.error.status == 400 else "upstream_error"
    return {
        "error": {"message": answered.error.message, "type": kind, "param": None, "code": None},
        "moa": _moa(answered),
    }
