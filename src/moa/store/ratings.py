"""Ratings of saved runs: thumbs up or down, and a note. A table beside the runs, which goes with them.

Versions that do not know the table leave it alone; when they delete a run, SQLite deletes its rating.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any, NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS run_ratings (
    number INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    rating TEXT NOT NULL, note TEXT NOT NULL, rated REAL NOT NULL
);
"""

RATINGS = ("up", "down")

LONGEST_NOTE = 4000
"""Characters of a note."""


class Rating(NamedTuple):
    """What somebody thought of a run's answer.

    Attributes:
        rating: ``up`` or ``down``.
        note: why, in the user's words; may be empty.
        rated: when, seconds since 1970.
    """

    rating: str
    note: str
    rated: float


def rate(file: sqlite3.Connection, run: str, owner: str | None, rating: str | None, note: str) -> bool:
    """Rate a run instead of any earlier rating; None removes that. False if there is no such run of this owner."""
    found = file.execute(
        "SELECT number FROM runs WHERE run = ?1 AND (?2 IS NULL OR owner = ?2)", (run, owner)
    ).fetchone()
    if found is None:
        return False
    if rating is None:
        file.execute("DELETE FROM run_ratings WHERE number = ?", found)
    else:
        file.execute("INSERT OR REPLACE INTO run_ratings VALUES (?, ?, ?, ?)", (*found, rating, note, time.time()))
    return True


def rating_of(file: sqlite3.Connection, number: int) -> Rating | None:
    """The rating of the run with this number; None if nobody rated it."""
    found = file.execute("SELECT rating, note, rated FROM run_ratings WHERE number = ?", (number,)).fetchone()
    return found and Rating(*found)


def rating_object(rating: Rating | None) -> dict[str, Any] | None:
    """The rating in a run's JSON object."""
    return rating and rating._asdict()
