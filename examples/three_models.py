"""Three samples of a model on this machine; the answer is the one most like the others. Prints events as they happen.

uv run python examples/three_models.py "Name three fruits."
"""

import asyncio
import sys

from moa import Agent, EmbeddedModel, Mixture
from moa.events import AgentFinished, Selected


async def main(question: str) -> None:
    async with EmbeddedModel("smollm2") as model:
        samples = [
            Agent(model, name, sampling={"temperature": 0.7, "max_tokens": 40}) for name in ("ann", "ben", "cat")
        ]
        async with Mixture([samples], aggregate="central").run(question) as run:
            async for event in run:
                match event:
                    case AgentFinished():
                        print(f"{event.agent} is done: {event.usage.output_tokens} tokens")
                    case Selected():
                        print(f"\nthe answer is {event.agent}'s, {event.reason}:\n{event.text}")
        print(f"\n{run.answer.usage}")


asyncio.run(main(" ".join(sys.argv[1:]) or "Name three fruits."))
