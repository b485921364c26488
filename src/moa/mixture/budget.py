"""What a run has spent, and what it may spend.

Calls that have ended count as billed. Calls in flight count as estimated, characters / 4, so that a limit can stop them
while they write. A model without a known price cannot be limited, and the run emits a notice about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from moa.answers import Attempt, Cost, Usage, estimated_tokens, tokens_in
from moa.messages import Request
from moa.mixture.draft import Draft
from moa.mixture.prompts import conversation_text
from moa.models import Model
from moa.prices import Price, Prices


@dataclass(frozen=True, slots=True)
class _Account:
    """One call in flight: its model, the estimated tokens of its prompt, and the tokens its draft had when it began."""

    model: Model
    input_tokens: int
    before: int


class Budget:
    """The money of one run.

    Args:
        prices: what tokens cost.
        limit: US dollars that the run may cost; None: no limit.
        overhead: tokens of a prompt besides the references: the conversation and the instruction.
    """

    def __init__(self, prices: Prices, limit: float | None, overhead: int = 0) -> None:
        self._prices, self.limit, self.overhead = prices, limit, overhead
        self._settled = 0.0
        self._open: dict[Draft, _Account] = {}
        self._ended: dict[Draft, tuple[Usage, Cost]] = {}
        self._rates: dict[str, Price | None] = {}

    def open(self, draft: Draft, model: Model, request: Request) -> None:
        """A call for a draft begins."""
        self._open[draft] = _Account(model, estimated_tokens(conversation_text(request.messages)), draft.tokens)
        draft.in_flight = 1

    def add(self, draft: Draft, attempt: Attempt) -> Attempt:
        """A call beside the one in flight has ended; returns it with its cost."""
        cost = attempt.cost or self._prices.price(self._open[draft].model.name, attempt.usage)
        self._count(draft, attempt.usage, cost)
        return replace(attempt, cost=cost)

    def pause(self, draft: Draft, reason: str, *, part: bool = False, free: bool = False) -> Attempt | None:
        """A call has ended, and another one will follow it; arguments as in :class:`Attempt` and :meth:`close`.

        Returns:
            The call; None where it was still waiting to be sent.
        """
        was_sent = draft.in_flight or draft.usage or draft.tokens != self._open[draft].before
        usage, cost = self._settle(draft, free=free)
        self._count(draft, usage, cost)
        return Attempt(reason, usage, cost, part=part) if was_sent else None

    def close(self, draft: Draft, *, free: bool = False) -> tuple[Usage, Cost]:
        """A draft's last call has ended.

        Args:
            free: nothing is billed, unless the call produced something or reported its usage.

        Returns:
            The usage and cost of all the draft's calls: as reported, or estimated where the server reported none.
        """
        if draft in self._open:
            self._count(draft, *self._settle(draft, free=free))
        return self._ended.pop(draft, (Usage(), Cost()))

    def so_far(self, draft: Draft, *, in_flight: bool = False) -> tuple[Usage, Cost]:
        """The usage and cost of a draft's calls that have ended, and what the one in flight has reported.

        With ``in_flight``, the one in flight is estimated where it has reported nothing.
        """
        usage, cost = self._ended.get(draft, (Usage(), Cost()))
        account = self._open.get(draft)
        if account and (draft.usage or in_flight):
            of_call = self._usage(draft, account)
            return usage + of_call, cost + (draft.cost or self._prices.price(account.model.name, of_call))
        return usage, cost

    def _count(self, draft: Draft, usage: Usage, cost: Cost) -> None:
        """Add a call that has ended to its draft's."""
        usage_before, cost_before = self._ended.get(draft, (Usage(), Cost()))
        self._ended[draft] = (usage_before + usage, cost_before + cost)
        self._settled += cost.dollars or 0.0

    def _settle(self, draft: Draft, *, free: bool) -> tuple[Usage, Cost]:
        """Close a call's account, and take its usage and cost out of the draft, which another call may use."""
        account = self._open.pop(draft)
        silent = not draft.usage and draft.tokens == account.before
        if silent and (free or not draft.in_flight):
            return Usage(), Cost()
        usage = self._usage(draft, account)
        cost = draft.cost or self._prices.price(account.model.name, usage)
        draft.usage = draft.cost = None
        return usage, cost

    def _usage(self, draft: Draft, account: _Account) -> Usage:
        """The usage of the call in flight: as reported, or estimated."""
        input_tokens, output_tokens = account.input_tokens * draft.in_flight, draft.tokens - account.before
        return draft.usage or Usage(input_tokens, output_tokens, estimated=True)

    def unbounded(self, models: Iterable[Model]) -> list[str]:
        """The names of models that a limit cannot stop while they write, because their prices are unknown."""
        if self.limit is None:
            return []
        return sorted({model.name for model in models if self._rate(model) is None})

    def exceeded(self, model: Model, lengths: Sequence[int] = (), *, room: float = 0.0) -> bool:
        """Whether one more call would exceed the limit; without ``lengths``, whether it is exceeded already.

        For example, three proposals of 4,000, 8,000 and 6,000 characters are 4,500 tokens to read. With ``room=0.25`` the
        answer may have a quarter of their mean length, 375 tokens. At $1 and $4 per million tokens that call costs
        4,500 × $1/M + 375 × $4/M = $0.006, so a run that has spent $0.095 of a limit of $0.10 would exceed it.

        Args:
            model: the model of that call.
            lengths: characters of each text that the call reads, besides the conversation and the instruction.
            room: the length of its answer, as a share of the mean of these lengths.
        """
        if self.limit is None:
            return False
        tokens = [tokens_in(length) for length in lengths]
        answer = round(room * sum(tokens) / len(tokens)) if tokens else 0
        prompt = sum(tokens) + self.overhead if tokens else 0
        return self._spent() + self._dollars(model, prompt, answer) > self.limit

    def affords(self, model: Model, request: Request, times: int = 1) -> bool:
        """Whether the limit allows to send this request so many times more."""
        if self.limit is None:
            return True
        tokens = estimated_tokens(conversation_text(request.messages))
        return self._spent() + times * self._dollars(model, tokens, 0) <= self.limit

    def _spent(self) -> float:
        """US dollars so far: billed for calls that have ended, estimated for calls in flight."""
        in_flight = (
            self._dollars(account.model, account.input_tokens * draft.in_flight, draft.tokens - account.before)
            for draft, account in self._open.items()
        )
        return self._settled + sum(in_flight)

    def _dollars(self, model: Model, input_tokens: int, output_tokens: int) -> float:
        rate = self._rate(model)
        return (input_tokens * rate.input + output_tokens * rate.output) / 1e6 if rate else 0.0

    def _rate(self, model: Model) -> Price | None:
        if model.name not in self._rates:
            self._rates[model.name] = self._prices.per_million(model.name)
        return self._rates[model.name]
