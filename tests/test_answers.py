from __future__ import annotations

from moa import Cost


def test_costs_add_up_honestly() -> None:
    """An unknown cost is never 0: a sum with an unknown part says 'at least', a sum of unknown parts is unknown."""
    assert Cost(1.0) + Cost(0.5) == Cost(1.5)
    assert Cost(1.0) + Cost(None) == Cost(1.0, at_least=True)
    assert Cost(1.0, at_least=True) + Cost(1.0) == Cost(2.0, at_least=True)
    assert Cost(None) + Cost(None) == Cost(None)
    assert [str(Cost(*fields)) for fields in ((0.0,), (None,), (0.01234,), (0.000012,), (2.5, True))] == [
        "$0",
        "cost unknown",
        "$0.0123",
        "$0.000012",
        "at least $2.5000",
    ]
