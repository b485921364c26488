"""What vendors' prompt caches save in a conversation of ten turns with tools, by each vendor's documented rule.

    uv run python benchmarks/prompt_caches.py

A mixture of three samples of one model, each with a persona, and the same model as the aggregator. In each turn the
aggregator calls a tool once and then answers. The models are simulated: each request is fitted to its vendor as for a real
call, then the fake cache counts which of its tokens were there before. A prompt is in the cache once its call has ended, so
agents that are called at the same time share only what earlier calls have left.

``before`` has personas in the system message and one mark, at the end of the prompt.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, count
from unittest.mock import patch

from moa import Agent, Mixture
from moa.messages import Delta, Message, Request
from moa.mixture import asking
from moa.mixture.prompts import with_system
from moa.models.fitting import fit
from moa.models.profiles import profile_at
from moa.models.prompt_caches import MARK, comes_again

TURNS = 10
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TOOLS = [{"type": "function", "function": {"name": f"tool_{n}", "description": "word " * 80}} for n in range(8)]


@dataclass(frozen=True)
class Rule:
    """How a vendor caches, as its ``page`` says: ``read`` and ``write`` are prices as shares of the input's, ``least`` and
    ``step`` are tokens of a cached beginning, and ``marked_only``: it caches up to marks alone."""

    address: str
    model: str
    page: str
    read: float
    write: float = 1.0
    least: int = 1024
    step: int = 1
    marked_only: bool = False


QWEN = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
RULES = {
    "OpenAI": Rule(
        *("https://api.openai.com/v1", "gpt-5.1", "https://developers.openai.com/docs/guides/prompt-caching"),
        read=0.1,
        step=128,
    ),
    "DeepSeek": Rule(
        *("https://api.deepseek.com", "deepseek-chat", "https://api-docs.deepseek.com/guides/kv_cache"),
        read=0.1,
        least=64,
        step=64,
    ),
    "Claude (OpenRouter)": Rule(
        *("https://openrouter.ai/api/v1", "anthropic/claude-sonnet-4.6"),
        "https://docs.litellm.ai/docs/completion/prompt_caching",
        read=0.1,
        write=1.25,
        marked_only=True,
    ),
    "Qwen (explicit)": Rule(
        *(QWEN, "qwen3-max", "https://help.aliyun.com/en/model-studio/context-cache"),
        read=0.1,
        write=1.25,
        marked_only=True,
    ),
}


def text(tokens: int, seed: int) -> str:
    """A text of so many tokens of four characters."""
    return "".join(f"{WORDS[(seed * 7 + n) % 10]} "[:4].ljust(4) for n in range(tokens - 1)) + f"{seed:4}"


@dataclass
class Cached:
    """A model of one vendor: answers with a tool call or a text, and counts its input."""

    rule: Rule
    before: bool
    name: str = "scripted/model"
    held: set[str] = field(default_factory=set)
    counts: dict[str, float] = field(default_factory=lambda: {"input": 0, "cached": 0, "written": 0})
    answers: Iterator[int] = field(default_factory=lambda: count(1))

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        profile = profile_at(self.rule.address, self.rule.model)
        sent, _ = fit(request, profile)
        if self.before and self.rule.marked_only:
            sent = marked_at_the_end(request)
        self._count(sent)
        await asyncio.sleep(0.001)
        self.held.update(self._entries(sent))
        calls = request.body.get("tools") and request.messages[-1]["role"] != "tool"
        number = next(self.answers)
        if calls:
            function = {"name": "tool_1", "arguments": json.dumps({"n": number})}
            call = {"index": 0, "id": f"call_{number}", "type": "function", "function": function}
            yield Delta(tool_calls=(call,), finish_reason="tool_calls")
        else:
            yield Delta(text=text(300, number), finish_reason="stop")

    def _count(self, sent: Request) -> None:
        blocks = [block for block, _ in blocks_of(sent)]
        prompt = "".join(blocks)
        cached = self._found(sent)
        cached = cached // self.rule.step * self.rule.step if cached >= self.rule.least else 0
        marks = [len(entry) // 4 for entry in self._entries(sent)] if self.rule.marked_only else []
        self.counts["input"] += len(prompt) // 4
        self.counts["cached"] += cached
        self.counts["written"] += max(0, max(marks, default=0) - cached)

    def _found(self, sent: Request) -> int:
        """Tokens of the longest beginning of a prompt that the cache holds."""
        prefixes = list(accumulate(block for block, _ in blocks_of(sent)))
        if self.rule.marked_only:
            last = max((at for at, (_, mark) in enumerate(blocks_of(sent)) if mark), default=-1)
            reach = prefixes[max(0, last - 20) : last + 1]
            return max((len(prefix) // 4 for prefix in reach if prefix in self.held), default=0)
        return max((common(prefixes[-1], entry) // 4 for entry in self.held), default=0)

    def _entries(self, sent: Request) -> list[str]:
        """What a call leaves in the cache."""
        prefixes = list(accumulate(block for block, _ in blocks_of(sent)))
        if not self.rule.marked_only:
            return prefixes[-1:]
        marks = [prefix for prefix, (_, mark) in zip(prefixes, blocks_of(sent), strict=True) if mark]
        return [prefix for prefix in marks if len(prefix) // 4 >= self.rule.least]

    @property
    def price(self) -> float:
        """The price of all input in tokens at the full price."""
        fresh = self.counts["input"] - self.counts["cached"] - self.counts["written"]
        return fresh + self.counts["cached"] * self.rule.read + self.counts["written"] * self.rule.write


def blocks_of(request: Request) -> list[tuple[str, bool]]:
    """The prompt in blocks, tools first, each with whether it has a mark."""
    blocks = [(json.dumps(request.body.get("tools") or ""), False)]
    for message in request.messages:
        content = message.get("content") or ""
        parts = [{"text": content}] if isinstance(content, str) else content
        calls = json.dumps(message.get("tool_calls") or "")
        blocks += [(f"{message['role']}:{part.get('text')}", bool(part.get("cache_control"))) for part in parts]
        blocks[-1] = (blocks[-1][0] + calls, blocks[-1][1])
    return blocks


def common(one: str, other: str) -> int:
    """The length of the longest common beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def marked_at_the_end(request: Request) -> Request:
    """A mark on the last message, where a later request is likely."""
    if not comes_again(request.messages, request.body.get("tools")):
        return request
    *messages, last = request.messages
    if not isinstance(last.get("content"), str):
        return request
    part = {"type": "text", "text": last["content"], "cache_control": MARK}
    return request.replaced(messages=[*messages, {**last, "content": [part]}])


async def converse(rule: Rule, *, before: bool) -> Cached:
    """Ten turns; the model with its counts."""
    model = Cached(rule, before)
    personas = [f"Persona {n}: {text(40, n)}" for n in range(3)]
    mixture = Mixture([[Agent(model, name=f"p{n}", persona=persona) for n, persona in enumerate(personas)]], model)
    messages: list[Message] = [{"role": "system", "content": text(1500, 0)}]
    async with mixture:
        for turn in range(TURNS):
            messages.append({"role": "user", "content": text(200, 100 + turn)})
            step = await mixture.answer({"messages": messages, "tools": TOOLS})
            messages.append({"role": "assistant", "content": step.text or None, "tool_calls": [*step.tool_calls]})
            call = str(step.tool_calls[0]["id"])
            messages.append({"role": "tool", "tool_call_id": call, "content": text(500, 200 + turn)})
            answer = await mixture.answer({"messages": messages, "tools": TOOLS})
            messages.append({"role": "assistant", "content": answer.text})
    return model


async def main() -> None:
    """Print the table."""
    print("| vendor | | input | cached | price of the input | of before |\n|---|---|---:|---:|---:|---:|")
    for name, rule in RULES.items():
        with patch.object(asking, "with_persona", lambda request, persona: with_system(request, persona or "")):
            old = await converse(rule, before=True)
        new = await converse(rule, before=False)
        for label, model in (("before", old), ("now", new)):
            share = model.counts["cached"] / model.counts["input"]
            ratio = "" if model is old else f"{new.price / old.price:.2f}"
            print(f"| {name} | {label} | {model.counts['input']:,.0f} | {share:.0%} | {model.price:,.0f} | {ratio} |")


if __name__ == "__main__":
    asyncio.run(main())
