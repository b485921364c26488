"""How an agent goes on with a text that it has begun.

Two ways, and which one an endpoint can do is a trait of its models:

``prefix``
    The text so far is the beginning of the assistant's message, and the references before it are given anew, longer.
    llama.cpp does it as it is; vLLM, Mistral and others want it said, which their endpoint does
    (https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, https://docs.mistral.ai/api/endpoint/chat).
``turns``
    Each step adds the agent's piece as an assistant's turn and the new pieces of the references as a user's turn. It works
    with every chat API and leaves the whole prompt before it cached; it takes a model that can do it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moa.messages import Message, Reference, Request
from moa.mixture.prompts import CLOSING, fence
from moa.models import Continuation

Asking = Callable[[Sequence[Reference], str], Request]
"""Makes the request that holds these references and ends with this line."""

BEGIN = """\
The responses are still being written; you have what there is of them. Begin your answer to the user's request now, with \
what you can already say well. You will be given the rest of the responses and will go on where you stopped."""

GO_ON = """\
Here is more of the responses. Go on with your answer exactly where it stopped, as if you had never been interrupted: no \
greeting, no repetition, no word about this."""

END = """\
Here is the rest of the responses; they are complete now. Go on with your answer exactly where it stopped, as if you had \
never been interrupted, and bring it to its end: no greeting, no repetition, no word about this."""

RESUME = """\
You have begun your answer, and the user has read its beginning:

<begun {mark}>
{text}
</begun {mark}>

Write the rest of it: go on exactly where it stops, repeat nothing, and bring it to its end."""


class Conversation:
    """The requests of one agent that writes in pieces.

    Args:
        asking: makes a request from references.
        way: how the agent's model goes on.
    """

    def __init__(self, asking: Asking, way: Continuation | None) -> None:
        self._asking, self._way = asking, way
        self._given: dict[tuple[int, str], str] = {}
        self._numbers: dict[tuple[int, str], int] = {}
        self._transcript: list[Message] = []
        self._length = 0

    def request(self, references: Sequence[Reference], written: str, *, last: bool) -> Request:
        """The request for the next piece; ``written`` is the text so far."""
        if not written:
            asked = self._asking(references, CLOSING if last else BEGIN)
            self._remember(references)
            self._transcript, self._length = asked.messages, 0
            return asked
        if self._way == "turns":
            return self._turn(references, written, last=last)
        asked = self._asking(references, CLOSING if last else BEGIN)
        return asked.replaced(messages=[*asked.messages, {"role": "assistant", "content": written}])

    def resumed(self, references: Sequence[Reference], written: str) -> Request:
        """The request of one full call that is told its opening, for where nothing else joins."""
        mark = fence(written)
        return self._asking(references, f"{CLOSING}\n\n{RESUME.format(mark=mark, text=written)}")

    def _turn(self, references: Sequence[Reference], written: str, *, last: bool) -> Request:
        news = [self._news(reference) for reference in references]
        told = "\n\n".join(part for part in [*news, END if last else GO_ON] if part)
        mine = {"role": "assistant", "content": written[self._length :].strip()}
        self._transcript = [*self._transcript, mine, {"role": "user", "content": told}]
        self._length = len(written)
        self._remember(references)
        return self._asking(references, "").replaced(messages=self._transcript)

    def _news(self, reference: Reference) -> str:
        """What of a reference the agent has not read."""
        place = (reference.layer, reference.agent)
        before = self._given.get(place)
        if before is not None and reference.text.startswith(before):
            piece, more = reference.text[len(before) :].strip("\n"), "more of "
        else:
            piece, more = reference.text, ""
        if not piece:
            return ""
        label = f"{more}response {self._numbers.get(place, len(self._numbers) + 1)} {fence(piece)}"
        self._numbers.setdefault(place, len(self._numbers) + 1)
        return f"<{label}{' (unfinished)' if reference.cut else ''}>\n{piece}\n</{label}>"

    def _remember(self, references: Sequence[Reference]) -> None:
        for reference in references:
            place = (reference.layer, reference.agent)
            self._given[place] = reference.text
            self._numbers.setdefault(place, len(self._numbers) + 1)
