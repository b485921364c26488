"""An agent is a model in a role, with a name, a persona and sampling fields of its own."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moa.errors import ConfigError, ModelError
from moa.messages import Delta, Request
from moa.models import Model, Traits
from moa.models.catalog import Catalog
from moa.models.thinking import separated

FENCE_BREAKERS = "<>\n\r"
"""Characters that no agent's name may contain: they would break the fences around references."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A model in a role.

    Attributes:
        model: the model that is called; a mixture is a model, too.
        name: unique within its layer; an empty name becomes the last part of the model's name.
        persona: instructions of its own, at the end of the last user message.
        sampling: fields of a Chat Completions body (``temperature``, ``max_tokens``, ``seed``, a vendor's own, …).
        sample: counts the agents of one model within a layer from 1, so that each gets a seed of its own; None where the
            layer holds the model once.

    Raises:
        ConfigError: the name holds ``<``, ``>`` or a line break, which would break the fences around references.
    """

    model: Model
    name: str = ""
    persona: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    sample: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.persona, str | None):
            raise ConfigError(f"an agent's name and persona must be strings, not {self.name!r} and {self.persona!r}")
        if any(character in self.name for character in FENCE_BREAKERS):
            raise ConfigError(f"agent name {self.name!r} must not contain '<', '>' or a line break")

    @property
    def label(self) -> str:
        """The name, or the last part of the model's name."""
        return self.name or self.model.name.rsplit("/", 1)[-1]

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Call the model. Thinking inside its text comes as reasoning; see :mod:`moa.models.thinking`.

        Raises:
            ModelError: its ``stream`` returns something other than an async generator.
        """
        deltas = self.model.stream(request)
        if hasattr(deltas, "__aiter__") and hasattr(deltas, "aclose"):
            return separated(self.model, request, deltas)
        if inspect.iscoroutine(deltas):
            deltas.close()
        raise ModelError(
            self.model.name,
            f"its stream() returned {type(deltas).__name__}; it must be 'async def' and yield Delta(text=…)",
        )


Member = str | Model | Agent | Mapping[str, Any]
"""How a caller names an agent: ``provider/name``, a model, an agent, or a mapping with ``model`` and optional fields."""


def agent_of(member: Member, catalog: Catalog, where: str) -> Agent:
    """The agent that a member stands for. The catalog resolves ``provider/name``; ``where`` opens each error message.

    Raises:
        ConfigError: the member is malformed.
        UnknownName, KeyMissing: the member names an unknown provider, or the provider's API key is not set.
    """
    if isinstance(member, Agent):
        _check_model(member.model, where)
        return member
    if isinstance(member, str):
        return Agent(catalog.model(member))
    if isinstance(member, Mapping):
        fields = dict(member)
        if "model" not in fields:
            raise ConfigError(f"{where}: a member needs a model: {fields!r}")
        model = fields.pop("model")
        if not isinstance(model, str):
            _check_model(model, where)
        return Agent(
            catalog.model(model) if isinstance(model, str) else model,
            fields.pop("name", ""),
            fields.pop("persona", None),
            fields,
        )
    _check_model(member, where)
    return Agent(member)


def _check_model(member: object, where: str) -> None:
    """Catch common mistakes in a custom model where it is passed in, not later in a run."""
    if inspect.isclass(member):
        raise ConfigError(f"{where}: {member.__name__} is a class; pass an instance: {member.__name__}(…)")
    if inspect.isroutine(member):
        raise ConfigError(f"{where}: {member.__name__} is a function; moa.Function({member.__name__}) makes it a model")
    kind = type(member).__name__
    stream = getattr(member, "stream", None)
    if not callable(stream):
        raise ConfigError(f"{where}: {member!r} is no model, agent or name of one")
    if not hasattr(member, "name"):
        raise ConfigError(f"{where}: {kind} has no name; a model needs one, such as name = 'mine/{kind.lower()}'")
    if not isinstance(member.name, str) or not member.name:
        raise ConfigError(f"{where}: the name of {kind} is {member.name!r}; expected 'provider/name'")
    if not isinstance(getattr(member, "traits", Traits()), Traits):
        raise ConfigError(f"{where}: the traits of {kind} are no moa.models.Traits(…)")
    if inspect.iscoroutinefunction(stream):
        raise ConfigError(f"{where}: {kind}.stream returns its answer; it must yield it: yield Delta(text=…)")
    if inspect.isgeneratorfunction(stream):
        raise ConfigError(f"{where}: {kind}.stream must be asynchronous: async def stream(self, request)")


def seated(agents: Sequence[Agent]) -> dict[str, Agent]:
    """Agents of one layer by name. A repeated name gets a number, and so does each further sample of one model."""
    seats: dict[str, Agent] = {}
    uses = Counter(agent.model.name for agent in agents)
    samples: Counter[str] = Counter()
    for agent in agents:
        if any(character in agent.label for character in FENCE_BREAKERS):
            raise ConfigError(
                f"the model name {agent.model.name!r} contains '<', '>' or a line break; give its agent a name without them"
            )
        name, number = agent.label, 2
        while name in seats:
            name, number = f"{agent.label}-{number}", number + 1
        if uses[agent.model.name] > 1:
            samples[agent.model.name] += 1
            agent = replace(agent, sample=samples[agent.model.name])
        seats[name] = agent
    return seats
