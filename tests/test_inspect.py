"""Mixtures as models of the inspect framework."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from moa.errors import RequestRejected, RunError
from moa.messages import Answer, Call, Cost, Usage
from tests.fakes.packages import needs
from tests.fakes.terminal import environment
from tests.fakes.upstream import Upstream, refuse, say

pytestmark = [pytest.mark.anyio, needs("inspect_ai", install="uv sync --extra inspect")]

TOML = """
[endpoints.up]
base_url = "{base_url}"
attempts = 1

[mixtures.duo]
layers = [["up/ann", "up/bob"]]
aggregator = "up/boss"

[prices."up/*"]
input = 1000
output = 1000
"""


TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate

@task
def sums():
    samples = [Sample(input="What is two and two?", target="4"), Sample(input="And three and three?", target="6")]
    return Task(dataset=samples, solver=generate(temperature=0.25, max_tokens=20), scorer=match())
"""


@pytest.fixture
def config(tmp_path: Path, upstream: Upstream) -> Path:
    (tmp_path / "moa.toml").write_text(TOML.format(base_url=upstream.base_url))
    return tmp_path / "moa.toml"


@pytest.mark.slow
async def test_a_task_runs_on_a_mixture(config: Path, upstream: Upstream, tmp_path: Path) -> None:
    """The framework finds it by its entry point; settings reach the aggregator; usage and cost include all agents."""
    upstream.script("ann", say("I say 4."))
    upstream.script("bob", say("I say 5."))
    upstream.script("boss", lambda body: say("4" if "two" in json.dumps(body) else "7"))
    (tmp_path / "sums.py").write_text(TASK)
    command = ["eval", "sums.py", "--model", "moa/duo", "-M", f"file={config}", "--log-dir", "logs"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inspect_ai", *command, "--log-format", "json", "--display", "none"),
        cwd=tmp_path,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    (path,) = (tmp_path / "logs").glob("*.json")
    log = json.loads(path.read_text())
    assert log["status"] == "success", output.decode()
    assert log["results"]["scores"][0]["metrics"]["accuracy"]["value"] == 0.5
    bodies = [request.body for request in upstream.requests if request.model == "boss"]
    assert [(body["temperature"], body["max_tokens"]) for body in bodies] == [(0.25, 20)] * 2
    usage = log["stats"]["model_usage"]["moa/duo"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (60, 30)
    assert usage["total_cost"] == pytest.approx(0.09)
    assert [call["agent"] for call in log["samples"][0]["output"]["metadata"]["calls"]] == ["ann", "bob", "boss"]


async def test_a_mixture_without_an_answer_raises_its_error_once(config: Path, upstream: Upstream) -> None:
    """No error becomes an answer, and the framework does not retry."""
    from inspect_ai.model import ChatMessageUser, GenerateConfig

    from moa.inspect import MixtureAPI

    for name in ("ann", "bob", "boss"):
        upstream.script(name, refuse(500))
    model = MixtureAPI("duo", file=str(config))
    with pytest.raises(RunError, match="no usable proposal in layer 1") as raised:
        await model.generate([ChatMessageUser(content="Hello?")], [], "auto", GenerateConfig())
    assert not model.should_retry(raised.value)
    assert len(upstream.requests) == 2
    await model.aclose()


async def test_a_single_model_answers_for_comparison(config: Path, upstream: Upstream) -> None:
    """The price list gives its cost."""
    from inspect_ai.model import ChatMessageUser, GenerateConfig

    from moa.inspect import MixtureAPI

    upstream.script("ann", say("Alone."))
    model = MixtureAPI("up/ann", file=str(config))
    output = await model.generate([ChatMessageUser(content="Hello?")], [], "auto", GenerateConfig())
    assert output.completion == "Alone."
    assert output.usage
    assert output.usage.total_cost == pytest.approx(0.015)
    await model.aclose()


def test_a_conversation_becomes_a_request(tmp_path: Path) -> None:
    """With roles, images, tools and their results, and a schema for the answer."""
    from inspect_ai.model import (
        ChatMessage,
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
        ContentImage,
        ContentText,
        GenerateConfig,
        ResponseSchema,
    )
    from inspect_ai.tool import ToolCall, ToolFunction, ToolInfo, ToolParams
    from inspect_ai.util import JSONSchema

    from moa.inspect import request_of

    (tmp_path / "dot.gif").write_bytes(b"GIF")
    messages: list[ChatMessage] = [
        ChatMessageSystem(content="Be brief."),
        ChatMessageUser(content=[ContentText(text="Look."), ContentImage(image=str(tmp_path / "dot.gif"))]),
        ChatMessageAssistant(content="", tool_calls=[ToolCall(id="c1", function="look", arguments={"at": "it"})]),
        ChatMessageTool(content="a dot", tool_call_id="c1", function="look"),
    ]
    tool = ToolInfo(
        name="look", description="Looks.", parameters=ToolParams(properties={"at": JSONSchema(type="string")})
    )
    schema = ResponseSchema(name="verdict", json_schema=JSONSchema(type="object"), strict=True)
    config = GenerateConfig(stop_seqs=["END"], seed=3, response_schema=schema, extra_body={"vendor": 1})
    body = request_of(messages, [tool], ToolFunction("look"), config).body
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    assert body["messages"][1]["content"][1]["image_url"]["url"] == "data:image/gif;base64,R0lG"
    assert json.loads(body["messages"][2]["tool_calls"][0]["function"]["arguments"]) == {"at": "it"}
    assert (body["messages"][3]["tool_call_id"], body["messages"][3]["content"]) == ("c1", "a dot")
    assert body["tools"][0]["function"]["parameters"]["properties"]["at"]["type"] == "string"
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body["response_format"]["json_schema"]["name"] == "verdict"
    assert (body["stop"], body["seed"], body["vendor"]) == (["END"], 3, 1)
    assert request_of(messages, [tool], "any", GenerateConfig()).body["tool_choice"] == "required"


def test_unsupported_content_is_refused() -> None:
    """A mixture reads text and images, no audio."""
    from inspect_ai.model import ChatMessageUser, ContentAudio, GenerateConfig

    from moa.inspect import request_of

    sound = ChatMessageUser(content=[ContentAudio(audio="data:audio/wav;base64,AA==", format="wav")])
    with pytest.raises(RequestRejected, match="reads text and images, not audio"):
        request_of([sound], [], "auto", GenerateConfig())


def test_an_answer_becomes_the_frameworks_output() -> None:
    """Reasoning, tool calls, finish reason, tokens without the cached ones; a lower bound is no cost."""
    from moa.inspect import output_of

    answer = Answer(
        text="Yes.",
        reasoning="Hm.",
        tool_calls=({"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}},),
        finish_reason="length",
        usage=Usage(100, 20, cached_tokens=30, reasoning_tokens=5),
        cost=Cost(1.0, at_least=True),
        calls=(Call("ann", 1, "up/ann", text="No."),),
    )
    output = output_of("duo", answer)
    assert (output.completion, output.stop_reason) == ("Yes.", "max_tokens")
    assert output.message.tool_calls
    assert (output.message.tool_calls[0].function, output.message.tool_calls[0].arguments) == ("look", {"at": 1})
    assert output.usage
    usage = output.usage
    assert (usage.input_tokens, usage.input_tokens_cache_read, usage.total_tokens, usage.total_cost) == (
        70,
        30,
        120,
        None,
    )
    assert (output.metadata or {})["calls"][0]["text"] == "No."
