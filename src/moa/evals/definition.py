"""Everything that distinguishes a system from another one, to any depth: its models and their servers, and every setting.

Settings that have their default are left out, so that a setting that a later version adds changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from moa.evals.asking.data import Row
from moa.mixture.agent import Agent
from moa.mixture.mixture import Mixture
from moa.models import Model, traits_of

NO_SETTING = frozenset({"name", "aggregation", "memory", "prices", "progress"})
"""Fields of a mixture's plan that no answer depends on, or that another field says."""


def definition(model: Model) -> Row:
    """What a model consists of. It may hold addresses: record its :func:`digest` alone."""
    if isinstance(model, Mixture):
        return {"name": model.name, **_settings(model.plan, NO_SETTING), "way": model.plan.aggregation.identity}
    return {"model": traits_of(model).identity}


def digest(model: Model) -> str:
    """Of the definition: equal for equal systems, in any process."""
    text = json.dumps(definition(model), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _settings(value: Any, without: frozenset[str] = frozenset()) -> Row:
    """The fields of a dataclass that do not have their default."""
    found = {field.name: _plain(getattr(value, field.name)) for field in fields(value) if field.name not in without}
    defaults = {field.name: _plain(_default(field)) for field in fields(value)}
    return {name: one for name, one in found.items() if one != defaults[name]}


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _plain(value: Any) -> Any:
    """The value as JSON can hold it, without an object's place in memory."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(str(_plain(one)) for one in value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Agent):
        return _settings(value)
    if hasattr(value, "stream") and hasattr(value, "name"):
        return definition(value)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if is_dataclass(value):
        return {"type": name, **_settings(value)}
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', name)}"
    return (
        {"type": name, **{key: _plain(one) for key, one in vars(value).items()}} if hasattr(value, "__dict__") else name
    )
