"""API keys of callers, with their limits: a file of hashed keys.

A key is 256 random bits and is shown once, when it is made. The file holds its SHA-256: for a random key, unlike a password,
a fast hash is as safe as a slow one. Keys are compared in constant time. Logs and metrics hold a key's name, never the key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from moa.errors import ConfigError, UnknownName


@dataclass(frozen=True, slots=True)
class Key:
    """One caller. ``requests_per_minute`` and ``dollars_per_day`` (US dollars, days in UTC): None sets no limit."""

    name: str
    sha256: str
    requests_per_minute: int | None = None
    dollars_per_day: float | None = None


def default_place(environ: Mapping[str, str] = os.environ) -> Path:
    """The default file of keys: ``~/.config/moa/keys.json``."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "moa" / "keys.json"


class Keys:
    """The keys of a file.

    Raises:
        ConfigError: the file exists and is not a list of keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            self._keys = {row["name"]: Key(**row) for row in rows}
            bytes.fromhex("".join(key.sha256 for key in self))
        except (OSError, ValueError, TypeError, KeyError):
            raise ConfigError(f"{path} is not a key file; `moa key add NAME` makes one") from None

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def find(self, secret: str) -> Key | None:
        """The key with this secret, or None. Takes equally long for every key."""
        digest = _digest(secret)
        found = None
        for key in self._keys.values():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def add(self, name: str, *, requests_per_minute: int | None = None, dollars_per_day: float | None = None) -> str:
        """Make a key, write the file, and return the secret, which is stored nowhere.

        Raises:
            ConfigError: the name is taken, or is not made of letters, digits, ``.``, ``_`` and ``-``.
        """
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            raise ConfigError(f"{name!r} is not a valid key name: use up to 64 letters, digits, '.', '_' and '-'")
        if name in self._keys:
            raise ConfigError(f"a key named {name!r} exists; remove it first with `moa key remove {name}`")
        secret = f"moa-{secrets.token_urlsafe(32)}"
        self._keys[name] = Key(name, _digest(secret), requests_per_minute, dollars_per_day)
        self._write()
        return secret

    def remove(self, name: str) -> None:
        """Remove a key and write the file; raises UnknownName."""
        if name not in self._keys:
            raise UnknownName("key", name, self._keys, f"in {self.path}")
        del self._keys[name]
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        descriptor = os.open(half, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump([asdict(key) for key in self._keys.values()], file, indent=1)
        half.replace(self.path)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
