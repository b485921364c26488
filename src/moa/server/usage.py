"""``usage`` of a response: the tokens of the call whose text is the answer, or the sum over all calls of the run.

To a client, ``prompt_tokens`` is the size of its conversation: coding agents compact theirs when it approaches the model's
window, so the sum over several calls makes them compact far too early. The sum is ``moa.usage``, and all that counts money
uses the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from moa.answers import estimated_tokens
from moa.messages import Answer, Call, Request, Usage
from moa.mixture.prompts import conversation_text

WhoseUsage = Literal["answer", "all"]
"""``answer``: the call whose text is the answer; ``all``: the sum over every call."""


def usage_by_choice(answers: Sequence[Answer], request: Request, whose: WhoseUsage) -> list[Usage]:
    """What each choice of a response adds to its usage.

    All choices have one prompt, so it counts once, with the first choice, and where it was the longest, as in OpenAI's API
    (https://platform.openai.com/docs/api-reference/chat/create#chat-create-n).
    """
    if whose == "all":
        return [answer.usage for answer in answers]
    first, *more = [answering_usage(answer, request) for answer in answers]
    longest = max([first, *more], key=lambda usage: usage.input_tokens)
    without_prompts = [replace(usage, input_tokens=0, cached_tokens=0) for usage in more]
    return [replace(first, input_tokens=longest.input_tokens, cached_tokens=longest.cached_tokens), *without_prompts]


def answering_usage(answer: Answer, request: Request) -> Usage:
    """The tokens of the call whose text is the answer, without its failed attempts and hedges; within a nested mixture, of
    the call that answers there.

    A call that continues a text reads the earlier pieces in its prompt. They count as output, as they do for the client, so
    ``total_tokens`` are those that the last call had in its context.

    Where no call of the run wrote the answer (a function did, or a proposal of an earlier run is the answer), or nothing was
    counted, the tokens are estimated as characters / 4.
    """
    call = _answering(answer.calls)
    usage = _own_usage(call) if call else Usage()
    if usage.total_tokens:
        return usage
    prompt = estimated_tokens(conversation_text(request.messages))
    return Usage(prompt, estimated_tokens(answer.reasoning + answer.text), estimated=True)


def _answering(calls: Sequence[Call]) -> Call | None:
    call = next((call for call in calls if call.answers), None)
    return call and (_answering(call.calls) or call)


def _own_usage(call: Call) -> Usage:
    usage = call.usage or Usage()
    pieces = [attempt.usage for attempt in call.attempts if attempt.part]
    others = sum((attempt.usage for attempt in call.attempts), Usage())
    before = sum(pieces, Usage())
    last = usage.input_tokens - others.input_tokens
    prompt = max(last - before.output_tokens, *(piece.input_tokens for piece in pieces), 0)
    return Usage(
        prompt,
        usage.output_tokens - others.output_tokens + before.output_tokens,
        min(usage.cached_tokens - others.cached_tokens, prompt),
        usage.reasoning_tokens - others.reasoning_tokens + before.reasoning_tokens,
        usage.estimated,
    )
