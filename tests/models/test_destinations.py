"""Where text goes, and mixtures that keep it on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from moa import Config
from moa.config.tables import MixtureTable
from moa.errors import ConfigError
from moa.models.catalog import Access, Catalog
from moa.models.scripted import Scripted

GATEWAY = Access(base_url="https://llm.example.com/v1")


@pytest.mark.parametrize(
    ("name", "environ", "place", "local"),
    [
        ("local/smollm2", {}, "this machine", True),
        ("ollama/llama3", {}, "this machine", True),
        ("ollama/gpt-oss:120b-cloud", {}, "Ollama's cloud", False),
        ("ollama/llama3", {"OLLAMA_HOST": "box.lan"}, "ollama (box.lan)", False),
        ("vllm/m", {}, "this machine", True),
        ("openai/gpt-6-luna", {}, "OpenAI", False),
        ("openai/m", {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}, "this machine", True),
        ("anthropic/claude-sonnet-5-5", {}, "Anthropic", False),
        ("azure/gpt", {}, "Azure OpenAI", False),
        ("bedrock/m", {}, "Amazon Bedrock", False),
        ("github/m", {}, "GitHub Models", False),
        ("work/m", {}, "work (llm.example.com)", False),
        ("near/m", {}, "this machine", True),
        ("groq/m", {}, "groq (llm.example.com)", False),
        ("code/m", {}, "code", False),
        ("here/m", {}, "this machine", True),
        ("nobody/m", {}, "nobody", False),
    ],
)
def test_a_models_text_goes_to_its_address(name: str, environ: dict[str, str], place: str, local: bool) -> None:
    """The address counts, not the name; what cannot be known is elsewhere. No key is needed and nothing is opened."""
    access = {"work": GATEWAY, "near": Access(base_url="http://localhost:1/v1"), "groq": GATEWAY}
    catalog = Catalog(access, environ=environ)
    catalog.register("code", lambda name: Scripted("x"))
    catalog.register("here", lambda name: Scripted("x"), local=True)
    found = catalog.destination(name)
    assert (str(found), found.local) == (place, local)


FILE = """
[mixtures.private]
layers = [["ollama/a", "vllm/b"]]
aggregator = { model = "ollama/a", fallbacks = [%s] }
local_only = true

[mixtures.open]
layers = [["ollama/a", "openai/gpt-6-luna"]]
aggregator = "anthropic/claude-sonnet-5-5"
"""


@pytest.mark.parametrize(
    ("fallback", "member", "place"),
    [
        ('"openai/gpt-6-luna"', "openai/gpt-6-luna", "OpenAI"),
        ('"moa/open"', "openai/gpt-6-luna", "OpenAI"),
        ('"ollama/gpt-oss:120b-cloud"', "ollama/gpt-oss:120b-cloud", "Ollama's cloud"),
    ],
)
def test_a_local_mixture_refuses_members_elsewhere(tmp_path: Path, fallback: str, member: str, place: str) -> None:
    """A proposer, an aggregator, a fallback and a nested mixture's member count alike, whether its key is set or not."""
    path = tmp_path / "moa.toml"
    path.write_text(FILE % fallback)
    config = Config(path, environ={})
    with pytest.raises(ConfigError) as caught:
        config.mixture("private")
    assert f"moa/private is local_only, but the text of {member} goes to {place}: " in str(caught.value)


def test_a_local_mixture_of_local_members_is_built(tmp_path: Path) -> None:
    """Model servers and mixtures on this machine are members of a local mixture; the places are listed once, in order."""
    path = tmp_path / "moa.toml"
    path.write_text(FILE % '"llamacpp/c"')
    config = Config(path, environ={})
    assert config.mixture("private").layers
    assert [str(place) for place in config.destinations("private")] == ["this machine"]
    assert [str(place) for place in config.destinations("open")] == ["this machine", "OpenAI", "Anthropic"]


def test_a_callers_table_may_be_local_only() -> None:
    """A table that is not in the file is checked in the same way."""
    table = MixtureTable.model_validate({"layers": [["groq/a"]], "aggregator": "ollama/b", "local_only": True})
    with pytest.raises(ConfigError, match="goes to Groq"):
        Config(environ={}).build("mine", table)
