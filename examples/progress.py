"""Show progress while a mixture answers: a function receives every event.

uv run python examples/progress.py "Name a fruit."
"""

import sys

from moa import Mixture
from moa.events import AgentFailed, AgentFinished, AgentStarted, Event, Selected


def show(event: Event) -> None:
    match event:
        case AgentStarted():
            print(f"{event.agent} ({event.model}) has started")
        case AgentFinished():
            print(f"{event.agent} is done: {event.usage.output_tokens} tokens, {event.cost}")
        case AgentFailed():
            print(f"{event.agent} failed: {event.error}")
        case Selected():
            print(f"the answer is {event.agent}'s: {event.reason}")


mixture = Mixture([["local/smollm2"] * 3], aggregate="central")
print(mixture.ask(" ".join(sys.argv[1:]) or "Name a fruit.", on_event=show, temperature=0.7, max_tokens=16))
