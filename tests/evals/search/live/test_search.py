"""A search that asks: members on real sockets, what is found, what it costs, and what it never does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from moa.config.config import Config
from moa.errors import ConfigError
from moa.evals.asking.harness import Measurement
from moa.evals.search.live import result
from moa.evals.search.live.answers import Answers
from moa.evals.search.live.candidate import Candidate
from moa.evals.search.live.finding import Finding, Search
from moa.evals.search.live.members import members_of
from moa.evals.search.live.parts import parted
from moa.evals.search.live.scores import Limits
from moa.evals.search.live.trial import Trials
from moa.evals.tasks.reading import Tasks
from tests.evals.search.live import arithmetic
from tests.fakes.upstream import Upstream, refuse, say

pytestmark = pytest.mark.anyio

THREE = ["up/steady", "up/odd", "up/weak"]


class Found:
    """The result of a search, and what it cost."""

    def __init__(self, finding: Finding, row: dict[str, Any], dollars: float) -> None:
        self.finding, self.row, self.dollars = finding, row, dollars


async def find(
    folder: Path,
    upstream: Upstream,
    models: list[str],
    *,
    count: int = 24,
    limits: Limits | None = None,
    samples: int = 1,
    mixture: str | None = None,
    more: str = "",
) -> Found:
    """Search in a folder, as the command does; for at most $5, unless ``limits`` say otherwise."""
    limits = limits or Limits(5.0)
    path = arithmetic.questions(folder / "questions.jsonl", count)
    async with Config(arithmetic.config(folder, upstream, more)) as config:
        members, left_out = members_of(config, models, mixture)
        by_name = {member.name: member for member in members}
        out = folder / "out"
        with Measurement(out, {"search": "questions"}, config.prices, max_cost=limits.spend) as measurement:
            answers = Answers(measurement, samples, limits.spend is not None, left_out=dict(left_out))
            searched, confirming = parted(list(Tasks(path)), 0, out / "parts.json")
            finding = await Search(Trials(config, by_name, answers), by_name, searched, confirming, limits).run()
            return Found(finding, result.as_object(finding, by_name, confirming), measurement.cost.dollars or 0.0)


@pytest.fixture
async def up(upstream: Upstream) -> Upstream:
    arithmetic.answering(upstream)
    return upstream


async def test_a_mixture_that_knows_more_than_each_member_is_found(tmp_path: Path, up: Upstream) -> None:
    """Its table is one of a moa.toml, and its gain is read on questions that were not searched on."""
    found = await find(tmp_path, up, [*THREE, "up/writer"])
    table, confirmed = found.row["found"], found.row["confirmation"]
    assert (table["aggregate"], table["aggregator"]) == ("synthesize", "up/writer")
    assert {"up/steady", "up/odd"} <= {*table["layers"][0]}
    assert confirmed["items"] == 12
    assert confirmed["gain"] == pytest.approx(confirmed["accuracy"] - confirmed["best"])
    assert confirmed["low"] < confirmed["gain"] < confirmed["high"]
    assert confirmed["best_model"] == "up/steady"
    assert found.row["tried"] == found.finding.tried > 4
    dollars = [each["cost"] for each in found.row["front"]]
    assert dollars == sorted(dollars)
    quality = [each["searched"] for each in found.row["front"]]
    assert quality == sorted(quality)


async def test_nothing_is_asked_twice(tmp_path: Path, up: Upstream) -> None:
    """Every call is in the journal, so the same search asks nothing, and one with another member asks that one alone."""
    first = await find(tmp_path, up, ["up/steady", "up/odd"], count=12)
    before = len(up.requests)
    again = await find(tmp_path, up, ["up/steady", "up/odd"], count=12)
    assert len(up.requests) == before
    assert again.row == first.row
    await find(tmp_path, up, ["up/steady", "up/odd", "up/weak"], count=12)
    alone = [call for call in up.requests if call.prompt.startswith("What is") and "language models" not in call.prompt]
    assert max(Counter((call.model, call.prompt) for call in alone).values()) == 1


async def test_a_search_that_is_killed_continues(tmp_path: Path, up: Upstream) -> None:
    """What was answered before the end is not asked again."""
    running = asyncio.create_task(find(tmp_path, up, [*THREE, "up/writer"], count=12))
    await up.received(20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    answered = {(call.model, json.dumps(call.body["messages"])) for call in up.requests if call.finished.is_set()}
    before = len(up.requests)
    kept = len((tmp_path / "out" / "journal.jsonl").read_text().splitlines())
    await find(tmp_path, up, [*THREE, "up/writer"], count=12)
    asked_again = answered & {(call.model, json.dumps(call.body["messages"])) for call in up.requests[before:]}
    assert len(asked_again) <= len(answered) - kept


async def test_a_member_that_cannot_be_asked_is_left_out(tmp_path: Path, up: Upstream) -> None:
    """One call shows it; the reason is in the result, and the others go on."""
    found = await find(tmp_path, up, ["up/broken", "up/steady", "up/unpriced", "nope/x"], count=8)
    assert "401" in found.row["left_out"]["up/broken"]
    assert "no provider is called 'nope'" in found.row["left_out"]["nope/x"]
    assert found.row["found"] == {"model": "up/steady"}
    assert len(up.calls("broken")) == 1


async def test_a_price_that_is_unknown_leaves_a_member_out(tmp_path: Path, up: Upstream) -> None:
    """A limit cannot hold for it, which its first answer shows; without a limit it takes part, and its cost is unknown."""
    up.script("unpriced", say("Answer: 1001"))
    found = await find(tmp_path, up, ["up/steady", "up/unpriced"], count=8)
    assert "set it in moa.toml under [prices]" in found.row["left_out"]["up/unpriced"]
    assert len(up.calls("unpriced")) == 1
    (tmp_path / "free").mkdir()
    free = await find(tmp_path / "free", up, ["up/steady", "up/unpriced"], count=8, limits=Limits(None))
    assert free.row["search"]["members"]["up/unpriced"]["cost"] is None


async def test_no_member_is_an_error(tmp_path: Path, up: Upstream) -> None:
    """It names every reason."""
    with pytest.raises(ConfigError, match=r"no member answers: up/broken: .*401"):
        await find(tmp_path, up, ["up/broken"], count=4)


@pytest.mark.parametrize("spend", [0.02, 0.3, 0.6])
async def test_the_money_is_never_exceeded(tmp_path: Path, up: Upstream, spend: float) -> None:
    """No call begins that would cost more than is left, whatever part of the questions that pays for."""
    with suppress(ConfigError):  # too little money to choose anything is an error
        found = await find(tmp_path, up, [*THREE, "up/writer"], limits=Limits(spend))
        assert found.dollars <= spend
    rows = [json.loads(line) for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines()]
    assert sum(row["cost"]["dollars"] for row in rows) <= spend


async def test_one_model_says_one_model(tmp_path: Path, up: Upstream) -> None:
    """There is nothing to mix, and the gain is 0."""
    found = await find(tmp_path, up, ["up/steady"], count=6)
    assert found.row["found"] == {"model": "up/steady"}
    confirmed = found.row["confirmation"]
    assert (confirmed["gain"], confirmed["low"], confirmed["high"]) == (0.0, 0.0, 0.0)
    assert "one model is best: up/steady" in result.block(found.row)


@pytest.mark.parametrize("text", ["Answer: 0", "Answer: {right}"])
async def test_equal_members_are_one_model(tmp_path: Path, up: Upstream, text: str) -> None:
    """Where all members are always right, or always wrong, no mixture is better, and the cheapest is best."""
    for name in ("steady", "odd", "weak"):
        up.script(name, lambda body: say(text.format(right=arithmetic.asked(body) + 1000), tokens=(10, 10)))
    found = await find(tmp_path, up, THREE, count=8)
    assert found.row["found"] == {"model": "up/weak"}


async def test_three_questions_are_enough_to_end(tmp_path: Path, up: Upstream) -> None:
    """They decide nothing, so the answer is one model."""
    found = await find(tmp_path, up, THREE, count=3)
    assert "model" in found.row["found"]
    assert found.row["confirmation"]["items"] == 1


async def test_a_limit_on_an_answer_excludes_what_costs_more(tmp_path: Path, up: Upstream) -> None:
    """The members' own answers count, and so does the aggregator's call."""
    found = await find(tmp_path, up, [*THREE, "up/writer"], limits=Limits(5.0, answer_cost=0.0012))
    assert found.row["found"] == {"model": "up/steady"}


async def test_the_agents_of_a_mixture_are_members(tmp_path: Path, up: Upstream) -> None:
    """Each with its persona and sampling, under its name, as they stand in the table that is found."""
    more = """
[mixtures.team]
layers = [["up/steady", { model = "up/odd", name = "careful", persona = "Check twice.", temperature = 0.2 }]]
aggregator = "up/writer"
"""
    found = await find(tmp_path, up, [], mixture="team", more=more)
    assert [*found.row["search"]["members"]] == ["up/steady", "careful", "up/writer"]
    sent = up.calls("odd")[0].body
    assert sent["temperature"] == 0.2
    assert "Check twice." in json.dumps(sent["messages"])
    careful = {"model": "up/odd", "name": "careful", "persona": "Check twice.", "temperature": 0.2}
    assert careful in found.row["found"]["layers"][0]


async def test_an_aggregator_that_fails_is_a_wrong_answer(tmp_path: Path, up: Upstream) -> None:
    """The search goes on, and does not choose it."""
    up.script("writer", lambda body: say("Answer: 0") if "1." not in json.dumps(body) else refuse(500))
    found = await find(tmp_path, up, [*THREE, "up/writer"], count=12)
    assert found.row["found"].get("aggregator") is None


async def test_what_is_found_gives_the_scored_answers(tmp_path: Path, up: Upstream) -> None:
    """A moa.toml with the block loads, and its mixture gives the answers that the search scored."""
    found = await find(tmp_path, up, [*THREE, "up/writer"])
    path = Path(arithmetic.config(tmp_path, up))
    result.write(path, result.block(found.row), "found")
    right = 0
    tasks = parted(list(Tasks(tmp_path / "questions.jsonl")), 0, tmp_path / "out" / "parts.json")[1]
    async with Config(path) as config:
        mixture = config.mixture("found")
        for task in tasks:
            answer = await mixture.answer(list(task.messages))
            right += answer.text == f"Answer: {task.texts[0]}"
    assert right / len(tasks) == found.row["confirmation"]["accuracy"]
    with pytest.raises(ConfigError, match="has a mixture called 'found' already"):
        result.write(path, result.block(found.row), "found")


def test_questions_keep_their_part(tmp_path: Path) -> None:
    """Equal texts stay together, new questions join the smaller part, and another seed is refused."""
    path = tmp_path / "q.jsonl"
    rows = [{"id": str(n), "question": f"What is {n // 2}?", "answer": "1"} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = tmp_path / "parts.json"
    first, second = parted(list(Tasks(path)), 3, kept)
    assert abs(len(first) - len(second)) <= 2
    assert not {task.question for task in first} & {task.question for task in second}
    more = [*rows, {"id": "new", "question": "What is new?", "answer": "1"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in more))
    again, _ = parted(list(Tasks(path)), 3, kept)
    assert {task.id for task in first} <= {task.id for task in again}
    with pytest.raises(ConfigError, match="made with --seed 3"):
        parted(list(Tasks(path)), 4, kept)


def test_a_candidate_in_words() -> None:
    """Its label names the way, the panel, the aggregator and the settings."""
    weighted = Candidate((("a", 1), ("b", 2)), "vote", weights=(("a", 0.8), ("b", 0.6)))
    assert weighted.label == "weighted vote of a, 2 × b"
    assert (weighted.calls, weighted.free) == (3, True)
    deep = Candidate((("a", 1), ("b", 1)), "synthesize", "a", settings=(("rounds", 2), ("analysis", True)))
    assert deep.label == "synthesize of a, b by a, rounds 2, analysis"
    assert (deep.calls, deep.free) == (6, False)
