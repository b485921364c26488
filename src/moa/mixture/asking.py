"""What each agent is sent. One function a role, each readable from top to bottom.

A caller's request reaches the aggregator whole. A proposer gets the conversation in words and the fields of
:data:`FOR_PROPOSERS` only: a field that shapes the answer itself (tools, ``response_format``, ``stop``, …) would turn its
advice into half an answer, and one that is meant for one vendor (``store``, ``metadata``, …) is refused by others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from moa.messages import Message, Reference, Request
from moa.mixture.agent import Agent
from moa.mixture.prompts import CLOSING, SELECT, Layout, tools_in_words, with_persona, with_references, with_system
from moa.models import traits_of
from moa.models.demands import TOOL_FIELDS
from moa.models.fitting import TOKEN_LIMITS, tool_calls_in_words
from moa.models.thinking import split

AGGREGATOR_ONLY = frozenset(
    {
        *TOOL_FIELDS,
        *("response_format", "stop", "n", "logprobs", "top_logprobs", "prediction", "modalities", "audio"),
        *("stream", "stream_options"),
    }
)
"""Fields of a request that shape the answer itself."""

REASONING = frozenset(
    {"reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "redacted_thinking"}
)
"""Fields of an assistant's message, and kinds of parts in its content, that hold reasoning."""

FOR_PROPOSERS = (
    *("messages", "temperature", "top_p", "top_k", "min_p", *TOKEN_LIMITS, "seed", "reasoning_effort"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty"),
)
"""Fields of a caller's request that proposers get."""

SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", *TOKEN_LIMITS, "seed", "stop"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty", "reasoning_effort", "logit_bias", "extra_body"),
)
"""Well-known sampling fields. An agent may have others; a misspelt one is recognised by its likeness to one of these."""


def proposer_request(
    agent: Agent,
    request: Request,
    layout: Layout,
    run_seed: int,
    references: Sequence[Reference] = (),
    closing: str = CLOSING,
) -> Request:
    """What a proposer is sent. Its own sampling overrides the caller's; tools, and calls of them, reach it in words.

    The agents of one model within a layer get a seed each, where the model takes one. The seeds count on from the caller's
    seed, or from ``run_seed``, the run's own, so that another run gets other proposals; from 0 where answers are cached.
    """
    body = {name: value for name, value in request.body.items() if name in FOR_PROPOSERS}
    sent = in_words(Request(body))
    traits = traits_of(agent.model)
    if agent.sample is not None and not traits.profile.refuses & {"seed", "random_seed"}:
        sent = sent.replaced(seed=first_seed(agent, request, run_seed) + agent.sample)
    if tools := request.body.get("tools"):
        sent = with_system(sent, tools_in_words(tools))
    sent = _with_sampling(sent, agent.sampling)
    return with_persona(with_references(sent, references, layout, closing=closing), agent.persona)


def first_seed(agent: Agent, request: Request, run_seed: int) -> int:
    """The number from which an agent's seeds count on: the caller's seed, 0 where answers are cached, else the run's own."""
    given = request.body.get("seed")
    return given if isinstance(given, int) else 0 if traits_of(agent.model).cached else run_seed


def aggregator_request(
    agent: Agent, request: Request, layout: Layout, references: Sequence[Reference] = (), closing: str = CLOSING
) -> Request:
    """What an aggregator is sent. The caller's fields override its own sampling."""
    sent = request.without(("stream", "stream_options"))
    sampling = {key: value for key, value in agent.sampling.items() if key not in request.body}
    if any(limit in request.body for limit in TOKEN_LIMITS):
        sampling = {key: value for key, value in sampling.items() if key not in TOKEN_LIMITS}
    sent = _with_sampling(sent, sampling)
    return with_persona(with_references(sent, references, layout, closing=closing), agent.persona)


def ranker_request(agent: Agent, request: Request, layout: Layout, references: Sequence[Reference]) -> Request:
    """What a ranker is sent: the conversation, without any field that shapes an answer, and the question which is best."""
    return side_request(agent, request, replace(layout, prompt=SELECT), references)


def side_request(
    agent: Agent, request: Request, layout: Layout, references: Sequence[Reference], closing: str = ""
) -> Request:
    """What an agent is sent that does not answer: the conversation, without any field that shapes an answer."""
    sent = _with_sampling(in_words(Request({"messages": request.messages})), agent.sampling)
    if layout.place == "system":
        layout, closing = replace(layout, prompt=f"{layout.prompt}\n\n{closing}".strip()), ""
    return with_persona(with_references(sent, references, layout, closing=closing), agent.persona)


def in_words(request: Request) -> Request:
    """The request with tool calls and their results as text, and with no field of a message but its role, content and name.

    What the model that answered before thought is no part of its answers.
    """
    messages = [_answer_alone(message) for message in tool_calls_in_words(request.messages)]
    spoken = [
        {"content": message.get("content") or message.get("refusal") or "", **_kept(message)} for message in messages
    ]
    return request.replaced(messages=spoken)


def _kept(message: Message) -> Message:
    return {name: message[name] for name in ("role", "content", "name") if message.get(name) is not None}


def _answer_alone(message: Message) -> Message:
    if message["role"] != "assistant":
        return message
    fields = {name: value for name, value in message.items() if name not in REASONING}
    content = fields.get("content")
    if isinstance(content, str):
        fields["content"] = split(content)[0]
    elif isinstance(content, list):
        fields["content"] = [part for part in content if part.get("type") not in REASONING]
    return fields


def _with_sampling(request: Request, sampling: Mapping[str, Any]) -> Request:
    """The request with these fields. One token limit replaces the other, whatever each is called."""
    if any(limit in sampling for limit in TOKEN_LIMITS):
        request = request.without(TOKEN_LIMITS)
    return request.replaced(**sampling)
