"""The options that every command that measures takes: each is declared once, as a field of :class:`SharedOptions`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from moa.cli.options import ConfigFile, MixtureName

Json = Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedOptions:
    """The options of every command that measures. A field declares an option: its type, help and default."""

    mixture: MixtureName = None
    judge: Annotated[list[str] | None, typer.Option(metavar="MODEL", help="The judge. Repeatable in moa bench.")] = None
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Benchmark files; else $MOA_DATA or download.")] = (
        None
    )
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="New or resumed folder; default moa-bench/…")] = None
    limit: Annotated[int | None, typer.Option(metavar="ITEMS", help="Use only the first ITEMS.", min=1)] = None
    sample: Annotated[int | None, typer.Option(metavar="ITEMS", help="Use a stratified sample.", min=1)] = None
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of --sample.")] = 0
    max_cost: Annotated[float | None, typer.Option(metavar="DOLLARS", help="Cost limit of each run.", min=0)] = None
    concurrency: Annotated[int, typer.Option(metavar="ITEMS", help="Concurrent items.", min=1)] = 8
    judge_concurrency: Annotated[
        int | None, typer.Option(metavar="CALLS", help="Concurrent calls of the judge.", min=1)
    ] = None
    as_json: Json = False
    config: ConfigFile = None


def with_shared_options(
    command: Callable[..., int], own: Sequence[Parameter] | None = None, *, judged: bool = True
) -> Callable[..., int]:
    """A command with the shared options, which it receives as its first argument.

    Args:
        command: takes a :class:`SharedOptions`, and its own options by name.
        own: its own options; None for those in its signature.
        judged: whether it has ``--judge``.
    """
    if own is None:
        own = [*inspect.signature(command, eval_str=True).parameters.values()][1:]
    hints = get_type_hints(SharedOptions, include_extras=True)
    shared = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(SharedOptions)
        if judged or field.name not in ("judge", "judge_concurrency")
    ]

    def complete(**given: Any) -> int:
        options = SharedOptions(**{option.name: given.pop(option.name) for option in shared})
        return command(options, **given)

    complete.__doc__ = command.__doc__
    complete.__annotations__ = {}
    complete.__dict__["__signature__"] = Signature(
        [*(option.replace(kind=Parameter.KEYWORD_ONLY) for option in own), *shared]
    )
    return complete
