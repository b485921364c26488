"""Real coding agents before the server: they hold a conversation without compacting it, and show why there is no answer.

They are run where their binaries are on the PATH: ``npm install -g opencode-ai @qwen-code/qwen-code``.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.serving import Served, home
from tests.fakes.upstream import Body, Script, Upstream, call_tool, done, finish, refuse, usage, words

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CONFIG = """

[endpoints.up]
base_url = "{base_url}"

[mixtures.t]
layers = [["up/a", "up/b", "up/c"]]
aggregator = "up/last"
"""

SUMMARY = re.compile("anchored summary|state_snapshot|<conversation>")
"""In the prompts with which opencode 1.18 and qwen-code 0.15 have a conversation summarised."""


@dataclass(frozen=True)
class Agent:
    """A coding agent: its binary, its files of settings, and how it is called. Their windows are those of the members, which
    a sum over four calls exceeds with the first greeting, and one call never."""

    binary: str
    settings: Callable[[str], Mapping[str, Any]]
    first: Sequence[str]
    again: Sequence[str]
    path: str
    read: str
    write: str


AGENTS = {
    "opencode": Agent(
        "opencode",
        lambda url: {
            ".config/opencode/opencode.json": {
                "autoupdate": False,
                "share": "disabled",
                "model": "x/moa/t",
                "small_model": "x/moa/t",
                "permission": {"edit": "allow"},
                "provider": {
                    "x": {
                        "npm": "@ai-sdk/openai-compatible",
                        "options": {"baseURL": url, "apiKey": "none"},
                        "models": {"moa/t": {"limit": {"context": 30000, "output": 4000}}},
                    }
                },
            }
        },
        ["run"],
        ["run", "-c"],
        "filePath",
        "read",
        "write",
    ),
    "qwen": Agent(
        "qwen",
        lambda url: {
            ".qwen/settings.json": {
                "privacy": {"usageStatisticsEnabled": False},
                "general": {"enableAutoUpdate": False},
                "model": {"name": "moa/t", "generationConfig": {"contextWindowSize": 40000}},
                "security": {"auth": {"selectedType": "openai", "baseUrl": url, "apiKey": "none"}},
            }
        },
        ["--auth-type", "openai", "-m", "moa/t", "--yolo", "-p"],
        ["--auth-type", "openai", "-m", "moa/t", "--yolo", "--continue", "-p"],
        "file_path",
        "read_file",
        "write_file",
    ),
}


def answers(agent: Agent, file: Path) -> Callable[[Body], Script]:
    """Greets, and writes what a message between quotation marks says into the file, which it reads before where it exists.
    The tokens are characters / 4 of all that a prompt has."""

    def answer(body: Body) -> Script:
        tokens = len(json.dumps([body["messages"], body.get("tools")])) // 4
        last = max(at for at, message in enumerate(body["messages"]) if message["role"] == "user")
        steps = sum(message["role"] == "tool" for message in body["messages"][last:])
        wanted = re.search(r'the text "(\w+)"', json.dumps(body["messages"][last]["content"]).replace("\\", ""))
        todo = [agent.read, agent.write] if wanted and wanted[1] == "second" else [agent.write]
        if not (wanted and body.get("tools")) or steps >= len(todo):
            return words("Here you are.") + finish() + usage(tokens, 5) + done()
        arguments = {agent.path: str(file)} | ({"content": wanted[1]} if todo[steps] == agent.write else {})
        calling = call_tool(todo[steps], arguments, f"call_{len(body['messages'])}")
        return Script(calling.steps[:-2]) + usage(tokens, 30) + done()

    return answer


async def said(agent: Agent, folder: Path, server: Served, *args: str) -> str:
    """What the agent prints, in a home of its own."""
    for name, content in agent.settings(server.url).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    env = {**home(folder), "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none", "OPENCODE_DISABLE_AUTOUPDATE": "1"}
    (folder / "work").mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(agent.binary, *args),
        cwd=folder / "work",
        env={**env, "XDG_CONFIG_HOME": str(folder / ".config"), "NO_COLOR": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(100):
            text, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return text.decode(errors="replace")


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    agent = AGENTS[request.param]
    if shutil.which(agent.binary) is None:
        pytest.skip(f"{agent.binary} is not installed")
    return agent


async def test_no_agent_compacts_a_short_conversation(agent: Agent, upstream: Upstream, tmp_path: Path) -> None:
    """A greeting and two turns that edit a file fill no window, though four calls stand behind every answer."""
    file = tmp_path / "work" / "notes.txt"
    for name in ("a", "b", "c", "last"):
        upstream.script(name, answers(agent, file))
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path / "server", config=config) as server:
        await said(agent, tmp_path, server, *agent.first, "just say hello")
        await said(agent, tmp_path, server, *agent.first, f'write the text "first" into {file}')
        assert file.read_text().strip() == "first"
        await said(agent, tmp_path, server, *agent.again, f'now write the text "second" into {file}')
        assert file.read_text().strip() == "second"
    assert not any(SUMMARY.search(json.dumps(call.body["messages"])) for call in upstream.calls("last"))


async def test_an_agent_shows_what_a_retry_cannot_help(agent: Agent, upstream: Upstream, tmp_path: Path) -> None:
    """It does not retry in silence, and no proposal is paid for again."""
    for name in ("a", "b", "c"):
        upstream.script(name, answers(agent, tmp_path / "notes.txt"))
    upstream.script("last", refuse(404, "this model has retired"))
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path / "server", config=config) as server:
        assert "this model has retired" in await said(agent, tmp_path, server, *agent.first, "just say hello")
    questions = [json.dumps(call.body["messages"]) for call in upstream.calls("a")]
    assert len(questions) == len({*questions})
