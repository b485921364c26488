"""The list of models: what clients read of a mixture before they call it, in the form of each API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import aiohttp
import pytest

from moa import Mixture
from moa.messages import Delta, Request
from moa.mixture.card import card_of
from moa.models import Traits
from moa.models.profile import Profile
from moa.prices import Price, Prices
from moa.server.model_list import openai_fields
from tests.fakes.packages import needs
from tests.fakes.serving import Served

pytestmark = pytest.mark.anyio


class Member:
    """A model that is never called."""

    def __init__(self, name: str, profile: Profile | None = None) -> None:
        self.name, self.traits = name, Traits(profile=profile or Profile())

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        raise NotImplementedError
        yield Delta()


def test_a_mixture_can_do_what_its_answer_needs() -> None:
    """The aggregator decides about tools and sizes, any agent about images, and the price is the sum over all."""
    see = Member("up/see", Profile(images=True, context_tokens=8000))
    facts = Profile(tools=False, context_tokens=32000, answer_tokens=4000, efforts=("low", "high"))
    write = Member("up/write", facts)
    prices = Prices({"up/see": Price(1.0, 2.0), "up/write": Price(3.0, 4.0)})
    card = card_of(Mixture([[see]], write), prices)
    assert (card.context_tokens, card.answer_tokens) == (32000, 4000)
    assert (card.images, card.tools, card.efforts) == (True, False, True)
    fields = openai_fields(card, priced=True)
    assert fields["pricing"] == {"prompt": "0.000004", "completion": "0.000006"}
    assert "tools" not in fields["supported_parameters"] and fields["architecture"]["input_modalities"] == [
        "text",
        "image",
    ]


def test_of_a_mixture_that_writes_the_answer_its_own_writer_counts() -> None:
    """Its proposers need neither call tools nor hold long answers; what costs nothing has the price 0."""
    small = Member("up/small", Profile(tools=False, context_tokens=4000))
    write = Member("up/write", Profile(tools=True, context_tokens=32000))
    free = Prices({"up/small": Price(0.0, 0.0), "up/write": Price(0.0, 0.0)})
    card = card_of(Mixture([[small]], Mixture([[small]], write)), free)
    assert (card.context_tokens, card.tools) == (32000, True)
    assert openai_fields(card, priced=True)["pricing"] == {"prompt": "0", "completion": "0"}


def test_unknown_facts_are_left_out() -> None:
    """An unknown size or price has no field."""
    fields = openai_fields(card_of(Mixture([], Member("nobody/knows")), Prices()), priced=True)
    assert not {"context_length", "max_model_len", "max_output_tokens", "pricing"} & set(fields)


async def rows(http: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None = None) -> object:
    async with http.get(url, headers=headers) as response:
        assert response.status == 200
        return await response.json()


async def test_each_client_gets_the_list_in_its_own_form(http: aiohttp.ClientSession, server: Served) -> None:
    """Codex gets an empty list, for it has a form of its own; prices are on every row or on none."""
    listed = await rows(http, f"{server.url}/models")
    assert isinstance(listed, dict)
    assert {row["name"] for row in listed["data"]} >= {"moa/trio", "moa/shown"}
    assert not any("pricing" in row for row in listed["data"])
    assert await rows(http, f"{server.url}/models?client_version=0.169.0") == {"models": []}


@needs("anthropic", install="uv sync --extra vendors")
async def test_the_sdk_of_anthropic_lists_and_gets_models(server: Served) -> None:
    """Mixtures have names that begin with ``claude-moa-``, for Claude Code lists no others."""
    import anthropic

    async with anthropic.AsyncAnthropic(base_url=server.origin, api_key="none") as client:
        page = await client.models.list()
        assert "claude-moa-trio" in [model.id for model in page.data]
        model = await client.models.retrieve("claude-moa-trio")
    assert (model.display_name, model.type) == ("moa/trio", "model")
