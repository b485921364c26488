"""Dates: ``March 5, 2024``, ``5th of March 2024`` and ``2024/03/05`` are ``2024-03-05``.

``3/5/2024`` is March or May and stays as it is; ``25/12/2024`` can only be December.
"""

from __future__ import annotations

import datetime
import re

from moa.mixture.canonical.form import Form

_NAMES = "january february march april may june july august september october november december"
_MONTHS = _NAMES.split()
_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_MONTH = rf"(?P<month>{'|'.join(f'{month[:3]}(?:{month[3:]})?' for month in _MONTHS)}|sept)\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_WAYS = [
    re.compile(way, re.IGNORECASE)
    for way in (
        rf"{_YEAR}[-/.](?P<number>\d{{1,2}})[-/.](?P<day>\d{{1,2}})",
        r"(?P<day>\d{1,2})\.\s?(?P<number>\d{1,2})\.\s?(?P<year>\d{4})",
        rf"{_YEAR}\s?年\s?(?P<number>\d{{1,2}})\s?月\s?(?P<day>\d{{1,2}})\s?日",
        rf"{_MONTH} {_DAY}(?:,? {_YEAR})?",
        rf"(?:the )?{_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?",
    )
]
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_WEEKDAY = re.compile(rf"({_DAYS}),? ", re.IGNORECASE)


def date_form(text: str) -> Form | None:
    """The form of a text that is a date which exists; None for any other text. A weekday before it is the form's tag."""
    if len(text) > 60:
        return None
    weekday = _WEEKDAY.match(text)
    tag = weekday[1].lower() if weekday else ""
    bare = text[weekday.end() :] if weekday else text
    if slashed := _SLASHED.fullmatch(bare):
        one, other, year = map(int, slashed.groups())
        day, month = (one, other) if one > 12 else (other, one)
        return _form(year, month, day, tag) if (one > 12) != (other > 12) or one == other else None
    for way in _WAYS:
        if match := way.fullmatch(bare):
            parts = match.groupdict()
            named = parts.get("month")
            month = int(parts["number"]) if not named else 1 + [m[:3] for m in _MONTHS].index(named[:3].lower())
            return _form(int(parts["year"] or 0), month, int(parts["day"]), tag)
    return None


def _form(year: int, month: int, day: int, tag: str) -> Form | None:
    try:
        date = datetime.date(year or 2000, month, day)
    except ValueError:
        return None
    return Form("date", date.isoformat() if year else f"{date:%m-%d}", tag)
