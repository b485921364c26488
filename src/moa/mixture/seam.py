"""The seam between two pieces of one text: no text repeated, no space lost or doubled, no word broken.

An agent that writes in pieces stops at the end of a word. The model that continues may repeat the last words, repeat the
whole text, or start over with another text. The seam holds back the beginning of each new piece, a few words at most, until
it is clear which of these it is.
"""

from __future__ import annotations

import re

LOOK_BACK = 240
"""Characters before a seam that are searched for an overlap."""

SHORTEST = 16
"""Least characters of an overlap. Anything shorter may be a word that happens to stand twice."""


class Restarted(Exception):
    """The model started over with a different text, which cannot be joined with the text so far."""


class Seam:
    """One text, written in pieces. Feed it the model's text, and publish what it returns::

    seam.join(exact=False)
    seam.feed("The sky is bl", whole_words=True)    # "The sky is": the last word may be incomplete
    seam.join(exact=False)                          # "bl" is discarded
    seam.feed("blue.", whole_words=True)            # "": it may be the first word of an overlap, or of a restart
    seam.end()                                      # " blue."
    """

    def __init__(self) -> None:
        self._exact = True
        self._pieces: list[str] = []
        self._held = ""
        self._gap = ""
        self._joining = False

    @property
    def text(self) -> str:
        """The text published so far."""
        return "".join(self._pieces)

    def join(self, *, exact: bool) -> None:
        """Start a new piece. Text still held back from the previous piece (trailing space, partial word) is discarded.

        Args:
            exact: the model was given the text so far as its own and continues it character by character. Otherwise the
                seam adds the space that is missing between the pieces.
        """
        self._exact = exact
        self._gap = self._held[: len(self._held) - len(self._held.lstrip())]
        self._held = ""
        self._joining = bool(self._pieces)

    def feed(self, text: str, *, whole_words: bool) -> str:
        """Take the next text of the piece, and return the text that can be published now.

        Args:
            whole_words: hold back the last word, since the piece may be stopped at any time.

        Raises:
            Restarted: the piece does not continue the text.
        """
        self._held += text
        if self._joining and not self._join(final=False):
            return ""
        return self._publish(self._whole_words() if whole_words else len(self._held))

    def end(self) -> str:
        """Return the rest of the text, once the model has ended it.

        Raises:
            Restarted: the piece does not continue the text.
        """
        if self._joining:
            self._join(final=True)
        return self._publish(len(self._held))

    def _publish(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        if text:
            self._pieces.append(text)
        return text

    def _whole_words(self) -> int:
        r"""How many of the held characters are whole words.

        The white space behind the last whole word is not counted, nor is the marker of a list item without its text:
        ``"One two thr"`` counts ``"One two"``, and ``"One two\n- thr"`` too.
        """
        tail = re.search(r"(?:\s*\n\s*(?:[-*+>#]+|\d+[.)])[^\S\n]+\S*|\s+\S*)\Z", self._held)
        return tail.start() if tail else 0

    def _join(self, *, final: bool) -> bool:
        """Replace the held text by its part that is new. False while that is unclear."""
        rest = self._new_text(self.text, self._held.lstrip(), final=final)
        if rest is None:
            return False
        self._held, self._joining = rest, False
        return True

    def _new_text(self, before: str, piece: str, *, final: bool) -> str | None:
        r"""What ``piece``, the beginning of a new piece, adds to ``before``; None while that is unclear; or Restarted.

        With ``before = "The sky is blue because of the air."`` the rules are, in this order:

        1. A piece that is still empty, or only repeats the beginning, is unclear: ``"The sky is"``.
        2. A piece that repeats the beginning and then differs is a restart: ``"The sky is blue because of water"``.
           A piece that repeats all of it adds the rest: ``"The sky is blue because of the air. So"`` adds ``" So"``.
        3. A piece that may become an overlap with the end is unclear: ``"because"``.
           An overlap is removed: ``"because of the air. So"`` adds ``" So"``.
        4. Inside a block of code, the line that opens the block a second time is removed: a new ``"```python\nx"`` adds
           ``"\nx"``. Until its line break arrives, it is unclear.
        5. Any other piece is new: ``"So"`` adds ``" So"``.

        A repetition counts from :data:`SHORTEST` characters. A ``final`` piece is complete, so none is unclear.
        """
        start = before.lstrip()
        shared = _shared(piece, start)
        if not final and (not piece or shared == len(piece) < len(start)):
            return None
        if shared >= SHORTEST:
            if shared < min(len(piece), len(start)):
                raise Restarted
            return piece[len(start) :]
        overlaps = _overlaps(before[-LOOK_BACK:], piece)
        if not final and any(overlap > len(piece) for overlap in overlaps):
            return None
        longest = max((overlap for overlap in overlaps if SHORTEST <= overlap <= len(piece)), default=0)
        if longest:
            return piece[longest:]
        if opening := _reopened_fence(before, piece):
            return "\n" + piece[len(opening) :] if final or "\n" in piece else None
        return self._spaced(before, piece)

    def _spaced(self, before: str, piece: str) -> str:
        """The held text, with the space or line break that the previous piece ended on where the new one has none."""
        if self._exact or not piece or self._held[:1].isspace() or before[-1].isspace():
            return self._held
        if re.match(r"[.,;:!?)\]}»”’%]", piece):
            return self._held
        return (self._gap or " ") + self._held


def _shared(one: str, other: str) -> int:
    """The length of the common beginning of two texts."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _overlaps(tail: str, piece: str) -> list[int]:
    """The length of each end of ``tail`` with which ``piece`` begins, or would begin if it were longer.

    ``_overlaps("of the air", "the a")`` is ``[7]``: ``"the air"`` may follow.
    """
    ends = (tail[at:] for at in range(len(tail)))
    return [len(end) for end in ends if (piece.startswith(end) if len(end) <= len(piece) else end.startswith(piece))]


def _reopened_fence(before: str, piece: str) -> str:
    """The line with which a piece opens a block of code inside an open block of code, or an empty text."""
    inside = sum(line.lstrip().startswith("```") for line in before.splitlines()) % 2
    opening = re.match(r"```[\w+-]+[^\S\n]*(\n|\Z)", piece)
    return opening[0] if inside and opening else ""
