"""Markdown as models write it: angle brackets are text, and formulas keep every character.

Notable decisions:
- HTML is off. A terminal cannot show it, and what looks like a tag is often text: ``List<String>``, ``<enter>``.
- Formulas are recognised by the delimiters of https://docs.mathjax.org/en/latest/input/tex/delimiters.html. For a single
  dollar, Pandoc's rule keeps prices apart from formulas: https://pandoc.org/MANUAL.html#extension-tex_math_dollars
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

_FORMULA = re.compile(
    r"\$\$.+?\$\$"
    r"|\$(?![\s$])(?:\\.|[^$\\\n])*?(?<!\s)\$(?![\d$])"
    r"|\\\(.+?\\\)"
    r"|\\\[.+?\\\]",
    re.DOTALL,
)
_ENDS = {"$$": "$$", "\\[": "\\]"}
"""The lines that open a formula of several lines, and those that close it."""


def parser() -> MarkdownIt:
    """A parser of CommonMark with tables and struck text; formulas become text tokens."""
    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    made.inline.ruler.before("escape", "formula", _inline_formula)
    made.block.ruler.before("fence", "formula", _block_formula, {"alt": ["paragraph", "blockquote", "list"]})
    return made


def _inline_formula(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    found = _FORMULA.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("text", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _block_formula(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """A formula that begins with a line of its own. Like a fence, it ends with its closing line or with the text."""
    end = _ENDS.get(_line(state, first))
    if end is None:
        return False
    if silent:
        return True
    closing = next((line for line in range(first + 1, last) if _line(state, line) == end), last - 1)
    state.line = closing + 1
    state.push("paragraph_open", "p", 1).map = [first, state.line]
    state.push("text", "", 0).content = state.getLines(first, state.line, state.blkIndent, False).rstrip("\n")
    state.push("paragraph_close", "p", -1)
    return True


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]].strip()
