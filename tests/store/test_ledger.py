"""What each API key has used, and what its requests in flight have reserved."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from moa.store.ledger import LEASE, Claim, Ledger, OverLimit
from moa.store.window import DAY, MINUTE, Use, Window

NOON = 1_700_000_000.0
CHEAP = Claim("ann", dollars_per_day=1.0, dollars=0.3)


def limit(over: OverLimit | None) -> str | None:
    return over.limit if over else None


@given(
    window=st.sampled_from([MINUTE, DAY]),
    most=st.integers(1, 5),
    gaps=st.lists(st.floats(0, 1.2), max_size=40),
    start=st.floats(1e9, 2e9),
)
def test_no_stretch_of_time_holds_more_than_the_limit(
    window: Window, most: int, gaps: list[float], start: float
) -> None:
    """Wherever it begins, and a refused request may begin after its wait, but not long before."""
    now, begun = start, list[float]()
    used: dict[int, Use] = {}
    for gap in gaps:
        now += gap * window.seconds / most
        wait = window.wait(used.values(), most - 1, now)
        if wait is None:
            begun.append(now)
            slot = window.slot_of(now)
            used[slot] = Use(now, used.get(slot, Use(0, 0)).amount + 1)
            continue
        assert 0 < wait <= window.seconds
        assert window.wait(used.values(), most - 1, now + wait + 1e-3) is None
        assert len([time for time in begun if time > now - window.seconds - window.slot]) >= most, "refused too early"
    for first, last in zip(begun, begun[most:], strict=False):
        assert last - first >= window.seconds - 1e-3


def test_requests_are_limited_in_any_minute() -> None:
    """Above the limit it says how long to wait. A refused request does not count, nor does one that did not run."""
    with Ledger() as ledger:
        claim = Claim("ann", requests_per_minute=2)
        assert [limit(ledger.admit(claim, NOON + at)) for at in (0, 50, 55, 59, 60.5)] == [
            *(None, None),
            *("requests", "requests"),
            None,
        ]
        over = ledger.admit(claim, NOON + 62)
        assert over and over.wait == 48
        assert ledger.admit(replace(claim, key="bob"), NOON + 62) is None
        ledger.release(claim)
        assert ledger.admit(claim, NOON + 62) is None


def test_a_limit_of_nothing_lets_nothing_through() -> None:
    """Requests or dollars of 0, in a file that was written by hand, say; also with nothing used."""
    with Ledger() as ledger:
        for claim in (Claim("ann", requests_per_minute=0), Claim("bob", dollars_per_day=0.0), Claim("cid", 5, -1.0)):
            over = ledger.admit(claim, NOON)
            assert over and over.wait in (60, 86400)


def test_dollars_are_limited_in_any_day() -> None:
    """What is spent counts for 24 hours, whenever the day changes; the list shows the day in UTC, and the total."""
    with Ledger() as ledger:
        midnight = NOON - NOON % 86400
        ledger.settle(CHEAP, 0.75, midnight - 60)
        ledger.settle(CHEAP, 0.5, midnight + 60)
        over = ledger.admit(CHEAP, midnight + 120)
        assert over and over.limit == "dollars" and 86400 - 180 <= over.wait <= 86400
        assert ledger.admit(CHEAP, midnight + 120 + over.wait + 1) is None
        assert ledger.spent("ann", midnight + 120) == (0.5, 1.25)
        assert ledger.spent("bob", midnight) == (0, 0)


def test_requests_in_flight_reserve_their_estimate() -> None:
    """What does not fit beside them has to wait; what they cost takes the place of what they reserved."""
    with Ledger() as ledger:
        claims = [replace(CHEAP, id=str(number)) for number in range(5)]
        verdicts = [ledger.admit(claim, NOON) for claim in claims]
        assert [limit(verdict) for verdict in verdicts] == [None, None, None, "in flight", "in flight"]
        assert verdicts[3] and verdicts[3].left == 1.0
        ledger.settle(claims[0], 0.01, NOON)
        assert ledger.admit(claims[3], NOON) is None
        ledger.settle(claims[1], 0.9, NOON)
        ledger.release(claims[2])
        assert limit(ledger.admit(claims[4], NOON)) == "in flight"
        ledger.settle(claims[3], 0.0, NOON)
        assert ledger.admit(claims[4], NOON) is None, "nothing is in flight, and some is left"
        ledger.settle(claims[4], 0.09, NOON)
        assert limit(ledger.admit(claims[0], NOON)) == "dollars"


def test_reservations_of_a_killed_process_lapse() -> None:
    """After the lease, unless they are renewed; also after the clock was set back."""
    with Ledger() as ledger:
        large, small = replace(CHEAP, dollars=5.0), replace(CHEAP, id="small")
        for begun in (NOON, NOON + 3600):
            assert ledger.admit(large, begun) is None
            assert limit(ledger.admit(small, begun)) == "in flight"
            ledger.renew([large], begun + 20)
            assert limit(ledger.admit(small, begun + LEASE + 1)) == "in flight"
            assert limit(ledger.admit(small, begun - 1800)) == "in flight"
            assert ledger.admit(small, begun - 1800 + LEASE + 1) is None
            ledger.release(small)


@given(jumps=st.lists(st.sampled_from([-86400.0 * 365, -3600, -30, -1, 0, 1, 30]), max_size=12))
def test_a_clock_that_is_set_back_locks_nobody_out(jumps: list[float]) -> None:
    """The limit holds, and a window after the last jump everything is free again."""
    with Ledger() as ledger:
        now, since, claim = NOON, 0.0, Claim("ann", requests_per_minute=3, dollars_per_day=1.0)
        counted = 0
        for jump in jumps:
            now += jump
            since = since + jump if jump > 0 else since
            counted += ledger.admit(replace(claim, id=str(now)), now) is None
            ledger.settle(replace(claim, id=str(now)), 0.0, now)
        assert counted <= 3 * (1 + since // 59)
        assert ledger.admit(claim, now + 61) is None
        ledger.settle(claim, 5.0, now + 61)
        assert limit(ledger.admit(claim, now - 86400 * 3)) == "dollars"
        assert ledger.admit(claim, now - 86400 * 2 + 600) is None


def test_concurrent_processes_keep_one_limit(tmp_path: Path) -> None:
    """No request and no dollar is lost between several writers at the same time."""
    admitted: list[bool] = []

    def use(number: int) -> None:
        with Ledger(tmp_path / "runs.sqlite") as ledger:
            for each in range(25):
                claim = Claim("ann", 70, 1000.0, 0.1, id=f"{number} {each}")
                with ledger.transaction():
                    admitted.append(ledger.admit(claim, NOON) is None)
                    ledger.settle(claim, 1.0, NOON)

    users = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert admitted.count(True) == 70
    with Ledger(tmp_path / "runs.sqlite") as ledger:
        assert ledger.spent("ann", NOON).total == 100


def test_the_spending_of_an_older_version_counts_until_its_day_is_over(tmp_path: Path) -> None:
    """A store of an older version is upgraded once; its keys' names are their IDs."""
    path = tmp_path / "runs.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.execute(
            "CREATE TABLE spending (name TEXT, day TEXT, dollars REAL NOT NULL, PRIMARY KEY (name, day)) WITHOUT ROWID"
        )
        old.execute("INSERT INTO spending VALUES ('ann', date('now'), 2.0), ('ann', date('now', '-1 day'), 3.0)")
        old.commit()
    for _ in range(2):
        with Ledger(path) as ledger:
            over = ledger.admit(CHEAP)
            assert over and over.limit == "dollars" and 0 < over.wait <= 86400
            assert ledger.spent("ann") == (2.0, 5.0)
