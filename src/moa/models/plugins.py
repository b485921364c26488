"""Providers of other packages: the entry points of the group ``moa.providers``.

A package declares ``[project.entry-points."moa.providers"] NAME = "module:make"``, where ``make`` takes the part of a
model's name behind ``NAME/`` and returns a :class:`~moa.models.Model`. It is imported when a model of that name is
first called.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from moa.errors import ConfigError
from moa.models import Model

GROUP = "moa.providers"


def plugin_names() -> list[str]:
    """The providers that installed packages declare."""
    return sorted(entry_points(group=GROUP).names)


def plugin(provider: str) -> Callable[[str], Model] | None:
    """What makes the models of a provider; None where no package declares it.

    Raises:
        ConfigError: the package declares it, and it cannot be imported.
    """
    for found in entry_points(group=GROUP, name=provider):
        try:
            make: Callable[[str], Model] = found.load()
        except Exception as error:
            package = found.dist.name if found.dist else found.value
            raise ConfigError(f"the provider {provider!r} of {package} cannot be imported: {error}") from error
        return make
    return None
