"""What a request demands of its answer beyond text: that its images are seen, a tool call, log probabilities."""

from __future__ import annotations

from collections.abc import Iterable

from moa.errors import AggregatorFailed
from moa.messages import Request
from moa.mixture.agent import Agent
from moa.mixture.draft import Draft
from moa.mixture.plan import Plan
from moa.models import Model, traits_of
from moa.models.demands import (
    asks_about_images,
    calls_no_tools,
    demanded_call,
    gave_no_call,
    misses_call,
    sees_no_images,
)


class Demands:
    """The demands of one request to one mixture."""

    def __init__(self, plan: Plan, request: Request) -> None:
        self._plan, self._request = plan, request
        self._has_images = asks_about_images(request)
        self._proposers = [agent for layer in plan.layers for agent in layer.values()]

    def check_plan(self) -> None:
        """Check that some agent can do what the request demands, before any is called.

        Raises:
            AggregatorFailed: the request has images, and no agent sees images; or it demands a tool call, and no aggregator
                calls tools.
        """
        answering = [agent.model for agent in self._plan.aggregators.values()]
        if demanded_call(self._request) is not None and all(
            traits_of(each).profile.tools is False for each in answering
        ):
            errors = [calls_no_tools(answering[0].name)]
            raise AggregatorFailed(f"the request demands a tool call, and {self._plan.name} calls no tools", (), errors)
        if self._has_images and not _any_sees(self._plan.agents):
            errors = [sees_no_images(self._plan.aggregator.model.name)]
            raise AggregatorFailed(f"the request has images, and no model of {self._plan.name} sees images", (), errors)

    def check(self, model: Model, draft: Draft, complete: bool) -> None:
        """Check the aggregator's draft: before its call, while it is silent, and when it is complete.

        Raises:
            ModelError: the model does not see the images that no proposer sees either, which may have become known by a
                refusal of its server; or the complete draft lacks the tool call that the request demands.
        """
        if self._has_images and traits_of(model).profile.images is False and not _any_sees(self._proposers):
            raise sees_no_images(model.name)
        may_call = complete and draft.finish_reason in ("stop", "tool_calls") and not draft.instead_of_text
        if may_call and (missing := misses_call(self._request, draft.tool_calls)):
            raise gave_no_call(model.name, missing)

    def missing(self, draft: Draft | None) -> str | None:
        """What the request asks for and the answer lacks: log probabilities. ``draft``: the aggregator's, if it wrote."""
        if not self._request.body.get("logprobs"):
            return None
        if draft is None or not draft.usable:
            return "the answer has no logprobs: it is a proposal, and proposers are not asked for them"
        return None if draft.logprobs or not draft.text else "the answer has no logprobs: its model gave none"


def _any_sees(agents: Iterable[Agent]) -> bool:
    """Whether one of these agents sees images, as far as is known."""
    return any(traits_of(agent.model).profile.images is not False for agent in agents)
