"""IDs that occur twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa.batch import duplicates as module
from moa.batch.duplicates import Duplicates


@settings(max_examples=30)
@given(st.lists(st.text("ab", max_size=2), max_size=9))
def test_every_later_row_of_an_id_is_found(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    """Each row whose ID an earlier row has is reported once, with an earlier row of that ID."""
    with Duplicates(Path(tmp_path_factory.getbasetemp())) as found:
        for number, identity in enumerate(ids):
            found.add(identity.encode("utf-8", "surrogatepass"), number)
        pairs = list(found.pairs())
    assert sorted(later for _, later in pairs) == [at for at, each in enumerate(ids) if each in ids[:at]]
    assert all(ids[earlier] == ids[later] for earlier, later in pairs)


def test_digests_go_to_disk_where_memory_would_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that were written to disk are compared with those in memory."""
    monkeypatch.setattr(module, "_SPILL", 48)
    with Duplicates(tmp_path) as found:
        for number in range(3000):
            found.add(b"%d" % (number % 2990), number)
        assert sorted(later for _, later in found.pairs()) == list(range(2990, 3000))
