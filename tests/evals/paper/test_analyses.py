"""Does the aggregator pick or merge: on generated answers, on runs, and on recorded answers of the paper's mixtures."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from moa.cli import analyse
from moa.errors import ConfigError
from moa.evals.paper import analyses
from moa.evals.paper.analyses import Case, cases_of, leaderboard, merging, outputs, proposals_of, spearman
from moa.mixture.mixture import Mixture
from moa.models.scripted import Scripted
from tests.fakes.measured_runs import measure
from tests.fakes.recordings import ALPACA_EVAL_OUTPUTS, DATA, needs_recordings

PROPOSERS = (
    "Qwen1.5-110B-Chat",
    "Qwen1.5-72B-Chat",
    "Meta-Llama-3-70B-Instruct",
    "Mixtral-8x22B-Instruct-v0.1",
    "dbrx-instruct",
)
CONTROLS = ("gpt4_1106_preview", "gpt-4o-2024-05-13")

WORDS = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "juniper", "kelp", "lagoon"]


def text(seed: int, length: int = 40) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, size=length))


def made(prompts: int, *, copies: bool) -> list[Case]:
    """Three proposals of rising quality; the answer holds the more of each the better it is, or nothing of any."""
    cases = []
    for prompt in range(prompts):
        proposals = tuple(text(10 * prompt + number) for number in range(3))
        shares = (proposals[0][:40], proposals[1][:90], proposals[2])
        answer = " ".join(shares) if copies else text(10 * prompt + 7)
        cases.append(Case(proposals, (1.0, 2.0, 3.0), answer, (text(10 * prompt + 8),)))
    return cases


def test_rank_correlations_are_those_of_scipy() -> None:
    """With ties, as ``scipy.stats.spearmanr`` of scipy 1.17 gives them; NaN without a warning if all values are equal."""
    scores = np.array([[0.1, 0.4, 0.4, 0.2], [4, 3, 2, 1], [5, 5, 5, 5]])
    quality = [1, 2, 2, 5]
    found = spearman(quality, scores)
    assert found[:2] == pytest.approx([0.3333333333333334, -0.9486832980505139])
    assert math.isnan(found[2])


def test_an_aggregator_that_uses_the_better_proposals_is_recognized() -> None:
    """The excess over a control is far from 0 for it, and its interval contains 0 for one that ignores them."""
    taking, ignoring = (merging(made(40, copies=copies), ["blind"]) for copies in (True, False))
    for measure_of in (0, 1, 2, 3):
        excess = taking.correlations[measure_of].excess["blind"]
        assert excess is not None
        assert excess.low > 0.5
        other = ignoring.correlations[measure_of].excess["blind"]
        assert other is not None
        assert other.low < 0 < other.high
    assert taking.closest_is_best == 1
    assert ignoring.closest_is_best < 0.7


def test_prompts_without_a_correlation_are_left_out_and_counted() -> None:
    """Such as a prompt whose proposals are equal."""
    same = Case(("one two", "one two"), (1.0, 2.0), "one two three", ("four",))
    found = merging([same, *made(5, copies=True)], ["blind"])
    assert {(each.prompts, each.undefined) for each in found.correlations if each.measure != "TF-IDF"} == {(5, 1)}
    with pytest.raises(ConfigError, match="no prompt has an answer and at least two proposals"):
        merging([Case(("one",), (1.0,), "one")])


def test_copies_are_counted() -> None:
    """A copy is an answer that is nearly the text of a proposal."""
    proposal = "A long enough proposal, that is repeated word for word."
    found = merging([Case((proposal, "other"), (2.0, 1.0), proposal + "!"), Case((proposal, "other"), (2.0, 1.0), "x")])
    assert found.copied == 0.5


def test_only_prompts_that_every_control_answered_count() -> None:
    """A missing proposal only leaves out itself; the quality may differ by prompt."""
    answers = {"p": "a", "q": "b", "r": "c"}
    proposals = {"x": {"p": "1", "q": "2", "r": "3"}, "y": {"p": "4", "q": "5"}}
    cases = cases_of(answers, proposals, {"x": 1.0, "y": {"p": 3.0}}, {"blind": {"p": "", "q": ""}})
    assert cases == [Case(("1", "4"), (1.0, 3.0), "a", ("",)), Case(("2",), (1.0,), "b", ("",))]
    with pytest.raises(ConfigError, match="the quality of 'y' is unknown; known: x"):
        cases_of(answers, proposals, {"x": 1.0})


@pytest.mark.anyio
async def test_a_mixtures_run_has_its_proposals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs of its proposers give the quality of each proposal; a run of the aggregator alone is the control."""
    ann = Scripted(lambda request: text(len(request.json())), name="scripted/ann")
    bob = Scripted(lambda request: text(3 * len(request.json())), name="scripted/bob")
    boss = Scripted(lambda request: text(5 * len(request.json()) % 7), name="scripted/boss")
    mixture = Mixture([[ann, ann], [ann, bob]], boss, name="duo")
    runs = {model.name: await measure(tmp_path, model) for model in (mixture, ann, bob, boss)}
    assert {name: len(texts) for name, texts in proposals_of(runs["moa/duo"]).items()} == {
        "scripted/ann": 12,
        "scripted/bob": 12,
    }
    assert [*proposals_of(runs["moa/duo"], layer=1)] == ["ann", "ann-2"]
    with pytest.raises(ConfigError, match="this run has no proposals"):
        proposals_of(runs["scripted/ann"])
    quality = [str(runs["scripted/ann"]), str(runs["scripted/bob"])]
    kept = tmp_path / "merging.json"
    assert analyse.merge(runs["moa/duo"], [], quality, [runs["scripted/boss"]], out=kept) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        "moa-duo: 12 prompts, 2.0 proposals each\nsimilarity\trho\tscripted-boss\texcess over scripted-boss\n"
    )
    assert "most similar to the best proposal:" in shown
    result = json.loads(kept.read_text())
    assert [each["measure"] for each in result["correlations"]][-1] == "Levenshtein"
    assert result["proposers"] == ["scripted/ann", "scripted/bob"]


def test_outputs_and_leaderboards_are_read_in_their_own_formats(tmp_path: Path) -> None:
    """JSON Lines by index, gzipped; a JSON list by instruction; a CSV whose first column has no name."""
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"index": 0, "output": "x"}\n'))
    (tmp_path / "b.json").write_text('[{"instruction": "say y", "output": "y"}]')
    (tmp_path / "board.csv").write_text(",win_rate,lc\nx,50.5,\ny,12,3\n")
    assert outputs(tmp_path / "a.jsonl.gz") == {"0": "x"}
    assert outputs(tmp_path / "b.json") == {"say y": "y"}
    assert leaderboard(tmp_path / "board.csv") == {"x": 50.5, "y": 12}
    assert leaderboard(tmp_path / "board.csv", "lc") == {"y": 3}
    with pytest.raises(ConfigError, match="no column 'wins'"):
        leaderboard(tmp_path / "board.csv", "wins")


def test_quality_is_given_by_a_models_name_or_its_last_part() -> None:
    """``NAME=FIGURE``; ``together/Qwen/x`` is also ``x``; missing quality is an error."""
    assert analyse.quality_of(["x=1.5", "b=-2"], ["together/Qwen/x", "b"], "win_rate") == {
        "together/Qwen/x": 1.5,
        "b": -2,
    }
    with pytest.raises(ConfigError, match="the quality of the proposers is missing"):
        analyse.quality_of([], ["x"], "win_rate")


@needs_recordings
@pytest.mark.slow
def test_the_papers_correlation_is_reproduced_and_controls_have_half_of_it() -> None:
    """On recorded answers to all 805 instructions, models that saw no proposal score 0.17 to 0.24 on BLEU-4."""

    def recorded(name: str) -> dict[str, str]:
        return outputs(ALPACA_EVAL_OUTPUTS / f"{name}.jsonl.gz")

    board = leaderboard(DATA / "alpaca_eval" / "leaderboard.csv")
    proposals = {name: recorded(name) for name in PROPOSERS}
    cases = cases_of(recorded("Together-MoA"), proposals, board, {name: recorded(name) for name in CONTROLS})
    found = {each.measure: each for each in merging(cases, CONTROLS).correlations}
    assert len(cases) == 805
    expected = {"BLEU-3": 0.322, "BLEU-4": 0.331, "BLEU-5": 0.317, "TF-IDF": 0.281, "Levenshtein": 0.074}
    assert {name: each.rho for name, each in found.items()} == pytest.approx(expected, abs=0.001)
    assert found["BLEU-4"].controls == pytest.approx(dict(zip(CONTROLS, (0.169, 0.243), strict=True)), abs=0.001)
    excess = [gap.difference for gap in found["BLEU-4"].excess.values() if gap]
    assert excess == pytest.approx([0.163, 0.086], abs=0.001)


def test_files_that_every_system_has_are_named_for_their_system(tmp_path: Path) -> None:
    """By their rows' generator, or else by their folder; two files of one system are refused."""
    paths = []
    for folder, generator in (("one", "model-1"), ("two", None), ("three", "model-1")):
        path = tmp_path / folder / "model_outputs.json"
        path.parent.mkdir()
        path.write_text(json.dumps([{"instruction": "Q", "output": "A", "generator": generator}]))
        paths.append(path)
    assert [*analyses.named_outputs(paths[:2])] == ["model-1", "two"]
    assert analyses.name_of(paths[1]) == "two"
    with pytest.raises(ConfigError, match="two files are of the system model-1"):
        analyses.named_outputs(paths)
