from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from moa import Config
from moa.config.auto import OWNER, choose
from moa.config.presets import MERGES_FROM, PRESETS, preset
from moa.config.tables import MixtureTable
from moa.models.providers import PROVIDERS
from moa.models.weights import Weights
from moa.prices import _list_entry

NO_SERVERS = {"OLLAMA_HOST": "127.0.0.1:1"}


@pytest.fixture(autouse=True)
def no_model_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model server responds at the usual ports, whatever runs on the developer's machine."""
    monkeypatch.setattr("moa.config.auto._models_of", lambda base_url: [])


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "auto"])
def test_every_preset_is_a_mixture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each preset is valid, has a description, and names only known providers."""
    table = MixtureTable.model_validate(preset(name))
    assert table.description
    members = [member if isinstance(member, str) else member.model for layer in table.layers for member in layer]
    assert {member.partition("/")[0] for member in members} <= {*PROVIDERS, "local"}
    for variable in {row.key_variable for row in PROVIDERS.values() if row.key_variable}:
        monkeypatch.setenv(variable, "sk-test")
    assert Config().mixture(name).depth == len(table.layers) + table.rounds


def test_the_presets_of_recursive_aggregation_have_their_sizes() -> None:
    """Four samples that read two, in two rounds; and the paper's sixteen that read four, in ten."""
    tables = {name: preset(name) for name in ("self-deep", "rsa")}
    sizes = {name: (len(table["layers"][0]), table["reads"], table["rounds"]) for name, table in tables.items()}
    assert sizes == {"self-deep": (4, 2, 2), "rsa": (16, 4, 10)}


def test_the_papers_mixtures_are_the_papers() -> None:
    """Three layers with six proposers in each of the first two, or two layers; the aggregator counts as the last."""
    shapes = {name: [len(layer) for layer in preset(name)["layers"]] for name in ("paper", "paper-lite", "paper-gpt4o")}
    assert shapes == {"paper": [6, 6], "paper-lite": [6], "paper-gpt4o": [6, 6]}
    assert preset("paper")["aggregator"]["model"] == "together/Qwen/Qwen1.5-110B-Chat"
    assert preset("paper")["references"] == "system"
    assert {member["temperature"] for member in preset("paper")["layers"][0]} == {0.7}


def test_auto_prefers_the_first_mixture_of_the_file() -> None:
    """With a moa.toml it is its first mixture, whatever API keys are set."""
    choice = choose(mixtures=["mine", "other"], path=Path("moa.toml"), environ={"OPENAI_API_KEY": "x"})
    assert (choice.mixture, choice.why) == ("mine", "the first mixture of moa.toml")


NOT_FOR_AUTO = {
    "azure",  # its users name their deployments themselves
    "github",  # retired
}


@pytest.mark.parametrize("provider", [name for name, row in PROVIDERS.items() if not row.local])
def test_auto_has_a_mixture_for_every_provider(provider: str) -> None:
    """The API key of any one provider is enough for at least two proposals by models of that provider."""
    if provider in NOT_FOR_AUTO:
        assert provider not in preset("auto")
        return
    row = PROVIDERS[provider]
    variable = row.auto_variable or row.key_variable
    assert variable
    config = Config(environ={variable: "sk-test", "GOOGLE_CLOUD_PROJECT": "p", **NO_SERVERS})
    assert config.auto_choice().why == f"{variable} is set: models of {row.label}"
    listed = config.described("auto")
    members = [agent.model for layer in listed.layers for agent in layer]
    assert {name.partition("/")[0] for name in (*members, listed.aggregators[0].model)} == {provider}
    assert len(members) >= 2
    assert listed.layers == config.described(provider).layers
    assert provider in config.names()
    assert provider not in Config(environ=NO_SERVERS).names()


SELLERS_WITHOUT_PRICES = {"local", "deepinfra", "nvidia", "huggingface", "qwen", "sambanova", "nebius", "vercel"}
"""Providers that the price list does not have, or prices by another seller's name."""

OF_THE_PAPER = ("paper", "paper-lite", "paper-gpt4o")


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in OF_THE_PAPER])
def test_no_preset_names_a_deprecated_model(name: str) -> None:
    """The price list knows every model of every preset, apart from the paper's, and marks none as deprecated."""
    members = set(re.findall(r'"([a-z]+/[^"]+)"', json.dumps(preset(name))))
    assert members
    for member in sorted(members):
        seller, _, model = member.partition("/")
        if seller in SELLERS_WITHOUT_PRICES:
            continue
        entry = _list_entry(seller, model)
        assert entry, f"{member} is not in the price list"
        assert not entry[0].deprecated, f"{member} is deprecated"


ANNOUNCED = {
    # https://developers.openai.com/api/docs/deprecations
    "openai/gpt-3.5*": "2026-10-23",
    "openai/gpt-4": "2026-10-23",
    "openai/gpt-4-*": "2026-10-23",
    "openai/o[14]*": "2026-10-23",
    "openai/o3-mini*": "2026-10-23",
    "openai/gpt-4.1-nano*": "2026-10-23",
    "openai/gpt-5": "2026-12-11",
    "openai/gpt-5-*": "2026-12-11",
    "openai/o3*": "2026-12-11",
    "openai/gpt-4o*": "2027-01-14",
    "openai/gpt-4.1*": "2027-01-14",
    "openai/gpt-5.1*": "2027-04-01",
    "openai/gpt-5.3-codex*": "2027-04-01",
    "openai/gpt-5.4-nano*": "2027-04-01",
    # https://ai.google.dev/gemini-api/docs/deprecations
    "google/gemini-2*": "2026-06-17",
    "google/gemini-3-*preview*": "2026-06-25",
    "google/gemini-3.1-flash-lite*": "2027-05-07",
    # https://platform.claude.com/docs/en/about-claude/model-deprecations
    "anthropic/claude-3*": "2026-02-19",
    "anthropic/claude-sonnet-4-2*": "2026-06-15",
    "anthropic/claude-opus-4-2*": "2026-06-15",
    # https://docs.x.ai/developers/migration/may-15-retirement
    "xai/grok-3*": "2026-05-15",
    "xai/grok-4-*": "2026-05-15",
    # https://console.groq.com/docs/deprecations
    "groq/llama-*": "2026-08-16",
    "groq/meta-llama/*": "2026-08-16",
}
"""Models whose makers have announced when they shut them down, by patterns: the price list has no dates."""


def announced(name: str) -> str | None:
    """The day on which a model is shut down, as announced; None without one. A reseller keeps to the maker's."""
    bare = name.split("/", 1)[1] if name.startswith(("openrouter/", "vertex/", "vercel/")) else name
    return next((day for pattern, day in ANNOUNCED.items() if fnmatchcase(bare, pattern)), None)


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in OF_THE_PAPER])
def test_no_preset_names_a_model_with_an_end(name: str) -> None:
    """No model of a preset of today has a day on which its maker shuts it down."""
    members = re.findall(r'"([a-z]+/[^"]+)"', json.dumps(preset(name)))
    assert {member: day for member in members if (day := announced(member))} == {}


def test_no_page_names_a_model_with_an_end() -> None:
    """What a reader copies from the documentation and the examples works next year, too."""
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "examples").rglob("*.py")]
    named = {name for page in pages for name in re.findall(r"\b[a-z]+/[\w./:-]+[\w]", page.read_text(encoding="utf-8"))}
    assert "openai/gpt-5.4-mini" in named
    assert {name: day for name in named if (day := announced(name))} == {}


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_the_papers_presets_say_that_their_models_are_gone(name: str) -> None:
    """The description, which every list of mixtures shows, says that models of the paper no longer exist."""
    assert re.search("gone|ended on 2026-10-23", preset(name)["description"])


def test_auto_falls_back_to_embedded_models() -> None:
    """Without file, API key and model server it is `local`, and the reason says so."""
    choice = choose(environ=NO_SERVERS)
    assert choice.mixture == "local"
    assert "embedded models on this machine" in choice.why


class Listing(BaseHTTPRequestHandler):
    """A model server that only lists its models."""

    models: list[dict[str, str]]

    def do_GET(self) -> None:
        body = json.dumps({"object": "list", "data": self.models}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def ollama(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[Listing], dict[str, str]]]:
    """A server at Ollama's address, with the environment that names it; no other server runs."""
    monkeypatch.undo()
    handler = type("Handler", (Listing,), {"models": [{"id": "llama3"}, {"id": "qwen"}, {"id": "nomic-embed-text"}]})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(
            "moa.config.auto.PROVIDERS",
            {name: row for name, row in PROVIDERS.items() if not row.local or name == "ollama"},
        )
        yield handler, {"OLLAMA_HOST": f"127.0.0.1:{server.server_port}"}
        server.shutdown()


def test_auto_finds_a_model_server(ollama: tuple[type[Listing], dict[str, str]]) -> None:
    """Its chat models propose and the first one aggregates; embedding models are left out."""
    _, environ = ollama
    choice = choose(environ=environ)
    assert choice.why == "Ollama runs on this machine: llama3, qwen"
    assert choice.table["layers"] == [["ollama/llama3", "ollama/qwen"]]


def test_the_only_model_of_a_server_is_sampled_three_times(ollama: tuple[type[Listing], dict[str, str]]) -> None:
    """The mixture is three samples of that model."""
    handler, environ = ollama
    handler.models = [{"id": "llama3"}]
    assert choose(environ=environ).table["layers"] == [["ollama/llama3"] * 3]


@pytest.mark.parametrize("models", [[{"id": "moa/auto", "owned_by": OWNER}], [], [{"name": "x"}], ["x"]])
def test_auto_skips_anything_but_a_model_server(
    ollama: tuple[type[Listing], dict[str, str]], models: list[dict[str, str]]
) -> None:
    """Another server of mixtures, an empty list and a list of something else are skipped."""
    handler, environ = ollama
    handler.models = models
    assert choose(environ=environ).mixture == "local"


def test_local_synthesizes_if_the_weights_are_large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small weights select a proposal; the largest available weights, if large enough, take all seats and write."""
    small, large = Weights("tiny", Path("t.gguf"), 10**8), Weights("big", Path("b.gguf"), MERGES_FROM)
    monkeypatch.setattr("moa.models.gguf.can_chat", lambda path: True)
    monkeypatch.setattr("moa.models.weights.available", lambda: [small])
    assert preset("local")["aggregate"] == "central"
    monkeypatch.setattr("moa.models.weights.available", lambda: [small, large])
    table = preset("local")
    assert table.get("aggregate", "synthesize") == "synthesize"
    assert {member["model"] for member in [*table["layers"][0], table["aggregator"]]} == {"local/big"}


@pytest.mark.parametrize(
    "other",
    [
        "bge-m3:latest",
        "all-minilm:latest",
        "mxbai-embed-large",
        "qwen3-embedding:8b",
        "snowflake-arctic-embed2",
        "paraphrase-multilingual",
        "intfloat/e5-large-v2",
        "thenlper/gte-base",
        "bge-reranker-v2-m3",
        "whisper-large-v3",
    ],
)
def test_models_that_do_not_chat_are_left_out(ollama: tuple[type[Listing], dict[str, str]], other: str) -> None:
    """A model that embeds, ranks or transcribes gets no seat, wherever it stands in the list."""
    handler, environ = ollama
    handler.models = [{"id": other}, {"id": "qwen2.5:7b"}, {"id": "gemma3:4b"}]
    choice = choose(environ=environ)
    assert choice.table["layers"] == [["ollama/qwen2.5:7b", "ollama/gemma3:4b"]]
    assert choice.table["aggregator"] == {"model": "ollama/qwen2.5:7b", "fallbacks": ["ollama/gemma3:4b"]}


def test_weights_that_do_not_chat_do_not_replace_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the large weights, the largest that chats takes the seats; without one, the small weights answer."""
    small, good, larger = (
        Weights(name, Path(f"{name}.gguf"), size)
        for name, size in (("tiny", 10**8), ("good", MERGES_FROM), ("bge", 2 * MERGES_FROM))
    )
    monkeypatch.setattr("moa.models.gguf.can_chat", lambda path: path.stem == "good")
    monkeypatch.setattr("moa.models.weights.available", lambda: [small, good, larger])
    assert preset("local")["aggregator"]["model"] == "local/good"
    monkeypatch.setattr("moa.models.weights.available", lambda: [small, larger])
    assert preset("local")["aggregator"]["model"] == "local/smollm2"
