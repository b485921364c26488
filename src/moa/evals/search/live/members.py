"""The models that a search may put together: members by name, and how each stands in a moa.toml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from moa.config.config import Config
from moa.config.export import agent_object
from moa.errors import ConfigError, KeyMissing, MoaError, UnknownName
from moa.messages import Request
from moa.mixture.agent import Agent
from moa.mixture.asking import proposer_request
from moa.mixture.prompts import SYNTHESIZE, Layout
from moa.models import Model

ALONE = Layout(SYNTHESIZE, "user", True)
"""A member that is asked alone reads no references, so any layout will do."""


@dataclass(frozen=True, slots=True)
class Member:
    """A model in a role that a mixture may give it.

    Attributes:
        name: unique among the members of a search: the model's name, or that of the agent.
        agent: the agent that is called.
        entry: how it stands in ``layers`` of a moa.toml.
    """

    name: str
    agent: Agent
    entry: str | dict[str, Any]

    @property
    def model(self) -> Model:
        return self.agent.model

    @property
    def plain(self) -> bool:
        """Whether it is a model without a name, persona or sampling of its own."""
        return isinstance(self.entry, str)

    def request(self, messages: Sequence[Any], sample: int) -> Request:
        """What the member is sent for its sample of this number, from 0, as in a mixture.

        The first sample has no seed of its own, so that a search with more samples asks none again.
        """
        agent = replace(self.agent, sample=sample or None)
        return proposer_request(agent, Request.of(list(messages)), ALONE, 0)


def members_of(config: Config, names: Sequence[str], mixture: str | None = None) -> tuple[list[Member], dict[str, str]]:
    """The members of a search.

    Args:
        config: opens the models.
        names: models, or mixtures that stand as one member.
        mixture: a mixture of the configuration, whose agents are members, with their personas and sampling.

    Returns:
        The members, and why others are left out, by name.

    Raises:
        ConfigError: no member is left, or two have one name.
        UnknownName: there is no such mixture.
    """
    entries: list[str | dict[str, Any]] = list(dict.fromkeys(names))
    if mixture is not None:
        table = config.table(mixture.removeprefix("moa/"))
        agents = [agent for layer in table.layers for agent in layer]
        agents += [] if table.aggregator is None else [table.aggregator]
        for agent in agents:
            fields = agent_object(agent)
            entry = fields["model"] if list(fields) == ["model"] else fields
            if entry not in entries:
                entries.append(entry)
    members, left_out = list[Member](), dict[str, str]()
    for entry in entries:
        fields = {"model": entry} if isinstance(entry, str) else dict(entry)
        model, name, persona = fields.pop("model"), fields.pop("name", ""), fields.pop("persona", None)
        label = name or (model if isinstance(entry, str) else _unused(model.rsplit("/", 1)[-1], members))
        if any(member.name == label for member in members):
            raise ConfigError(f"two members are called {label!r}; give one of them another name in moa.toml")
        try:
            opened = config.model(model)
        except (KeyMissing, UnknownName) as error:
            left_out[label] = str(error)
            continue
        entry = (
            entry
            if isinstance(entry, str)
            else {"model": model, "name": label, **{k: v for k, v in entry.items() if k not in ("model", "name")}}
        )
        members.append(Member(label, Agent(opened, "" if isinstance(entry, str) else label, persona, fields), entry))
    if not members:
        reasons = "; ".join(left_out.values())
        raise ConfigError(
            f"no member can be asked: {reasons}" if reasons else "name members with --models A,B or -m MIXTURE"
        )
    return members, left_out


def _unused(name: str, members: Sequence[Member]) -> str:
    taken, number, label = {member.name for member in members}, 2, name
    while label in taken:
        label, number = f"{name}-{number}", number + 1
    return label


__all__ = ["Member", "MoaError", "members_of"]
