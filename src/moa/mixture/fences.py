"""Fences: the lines around a text by another model that show where it ends, whatever stands in it.

Notable decisions:
- A fence holds a digest of its own text, which the text cannot contain. So no text can close its block early.
- The digest is keyed with a secret and the conversation. So nobody can guess the fence of another text and forge its block,
  not even an author who knows that text.
- The secret is made once per installation, or per run store, so the same conversation has the same fences after a restart
  and at every server of a store: upstream prefix caches and cached answers keep working. It protects no data; without a
  file, it lasts as long as the process.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from moa.messages import Message, text_of

SECRET_BYTES = 32
DIGITS = 16


_folder: list[Path] = []  # where the secret is, if not in the default place


def keep_secret_in(folder: Path) -> None:
    """Read the secret in this folder, for all fences of this process; it is created there if it is missing."""
    _folder[:] = [folder]
    _secret.cache_clear()


def key_of(messages: Sequence[Message]) -> bytes:
    """The key of a conversation's fences: it depends on the first user message, so all later turns have the same."""
    first = next((text_of(message) for message in messages if message["role"] == "user"), "")
    return _digest(_secret(), first).encode()


def fence(text: str, key: bytes) -> str:
    """Sixteen hexadecimal digits that depend on the text and the key alone, and do not occur in the text."""
    salt = 0
    while True:
        mark = _digest(key, f"{salt}\n{text}")[:DIGITS]
        if mark not in text.lower():
            return mark
        salt += 1


def _digest(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


@cache
def _secret() -> bytes:
    """The secret; created where it is missing."""
    made = secrets.token_bytes(SECRET_BYTES)
    try:
        default = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "moa"
        file = next(iter(_folder), default) / "fences.key"
        if not file.exists():
            _write(file, made)
        kept = file.read_bytes()
    except (OSError, RuntimeError):  # no home, a disk that is full or read-only, a file system without links
        return made
    return kept if len(kept) == SECRET_BYTES else made


def _write(file: Path, data: bytes) -> None:
    """Write a file that only its owner can read; of several processes, the first one does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as new:
        new.write(data)
    with suppress(FileExistsError):
        os.link(part, file)
    part.unlink()
