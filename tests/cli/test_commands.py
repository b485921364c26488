"""The commands that list, draw and check mixtures and models; help and version."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.fakes.terminal import Terminal, run
from tests.fakes.upstream import Upstream, refuse, say

pytestmark = pytest.mark.anyio

ASK = ("ask", "--config")


# -- what there is ---------------------------------------------------------------------------------------------------
async def test_mixtures_in_a_pipe_are_tab_separated(config: str) -> None:
    """Name, layers, description, source and whether it is the default, one mixture per line."""
    lines = (await run("mixtures", "--config", config)).out.splitlines()
    assert lines[0].split("\t") == ["duo", "2 → 1", "two and one", config, "default"]
    assert lines[1].split("\t")[:2] == ["pick", "2 → central"]
    assert any(line.startswith("paper\t6 → 6 → 1\t") and line.endswith("\tpreset\t") for line in lines)


async def test_show_draws_a_mixture_without_keys(config: str) -> None:
    """Layers, models, personas, sampling, fallbacks and settings are drawn without an API key and without a call."""
    ended = await run("show", "tower", "--config", config)
    assert ended.code == 0
    for expected in ("layer 1: 2 proposers", "up/bob   temperature 0.2", "“You are brief.”", "if it fails", "30 s"):
        assert expected in ended.out
    assert (await run("show", "keyless", "--config", config)).code == 0


async def test_tables_fit_a_narrow_terminal(config: str) -> None:
    """At 40 columns no line of the list of mixtures is wider than the window."""
    async with Terminal("mixtures", "--config", config, columns=40) as terminal:
        assert await terminal.end() == 0
        assert max(map(len, terminal.text.splitlines())) <= 40
        assert "● duo" in terminal.text


async def test_models_lists_the_models_that_respond(config: str) -> None:
    """Models are listed by the names that -m takes; a pipe gets one line about all other servers; a dead one exits 1."""
    ended = await run("models", "up", "--config", config)
    assert (ended.code, ended.out) == (0, "up/ann\nup/bob\nup/boss\n")
    everything = await run("models", "--config", config)
    assert everything.code == 0
    assert "up/ann\n" in everything.out
    (line,) = everything.err.splitlines()
    assert line.startswith("moa: not available: dead, ") and "groq" in line and "`moa models PROVIDER`" in line
    assert (await run("models", "dead", "--config", config)).code == 1
    assert (await run("models", "groq", "--config", config)).code == 2


async def test_check_calls_every_model_once(config: str, upstream: Upstream) -> None:
    """If all models of a mixture respond, each has one line and one call, and the exit code is 0."""
    ended = await run("check", "tower", "--config", config)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(line.split()[1] for line in ended.out.splitlines() if line[0] == "✓") == [
        "up/ann",
        "up/bob",
        "up/boss",
    ]
    assert sorted(call.model for call in upstream.requests) == ["ann", "bob", "boss"]
    assert upstream.requests[0].body["max_tokens"] == 16


async def test_check_prints_what_it_learned(config: str, upstream: Upstream) -> None:
    """What a model refuses is printed as TOML that a moa.toml can hold."""
    refusal = refuse(400, "Unsupported parameter: 'seed' is not supported with this model.")
    upstream.script("ann", lambda body: refusal if "seed" in body else say("OK."))
    ended = await run("check", "up/ann", "--config", config)
    assert ended.code == 0
    _, learned = ended.out.split("# learned from refusals, for your moa.toml\n")
    assert tomllib.loads(learned) == {"models": {"up/ann": {"refuses": ["seed"]}}}


async def test_check_says_what_failed_and_how_to_fix_it(config: str, upstream: Upstream) -> None:
    """A missing key, a rejected key, an unknown model and a dead server each get their advice."""
    upstream.script("bob", refuse(401, "bad key"))
    ended = await run("check", "ill", "--config", config)
    assert ended.code == 1
    assert ended.err == "moa: 4 of 5 models of ill failed\n"
    found = {part.split()[0]: part for part in re.split(r"^[✓✗] ", ended.out, flags=re.MULTILINE)[1:]}
    assert "GROQ_API_KEY is not set\n    create an API key at https://console.groq.com/keys" in found["groq/llama"]
    assert "404" in found["up/anne"] and "it offers up/ann" in found["up/anne"]
    assert "401" in found["up/bob"] and "set api_key_env of [endpoints.up]" in found["up/bob"]
    assert "check the base_url of dead" in found["dead/x"]
    assert "first token after" in found["up/boss"]


# -- the program itself ----------------------------------------------------------------------------------------------
async def test_version_and_help() -> None:
    """--version prints the version; without a command, moa prints the help."""
    assert re.fullmatch(r"moa \d+\.\d+\S*\n", (await run("--version")).out)
    assert (await run()).out.startswith("Usage: moa ")
