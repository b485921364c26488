"""A model that writes one text, in any script, in random pieces and with random delays, and continues it where it stopped.

It does what models and servers do: it repeats its last words or all of its text before it continues, leaves out the space
between two pieces, ends its turn while proposals still grow, and gives its finish reason and usage anywhere, once or more.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Callable

from moa.errors import StreamBroken
from moa.messages import Delta, Request, Usage, text_of
from moa.mixture.continuation import BEGIN, GO_ON
from moa.mixture.seam import SHORTEST, SHORTEST_RESTART
from moa.models import Continuation, Traits

REPETITIVE = {
    "words": ["sky ", "blue ", "light, ", "air. ", "and\n\n", "- item ", "x1 ", "`y` ", "**b** "],
    "rows": ["|0.00", "|0.00", "|\n", "|1|", "0, 0, ", "<td>0.00</td>", "la la ", "\n"],
    "code": [
        "```python\n    if x:\n        y = 1\n```\n\n",
        "```\n}\n}\nreturn x\n```\n",
        "# note\n",
        "    indented\n",
    ],
    "chinese": ["天空", "是蓝色的", "，", "因为", "空气。", "AI ", "42", "\n"],
    "thai": ["ท้องฟ้า", "เป็น", "สีฟ้า", " ", "เพราะ", "อากาศ", "ใน"],
    "emoji": ["👩‍👩‍👧 ", "e\u0301", "ñ ", "👍🏽", " ", "ok ", "🇫🇷"],
}
"""Pieces of texts that repeat themselves, as tables, code and refrains do."""


def _letters(first: int, last: int, least: int, most: int) -> Callable[[random.Random], str]:
    return lambda chance: "".join(chr(chance.randint(first, last)) for _ in range(chance.randint(least, most)))


_ENDS = ["", "", "", ".", ",", "\n", "\n\n"]
_SPACED: dict[str, Callable[[random.Random], str]] = {
    "latin": lambda chance: f"w{chance.randrange(10**6)}",
    "arabic": _letters(0x0628, 0x063A, 2, 7),
    "hindi": lambda chance: "".join(
        chance.choice(["क्ष", "नि", "मा", "त्र", "शु", "ग"]) for _ in range(chance.randint(3, 6))
    ),
    "marks": lambda chance: "".join(
        chance.choice("aeiou") + chance.choice(["\u0301", "\u0323\u0302", ""]) for _ in range(9)
    ),
    "emoji": lambda chance: chance.choice(["👩‍👩‍👧", "👍🏽", "🏳️‍🌈"]) + str(chance.randrange(10**6)),
    "korean": _letters(0xAC00, 0xD7A3, 2, 5),
}
_UNSPACED: dict[str, Callable[[random.Random], str]] = {
    "chinese": _letters(0x4E00, 0x9FA5, 1, 6),
    "japanese": lambda chance: _letters(0x3042, 0x3093, 1, 5)(chance) + _letters(0x4E00, 0x9FA5, 1, 3)(chance),
    "thai": lambda chance: (
        chance.choice("เแโ") + _letters(0x0E01, 0x0E2E, 2, 4)(chance) + chance.choice(["่", "้", "ี", ""])
    ),
}


def _tokens(chance: random.Random, count: int) -> tuple[list[str], bool]:
    """Words that hardly occur twice, with what stands between them; and whether their script has spaces."""
    spaced = chance.random() < 0.6
    if spaced:
        word = _SPACED[chance.choice([*_SPACED])]
        return [word(chance) + end + ("" if "\n" in end else " ") for end in chance.choices(_ENDS, k=count)], True
    word = _UNSPACED[chance.choice([*_UNSPACED])]
    return [word(chance) + chance.choice(["", "", "", "，", "。", "\n", " ", " AI "]) for _ in range(count)], False


class PiecewiseWriter:
    """Writes one text and continues it: to the letter, or word by word in turns.

    Attributes:
        troubled: whether any of its calls failed, was cut or came back empty.
    """

    def __init__(self, name: str, chance: random.Random, way: Continuation | None, trouble: float) -> None:
        self.name, self.traits = f"scripted/{name}", Traits(continuation=way)
        self._chance, self._way, self._trouble = chance, way, trouble
        self.troubled = self._spaced = self._stopped = False
        count = chance.choice([1, 3, 10, 20, 60, 60, 200])
        self._unique = way == "turns" or chance.random() < 0.5
        if self._unique:
            tokens, self._spaced = _tokens(chance, count)
        else:
            tokens = chance.choices(REPETITIVE[chance.choice([*REPETITIVE])], k=count)
        self.text = "".join(tokens).strip() or "ok"

    def wrote(self, text: str) -> bool:
        """Whether this is the writer's text; in turns but for the kind of white space between two pieces."""
        if self._way != "turns":
            return text == self.text
        return text.split() == self.text.split() if self._spaced else _dense(text) == _dense(self.text)

    def began(self, text: str) -> bool:
        """Whether the writer's text begins like this."""
        return _dense(self.text).startswith(_dense(text))

    # -- where it continues --------------------------------------------------------------------------------------------

    def _rest(self, request: Request) -> tuple[str, str]:
        """What it repeats before it continues, and the rest of its text."""
        chance, messages = self._chance, request.messages
        pieces = [text_of(message) for message in messages if message["role"] == "assistant"]
        if resumed := re.search(r"<begun \S+>\n(.*)\n</begun", text_of(messages[-1]), re.DOTALL):
            pieces = [resumed[1]]
        if not pieces:
            return "", self.text
        exact = self._way == "prefix" and not resumed
        assert self.began("".join(pieces))
        rest = self.text[len(pieces[0]) :] if exact else self._after(len(_dense("".join(pieces))))
        if not self._unique:
            return "", rest
        shown = pieces[-1]
        if (
            len(pieces) == 1
            and len(shown.strip()) >= (SHORTEST_RESTART if exact else SHORTEST)
            and chance.random() < 0.1
        ):
            return shown, rest
        if exact:
            return "", rest
        # Not from the beginning of a line: a text may repeat a line itself, and so a repeated line stays.
        starts = [word.start() for word in re.finditer(r"(?<=[^\n] )\S+", shown)]
        if chance.random() < 0.2 and (near := [at for at in starts if SHORTEST <= len(shown) - at < 200]):
            return shown[chance.choice(near) :], rest
        return "", chance.choice([rest, rest.lstrip()])

    def _after(self, count: int) -> str:
        """Its text after so many characters that are no white space."""
        places = [place for place, character in enumerate(self.text) if not character.isspace()]
        return self.text[places[count - 1] + 1 :] if count else self.text

    # -- how it writes -------------------------------------------------------------------------------------------------

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        chance, (repeated, rest) = self._chance, self._rest(request)
        kind = ""
        if chance.random() < self._trouble:
            kind = chance.choice(
                ["fails", "cut", "filtered", "broken", "unknown", "fails" if self._stopped else "empty"]
            )
            self.troubled = True
            rest = rest[: chance.randint(0, len(rest))] if kind != "empty" else ""
            repeated = repeated if kind != "empty" else ""
        elif self._unique and chance.random() < 0.2 and _is_early(request):
            self._stopped = True  # from here on, an empty piece says that nothing is to be added
            stops = [word.end() for word in re.finditer(r"\S+", rest)]
            rest = rest[: chance.choice(stops)] if stops else rest
        reasons = {
            "fails": None,
            "broken": None,
            "cut": "length",
            "filtered": "content_filter",
            "unknown": "overloaded",
        }
        reason = reasons.get(kind, chance.choice(["stop", "stop", "STOP", "eos"]))
        usage = Usage(10, 5) if chance.random() < 0.6 else None
        await asyncio.sleep(chance.choice([0.0, 0.1, 1.0, 5.0]))
        if chance.random() < 0.2:
            yield Delta(reasoning="Let me see. ")
        pause, chunks = chance.choice([0.0, 0.0, 0.05, 0.5]), self._chunks(repeated + rest)
        ends_at = len(chunks) - chance.choice([1, 1, 2]) if chance.random() < 0.4 else None
        for place, chunk in enumerate(chunks):
            yield Delta(
                text=chunk, finish_reason=reason if place == ends_at else None, usage=chance.choice([None, usage])
            )
            await asyncio.sleep(pause)
        if kind == "fails":
            raise StreamBroken(self.name, "gone")
        await asyncio.sleep(chance.choice([0.0, 0.02, 0.1, 3.0]))
        ended = ends_at is not None and ends_at >= 0
        for _ in range(chance.choice([0, 1]) if ended else chance.choice([1, 1, 2])):
            yield Delta(finish_reason=reason, usage=chance.choice([None, usage]))
        if usage:
            await asyncio.sleep(chance.choice([0.0, 0.1]))
            yield Delta(usage=usage)

    def _chunks(self, text: str) -> list[str]:
        """A text in pieces of random sizes, which may lie within a character of several code points."""
        sizes, chunks = self._chance.choice([[1, 2, 3], [4, 9], [50, 500]]), []
        while text:
            size = self._chance.choice(sizes)
            chunks.append(text[:size])
            text = text[size:]
        return chunks


def _is_early(request: Request) -> bool:
    """Whether the proposals in a request still grow."""
    said = [text_of(message) for message in request.messages if message["role"] == "user"]
    return BEGIN in said[-1] or GO_ON in said[-1]


def _dense(text: str) -> str:
    """A text without its white space."""
    return "".join(text.split())
