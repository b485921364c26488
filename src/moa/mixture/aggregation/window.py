"""An aggregator that takes its references some at a time, and carries its answer on as a further one.

Notable decisions:
- This is the idea of Self-MoA-Seq (arXiv 2502.00674): many proposals are merged in several calls, none of which reads all of
  them. Each step reads the answer so far and the next W proposals, so N proposals take N / W calls, rounded up.
- The aggregation does so by itself where the proposals do not fit the aggregator's context, with as many in each step as
  fit: shortened references would lose text. Where not even two fit, they are shortened: steps would shorten them, too.
- Only the last call is the answer's: it has the request's tools and streams. The steps before it are advice: they get what
  proposers get, and what they cost counts.
- A step that cannot be made (its call fails with every aggregator, the money or the time is short) ends the steps, and the
  answer is written from everything that is left, which may be shortened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from moa.messages import Reference, Request
from moa.mixture.agent import Agent
from moa.mixture.aggregation.protocol import Running
from moa.mixture.asking import proposer_request
from moa.mixture.draft import Draft
from moa.mixture.prompts import Layout
from moa.mixture.schedules.drafts import reference_of

ROLE = "step"


async def last_window(run: Running, proposals: Sequence[Reference], window: int | None) -> tuple[Reference, ...]:
    """Make all steps but the last, and give what the last one reads.

    Args:
        window: how many proposals a step reads; None: as many as fit.
    """
    carried: tuple[Reference, ...] = ()
    rest = tuple(proposals)
    names = step_names(next(iter(run.aggregators)), run.aggregators)
    while True:
        fitting = run.asides.fitting((*carried, *rest))
        if window is None and (fitting < 2 or fitting == len(carried) + len(rest)):
            return (*carried, *rest)
        count = min(window or len(rest), max(1, fitting - len(carried)))
        if count >= len(rest):
            return (*carried, *rest)
        if window is None and not carried:
            model = next(iter(run.aggregators.values())).model.name
            run.notice(f"the proposals do not fit the context of {model}: it reads {count} of {len(rest)} first")
        draft = await _step(run, (*carried, *rest[:count]), rest[count:], next(names))
        if draft is None:
            return (*carried, *rest)
        carried, rest = (replace(reference_of(draft), layer=run.depth),), rest[count:]


async def _step(run: Running, read: Sequence[Reference], rest: Sequence[Reference], name: str) -> Draft | None:
    """Merge these references, by a fallback where the aggregator fails. None, with a notice, where no agent can."""
    why = ""
    for place, agent in enumerate(run.aggregators.values()):
        make_request = partial(step_request, agent, run.request, run.layout)
        if obstacle := run.asides.obstacle([*read, *rest]):
            why = obstacle
            break
        draft = await run.asides.call(
            agent,
            Draft(name if not place else f"{name}, fallback {place}", run.depth),
            ROLE,
            make_request,
            read,
        )
        if draft.usable and draft.cut is None:
            return draft
        why = draft.dropped or draft.cut or ""
    run.notice(f"the rest of the proposals is read at once: {why}", degrades=True)
    return None


def step_request(
    agent: Agent, request: Request, layout: Layout, references: Sequence[Reference], closing: str
) -> Request:
    """What an aggregator is sent that merges a part of the proposals: as a proposer, and the caller's sampling applies."""
    sampling = {name: value for name, value in agent.sampling.items() if name not in request.body}
    return proposer_request(replace(agent, sampling=sampling), request, layout, 0, references, closing)


def step_names(aggregator: str, taken: Mapping[str, Agent]) -> Iterator[str]:
    """The names of an aggregator's steps, in order; no other agent of the last layer has one."""
    number = 0
    while True:
        number += 1
        if (name := f"{aggregator} (step {number})") not in taken:
            yield name
