"""Calls each model of a mixture and reports whether it responds, or what failed and how to fix it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import tomli_w

from moa.cli.terminal import notify, one_line, seconds, write
from moa.closing import cancelled
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
from moa.models.learning import Learning
from moa.models.probe import ways_to_continue
from moa.models.providers import PROVIDERS
from moa.models.vendors.endpoint import VendorEndpoint

TIMEOUT = 60.0
"""Seconds that a remote model has to respond. An embedded model, which may have to be loaded first, has no timeout."""

GREETING = Request.of(
    {
        "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Say OK."}],
        "max_tokens": 16,
        "temperature": 0.7,
        "seed": 1,
    }
)
"""A short question with what the agents of mixtures usually send. A refusal of any of it teaches what the model takes."""

RETRY = "retry later, or use another model"

STARTING = {
    "ollama": "ollama serve",
    "vllm": "vllm serve MODEL",
    "lmstudio": "lms server start",
    "llamacpp": "llama-server -m MODEL.gguf",
}
"""The command that starts each kind of model server."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of calling one model.

    Attributes:
        first_token: seconds to its first token; None if it failed.
        problem: what failed, in one line; empty if it responded.
        advice: how to fix it, or how the model continues a text.
        note: a further remark.
        learned: what its refusals have taught, as in ``[models."NAME"]`` of moa.toml.
    """

    model: str
    first_token: float | None = None
    problem: str = ""
    advice: str = ""
    note: str = ""
    learned: Mapping[str, Any] = field(default_factory=dict)


async def check(name: str | None, path: str | None, continuation: bool = False) -> int:
    """Print for each model whether it responds; failures come last, grouped by advice. Exit code 0 if none fails.

    Args:
        name: the mixture, or a single model; None for the default.
        path: the path of a moa.toml; None to look in the usual places.
        continuation: whether to test also how each model continues a text.
    """
    async with Config(path, on_notice=notify) as config:
        name = name or config.default
        models = list(dict.fromkeys(config.single_models(name)))
        width, failed = max(map(len, models)), list[Finding]()
        learned: dict[str, Mapping[str, Any]] = {}
        async for finding in _findings(config, models, continuation):
            learned |= {finding.model: finding.learned} if finding.learned else {}
            if finding.problem:
                failed.append(finding)
            else:
                _print([finding], width)
    by_advice: dict[str, list[Finding]] = {}
    for finding in failed:
        by_advice.setdefault(finding.advice, []).append(finding)
    for group in by_advice.values():
        _print(group, width)
    if learned:
        write("\n# learned from refusals, for your moa.toml")
        write(tomli_w.dumps({"models": learned}).rstrip())
    if failed:
        notify(f"{len(failed)} of {len(models)} model{'s' if len(models) != 1 else ''} of {name} failed")
    return int(bool(failed))


async def _findings(config: Config, models: list[str], continuation: bool) -> AsyncIterator[Finding]:
    """The finding of each model, in the order in which they respond."""
    tasks = [asyncio.create_task(examined(config, model, continuation)) for model in models]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        await cancelled(*tasks)


async def examined(config: Config, name: str, continuation: bool = False) -> Finding:
    """Call one model once, without retries and without the cache."""
    provider = name.partition("/")[0]
    try:
        model = _single(config, name)
        endpoint = None if config.catalog.is_made(provider) else config.catalog.endpoint(provider)
        if isinstance(endpoint, VendorEndpoint):
            await endpoint.provider(await endpoint.credential.key(name))  # the SDK's import is not the vendor's time
        async with asyncio.timeout(None if name.startswith("local/") else TIMEOUT):
            first_token = await _first_token(model)
    except TimeoutError:
        return Finding(name, problem=f"no response within {TIMEOUT:g} s", advice=RETRY)
    except MoaError as error:
        problem = f"{error.variable} is not set" if isinstance(error, KeyMissing) else str(error)
        problem = error.reason if isinstance(error, ModelError) else problem
        return Finding(name, problem=problem, advice=await _advice(config, name, error))
    price = await asyncio.to_thread(config.prices.per_million, name)
    learned = model.learned.facts() if isinstance(model, Learning) else {}
    unknown = f'unknown price, so costs are unknown too; set it in moa.toml: [prices."{name}"]'
    priced = price is not None or provider == "local"
    return Finding(
        name,
        first_token,
        advice=await _continuations(model) if continuation else "",
        note="" if priced else unknown,
        learned=learned,
    )


async def _continuations(model: Model) -> str:
    """The ways of continuing a text that work, and the one that is configured."""
    works = await ways_to_continue(model)
    configured = traits_of(model).continuation or "none"
    found = f"continues a text by: {', '.join(works)}" if works else "cannot continue a text"
    return f"{found} (a staircase uses {configured}; set continuation in moa.toml to change it)"


def _single(config: Config, name: str) -> Model:
    provider, _, rest = name.partition("/")
    if config.catalog.is_made(provider):
        return config.catalog.model(name)
    return config.catalog.endpoint(provider).model(rest)


async def _first_token(model: Model) -> float:
    """Seconds to the first token."""
    now = asyncio.get_running_loop().time
    began, first = now(), None
    async with aclosing(model.stream(GREETING)) as deltas:
        async for delta in deltas:
            if delta.speaks and first is None:
                first = now()
    return (first or now()) - began


async def _advice(config: Config, name: str, error: MoaError) -> str:
    """How to fix an error of a model; empty if nothing is known."""
    provider, _, rest = name.partition("/")
    known = PROVIDERS.get(provider)
    match error:
        case KeyMissing():
            where = (
                f"create an API key at {known.page}, then: " if known and known.key_variable == error.variable else ""
            )
            return f"{where}export {error.variable}=…"
        case KeyRejected() if variable := config.catalog.key_variable(provider):
            new = f"; create a new one at {known.page}" if known and known.key_variable == variable else ""
            return f"check the API key in {variable}{new}"
        case KeyRejected():
            return f"it needs an API key: set api_key_env of [endpoints.{provider}] in moa.toml"
        case CallRejected() if error.status == 404:
            return await _nearest(config, provider, rest)
        case Unreachable() | UpstreamFailed() if known and known.local:
            return f"start it with: {STARTING[provider]} ({known.page})"
        case Unreachable():
            return f"check the base_url of {provider}, and that its server is running"
        case RateLimited():
            wait = f"retry in {seconds(error.retry_after)}" if error.retry_after else "retry later"
            return f"{wait}, or lower requests_per_minute"
        case TimedOut() | UpstreamFailed():
            return RETRY
        case _:
            return ""


async def _nearest(config: Config, provider: str, model: str) -> str:
    """Models of the server whose names are similar to the one that it does not know."""
    try:
        async with asyncio.timeout(10):
            offered = await config.catalog.endpoint(provider).models()
    except (MoaError, TimeoutError):
        return f"`moa models {provider}` lists its models"
    by_lower = {each.lower(): each for each in offered}
    near = [by_lower[each] for each in get_close_matches(model.lower(), by_lower, n=3, cutoff=0.4)]
    if not near:
        return f"`moa models {provider}` lists its {len(offered)} models"
    return f"it offers {', '.join(f'{provider}/{each}' for each in near)}"


def _print(findings: Sequence[Finding], width: int) -> None:
    """A line for each model, then their common advice."""
    details = [*filter(None, [findings[0].advice, *(finding.note for finding in findings)])]
    if not sys.stdout.isatty():
        for finding in findings:
            write(f"{'✗' if finding.problem else '✓'} {one_line(finding.model):<{width}}   {_result(finding)}")
        for line in details:
            write(f"    {one_line(line)}")
        return
    from rich.padding import Padding
    from rich.text import Text

    from moa.cli.terminal import screen

    console = screen()
    for finding in findings:
        mark, name, result = _mark(finding), one_line(finding.model), _result(finding)
        if len(result) + width + 5 <= console.width:
            console.print(Text.assemble(mark, f" {name:<{width}}   {result}"))
        else:
            console.print(Text.assemble(mark, f" {name}"))
            console.print(Padding(Text(result, "yellow"), (0, 0, 0, 4)))
    for line in details:
        console.print(Padding(Text(one_line(line), "yellow" if findings[0].problem else "dim"), (0, 0, 0, 4)))


def _result(finding: Finding) -> str:
    return one_line(finding.problem) or f"first token after {seconds(finding.first_token or 0)}"


def _mark(finding: Finding) -> tuple[str, str]:
    """A sign and its colour."""
    return ("✗", "red") if finding.problem else ("✓", "green")
