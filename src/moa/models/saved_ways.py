"""How models continue a text, as tests have found it, kept in a file so that later processes need no test."""

from __future__ import annotations

import json
import logging
import os
from collections import UserDict
from contextlib import suppress
from pathlib import Path
from typing import get_args

from moa.models.continuations import Continuing

log = logging.getLogger("moa")


class SavedWays(UserDict[str, Continuing]):
    """A value of :data:`~moa.models.continuations.Continuing` for each model, by the model's identity.

    A file that cannot be read counts as empty, and one that cannot be written is left alone: both cost a test, and no run.

    Args:
        path: a JSON file, read at the first look and replaced as a whole at each change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__()
        self._read = False

    def __missing__(self, identity: str) -> Continuing:
        if self._read:
            raise KeyError(identity)
        self._load()
        return self[identity]

    def __contains__(self, identity: object) -> bool:
        if not self._read:
            self._load()
        return identity in self.data

    def __setitem__(self, identity: str, way: Continuing) -> None:
        self._load()  # another process may have written meanwhile
        self.data[identity] = way
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(self.data, indent=1), "utf-8")
            part.replace(self.path)
        except OSError as error:
            log.debug("%s cannot be written: %s", self.path, error)
            with suppress(OSError):
                part.unlink()

    def _load(self) -> None:
        self._read = True
        try:
            saved = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return
        if isinstance(saved, dict):
            self.data |= {key: way for key, way in saved.items() if way in get_args(Continuing)}
