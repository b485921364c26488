"""When a mixture's panel is called: always, only where its first members differ, or when the aggregator asks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from moa.errors import ConfigError
from moa.mixture.aggregation import Aggregation
from moa.mixture.schedules.early_exit import EarlyExit
from moa.mixture.schedules.protocol import Schedule
from moa.mixture.schedules.quorum import Quorum

When = Literal["always", "disagree", "tool"]

FIRST = 2
"""Members of the first layer that ``disagree`` calls first, where the mixture does not say how many."""


def check_when(
    when: object,
    first: object,
    layers: Sequence[Mapping[str, object]],
    aggregation: Aggregation,
    schedule: Schedule,
    where: str,
) -> None:
    """Check that ``when`` and ``first`` fit the rest of a mixture; ``where`` opens the error message.

    Raises:
        ConfigError: they do not; the message names the key that does not fit.
    """
    if when not in get_args(When):
        raise ConfigError(f"{where}: when is {when!r}; expected one of {', '.join(get_args(When))}")
    if first is not None and (not isinstance(first, int) or isinstance(first, bool) or first < 2):
        raise ConfigError(f"{where}: first is {first!r}; expected 2 or more proposers, whose answers are compared")
    if first is not None and when != "disagree":
        raise ConfigError(
            f'{where}: first is {first!r}, which applies to when = "disagree" only; remove it or set that'
        )
    if when == "always":
        return
    if not layers:
        raise ConfigError(f"{where}: when is {when!r}, but there is no layer of proposers; add one, or remove when")
    if when == "tool" and aggregation.whole:
        raise ConfigError(
            f"{where}: when is 'tool', which takes an aggregator that writes at once; expected aggregate = "
            f'"synthesize" without analysis and window, not {aggregation.identity!r}'
        )
    if when == "disagree":
        _check_first(first if isinstance(first, int) else FIRST, len(layers[0]), schedule, where)


def _check_first(first: int, size: int, schedule: Schedule, where: str) -> None:
    if size <= first:
        raise ConfigError(
            f"{where}: first is {first}, but the first layer has {size}: no proposer is left to widen to; add one, or "
            "remove when"
        )
    inner = schedule.schedule if isinstance(schedule, EarlyExit) else schedule
    if isinstance(inner, Quorum) and inner.usable <= first:
        raise ConfigError(
            f"{where}: first is {first}, and a quorum of {inner.usable} is reached with those alone; expected a quorum "
            "of more than first"
        )
