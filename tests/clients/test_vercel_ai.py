"""The Vercel AI SDK in Node, by each of three APIs; by Chat Completions with the lines that ``moa client vercel-ai`` prints.

Its packages are found in the folder that the environment variable MOA_NPM names::

    npm install --prefix FOLDER ai @ai-sdk/openai-compatible @ai-sdk/openai @ai-sdk/anthropic
    MOA_NPM=FOLDER/node_modules/.bin uv run pytest -m slow tests/clients/test_vercel_ai.py
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from moa.cli.client import filled
from moa.cli.client_table import CLIENTS
from tests.fakes.serving import PASSED_ON, Served
from tests.fakes.upstream import Upstream, call_tool, say
from tests.fakes.waiting import PATIENCE

MODULES = Path(os.environ.get("MOA_NPM", "nowhere")).parent  # read now: each test gets an environment without it

PACKAGES = ("ai", "@ai-sdk/openai-compatible", "@ai-sdk/openai", "@ai-sdk/anthropic")
MISSING = [name for name in PACKAGES if not (MODULES / name).exists()] + ([] if shutil.which("node") else ["node"])

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not in the folder that MOA_NPM names: {', '.join(MISSING)}"),
]

MODELS = {
    "chat": next(each.settings for each in CLIENTS if each.name == "vercel-ai"),
    "responses": """import { createOpenAI } from "@ai-sdk/openai";
const model = createOpenAI({ baseURL: "$base", apiKey: "$key" }).responses("$model");
""",
    "messages": """import { createAnthropic } from "@ai-sdk/anthropic";
const model = createAnthropic({ baseURL: "$base", apiKey: "$key" })("$model");
""",
}

IMPORTS = 'import { generateText, streamText, tool, jsonSchema, isStepCount, Output } from "ai";\n'

QUESTION = """
const { text, usage } = await generateText({ model, prompt: "Why?", maxRetries: 0 });
console.log(JSON.stringify({ text, tokens: usage.totalTokens }));
"""

STREAM = """
const pieces = [];
for await (const piece of streamText({ model, prompt: "Why?", maxRetries: 0 }).textStream) pieces.push(piece);
console.log(JSON.stringify(pieces));
"""

TOOL_LOOP = """
const inputSchema = jsonSchema({ type: "object", properties: { city: { type: "string" } } });
const weather = tool({ description: "The weather.", inputSchema, execute: async ({ city }) => `rain in ${city}` });
const { text } = await generateText(
  { model, prompt: "Weather?", maxRetries: 0, tools: { weather }, stopWhen: isStepCount(3) });
console.log(JSON.stringify(text));
"""

OBJECT = """
const properties = { name: { type: "string" }, rains: { type: "boolean" } };
const schema = jsonSchema({ type: "object", properties, required: ["name", "rains"], additionalProperties: false });
const { output } = await generateText(
  { model, prompt: "Weather?", maxRetries: 0, output: Output.object({ schema }) });
console.log(JSON.stringify(output));
"""


class Node:
    """Runs lines of JavaScript in which ``model`` is a mixture; gives the JSON that they print."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder, self._model = folder, model
        (folder / "node_modules").symlink_to(MODULES)

    async def run(self, lines: str) -> Any:
        script = self._folder / "script.mjs"
        script.write_text(IMPORTS + self._model + lines)
        kept = {each: os.environ[each] for each in PASSED_ON if each in os.environ}
        process = await asyncio.create_subprocess_exec(
            *("node", str(script)),
            env={**kept, "HOME": str(self._folder)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return json.loads(out)


@pytest.fixture(params=[*MODELS])
async def node(request: pytest.FixtureRequest, server: Served, tmp_path: Path) -> AsyncIterator[Node]:
    yield Node(tmp_path, filled(MODELS[request.param], {"base": server.url, "key": "none", "model": "moa/trio"}))


async def test_a_question_is_answered(node: Node) -> None:
    """The answer of the aggregator comes with its usage."""
    assert await node.run(QUESTION) == {"text": "the whole answer", "tokens": 15}


async def test_a_stream_has_every_word(node: Node) -> None:
    """The pieces together are the answer."""
    pieces = await node.run(STREAM)
    assert "".join(pieces) == "the whole answer" and len(pieces) > 1


async def test_a_tool_loop(node: Node, upstream: Upstream) -> None:
    """The SDK runs the call, and the aggregator reads its result."""
    upstream.script("last", call_tool("weather", {"city": "Bern"}), say("It rains."))
    assert await node.run(TOOL_LOOP) == "It rains."
    assert "rain in Bern" in upstream.calls("last")[-1].body["messages"][-1]["content"]


async def test_an_object_is_an_answer(node: Node, upstream: Upstream) -> None:
    """A schema, which Anthropic's provider sends as a tool, reaches the aggregator, and the object comes back."""
    city = {"name": "Bern", "rains": True}
    upstream.script("last", lambda body: call_tool("json", city) if "tools" in body else say(json.dumps(city)))
    assert await node.run(OBJECT) == city
