"""Custom models: one looks up notes before it answers, one is a plain function.

uv run python examples/own_model.py
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from moa import Delta, EmbeddedModel, Function, Mixture, Model, Request, text_of, with_text

NOTES = ["The Moon is 384,400 km away.", "Bees dance to show each other where flowers are."]


def notes_on(request: Request) -> str:
    """The notes that share a long word with the question."""
    words = [word.strip("?.,") for word in text_of(request.messages[-1]).lower().split() if len(word) > 3]
    return "\n".join(note for note in NOTES if any(word in note.lower() for word in words))


class WithNotes:
    """Any model, with the notes on the question added to its prompt."""

    def __init__(self, model: Model) -> None:
        self.name, self.model = "mine/with-notes", model

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        *before, question = request.messages
        question = with_text(question, f"Notes:\n{notes_on(request)}")
        async with aclosing(self.model.stream(request.replaced(messages=[*before, question]))) as deltas:
            async for delta in deltas:
                yield delta


model = EmbeddedModel("smollm2")
mixture = Mixture([[WithNotes(model), Function(notes_on)]], model)
answer = mixture.ask("How far away is the Moon?", max_tokens=16)
for call in answer.calls:
    print(f"{call.agent}: {call.text}")
