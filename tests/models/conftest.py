"""An endpoint for a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from moa.models.endpoint import Endpoint
from tests.fakes.upstream import Upstream
from tests.models.endpoints import KEY


@pytest.fixture
async def endpoint(upstream: Upstream) -> AsyncIterator[Endpoint]:
    """An open endpoint, named ``here``, of the scripted server."""
    async with Endpoint("here", upstream.base_url, api_key=KEY) as opened:
        yield opened
