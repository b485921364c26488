"""A mixture as lines of text: the question, each layer with its agents, the aggregator, the answer, then the settings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moa.cli.terminal import one_line
from moa.config.listing import Listed, ListedAgent
from moa.mixture.when import FIRST
from moa.models.fitting import EFFORTS

PERSONA_SHOWN, PROMPT_SHOWN = 100, 60
"""The most characters of a persona and of a prompt."""

AGGREGATE = {
    "synthesize": "the aggregator writes the answer from the proposals",
    "select": "the aggregator picks a proposal, word for word",
    "central": "the proposal most similar to the others, without a call",
    "vote": "a proposal with the most frequent answer, without a call",
    "mux": "a proposal of the model that agrees most with itself, without a call",
}
REFERENCES = {"user": "after the last user message", "system": "in the system message, as in the paper"}
FANOUT = {
    "turn": "proposers answer each user message once; tool calls reuse their proposals",
    "every": "proposers are called at every step, also after each tool call",
}
UNITS = {"grace": "s", "deadline": "s", "hedge": "s", "chunks": "tokens", "writes": "tokens"}
"""Units of a schedule's fields."""


def drawing(listed: Listed, width: int, places: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """The lines, each with its kind: ``title``, ``layer``, ``agent`` or ``aside``.

    Args:
        places: where the text goes.
        width: columns; an agent's sampling moves to a line of its own if it does not fit.
    """
    yield "title", f"moa/{listed.name}   {one_line(listed.description)}".rstrip()
    yield "aside", "preset" if listed.source == "preset" else listed.source
    yield "aside", ""
    yield "title", "question"
    for number, layer in enumerate(listed.layers, 1):
        yield "aside", " │"
        reads = f", each reads {_read(listed, number)}" if number > 1 else ""
        yield "layer", f" ├─ layer {number}: {len(layer)} proposer{'s' if len(layer) != 1 else ''}{reads}"
        yield from _agents(layer, width)
    if (rounds := listed.settings["rounds"]) > 1:
        first, last = len(listed.layers) + 1, len(listed.layers) + rounds - 1
        span = f"layer {last}" if first == last else f"layers {first} to {last}"
        yield "aside", " │"
        yield "layer", f" ├─ {span}: the same again, each reads {_read(listed, first)}"
    yield "aside", " │"
    aggregate = listed.settings["aggregate"]
    if aggregate == "central":
        yield "layer", " ├─ no aggregator: the proposal most similar to the others"
    elif aggregate in ("vote", "mux"):
        yield "layer", f" ├─ {AGGREGATE[aggregate]}"
        if listed.aggregators:
            yield "layer", " ├─ aggregator: writes the answer where the proposals' answers cannot be compared"
            yield from _agents(listed.aggregators[:1], width)
    elif listed.aggregators:
        writes = "writes the answer" if listed.layers else "answers alone"
        yield "layer", f" ├─ aggregator: {'picks a proposal' if aggregate == 'select' else writes}"
        yield from _agents(listed.aggregators[:1], width)
        if listed.aggregators[1:]:
            yield "layer", " ├─ if it fails"
            yield from _agents(listed.aggregators[1:], width)
    yield "aside", " ▼"
    yield "title", "answer"
    yield "aside", ""
    for name, value in _settings(listed):
        yield "agent", f"{name:<14}   {value}"
    if places:
        only = " (local_only)" if listed.settings["local_only"] else ""
        yield "agent", f"{'text goes to':<14}   {', '.join(places)}{only}"


def _read(listed: Listed, number: int) -> str:
    """What an agent of this layer reads of the layers above."""
    above, reads = len(listed.layers[min(number - 1, len(listed.layers)) - 1]), listed.settings.get("reads")
    if reads == "all-layers" and number > 2:
        return "all layers above"
    return f"{reads} of the {above} above" if isinstance(reads, int) and reads < above else f"the {above} above"


def _agents(agents: Sequence[ListedAgent], width: int) -> Iterator[tuple[str, str]]:
    """One line per agent with its sampling. Identical samples share a line; sampling common to all agents comes first."""
    counts = Counter(map(_identity, agents))
    different = {_identity(agent): agent for agent in agents}
    common = dict(agents[0].sampling) if all(agent.sampling == agents[0].sampling for agent in agents) else {}
    if common and len(agents) > 1:
        yield "aside", f" │   each with {_sampling(common)}"
    else:
        common = {}
    heads = []
    for identity, agent in different.items():
        named = f"{agent.name}: {agent.model}" if agent.name else agent.model
        heads.append(one_line(named) + (f" × {counts[identity]}" if counts[identity] > 1 else ""))
    longest = max(map(len, heads))
    for head, agent in zip(heads, different.values(), strict=True):
        sampling = _sampling({key: value for key, value in agent.sampling.items() if key not in common})
        line = f" │   {head:<{longest}}   {sampling}".rstrip()
        if len(line) <= width:
            yield "agent", line
        else:
            yield "agent", f" │   {head}"
            yield "aside", f" │     {sampling}"
        if agent.persona:
            yield "aside", f" │     “{_cut(one_line(agent.persona), min(max(width - 9, 20), PERSONA_SHOWN))}”"


def _identity(agent: ListedAgent) -> str:
    """Equal for samples of the same model with the same settings."""
    return json.dumps([agent.model, agent.name, agent.persona, dict(agent.sampling)], default=str)


def _sampling(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in fields.items())


def _value(value: Any) -> str:
    return one_line(value if isinstance(value, str) else json.dumps(value, default=str))


def _settings(listed: Listed) -> Iterator[tuple[str, str]]:
    """The settings that change what happens, each with its effect."""
    settings = listed.settings
    if listed.layers:
        aggregate, fanout = settings["aggregate"], settings["fanout"]
        yield "aggregate", f"{aggregate} ({AGGREGATE[aggregate]})" if aggregate in AGGREGATE else aggregate
        if settings["weights"]:
            yield "weights", ", ".join(f"{one_line(name)} {value:g}" for name, value in settings["weights"].items())
        names = "" if settings["anonymous"] else ", with the proposers' names"
        yield "when", _when(settings)
        if window := settings.get("window"):
            yield "window", f"{window}: the aggregator reads {window} proposals at a time, with its answer so far"
        if settings["analysis"]:
            yield "analysis", "yes: the aggregator first compares the proposals, in a call of its own"
        yield "references", REFERENCES[settings["references"]] + names
        yield "schedule", _schedule(settings.get("schedule"))
        yield "exact", "yes: always waits for complete proposals" if settings["exact"] else "no"
        yield "min_proposals", f"{settings['min_proposals']} per layer"
        if keep := settings.get("keep"):
            yield (
                "keep",
                f"{keep}: of each layer, the proposals that the aggregator chooses go on; it may end the run early",
            )
        yield "fanout", f"{fanout} ({FANOUT[fanout]})"
        yield "progress", "yes: servers stream the proposals as reasoning" if settings["progress"] else "no"
    if prompt := settings.get("prompt_file") or settings.get("prompt"):
        yield "prompt", _cut(one_line(prompt), PROMPT_SHOWN)
    for level, fields in sorted(settings["effort"].items(), key=lambda each: EFFORTS.index(each[0])):
        yield f"effort {level}", _level(fields)
    deadline, max_cost = settings.get("deadline"), settings.get("max_cost")
    yield "deadline", "none" if deadline is None else f"{deadline:g} s, then the aggregator starts with what is ready"
    yield "max_cost", "none" if max_cost is None else f"${max_cost:g} per run"


def _when(settings: Mapping[str, Any]) -> str:
    """When the proposers are called."""
    first = settings.get("first") or FIRST
    return {
        "always": "always",
        "disagree": f"disagree (the first {first} proposers, and the others only where those differ)",
        "tool": "tool (the aggregator answers at once, and may put a question to the proposers)",
    }[settings["when"]]


def _level(fields: Mapping[str, Any]) -> str:
    """What one level of effort calls."""
    model = fields.get("model")
    if model:
        return f"{model if isinstance(model, str) else model['model']} alone"
    rest = {name: ", ".join(value) if isinstance(value, list) else value for name, value in fields.items()}
    return "; ".join(f"{name} {_value(value)}" for name, value in rest.items()) or "the whole mixture"


def _schedule(fields: Mapping[str, Any] | None) -> str:
    """The kind of schedule and its fields, with their units."""
    if fields is None:
        return "barrier"
    parts = [f"{name} {_figure(value, UNITS.get(name))}" for name, value in _set(fields)]
    return f"{fields['kind']}: {', '.join(parts)}" if parts else str(fields["kind"])


def _set(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields that have an effect, the kind's own first: nothing empty, no ``exit_with`` without ``early_exit``."""
    for name, value in sorted(fields.items(), key=lambda field: field[0] in ("early_exit", "exit_with")):
        if name == "kind" or value in (None, [], False) or (name == "exit_with" and not fields.get("early_exit")):
            continue
        yield name, value


def _figure(value: Any, unit: str | None) -> str:
    shown = "yes" if value is True else f"{value:g}" if isinstance(value, int | float) else str(value)
    if isinstance(value, list):
        shown = "/".join(map(str, value))
    return f"{shown} {unit}" if unit else shown


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
