"""The open configuration of a command, and the mixtures it opens from it."""

from __future__ import annotations

from collections.abc import Callable

from moa.cli.terminal import notify
from moa.closing import AsyncClosing
from moa.config.config import Config
from moa.mixture.mixture import Mixture
from moa.models.catalog import Around


class Session(AsyncClosing):
    """An open configuration. Leaving it closes every connection and embedded model.

    Args:
        path: the path of a moa.toml; None to look in the usual places.
        around: wraps each model of an endpoint; see :class:`~moa.models.catalog.Catalog`.

    Attributes:
        on_notice: called with each line about a step that takes long; prints it to standard error by default.
    """

    def __init__(self, path: str | None, *, around: Around | None = None) -> None:
        self.on_notice: Callable[[str], None] = notify
        self.config = Config(path, on_notice=lambda line: self.on_notice(line), around=around)

    def mixture(self, name: str | None) -> Mixture:
        """The mixture of this name, or the default; a single model becomes a mixture that has only an aggregator.

        Reports what ``auto`` stands for, if that is the mixture.
        """
        name = name or self.config.default
        if name.removeprefix("moa/") == "auto":
            choice = self.config.auto_choice()
            self.on_notice(choice.why if choice.mixture == "auto" else f"auto is {choice.mixture}: {choice.why}")
        return self.config.as_mixture(name)

    async def aclose(self) -> None:
        await self.config.aclose()
