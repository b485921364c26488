"""What each agent of a mixture is sent."""

from __future__ import annotations

import pytest

from moa import Agent, Mixture
from tests.mixture.panels import BODY, model, prompt_of

pytestmark = pytest.mark.anyio


async def test_the_whole_request_reaches_the_aggregator() -> None:
    """Sampling, tools, response format, history, images and vendor fields arrive; the caller's override the agent's."""
    last = model("{}", "scripted/last")
    await Mixture(
        [[model("p")]], Agent(last, sampling={"temperature": 0.9, "max_completion_tokens": 9, "top_p": 0.5})
    ).answer(BODY)
    body = last.requests[0].body
    for field in ("temperature", "max_tokens", "stop", "response_format", "tools", "vendor_field"):
        assert body[field] == BODY[field]
    assert body["top_p"] == 0.5
    assert "max_completion_tokens" not in body
    assert body["messages"][:3] == BODY["messages"][:3]
    assert body["messages"][3]["content"][:2] == BODY["messages"][3]["content"]


async def test_a_proposer_gets_the_conversation_and_its_own_sampling_overrides() -> None:
    """History, images and sampling reach proposers; tools reach them in words; stop and response format do not."""
    proposer = model("p")
    await Mixture(
        [[Agent(proposer, sampling={"temperature": 0.9, "max_completion_tokens": 9})]], model("x", "scripted/l")
    ).answer(BODY)
    body = proposer.requests[0].body
    assert body["messages"][1:] == BODY["messages"][1:]
    assert "vendor_field" not in body
    assert (body["temperature"], body["max_completion_tokens"]) == (0.9, 9)
    assert not {"max_tokens", "stop", "response_format", "tools"} & set(body)
    system = body["messages"][0]["content"]
    assert system.startswith("Be brief.")
    assert "- look(at): Looks it up." in system


async def test_personas_leave_the_beginning_of_a_prompt_unchanged() -> None:
    """A persona ends the last user message, behind the references; so agents of one model share all before it."""
    proposer, last = model("p"), model("x", "scripted/l")
    mixture = Mixture([[Agent(proposer, persona="Doubt everything.")]], Agent(last, persona="Be kind."))
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    await mixture.answer(history)
    await mixture.answer([*history, {"role": "assistant", "content": "So."}])
    first, second = (request.messages for request in proposer.requests)
    assert first[0] == history[0]
    assert first[1]["content"].startswith("Why?\n\n[") and first[1]["content"].endswith("\nDoubt everything.]")
    assert second[1] == first[1], "a persona stays with the user's message within a tool loop"
    sent = last.requests[0].messages
    assert sent[0] == history[0]
    assert sent[1]["content"].startswith("Why?\n\n") and sent[1]["content"].endswith("\nBe kind.]")


async def test_references_go_where_the_mixture_puts_them() -> None:
    """After the last user message, which leaves all before it unchanged; or in the system message, as in the paper."""
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    for place, at in (("user", 1), ("system", 0)):
        last = model("x", "scripted/l")
        await Mixture([[model("proposal")]], last, references=place, prompt="MERGE:").answer(history)  # type: ignore[arg-type]
        messages = last.requests[0].messages
        assert messages[1 - at] == history[1 - at]
        assert messages[at]["content"].startswith(history[at]["content"] + "\n\nMERGE:\n\n<response 1 ")


async def test_references_carry_names_only_on_request() -> None:
    """References are anonymous by default; with anonymous=False each carries its agent's name."""
    shown, hidden = model("x", "scripted/l"), model("x", "scripted/l")
    await Mixture([[model("p", "scripted/famous")]], shown, anonymous=False).answer("Why?")
    await Mixture([[model("p", "scripted/famous")]], hidden).answer("Why?")
    assert "by famous>" in prompt_of(shown)
    assert "famous" not in prompt_of(hidden)
