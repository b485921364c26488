"""The work of ``moa batch --engine ray``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from moa.batch.job import STANDARD_INPUT
from moa.batch.ray_options import RayOptions as RayOptions
from moa.cli.terminal import figure, notify, one_line, seconds, write
from moa.errors import ConfigError
from moa.messages import Cost


def answer_rows_on_ray(
    rows: str,
    out: str,
    mixture: str | None,
    options: RayOptions,
    config: str | None,
    given: Mapping[str, object],
    *,
    as_json: bool,
) -> int:
    """Answer rows on Ray.

    Args:
        given: the values of options that Ray does not have, by their names.

    Returns:
        0 if every row has an answer, 1 if one failed or was left out.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise ConfigError("--engine ray needs Ray: pip install 'mixture-of-agents[ray]'")
    if unknown := next((name for name, value in given.items() if value), None):
        raise ConfigError(f"{unknown} does not work with --engine ray")
    if rows == STANDARD_INPUT:
        raise ConfigError("standard input does not work with --engine ray; write the rows into a file")
    from moa.batch.on_ray import answer_on_ray

    notify("starting Ray …")
    result = answer_on_ray(rows, out, mixture, config, options)
    if as_json:
        write(json.dumps(result))
    else:
        _in_words(result)
    return 0 if result["failed"] == 0 and result["left"] == 0 else 1


def _in_words(result: Mapping[str, Any]) -> None:
    tokens = result["usage"]
    write(one_line(f"{result['output']}: {figure(result['rows'])} rows answered"))
    for name, meaning in (
        ("failed", "rows have an error in place of an answer"),
        ("degraded", "rows without some of the agents"),
        ("left", "rows; the same command answers them"),
        ("answered_twice", "rows were in flight at a kill and answered again"),
    ):
        if result[name]:
            write(f"  {name.replace('_', ' '):<18}{figure(result[name])} {meaning}")
    write(f"  {'tokens':<18}{figure(tokens['input_tokens'])} in, {figure(tokens['output_tokens'])} out")
    write(f"  {'cost':<18}{Cost(result['cost'])}")
    write(f"  {'time':<18}{seconds(result['seconds'])}")
    write(one_line(f"  {'summary':<18}{result['output'].rstrip('/')}.job/summary.json"))
