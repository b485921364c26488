"""What a client should know of a mixture before it calls it: sizes, abilities and prices.

A fact is None where it is unknown. A mixture can do what its answer needs: it calls tools if its aggregator does, and sees
images if one of its agents does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from moa.mixture.agent import Agent
from moa.mixture.mixture import Mixture
from moa.models import Model, traits_of
from moa.models.profile import Profile
from moa.prices import Prices, context_window


@dataclass(frozen=True, slots=True)
class Card:
    """The facts about one model.

    Attributes:
        context_tokens: of the smallest model that may write the answer.
        answer_tokens: of its longest answer.
        images: some agent sees images.
        tools: the answering models may call tools.
        efforts: some agent takes ``reasoning_effort``, or it chooses the part of the mixture that answers.
        prompt, completion: US dollars for one token of the request, and of each answer: the sum over all agents.
    """

    context_tokens: int | None
    answer_tokens: int | None
    images: bool
    tools: bool
    efforts: bool
    prompt: float | None
    completion: float | None


def card_of(mixture: Mixture, prices: Prices) -> Card:
    """The facts about a mixture."""
    models = list(_models(mixture.agents))
    answering = list(_answering(mixture))
    profiles = {model.name: traits_of(model).profile for model in [*models, *answering]}
    own = [profiles[model.name] for model in answering]
    contexts = [_context(model, profiles[model.name]) for model in answering]
    known = [prices.per_million(model.name, provider=traits_of(model).provider) for model in models]
    costs = [each for each in known if each is not None] if all(each is not None for each in known) else None
    return Card(
        context_tokens=min((size for size in contexts if size), default=None),
        answer_tokens=min((profile.answer_tokens for profile in own if profile.answer_tokens), default=None),
        images=any(profile.images for profile in profiles.values()),
        tools=all(profile.tools is not False for profile in own),
        efforts=bool(mixture.effort) or any(profile.efforts for profile in profiles.values()),
        prompt=None if costs is None else sum(each.input for each in costs) / 1e6,
        completion=None if costs is None else sum(each.output for each in costs) / 1e6,
    )


def _answering(mixture: Mixture) -> Iterator[Model]:
    """The models that may write a mixture's answer; of a mixture among its agents, those of that one."""
    alone = [level.model for level in mixture.effort.values() if level.model]
    for agent in [*mixture.aggregators.values(), *alone] or mixture.layers[-1].values():
        if isinstance(agent.model, Mixture):
            yield from _answering(agent.model)
        else:
            yield agent.model


def _models(agents: Iterable[Agent]) -> Iterator[Model]:
    """The models of these agents; of a mixture among them, its own."""
    for agent in agents:
        if isinstance(agent.model, Mixture):
            yield from _models(agent.model.agents)
        else:
            yield agent.model


def _context(model: Model, profile: Profile) -> int | None:
    return profile.context_tokens or context_window(model.name)
