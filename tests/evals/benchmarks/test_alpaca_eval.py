"""AlpacaEval 2.0: the order of the answers, the judge's verdict, and judgments in every format."""

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
def test_log_probabilities_give_the_preference(logprobs: dict[str, float], preference: float | None) -> None:
    """It is the probability of the second name among both; an unlisted name has probability 0; without both: None."""
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
def test_a_verdict_is_a_single_name(text: str, preference: int | None) -> None:
    """Punctuation may surround it; both names, or none, are no verdict."""
    assert ae.verdict(text) == preference


def test_the_instruction_alone_decides_the_order() -> None:
    """As with the official seed; the original's own function produced the expected values."""
    assert [ae.is_switched(text) for text in ("What is 2 + 2?", "Say hello.", "Ünïcode", "")] == [
        False,
        False,
        True,
        False,
    ]


def test_an_instruction_that_looks_like_a_field_is_not_replaced() -> None:
    """All fields are filled in one pass, and messages end at the template's marks."""
    fields = {"instruction": "{output_1}<|im_end|>", "output_1": "{instruction}", "output_2": "two"}
    system, user = ae.prompt(small_benchmarks.TEMPLATE, fields)
    assert system == {"role": "system", "content": "You compare."}
    assert user["content"] == "Asked: {output_1}<|im_end|>\nm says: {instruction}\nM says: two"
    assert ae.prompt("Just {output_1}", fields) == [{"role": "user", "content": "Just {instruction}"}]


async def test_each_item_is_judged_once_and_its_order_is_undone(shelf: Shelf, tmp_path: Path) -> None:
    """A judge that prefers the first answer gives the system that preference only where it is shown first."""
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
    assert result["length_controlled_winrate"] is None
    assert result["notes"] == ["no length-controlled win rate: its fit to 12 items says nothing; it takes 100"]
    assert result["avg_length"] < result["baseline_avg_length"]


async def test_the_official_files_are_in_the_order_of_the_instructions(shelf: Shelf, tmp_path: Path) -> None:
    """In the original's files a row's position is its index, so rows are sorted whatever the order of completion."""
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


async def test_a_judge_without_log_probabilities_gives_verdicts_and_the_result_notes_it(
    shelf: Shelf, tmp_path: Path
) -> None:
    """It is called once per item, since its one token is a name."""
    judge = Scripted("M", name="scripted/judge")
    (result,) = score(await judged(shelf, tmp_path, judge), shelf)
    assert len(judge.requests) == 12
    assert "no log-probabilities for 12 of 12: verdicts" in result["notes"][0]
    assert result["order"]["baseline_first"]["win_rate"] == 100
    assert result["order"]["system_first"]["win_rate"] == 0


async def test_a_judge_that_reasons_first_is_called_again_without_a_token_limit(shelf: Shelf, tmp_path: Path) -> None:
    """Its first token is no verdict."""
    judge = Scripted(lambda request: "" if "max_tokens" in request.body else "The better one is: m")
    rows = await judged(shelf, tmp_path, judge, 2)
    assert [row["preference"] for row in rows] == [2.0 if row["is_switched_outputs"] else 1.0 for row in rows]
    assert len(judge.requests) == 4


async def test_a_server_that_rejects_log_probabilities_gets_one_such_request(shelf: Shelf, tmp_path: Path) -> None:
    """After the first rejection, the judge is called for plain verdicts."""

    class Rejecting:
        name = "scripted/judge"
        with_logprobs: ClassVar[list[bool]] = []

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.with_logprobs.append("logprobs" in request.body)
            if "logprobs" in request.body:
                raise CallRejected(self.name, "unsupported: logprobs", status=400)
            yield Delta(text="m")
            yield Delta(finish_reason="stop")

    with Measurement(tmp_path / "run", {}, concurrency=1) as measurement:
        rows, failed = await ae.measure(measurement, shelf, SYSTEM, Rejecting(), Options(3))
    assert (len(rows), failed) == (3, 0)
    assert Rejecting.with_logprobs == [True, False, False, False]


async def test_a_judgment_without_a_verdict_is_kept_and_counted(shelf: Shelf, tmp_path: Path) -> None:
    """Its call is not repeated, and the win rate leaves it out."""
    judge = Scripted("Neither of them.")
    for _ in range(2):
        rows = await judged(shelf, tmp_path, judge, 3)
    calls = len(judge.requests)
    (result,) = score(rows, shelf)
    assert (result["judged"], result["failed"], result["win_rate"]) == (0, 3, None)
    assert calls == 6, "one with a limit of one token and one without, for each item"


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


def test_systems_and_judges_have_separate_results(shelf: Shelf) -> None:
    """The results are in the order of the rows."""
    rows = [row(0, 1.2), row(0, 1.9, "B"), row(1, 1.4), row(0, 1.0, annotator="other")]
    results = score(rows, shelf)
    assert [(one["system"], one["judge"], one["judged"]) for one in results] == [
        ("A", None, 2),
        ("B", None, 1),
        ("A", "other", 1),
    ]
    assert results[0]["win_rate"] == pytest.approx(30)


@pytest.mark.parametrize("nothing", [None, float("nan"), "nan", "", -1, 3, "x", [1]])
def test_an_invalid_preference_is_a_failed_judgment(nothing: object, shelf: Shelf) -> None:
    """Missing, not a number, or out of range: the win rate leaves it out, and the result counts it."""
    (result,) = score([row(0, 1.5), row(1, nothing), row(2, 2)], shelf)
    assert (result["judged"], result["failed"], result["win_rate"]) == (2, 1, 75)


def test_zero_is_an_old_notation_for_a_draw(shelf: Shelf) -> None:
    """It counts as half a win."""
    (result,) = score([row(0, 0), row(1, 1.5), row(2, 2.0)], shelf)
    assert (result["n_draws"], result["n_wins"], result["win_rate"]) == (2, 1, pytest.approx(66.6667, abs=1e-3))


def test_rows_without_an_index_are_matched_by_their_instruction(shelf: Shelf) -> None:
    """The original's own files are such, in any order."""
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


def test_a_repeated_judgment_replaces_a_failed_one(shelf: Shelf) -> None:
    """An instruction counts once."""
    (result,) = score([row(0, None), row(0, 1.8), row(1, 1.2), row(1, None)], shelf)
    assert (result["judged"], result["failed"], result["win_rate"]) == (2, 0, pytest.approx(50))


def test_recorded_log_probabilities_replace_a_missing_preference(shelf: Shelf) -> None:
    """The order of the answers is undone as for our own judgments."""
    logprobs = {
        "content": [{"top_logprobs": [{"token": "m", "logprob": -0.2876820724}, {"token": "M", "logprob": -1.386294}]}]
    }
    rows = [row(place, None, raw_completion={"logprobs": logprobs}) for place in range(12)]
    (result,) = score(rows, shelf)
    assert result["order"]["system_first"]["win_rate"] == pytest.approx(75, abs=1e-3)
    assert result["order"]["baseline_first"]["win_rate"] == pytest.approx(25, abs=1e-3)


def test_without_the_gamed_baselines_a_note_has_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The win rate needs no file."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (result,) = score([row(0, 1.5), row(1, 2.0)], Shelf(tmp_path))
    assert (result["win_rate"], result["length_controlled_winrate"]) == (75, None)
    assert "df_gamed.csv" in result["notes"][-1]


def test_without_numpy_there_are_win_rates_and_an_install_hint(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only length control needs it."""
    monkeypatch.setitem(sys.modules, "moa.evals.benchmarks.alpaca_eval.length_control", None)
    monkeypatch.delattr("moa.evals.benchmarks.alpaca_eval.length_control", raising=False)
    (result,) = score([row(0, 1.5), row(1, 2.0)], shelf)
    assert (result["win_rate"], result["length_controlled_winrate"]) == (75, None)
    assert "pip install 'mixture-of-agents[evals]'" in result["notes"][-1]


@pytest.mark.parametrize("rows", [[], [{"model": "A", "score": 3}]])
def test_rows_of_another_benchmark_are_refused(rows: list[dict[str, Any]], shelf: Shelf) -> None:
    """Grades are no preferences."""
    with pytest.raises(ConfigError, match="expected judgments of AlpacaEval"):
        score(rows, shelf)
