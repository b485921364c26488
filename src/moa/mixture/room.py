"""Requests that fit their model's context: references that would not fit are shortened, the longest first, and marked.

Notable decisions:
- The size of a context is what the model's profile says, or the price list. Where both are silent, or wrong, the server's
  refusal says it: the same call is made again with shorter references, and costs nothing until it is accepted.
- Only references are shortened. The caller's conversation is never touched: a model that cannot hold it is not called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from moa.answers import CHARACTERS_PER_TOKEN
from moa.errors import CallRejected
from moa.messages import Reference, Request
from moa.mixture.continuation import MakeRequest
from moa.models import Model, traits_of
from moa.models.fitting import TOKEN_LIMITS, prompt_tokens, text_tokens
from moa.prices import context_window

MOST_REFUSALS = 3
"""The most calls that are made again with shorter references."""

ANSWER = 4096
"""Tokens that are kept for an answer without a ``max_tokens``, but never more than a quarter of the context."""

_SURELY = 0.8
"""An estimate of a prompt may be so much too high; below it, the server decides."""


def listed_context(model: Model) -> int | None:
    """Tokens of a model's context from the price list; None for a mixture, or where the list does not have it."""
    return None if traits_of(model).composite else context_window(model.name)


class Room:
    """Makes an agent's requests, short enough for its model.

    Args:
        make_request: makes a request from references.
        listed: the tokens of a model's context from the price list, looked up for long prompts only.
        notice: takes a remark for the user, once; the answer is degraded by what it says.
    """

    def __init__(
        self,
        make_request: MakeRequest,
        model: Model,
        listed: Callable[[Model], int | None],
        notice: Callable[[str], None],
    ) -> None:
        self._make_request, self._model, self._listed, self._notice = make_request, model, listed, notice
        self._refused: int | None = None
        self._refusals = 0
        self._noticed = False

    def __call__(self, references: Sequence[Reference], closing: str) -> Request:
        """A request that shows these references, shortened where they would not fit.

        Raises:
            CallRejected: the request does not fit even without any reference.
        """
        request = self._make_request(references, closing)
        tokens = prompt_tokens(request)
        size = self._size(request, tokens)
        if size is None or tokens <= size:
            return request
        bare, context = self._make_request((), closing), self._context(tokens)
        if context is not None and prompt_tokens(bare) * _SURELY > context:
            error = CallRejected(
                self._model.name,
                f"its context of {context:,} tokens cannot hold the request (about {tokens:,} tokens)",
                status=400,
            )
            error.code = "context_length_exceeded"
            raise error
        emptied = [replace(reference, text="") for reference in references]
        shorter = shortened(references, size - prompt_tokens(self._make_request(emptied, closing)))
        cut = sum(one.text != other.text for one, other in zip(references, shorter, strict=False))
        if not self._noticed and references:
            self._noticed = True
            how = f"{cut} of {len(references)} proposals shortened" if shorter else "no proposal"
            self._notice(f"read {how}: the context of {self._model.name} is too small for all of them")
        return self._make_request(shorter, closing) if shorter else bare

    def whole(self, references: Sequence[Reference]) -> int:
        """How many of the references, from the first, a request can show whole, as far as the context's size is known."""
        for count in range(len(references), 0, -1):
            if self.fits(self._make_request(references[:count], "")):
                return count
        return 0

    def surely_holds(self, characters: int) -> bool:
        """Whether the model can hold so many characters, counted without looking at them, or its context is unknown."""
        context = self._context(characters // CHARACTERS_PER_TOKEN)
        return context is None or characters <= context // 2  # no text has more tokens than characters

    def fits(self, request: Request) -> bool:
        """Whether the model can hold a request and an answer to it, as far as that is known."""
        tokens = prompt_tokens(request)
        size = self._size(request, tokens)
        return size is None or tokens <= size

    def refused(self, request: Request) -> bool:
        """The model refused this request because it is too long. Whether a shorter one can be made."""
        self._refusals += 1
        tokens = prompt_tokens(request)
        last = self._refusals >= MOST_REFUSALS  # no reference at all is better than no answer
        self._refused = 1 if last else round(min(tokens, self._refused or tokens) * 0.5)
        without = prompt_tokens(self._make_request((), ""))
        return self._refusals <= MOST_REFUSALS and tokens > without * 1.05

    def _context(self, tokens: int) -> int | None:
        known = traits_of(self._model).profile.context_tokens
        return known or (self._listed(self._model) if tokens > 3000 else None)

    def _size(self, request: Request, tokens: int) -> int | None:
        """Tokens that the prompt of a request of so many tokens may have; None where that is unknown."""
        context = self._context(tokens)
        if context is None:
            return self._refused
        limits = [request.body.get(name) for name in TOKEN_LIMITS]
        answer = max((limit for limit in limits if isinstance(limit, int)), default=0)
        size = context - (min(answer, context // 2) or min(ANSWER, context // 4))
        return min(size, self._refused or size)


def shortened(references: Sequence[Reference], tokens: int) -> list[Reference]:
    """The references with together at most so many tokens, as estimated: the longest are shortened first, to one length.

    A shortened text keeps its beginning and its end, with a mark between them. Empty where there is room for no more than a
    few words of each.
    """
    sizes = [text_tokens(reference.text) for reference in references]
    room, cap = tokens, 0
    for place, size in enumerate(sorted(sizes)):
        cap = room // (len(sizes) - place)
        if size > cap:
            break
        room -= size
        cap = size
    if cap < LEAST and cap < max(sizes, default=0):
        return []
    return [
        reference if size <= cap else replace(reference, text=_without_middle(reference.text, cap / size))
        for reference, size in zip(references, sizes, strict=True)
    ]


LEAST = 24
"""Tokens below which a shortened reference says nothing."""


def _without_middle(text: str, share: float) -> str:
    """The beginning and the end of a text, and between them a mark; together about this share of it."""
    kept = max(0, int(len(text) * share) - 50)
    head = kept * 2 // 3
    tail = kept - head
    return f"{text[:head]}\n[… {len(text) - kept:,} characters left out …]\n{text[len(text) - tail :]}"
