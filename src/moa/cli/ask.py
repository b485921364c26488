"""``moa ask``: one question, one answer."""

from __future__ import annotations

from typing import Annotated

import typer

from moa.cli.options import ConfigFile, Explain, MixtureName, Shown
from moa.cli.terminal import Show


def ask(
    question: Annotated[list[str] | None, typer.Argument(metavar="QUESTION", hidden=True)] = None,
    mixture: MixtureName = None,
    show: Shown = None,
    json: Annotated[bool, typer.Option("--json", help="Print each event of the run as a line of JSON.")] = False,
    explain: Explain = False,
    keep: Annotated[bool, typer.Option("--keep", help="Save the run (see moa runs).")] = False,
    config: ConfigFile = None,
) -> int:
    """Ask one question.

    QUESTION is the question itself. @FILE reads it from a file; - stands for standard input.

    A terminal shows the proposals and the answer while they are written. A pipe gets the text of the answer alone.
    """
    from moa.cli.question import question_of

    text = question_of(question or [])
    import asyncio

    return asyncio.run(_answered(text, mixture, show, config, as_json=json, explain=explain, keep=keep))


async def _answered(
    question: str,
    mixture: str | None,
    show: Show | None,
    config: str | None,
    *,
    as_json: bool,
    explain: bool,
    keep: bool,
) -> int:
    """Answer on standard output. Gives exit code 0 if there is an answer, else 1."""
    from collections.abc import AsyncGenerator
    from contextlib import AsyncExitStack

    from moa.cli.explain import explain_answer
    from moa.cli.keeping import keeping
    from moa.cli.output import fail, print_json, show_run
    from moa.cli.session import Session
    from moa.cli.terminal import can_redraw
    from moa.messages import Request
    from moa.mixture.events import Event

    async with Session(config) as session, AsyncExitStack() as saving:
        model, request = session.mixture(mixture), Request.of(question)
        run = model.run(request, restart=as_json or can_redraw())
        events: AsyncGenerator[Event, None] = run
        if keep:
            name = mixture or session.config.default
            events = (await saving.enter_async_context(keeping(session.config, name, request)))(run)
        answer = await (print_json(events) if as_json else show_run(events, show, session=session))
    if answer.error is not None:
        fail(answer.error, answer if can_redraw() and not as_json else None)
        return 1
    if explain:
        explain_answer(answer, as_json=as_json)
    return 0
