"""Searches of tests race once, and do not wait for the disk."""

from __future__ import annotations

import os

import pytest

from moa.evals.search.live import finding


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(finding, "ROUNDS", 2)
