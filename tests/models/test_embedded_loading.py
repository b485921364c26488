"""Embedded models: loading, failing to load, and closing; real processes with the smallest weights."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from moa.errors import ConfigError, ModelError, StreamBroken, UnknownName
from moa.messages import Delta, Request
from moa.models import embedded
from moa.models.embedded import EmbeddedModel, _Load
from moa.models.llama_process import LlamaProcess
from moa.models.weights import Weights
from tests.fakes.fake_hub import gguf
from tests.fakes.waiting import PATIENCE
from tests.models.calling import deltas_of
from tests.models.embedding import answered, ask, endless, needs_weights, process_of, resident

pytestmark = [pytest.mark.anyio, needs_weights]


async def test_it_is_loaded_once_and_closing_gives_the_memory_back() -> None:
    """Many first calls cause one load and one notice, and the event loop keeps running; closing frees all memory."""
    notices: list[str] = []
    model = EmbeddedModel("smollm2", context=512, on_notice=notices.append)
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    watching = asyncio.create_task(watch())
    assert not model.loaded
    await asyncio.gather(*(model.load() for _ in range(5)))
    watching.cancel()
    assert notices == ["loading local/smollm2: SmolLM2-135M-Instruct.Q4_1, 98 MB …"]
    assert model.loaded
    assert turns > 5
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


async def test_a_process_that_was_killed_while_idle_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request is answered, also where the system does not report the end of the process at once."""
    async with EmbeddedModel("smollm2", context=512, slots=1) as model:
        await model.load()
        process, reports = process_of(model), iter([True, True])
        process.kill()
        await asyncio.to_thread(process.wait)
        alive = vars(LlamaProcess)["alive"].fget
        monkeypatch.setattr(LlamaProcess, "alive", property(lambda self: next(reports, False) or alive(self)))
        assert (await answered(model, ask(max_tokens=3))).text


async def test_a_process_that_does_not_survive_a_question_is_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends with every question is no endless loop of loads."""
    async with EmbeddedModel("smollm2", context=512, slots=1) as model:
        await model.load()
        starts = 0

        async def crash(self: EmbeddedModel, request: Request) -> AsyncGenerator[Delta, None]:
            nonlocal starts
            starts += 1
            process_of(model).kill()
            raise StreamBroken(self.name, "the connection was lost")
            yield Delta()

        monkeypatch.setattr(EmbeddedModel, "_answer", crash)
        with pytest.raises(StreamBroken):
            await answered(model, ask())
        assert starts == 2


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
    monkeypatch.setattr("moa.models.hub.find_spec", lambda name: None)
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
from tests.fakes.waiting import PATIENCE

model = EmbeddedModel("smollm2", context=512)

async def main():
    asyncio.get_running_loop().slow_callback_duration = PATIENCE  # a busy machine is slow, and says so
    stream = model.stream(Request.of({endless().json()!s}))
    for _ in range(2):
        await anext(stream)
    print(model._load.process.pid, flush=True)
    {ending}

asyncio.run(main())
""".replace("true", "True")
    run = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode in (status, -2 if status else 0), run.stderr
    assert (run.stderr.strip().splitlines() or [""])[-1] == last_line
    assert not Path(f"/proc/{json.loads(run.stdout)}").exists()
