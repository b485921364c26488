"""Every block of code in the documentation works: Python and shell run, configuration is valid, JSON is JSON.

Blocks of a page run in order, as a reader would enter them: with the names and the files that the blocks before left behind.
Providers' addresses lead to a scripted server on a real socket, and so does the port of ``moa serve``.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import math
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tomllib
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import moa
from moa import events
from moa.config.config import Config
from moa.config.tables import File
from moa.messages import Delta
from moa.mixture.background import BACKGROUND
from moa.mixture.mixture import Mixture
from moa.models.providers import PROVIDERS
from tests.fakes import shell, small_benchmarks
from tests.fakes.serving import Served, home
from tests.fakes.upstream import Body, Script, Upstream, chunk, done, finish, say, usage

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)

PROVIDED = "http://127.0.0.1:8000"
"""The address of ``moa serve`` in the documentation."""

MEASURING = {"docs/howto/measure.md", "docs/howto/search.md", "docs/reference/evals.md"}
"""Pages whose commands take seconds each, to load numpy and to draw: their blocks are slow tests."""

CONFIG = """
default = "careful"

[mixtures.careful]
layers = [["groq/qwen/qwen3.8-27b", "mistral/mistral-medium-latest"]]
aggregator = "openrouter/qwen/qwen3-max"

[mixtures.panel]
layers = [["groq/qwen/qwen3.8-27b", "mistral/mistral-medium-latest"]]
aggregator = "openrouter/qwen/qwen3-max"

[parameters]
"openrouter/*" = 70
"""
"""The moa.toml of a reader who has the mixtures that pages speak of, on models that answer at once."""


@dataclass(frozen=True)
class Block:
    """A block of code. ``line`` is the line of its first line in the page."""

    page: str
    line: int
    kind: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """All blocks of a page, without the indentation of a list."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        indentation, kind, block = found.groups()
        line = text.count("\n", 0, found.start()) + 2
        yield Block(str(page.relative_to(ROOT)), line, kind, re.sub(f"^{indentation}", "", block, flags=re.MULTILINE))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def every(*kinds: str) -> pytest.MarkDecorator:
    """A test for each block of these kinds."""
    return pytest.mark.parametrize(
        "block",
        [
            pytest.param(block, id=block.id, marks=[pytest.mark.slow] if block.page in MEASURING else [])
            for block in BLOCKS
            if block.kind in kinds
        ],
    )


def answering(body: Body) -> Script:
    """What every model answers: a verdict or grades where the prompt is a judge's, else two sentences."""
    digest = zlib.crc32(str(body).encode())
    if body.get("logprobs"):
        first = 0.1 + digest % 8 / 10
        likely = [{"token": "m", "logprob": math.log(first)}, {"token": "M", "logprob": math.log(1 - first)}]
        logprobs = {"content": [{**likely[0], "top_logprobs": likely}]}
        return chunk({"content": "m"}, logprobs=logprobs) + finish("length") + usage() + done()
    if "Be fair." in str(body["messages"]):
        return say("Rating: [[8]] {'Readability': 4, 'Logical Correctness': 5}")
    return say(f"The sky scatters blue light more than red light. That is why it is blue, as {digest % 97} of us say.")


@contextmanager
def providers_at(base_url: str) -> Iterator[None]:
    """Every provider is at this address and needs no key."""
    before = [(row, row.base_url, row.key_variable) for row in PROVIDERS.values()]
    try:
        for row in PROVIDERS.values():
            object.__setattr__(row, "base_url", base_url)
            object.__setattr__(row, "key_variable", None)
        yield
    finally:
        for row, url, variable in before:
            object.__setattr__(row, "base_url", url)
            object.__setattr__(row, "key_variable", variable)


@contextmanager
def port_8000_at(port: int) -> Iterator[None]:
    """Connections to port 8000 of this machine lead to another port of it."""
    connect = socket.socket.connect

    def connected(self: socket.socket, address: Any) -> None:
        connect(self, (address[0], port) if address[1:2] == (8000,) else address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connected)
        yield


@dataclass
class Reader:
    """A reader of one page: a home folder, a Python session, a server if the page calls one, and the blocks run so far."""

    page: str
    folder: Path
    programs: Path
    upstream: Upstream
    stack: AsyncExitStack
    served: Served | None = None
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "reader"})
    ended: set[int] = field(default_factory=set)
    opened: list[Mixture | Config] = field(default_factory=list)

    @property
    def config(self) -> str:
        tables = [f'[endpoints.{name}]\nbase_url = "{self.upstream.base_url}"\n' for name in PROVIDERS]
        return "\n".join([CONFIG, *tables])

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in home(self.folder).items() if not name.startswith("XDG_")}
        return {**kept, "MOA_DATA": str(self.folder / "data"), "COLUMNS": "100"}

    async def prepare(self) -> None:
        """The files that pages speak of, and the server that they call."""
        place = self.folder / ".config" / "moa" / "moa.toml"
        place.parent.mkdir(parents=True)
        place.write_text(self.config)
        (self.folder / "question.txt").write_text("Why is the sky blue?")
        rows = '{"prompt": "Why is the sky blue?"}\n{"prompt": "And the sea?"}\n'
        (self.folder / "prompts.jsonl").write_text(rows)
        questions = ['{"question": "What is 1 + 1?", "answer": 2}', '{"question": "What is 2 + 3?", "answer": 5}']
        (self.folder / "questions.jsonl").write_text("\n".join(questions))
        (self.folder / "in").mkdir()
        (self.folder / "in" / "more.jsonl").write_text(rows)
        for make in (small_benchmarks.alpaca_eval, small_benchmarks.mt_bench, small_benchmarks.flask):
            make(self.folder / "data")
        if any(re.search(r"moa runs \w+ 0f3c", block.text) for block in BLOCKS if block.page == self.page):
            await self.save_runs("0f3c", "1a2b")
        if any(PROVIDED in block.text for block in BLOCKS if block.page == self.page):
            self.served = await self.stack.enter_async_context(Served(self.folder / "server", config=self.config))
            address = self.served.origin.removeprefix("http://")
            (self.folder / ".curlrc").write_text(f'connect-to = "127.0.0.1:8000:{address}"\n')

    async def save_runs(self, *starts: str) -> None:
        """Save a run for each of these beginnings of an ID."""
        for start in starts:
            await shell.run('moa ask --keep "Why is the sky blue?"', self.programs, self.folder, self.env)
            with closing(sqlite3.connect(self.folder / ".local" / "state" / "moa" / "runs.sqlite")) as store, store:
                store.execute(
                    "UPDATE runs SET run = ? || substr(run, 5) WHERE number = (SELECT max(number) FROM runs)", [start]
                )

    async def run(self, block: Block) -> None:
        """Run a block and, before it, the blocks of its page that have not run."""
        for each in BLOCKS:
            if each.page == self.page and each.line <= block.line and each.line not in self.ended:
                if each.kind == "sh":
                    await self.shell(each)
                elif each.kind == "python":
                    await asyncio.to_thread(self.python, each)
                self.ended.add(each.line)

    async def shell(self, block: Block) -> None:
        code, printed = await shell.run(block.text, self.programs, self.folder, self.env)
        assert code == 0, f"{block.id}: exit code {code}\n{printed}"
        assert "Traceback" not in printed, printed

    def python(self, block: Block) -> None:
        """Run a block, with await wherever it has one, and the tests that it defines."""
        code = compile(block.text, block.id, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        port = int(self.served.origin.rpartition(":")[2]) if self.served else 8000
        with providers_at(self.upstream.base_url), port_8000_at(port), asyncio.Runner() as runner:
            before = {*self.names}
            if inspect.isawaitable(running := eval(code, self.names)):
                runner.run(_awaited(running))
            for name in self.names.keys() - before:
                if name.startswith("test_"):
                    runner.run(self.names[name]())
        self.opened += [value for value in self.names.values() if isinstance(value, Mixture | Config)]


async def _awaited(running: Any) -> None:
    await running


class Readers(dict[str, Reader]):
    """The readers of this process, one a page, made when they are needed."""

    def __init__(self, folder: Path, upstream: Upstream, stack: AsyncExitStack) -> None:
        super().__init__()
        self.folder, self.upstream, self.stack = folder, upstream, stack
        shell.programs(folder / "programs")

    async def of(self, block: Block) -> Reader:
        if block.page not in self:
            folder = self.folder / re.sub(r"\W", "-", block.page)
            folder.mkdir()
            self[block.page] = Reader(block.page, folder, self.folder / "programs", self.upstream, self.stack)
            await self[block.page].prepare()
        return self[block.page]


@pytest.fixture(scope="module")
async def readers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Readers]:
    async with Upstream() as upstream, AsyncExitStack() as stack:
        upstream.script("*", answering)
        readers = Readers(tmp_path_factory.mktemp("readers"), upstream, stack)
        yield readers
        for reader in readers.values():
            for opened in reader.opened:
                await asyncio.wrap_future(BACKGROUND.start(opened.aclose()).future)  # the connections of `ask`


@pytest.fixture(autouse=True)
def real_calls_allowed() -> Iterator[None]:
    """Undo what a block may do: forbid real calls in this process."""
    with moa.allow_real_calls():
        yield


@every("python", "sh")
async def test_every_command_and_program_in_the_documentation_runs(block: Block, readers: Readers) -> None:
    """Nothing raises, and every command exits with 0."""
    if reason := block.kind == "sh" and shell.why_not(block.text):
        pytest.skip(reason)
    reader = await readers.of(block)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(reader.folder)
        for name, value in reader.env.items():
            patch.setenv(name, value)
        for name in [name for name in os.environ if name.startswith("XDG_")]:
            patch.delenv(name)
        await reader.run(block)


@every("toml")
def test_every_piece_of_configuration_in_the_documentation_is_valid(block: Block) -> None:
    """What a reader copies into moa.toml reads without an error."""
    File.model_validate(tomllib.loads(block.text))


@every("json")
def test_every_piece_of_json_in_the_documentation_parses(block: Block) -> None:
    """It is one JSON value."""
    json.loads(block.text)


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    """Other blocks are drawings, which have no language, and the configuration of a proxy."""
    assert {block.kind for block in BLOCKS} <= {"", "json", "nginx", "python", "sh", "toml"}


def test_only_listed_commands_are_not_run() -> None:
    """Each of the commands that do nothing in these tests is in the documentation, with its reason in the list."""
    commands = "\n".join(block.text for block in BLOCKS if block.kind == "sh")
    assert [name for name in shell.NOT_RUN if not re.search(rf"(^|[ &|]){name}\b", commands, re.MULTILINE)] == [
        "docker"
    ]


def test_the_example_configuration_is_valid() -> None:
    """examples/moa.toml reads, and its default is one of its mixtures."""
    file = File.model_validate(tomllib.loads((ROOT / "examples" / "moa.toml").read_text()))
    assert file.default in file.mixtures


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link is to a file that exists and, where it names one, to a heading of that file."""
    for page in [*PAGES, ROOT / "benchmarks" / "README.md"]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in anchors_of(file), f"{page.name} links to {target}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_code_names_pages_that_exist() -> None:
    """Every page that code or messages name exists."""
    for folder in ("src", "tests", "examples", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"(?<![\w/.])docs/[\w/-]+\.md", file.read_text(encoding="utf-8")):
                assert (ROOT / name).exists(), f"{file} names {name}"


def test_the_map_of_the_rooms_names_files_that_exist() -> None:
    """Every file and room in the tree of docs/explanation/architecture.md exists."""
    page = ROOT / "docs" / "explanation" / "architecture.md"
    (tree,) = [block.text for block in blocks_of(page) if not block.kind]
    existing = {path.name for path in (ROOT / "src" / "moa").rglob("*")}
    assert [
        name
        for name in re.findall(r"(\w+\.py\b|\w+(?=/(?: |,|$)))", tree, re.MULTILINE)
        if name not in {*existing, "src", "moa"}
    ] == []


def test_pages_are_short() -> None:
    """No page is longer than 300 lines, and the README is shorter than 150."""
    lengths = {page: len(page.read_text(encoding="utf-8").splitlines()) for page in PAGES}
    assert [page for page, length in lengths.items() if length > 300] == []
    assert lengths[ROOT / "README.md"] < 150


def test_every_event_is_described_with_its_fields() -> None:
    """The table in docs/reference/runs.md has every event, with all fields that it has."""
    text = (ROOT / "docs" / "reference" / "runs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \|([^|]*)\|", text, re.MULTILINE)
    described = {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows if name in events.EVENTS}
    assert described.keys() == events.EVENTS.keys()
    for name, kind in events.EVENTS.items():
        has = {*kind.__struct_fields__} - {"at"}
        has |= {*Delta.__struct_fields__} if "delta" in has else set()
        has |= {"causes"} if name == "run_failed" else set()
        assert described[name] == has - {"delta"}, name


def test_the_public_names_are_these() -> None:
    """A name that comes or goes is a change of the interface, and is meant."""
    assert moa.__all__ == [
        "Agent",
        "Answer",
        "Barrier",
        "Call",
        "Config",
        "Cost",
        "Delta",
        "EarlyExit",
        "EmbeddedModel",
        "Endpoint",
        "Function",
        "Mixture",
        "MoaError",
        "Model",
        "Price",
        "Prices",
        "Quorum",
        "Recorded",
        "Reference",
        "Request",
        "Run",
        "Scripted",
        "Staircase",
        "Usage",
        "allow_real_calls",
        "as_json",
        "attribution_of",
        "fold",
        "forbid_real_calls",
        "text_of",
        "with_text",
    ]
    assert all(getattr(moa, name) is not None for name in moa.__all__)
    assert moa.__version__


def test_importing_the_package_does_no_work() -> None:
    """Nothing heavy is loaded, and nothing of ours but the package itself, until a name is used."""
    heavy = ("moa", "aiohttp", "pydantic")
    program = f"import sys, moa; print(sorted(name for name in sys.modules if name.startswith({heavy})))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "['moa']\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As with any module."""
    with pytest.raises(AttributeError, match="module 'moa' has no attribute 'Mixtur'"):
        moa.Mixtur  # noqa: B018
