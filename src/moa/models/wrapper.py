"""A model around a model: what the wrappers in :mod:`~moa.models.retries`, :mod:`~moa.models.limits`,
:mod:`~moa.models.cache` and :mod:`~moa.models.hedge` share.

Each wrapper has the name of the model inside it and is a :class:`~moa.models.Model` itself, so they nest. From the
outside in, ``Cached(Retried(Limited(endpoint, limits)), cache)`` is the order that makes sense: a cached answer needs no
slot, and a retry gives its slot back while it waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moa.models import Model


class Wrapper:
    """What all wrappers share: the name of the model inside, and what else tells who it is."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def name(self) -> str:
        return self.model.name

    if not TYPE_CHECKING:

        def __getattr__(self, attribute: str) -> Any:
            if attribute in ("provider", "model_id", "identity", "continuation"):
                return getattr(self.model, attribute)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}")
