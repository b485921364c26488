"""The seam between two pieces of one text: no text repeated, no space lost or doubled, no word broken.

An agent that writes in pieces stops at the end of a word. The model that continues may repeat the last words, repeat the
whole text, or start over with another text. The seam holds back the beginning of each new piece, a few words at most, until
it is clear which of these it is. A text may also repeat itself: rows of a table, lines of code, a refrain. Where a
repetition may be the text's own, it stays.
"""

from __future__ import annotations

import re

from moa.answers import is_blank
from moa.mixture import words

LOOK_BACK = 240
"""Characters before a seam that are searched for an overlap."""

SHORTEST = 16
"""Least characters of an overlap. Anything shorter may be a word that happens to stand twice."""

SHORTEST_RESTART = 24
"""Least characters of a restart of a model that was given its own text, and so has little reason to start over."""

SHORTEST_REFRAIN = 64
"""Least characters of such a restart that repeats all of a text up to a space or line break: it may be a refrain."""

MOST_SPACE = 200
"""Characters of white space that are held back. A longer run is a flood, and is published."""

LONGEST_LINE = 100
"""Characters of whole lines that a text may repeat, as code, tables and verse do; more are a paragraph, or several lines."""

_MARKER = re.compile(r"[^\S\n]*(?:[-*+>#•]+|\d+[.)])")
_BLOCK = re.compile(r"#{1,6} |[-*+] |\d+[.)] |```|~~~|\||> ")
_FENCE = re.compile(r"[ \t]*(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)")
_REOPENED = re.compile(r"(?:`{3,}|~{3,})[\w+#.-]+[^\S\n]*(?:\n|\Z)")
_MAY_REOPEN = re.compile(r"(?:`+|~+)[\w+#.-]*[^\S\n]*")
_CLOSING = re.compile(r"[.,;:!?)\]}»”’%]")


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
        self._count = 0
        """Texts published before this piece."""
        self._held = self._gap = self._before = ""
        self._joining = self._may_restart = self._ended = self._after_end = False
        self._fed = 0
        """Characters that this piece has been fed."""

    @property
    def text(self) -> str:
        """The text published so far."""
        return "".join(self._pieces)

    def join(self, *, exact: bool) -> None:
        """Start a new piece. Text still held back from the previous piece (trailing space, partial word) is discarded.

        Args:
            exact: the model was given the text so far as its own and continues it character by character. The seam then
                looks for a restart from the beginning only. Otherwise it also looks for an overlap with the end, and adds
                the space that is missing between the pieces.
        """
        self._exact, self._before = exact, self.text
        if self._held or len(self._pieces) > self._count:  # an empty piece leaves the gap before it as it was
            self._gap = self._held[: len(self._held) - len(self._held.lstrip())]
        self._held = ""
        self._fed = 0
        self._joining = bool(self._before)
        self._after_end, self._ended = self._ended, False
        self._count = len(self._pieces)
        start, least = self._start, self._least
        self._may_restart = len(start) >= least and start[:least] not in (start + start[: least - 1])[1:]

    def feed(self, text: str, *, whole_words: bool) -> str:
        """Take the next text of the piece, and return the text that can be published now.

        Args:
            whole_words: hold back the last word, since the piece may be stopped at any time.

        Raises:
            Restarted: the piece does not continue the text.
        """
        self._held += text
        self._fed += len(text)
        if self._joining and not self._join(final=False):
            return ""
        return self._publish(self._whole_words() if whole_words else len(self._held))

    def end(self) -> str:
        """Return the rest of the text, once the model has ended it.

        Raises:
            Restarted: the piece does not continue the text.
        """
        if self._joining and is_blank(self._held):
            self._held = ""  # it says nothing, and leaves the gap before it as it was
        if self._joining:
            self._join(final=True)
        text = self._publish(len(self._held))
        self._ended = len(self._pieces) > self._count
        return text

    def forget_joints(self) -> None:
        """Treat the text so far as a single piece."""
        self._before, self._count, self._fed = "", 0, len(self.text) + len(self._held)

    def take_back(self, count: int) -> tuple[int, str]:
        """Remove the last ``count`` characters that this piece was fed: they are not a part of the text.

        Returns:
            How many characters of these were published, and those that were held back.
        """
        published = "".join(self._pieces[self._count :])
        if count >= self._fed:
            held, kept, self._joining = self._held, "", bool(self._before)
        else:
            held = self._held[max(0, len(self._held) - count) :]
            kept = published[: max(0, len(published) - (count - len(held)))]
        self._held = self._held[: len(self._held) - len(held)]
        self._fed = max(0, self._fed - count)
        self._pieces[self._count :] = [kept] if kept else []
        return len(published) - len(kept), held

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
        if len(self._held) > MOST_SPACE and self._held.isspace():
            return len(self._held)
        length = words.whole_words(self._held)
        line = self._held.rfind("\n", 0, length)
        if line >= 0 and _MARKER.fullmatch(self._held, line + 1, length):
            return len(self._held[:line].rstrip())
        return length

    # -- joining -----------------------------------------------------------------------------------------------------

    @property
    def _start(self) -> str:
        """The text before the seam, as a piece that starts over would repeat it."""
        return self._before if self._exact else self._before.lstrip()

    @property
    def _least(self) -> int:
        """Least characters of a restart."""
        return SHORTEST_RESTART if self._exact else SHORTEST

    def _join(self, *, final: bool) -> bool:
        """Replace the held text by its part that is new. False while that is unclear."""
        rest = self._new_text(self._held if self._exact else self._held.lstrip(), final=final)
        if rest is None:
            return False
        self._held, self._joining = rest, False
        return True

    def _new_text(self, piece: str, *, final: bool) -> str | None:
        r"""What ``piece``, the beginning of a new piece, adds to the text before; None while that is unclear; or Restarted.

        With the text ``"The sky is blue because of the air."`` the rules are, in this order:

        1. A piece that is still empty, or only repeats the beginning, is unclear: ``"The sky is"``.
        2. A piece that repeats the beginning and then differs is a restart: ``"The sky is blue because of water"``.
           A piece that repeats all of it adds the rest: ``"The sky is blue because of the air. So"`` adds ``" So"``.
        3. A piece that may become an overlap with the end is unclear: ``"because"``.
           An overlap is removed: ``"because of the air. So"`` adds ``" So"``.
        4. Inside a block of code, the line that opens the block a second time is removed: a new ``"```python\nx"`` adds
           ``"\nx"``. Until its line break arrives, it is unclear.
        5. Any other piece is new: ``"So"`` adds ``" So"``.

        A repetition counts from :data:`SHORTEST` characters, and only where it is not the text's own: a text that repeats
        its beginning, or its end, may do so again. After a text that its model had ended, a full repetition of any length
        counts. An exact piece follows the rules 1, 2 (from :data:`SHORTEST_RESTART` characters) and 5 alone. A ``final``
        piece is complete, so none is unclear.
        """
        if is_blank(piece) and not final and len(self._held) <= MOST_SPACE:
            return None
        start = self._start
        if (self._may_restart or self._after_end) and piece and start:
            if not final and len(piece) < len(start) + self._after_end and start.startswith(piece):
                return None
            rest = piece[len(start) :]
            if self._after_end and piece.startswith(start) and (words.unspaced(start[-1]) or not rest[:1].isalnum()):
                return rest
            shared = _shared(piece, start)
            if self._may_restart and shared >= self._least:
                if shared < min(len(piece), len(start)):
                    raise Restarted
                if not (self._exact and start[-1].isspace() and len(start) < SHORTEST_REFRAIN):
                    return piece[len(start) :]
        if self._exact:
            return self._held
        overlaps = [overlap for overlap in _overlaps(self._before[-LOOK_BACK:], piece) if self._is_long(overlap)]
        if not final and any(overlap >= len(piece) for overlap in overlaps):
            return None
        for overlap in overlaps:
            if overlap <= len(piece) and not self._repeats(overlap, piece):
                return piece[overlap:]
        fence = _open_fence(self._before)
        if fence is not None and fence not in ("markdown", "md"):
            if not final and _MAY_REOPEN.fullmatch(piece):
                return None
            if opening := _REOPENED.match(piece):
                return "\n" + piece[opening.end() :]
        return self._separator(piece, code=fence is not None) + piece

    def _is_long(self, overlap: int) -> bool:
        """Whether an overlap has :data:`SHORTEST` characters; those of scripts without spaces count twice."""
        return overlap >= SHORTEST or overlap + sum(map(words.unspaced, self._before[-overlap:])) >= SHORTEST

    def _repeats(self, overlap: int, piece: str) -> bool:
        """Whether the text may repeat its last ``overlap`` characters: it has done so before, or they are a short line, and
        its model had not ended the text there."""
        before = self._before
        end = before[-overlap:]
        periods = range(1, overlap * 3 // 5)
        if before.find(end) != len(before) - overlap or any(end.startswith(end[period:]) for period in periods):
            return True
        if self._after_end or overlap > LONGEST_LINE:
            return False
        starts_line = not before[:-overlap].rpartition("\n")[2].strip()
        ends_line = "\n" in self._gap or piece[overlap : overlap + 1] in ("", "\n")
        return starts_line and ends_line

    def _separator(self, piece: str, *, code: bool) -> str:
        """The white space between the text before and a new piece, from what either has on its side.

        Line breaks of either side stay, and so does the indentation behind them. Where neither has any white space, a space
        is added, except before a closing mark and in scripts that have none.
        """
        lead = self._held[: len(self._held) - len(self._held.lstrip())]
        if not piece or self._before[-1].isspace():
            return lead
        if "\n" in self._gap:
            breaks, _, indentation = self._gap.rpartition("\n")
            if not lead:
                return self._gap
            if lead.count("\n") > self._gap.count("\n"):
                return lead
            own = lead.rpartition("\n")[2]
            return f"{breaks}\n{own if code or len(own) > 1 else indentation}"
        if lead:
            starts_line = code and self._after_end and "\n" not in lead and len(lead) > 1
            return f"\n{lead}" if starts_line else lead
        if self._after_end and (_FENCE.match(piece) if code else _BLOCK.match(piece)):
            return "\n" if code else "\n\n"
        if _CLOSING.match(piece) and not (self._gap and code):
            return ""
        unspaced = words.unspaced(self._before[-1]) or words.unspaced(piece[0])
        return self._gap or ("" if unspaced else " ")


def _shared(one: str, other: str) -> int:
    """The length of the common beginning of two texts."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _overlaps(tail: str, piece: str) -> list[int]:
    """The length of each end of ``tail`` with which ``piece`` begins, or would begin if it were longer; longest first.

    ``_overlaps("of the air", "the a")`` is ``[7]``: ``"the air"`` may follow.
    """
    ends = (tail[at:] for at in range(len(tail)))
    return [len(end) for end in ends if (piece.startswith(end) if len(end) <= len(piece) else end.startswith(piece))]


def _open_fence(text: str) -> str | None:
    """The language of the block of code that is open at the end of a Markdown text, ``""`` without one; None outside."""
    marks: str | None = None
    language = ""
    for line in text.splitlines():
        fence = _FENCE.fullmatch(line.rstrip())
        if fence is None:
            continue
        if marks is None:
            marks, language = fence["marks"], fence["info"].strip().lower()
        elif fence["marks"].startswith(marks) and not fence["info"].strip():
            marks = None
    return None if marks is None else language
