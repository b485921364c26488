"""Whatever the texts, chunks, delays and failures: an answer is what its model wrote, or the run reports what is missing."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator

from hypothesis import given, settings
from hypothesis import strategies as st

from moa import Mixture
from moa.errors import RunError, StreamBroken
from moa.messages import Answer, Delta, Request, Usage, text_of
from moa.models import Continuation, Traits
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule, Staircase
from tests.fakes.virtual_time import run_in_virtual_time

SCRIPTS = {
    "words": ["sky ", "blue ", "light, ", "air. ", "and\n\n", "- item ", "x1 ", "`y` ", "**b** "],
    "rows": ["|0.00", "|0.00", "|\n", "|1|", "0, 0, ", "<td>0.00</td>", "la la ", "\n"],
    "code": ["```python\n", "    if x:\n", "        y = 1\n", "```\n\n", "return x\n", "}\n", "# note\n"],
    "chinese": ["天空", "是蓝色的", "，", "因为", "空气。", "AI ", "42", "\n"],
    "thai": ["ท้องฟ้า", "เป็น", "สีฟ้า", " ", "เพราะ", "อากาศ", "ใน"],
    "emoji": ["👩‍👩‍👧 ", "é", "ñ ", "👍🏽", " ", "ok "],
}


class Writer:
    """Writes one text, in random chunks with random delays, and continues it to the letter, or word by word in turns.

    Attributes:
        troubled: whether any of its calls failed, was cut or came back empty.
    """

    def __init__(self, name: str, chance: random.Random, way: Continuation | None, trouble: float) -> None:
        self.name, self.traits = f"scripted/{name}", Traits(continuation=way)
        self._chance, self._way, self._trouble = chance, way, trouble
        self.troubled = False
        size = chance.choice([1, 3, 20, 60, 200])
        if way == "turns":  # a word occurs once, so that the place in the text follows from what was kept
            words = [f"{name}{number}" + chance.choice(["", ".", ","]) for number in range(size)]
            self.text = "".join(word + chance.choice([" ", " ", " ", "\n", "\n\n"]) for word in words).strip()
        else:
            script = SCRIPTS[chance.choice([*SCRIPTS])]
            self.text = "".join(chance.choice(script) for _ in range(size)).strip() or "ok"

    def wrote(self, text: str) -> bool:
        """Whether this is the writer's text, in turns but for the kind of white space between two pieces."""
        return text.split() == self.text.split() if self._way == "turns" else text == self.text

    def _rest(self, request: Request) -> str:
        messages = request.messages
        if resumed := re.search(r"<begun \S+>\n(.*)\n</begun", text_of(messages[-1]), re.DOTALL):
            begun = resumed[1]
        elif self._way == "prefix" and messages[-1]["role"] == "assistant":
            begun = text_of(messages[-1])
        elif self._way == "turns":
            begun = " ".join(text_of(message) for message in messages if message["role"] == "assistant")
        else:
            begun = ""
        if self._way != "turns":
            assert self.text.startswith(begun)
            return self.text[len(begun) :]
        known = len(begun.split())
        return self.text if not known else "".join(re.findall(r"\S+\s*", self.text)[known:])

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        chance, rest = self._chance, self._rest(request)
        pause = chance.choice([0.0, 0.0, 0.05, 0.5])
        kind = chance.choice(["fails", "empty", "cut", "broken"]) if chance.random() < self._trouble else ""
        self.troubled = self.troubled or bool(kind)
        if kind == "empty":
            rest = ""
        elif kind:
            rest = rest[: chance.randint(0, len(rest))]
        await asyncio.sleep(chance.choice([0.0, 0.1, 1.0, 5.0]))
        sizes, at, chunks = chance.choice([[1, 2, 3], [4, 9], [50, 500]]), 0, []
        while at < len(rest):
            size = chance.choice(sizes)
            chunks.append(rest[at : at + size])
            at += size
        reason = None if kind == "broken" else "length" if kind == "cut" else "stop"
        together = bool(chunks) and chance.random() < 0.3
        for place, chunk in enumerate(chunks):
            last = together and place == len(chunks) - 1 and kind != "fails"
            yield Delta(text=chunk, finish_reason=reason if last else None)
            await asyncio.sleep(pause)
        if kind == "fails":
            raise StreamBroken(self.name, "gone")
        await asyncio.sleep(chance.choice([0.0, 0.02, 0.1, 3.0]))
        usage = Usage(10, 5) if chance.random() < 0.6 else None
        if not together:
            yield Delta(finish_reason=reason, usage=usage)
        elif usage:
            await asyncio.sleep(chance.choice([0.0, 0.1]))
            yield Delta(usage=usage)


def schedule_of(chance: random.Random) -> Schedule:
    staircases = [Staircase(), Staircase((8, 32), (8, 24)), Staircase((2, 4, 16), (1, 30, 40)), Staircase(quorum=1.0)]
    others: list[Schedule] = [Barrier(), Quorum(1), EarlyExit(Staircase(), answer="aggregate")]
    return chance.choice([*staircases, *staircases, *others])


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.0, 0.1, 0.3]))
def test_an_answer_is_whole_or_the_run_reports_what_is_missing(seed: int, trouble: float) -> None:
    """Depths 1 to 3, both ways to continue and none, with and without failures."""
    chance = random.Random(seed)

    def writer(name: str) -> Writer:
        return Writer(name, chance, chance.choice(["prefix", "prefix", "turns", None]), trouble)

    layers = [[writer(f"p{layer}{place}") for place in range(2)] for layer in range(chance.randint(0, 2))]
    last = writer("z")
    mixture = Mixture(layers, last, schedule=schedule_of(chance))

    async def ask() -> Answer | None:
        try:
            return await mixture.answer("Why?")
        except RunError:
            return None

    answer = run_in_virtual_time(ask())
    if answer is None:
        assert trouble
        return
    if not answer.degraded and answer.finish_reason == "stop":
        assert last.wrote(answer.text)
    elif not any(member.troubled for member in [last, *(one for layer in layers for one in layer)]):
        assert isinstance(mixture.schedule, Quorum), answer.degraded
    written = {member.name.partition("/")[2]: member for layer in layers for member in layer}
    for call in answer.proposals:
        assert written[call.agent].wrote(call.text) or call.cut or answer.degraded, call
