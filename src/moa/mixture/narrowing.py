"""The plan of a part of a mixture: some of its members, another of its agents as the aggregator, fewer layers.

Everything that depends on a plan follows the part: prices, limits, forecasts, the memory of turns and the keys of caches.

Notable decisions:
- ``only`` and ``without`` choose among the proposers of all layers. A layer that keeps none is left out.
- The aggregator is any agent of the mixture: its aggregator, a fallback, or a proposer. The mixture's own
  remain as fallbacks.
- A limit that was set for more members (``min_proposals``, a quorum, ``first``) gives way where fewer are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from moa.errors import ConfigError
from moa.mixture.agent import Agent, seated
from moa.mixture.effort import Level
from moa.mixture.panel import Panel, PanelError
from moa.mixture.plan import Plan
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.checked import CheckedSchedule
from moa.mixture.schedules.early_exit import EarlyExit
from moa.mixture.schedules.protocol import Schedule
from moa.mixture.when import FIRST

Layers = Sequence[Mapping[str, Agent]]


def part_of(plan: Plan, panel: Panel, level: Level | None) -> Plan:
    """The plan of a mixture whose request has this panel, and whose effort is this level; None: no level.

    Raises:
        PanelError, ConfigError: as in :func:`narrowed`.
    """
    reached = at_level(plan, level)
    return reached if level and level.model else narrowed(reached, panel)


def narrowed(plan: Plan, panel: Panel) -> Plan:
    """The plan of a part of a mixture.

    Raises:
        PanelError: a name is no member's, or nothing is left.
        ConfigError: ``when`` does not fit what is left.
    """
    if panel == Panel():
        return plan
    layers = _layers(plan, panel)
    when, first = panel.when or plan.when, plan.first
    too_small = not layers or (when == "disagree" and len(layers[0]) <= (first or FIRST))
    if panel.when is None and too_small:
        when = "always"
    return replace(
        plan,
        layers=tuple(layers),
        aggregators=_aggregators(plan, panel, layers),
        has_aggregator=plan.has_aggregator or panel.aggregator is not None,
        min_proposals=min([plan.min_proposals, *map(len, layers)]),
        schedule=_fitting(plan.schedule, layers),
        when=when,
        first=first if when == "disagree" else None,
    )


def at_level(plan: Plan, level: Level | None) -> Plan:
    """The plan of a mixture that answers at a level of effort; None: as it is.

    Raises:
        PanelError, ConfigError: as in :func:`narrowed`.
    """
    if level is None:
        return replace(plan, effort={})
    bare = replace(plan, effort={}, member_effort=level.reasoning_effort)
    if level.model is None:
        return narrowed(bare, level.panel)
    return replace(
        bare,
        layers=(),
        aggregators=seated([level.model]),
        has_aggregator=True,
        aggregate="synthesize",
        schedule=Barrier(),
        min_proposals=1,
        reads=None,
        keep=None,
        when="always",
        first=None,
    )


def check_effort(plan: Plan) -> None:
    """Check that every level of a mixture's table can answer.

    Raises:
        ConfigError: one cannot; the message names it.
    """
    for name, level in plan.effort.items():
        try:
            at_level(plan, level)
        except ConfigError as error:
            raise ConfigError(f"{plan.name}: effort.{name}: {error}") from None


def _layers(plan: Plan, panel: Panel) -> list[Mapping[str, Agent]]:
    layers = [*plan.layers]
    if panel.rounds is not None and layers:
        while len(layers) > 1 and layers[-1] is layers[-2]:  # the plan's own rounds
            layers.pop()
        layers += layers[-1:] * (panel.rounds - 1)
    if panel.layers is not None:
        if not 0 <= panel.layers <= len(layers):
            raise PanelError("layers", f"layers is {panel.layers}; {plan.name} has {len(layers)} of proposers")
        layers = layers[: panel.layers]
    for field in ("only", "without"):
        for wanted in getattr(panel, field):
            if not any(_is(wanted, name, agent) for layer in plan.layers for name, agent in layer.items()):
                raise _unknown(field, wanted, plan, plan.layers)
    chosen = ({name: agent for name, agent in layer.items() if _keeps(panel, name, agent)} for layer in layers)
    kept: list[Mapping[str, Agent]] = [layer for layer in chosen if layer]
    if layers and not kept:
        field = "only" if panel.only else "without"
        raise PanelError(field, f"only and without leave no proposer of {plan.name} (layers: 0 calls none)")
    if panel.samples > 1:
        kept = [_sampled(layer, panel.samples) for layer in kept]
    return kept


def _keeps(panel: Panel, name: str, agent: Agent) -> bool:
    wanted = not panel.only or any(_is(each, name, agent) for each in panel.only)
    return wanted and not any(_is(each, name, agent) for each in panel.without)


def _aggregators(plan: Plan, panel: Panel, layers: Layers) -> Mapping[str, Agent]:
    own = plan.aggregators
    if panel.aggregator is None:
        return dict([*layers[0].items()][:1]) if layers and not plan.has_aggregator else own
    agents = [(name, agent) for layer in (own, *plan.layers) for name, agent in layer.items()]
    found = [each for each in agents if each[0] == panel.aggregator]
    found += [each for each in agents if each[1].model.name == panel.aggregator]
    if not found:
        raise _unknown("aggregator", panel.aggregator, plan, [own, *plan.layers])
    chosen = found[0]
    others = [each for each in own.items() if each[1] is not chosen[1]]
    return seated([replace(agent, name=name, sample=None) for name, agent in (chosen, *others)])


def _is(wanted: str, name: str, agent: Agent) -> bool:
    return wanted in (name, agent.model.name)


def _sampled(layer: Mapping[str, Agent], samples: int) -> Mapping[str, Agent]:
    """A layer with each of its agents so many times."""
    return seated([replace(agent, name=name, sample=None) for name, agent in layer.items() for _ in range(samples)])


def _fitting(schedule: Schedule, layers: Layers) -> Schedule:
    """The schedule; a barrier where it cannot work with these layers."""
    try:
        CheckedSchedule(schedule).check([[*layer] for layer in layers])
    except ValueError:
        exits = isinstance(schedule, EarlyExit) and schedule
        return EarlyExit(Barrier(), threshold=exits.threshold, answer=exits.answer) if exits else Barrier()
    return schedule


def _unknown(field: str, wanted: str, plan: Plan, layers: Layers) -> PanelError:
    names = [known for layer in layers for name, agent in layer.items() for known in (name, agent.model.name)]
    near = get_close_matches(wanted, names, n=1, cutoff=0.3)
    known = ", ".join(dict.fromkeys(names)) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"it has {known}"
    kind = "agent" if field == "aggregator" else "proposer"
    return PanelError(field, f"no {kind} of {plan.name} is called {wanted!r}; {hint}")
