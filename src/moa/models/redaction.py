"""Redaction: the keys of an endpoint, hidden in what its server says.

Notable decisions:
- A server quotes a key as it got it, or as URLs, JSON and headers write it: with percent or backslash escapes, in another
  case, in base64 or hexadecimal digits. All of these are hidden.
- A short key is hidden as it is only: its other forms are ordinary words and digits.
- The words of a model are not searched. A server that puts a key there can put it there in any form.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, unquote_plus

HIDDEN = "[key]"

LONG = 12
"""Characters from which a key is hidden in its other forms, too."""

_NAMES = ("auth", "key", "token", "secret")  # parts of the names of headers and query fields that hold a key


def secrets_in(headers: Mapping[str, str], base_url: str = "") -> list[str]:
    """The keys in an endpoint's headers, and in the query of its URL: as they are and as the URL has them."""
    found = [value.split()[-1] for name, value in headers.items() if value.strip() and _holds_a_key(name)]
    for field in base_url.partition("?")[2].split("&"):
        name, _, value = field.partition("=")
        if value and _holds_a_key(name):
            found += filter(None, dict.fromkeys((unquote(value), unquote_plus(value), value)))
    return found


def _holds_a_key(name: str) -> bool:
    return any(part in name.lower() for part in _NAMES)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text with ``[key]`` in place of each secret that a server may have quoted."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN) if len(secret) < LONG else _pattern(secret).sub(HIDDEN, text)
    return text


def value_without_secrets(value: Any, secrets: Iterable[str]) -> Any:
    """A JSON value without secrets, in its texts and its names."""
    secrets = list(secrets)
    if not secrets:
        return value
    if isinstance(value, str):
        return without_secrets(value, secrets)
    if isinstance(value, Mapping):
        return {
            without_secrets(str(name), secrets): value_without_secrets(each, secrets) for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [value_without_secrets(each, secrets) for each in value]
    return value


@lru_cache(maxsize=64)
def _pattern(secret: str) -> re.Pattern[str]:
    data = secret.encode("utf-8", "surrogatepass")
    start = max(LONG, len(secret) * 2 // 3)  # a text may be cut in the middle of a key
    forms = [_escaped(secret), data.hex(), *(_in_base64(data, offset) for offset in range(3))]
    return re.compile("|".join([*forms, _escaped(secret[:start]) + r"[\w+/=.%-]*"]), re.IGNORECASE)


def _escaped(secret: str) -> str:
    """A pattern for a text and every way to escape it."""
    return "".join(map(_character, secret))


def _character(character: str) -> str:
    """A character as itself, or escaped as JSON (also twice, in a text inside JSON) or a URL does it."""
    if character.isalnum() or not character.isascii():
        return re.escape(character)
    code = ord(character)
    return rf"(?:\\*{re.escape(character)}|%(?:25)*{code:02x}|\\+u{code:04x})"


def _in_base64(data: bytes, offset: int) -> str:
    """The digits that depend on the key alone where so many bytes stand before it (``Bearer``, ``user:``), modulo three."""
    digits = b64encode(bytes(offset) + data).decode()[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6]
    return re.escape(digits).replace(r"\+", "[+-]").replace("/", "[/_]")
