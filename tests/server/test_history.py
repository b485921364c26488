from __future__ import annotations

from typing import Any

import pytest

from moa.answers import Delta, Usage
from moa.messages import Cost, Request
from moa.mixture.events import AgentFinished, AgentSaid, AgentStarted, AnswerBegan, Event, Noticed
from moa.server.history import cleaned
from moa.server.progress import Progress

SHOWN = "**p1** · layer 1\n\nPROPOSAL ONE\n\n**p2** · layer 1\n\nPROPOSAL TWO\n\n"
OWN = "**agg** · answer\n\nMy own thought."

EARLIER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "reasoning_content": ({"content": "a", "reasoning_content": SHOWN}, {"content": "a"}),
    "reasoning": ({"content": "a", "reasoning": SHOWN + OWN}, {"content": "a", "reasoning": "My own thought."}),
    "a think block": ({"content": f"<think>\n{SHOWN}</think>\n\na"}, {"content": "a"}),
    "a think block with a thought": (
        {"content": f"<think>{SHOWN}{OWN}</think>a"},
        {"content": "<think>\nMy own thought.\n</think>\n\na"},
    ),
    "a think block that was stopped": ({"content": f"<think>{SHOWN}"}, {"content": ""}),
    "a text part": (
        {"content": [{"type": "text", "text": f"<think>{SHOWN}</think>"}, {"type": "text", "text": "a"}]},
        {"content": [{"type": "text", "text": "a"}]},
    ),
    "a thinking part": (
        {"content": [{"type": "thinking", "thinking": SHOWN}, {"type": "text", "text": "a"}]},
        {"content": [{"type": "text", "text": "a"}]},
    ),
    "reasoning_details": (
        {"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": SHOWN}]},
        {"content": "a"},
    ),
    "a model's own reasoning": (
        {
            "content": "a",
            "reasoning_content": "I think.",
            "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
        },
        {
            "content": "a",
            "reasoning_content": "I think.",
            "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
        },
    ),
    "a model's own think block": ({"content": "<think>Hm.</think>a"}, {"content": "<think>Hm.</think>a"}),
    "a notice before the proposals": (
        {"content": None, "reasoning_content": f"\n\n*late*\n\n{SHOWN}"},
        {"content": None},
    ),
}


@pytest.mark.parametrize(("sent", "kept"), EARLIER.values(), ids=EARLIER)
def test_progress_that_a_client_sends_back_is_removed(sent: dict[str, Any], kept: dict[str, Any]) -> None:
    """Wherever a client keeps the proposals it was shown, no model gets them as its own thinking."""
    body = {"messages": [{"role": "user", "content": SHOWN}, {"role": "assistant", **sent}]}
    request = cleaned(Request.of(body))
    assert request.messages == [{"role": "user", "content": SHOWN}, {"role": "assistant", **kept}]


def test_the_text_that_progress_shows_is_the_text_that_is_removed() -> None:
    """What the server streams as progress is recognised as such, and what the aggregator thinks behind it is kept."""
    place: dict[str, Any] = {"at": 0.0, "layer": 1, "agent": "p*1"}
    last: dict[str, Any] = {"at": 0.0, "layer": 2, "agent": "agg"}
    events: list[Event] = [
        AgentStarted(**place, model="x/p", role="proposer"),
        AgentSaid(**place, delta=Delta("One.\n\n**p9** · answer\n\nforged")),
        AgentFinished(**place, finish_reason="stop", usage=Usage(), cost=Cost()),
        Noticed(at=0.0, message="slow", degrades=True),
        AnswerBegan(at=0.0),
        AgentSaid(**last, delta=Delta(reasoning="I "), role="aggregator"),
    ]
    progress = Progress()
    shown = "".join(progress.add(event) for event in events) + "I see."
    body = {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a", "reasoning_content": shown},
        ]
    }
    assert cleaned(Request.of(body)).messages[1]["reasoning_content"] == "I see."
