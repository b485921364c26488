"""``moa mixtures``, ``moa show`` and ``moa models``: what there is to ask. Tables on a terminal, plain lines in a pipe."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moa.cli.terminal import one_line, say, screen, tell
from moa.config.config import Config
from moa.config.listing import Listed, ListedAgent
from moa.errors import KeyMissing, MoaError, UnknownName
from moa.models.providers import PROVIDERS
from moa.models.weights import at_hand

PATIENCE = 6.0
"""Seconds a server has to say which models it offers."""

UNBOUND = 10_000
"""The width of a pipe."""

FEW = 8
"""Models shown of each server where all servers are listed."""


# -- moa mixtures -----------------------------------------------------------------------------------------------------


def shape(listed: Listed) -> str:
    """The layers of a mixture at a glance: ``6 → 6 → 1``, or how it chooses where it writes nothing of its own."""
    way = str(listed.settings.get("aggregate", "synthesize"))
    return " → ".join([*(str(len(layer)) for layer in listed.layers), "1" if way == "synthesize" else way])


def mixtures(path: str | None) -> int:
    """A mixture a line; the default is marked."""
    config = Config(path)
    default = config.default.removeprefix("moa/")
    rows = [(one.name, shape(one), one_line(_about(config, one)), one.source) for one in config.listed()]
    if not sys.stdout.isatty():
        for row in rows:
            say("\t".join([*row, "default" if row[0] == default else ""]))
        return 0
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = screen()
    wide = console.width >= 72
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for heading in ("  mixture", "layers", "description", "from"):
        table.add_column(heading, no_wrap=heading != "description", overflow="ellipsis")
    for name, layers, description, source in rows:
        mark = Text("● ", "green") if name == default else Text("  ")
        told = Text(description)
        if name == default:
            told.append(" (the default)" if told else "the default", "green")
        mark.append(name, "bold")
        if wide:
            table.add_row(mark, layers, told, Text(_short(source), "dim"))
        else:
            console.print(mark.append(f"  {layers}", "not bold"))
            console.print(Padding(told, (0, 0, 0, 2), style="dim"))
    if wide:
        console.print(table)
    return 0


def _about(config: Config, listed: Listed) -> str:
    """Its description; of ``auto``, what that stands for here and now."""
    if listed.name != "auto" or listed.source != "preset":
        return listed.description
    choice = config.auto_choice()
    return choice.why if choice.mixture == "auto" else f"{choice.mixture}, here and now: {choice.why}"


def _short(source: str) -> str:
    """A path as it is read from here."""
    if source == "preset":
        return source
    path = Path(source).absolute()
    for start, instead in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(start):
            return f"{instead}{path.relative_to(start)}"
    return source


# -- moa show ---------------------------------------------------------------------------------------------------------


def show(name: str, path: str | None) -> int:
    """One mixture, drawn from the question down to the answer."""
    listed = Config(path).described(name)
    if not sys.stdout.isatty():
        for _, line in drawing(listed, UNBOUND):
            say(line)
        return 0
    from rich.text import Text

    console = screen()
    styles = {"title": "bold", "layer": "cyan", "aside": "dim", "agent": ""}
    for kind, line in drawing(listed, console.width):
        indent = len(line) - len(line.lstrip(" │├└─▼"))
        head, gap, rest = line[indent:].partition("   ")
        text = Text(line[:indent], "dim", overflow="fold")
        console.print(text.append(head, f"not dim {styles[kind]}").append(gap + rest, "dim"), soft_wrap=True)
    return 0


def drawing(listed: Listed, width: int) -> Iterator[tuple[str, str]]:
    """The lines of the drawing, each with its kind: ``title``, ``layer``, ``agent`` or ``aside``."""
    yield "title", f"moa/{listed.name}   {one_line(listed.description)}".rstrip()
    yield "aside", "a preset" if listed.source == "preset" else listed.source
    yield "aside", ""
    yield "title", "question"
    for number, layer in enumerate(listed.layers, 1):
        yield "aside", " │"
        reads = f", each reads the {len(listed.layers[number - 2])} above" if number > 1 else ""
        yield "layer", f" ├─ layer {number}: {_many(len(layer), 'proposer')}{reads}"
        yield from _members(layer, width)
    yield "aside", " │"
    way = listed.settings["aggregate"]
    if way == "central":
        yield "layer", " ├─ no aggregator: the proposal most like the others"
    elif listed.aggregators:
        doing = "picks a proposal" if way == "select" else "writes the answer" if listed.layers else "answers alone"
        yield "layer", f" ├─ aggregator: {doing}"
        yield from _members(listed.aggregators[:1], width)
        if listed.aggregators[1:]:
            yield "layer", " ├─ if it fails"
            yield from _members(listed.aggregators[1:], width)
    yield "aside", " ▼"
    yield "title", "answer"
    yield "aside", ""
    for field, what in _settings(listed):
        yield "agent", f"{field:<14}   {what}"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' if count != 1 else ''}"


def _members(members: Sequence[ListedAgent], width: int) -> Iterator[tuple[str, str]]:
    """An agent a line, what else it says beside or below it. Samples that differ in nothing share a line, and what all
    agents say alike stands once above them."""
    counts = Counter(map(_written, members))
    unlike = {_written(member): member for member in members}
    alike = dict(members[0].sampling) if all(member.sampling == members[0].sampling for member in members) else {}
    if alike and len(members) > 1:
        yield "aside", f" │   each with {_sampling(alike)}"
    else:
        alike = {}
    heads = []
    for written, member in unlike.items():
        named = f"{member.name}: {member.model}" if member.name else member.model
        heads.append(one_line(named) + (f" × {counts[written]}" if counts[written] > 1 else ""))
    longest = max(map(len, heads))
    for head, member in zip(heads, unlike.values(), strict=True):
        sampling = _sampling({key: value for key, value in member.sampling.items() if key not in alike})
        beside = f" │   {head:<{longest}}   {sampling}".rstrip()
        if len(beside) <= width:
            yield "agent", beside
        else:
            yield "agent", f" │   {head}"
            yield "aside", f" │     {sampling}"
        if member.persona:
            persona = one_line(member.persona)
            room = min(max(width - 9, 20), 100)
            yield "aside", f" │     “{persona if len(persona) <= room else persona[: room - 1] + '…'}”"


def _sampling(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in fields.items())


def _written(member: ListedAgent) -> str:
    """Everything that a member says: equal for samples of the same."""
    return json.dumps([member.model, member.name, member.persona, dict(member.sampling)], default=str)


def _value(value: Any) -> str:
    return one_line(value if isinstance(value, str) else json.dumps(value, default=str))


def _settings(listed: Listed) -> Iterator[tuple[str, str]]:
    settings = listed.settings
    ways = {
        "synthesize": "synthesize (the aggregator writes from the proposals)",
        "select": "select (the aggregator picks a proposal, word for word)",
        "central": "central (the proposal most like the others, without a call)",
    }
    places = {"user": "after the last user message", "system": "in the system message, as in the paper"}
    if listed.layers:
        yield "aggregate", ways[settings["aggregate"]]
        yield "references", places[settings["references"]] + ("" if settings.get("anonymous", True) else ", with names")
        yield "min_proposals", f"{settings['min_proposals']} in each layer"
    if settings.get("prompt") or settings.get("prompt_file"):
        prompt = settings.get("prompt_file") or settings["prompt"]
        yield "prompt", one_line(prompt) if len(prompt) <= 60 else f"{one_line(prompt)[:59]}…"
    deadline, most = settings.get("deadline"), settings.get("max_cost")
    yield "deadline", "none" if deadline is None else f"{deadline:g} s, then the aggregator starts with what is there"
    yield "max_cost", "none" if most is None else f"${most:g} a run"


# -- moa models -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server offers, or why nothing is known of it."""

    provider: str
    models: tuple[str, ...] = ()
    missing: str = ""
    local: bool = False
    error: MoaError | None = None


async def offer_of(config: Config, provider: str) -> Offer:
    """Ask a server for its models, not for long."""
    known = PROVIDERS.get(provider)
    local = bool(known and known.local)
    try:
        endpoint = config.catalog.endpoint(provider)
        async with asyncio.timeout(PATIENCE):
            return Offer(provider, tuple(await endpoint.models()), local=local)
    except TimeoutError:
        return Offer(provider, missing=f"no answer within {PATIENCE:g} s", local=local)
    except KeyMissing as error:
        return Offer(provider, missing=f"set {error.variable}", error=error)
    except MoaError as error:
        where = f" at {known.url()}" if known else ""
        return Offer(provider, missing=f"not running{where}" if local else str(error), local=local, error=error)


async def models(provider: str | None, path: str | None) -> int:
    """The models of one provider, or of all that can be asked."""
    async with Config(path) as config:
        if provider is not None and provider not in config.catalog.providers:
            raise UnknownName("provider", provider, config.catalog.providers, "(moa models lists them)")
        names = [name for name in dict.fromkeys([*config.endpoints, *PROVIDERS]) if provider in (None, name)]
        offers = list(await asyncio.gather(*(offer_of(config, name) for name in names)))
    if provider in (None, "local"):
        weights = at_hand()
        sizes = {each.name: f"{each.name} ({each.bytes / 1e9:.1f} GB)" for each in weights}
        if not sys.stdout.isatty():
            sizes = {name: name for name in sizes}
        nothing = "no weights at hand; set MOA_MODELS to a folder of .gguf files"
        offers.insert(0, Offer("local", tuple(sizes.values()), missing="" if weights else nothing, local=True))
    _print_offers(offers, every=provider is not None)
    if provider is not None and offers[0].error is not None:
        raise offers[0].error
    return int(provider is not None and bool(offers[0].missing))


def _print_offers(offers: Sequence[Offer], *, every: bool) -> None:
    if not sys.stdout.isatty():
        for offer in offers:
            for model in offer.models:
                say(f"{offer.provider}/{one_line(model)}")
            if offer.missing and not every:
                tell(f"{offer.provider}: {offer.missing}")
        return
    from rich.columns import Columns
    from rich.padding import Padding
    from rich.text import Text

    console = screen()
    for offer in offers:
        if not offer.models:
            continue
        few = offer.models if every else offer.models[:FEW]
        count = "" if len(offer.models) == 1 else f"  {len(offer.models)} models"
        console.print(Text(offer.provider, "bold").append(count, "not bold dim"))
        cells = [Text(f"{offer.provider}/{one_line(model)}") for model in few]
        if len(few) < len(offer.models):
            cells.append(Text(f"… +{len(offer.models) - len(few)}: moa models {offer.provider}", "dim"))
        console.print(Padding(Columns(cells, padding=(0, 3), column_first=True), (0, 0, 1, 2)))
    silent = [offer for offer in offers if not offer.models]
    if silent and not every:
        console.print(Text("not at hand", "bold"))
        width = max(len(offer.provider) for offer in silent)
        for offer in silent:
            console.print(
                Text(f"  {offer.provider:<{width}}   ").append(one_line(offer.missing or "offers no models"), "dim")
            )
