"""Where a benchmark's files come from."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from moa.errors import ConfigError
from moa.evals.asking.data import File, Shelf, read_rows
from moa.evals.benchmark import Options
from moa.evals.benchmarks import ALL
from moa.evals.benchmarks.alpaca_eval.judging import GAMED
from tests.fakes.fake_hub import FakeHub

ROWS = [{"a": 1, "text": "one\u2028two"}, {"a": 2, "text": "three"}]
CONTENT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub({"org/set": {"rows.jsonl": CONTENT}}) as running:
        yield running


def wanted(hub: FakeHub, content: bytes = CONTENT) -> File:
    url = f"{hub.url}/org/set/resolve/main/rows.jsonl"
    return File("small", ("rows.jsonl", "deep/path/rows.jsonl"), url, hashlib.sha256(content).hexdigest())


def test_a_file_is_downloaded_once_after_its_licence_is_shown(hub: FakeHub, tmp_path: Path) -> None:
    """The second use finds it in the cache; progress is reported in bytes."""
    events: list[object] = []
    shelf = Shelf(
        licences={"small": "for tests only"},
        on_notice=events.append,
        on_fetching=lambda *progress: events.append(progress),
    )
    assert shelf.rows(wanted(hub)) == ROWS
    assert events == ["for tests only", ("rows.jsonl", len(CONTENT), len(CONTENT))]
    assert Shelf().rows(wanted(hub)) == ROWS
    assert hub.requests == ["GET /org/set/resolve/main/rows.jsonl"]
    assert [path.name for path in shelf.cache.rglob("*") if path.is_file()] == ["rows.jsonl"]


def test_a_file_that_changed_at_its_source_is_refused(hub: FakeHub) -> None:
    """A download with another checksum is neither used nor kept."""
    shelf = Shelf()
    with pytest.raises(ConfigError, match=r"has changed .*--data DIR"):
        shelf.path(wanted(hub, b"something else"))
    assert not [*shelf.cache.rglob("*.*")]


def test_a_failed_download_names_its_address_and_the_remedy(hub: FakeHub) -> None:
    """The message has the status or reason, the address, and the place for a copy."""
    hub.status = 503
    with pytest.raises(
        ConfigError, match=r"rows.jsonl.*does not return: 503 Service Unavailable.*DIR/small/rows.jsonl"
    ):
        Shelf().path(wanted(hub))
    with pytest.raises(ConfigError, match="does not return"):
        Shelf().path(File("small", ("x.json",), "http://127.0.0.1:9/x.json", "0"))
    with pytest.raises(ConfigError, match="not on this machine"):
        Shelf().path(File("small", ("x.json",)))


def test_hf_endpoint_replaces_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the hub's own client, HF_ENDPOINT replaces huggingface.co."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    file = wanted(hub)
    there = File(file.benchmark, file.names, file.url.replace(hub.url, "https://huggingface.co"), file.sha256)
    assert Shelf().rows(there) == ROWS


@pytest.mark.parametrize(
    "place",
    ["small/rows.jsonl", "rows.jsonl", "small/deep/path/rows.jsonl", "deep/path/rows.jsonl", "small/rows.jsonl.gz"],
)
def test_the_users_own_copy_comes_first(
    place: str, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found by its official path or its bare name, in a folder of its benchmark or not, plain or gzipped."""
    path = tmp_path / "own" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b'{"own": 1}\n') if place.endswith(".gz") else b'{"own": 1}\n')
    assert Shelf(tmp_path / "own").rows(wanted(hub)) == [{"own": 1}]
    monkeypatch.setenv("MOA_DATA", str(tmp_path / "own"))
    assert Shelf().rows(wanted(hub)) == [{"own": 1}]
    assert hub.requests == []


def test_a_missing_data_folder_is_an_error(tmp_path: Path) -> None:
    """A misspelt folder does not start a download."""
    with pytest.raises(ConfigError, match="--data names"):
        Shelf(tmp_path / "nowhere")


def test_a_file_of_an_installed_package_is_found_without_importing_it() -> None:
    """AlpacaEval's prompt comes from its package if that is installed."""
    assert Shelf().here(File("small", ("none.txt",), packaged="moa/py.typed")) is not None
    assert Shelf().here(File("small", ("none.txt",), packaged="no_such_package/py.typed")) is None


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", json.dumps(ROWS, indent=2, ensure_ascii=False)),
        ("x.jsonl", CONTENT.decode()),
        ("x.jsonl", CONTENT.decode() + '{"a": 3, "te'),
        ("x.jsonl", "\ufeff\r\n" + CONTENT.decode().replace("\n", "\r\n")),
        ("x", CONTENT.decode()),
    ],
)
def test_rows_are_read_from_every_format(name: str, text: str, compressed: bool, tmp_path: Path) -> None:
    """A JSON list, JSON Lines, an incomplete last line; gzipped or not, whatever the file's name."""
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    assert read_rows(tmp_path / name) == ROWS


def test_rows_of_a_csv_file_are_read_by_its_header(tmp_path: Path) -> None:
    """Gzipped or not."""
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b',w\nname,"1,5"\n'))
    assert read_rows(tmp_path / "x.csv.gz") == [{"": "name", "w": "1,5"}]


@pytest.mark.parametrize("text", ["<html>", "[1, 2]", '{"a": 1}\nnonsense\n{"a": 2}\n', "[{", '"text"'])
def test_a_file_without_rows_is_refused_with_its_path(text: str, tmp_path: Path) -> None:
    """A web page, a list of other values, a damaged line in the middle."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.json"):
        read_rows(tmp_path / "x.json")
    with pytest.raises(ConfigError, match="No such file"):
        read_rows(tmp_path / "y.json")


def test_every_file_has_an_official_address_and_a_checksum() -> None:
    """Every file that a run needs can be downloaded, from a fixed revision where the host has revisions. The user's own copy
    is needed only where the command takes it as FILE."""
    every = [Options(), *(Options(flags=frozenset({flag.name})) for benchmark in ALL for flag in benchmark.flags)]
    fetched = [benchmark for benchmark in ALL if not benchmark.takes_file]
    needed = [file for benchmark in fetched for options in every for file in benchmark.needs(options)]
    for file in (*needed, GAMED):
        assert file.url.startswith(("https://huggingface.co/datasets/", "https://raw.githubusercontent.com/"))
        assert len(file.sha256) == 64
