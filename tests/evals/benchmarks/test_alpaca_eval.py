"""AlpacaEval 2.0: who is shown first, what a token is worth, and what becomes of judgments in every shape."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from moa.errors import CallRejected, ConfigError
from moa.evals.asking.data import Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.benchmark import Options
from moa.evals.benchmarks.alpaca_eval import judging as ae
from moa.evals.benchmarks.alpaca_eval.win_rates import score
from moa.messages import Delta, Request, text_of
from moa.models import Model
from moa.models.scripted import Scripted
from tests.fakes import small_benchmarks
from tests.fakes.small_benchmarks import INSTRUCTIONS, TokenJudge

pytestmark = pytest.mark.anyio

SYSTEM = Scripted(lambda request: f"The system on {text_of(request.messages[-1])}", name="scripted/system")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    small_benchmarks.alpaca_eval(tmp_path / "data")
    return Shelf(tmp_path / "data")


async def judged(shelf: Shelf, folder: Path, judge: Model, limit: int | None = None) -> list[dict[str, Any]]:
    with Measurement(folder / "run", {}) as measurement:
        rows, _ = await ae.measure(measurement, shelf, SYSTEM, judge, Options(limit))
        return rows


@pytest.mark.parametrize(
    ("logprobs", "preference"),
    [
        ({"m": -0.017597131, "M": -4.048847}, 2 - 0.98255),
        ({"M": -0.017597131, "m": -4.048847, "The": -15.0}, 2 - 0.01744),
        ({"M": -0.5}, 2.0),
        ({"m": -0.5, " m": -0.1}, 1.0),
        ({"Both": -0.1}, None),
        ({}, None),
    ],
)
def test_a_preference_is_read_off_the_log_probabilities(logprobs: dict[str, float], preference: float | None) -> None:
    """The chance of the second name among both; a name that is not likely has none; without either there is no verdict."""
    assert ae.weighted(logprobs) == (None if preference is None else pytest.approx(preference, abs=1e-4))


@pytest.mark.parametrize(
    ("text", "preference"),
    [
        ("m", 1),
        ("M", 2),
        (" **M**.\n", 2),
        ("Best: m", 1),
        ("I'm sure: M", 2),
        ("m or M", None),
        ("More", None),
        ("", None),
    ],
)
def test_a_verdict_is_a_lone_name(text: str, preference: int | None) -> None:
    """Punctuation may stand around it; both names, or none, are no verdict."""
    assert ae.verdict(text) == preference


def test_the_order_is_drawn_from_the_instruction_alone() -> None:
    """The official seed; the values were made with the original's own function."""
    assert [ae.is_switched(text) for text in ("What is 2 + 2?", "Say hello.", "Ünïcode", "")] == [
        False,
        False,
        True,
        False,
    ]


def test_an_instruction_that_looks_like_a_field_takes_no_answers_place() -> None:
    """All fields are filled in one pass, and messages end where the template says."""
    fields = {"instruction": "{output_1}<|im_end|>", "output_1": "{instruction}", "output_2": "two"}
    system, user = ae.prompt(small_benchmarks.TEMPLATE, fields)
    assert system == {"role": "system", "content": "You compare."}
    assert user["content"] == "Asked: {output_1}<|im_end|>\nm says: {instruction}\nM says: two"
    assert ae.prompt("Just {output_1}", fields) == [{"role": "user", "content": "Just {instruction}"}]


async def test_a_run_asks_each_once_and_swaps_back(shelf: Shelf, tmp_path: Path) -> None:
    """A judge that likes what stands first gives the system its chance only where that stands first."""
    judge = TokenJudge(0.75)
    rows = await judged(shelf, tmp_path, judge)
    assert len(judge.requests) == len(rows) == len(INSTRUCTIONS)
    assert judge.requests[0].without(["messages"]).body == {
        "temperature": 1,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 5,
    }
    for row, shown in zip(rows, judge.prompts, strict=True):
        first = row["output_2"] if row["is_switched_outputs"] else row["output_1"]
        assert f"m says: {first}\n" in shown
        assert row["preference"] == pytest.approx(1.75 if row["is_switched_outputs"] else 1.25)
    (result,) = score(rows, shelf)
    assert (result["judged"], result["failed"], result["judge"]) == (12, 0, "scripted/judge")
    first, second = result["order"]["system_first"], result["order"]["baseline_first"]
    assert (first["judged"] + second["judged"], first["win_rate"], second["win_rate"]) == (12, 75, 25)
    assert result["length_controlled_winrate"] is not None
    assert result["avg_length"] < result["baseline_avg_length"]
    assert result["notes"] == []


async def test_the_official_files_are_written_in_order(shelf: Shelf, tmp_path: Path) -> None:
    """The original takes a row's place for its index, so its files are sorted, whoever was done first."""
    slow = Scripted(
        lambda request: Scripted(
            "slow", first_token=0.05 if "1 things that are red" in text_of(request.messages[-1]) else 0
        )
    )
    with Measurement(tmp_path / "run", {}) as measurement:
        await ae.measure(measurement, shelf, slow, TokenJudge(0.5), Options())
        assert measurement.rows("answers")[0]["instruction"] != INSTRUCTIONS[0]
    outputs = json.loads((tmp_path / "run" / "model_outputs.json").read_text())
    annotations = json.loads((tmp_path / "run" / "annotations.json").read_text())
    assert [row["instruction"] for row in outputs] == [row["instruction"] for row in annotations] == INSTRUCTIONS
    assert {"instruction", "output", "generator", "dataset"} <= outputs[0].keys()


async def test_a_judge_without_log_probabilities_gives_verdicts_and_the_result_says_so(
    shelf: Shelf, tmp_path: Path
) -> None:
    """One call an item all the same, where its one token is a name."""
    judge = Scripted("M", name="scripted/judge")
    (result,) = score(await judged(shelf, tmp_path, judge), shelf)
    assert len(judge.requests) == 12
    assert "no log-probabilities for 12 of 12: verdicts" in result["notes"][0]
    assert result["order"]["baseline_first"]["win_rate"] == 100
    assert result["order"]["system_first"]["win_rate"] == 0


async def test_a_judge_that_thinks_first_is_asked_for_a_verdict_without_a_limit(shelf: Shelf, tmp_path: Path) -> None:
    """A single token of it says nothing."""
    judge = Scripted(lambda request: "" if "max_tokens" in request.body else "The better one is: m")
    rows = await judged(shelf, tmp_path, judge, 2)
    assert [row["preference"] for row in rows] == [2.0 if row["is_switched_outputs"] else 1.0 for row in rows]
    assert len(judge.requests) == 4


async def test_a_server_that_refuses_log_probabilities_is_not_asked_for_them_twice(
    shelf: Shelf, tmp_path: Path
) -> None:
    """After one refusal the judge is asked for bare verdicts."""

    class Refusing:
        name = "scripted/judge"
        asked: ClassVar[list[bool]] = []

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.asked.append("logprobs" in request.body)
            if "logprobs" in request.body:
                raise CallRejected(self.name, "unsupported: logprobs", status=400)
            yield Delta(text="m")
            yield Delta(finish_reason="stop")

    with Measurement(tmp_path / "run", {}, concurrency=1) as measurement:
        rows, failed = await ae.measure(measurement, shelf, SYSTEM, Refusing(), Options(3))
    assert (len(rows), failed) == (3, 0)
    assert Refusing.asked == [True, False, False, False]


async def test_a_judgment_that_says_nothing_is_kept_and_counted(shelf: Shelf, tmp_path: Path) -> None:
    """It is not asked for again, and no part of the win rate."""
    judge = Scripted("Neither of them.")
    for _ in range(2):
        rows = await judged(shelf, tmp_path, judge, 3)
    asked = len(judge.requests)
    (result,) = score(rows, shelf)
    assert (result["judged"], result["failed"], result["win_rate"]) == (0, 3, None)
    assert asked == 6, "each once with a limit of one token and once without"


def row(index: int, preference: object, system: str = "A", **fields: object) -> dict[str, Any]:
    return {
        "index": index,
        "generator_1": "gpt4_1106_preview",
        "generator_2": system,
        "len_1": 100 + index,
        "len_2": 90,
        "preference": preference,
        **fields,
    }


def test_several_systems_and_judges_are_told_apart(shelf: Shelf) -> None:
    """One result for each, in the order in which they come."""
    rows = [row(0, 1.2), row(0, 1.9, "B"), row(1, 1.4), row(0, 1.0, annotator="other")]
    results = score(rows, shelf)
    assert [(one["system"], one["judge"], one["judged"]) for one in results] == [
        ("A", None, 2),
        ("B", None, 1),
        ("A", "other", 1),
    ]
    assert results[0]["win_rate"] == pytest.approx(30)


@pytest.mark.parametrize("nothing", [None, float("nan"), "nan", "", -1, 3, "x", [1]])
def test_what_is_no_preference_is_a_failed_judgment(nothing: object, shelf: Shelf) -> None:
    """Missing, not a number, or out of range: left out of the win rate, and counted."""
    (result,) = score([row(0, 1.5), row(1, nothing), row(2, 2)], shelf)
    assert (result["judged"], result["failed"], result["win_rate"]) == (2, 1, 75)
    assert result["length_controlled_winrate"] is not None


def test_zero_is_an_old_way_to_write_a_draw(shelf: Shelf) -> None:
    """It counts as half a win."""
    (result,) = score([row(0, 0), row(1, 1.5), row(2, 2.0)], shelf)
    assert (result["n_draws"], result["n_wins"], result["win_rate"]) == (2, 1, pytest.approx(66.6667, abs=1e-3))


def test_rows_without_an_index_are_placed_by_their_instruction(shelf: Shelf) -> None:
    """As in the original's own files, in whatever order; an unknown instruction takes the row's place."""
    official = [
        {
            "instruction": INSTRUCTIONS[place],
            "output_1": "b" * (100 + place),
            "output_2": "s" * 90,
            "generator_1": "gpt4_1106_preview",
            "generator_2": "A",
            "preference": 1 + place / 12,
        }
        for place in reversed(range(12))
    ]
    (by_text,) = score(official, shelf)
    (by_index,) = score([row(place, 1 + place / 12) for place in range(12)], shelf)
    same = ("win_rate", "standard_error", "length_controlled_winrate", "lc_standard_error", "avg_length")
    assert {name: by_text[name] for name in same} == pytest.approx({name: by_index[name] for name in same})


def test_a_judgment_made_again_takes_the_place_of_one_that_failed(shelf: Shelf) -> None:
    """An instruction counts once."""
    (result,) = score([row(0, None), row(0, 1.8), row(1, 1.2), row(1, None)], shelf)
    assert (result["judged"], result["failed"], result["win_rate"]) == (2, 0, pytest.approx(50))


def test_log_probabilities_stand_in_for_a_preference_that_was_not_recorded(shelf: Shelf) -> None:
    """Read like the judge's own, and swapped back by the instruction's order."""
    logprobs = {
        "content": [{"top_logprobs": [{"token": "m", "logprob": -0.2876820724}, {"token": "M", "logprob": -1.386294}]}]
    }
    rows = [row(place, None, raw_completion={"logprobs": logprobs}) for place in range(12)]
    (result,) = score(rows, shelf)
    assert result["order"]["system_first"]["win_rate"] == pytest.approx(75, abs=1e-3)
    assert result["order"]["baseline_first"]["win_rate"] == pytest.approx(25, abs=1e-3)


def test_without_the_gamed_baselines_there_is_a_reason_in_place_of_a_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The win rate needs no data at all."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (result,) = score([row(0, 1.5), row(1, 2.0)], Shelf(tmp_path))
    assert (result["win_rate"], result["length_controlled_winrate"]) == (75, None)
    assert "df_gamed.csv" in result["notes"][-1]


def test_without_numpy_there_are_win_rates_and_a_word_on_what_to_install(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Length control alone needs it."""
    monkeypatch.setitem(sys.modules, "moa.evals.benchmarks.alpaca_eval.length_control", None)
    monkeypatch.delattr("moa.evals.benchmarks.alpaca_eval.length_control", raising=False)
    (result,) = score([row(0, 1.5), row(1, 2.0)], shelf)
    assert (result["win_rate"], result["length_controlled_winrate"]) == (75, None)
    assert "pip install 'mixture-of-agents[evals]'" in result["notes"][-1]


@pytest.mark.parametrize("rows", [[], [{"model": "A", "score": 3}]])
def test_other_rows_are_refused(rows: list[dict[str, Any]], shelf: Shelf) -> None:
    """Grades of another benchmark are no preferences."""
    with pytest.raises(ConfigError, match="expected judgments of AlpacaEval"):
        score(rows, shelf)
