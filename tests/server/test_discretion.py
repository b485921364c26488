"""What of the server's machine callers and the log may hold: with keys no path, no address; in the log no foreign words."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.config.config import Config
from moa.messages import Request
from moa.server.app import create_app
from moa.server.discretion import Discretion
from moa.server.keys import Keys
from moa.tracebacks import traceback_of
from tests.fakes.local_server import serving
from tests.fakes.serving import CONFIG, Served, asking
from tests.fakes.upstream import Upstream, error_event, refuse, say, words

pytestmark = pytest.mark.anyio

SECRETS = (
    "127.0.0.1:9",
    "gpu-box",
    "10.1.2.3",
    "/private/",
    "moa.toml:",
    "prompt.txt",
    "/opt/vllm",
    "box.lan",
    "of ann",
)
SAID = "cannot load /opt/vllm/private/x.bin from http://10.1.2.3:8080/v1, 10.1.2.3 and box.lan are down"
MORE = """
[endpoints.dead]
base_url = "http://127.0.0.1:9/v1"
attempts = 1

[mixtures.lost]
layers = [["up/a"]]
aggregator = "up/last"
prompt_file = "private/prompt.txt"

[mixtures.file]
layers = [["local/{folder}/private/weights of ann/x.gguf", "up/a"]]
aggregator = "up/last"

[mixtures.half]
layers = [["dead/m", "up/a", "up/b"]]
aggregator = {{ model = "dead/n", fallbacks = ["up/last"] }}
progress = true

[mixtures.none]
layers = [["dead/m", "up/b"]]
aggregator = "up/last"
min_proposals = 2

[mixtures.nested]
layers = [["moa/half", "up/a"]]
aggregator = "up/last"
"""


@pytest.fixture(scope="module")
async def remote(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """The address of a server with keys, and the headers of a caller."""
    folder = tmp_path_factory.mktemp("discretion")
    Served(folder, config=CONFIG.format(base_url=upstream.base_url) + MORE.format(folder=folder))
    keys = Keys(folder / "keys.json")
    bearer = {"Authorization": f"Bearer {keys.add('ann')}"}
    async with serving(create_app(Config(folder / "moa.toml"), keys=keys)) as address:
        yield address, bearer


@pytest.fixture
async def mine(upstream: Upstream, tmp_path: Path) -> AsyncIterator[str]:
    """The address of the same server without keys, on this machine."""
    Served(tmp_path, config=CONFIG.format(base_url=upstream.base_url) + MORE.format(folder=tmp_path))
    async with serving(create_app(Config(tmp_path / "moa.toml"))) as address:
        yield address


async def texts_of(http: aiohttp.ClientSession, address: str, headers: dict[str, str]) -> dict[str, str]:
    """Every response that tells of errors, notices, models and tables, by what was asked."""
    found: dict[str, str] = {}

    async def asked(method: str, path: str, body: Any = None) -> str:
        async with http.request(method, address + path, json=body, headers=headers) as response:
            text = await response.text()
        found[f"{method} {path} {json.dumps(body)}"] = text
        return text

    for path in ("/v1/models", "/v1/models?all=true", "/v1/models/moa/lost", "/v1/models/moa/file", "/mixtures"):
        await asked("GET", path)
    mixtures = ("moa/lost", "moa/file", "moa/half", "moa/none", "moa/nested")
    for model in (*mixtures, "dead/m", "up/broken", "local/x.gguf"):
        await asked("POST", "/v1/chat/completions", asking(model))
        await asked("POST", "/v1/chat/completions", asking(model, stream=True))
        await asked("POST", "/v1/responses", {"model": model, "input": "Why?", "stream": True})
        await asked("POST", "/v1/messages", {**asking(model), "max_tokens": 9})
        started = json.loads(await asked("POST", "/runs", asking(model)))
        if run := started.get("run"):
            await asked("GET", f"/runs/{run}/events")
            await asked("GET", f"/runs/{run}")
            await asked("POST", "/runs", {"continue": run})
    for member in ("dead/m", "moa/lost", "openai/gpt-4o-mini", "local//private/weights.gguf"):
        table = {"layers": [[member, "up/a"]], "aggregator": "up/last"}
        await asked("POST", "/runs", {"mixture": table, "messages": asking()["messages"]})
    for path in ("/runs", "/metrics"):
        await asked("GET", path)
    return found


def fail(upstream: Upstream) -> None:
    """``up/b`` refuses and ``up/broken`` breaks off, each with words that name its machine."""
    upstream.script("b", refuse(500, SAID))
    upstream.script("broken", words("so far") + error_event(SAID))


async def test_with_keys_no_response_names_a_path_or_an_address(
    http: aiohttp.ClientSession, remote: tuple[str, dict[str, str]], upstream: Upstream
) -> None:
    """Errors, their causes, notices, progress, events, records, tables, lists and metrics; each still names the agent."""
    fail(upstream)
    address, bearer = remote
    texts = await texts_of(http, address, bearer)
    leaks = {
        asked: secret for asked, text in texts.items() for secret in SECRETS if secret in text and secret not in asked
    }
    assert leaks == {}
    lost = texts[f"POST /v1/chat/completions {json.dumps(asking('moa/lost'))}"]
    assert "moa/lost is not available" in lost and "log" in lost
    none = texts[f"POST /v1/chat/completions {json.dumps(asking('moa/none'))}"]
    assert "dead/m: cannot connect to [address]: is the server running?" in none
    half = json.loads(texts[f"POST /v1/chat/completions {json.dumps(asking('moa/half'))}"])
    assert any("dead/m" in reason for reason in half["moa"]["degraded"])
    assert half["choices"][0]["message"]["content"] == "the whole answer"


async def test_on_this_machine_without_keys_errors_name_everything(
    http: aiohttp.ClientSession, mine: str, upstream: Upstream
) -> None:
    """The user reads the path of the file and the address that does not answer."""
    fail(upstream)
    texts = "".join((await texts_of(http, mine, {})).values())
    assert all(each in texts for each in ("127.0.0.1:9", "private/prompt.txt", "/opt/vllm/private/x.bin"))


async def test_the_operator_reads_why_in_the_log(
    http: aiohttp.ClientSession,
    remote: tuple[str, dict[str, str]],
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The address, the status and the file; of an upstream's own words nothing, since they may quote the request."""
    fail(upstream)
    address, bearer = remote
    for model in ("moa/none", "moa/file", "dead/m\nforged \x1b[2J"):
        async with http.post(f"{address}/v1/chat/completions", json=asking(model), headers=bearer) as response:
            assert response.status >= 400
    lines = "\n".join(record.getMessage() for record in caplog.records if record.name == "moa.server")
    assert "dead/m: Unreachable: cannot connect to http://127.0.0.1:9/v1" in lines
    assert "up/b: UpstreamFailed: status 500" in lines
    assert "vllm" not in lines
    assert "\nforged" not in lines and "\x1b" not in lines


async def test_an_answer_keeps_its_words(
    http: aiohttp.ClientSession, remote: tuple[str, dict[str, str]], upstream: Upstream
) -> None:
    """Questions, proposals and answers may be about paths and addresses."""
    address, bearer = remote
    about = "look at http://127.0.0.1:9/x in /private/prompt.txt"
    upstream.script("last", say(about))
    body = asking("moa/trio", text=about)
    async with http.post(f"{address}/v1/chat/completions", json=body, headers=bearer) as response:
        assert (await response.json())["choices"][0]["message"]["content"] == about
    async with http.post(f"{address}/runs", json=body, headers=bearer) as response:
        run = (await response.json())["run"]
    async with http.get(f"{address}/runs/{run}/events", headers=bearer) as response:
        assert about in "".join(
            json.loads(line[6:]).get("text", "")
            for line in (await response.text()).split("\n")
            if line.startswith("data: ")
        )
    async with http.get(f"{address}/runs/{run}", headers=bearer) as response:
        record = await response.json()
    assert record["answer"]["text"] == about and record["messages"][0]["content"] == about


async def test_no_foreign_exception_reaches_the_log_with_its_message(
    http: aiohttp.ClientSession,
    remote: tuple[str, dict[str, str]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may quote a prompt. The log has the classes and the stack; the caller reads neither."""
    address, bearer = remote

    def broken(*args: object, **more: object) -> Request:
        try:
            raise KeyError("what the prompt says")
        except KeyError as error:
            raise ValueError("what the prompt says") from error

    monkeypatch.setattr("moa.mixture.mixture.Mixture.run", broken)
    with caplog.at_level(logging.DEBUG):
        async with http.post(f"{address}/v1/chat/completions", json=asking(), headers=bearer) as response:
            assert response.status == 500
            assert "prompt" not in await response.text()
        async with http.post(f"{address}/runs", json=asking(), headers=bearer) as response:
            assert response.status == 500
    assert "what the prompt says" not in caplog.text
    assert caplog.text.count("ValueError") >= 2 and "KeyError" in caplog.text and "test_discretion.py" in caplog.text


# -- texts --------------------------------------------------------------------------------------------------------------

DISCREET = Discretion(
    tells_all=lambda: False,
    known=["http://gpu-box:8001/v1", "/home/ann smith/moa.toml", "/home/ann smith"],
    models=["local//srv/my models/y.gguf", "local/qwen", "up/a"],
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no connection to https://10.0.0.5:8443/v1 within 10 s", "no connection to [address] within 10 s"),
        ("/home/ann smith/moa.toml: mixtures.x", "[path]: mixtures.x"),
        ("local//srv/models/x.gguf: no", "local/x.gguf: no"),
        ("local//srv/my models/y.gguf is", "local/y.gguf is"),
        (r"local/C:\models\x.gguf", "local/x.gguf"),
        ("'local/~/x.gguf'", "'local/x.gguf'"),
        (r"C:\Users\ann\x.gguf failed", "[path] failed"),
        ("open('/models/x.gguf')", "open('[path]')"),
        ("see ~/.config/moa/x", "see [path]"),
        ("/secret.txt", "[path]"),
        ("[fe80::1]:80, ::1 and 10.0.0.5:80", "[address], [address] and [address]"),
        ("host gpu-box refused, llm.corp:443, a.b.internal", "host [address] refused, [address], [address]"),
        ("connect to localhost failed", "connect to [address] failed"),
        *[
            (text, text)
            for text in ("groq/qwen: 429 slow down at 12:30:45", "moa/trio", "local/qwen", "up/x@hang=1", "5/3")
        ],
        *[
            (text, text)
            for text in ("llama3:70b, qwen2.5:7b", "and/or 1.2.3", "GET /v1/models?all=true", "std::vector", "")
        ],
    ],
)
def test_paths_and_addresses_are_left_out(text: str, shown: str) -> None:
    """Whatever spelling they have; names of models, times and the API's own paths stay."""
    assert DISCREET.text(text) == shown


@given(st.text(alphabet="a/:.\\-[]0 ~", max_size=200))
def test_any_text_can_be_looked_through(text: str) -> None:
    """Nothing raises, and a text that was looked through once does not change again."""
    assert DISCREET.text(DISCREET.text(text)) == DISCREET.text(text)


@pytest.mark.parametrize("unit", ["a.", "a-", ":", "/a", "1.", "x://", "local/", "[", "a:1"])
def test_a_long_text_takes_no_long_time(unit: str) -> None:
    """An upstream may send anything; time grows with the length alone."""
    DISCREET.text(unit * 20_000)


def test_a_traceback_has_no_message() -> None:
    """Causes, contexts and groups are named by their classes."""
    try:
        try:
            raise ExceptionGroup("secret", [OSError("secret"), KeyError("secret")])
        except ExceptionGroup as error:
            error.add_note("secret")
            raise RuntimeError("secret") from error
    except RuntimeError as error:
        text = traceback_of(error)
    assert "secret" not in text
    assert all(name in text for name in ("RuntimeError", "ExceptionGroup", "OSError", "KeyError", "test_discretion.py"))
