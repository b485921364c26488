"""Callers' own mixtures: tables that are run, refused, continued and exported."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moa.config.export import table_object
from moa.config.tables import File, MixtureTable
from tests.fakes.run_client import begin, call, calls_by_model, ended
from tests.fakes.serving import CONFIG, Served, asking
from tests.fakes.upstream import Upstream, refuse, say

pytestmark = pytest.mark.anyio


async def test_a_callers_own_mixture_answers(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """With every field that a table may have; nothing of it remains afterwards."""
    table: dict[str, Any] = {
        "layers": [
            [{"model": "up/a", "name": "first", "temperature": 0.3, "persona": "Be kind."}, "up/b"],
            ["moa/safe"],
        ],
        "aggregator": {"model": "up/last", "fallbacks": ["up/spare"]},
        "schedule": {"kind": "quorum", "usable": 1, "grace": 5},
        "deadline": 30,
        "prompt": "Merge these.",
    }
    body = {"mixture": table, "messages": asking()["messages"], "model": None, "continue": None}
    payload = await ended(http, server, await begin(http, server, body))
    assert (payload["outcome"], payload["model"], payload["parameters"]) == ("answered", "moa/unnamed", {})
    assert not {"mixture", "continue"} & upstream.calls("a")[0].body.keys()
    assert payload["mixture"]["layers"][0][0] == table["layers"][0][0]
    assert payload["mixture"]["schedule"]["usable"] == 1 and payload["mixture"]["prompt"] == "Merge these."
    assert upstream.calls("a")[0].body["temperature"] == 0.3
    nested = next(call for call in payload["calls"] if call["agent"] == "safe")
    assert [inner["text"] for inner in nested["calls"]] == ["proposal a", "the whole answer"]
    assert (await call(http, "POST", server, "/runs", asking("moa/unnamed")))[0] == 404


async def test_a_mixture_can_be_exported(http: aiohttp.ClientSession, server: Served, tmp_path: Path) -> None:
    """The result is a whole moa.toml with the same meaning as the table, for every listed mixture."""
    _, listed = await call(http, "GET", server, "/mixtures")
    assert listed["default"] == "auto" and {"up/a", "up/last"} <= set(listed["models"])
    assert not any(name.startswith("moa/") for name in listed["models"])
    by_name = {each["name"]: each for each in listed["mixtures"]}
    assert {"trio", "own", "paper"} <= by_name.keys()
    assert (by_name["trio"]["source"], by_name["paper"]["source"]) == ("moa.toml", "preset")
    assert by_name["trio"]["available"] and not by_name["keyless"]["available"]
    assert "OPENAI_API_KEY" in by_name["keyless"]["why_not"]
    assert by_name["keyless"]["text_goes_to"] == ["OpenAI"]
    assert by_name["trio"]["text_goes_to"] == ["this machine"]
    whole: dict[str, Any] = {
        "name": "careful",
        "description": 'with a "quote" and a line\nbreak',
        "layers": [
            [{"model": "up/a", "temperature": 0.5, "seed": None, "extra_body": {"top_k": 5}}, "up/b"],
            ["moa/safe"],
        ],
        "aggregator": {"model": "up/last", "fallbacks": ["up/spare", {"model": "up/a", "name": "second"}]},
        "schedule": {"kind": "staircase", "chunks": [8, 16], "early_exit": 0.9},
        "prompt": "Merge \\ these.\nAll of them.",
        "max_cost": 1,
        "anonymous": False,
    }
    tables: list[tuple[str | None, dict[str, Any]]]
    tables = [(f"my-{each['name']}", each["table"]) for each in listed["mixtures"]]
    for name, table in [*tables, (None, whole), ("plain", {"layers": [["up/a"]], "aggregator": "up/last"})]:
        status, payload = await call(http, "POST", server, "/mixtures/toml", {"name": name, "mixture": table})
        assert status == 200, payload
        name = name or "careful"
        file = File.model_validate(tomllib.loads(payload["toml"]))
        assert list(file.mixtures) == [name]
        wanted = MixtureTable.model_validate({key: value for key, value in table.items() if key != "name"})
        assert without_null(table_object(file.mixtures[name])) == without_null(table_object(wanted))
    assert (
        payload["toml"]
        == """[mixtures.plain]
layers = [
    [
        "up/a",
    ],
]
aggregator = "up/last"
"""
    )


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    return [without_null(item) for item in value] if isinstance(value, list) else value


GOOD = {"layers": [["up/a"]], "aggregator": "up/last"}


@pytest.mark.parametrize(
    ("mixture", "status", "param"),
    [
        (5, 400, "mixture"),
        ({**GOOD, "layers": [["up/a", {"model": "up/b", "temperatur": 1}]]}, 400, "mixture.layers[0][1]"),
        ({**GOOD, "layers": [[{"name": "x"}]]}, 400, "mixture.layers[0][0].model"),
        ({**GOOD, "layers": "up/a"}, 400, "mixture.layers"),
        ({**GOOD, "layers": [[]]}, 400, "mixture.layers[0]"),
        ({**GOOD, "agregate": "select"}, 400, "mixture.agregate"),
        ({**GOOD, "deadline": -1}, 400, "mixture.deadline"),
        ({**GOOD, "min_proposals": 3}, 400, "mixture.min_proposals"),
        ({**GOOD, "schedule": {"kind": "sometime"}}, 400, "mixture.schedule"),
        ({**GOOD, "schedule": {"kind": "quorum", "usable": 0}}, 400, "mixture.schedule.usable"),
        ({"layers": [["up/a"]]}, 400, "mixture"),
        ({**GOOD, "name": "no/name"}, 400, "mixture.name"),
        ({**GOOD, "name": 7}, 400, "mixture.name"),
        ({**GOOD, "prompt_file": "/etc/passwd"}, 400, "mixture.prompt_file"),
        ({**GOOD, "layers": [[{"model": "up/a", "name": "<b>"}]]}, 400, "mixture"),
        ({**GOOD, "layers": [[{"model": "up/a", "base_url": "http://evil"}]]}, 400, "mixture.layers[0][0].base_url"),
        ({**GOOD, "layers": [[{"model": "up/a", "api_key": "x"}]]}, 400, "mixture.layers[0][0].api_key"),
        ({**GOOD, "layers": [["nomodel"]]}, 400, "mixture.layers[0][0].model"),
        ({**GOOD, "layers": [["nobody/x"]]}, 404, "mixture.layers[0][0].model"),
        ({**GOOD, "layers": [["groq/anything"]]}, 404, "mixture.layers[0][0].model"),
        ({**GOOD, "layers": [["moa/nothing"]]}, 404, "mixture.layers[0][0].model"),
        ({**GOOD, "layers": [["local//etc/passwd"]]}, 404, "mixture.layers[0][0].model"),
        ({**GOOD, "aggregator": "local/../../x.gguf"}, 404, "mixture.aggregator.model"),
        ({**GOOD, "aggregator": "local/org/repo"}, 404, "mixture.aggregator.model"),
        (
            {**GOOD, "aggregator": {"model": "up/last", "fallbacks": ["ollama/x"]}},
            404,
            "mixture.aggregator.fallbacks[0].model",
        ),
        ({**GOOD, "aggregator": "openai/gpt-4o-mini"}, 424, "mixture.aggregator.model"),
        ({**GOOD, "aggregator": "moa/keyless"}, 424, "mixture.aggregator.model"),
    ],
)
async def test_an_invalid_table_is_refused_with_the_field(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, mixture: Any, status: int, param: str
) -> None:
    """No address, file or provider is reached that the operator has not configured; no model is called."""
    body = {"mixture": mixture, "messages": asking()["messages"]}
    got, payload = await call(http, "POST", server, "/runs", body)
    assert (got, payload["error"]["param"]) == (status, param), payload
    assert not upstream.requests
    if status == 400:
        got, payload = await call(http, "POST", server, "/mixtures/toml", {"name": "mine", "mixture": mixture})
        assert (got, payload["error"]["param"]) == (400, param), payload


async def test_a_run_of_a_callers_own_mixture_can_be_continued(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Only the run holds that mixture."""
    upstream.script("last", refuse(500, "broken"), say("at last"))
    table = {"name": "mine", "layers": [["up/a", {"model": "up/b", "name": "bee"}]], "aggregator": "up/last"}
    first = await begin(http, server, {"mixture": table, "messages": asking()["messages"]})
    assert (await ended(http, server, first))["outcome"] == "failed"
    payload = await ended(http, server, await begin(http, server, {"continue": first}))
    assert (payload["answer"]["text"], payload["model"]) == ("at last", "moa/mine")
    assert [each["agent"] for each in payload["recalled"]] == ["a", "bee"]
    assert calls_by_model(upstream) == {"a": 1, "b": 1, "c": 0, "last": 2}


async def test_a_run_continues_with_its_own_mixture(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """Even if the file defines it differently by then; the text of a prompt file is part of the run."""
    config = CONFIG.format(base_url=upstream.base_url)
    mine = '\n[mixtures.mine]\nlayers = [["up/a", "up/b"]]\naggregator = "up/last"\nprompt_file = "prompt.txt"\n'
    upstream.script("last", refuse(500, "broken"), say("at last"))
    tmp_path.joinpath("prompt.txt").write_text("Merge them well.")
    async with Served(tmp_path, config=config + mine) as server:
        _, listed = await call(http, "GET", server, "/mixtures")
        table = next(each["table"] for each in listed["mixtures"] if each["name"] == "mine")
        assert table["prompt"] == "Merge them well." and "prompt_file" not in table
        run = await begin(http, server, asking("mine"))
        assert (await ended(http, server, run))["mixture"] == table
    tmp_path.joinpath("prompt.txt").unlink()
    async with Served(tmp_path, config=config + mine.replace("up/b", "up/c")) as server:
        payload = await ended(http, server, await begin(http, server, {"continue": run}))
        assert (payload["answer"]["text"], payload["model"], payload["mixture"]) == ("at last", "moa/mine", table)
        assert [each["agent"] for each in payload["recalled"]] == ["a", "b"]
        assert "Merge them well." in upstream.calls("last")[1].prompt
    assert calls_by_model(upstream) == {"a": 1, "b": 1, "c": 0, "last": 2}
