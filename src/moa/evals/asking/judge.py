"""A judge: any model, called in the form that the benchmark's authors used, as far as the model takes it.

What a model refuses (a temperature, log-probabilities, a name of ``max_tokens``) its profile says, or a refusal teaches
(:mod:`moa.models.learning`); what is left here is what no refusal says: that it thinks before it speaks.

A judge is called once before the system answers anything. If that call fails, nothing has been paid for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from moa.errors import CallRejected
from moa.evals.asking.data import Row
from moa.evals.asking.harness import Measurement
from moa.evals.asking.journal import Reply
from moa.messages import Delta, Request
from moa.models import Model, traits_of
from moa.models.learning import Learning
from moa.models.wrapper import Wrapper

TRIAL = "judgment/trial"
"""The key of the call that tries a judge."""

STAND_IN = "I do not know."
"""The answer that a judge is tried with."""


class Judge(Wrapper):
    """A judge of one measurement, and what its replies have shown of it so far. It is a model, too.

    Attributes:
        model: the model.
        limited: whether a limit on tokens leaves its verdicts whole. A model that thinks first spends the limit on that.
        weighs: whether it returns log-probabilities: None until it has replied.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model if _learns(model) else Learning(model, traits_of(model).profile))
        self.limited = True
        self.weighs: bool | None = None

    @classmethod
    def of(cls, model: Model) -> Judge:
        """The model as a judge; a judge stays what it is."""
        return model if isinstance(model, Judge) else cls(model)

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the model's answer."""
        return self.model.stream(request)

    async def reply(
        self,
        measurement: Measurement,
        key: str,
        messages: Sequence[Row],
        sampling: Mapping[str, Any],
        readable: Callable[[str], bool],
    ) -> Reply:
        """The judge's reply. If ``max_tokens`` cut it before it was readable, that of a second call without a limit.

        Args:
            key: as in :meth:`Measurement.call`; the second call's has ``/whole`` at its end.
            sampling: the fields of the request that the benchmark's authors set.
            readable: whether a text has a verdict.

        Raises:
            MoaError: the call failed.
        """
        request = Request({"messages": messages, **sampling})
        if self.limited or measurement.has(key, self.model, request):
            reply = await measurement.call(key, self.model, request)
            if readable(reply.text) or reply.finish_reason != "length":
                return reply
        whole = await measurement.call(f"{key}/whole", self.model, request.without(["max_tokens"]))
        self.limited = self.limited and not readable(whole.text)
        return whole

    async def weighted(
        self, measurement: Measurement, key: str, messages: Sequence[Row], sampling: Mapping[str, Any]
    ) -> Reply | None:
        """The reply to a request for log-probabilities; None from a judge without them.

        Raises:
            MoaError: the call failed, and not because the judge refuses log-probabilities.
        """
        request = Request({"messages": messages, **sampling})
        if self.weighs is False and not measurement.has(key, self.model, request):
            return None
        try:
            return await measurement.call(key, self.model, request)
        except CallRejected as error:
            if error.status not in (400, 422):
                raise
            self.weighs = False
            return None


def _learns(model: Model) -> bool:
    """Whether refusals teach the model already, as they do an endpoint's. A mixture's agents learn, each for itself."""
    inside: object = model
    while isinstance(inside, Wrapper):
        if isinstance(inside, Learning):
            return True
        inside = inside.model
    return traits_of(model).composite


def excerpt(text: str) -> str:
    """The end of a reply, where its verdict should be, on one line."""
    words = " ".join(text.split())
    return words if len(words) <= 60 else f"…{words[-59:]}"
