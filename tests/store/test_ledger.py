"""What each API key has used."""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path

import pytest

from moa.store.ledger import Ledger

NOON = 1_700_000_000.0


def test_requests_are_counted_by_the_minute() -> None:
    """Within the limit there is no wait; above it, the rest of the minute. Each key has its own count."""
    with Ledger() as ledger:
        minute = NOON - NOON % 60
        assert [ledger.count_request("ann", 2, minute + second) for second in (0, 10, 20, 50)] == [0, 0, 40, 10]
        assert ledger.count_request("bob", 2, minute + 50) == 0
        assert ledger.count_request("ann", 2, minute + 60) == 0


def test_spending_is_counted_by_the_day() -> None:
    """Dollars add up until midnight UTC."""
    with Ledger() as ledger:
        midnight = NOON - NOON % 86400
        ledger.spend("ann", 0.25, midnight + 1)
        ledger.spend("ann", 0.5, midnight + 86399)
        assert ledger.spent("ann", midnight + 100) == 0.75
        assert ledger.spent("ann", midnight + 86400) == 0
        assert ledger.spent("bob", midnight) == 0


def test_concurrent_processes_count_together(tmp_path: Path) -> None:
    """No request and no dollar is lost between several writers at the same time."""

    def use() -> None:
        with Ledger(tmp_path / "runs.sqlite") as ledger:
            for _ in range(25):
                ledger.count_request("ann", 1000, NOON)
                ledger.spend("ann", 1.0, NOON)

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    with Ledger(tmp_path / "runs.sqlite") as ledger:
        assert ledger.spent("ann", NOON) == 100
        assert ledger.count_request("ann", 100, NOON) > 0


def test_a_file_that_fails_costs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Spending that cannot be written is logged with the key and the amount, and raises nothing."""
    with Ledger(tmp_path / "runs.sqlite") as ledger:
        with sqlite3.connect(tmp_path / "runs.sqlite") as other:
            other.execute("DROP TABLE spending")
        other.close()
        with caplog.at_level(logging.ERROR):
            ledger.spend("ann", 0.5)
    assert "$0.5 spent by key ann is not counted" in caplog.text
