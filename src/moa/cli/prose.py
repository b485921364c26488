"""Markdown from models: printed as a whole, and block by block while it grows."""

from __future__ import annotations

from typing import ClassVar

from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, Markdown
from rich.segment import Segment

from moa.cli.markdown import parser
from moa.cli.terminal import clean

WIDEST = 100
"""Columns beyond which lines of prose become hard to read."""


_PARSER = parser()


class _Heading(Heading):
    """A heading at the left margin instead of the centre."""

    LEVEL_ALIGN = dict.fromkeys(Heading.LEVEL_ALIGN, "left")


class _Prose(Markdown):
    elements: ClassVar = {**Markdown.elements, "heading_open": _Heading}


class Rendered:
    """Markdown from a model, for printing, with one empty line between blocks.

    Links show their address, so that a reader sees where they lead.
    """

    def __init__(self, markdown: str) -> None:
        self._markdown = _Prose(clean(markdown), hyperlinks=False, code_theme="ansi_dark")
        self._markdown.parsed = _PARSER.parse(self._markdown.markup)  # Rich's own parser drops HTML

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        block: list[Token] = []
        tokens, first = self._markdown.parsed, True
        for token in tokens:
            block.append(token)
            if token.level or token.nesting > 0:
                continue
            self._markdown.parsed, block = block, []
            lines = _trimmed(console.render_lines(self._markdown, options.update(height=None), pad=False))
            if lines and not first:
                yield Segment.line()
            first = first and not lines
            for line in lines:
                yield from line
                yield Segment.line()
        self._markdown.parsed = tokens


def _trimmed(lines: list[list[Segment]]) -> list[list[Segment]]:
    """The lines without blank lines at either end."""
    filled = [number for number, line in enumerate(lines) if "".join(segment.text for segment in line).strip()]
    return lines[filled[0] : filled[-1] + 1] if filled else []


class Prose:
    """An answer's Markdown while it arrives: :meth:`settled` blocks are final, the :attr:`rest` may still change.

    Only the last block of a Markdown text can change when more text arrives, so a terminal never redraws the blocks before
    it, however long the answer is.
    """

    def __init__(self) -> None:
        self.rest = ""
        self.printed = False

    def __bool__(self) -> bool:
        """Whether any text has arrived."""
        return self.printed or bool(self.rest.strip())

    def add(self, piece: str) -> None:
        self.rest += piece

    def settled(self) -> str:
        """The blocks that have become final since the last call; empty if none has."""
        # An unfinished line may still turn out to continue the block before it.
        whole = clean(self.rest[: self.rest.rfind("\n") + 1])
        if "\n" not in whole.strip():
            return ""
        starts = [
            token.map[0] for token in _PARSER.parse(whole) if token.level == 0 and token.map and token.nesting >= 0
        ]
        if len(starts) < 2 or starts[-1] == 0:
            return ""
        return self._taken(starts[-1])

    def remainder(self) -> str:
        """All text that was not returned before; call it when the answer has ended."""
        return self._taken(len(self.rest.split("\n")))

    def _taken(self, count: int) -> str:
        lines = self.rest.split("\n")
        self.rest = "\n".join(lines[count:])
        text = "\n".join(lines[:count]).strip("\n")
        self.printed = self.printed or bool(text.strip())
        return text
