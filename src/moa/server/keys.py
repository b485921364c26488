"""API keys of callers, with their limits: a file of hashed keys, which is read again whenever it changes.

A key is 256 random bits and is shown once, when it is made. The file holds its SHA-256: for a random key, unlike a password,
a fast hash is as safe as a slow one. Keys are compared in constant time. Logs and metrics hold a key's name, never the key.

Notable decisions:
- A key has an ID, which owns its runs and its spending. A new key with the name of a removed one is another caller. A key
  that an older version made has no ID in the file: its name is its ID, so it keeps its runs and its spending.
- A file that is removed holds no keys. While the file is damaged or half-written, no key is accepted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from moa.config.names import full_name
from moa.errors import ConfigError, UnknownName

SETTLED = 2.0
"""Seconds after which a file's time of modification shows every further change."""

STALE = 5.0
"""Seconds after which another process that changes the file is taken for dead."""

log = logging.getLogger("moa.server")


@dataclass(frozen=True, slots=True)
class Key:
    """One caller.

    Attributes:
        requests_per_minute, dollars_per_day: limits of any 60 seconds and of any 24 hours, in requests and US dollars; None
            sets none.
        id: owns the caller's runs and spending.
        until: the last day (UTC) on which the key works, or the time at which it ends, in ISO 8601; None: no end.
        models: patterns of the models that it may call (``moa/fast``, ``openai/*``); None: all.

    Raises:
        ValueError: a value has the wrong form.
    """

    name: str
    sha256: str
    requests_per_minute: int | None = None
    dollars_per_day: float | None = None
    id: str = ""
    until: str | None = None
    models: Sequence[str] | None = None

    def __post_init__(self) -> None:
        bytes.fromhex(self.sha256)
        f"{self.name}{self.id}".encode()
        if not isinstance(self.name, str) or not isinstance(self.id, str):
            raise ValueError("a name or an ID is not a string")
        if any(
            limit is not None and not _is_number(limit) for limit in (self.requests_per_minute, self.dollars_per_day)
        ):
            raise ValueError("a limit is not a number")
        if self.models is not None and not (
            isinstance(self.models, list | tuple) and all(isinstance(pattern, str) for pattern in self.models)
        ):
            raise ValueError("models is not a list of patterns")
        if self.until is not None:
            end_of(self.until)
        if not self.id:
            object.__setattr__(self, "id", self.name)

    def has_ended(self, now: float | None = None) -> bool:
        """Whether the key has expired at this time, seconds since 1970; None: now."""
        return self.until is not None and (time.time() if now is None else now) >= end_of(self.until)

    def may_call(self, model: str) -> bool:
        """Whether the key's caller may select this model."""
        return self.models is None or any(fnmatchcase(full_name(model), pattern) for pattern in self.models)


def _is_number(limit: object) -> bool:
    return isinstance(limit, int | float) and not isinstance(limit, bool) and not math.isnan(limit)


def end_of(until: str) -> float:
    """When a key that works until then ends, in seconds since 1970; of a day, its last moment (UTC).

    Raises:
        ValueError: it is neither a day nor a time in ISO 8601.
    """
    try:
        day = date.fromisoformat(until)
    except ValueError:
        moment = datetime.fromisoformat(until)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + 86400


def default_place(environ: Mapping[str, str] = os.environ) -> Path:
    """The default file of keys: ``~/.config/moa/keys.json``."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "moa" / "keys.json"


class Keys:
    """The keys of a file.

    Args:
        path: the file.
        optional: callers need no key until the file has one.

    Raises:
        ConfigError: the file exists and is not a list of keys.
    """

    def __init__(self, path: Path, *, optional: bool = False) -> None:
        self.path, self._optional = path, optional
        self._keys: dict[str, Key] = {}
        self._text: bytes | None = None
        self._seen: object = None
        self._damaged: ConfigError | None = None
        self._refresh()
        if self._damaged:
            raise self._damaged

    @property
    def apply(self) -> bool:
        """Whether callers need a key: always, or, where keys are optional, from the first key in the file on."""
        if self._optional:
            self._refresh()
            if self._keys or self._damaged:
                self._optional = False
                log.warning("%s has keys: from now on callers need one", self.path)
        return not self._optional

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def find(self, secret: str) -> Key | None:
        """The key with this secret, or None, by the file as it is now. Takes equally long for every key.

        Raises:
            ConfigError: the key was in the file, which is damaged now.
        """
        self._refresh()
        digest = _digest(secret)
        found = None
        for key in self._keys.values():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found and self._damaged:
            raise self._damaged
        return found

    def of_id(self, key_id: str) -> Key | None:
        """The key with this ID, by the file as it is now; of a damaged file, as it was before."""
        self._refresh()
        return next((key for key in self._keys.values() if key.id == key_id), None)

    def add(
        self,
        name: str,
        *,
        requests_per_minute: int | None = None,
        dollars_per_day: float | None = None,
        until: str | None = None,
        models: Sequence[str] | None = None,
    ) -> str:
        """Make a key, write the file, and return the secret, which is stored nowhere. For the limits see :class:`Key`.

        Raises:
            ConfigError: the name is taken, or is not made of letters, digits, ``.``, ``_`` and ``-``; or ``until`` is not a
                date in the future.
        """
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            raise ConfigError(f"{name!r} is not a valid key name: use up to 64 letters, digits, '.', '_' and '-'")
        if dollars_per_day is not None and not math.isfinite(dollars_per_day):
            raise ConfigError(f"{dollars_per_day} is not a number of US dollars: leave the limit out for none")
        if until is not None:
            _check_until(until)
        patterns = None if models is None else [pattern_of(model) for model in models]
        secret = f"moa-{secrets.token_urlsafe(32)}"
        key_id = f"key_{secrets.token_hex(12)}"
        key = Key(name, _digest(secret), requests_per_minute, dollars_per_day, key_id, until, patterns)
        with self._changed() as keys:
            if name in keys:
                raise ConfigError(f"a key named {name!r} exists; remove it first with `moa key remove {name}`")
            keys[name] = key
        return secret

    def remove(self, name: str) -> None:
        """Remove a key and write the file; raises UnknownName."""
        with self._changed() as keys:
            if name not in keys:
                raise UnknownName("key", name, keys, f"in {self.path}")
            del keys[name]

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Key]]:
        """The keys by name, to be changed and then written; other processes that change the file wait meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        descriptor = _alone(half)
        try:
            self._refresh()
            if self._damaged:
                raise self._damaged
            keys = dict(self._keys)
            yield keys
            with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
                json.dump([asdict(key) for key in keys.values()], file, indent=1)
            half.replace(self.path)
            self._keys = keys
        except BaseException:
            half.unlink()
            raise
        finally:
            os.close(descriptor)

    def _refresh(self) -> None:
        """Read the file again if it has changed."""
        seen = self._signature()
        if seen is not None and seen == self._seen:
            return
        self._seen = seen
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            text = b"[]"
        except OSError:
            text = b""
        if text == self._text:
            return
        self._text, before = text, self._damaged
        try:
            keys = {row["name"]: Key(**row) for row in json.loads(text)}
        except (ValueError, TypeError, KeyError):
            self._damaged = ConfigError(f"{self.path} is not a key file; `moa key add NAME` makes one")
            if self._keys and not before:
                log.error("%s is no longer a key file: no key is accepted until it is one again", self.path)
        else:
            if self._keys and not keys:
                log.error("%s holds no keys any more: no request is accepted", self.path)
            self._keys, self._damaged = keys, None

    def _signature(self) -> object:
        """What changes with the file; None if it changed so recently that a further change could leave this the same."""
        try:
            found = self.path.stat()
        except OSError as error:
            return type(error)
        recent = abs(time.time() - found.st_mtime) < SETTLED
        return None if recent else (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def _alone(half: Path) -> int:
    """Create a file that one process at a time can have; one that is left over from a killed process is replaced.

    Raises:
        ConfigError: another process has had it for too long.
    """
    until = time.monotonic() + STALE
    while True:
        with suppress(FileExistsError):
            return os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with suppress(FileNotFoundError):
            if abs(time.time() - half.stat().st_mtime) > STALE:
                half.unlink()
        if time.monotonic() > until:
            raise ConfigError(f"another process changes the keys; if none does, remove {half}")
        time.sleep(0.02)


def _check_until(until: str) -> None:
    try:
        past = end_of(until) <= time.time()
    except ValueError:
        raise ConfigError(f"{until!r} is not a date: write one as 2027-12-31, or a time as 2027-12-31T18:00") from None
    if past:
        raise ConfigError(f"{until} is in the past: give the last day on which the key shall work")


def pattern_of(model: str) -> str:
    """A pattern with the prefix of mixtures, which users may leave out."""
    return model if model == "*" else full_name(model)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
