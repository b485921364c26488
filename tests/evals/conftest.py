"""Without the packages of the ``evals`` and ``plots`` extras, the files here that import them are skipped as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.fakes.packages import missing

PACKAGES = missing("numpy", "rapidfuzz", "matplotlib")

NEEDING = {
    *("test_analyses.py", "test_benchmark.py", "test_compare.py"),
    *("test_length_control.py", "test_report.py", "test_similarity.py"),
    *("test_ballots.py", "test_choice.py", "test_search.py", "test_ways.py"),
}
"""Files whose imports need these packages."""


class Without(pytest.Module):
    """A file of tests that is not imported."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        pytest.skip(f"not installed: {', '.join(PACKAGES)}; run: uv sync", allow_module_level=True)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of few resamples: the default takes a second for each system."""
    if not PACKAGES:
        from moa.evals.benchmarks.alpaca_eval import length_control

        monkeypatch.setattr(length_control, "DRAWS", 20)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if PACKAGES and module_path.name in NEEDING:
        without: pytest.Module = Without.from_parent(parent, path=module_path)
        return without
    return None
