"""Finds out how an agent's model continues a text, where nobody knows: by small calls, once for each model and server."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from moa.errors import ModelError
from moa.mixture.agent import Agent
from moa.mixture.calls import Calls
from moa.mixture.draft import Draft
from moa.models import Continuation, traits_of
from moa.models.continuations import WAYS, Continuing
from moa.models.lessons import STATUSES
from moa.models.probe import probing_request, shows_that_it_works
from moa.tracebacks import traceback_of

log = logging.getLogger("moa")


async def way_of(agent: Agent, draft: Draft, calls: Calls) -> Continuation | None:
    """How the agent's model continues a text; None where it cannot.

    The draft pays for the calls of a test. A notice says what was found. Where a call fails for another reason than that the
    server does not take it, nothing is learned.
    """
    traits = traits_of(agent.model)
    if traits.continuation is not None or traits.learn_continuation is None:
        return traits.continuation
    async with calls.tests.setdefault(traits.identity, asyncio.Lock()):
        traits = traits_of(agent.model)
        if traits.learn_continuation is None:  # another agent has made the test
            return traits.continuation
        found = await _tested(agent, draft, calls)
        if found is None:
            return None
        traits.learn_continuation(found)
        if found == "none":
            calls.notice(
                f"a test found that {agent.model.name} cannot continue a text: it waits for complete proposals"
            )
            return None
        calls.notice(f'a test found that {agent.model.name} continues a text, by continuation = "{found}"')
        return WAYS[found].kind


async def _tested(agent: Agent, draft: Draft, calls: Calls) -> Continuing | None:
    """The first way that works, or ``none``; None where a call failed for another reason."""
    ways: tuple[Continuing, ...] = ("prefix", "vllm", "flag", "partial", "turns")
    for name in ways:
        if WAYS[name].kind == "prefix" and _asks_for_a_user(agent):
            continue
        try:
            text = await _answer_to(name, agent, draft, calls)
        except ModelError as error:
            if error.status not in STATUSES:
                return None
        except Exception as raised:
            log.debug("testing %s failed\n%s", agent.model.name, traceback_of(raised))
            return None
        else:
            if shows_that_it_works(name, text) and not (WAYS[name].kind == "prefix" and _asks_for_a_user(agent)):
                return name
    return "none"


def _asks_for_a_user(agent: Agent) -> bool:
    """Whether the server is known to want a user message behind the assistant's, as its refusal of a test may have said."""
    return traits_of(agent.model).profile.ends_with_assistant is False


async def _answer_to(name: str, agent: Agent, draft: Draft, calls: Calls) -> str:
    request, text = probing_request(name), ""
    calls.warm(draft, agent.model, request)
    error: Exception | None = None
    try:
        async with aclosing(agent.stream(request)) as deltas:
            async for delta in deltas:
                text += delta.text
                silent = delta.replaced(text="", reasoning="", tool_calls=(), finish_reason=None, extra=None, notice="")
                calls.append(draft, "proposer", silent)
        return text
    except Exception as raised:
        error = raised
        raise
    finally:
        calls.pause(draft, "it tested how the model continues a text", error)
