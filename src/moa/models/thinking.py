"""Thinking that a model writes into its text, separated from its answer.

Servers that know a model's format send its reasoning in a field of its own. Others send ``<think>…</think>`` in the text,
in as many spellings as there are models (:data:`TAGS`). Reasoning is not an answer, and no other agent may read it.

Notable decisions:
- A tag opens thinking only where an answer begins: at the start of a call's text, or right behind other thinking. A tag in
  the middle of prose or in code is text.
- Many chat templates put the opening tag into the prompt, so the text begins inside the thinking and has a closing tag only.
  Nothing shows this before the closing tag arrives. The text before it is then taken back, by :attr:`Delta.thought
  <moa.answers.Delta>`, and the model is remembered: its later answers stream as reasoning up to their closing tag. To hold
  back every text until a tag arrives that most models never send would stop all answers from streaming.
- A closing tag alone counts only where it cannot be a quotation: outside code and quotation marks, in a text that names no
  opening tag, and with an answer behind it.
- Thinking that is never closed stays reasoning, unless its tag is the subject of a sentence: ``<think> is a tag that …``.

https://docs.vllm.ai/en/latest/features/reasoning_outputs/
https://docs.sglang.io/advanced_features/separate_reasoning.html
https://cookbook.openai.com/articles/openai-harmony (gpt-oss)
https://github.com/open-webui/open-webui/issues/9808 (a closing tag alone)
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from moa.answers import Delta
from moa.finish_reasons import COMPLETE
from moa.messages import Request, text_of
from moa.models import Model, traits_of
from moa.pieces import collected


@dataclass(frozen=True, slots=True)
class Tags:
    """One way to mark thinking. Case does not matter, nor does white space beside a tag's brackets.

    Attributes:
        opening, closing: the tags.
        alone: whether the closing tag counts without its opening tag.
        asked: whether callers ask for this tag in answers; it stays text in a conversation that names it.
    """

    opening: str
    closing: tuple[str, ...]
    alone: bool = True
    asked: bool = False


_FINAL = "<|channel|>final<|message|>"
_FINALS = (f"<|end|><|start|>assistant{_FINAL}", f"<|start|>assistant{_FINAL}", _FINAL)
_CLOSINGS_OF_THINK = ("</think>", "</thinking>")  # models confuse the two
_BARE = Tags("analysis", ("assistantfinal",), alone=False)

TAGS = (
    Tags(
        "<think>", _CLOSINGS_OF_THINK
    ),  # DeepSeek, Qwen, GLM, MiniMax, Nemotron, Phi, Hunyuan, Ernie, Granite, EXAONE 4
    Tags("<thinking>", _CLOSINGS_OF_THINK, asked=True),  # Claude and others by their prompts, Reflection
    Tags("<antThinking>", ("</antThinking>",)),  # Claude, with the prompts of its apps
    Tags("<thought>", ("</thought>", "</think>"), asked=True),  # Gemini's OpenAI endpoint, EXAONE Deep, Marco-o1
    Tags("<reasoning>", ("</reasoning>",), alone=False, asked=True),  # models of GRPO recipes
    Tags("<reason>", ("</reason>",), alone=False, asked=True),
    Tags("[THINK]", ("[/THINK]",)),  # Magistral
    Tags("<seed:think>", ("</seed:think>",)),  # Seed-OSS
    Tags("<longcat_think>", ("</longcat_think>",)),  # LongCat
    Tags("◁think▷", ("◁/think▷",)),  # Kimi
    Tags("<|begin_of_thought|>", ("<|end_of_thought|>",)),  # OpenThinker, Sky-T1
    Tags("<|START_THINKING|>", ("<|END_THINKING|>",)),  # Command R7B, Command A
    Tags("<|inner_prefix|>", ("<|inner_suffix|>",)),  # Apertus
    Tags("<|channel>thought", ("<channel|>",)),  # Gemma 4
    Tags("<|channel|>analysis<|message|>", _FINALS),  # gpt-oss
    Tags("<|start|>assistant<|channel|>analysis<|message|>", _FINALS),
    _BARE,  # gpt-oss without its special tokens: "analysisWe need to …assistantfinalThe sky …"
)
"""Every known way, from the models' chat templates and the parsers of vLLM, SGLang, llama.cpp and Open WebUI."""

_LONGEST = 96
"""Characters of the longest tag, white space included. No more text than this is held back."""

_MOST_MENTIONS = 16
"""Quoted closing tags after which no further one is examined: the text is about tags."""

_MOST_MODELS = 1024
_STARTS_INSIDE: dict[str, None] = {}
"""The identities of models whose texts begin inside thinking, as this process has seen; the oldest is forgotten first."""

_QUOTES = "`\"'“‘«「(\\"
_INVISIBLE = re.compile("[\\s\ufeff\u200b-\u200d\u2060]*")
_SENTENCE = re.compile(r"[ \t]+[a-z(]")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


def _pattern(tags: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the tags, with white space behind their first bracket and before their last."""
    spaced = (re.sub(r"^([<◁]/?|\\\[/?)(\w.*?)([>▷]|\\\])$", r"\1\\s*\2\\s*\3", re.escape(tag)) for tag in tags)
    return re.compile("|".join(spaced), re.IGNORECASE)


_OPENINGS = {tags: _pattern((tags.opening,)) for tags in TAGS} | {_BARE: re.compile(r"analysis(?=[A-Z])")}
_CLOSINGS = {tags: _pattern(tags.closing) for tags in TAGS}
_ALONE = tuple(closing for tags in TAGS if tags.alone for closing in tags.closing)
_ALONE_PATTERN = _pattern(_ALONE)
_NAMES_OPENING = _pattern(tags.opening for tags in TAGS if tags.alone)
_FIRSTS = frozenset(closing[0] for closing in _ALONE)


async def separated(model: Model, request: Request, deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
    """A model's answer to a request, with the thinking in its text as reasoning. Closing it closes ``deltas``."""
    identity = traits_of(model).identity
    continues = request.messages[-1]["role"] == "assistant"
    reader = ThinkingReader(
        starts_inside=identity in _STARTS_INSIDE and not continues,
        continues=continues,
        names=lambda tag: any(tag in text_of(message).lower() for message in request.messages),
    )
    async with aclosing(deltas):
        async for delta in deltas:
            if not isinstance(delta, Delta):
                yield delta  # the caller reports it
                continue
            for separate in reader.read(delta):
                yield separate
    if reader.starts_inside or not continues:
        _remember(identity, reader.starts_inside)


def split(text: str) -> tuple[str, str]:
    """A whole text as its answer and the thinking in it."""
    reader = ThinkingReader()
    answer = collected([*reader.read(Delta(text)), *reader.read(Delta(finish_reason="stop"))])
    return answer.text, answer.reasoning


def forget() -> None:
    """Forget which models begin inside their thinking."""
    _STARTS_INSIDE.clear()


def _remember(identity: str, starts_inside: bool) -> None:
    if not starts_inside:
        _STARTS_INSIDE.pop(identity, None)
    elif identity not in _STARTS_INSIDE:
        _STARTS_INSIDE[identity] = None
        if len(_STARTS_INSIDE) > _MOST_MODELS:
            del _STARTS_INSIDE[next(iter(_STARTS_INSIDE))]


class ThinkingReader:
    """Tells the thinking in the text of one call from the answer: deltas in, deltas out.

    Args:
        starts_inside: the model's texts begin inside thinking.
        continues: the text continues another one, so white space behind thinking is a part of it.
        names: whether the conversation names a tag.

    Attributes:
        starts_inside: whether the text so far confirms it.
    """

    def __init__(
        self, *, starts_inside: bool = False, continues: bool = False, names: Callable[[str], bool] = lambda tag: False
    ) -> None:
        self.starts_inside = starts_inside
        self._names, self._continues = names, continues
        self._state = self._start
        self._held = ""
        self._tags: Tags | None = None  # those of the thinking that is open; None where its opening tag is missing
        self._opening = ""
        self._opened = False
        self._inner: list[str] = []  # the thinking that is open
        self._answer: list[str] = []
        self._length = 0  # of the answer
        self._mentions = 0
        self._reasons_apart = False
        self._new_text = self._new_reasoning = ""
        self._thought = 0

    def read(self, delta: Delta) -> Iterator[Delta]:
        """The delta, with the thinking in its text as reasoning; nothing while all of it is held back."""
        if (
            self._state == self._text
            and not self._held
            and delta == Delta(delta.text)
            and _FIRSTS.isdisjoint(delta.text)
        ):
            self._say(delta.text)  # most deltas of most answers
            yield delta
            return
        self._reasons_apart = self._reasons_apart or bool(delta.reasoning)
        self._new_text = self._new_reasoning = ""
        self._thought = 0
        if delta.text:
            self._held += delta.text
            self._advance()
        if delta.finish_reason or delta.tool_calls:
            self._flush(delta.finish_reason)
        read = delta.replaced(
            text=self._new_text, reasoning=delta.reasoning + self._new_reasoning, thought=self._thought + delta.thought
        )
        if read != Delta():
            yield read

    def _advance(self) -> None:
        state = None
        while self._held and state != self._state:
            state = self._state
            state()

    def _flush(self, finish_reason: str | None) -> None:
        """No tag can be completed any more. ``finish_reason``: None before a tool call."""
        held, self._held = self._held, ""
        if self._state == self._behind_closing:
            if finish_reason != "stop" or self._continues:
                self._take_back()
        elif self._state == self._inside:
            self._think(held)
            said_nothing = finish_reason in COMPLETE and not self._length
            if said_nothing and (self._tags is None or _SENTENCE.match("".join(self._inner))):
                self.starts_inside = False
                self._say(self._opening + "".join(self._inner))
        elif self._state != self._start:
            self._say(held)
        elif any(pattern.fullmatch(held.strip()) for pattern in _OPENINGS.values()):
            self._think(held)
        else:
            self._say(self._behind_thinking(held))

    def _say(self, text: str) -> None:
        self._answer.append(text)
        self._length += len(text)
        self._new_text += text

    def _think(self, text: str) -> None:
        self._inner.append(text)
        self._new_reasoning += text

    # -- the states: each reads as much of the held text as it can -----------------------------------------------------

    def _start(self) -> None:
        """Where an answer begins. White space is held back until it is clear what follows."""
        text = _INVISIBLE.sub("", self._held, count=1)
        if not text:
            self._held = self._held[-_LONGEST:] if self._opened else self._held
            return
        for tags, pattern in _OPENINGS.items():
            if (found := pattern.match(text)) and not (tags.asked and self._names(tags.opening)):
                behind = text[found.end() :]
                if behind.startswith(("`", '"', "'")):
                    break  # a quotation, whose beginning is in the text before
                if behind:
                    self._held = behind
                    self._open(tags, found.group())
                return
        if any(_begins(tags.opening, text) for tags in TAGS):
            return
        if self.starts_inside and not self._reasons_apart and not self._opened:
            self._open(None, "")
            return
        self._held = self._behind_thinking(self._held)
        self._state = self._text

    def _behind_thinking(self, text: str) -> str:
        """The beginning of the answer without the white space that separates it from thinking before it."""
        if not self._opened:
            return text
        if not self._continues:
            return text.lstrip()
        on_lines = "".join(self._inner).endswith("\n")
        return re.sub(r"^\n{0,2}", "", text) if on_lines else text

    def _open(self, tags: Tags | None, opening: str) -> None:
        self._tags, self._opening, self._inner = tags, opening, []
        self._opened, self._state = True, self._inside

    def _inside(self) -> None:
        """Inside thinking."""
        pattern, tags = (_ALONE_PATTERN, _ALONE) if self._tags is None else (_CLOSINGS[self._tags], self._tags.closing)
        before = self._inner[-1][-1:] if self._inner else ""
        for found in pattern.finditer(self._held):
            if (self._held[found.start() - 1] if found.start() else before) in ("`", '"', "'"):
                continue
            self._think(self._held[: found.start()])
            self._held, self._state = self._held[found.end() :], self._start
            return
        whole = len(self._held) - _partial(tags, self._held)
        if whole:
            self._think(self._held[:whole])
            self._held = self._held[whole:]

    def _text(self) -> None:
        """In the answer, where a closing tag may show that it was thinking so far."""
        if self._mentions >= _MOST_MENTIONS or _FIRSTS.isdisjoint(self._held):
            self._say(self._held)
            self._held = ""
            return
        while found := _ALONE_PATTERN.search(self._held):
            behind = self._held[found.end() :]
            self._say(self._held[: found.start()])
            if not behind.strip(" \t") and self._answer[-1].endswith((" ", "\t")):
                self._held = found.group() + behind
                return  # what follows decides
            if self._is_mention(behind):
                self._say(found.group())
                self._held, self._mentions = behind, self._mentions + 1
            else:
                self._held, self._state = behind, self._behind_closing
                return
        whole = len(self._held) - _partial(_ALONE, self._held)
        if whole:
            self._say(self._held[:whole])
            self._held = self._held[whole:]

    def _is_mention(self, behind: str) -> bool:
        """Whether a closing tag behind the answer so far is a quotation."""
        answer = "".join(self._answer)
        if answer.endswith(tuple(_QUOTES)):
            return True
        if answer.endswith((" ", "\t")) and not behind.lstrip(" \t").startswith(("\n", "\r")):
            return True
        return bool(_NAMES_OPENING.search(answer)) or _is_code(answer)

    def _behind_closing(self) -> None:
        """Behind a closing tag alone: where an answer follows, the text before it was thinking."""
        if self._held.strip():
            self._take_back()
            self._state = self._start

    def _take_back(self) -> None:
        if not self._opened and not self._reasons_apart and self._length and "".join(self._answer).strip():
            self.starts_inside = True
        self._thought = self._length - len(self._new_text)
        self._new_reasoning += self._new_text
        self._new_text, self._answer, self._length, self._opened = "", [], 0, True
        self._continues = False  # what it continued was thinking, and the answer begins here


def _begins(tag: str, text: str) -> bool:
    """Whether a text may be the beginning of a tag."""
    return len(text) < _LONGEST and tag.lower().startswith("".join(text.lower().split()))


def _partial(tags: tuple[str, ...], text: str) -> int:
    """The number of characters at the end of a text that may be the beginning of a tag."""
    for place in range(max(0, len(text) - _LONGEST), len(text)):
        if any(tag[0].lower() == text[place].lower() and _begins(tag, text[place:]) for tag in tags):
            return len(text) - place
    return 0


def _is_code(text: str) -> bool:
    """Whether a Markdown text ends inside code."""
    return len(_FENCE.findall(text)) % 2 == 1 or text.rpartition("\n")[2].count("`") % 2 == 1
