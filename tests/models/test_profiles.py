"""What the servers and models known by name take."""

from __future__ import annotations

import re

import pytest

from moa.models import traits_of
from moa.models.catalog import Access, Catalog
from moa.models.places import HOSTS, place_of
from moa.models.profile import Profile
from moa.models.profiles import FACTS, profile_at
from moa.models.providers import PROVIDERS

OPENAI = "https://api.openai.com/v1"


def test_every_fact_has_a_source_and_a_place() -> None:
    """Each row names a place that exists, and a page and the month in which it was read, or says what is not confirmed."""
    for facts in FACTS:
        assert re.match(r"https://\S+.*\(20\d\d-\d\d\)$|not confirmed: ", facts.source), facts
        assert facts.place in PROVIDERS or facts.place in HOSTS, facts


def test_what_is_not_confirmed_leaves_nothing_out() -> None:
    """A row without a page that was read refuses no field, drops no image, tool or effort, and lowers no limit."""
    for facts in FACTS:
        if facts.source.startswith("not confirmed"):
            known = facts.profile.facts()
            assert known.keys() <= {"rename", "roles", "continuation"}, facts


@pytest.mark.parametrize(
    ("base_url", "provider", "place"),
    [
        (OPENAI, "openai", "openai"),
        (OPENAI, None, "openai"),
        ("http://127.0.0.1:11434/v1", "openai", "ollama"),
        ("http://gpu-box:11434/v1", None, "ollama"),
        ("http://127.0.0.1:5000/v1", "ollama", "ollama"),
        ("http://127.0.0.1:8000/v1", None, None),
        ("http://127.0.0.1:8000/v1", "vllm", "vllm"),
        ("https://api.mistral.ai/v1", "mistral", "mistral"),
        ("https://mistral.example/v1", "mistral", None),
        ("https://mine.openai.azure.com/openai/v1", None, "azure"),
        ("https://mine.services.ai.azure.com/openai/v1", None, "azure"),
        ("https://api.deepseek.com/beta", None, "deepseek-beta"),
        ("https://api.deepseek.com/v1", "deepseek", "deepseek"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1", None, "bedrock"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", None, "google"),
    ],
)
def test_facts_follow_the_place(base_url: str, provider: str | None, place: str | None) -> None:
    """The address says which server answers; a name only where the address is on this machine."""
    assert place_of(base_url, provider) == place


def test_an_openai_url_that_points_elsewhere_gets_the_facts_of_elsewhere() -> None:
    """The old name of max_tokens goes to Ollama, the new one to OpenAI."""
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}
    at_ollama = traits_of(Catalog(environ=environ).model("openai/m")).profile
    at_openai = traits_of(Catalog(environ={"OPENAI_API_KEY": "k"}).model("openai/m")).profile
    assert at_ollama.rename == {"max_completion_tokens": "max_tokens"}
    assert at_openai.rename == {"max_tokens": "max_completion_tokens"}


def test_the_users_own_words_override_the_table() -> None:
    """A model's own table goes before its endpoint's, and that before what is known of the place."""
    catalog = Catalog(
        {"mistral": Access(profile=Profile(images=False, takes=frozenset({"store"})))},
        profiles={"mistral/*": Profile(context_tokens=100), "mistral/big": Profile(images=True)},
        environ={"MISTRAL_API_KEY": "k"},
    )
    small, big = (traits_of(catalog.model(f"mistral/{name}")).profile for name in ("small", "big"))
    assert (small.images, big.images) == (False, True)
    assert small.context_tokens == big.context_tokens == 100
    assert "store" not in small.refuses
    assert "service_tier" in small.refuses


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("o3-mini", True),
        ("openai/o4-mini", True),
        ("gpt-5", True),
        ("gpt-5-mini-2026-01-01", True),
        ("gpt-5-codex", True),
        ("gpt-5.1-codex-max", True),
        ("gpt-5.2-chat-latest", True),
        ("gpt-5.4-pro", True),
        ("gpt-5.5", True),
        ("gpt-5-chat-latest", False),
        ("gpt-5.1", False),
        ("gpt-5.2-2025-12-11", False),
        ("gpt-5.4-mini", False),
        ("gpt-4o", False),
        ("octopus", False),
    ],
)
def test_openais_reasoning_models_refuse_sampling(model: str, refused: bool) -> None:
    """Models that always reason take no temperature; those that reason on request, and older ones, do."""
    assert ("temperature" in profile_at(OPENAI, model).refuses) == refused


@pytest.mark.parametrize(
    ("model", "efforts"),
    [
        ("gpt-4o", ()),
        ("o3-mini", ("low", "medium", "high")),
        ("o1-mini", ()),
        ("gpt-5", ("minimal", "low", "medium", "high")),
        ("gpt-5-pro", ("high",)),
        ("gpt-5.1", ("none", "low", "medium", "high")),
        ("gpt-5.1-chat-latest", ("medium",)),
        ("gpt-5.1-codex-max", None),
        ("gpt-5.6", None),
    ],
)
def test_the_efforts_of_openais_models(model: str, efforts: tuple[str, ...] | None) -> None:
    """Each generation takes other values of reasoning_effort; those of a new one are unknown."""
    assert profile_at(OPENAI, model).efforts == efforts


def test_what_vendors_came_to_take_is_sent() -> None:
    """Cerebras takes penalties, Mistral metadata, Claude past tool calls, Gemini parallel_tool_calls, DeepSeek images."""
    assert "frequency_penalty" not in profile_at("https://api.cerebras.ai/v1", "gpt-oss-120b").refuses
    assert not {"metadata", "prompt_cache_key"} & profile_at("https://api.mistral.ai/v1", "mistral-large").refuses
    assert profile_at("https://api.anthropic.com/v1", "claude-sonnet-4-5").past_tool_calls is None
    google = profile_at("https://generativelanguage.googleapis.com/v1beta/openai", "gemini-3-flash")
    assert "parallel_tool_calls" not in google.refuses
    deepseek = "https://api.deepseek.com"
    assert profile_at(deepseek, "deepseek-v4-flash-vision-exp").images is None
    assert profile_at(deepseek, "deepseek-v4-flash").images is False


@pytest.mark.parametrize(
    ("place", "model", "way"),
    [
        ("https://api.groq.com/openai/v1", "llama-3.3-70b-versatile", "prefix"),
        ("https://api.groq.com/openai/v1", "openai/gpt-oss-120b", "turns"),
        ("https://api.mistral.ai/v1", "mistral-large-latest", "flag"),
        ("https://api.deepseek.com/beta", "deepseek-v4-flash", "flag"),
        ("https://api.deepseek.com/v1", "deepseek-v4-flash", "turns"),
        ("https://api.moonshot.ai/v1", "kimi-k2.6", "partial"),
        ("https://api.moonshot.cn/v1", "moonshot-v1-8k", "partial"),
        ("https://api.moonshot.ai/v1", "kimi-k3", "turns"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen-plus", "partial"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen3-coder-plus", "partial"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen3-next-80b-a3b-thinking", "turns"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen3.8-max", "turns"),
        ("https://api.anthropic.com/v1", "claude-sonnet-4-5", "prefix"),
        ("https://api.anthropic.com/v1", "claude-sonnet-4-6", "turns"),
        ("https://api.anthropic.com/v1", "claude-opus-5-5", "turns"),
        (OPENAI, "gpt-6-luna", "turns"),
        ("https://api.example.com/v1", "any", None),
    ],
)
def test_how_each_maker_continues_a_text(place: str, model: str, way: str | None) -> None:
    """A prefix where the maker documents one and the model does not think first; a user message at other makers."""
    assert profile_at(place, model).continuation == way


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("claude-opus-4-6", False),
        ("claude-opus-4-7", True),
        ("claude-opus-4-8-20260601", True),
        ("claude-sonnet-4-5-20250929", False),
        ("claude-haiku-4-5", False),
        ("claude-3-5-sonnet-20241022", False),
        ("claude-opus-4-20250514", False),
        ("claude-opus-5", True),
        ("claude-sonnet-5-5", True),
        ("claude-haiku-5-5", True),
    ],
)
def test_newer_claudes_refuse_sampling(model: str, refused: bool) -> None:
    """From Opus 4.7 on, a temperature is refused; models before it take one."""
    assert ("temperature" in profile_at("https://api.anthropic.com/v1", model).refuses) == refused


def test_what_other_makers_take() -> None:
    """Kimi fixes its sampling, Cohere and Ollama have efforts of their own, Grok wants one system message first."""
    moonshot = "https://api.moonshot.ai/v1"
    assert "temperature" in profile_at(moonshot, "kimi-k2.6").refuses
    assert "temperature" not in profile_at(moonshot, "moonshot-v1-8k").refuses
    assert profile_at(moonshot, "kimi-k3").efforts == ("low", "high", "max")
    assert profile_at("https://api.cohere.ai/compatibility/v1", "command-a-03-2025").efforts == ("none", "high")
    assert profile_at("http://127.0.0.1:11434/v1", "qwen3", "ollama").efforts == (
        "none",
        "low",
        "medium",
        "high",
        "max",
    )
    assert profile_at("https://api.x.ai/v1", "grok-4.7").several_system is False
    assert "developer" not in profile_at("https://api.x.ai/v1", "grok-4.7").roles
    azure = profile_at("https://mine.openai.azure.com/openai/v1", "o3-mini")
    assert (azure.images, azure.rename) == (False, {"max_tokens": "max_completion_tokens"})


def test_merging_is_field_by_field() -> None:
    """What is unknown in the more special profile stays; what it says wins; what it takes is no longer refused."""
    general = Profile(refuses=frozenset({"a", "b"}), rename={"x": "y"}, images=False, efforts=("low",), only={"t": 1})
    special = Profile(refuses=frozenset({"c"}), takes=frozenset({"a", "t"}), rename={"z": "y"}, images=True)
    merged = general.merged(special)
    assert merged.refuses == {"b", "c"}
    assert (merged.rename, merged.images, merged.efforts, merged.only) == ({"x": "y", "z": "y"}, True, ("low",), {})
    assert general.merged(Profile()) == general
    assert Profile().merged(general) == general
