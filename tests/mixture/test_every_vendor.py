"""A mixture of every vendor, each as strict as it is, answers a request that suits none of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from moa import Mixture, Scripted
from moa.models.endpoint import Endpoint
from moa.models.profile import Profile
from moa.models.profiles import FACTS
from tests.fakes.strict_vendors import VENDORS, Vendor
from tests.fakes.upstream import Body, Script, Upstream, call_tool

pytestmark = pytest.mark.anyio

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
REQUEST: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is on it?"}, IMAGE]},
        {
            "role": "assistant",
            "content": "A bird.",
            "reasoning_content": "Feathers.",
            "refusal": None,
            "annotations": [],
        },
        {"role": "user", "content": "Look again."},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "A blue bird."},
        {"role": "assistant", "content": "It is blue."},
        {"role": "user", "content": "Which kind?"},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}],
    "store": False,
    "metadata": {"project": "birds"},
    "reasoning_effort": "low",
    "temperature": 0.3,
    "max_tokens": 500,
    "prompt_cache_key": "k",
    "user": "ann",
    "frequency_penalty": None,
}


def known(vendor: Vendor) -> Profile:
    """What the table says of the vendor's model."""
    profile = Profile()
    for facts in FACTS:
        if facts.place == vendor.name and facts.hold_for(vendor.model):
            profile = profile.merged(facts.profile)
    return profile


def seats(upstream: Upstream, *, knowing: bool) -> list[Any]:
    """A model of each vendor, and of each a second sample, which gets a seed."""
    for vendor in VENDORS:
        upstream.script(vendor.model, vendor.script)
    profiles = {vendor.model: known(vendor) if knowing else Profile() for vendor in VENDORS}
    return [
        Endpoint(vendor.name, upstream.base_url, profile_of=profiles.__getitem__).model(vendor.model)
        for vendor in VENDORS
    ]


@pytest.mark.parametrize("knowing", [True, False])
async def test_a_mixture_of_every_vendor_answers(upstream: Upstream, knowing: bool) -> None:
    """Every proposer gives its proposal, whether the table knows its vendor or only its refusals tell."""
    models = seats(upstream, knowing=knowing)
    answer = await Mixture([[*models, *models]], models[0]).answer(copy.deepcopy(REQUEST))
    assert answer.text == "From openai."
    assert len(answer.proposals) == 2 * len(models)
    again = len(upstream.requests)
    await Mixture([models], models[0]).answer(copy.deepcopy(REQUEST))
    assert len(upstream.requests) - again == len(models) + 1  # nothing is refused twice


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
@pytest.mark.parametrize("knowing", [True, False])
async def test_every_vendor_can_answer_as_the_aggregator(upstream: Upstream, vendor: Vendor, knowing: bool) -> None:
    """With the whole of the caller's request, its tools included; no instruction and no tool result is lost."""
    model = seats(upstream, knowing=knowing)[VENDORS.index(vendor)]
    answer = await Mixture([[model]], model).answer(copy.deepcopy(REQUEST))
    assert answer.text == f"From {vendor.name}."
    accepted = str(upstream.requests[-1].body)
    assert all(words in accepted for words in ("Be brief.", "A blue bird.", "Which kind?", "'tools'"))


async def test_what_the_table_knows_saves_refused_calls(upstream: Upstream) -> None:
    """The same mixture needs far fewer calls where its vendors are known."""
    calls = []
    for knowing in (True, False):
        before = len(upstream.requests)
        models = seats(upstream, knowing=knowing)
        await Mixture([models], models[0]).answer(copy.deepcopy(REQUEST))
        calls.append(len(upstream.requests) - before)
    assert calls[0] < calls[1] * 0.8


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
@pytest.mark.parametrize("knowing", [True, False])
async def test_every_vendor_can_ask_the_proposers(upstream: Upstream, vendor: Vendor, knowing: bool) -> None:
    """It takes the private tool beside the caller's, and its own call with the proposals as the result."""

    def script(body: Body) -> Script:
        if [*vendor.faults(body)] or "response 1" in str(body) or "deliberate" not in str(body):
            return vendor.script(body)
        return call_tool("deliberate", {"question": "Which?"}, call_id="call_2")

    model = seats(upstream, knowing=knowing)[VENDORS.index(vendor)]
    upstream.script(vendor.model, script)
    member = Scripted("A jay.", name="x/jay")
    await Mixture([[model]], model).answer(copy.deepcopy(REQUEST))  # learns what the vendor takes, by its refusals
    answer = await Mixture([[member]], model, when="tool").answer(copy.deepcopy(REQUEST))
    assert (answer.text, len(answer.proposals)) == (f"From {vendor.name}.", 1)
    assert "A jay." in str(upstream.requests[-1].body) and not answer.tool_calls
