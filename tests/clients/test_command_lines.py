"""The command lines of coding agents, the real ones, against a mixture: with what ``moa client NAME --write`` sets, an empty
home, and no way to anything but this machine.

They are found on PATH, or in the folder that the environment variable MOA_NPM names (…/node_modules/.bin)::

    npm install --prefix FOLDER @openai/codex @anthropic-ai/claude-code opencode-ai
    MOA_NPM=FOLDER/node_modules/.bin uv run pytest -m slow tests/clients/test_command_lines.py
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moa.cli.client import client
from tests.fakes.local_server import in_this_process
from tests.fakes.serving import PASSED_ON, Served
from tests.fakes.upstream import Body, Script, Upstream, call_tool, hang, say, words
from tests.fakes.waiting import holds

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FOLDER = os.environ.get("MOA_NPM", "")  # read now: each test gets an environment without the user's variables

LONG = 90.0
"""Seconds that a command may take on a busy machine. Those of Node take seconds to start."""

CONFIG = """
[endpoints.up]
base_url = "{base_url}"
attempts = 1

[prices]
"up/small" = {{ input = 1.0, output = 1.0 }}
"up/last" = {{ input = 10.0, output = 10.0 }}

[mixtures.duo]
layers = [["up/small"]]
aggregator = "up/last"
"""


@dataclass(frozen=True)
class Agent:
    """One command line.

    Attributes:
        arguments: of a question without a conversation; the question follows.
        env: what turns telemetry and updates off.
    """

    arguments: tuple[str, ...]
    env: Mapping[str, str]


AGENTS = {
    # https://github.com/openai/codex/issues/8350
    "codex": Agent(
        (
            *("exec", "--profile", "moa", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            *("-c", "analytics.enabled=false"),
        ),
        {},
    ),
    # https://github.com/anthropics/claude-code/issues/29134: no updates, error reports and telemetry
    "claude": Agent(("--print", "--allowedTools", "Bash", "--"), {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}),
    # https://www.developersdigest.tech/reference/opencode/env-vars
    "opencode": Agent(("run",), {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}),
}


def program(name: str) -> str | None:
    """The path of a command line; None where it is not installed."""
    return shutil.which(name, path=os.pathsep.join(filter(None, [FOLDER, os.environ.get("PATH")])))


def each_agent(name: str) -> Any:
    reason = f"no {name} on PATH; its folder may be in MOA_NPM"
    return pytest.param(name, id=name, marks=pytest.mark.skipif(not program(name), reason=reason))


@pytest.fixture(params=[each_agent(name) for name in AGENTS])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def server(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Served]:
    upstream.script("small", say("a proposal"))
    async with in_this_process(upstream, tmp_path / "server", CONFIG.format(base_url=upstream.base_url)) as server:
        yield server


@pytest.fixture
def place(name: str, server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository below a home that holds nothing but what ``moa client`` writes."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    client(name, mixture="duo", url=server.url, write_file=True, config=str(server.folder / "moa.toml"))
    work = home / "work"
    work.mkdir()
    subprocess.run(["git", "init", "--quiet", str(work)], check=True)
    return work


@asynccontextmanager
async def running(name: str, place: Path, question: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command line with a question, in a process group of its own, as a terminal would start it."""
    path, agent = program(name), AGENTS[name]
    assert path
    kept = {each: os.environ[each] for each in PASSED_ON if each in os.environ}
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}
    process = await asyncio.create_subprocess_exec(
        *(path, *agent.arguments, question),
        cwd=place,
        env={**kept, **nowhere, **agent.env, "HOME": str(place.parent)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LONG):
            yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def output_of(name: str, place: Path, question: str) -> str:
    """What the command line writes until it ends, which must be without an error."""
    async with running(name, place, question) as process:
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def test_a_question_is_answered(name: str, place: Path, upstream: Upstream) -> None:
    """The words of the aggregator, which has read the proposal, are the agent's."""
    upstream.script("last", say("The sky scatters blue light."))
    assert "The sky scatters blue light." in await output_of(name, place, "Why is the sky blue?")
    assert any("a proposal" in str(call.body["messages"]) for call in upstream.calls("last"))


def command(body: Body, line: str) -> Script:
    """A call of the tool with which an agent runs a line of shell, whatever it calls it."""
    tools = {tool["function"]["name"] for tool in body["tools"]}
    if "exec_command" in tools:
        return call_tool("exec_command", {"cmd": line})
    if "shell" in tools:
        return call_tool("shell", {"command": ["bash", "-c", line]})
    [tool] = tools & {"Bash", "bash", "shell_command"}
    return call_tool(tool, {"command": line, "description": "Writes a file"})


async def test_a_tool_loop_makes_a_file(name: str, place: Path, upstream: Upstream) -> None:
    """The agent runs the call, its result reaches the aggregator, and the answer follows."""

    def script(body: Body) -> Script:
        if not body.get("tools"):
            return say("A title")
        if any(message["role"] == "tool" for message in body["messages"]):
            return say("The file is there.")
        return command(body, "echo made by a mixture > made.txt && echo it worked")

    upstream.script("last", script)
    assert "The file is there." in await output_of(name, place, "Make a file.")
    assert (place / "made.txt").read_text() == "made by a mixture\n"
    results = [
        message for call in upstream.calls("last") for message in call.body["messages"] if message["role"] == "tool"
    ]
    assert "it worked" in str(results)


async def test_an_interrupt_ends_every_call(name: str, place: Path, upstream: Upstream) -> None:
    """Ctrl-C in the middle of an answer ends the command, and with it what the upstream is still writing."""
    upstream.script("last", words("A long") + hang())
    async with running(name, place, "Tell me everything.") as process:
        await upstream.received(1)
        await holds(lambda: any(call.started.is_set() for call in upstream.calls("last")))
        os.killpg(process.pid, signal.SIGINT)
        await process.wait()
        await holds(lambda: upstream.open_calls == 0)
    assert any(call.disconnected.is_set() for call in upstream.calls("last"))
