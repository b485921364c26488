"""A server in the test's own process, whose models answer well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.local_server import in_this_process
from tests.fakes.serving import Served, answer_well
from tests.fakes.upstream import Upstream


@pytest.fixture
async def server(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Served]:
    answer_well(upstream)
    async with in_this_process(upstream, tmp_path / "server") as server:
        yield server
