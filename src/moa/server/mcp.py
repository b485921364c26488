"""Mixtures as tools of the Model Context Protocol: an agent consults them without giving up its own model.

With the official SDK, an extra. ``moa mcp`` speaks the protocol over standard input and output, ``moa serve`` at ``/mcp``.

https://modelcontextprotocol.io/specification
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any, Literal, TypeVar

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import Field
from starlette.requests import Request
from starlette.types import ASGIApp

from moa.mixture.events import AgentDropped, AgentFailed, AgentFinished, AgentStarted, Event, RunStarted
from moa.server.consulting import Consulting
from moa.server.keys import Key

ABOUT = (
    "Several language models answer a question together. Consult them where a second opinion pays: a hard decision, a "
    "review, a plan. They see nothing but the question and the context that you give."
)

Question = Annotated[str, Field(min_length=1, description="The question, with all that is needed to answer it.")]
Mixture = Annotated[str, Field(description="The mixture's name; list_mixtures names them.")]
Background = Annotated[str, Field(description="What the models should know before they answer: code, facts, rules.")]
Effort = Annotated[
    Literal["minimal", "low", "medium", "high", "xhigh"] | None,
    Field(description="How much work the answer is worth; by default the mixture's usual."),
]
Run = Annotated[str, Field(description="The run's ID, from submit.")]

T = TypeVar("T")


def mcp_server(consulting: Consulting) -> MCPServer[Any]:
    """A server with the tools ``consult``, ``list_mixtures``, ``submit``, ``status``, ``result`` and ``cancel``."""
    server = MCPServer[Any]("mixture-of-agents", instructions=ABOUT)

    def key_of(context: Context[Any, Any]) -> Key:
        headers = [(name.lower().encode(), value.encode()) for name, value in (context.headers or {}).items()]
        return consulting.desk.caller(Request({"type": "http", "headers": headers}))

    async def consult(
        context: Context[Any, Any],
        question: Question,
        mixture: Mixture = "auto",
        background: Background = "",
        effort: Effort = None,
    ) -> str:
        """Ask a mixture of models a question, and wait for the answer."""
        key = key_of(context)
        run = await _shown(consulting, consulting.start(key, question, mixture, background, effort))
        try:
            await _report(consulting, key, run, context)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await consulting.stop(key, run)
            raise
        return await _shown(consulting, consulting.answer(key, run))

    async def list_mixtures(context: Context[Any, Any]) -> list[dict[str, Any]]:
        """List the mixtures that can be consulted."""
        return consulting.mixtures(key_of(context))

    async def submit(
        context: Context[Any, Any],
        question: Question,
        mixture: Mixture = "auto",
        background: Background = "",
        effort: Effort = None,
    ) -> str:
        """Ask a question without waiting; returns the run's ID for status, result and cancel."""
        return await _shown(consulting, consulting.start(key_of(context), question, mixture, background, effort))

    async def status(context: Context[Any, Any], run: Run) -> dict[str, Any]:
        """How far a run is, which models have answered, and what it has cost in US dollars."""
        return await _shown(consulting, consulting.state(key_of(context), run))

    async def result(context: Context[Any, Any], run: Run) -> str:
        """The answer of a run that has ended."""
        return await _shown(consulting, consulting.answer(key_of(context), run))

    async def cancel(context: Context[Any, Any], run: Run) -> str:
        """Stop a run."""
        await _shown(consulting, consulting.stop(key_of(context), run))
        return "stopped"

    for tool in (consult, list_mixtures, submit, status, result, cancel):
        server.add_tool(tool)
    return server


def mcp_app(consulting: Consulting) -> tuple[ASGIApp, Callable[[], Any]]:
    """The protocol over HTTP as an ASGI application, and its life as an async context manager. It keeps no sessions, so
    several servers behind a balancer can answer one client. Hosts and origins are checked before a request gets here.
    """
    server = mcp_server(consulting)
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(stateless_http=True, transport_security=security)
    return app, server.session_manager.run


async def _report(consulting: Consulting, key: Key, run: str, context: Context[Any, Any]) -> None:
    """Report a run's progress until it ends."""
    done = total = 0
    async with aclosing(consulting.events(key, run)) as events:
        async for event in events:
            if isinstance(event, RunStarted):
                total = len(event.seats)
            if isinstance(event, AgentFinished | AgentFailed | AgentDropped):
                done += 1
            if message := _message(event):
                await context.report_progress(done, max(total, done) or None, consulting.text(message))


def _message(event: Event) -> str:
    match event:
        case AgentStarted(role="aggregator"):
            return f"{event.agent} writes the answer"
        case AgentFinished():
            return f"{event.agent} (layer {event.layer}) has answered"
        case AgentFailed() | AgentDropped():
            return f"{event.agent} (layer {event.layer}) gave no answer"
    return ""


async def _shown(consulting: Consulting, work: Awaitable[T]) -> T:
    """The result of some work; the model that called the tool reads why there is none."""
    try:
        return await work
    except Exception as error:
        raise ToolError(consulting.message(error)) from None
