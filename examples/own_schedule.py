"""A custom schedule: continue with the first two proposals, and cancel the calls that are slower.

uv run python examples/own_schedule.py
"""

from collections.abc import AsyncGenerator, Sequence

from moa import EmbeddedModel, Mixture
from moa.schedules import Draft, GiveUp, Reading, references_of, until


class FirstTwo:
    """Wait for two usable proposals."""

    async def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        drafts = layers[-1]
        await until(drafts, lambda: sum(draft.usable for draft in drafts) >= 2)
        for draft in drafts:
            give_up(draft, "two others were faster")
        yield Reading(references_of(drafts))


model = EmbeddedModel("smollm2")
lengths = {"brief": 8, "short": 16, "long": 2000}
layer = [{"model": model, "name": name, "max_tokens": tokens} for name, tokens in lengths.items()]
answer = Mixture([layer], aggregate="central", schedule=FirstTwo()).ask("Write a story without an end.")
print(f"{[call.agent for call in answer.proposals]}, and {answer.degraded}")
