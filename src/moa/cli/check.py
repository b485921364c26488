"""``moa check``: every model of a mixture called once, all at the same time; what is wrong, and how to mend it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from difflib import get_close_matches

from moa.cli.terminal import one_line, say, seconds, tell
from moa.config.config import Config
from moa.errors import (
    CallRejected,
    KeyMissing,
    KeyRejected,
    MoaError,
    ModelError,
    RateLimited,
    TimedOut,
    Unreachable,
    UpstreamFailed,
)
from moa.messages import Request
from moa.models import Model, traits_of
from moa.models.probe import ways_to_continue
from moa.models.providers import PROVIDERS

PATIENCE = 60.0
"""Seconds a model elsewhere has to answer; one on this machine may have to be loaded first, and has as long as it takes."""

GREETING = Request.of({"messages": [{"role": "user", "content": "Say OK."}], "max_tokens": 16})

STARTING = {
    "ollama": "ollama serve",
    "vllm": "vllm serve MODEL",
    "lmstudio": "lms server start",
    "llamacpp": "llama-server -m MODEL.gguf",
}
"""How a server on this machine is started."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of calling one model.

    Attributes:
        waited: seconds to its first token; None where it did not answer.
        wrong: what is wrong, in one line; empty where it answered.
        mend: what to do about it.
        note: something else to know.
    """

    model: str
    waited: float | None = None
    wrong: str = ""
    mend: str = ""
    note: str = ""


async def check(name: str | None, path: str | None, continuation: bool = False) -> int:
    """Say of each model whether it answers, and with ``continuation`` how it goes on with a text; 0 if all answer."""
    async with Config(path, on_notice=tell) as config:
        name = name or config.default
        models = list(dict.fromkeys(models_of(config, name)))
        width, answering = max(map(len, models)), 0
        async for finding in _as_they_come(config, models, continuation):
            answering += not finding.wrong
            _print(finding, width)
    silent = len(models) - answering
    if silent:
        tell(f"{silent} of {len(models)} models of {name} {'does' if silent == 1 else 'do'} not answer")
    return int(silent > 0)


def models_of(config: Config, name: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The names of all single models that a mixture asks, those of mixtures inside it too; a single model's own name."""
    if "/" in name and not name.startswith("moa/"):
        yield name
        return
    listed = config.described(name)
    if listed.name in seen:
        return
    for member in [member for layer in listed.layers for member in layer] + [*listed.aggregators]:
        yield from models_of(config, member.model, seen | {listed.name})


async def _as_they_come(config: Config, models: list[str], continuation: bool) -> AsyncIterator[Finding]:
    tasks = [asyncio.create_task(examined(config, model, continuation)) for model in models]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        for task in tasks:
            task.cancel()


async def examined(config: Config, name: str, continuation: bool = False) -> Finding:
    """Call one model once: no second attempt, and no answer remembered from before."""
    try:
        model = _single(config, name)
        async with asyncio.timeout(None if name.startswith("local/") else PATIENCE):
            waited = await _first_token(model)
    except TimeoutError:
        return Finding(name, wrong=f"no answer within {PATIENCE:g} s", mend="try again later, or use another model")
    except MoaError as error:
        wrong = f"{error.variable} is not set" if isinstance(error, KeyMissing) else str(error)
        wrong = error.reason if isinstance(error, ModelError) else wrong
        return Finding(name, wrong=wrong, mend=await _mended(config, name, error))
    price = await asyncio.to_thread(config.prices.per_million, name)
    provider = name.partition("/")[0]
    unknown = f'its price is unknown, so its cost is too; say it in moa.toml: [prices."{name}"]'
    priced = price is not None or provider == "local"
    return Finding(name, waited, mend=await _going_on(model) if continuation else "", note="" if priced else unknown)


async def _going_on(model: Model) -> str:
    """Which ways of going on with a text work, beside the one in force."""
    works = await ways_to_continue(model)
    force = traits_of(model).continuation or "none"
    found = f"goes on with a text by: {', '.join(works)}" if works else "cannot go on with a text"
    return f"{found} (a staircase uses {force}; continuation in moa.toml changes that)"


def _single(config: Config, name: str) -> Model:
    provider, _, rest = name.partition("/")
    if provider in ("local", "moa"):
        return config.catalog.model(name)
    return config.catalog.endpoint(provider).model(rest)


async def _first_token(model: Model) -> float:
    """Seconds until it says something."""
    now = asyncio.get_running_loop().time
    began, first = now(), None
    async with aclosing(model.stream(GREETING)) as deltas:
        async for delta in deltas:
            if delta.speaks and first is None:
                first = now()
    return (first or now()) - began


async def _mended(config: Config, name: str, error: MoaError) -> str:
    """How to mend what is wrong with a model."""
    provider, _, rest = name.partition("/")
    known = PROVIDERS.get(provider)
    match error:
        case KeyMissing():
            where = f"make a key at {known.page}, then: " if known and known.key_variable == error.variable else ""
            return f"{where}export {error.variable}=…"
        case KeyRejected() if variable := config.catalog.key_variable(provider):
            made = f"; a new one is made at {known.page}" if known and known.key_variable == variable else ""
            return f"look at the key in {variable}{made}"
        case KeyRejected():
            return f"it wants a key: name the variable that holds it in moa.toml: [endpoints.{provider}] api_key_env"
        case CallRejected() if error.status == 404:
            return await _nearest(config, provider, rest)
        case Unreachable() | UpstreamFailed() if known and known.local:
            return f"start it with: {STARTING[provider]} ({known.page})"
        case Unreachable():
            return f"look at the base_url of {provider}, and whether its server runs"
        case RateLimited():
            return (
                f"wait {seconds(error.retry_after)}"
                if error.retry_after
                else "wait a while, or set requests_per_minute"
            )
        case TimedOut() | UpstreamFailed():
            return "try again later, or use another model"
        case _:
            return ""


async def _nearest(config: Config, provider: str, model: str) -> str:
    """Models that a server does offer, with names like the one it does not know."""
    try:
        async with asyncio.timeout(10):
            offered = await config.catalog.endpoint(provider).models()
    except (MoaError, TimeoutError):
        return f"moa models {provider} lists what it offers"
    by_lower = {each.lower(): each for each in offered}
    near = [by_lower[each] for each in get_close_matches(model.lower(), by_lower, n=3, cutoff=0.4)]
    if not near:
        return f"moa models {provider} lists the {len(offered)} models it offers"
    return f"it offers {', '.join(f'{provider}/{each}' for each in near)}"


def _print(finding: Finding, width: int) -> None:
    """A line for a model that answers; below the name of one that does not, what is wrong and how to mend it."""
    name = one_line(finding.model)
    told = finding.wrong or f"first token after {seconds(finding.waited or 0)}"
    details = [one_line(line) for line in (finding.mend, finding.note) if line]
    if not sys.stdout.isatty():
        say(f"{'✗' if finding.wrong else '✓'} {name:<{width}}   {one_line(told)}")
        for line in details:
            say(f"    {line}")
        return
    from rich.padding import Padding
    from rich.text import Text

    from moa.cli.terminal import screen

    console = screen()
    head = Text("✗" if finding.wrong else "✓", "red" if finding.wrong else "green")
    if len(told) + width + 5 <= console.width:
        console.print(Text.assemble(head, f" {name:<{width}}   {one_line(told)}"))
    else:
        console.print(Text.assemble(head, f" {name}"))
        details.insert(0, one_line(told))
    for line in details:
        console.print(Padding(Text(line, "yellow" if finding.wrong else "dim"), (0, 0, 0, 4)))
