"""The answers that the proposals of one run give: each is read once, and reported as an event.

A text that is long or may hold a formula is read in a thread, since that can take longer than the event loop may wait.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from functools import partial

from moa.messages import Reference, Request, text_of
from moa.mixture.canonical import Form, canonical, options_of
from moa.mixture.events import AgentVoted, Event

QUICK = 20_000
"""Characters of a text that is read in a few milliseconds, unless it holds a formula."""
_FORMULA = re.compile(r"[\\^]")

log = logging.getLogger("moa")

SECONDS = 10.0
"""How long reading a proposal may take. One that takes longer has no answer."""


class Votes:
    """Reads proposals.

    Args:
        request: the caller's, whose last user message may list options.
        emit: receives an event for each proposal.

    Attributes:
        options: what the question lists by letter; empty where it is no choice.
    """

    def __init__(self, request: Request, emit: Callable[[Event], None]) -> None:
        at = request.last_user
        self.options = options_of(text_of(request.messages[at])) if at is not None else {}
        self._emit, self._now = emit, asyncio.get_running_loop().time
        self._forms: dict[Reference, Form | None] = {}
        self._reading = asyncio.Lock()

    async def of(self, proposals: Sequence[Reference]) -> list[Form | None]:
        """The form of each proposal's answer; None where it gives none that can be compared."""
        async with self._reading:
            for proposal in proposals:
                if proposal not in self._forms:
                    self._forms[proposal] = form = await self._read(proposal)
                    answer = str(form) if form else ""
                    self._emit(AgentVoted(at=self._now(), agent=proposal.agent, layer=proposal.layer, answer=answer))
        return [self._forms[proposal] for proposal in proposals]

    async def _read(self, proposal: Reference) -> Form | None:
        read = partial(canonical, proposal.text, self.options, complete=not proposal.cut)
        if len(proposal.text) <= QUICK and not _FORMULA.search(proposal.text):
            return read()
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.to_thread(read)
        except TimeoutError:
            log.warning("the answer of %s took longer than %g s to read", proposal.agent, SECONDS)
            return None
