"""What an answer resembles, as users ask for it: on the command line and of the server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moa.attribution.shares import EXPLAINED
from tests.fakes.serving import CONFIG, Served, all_events, answer_well, asking, post
from tests.fakes.terminal import Terminal, run
from tests.fakes.upstream import Upstream, say

pytestmark = pytest.mark.anyio

BEES = "Bees sleep between five and eight hours a day."
SUN = "The Sun fuses hydrogen into helium in its core."

TOML = """
[endpoints.up]
base_url = "{base_url}"
attempts = 1

[mixtures.trio]
layers = [["up/ann", "up/bob", "up/eve"]]
aggregator = "up/boss"

[mixtures.tower]
layers = [["up/ann", "up/bob"], ["up/bob"]]
aggregator = "up/boss"
"""


@pytest.fixture
def config(upstream: Upstream, tmp_path: Path) -> str:
    """Mixtures whose answer is a sentence of ann's, one of bob's and one of its own, and whose eve is ignored."""
    upstream.script("ann", say(f"{BEES} That is long."))
    upstream.script("bob", say(SUN))
    upstream.script("eve", say("Nothing of it."))
    upstream.script("boss", say(f"{BEES} {SUN} Octopuses have three hearts."))
    path = tmp_path / "moa.toml"
    path.write_text(TOML.format(base_url=upstream.base_url))
    return str(path)


def ask(config: str, *args: str) -> tuple[str, ...]:
    return "ask", "--config", config, *args, "Why?"


# -- moa ask --explain ------------------------------------------------------------------------------------------------


async def test_a_pipe_still_gets_the_answer_alone(config: str) -> None:
    """The figures go to standard error: each layer's shares, then a line for each sentence."""
    ended = await run(*ask(config, "-m", "trio", "--explain"))
    assert (ended.code, ended.out) == (0, f"{BEES} {SUN} Octopuses have three hearts.\n")
    lines = [line.removeprefix("moa:").strip() for line in ended.err.splitlines()]
    assert lines[0].startswith("layer 1: bob 3") and ", ann 3" in lines[0] and ", new 2" in lines[0]
    assert lines[1:5] == [
        "ignored: eve",
        f"ann 100 %: {BEES}",
        f"bob 100 %: {SUN}",
        "new 100 %: Octopuses have three hearts.",
    ]
    assert "neither cause nor truth" in lines[5]


async def test_json_ends_with_the_attribution(config: str) -> None:
    """--json prints it after the last event of the run, but only with --explain."""
    ended = await run(*ask(config, "-m", "trio", "--json", "--explain"))
    *events, last = [json.loads(line) for line in ended.out.splitlines()]
    assert events[-1]["event"] == "run_finished"
    assert last["event"] == "attribution"
    assert [layer["ignored"] for layer in last["layers"]] == [["eve"]]
    assert [[passage["agent"] for passage in one["passages"]] for one in last["sentences"]] == [["ann"], ["bob"], []]
    plain = await run(*ask(config, "-m", "trio", "--json"))
    assert json.loads(plain.out.splitlines()[-1])["event"] == "run_finished"


@pytest.mark.parametrize("columns", [48, 80, 120])
async def test_a_terminal_shows_bars_and_sentences(config: str, columns: int) -> None:
    """Below the answer: no line is wider than the window, and the text ends with what the figures do not mean."""
    async with Terminal(*ask(config, "-m", "tower", "--explain"), columns=columns, lines=60) as terminal:
        assert await terminal.end() == 0
    shown = terminal.text.partition("── what the answer resembles")[2]
    assert shown
    assert all(len(line) <= columns for line in shown.splitlines())
    assert (
        shown.index("layer 1")
        < shown.index("layer 2")
        < shown.index("compared with layer 2")
        < shown.index("bob 100 %")
    )
    assert "█" in shown and "░" in shown
    assert " ".join(shown.split()).endswith(EXPLAINED)


async def test_it_is_readable_without_colours(config: str) -> None:
    """With NO_COLOR the bars of proposals and of new text still differ, in the character they are drawn with."""
    arguments = ask(config, "-m", "trio", "--explain")
    async with Terminal(*arguments, lines=60, env={"NO_COLOR": "1"}) as terminal:
        assert await terminal.end() == 0
    shown = terminal.raw.partition("what the answer resembles")[2]
    assert "\x1b[3" not in shown
    assert "ignored: eve" in shown


@pytest.mark.parametrize("drawn", [True, False])
async def test_without_proposals_it_reports_that(config: str, drawn: bool) -> None:
    """The answer of a single model has no proposals to compare with."""
    arguments = ask(config, "-m", "up/boss", "--explain")
    if drawn:
        async with Terminal(*arguments) as terminal:
            assert await terminal.end() == 0
        shown = terminal.text
    else:
        shown = (await run(*arguments)).err
    assert "nothing to compare the answer with" in shown
    lines = (await run(*arguments[:-1], "--json", "Why?")).out.splitlines()
    assert json.loads(lines[-1]) == {"event": "attribution", "layers": [], "sentences": []}


# -- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def server(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Served]:
    answer_well(upstream)
    upstream.script("a", say(f"{BEES} That is long."))
    upstream.script("b", say(SUN))
    upstream.script("last", say(f"{BEES} {SUN}"))
    async with Served(tmp_path, config=CONFIG.format(base_url=upstream.base_url)) as server:
        yield server


async def test_a_request_may_ask_for_it(server: Served) -> None:
    """Whole, streamed, or streamed with usage: it is in the moa object; without the request field nothing is computed."""
    explain: dict[str, Any] = {"moa": {"explain": True}}
    async with aiohttp.ClientSession() as http:
        _, whole, _ = await post(http, server, asking(**explain))
        attribution = whole["moa"]["attribution"]
        assert [[passage["agent"] for passage in one["passages"]] for one in attribution["sentences"]] == [["a"], ["b"]]
        assert attribution["layers"][0]["shares"] == pytest.approx({"a": 0.5, "b": 0.5, "c": 0.0}, abs=0.1)
        assert attribution["layers"][0]["ignored"] == ["c"]
        for options in (explain, {**explain, "stream_options": {"include_usage": True}}):
            events = await all_events(http, server, asking(**options))
            assert events[-2]["moa"]["attribution"] == attribution
        _, plain, _ = await post(http, server, asking(moa={"explain": False}))
        assert not {"attribution", "attributions"} & plain["moa"].keys()


async def test_each_choice_has_its_own(server: Served) -> None:
    """With several choices there is a list, in their order; entries of a single model are null."""
    async with aiohttp.ClientSession() as http:
        _, several, _ = await post(http, server, asking(n=2, moa={"explain": True}))
        one, other = several["moa"]["attributions"]
        assert one == other
        assert one["layers"][0]["ignored"] == ["c"]
        _, alone, _ = await post(http, server, asking("up/a", moa={"explain": True}))
        assert alone["moa"]["attribution"] is None
        status, wrong, _ = await post(http, server, asking(moa={"explain": "yes"}))
        assert (status, wrong["error"]["param"]) == (400, "moa.explain")
