"""Long strings of requests, stored once: an image or a pasted file that comes back with every turn of a conversation.

A stored request holds references in place of its long strings. A reference is a string that begins with a NUL, followed by
the digest of the text. A string of the caller's that begins with a NUL is stored as a blob too, so nothing else looks like a
reference. A trigger deletes a blob with the last run that refers to it, also where an older version deletes the run.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Mapping
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS blobs (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS run_blobs (
    number INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, blob INTEGER NOT NULL REFERENCES blobs,
    PRIMARY KEY (number, blob)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS run_blobs_by_blob ON run_blobs (blob);
CREATE TRIGGER IF NOT EXISTS blobs_without_runs AFTER DELETE ON run_blobs BEGIN
    DELETE FROM blobs WHERE id = OLD.blob AND NOT EXISTS (SELECT 1 FROM run_blobs WHERE blob = OLD.blob);
END;
"""

LONG = 512
"""Characters of a string that becomes a blob; a shorter one takes less space where it is."""

_REFERENCE = "\0"


def shortened(value: Any, texts: dict[bytes, bytes]) -> Any:
    """A JSON value with references in place of its long strings, whose text is added to ``texts`` under its digest."""
    if isinstance(value, str):
        if len(value) < LONG and not value.startswith(_REFERENCE):
            return value
        text = value.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(text).digest()
        texts[digest] = text
        return _REFERENCE + digest.hex()
    if isinstance(value, Mapping):
        return {name: shortened(item, texts) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(item, texts) for item in value]
    return value


def restored(value: Any, texts: Mapping[str, str]) -> Any:
    """The value that was shortened; ``texts`` is as from :func:`texts_of`."""
    if isinstance(value, str):
        return texts.get(value[1:], value) if value.startswith(_REFERENCE) else value
    if isinstance(value, dict):
        return {name: restored(item, texts) for name, item in value.items()}
    if isinstance(value, list):
        return [restored(item, texts) for item in value]
    return value


def packed(text: bytes) -> bytes:
    """The content of a blob."""
    return zlib.compress(text, 1)


def is_stored(file: sqlite3.Connection, digest: bytes) -> bool:
    """Whether the file has the blob."""
    return file.execute("SELECT 1 FROM blobs WHERE digest = ?", (digest,)).fetchone() is not None


def texts_of(file: sqlite3.Connection, number: int) -> dict[str, str]:
    """The blobs of a run: their texts under their digests."""
    found = file.execute("SELECT digest, content FROM run_blobs JOIN blobs ON id = blob WHERE number = ?", (number,))
    return {digest.hex(): zlib.decompress(content).decode("utf-8", "surrogatepass") for digest, content in found}
