"""Small tasks of clients (titles, tags, …) go to the configured small model, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moa.config.config import Config
from moa.messages import Request
from moa.server.access import Access
from moa.server.dialects.chat import read_chat
from moa.server.discretion import Discretion
from moa.server.model_list import ModelList
from moa.server.small_tasks import RULES, SmallTasks, task_of
from tests.fakes.serving import Served, all_events, asking, post
from tests.fakes.upstream import Upstream
from tests.server.conftest import Serve

pytestmark = pytest.mark.anyio

NEXT = "who should logically speak next"
HISTORY = "### Chat History:\n<chat_history>\nUSER: Why?\n</chat_history>"
TITLE = f"### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n{HISTORY}"
TOOL = {
    "type": "function",
    "function": {"name": "respond_in_schema", "parameters": {"type": "object", "properties": {}}},
}


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def system(text: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": text}, {"role": "user", "content": "Why is the sky blue?"}]


@pytest.mark.parametrize(
    ("task", "messages"),
    [
        ("open-webui title", user(TITLE)),
        ("open-webui title", user(f"### Task:\nGenerate a concise title summarizing the chat history.\n{HISTORY}")),
        ("open-webui tags", user(f"### Task:\nGenerate 1-3 broad tags categorizing the main themes\n\n{HISTORY}")),
        ("open-webui follow-ups", user(f"### Task:\nSuggest 3-5 relevant follow-up questions or prompts\n{HISTORY}")),
        (
            "open-webui search queries",
            user(f"### Task:\nAnalyze the chat history to determine the necessity …\n{HISTORY}"),
        ),
        ("open-webui autocomplete", user("### Task:\nYou are an autocompletion system. …<type>x</type><text>y</text>")),
        (
            "open-webui emoji",
            user("Your task is to reflect the speaker's likely facial expression … emoji"),
        ),
        (
            "opencode title",
            system("You are a title generator. You output ONLY a thread title. Nothing else.\n\n<task>…"),
        ),
        ("librechat title", user("Provide a concise, 5-word-or-less title for the conversation, using title case …")),
        ("lobechat title", system("You are a professional conversation summarizer. Generate a concise title that …")),
        ("continue title", user("Given the following... please reply with a title for the chat that is 3-4 words …")),
        ("open-webui title", [{"role": "user", "content": [{"type": "text", "text": TITLE}]}]),
        (None, user("Why is the sky blue?")),
        (None, user(f"What does this prompt do?\n\n{TITLE}")),
        (None, user("### Task:\nGenerate a concise summary of my thesis.")),
        (None, system("You are a helpful assistant. You output ONLY a thread title.")),
        (None, [*user(TITLE), {"role": "assistant", "content": "Sky"}, *user("Thanks. And why?")]),
    ],
)
def test_a_clients_prompt_is_recognised_by_its_beginning(task: str | None, messages: list[dict[str, Any]]) -> None:
    """The known prompts are; questions, quotations of such prompts and other tasks are not."""
    assert task_of(Request.of(messages)) == task


def test_a_request_with_tools_is_a_small_task_only_where_its_client_sends_tools() -> None:
    """An agent's system prompt may begin as it likes: with tools it is at work."""
    check = "Analyze *only* the content and structure of your immediately preceding response: " + NEXT
    assert task_of(Request.of({"messages": user(check), "tools": [TOOL]})) == "qwen-code next speaker"
    assert task_of(Request.of({"messages": user(TITLE), "tools": [TOOL]})) is None


def test_no_rule_is_a_common_beginning() -> None:
    """Each begins with words enough that no question begins so by chance."""
    assert all(len(rule.beginning.split()) >= 5 for rule in RULES)


@pytest.fixture(scope="module")
async def server(serve: Serve) -> Served:
    return await serve(first='small = "up/spare"\n')


async def test_the_small_model_answers_in_one_call(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The answer names the model as the client did, says which task it is, and the log says which model answered."""
    body = {"model": "moa/trio", "messages": user(TITLE)}
    status, payload, headers = await post(http, server, body)
    assert (status, payload["model"], payload["moa"]["small"]) == (200, "moa/trio", "open-webui title")
    assert payload["choices"][0]["message"]["content"] == "words of spare"
    assert [received.model for received in upstream.requests] == ["spare"]
    assert (await server.logged(headers["x-moa-run"]))["model"] == "up/spare"
    assert (await all_events(http, server, body))[-2]["moa"]["small"] == "open-webui title"


@pytest.mark.parametrize(
    "body",
    [
        asking(),
        {"model": "moa/trio", "messages": user(TITLE), "moa": {"small": False}},
        {"model": "up/last", "messages": user(TITLE)},
    ],
    ids=["a question", "switched off", "a single model"],
)
async def test_everything_else_stays_where_it_is(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, body: Any
) -> None:
    """Questions, requests that decline, and single models that the caller has chosen."""
    _, payload, _ = await post(http, server, body)
    assert "small" not in payload["moa"]
    assert "spare" not in {received.model for received in upstream.requests}


async def test_a_mixture_with_a_mistake_is_reported_all_the_same(http: aiohttp.ClientSession, server: Served) -> None:
    """A name that does not exist is a 404 for a title, too."""
    status, payload, _ = await post(http, server, {"model": "moa/nothing", "messages": user(TITLE)})
    assert (status, payload["error"]["code"]) == (404, "model_not_found")


async def test_without_the_setting_a_title_is_a_question_as_any_other(
    http: aiohttp.ClientSession, serve: Serve, upstream: Upstream
) -> None:
    """It is off by default."""
    _, payload, _ = await post(http, await serve(), {"model": "moa/trio", "messages": user(TITLE)})
    assert "small" not in payload["moa"] and len(upstream.requests) == 4


async def test_a_small_model_that_cannot_be_called_costs_no_answer(
    http: aiohttp.ClientSession, serve: Serve, upstream: Upstream
) -> None:
    """The mixture answers, and the log says why the small model does not."""
    server = await serve(first='small = "openai/gpt-4o-mini"\n')
    status, payload, _ = await post(http, server, {"model": "moa/trio", "messages": user(TITLE)})
    assert (status, payload["choices"][0]["message"]["content"]) == (200, "the whole answer")
    assert "OPENAI_API_KEY" in server.text and "Traceback" not in server.text


FAR = """
small = "far/tiny"

[endpoints.far]
base_url = "https://far.example/v1"

[endpoints.near]
base_url = "http://127.0.0.1:9/v1"

[mixtures.private]
aggregator = "near/x"
local_only = true

[mixtures.open]
aggregator = "near/x"
"""


def test_the_text_of_a_private_mixture_goes_to_no_small_model_elsewhere(tmp_path: Path) -> None:
    """``local_only`` holds for its titles, too."""
    (tmp_path / "moa.toml").write_text(FAR)
    config = Config(tmp_path / "moa.toml", environ={})
    tasks = SmallTasks(config, ModelList(config, Discretion.of(config, Access())))

    def model(name: str) -> str:
        return tasks.routed(read_chat({"model": name, "messages": user(TITLE)})).model

    assert (model("moa/private"), model("private"), model("moa/open")) == ("moa/private", "private", "far/tiny")
