"""The folder of a job that can be resumed: its settings, its lock, and files that are written whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from moa.errors import ConfigError


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_whole(path: Path, value: object) -> None:
    """Write a JSON file atomically: a reader sees the old file or the new one."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as out:
        out.write(encoded(value, indent=1) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def settle(path: Path, settings: Mapping[str, Any], *, kind: str = "run", flag: str = "--out") -> None:
    """Write the settings of a new run, or check that an existing run has the same settings.

    Args:
        kind: what the folder holds, for errors.
        flag: the option that names another folder, for errors.

    Raises:
        ConfigError: the existing run has other settings, or its file is damaged.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(settings))
    if not path.exists():
        write_whole(path, {**wanted, "started": now()})
        return
    try:
        existing = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{path} is damaged; give another {flag}") from None
    for name, value in wanted.items():
        if existing.get(name) != value:
            raise ConfigError(
                f"{path.parent} holds another {kind}: its {name} differs; give another {flag}, or remove it"
            )


def locked(folder: Path, *, kind: str = "run") -> TextIO:
    """The folder's lock, held until the file is closed or the process ends.

    Raises:
        ConfigError: another process holds the lock.
    """
    lock = (folder / "lock").open("w")
    try:
        import fcntl
    except ImportError:  # Windows: two processes in one folder make some calls twice and do no other harm
        return lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConfigError(f"{folder}: another process is writing this {kind}") from None
    return lock


def encoded(value: object, indent: int | None = None) -> bytes:
    """The value as JSON in UTF-8; escaped if it holds half a surrogate pair, which UTF-8 cannot encode."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent).encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent).encode()
