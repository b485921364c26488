"""Canonical forms of answers, until the voting aggregation's are on the trunk."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation

_NUMBER = re.compile(r"[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-−+]?\.\d+")
_FINAL = re.compile(r"(?:answer(?:\s+is)?\s*[:=]?|####)\s*(.+)", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


def _final(text: str) -> str:
    found = _BOXED.findall(text) or _FINAL.findall(text)
    return str(found[-1]) if found else text


def words(text: str, whole: bool = False) -> str:
    return " ".join(re.sub(r"[^\w%.+-]+", " ", (text if whole else _final(text)).casefold()).strip(" .").split())


def plain_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.strip().strip("$%€")) is not None


def number(text: str) -> str | None:
    found = _NUMBER.findall(_final(text)) or _NUMBER.findall(text)
    if not found:
        return None
    try:
        return format(Decimal(found[-1].replace(",", "").replace("−", "-")).normalize(), "f")
    except InvalidOperation:
        return None


def choice(text: str) -> str | None:
    found = re.findall(r"\(?\b([A-Z])\b\)?", _final(text).strip())
    return found[-1] if found else None


def json_form(text: str) -> str | None:
    fenced = re.findall(r"```(?:json)?\s*(.*?)```", text, re.DOTALL)
    for each in (*reversed(fenced), text):
        try:
            return json.dumps(json.loads(each), sort_keys=True)
        except ValueError:
            continue
    return None
