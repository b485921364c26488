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


def settle(
    path: Path,
    settings: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
    *,
    kind: str = "run",
    flag: str = "--out",
) -> None:
    """Write the settings of a new run, or check that an existing run has the same settings.

    Args:
        path: where they are written.
        settings: what must be equal.
        about: what else to record. Of it, ``identity`` and the digests in ``data`` must be equal, where the existing run has
            them: runs of earlier versions have neither.
        kind: what the folder holds, for errors.
        flag: the option that names another folder, for errors.

    Raises:
        ConfigError: the existing run has other settings, or its file is damaged.
    """
    wanted, also = json.loads(json.dumps(settings)), json.loads(json.dumps(about or {}))
    if not path.exists():
        write_whole(path, {**wanted, **also, "started": now()})
        return
    try:
        existing = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{path} is damaged; give another {flag}") from None
    before = existing.get("data", {})
    differs = [f"its {name} differs" for name, value in wanted.items() if existing.get(name) != value]
    if "identity" in also and existing.get("identity", also["identity"]) != also["identity"]:
        differs.append("the system of that name had other settings")
    for name, digest in also.get("data", {}).items():
        if before.get(name, digest) != digest:
            differs.append(f"its {name} has changed since")
    if differs:
        raise ConfigError(f"{path.parent} holds another {kind}: {differs[0]}; give another {flag}, or remove it")
    data = {**also.get("data", {}), **before}
    if (whole := {**also, **existing, **({"data": data} if data else {})}) != existing:
        write_whole(path, whole)


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
