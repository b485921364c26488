"""How an agent continues a text that it has begun.

There are two ways. Which of them works is a trait of each model (:class:`moa.models.Traits`):

``prefix``
    The text so far is the beginning of the assistant's message, and the references before it are given again, longer.
    llama.cpp supports this without a flag; vLLM, Mistral and others need a field in the body, which their endpoint adds
    (https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, https://docs.mistral.ai/api/endpoint/chat).
``turns``
    Each step appends the agent's piece as an assistant's turn, and the new parts of the references as a user's turn. This
    works with every chat API and keeps the whole earlier prompt cached, but the model must be able to follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moa.messages import Message, Reference, Request
from moa.mixture.fences import fence, key_of
from moa.mixture.prompts import CLOSING
from moa.models import Continuation

MakeRequest = Callable[[Sequence[Reference], str], Request]
"""Makes a request that shows these references and ends with this line."""

BEGIN = """\
The responses are still being written; you have what there is of them. Begin your answer to the user's request now, with \
what you can already say well. You will be given the rest of the responses and will go on where you stopped."""

GO_ON = """\
Here is more of the responses. Go on with your answer exactly where it stopped, as if you had never been interrupted: no \
greeting, no repetition, no word about this."""

END = """\
Here is the rest of the responses; they are complete now. Go on with your answer exactly where it stopped, as if you had \
never been interrupted, and bring it to its end: no greeting, no repetition, no word about this."""

ADD = """\
Here is the rest of the responses; they are complete now. If your answer lacks something that they say, go on with it where \
it stopped: no greeting, no repetition, no word about this. If it lacks nothing, reply with an empty message."""

RESUME = """\
You have begun your answer, and the user has read its beginning:

<begun {mark}>
{text}
</begun {mark}>

{closing}"""

TO_THE_END = "Write the rest of it: go on exactly where it stops, repeat nothing, and bring it to its end."

A_PIECE = """\
The responses are still being written. Go on exactly where it stops and repeat nothing; you will be given the rest of the \
responses."""

ONLY_MORE = """\
If it lacks something that the responses say, go on with it where it stops and repeat nothing. If it lacks nothing, reply \
with an empty message."""


class Conversation:
    """The requests of one agent that writes in pieces.

    Args:
        make_request: makes a request from references.
        way: how the agent's model continues a text; None if it cannot.
        fits: whether the model can hold a request. A conversation in turns that it cannot hold begins anew, with the text so
            far quoted.
    """

    def __init__(
        self,
        make_request: MakeRequest,
        way: Continuation | None,
        fits: Callable[[Request], bool] = lambda request: True,
    ) -> None:
        self._make_request, self.way, self._fits = make_request, way, fits
        self._shown: dict[tuple[int, str], str] = {}
        self._numbers: dict[tuple[int, str], int] = {}
        self._transcript: list[Message] = []
        self._length = 0
        self._key = key_of(())

    def request(self, references: Sequence[Reference], written: str, *, last: bool, ended: bool = False) -> Request:
        """The request for the next piece.

        Args:
            written: the agent's text so far.
            last: whether the agent is to write its text to the end.
            ended: whether the agent has ended its text already, on references that were still growing.
        """
        if not written:
            request = self._make_request(references, CLOSING if last else BEGIN)
            self._key = key_of(request.messages)
            return self._begun(request, references, written)
        if self.way == "turns":
            request = self._turn(references, written, ADD if ended else END if last else GO_ON)
            if self._fits(request):
                return request
            closing = ONLY_MORE if ended else TO_THE_END if last else A_PIECE
            return self._begun(self.resumed(references, written, closing), references, written)
        request = self._make_request(references, CLOSING if last else BEGIN)
        return request.replaced(messages=[*request.messages, {"role": "assistant", "content": written}])

    def resumed(self, references: Sequence[Reference], written: str, closing: str = TO_THE_END) -> Request:
        """The request for a full restart that includes the text written so far; used when continuing failed."""
        mark = fence(written, self._key)
        return self._make_request(references, f"{CLOSING}\n\n{RESUME.format(mark=mark, text=written, closing=closing)}")

    def _begun(self, request: Request, references: Sequence[Reference], written: str) -> Request:
        """The request, which later turns are appended to."""
        self._transcript, self._length = request.messages, len(written)
        self._remember(references)
        return request

    def _turn(self, references: Sequence[Reference], written: str, closing: str) -> Request:
        parts = [*(self._new_part(reference) for reference in references), closing]
        piece = {"role": "assistant", "content": written[self._length :].strip()}
        news = {"role": "user", "content": "\n\n".join(part for part in parts if part)}
        self._transcript = [*self._transcript, piece, news]
        self._length = len(written)
        self._remember(references)
        return self._make_request(references, "").replaced(messages=self._transcript)

    def _new_part(self, reference: Reference) -> str:
        """The part of a reference that the agent has not read, in a tag; empty if there is none.

        A reference that has grown gives the part that it grew by; one that is new or has changed gives its whole text.
        """
        place = (reference.layer, reference.agent)
        before = self._shown.get(place)
        if before is not None and reference.text.startswith(before):
            piece, more = reference.text[len(before) :].strip("\n"), "more of "
        else:
            piece, more = reference.text, ""
        if not piece:
            return ""
        label = f"{more}response {self._number(place)} {fence(piece, self._key)}"
        return f"<{label}{' (unfinished)' if reference.cut else ''}>\n{piece}\n</{label}>"

    def _number(self, place: tuple[int, str]) -> int:
        """The number of a reference: the same in every turn, counting from 1 in the order in which they first appear."""
        return self._numbers.setdefault(place, len(self._numbers) + 1)

    def _remember(self, references: Sequence[Reference]) -> None:
        for reference in references:
            place = (reference.layer, reference.agent)
            self._shown[place] = reference.text
            self._number(place)
