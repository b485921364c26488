"""A look at the whole input before the first call: how many rows, whether their IDs are unique, and whether the rows that an
earlier start of the job answered are still the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moa.batch.duplicates import Duplicates
from moa.batch.journal import Journal
from moa.batch.reading import File, rows
from moa.batch.rows import Raw, Row, id_key
from moa.errors import ConfigError

_SHOWN = 3
_BETWEEN_REPORTS = 10_000


@dataclass(frozen=True, slots=True)
class Survey:
    """The rows of the input, and how many of them are answered."""

    rows: int
    answered: int


def survey(
    files: Sequence[File],
    journal: Journal,
    folder: Path,
    *,
    ids_are_texts: bool,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Survey:
    """Read the whole input once; memory does not grow with it.

    Args:
        folder: for temporary files.
        ids_are_texts: whether the output holds every ID as a text, so that 1 and "1" are the same.
        on_rows: called with the number of rows read, now and then.

    Raises:
        ConfigError: two rows have the same ID, an answered row is not the one that was answered, or a file cannot be read.
    """
    known = journal.known()
    expected = next(known, None)
    number = answered = 0
    with Duplicates(folder) as duplicates:
        for raw in rows(files):
            number = raw.number
            duplicates.add(id_key(raw, as_text=ids_are_texts), number)
            if expected and expected[0] == number:
                check_unchanged(raw, expected[1])
                answered += 1
                expected = next(known, None)
            if number % _BETWEEN_REPORTS == 0:
                on_rows(number)
        if expected:
            raise ConfigError(f"the input has {number} rows, but row {expected[0]} was answered: {_WAY_OUT}")
        _check_unique(files, duplicates)
    return Survey(number, answered)


_WAY_OUT = "restore the input, or give another -o"


def check_unchanged(raw: Raw, digest: bytes) -> None:
    """Raises ConfigError if a row is not the one that was answered, whose digest this is."""
    if raw.digest != digest:
        row = Row.of(raw)
        named = "" if row.id == raw.number else f" ({row.id!r:.60})"
        raise ConfigError(f"row {raw.number}{named} has changed since it was answered: {_WAY_OUT}")


def _check_unique(files: Sequence[File], duplicates: Duplicates) -> None:
    pairs, count = list[tuple[int, int]](), 0
    for pair in duplicates.pairs():
        count += 1
        pairs = sorted([*pairs, pair])[:_SHOWN]
    if not pairs:
        return
    wanted = {later for _, later in pairs}
    names = {raw.number: Row.of(raw).id for raw in rows(files) if raw.number in wanted}
    shown = ", ".join(f"rows {earlier} and {later} are both {names[later]!r:.60}" for earlier, later in pairs)
    more = f", and {count - len(pairs)} more" if count > len(pairs) else ""
    raise ConfigError(f"IDs must be unique: {shown}{more}")


def spread(count: int | None, rows: int) -> frozenset[int] | None:
    """The numbers of so many rows, spread evenly over all."""
    if count is None:
        return None
    count = min(count, rows)
    return frozenset(1 + place * rows // count for place in range(count))
