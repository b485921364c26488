"""The length-controlled win rate, on generated data and on recorded judgments."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from moa.errors import ConfigError
from moa.evals.asking.data import Shelf, read_rows
from moa.evals.benchmarks.alpaca_eval import length_control as lc
from moa.evals.benchmarks.alpaca_eval.controlled import contrast
from moa.evals.benchmarks.alpaca_eval.win_rates import score
from tests.fakes.recordings import DATA
from tests.fakes.small_benchmarks import gamed

FOLDER = DATA / "alpaca_eval"
needs_judgments = pytest.mark.skipif(
    not (FOLDER / "annotations.jsonl.gz").is_file(), reason=f"no recorded judgments in {DATA}; set MOA_DATA to them"
)
WRONG_ANCHORS = ("dbrx-instruct", "NullModel")
"""Systems whose recorded fits disagree with their own rows on the leaderboard."""


def leaderboard() -> dict[str, dict[str, str]]:
    return {str(row[""]): row for row in read_rows(FOLDER / "leaderboard.csv")}


def variants(count: int) -> lc.Gamed:
    return lc.gamed(list(csv.DictReader(gamed(count).splitlines())))


def made(count: int = 400, *, constant: float = 0.4, length: float = -1.2) -> tuple[lc.Floats, lc.Floats]:
    """Preferences that follow the model exactly, and their columns; the system's answers are longer."""
    random = np.random.default_rng(7)
    difficulty = np.sin(np.arange(count))
    columns = lc.features(random.normal(1000, 300, count), random.normal(1300, 300, count), difficulty)
    return lc.expit(columns @ np.array([length, 0.8, constant])), columns


def test_the_judges_bias_for_length_is_removed() -> None:
    """A system preferred for its length alone gets the win rate of its constant."""
    preferences, columns = made()
    fit = lc.length_controlled(preferences, columns, variants(400), 1000.0)
    assert fit.weights == pytest.approx((-1.2, 0.8, 0.4), abs=0.15)
    truth = 100 * lc.expit(0.8 * columns[:, 1] + 0.4).mean()
    assert preferences.mean() * 100 > truth + 8
    assert fit.win_rate == pytest.approx(truth, abs=2.0)


def test_a_fit_satisfies_the_conditions_of_its_minimum() -> None:
    """For a weight other than 0 the slope of the data's part is 1 or -1, against its sign; for 0 it is between them."""
    preferences, columns = made(60)
    weights = np.where(columns[:, 2] > 0, 1.0, 0.1)
    for strength in (0.02, 0.1, 2.78, 1e4):
        fit = lc._fitted(columns, preferences, weights, strength)
        slope = strength * columns.T @ (weights * (lc.expit(columns @ fit) - preferences))
        at_zero = fit == 0
        assert slope[~at_zero] == pytest.approx(-np.sign(fit[~at_zero]), abs=1e-5)
        assert (np.abs(slope[at_zero]) <= 1 + 1e-9).all()
    assert not lc._fitted(columns, preferences, weights, 1e-4).any()


def noisy(count: int, seed: int = 3, **settings: float) -> tuple[lc.Floats, lc.Floats]:
    """As :func:`made`, with a judge that is not always of the same opinion."""
    preferences, columns = made(count, **settings)
    noise = np.random.default_rng(seed).normal(0, 1.5, count)
    margins = np.log(preferences / (1 - preferences)) + noise
    return lc.expit(margins), columns


def test_the_interval_is_that_of_refitting_and_far_wider_than_the_leaderboards_error() -> None:
    """It holds the win rate, and shrinks with the number of items."""
    widths = []
    for count in (200, 800):
        preferences, columns = noisy(count)
        fit = lc.length_controlled(preferences, columns, variants(count), 1.0)
        counts = lc.resamples(count, 60)
        drawn = lc.resampled(preferences, columns, variants(count), fit, counts)
        low, high = lc.ends(lc.win_rates(drawn, columns[:, 1], counts))
        assert low < fit.win_rate < high
        widths.append(high - low)
    assert fit.standard_error is not None
    assert widths[0] > 1.5 * widths[1]
    assert widths[1] > 4 * fit.standard_error


def test_a_resample_of_every_item_once_has_the_weights_of_the_fit() -> None:
    """Refitting starts from the first fit and ends there."""
    preferences, columns = noisy(150)
    fit = lc.length_controlled(preferences, columns, variants(150), 1.0)
    once = np.ones((1, 150), dtype=np.int64)
    assert lc.resampled(preferences, columns, variants(150), fit, once)[0] == pytest.approx(fit.weights, abs=1e-5)


def test_a_system_wins_half_against_itself() -> None:
    """And more against one with a smaller constant."""
    weights, difficulty = np.array([[-1.0, 0.5, 0.3]]), np.array([0.5, np.nan, -0.5])
    assert lc.against(weights, weights, difficulty) == pytest.approx([50])
    assert lc.against(weights, weights - np.array([0, 0, 1.0]), difficulty) == pytest.approx(
        [100 * lc.expit(np.array(1.0))]
    )


@pytest.mark.parametrize(
    ("raw", "controlled", "extreme"),
    [
        (20, 9.9, True),
        (20, 10.1, False),
        (20, 41, True),
        (50, 37, True),
        (50, 38, False),
        (50, 63, True),
        (95, 99, False),
    ],
)
def test_extreme_changes_are_those_of_the_original(raw: float, controlled: float, extreme: bool) -> None:
    """By more than ten points, and by more than a quarter of what is possible."""
    assert lc.is_extreme(raw, controlled) is extreme


def rows_of(count: int, system: str, constant: float, **fields: object) -> list[dict[str, object]]:
    preferences, _ = noisy(count, constant=constant)
    row = {"generator_1": "gpt4_1106_preview", "generator_2": system, "annotator": "weighted_alpaca_eval_gpt4_turbo"}
    return [
        {
            **row,
            "index": place,
            "len_1": 1000 + 7 * (place % 50),
            "len_2": 1100,
            "preference": 1 + float(value),
            **fields,
        }
        for place, value in enumerate(preferences)
    ]


@pytest.fixture
def files(tmp_path: Path) -> Shelf:
    (tmp_path / "df_gamed.csv").write_text(gamed(120))
    (tmp_path / "glm_weights.csv").write_text(f",{','.join(lc.WEIGHT_NAMES)}\nA,-1.0,0.5,0.2\n")
    return Shelf(tmp_path)


def test_a_result_has_the_interval_and_notes_what_its_fit_is_worth(files: Shelf) -> None:
    """Recorded fits are for their own baseline and judge; fewer rows than instructions are noted."""
    (whole,) = score(rows_of(120, "A", 0.4), files)
    assert whole["length_controlled_winrate_low"] < whole["length_controlled_winrate"]
    assert whole["length_controlled_winrate"] < whole["length_controlled_winrate_high"]
    assert whole["win_rate_low"] < whole["win_rate"] < whole["win_rate_high"]
    assert "recorded_fit" in whole
    assert whole["notes"] == []
    (other,) = score(rows_of(110, "A", 0.4, annotator="another"), files)
    assert "recorded_fit" not in other
    assert other["notes"][0].startswith("110 of 120 instructions: ")
    assert "for another against gpt4_1106_preview it is an approximation" in other["notes"][1]
    (few,) = score(rows_of(99, "A", 0.4), files)
    assert few["length_controlled_winrate"] is None
    assert "its fit to 99 items says nothing" in few["notes"][-1]


def test_no_figure_stands_where_all_weights_are_zero(files: Shelf) -> None:
    """A fit that only says a half says nothing."""
    (result,) = score(rows_of(120, "A", 0.0, preference=1.5), files)
    assert result["length_controlled_winrate"] is None or any(result["length_control"]["weights"])


def test_two_systems_are_compared_at_equal_length(files: Shelf) -> None:
    """Both are fitted again to each resample; the order changes the sign alone."""
    better, worse = rows_of(120, "A", 0.9), rows_of(120, "B", -0.4)
    found, back = contrast(better, worse, files, 0.95), contrast(worse, better, files, 0.95)
    assert 0 < found["difference_low"] < found["difference"] < found["difference_high"]
    assert 50 < found["head_to_head_low"] < found["head_to_head"] < found["head_to_head_high"]
    assert back["difference"] == pytest.approx(-found["difference"])
    assert back["head_to_head"] == pytest.approx(100 - found["head_to_head"])
    with pytest.raises(ConfigError, match="99 shared items are too few"):
        contrast(better, worse[:99], files, 0.95)


def test_rows_without_a_judgment_are_predicted_but_not_fitted() -> None:
    """They count in the mean."""
    preferences, columns = made(200)
    preferences[::4] = np.nan
    with_gaps = lc.length_controlled(preferences, columns, variants(200), 1.0)
    judged = ~np.isnan(preferences)
    without = lc.length_controlled(preferences[judged], columns[judged], variants(200), 1.0)
    assert with_gaps.weights == pytest.approx(without.weights)
    assert with_gaps.win_rate != pytest.approx(without.win_rate)


def test_answers_of_equal_length_and_a_single_row_do_not_fail() -> None:
    """Without spread there is no length to control for; a single row has no standard error."""
    same = np.full(3, 100.0)
    columns = lc.features(same, same, np.zeros(3))
    assert not columns[:, 0].any()
    fit = lc.length_controlled(np.array([1.0, 0.0, 1.0]), columns, variants(3))
    assert 0 < fit.win_rate < 100
    assert lc.length_controlled(np.array([1.0]), columns[:1], variants(3)).standard_error is None


def test_cross_validation_is_deterministic() -> None:
    """It chooses one of the ten candidates for C."""
    preferences, columns = made(120)
    fits = [lc.length_controlled(preferences, columns, variants(120)) for _ in range(2)]
    assert fits[0] == fits[1]
    assert fits[0].strength in lc.STRENGTHS
    assert lc.STRENGTHS[3] == pytest.approx(0.0464158883)


@needs_judgments
def test_recorded_judgments_give_the_leaderboards_figures() -> None:
    """Win rates are equal; length-controlled ones are within 0.02 at the recorded C and within 0.2 by cross-validation."""
    results = score(read_rows(FOLDER / "annotations.jsonl.gz"), Shelf(DATA))
    official = leaderboard()
    assert len(results) == 7
    for result in results:
        row = official[result["system"]]
        assert result["win_rate"] == pytest.approx(float(row["win_rate"]), abs=1e-8)
        assert result["standard_error"] == pytest.approx(float(row["standard_error"]), abs=1e-8)
        assert result["discrete_win_rate"] == pytest.approx(float(row["discrete_win_rate"]), abs=1e-8)
        assert [str(result[name]) for name in ("n_wins", "n_wins_base", "n_draws", "judged")] == [
            row[name] for name in ("n_wins", "n_wins_base", "n_draws", "n_total")
        ]
        assert int(result["avg_length"]) == int(row["avg_length"])
        controlled = float(row["length_controlled_winrate"])
        assert result["length_controlled_winrate"] == pytest.approx(controlled, abs=0.2)
        if row["lc_standard_error"] and result["system"] not in WRONG_ANCHORS:
            assert result["lc_standard_error"] == pytest.approx(float(row["lc_standard_error"]), abs=0.005)
        if (fit := result.get("recorded_fit")) and result["system"] not in WRONG_ANCHORS:
            assert fit["length_controlled_winrate"] == pytest.approx(controlled, abs=1e-6)
            assert fit["length_controlled_winrate_fitted_at_C"] == pytest.approx(controlled, abs=0.02)


@needs_judgments
def test_recorded_fits_give_the_figures_of_the_paper() -> None:
    """Together-MoA 65.38, MoA-Lite 59.14, GPT-4o 57.46; and those of all other systems, except the known wrong ones."""
    found = {
        row["system"]: row["length_controlled_winrate"]
        for row in score(read_rows(FOLDER / "glm_weights.csv"), Shelf(DATA))
    }
    assert round(found["Together-MoA"], 2) == 65.38
    assert round(found["Together-MoA-Lite"], 2) == 59.14
    assert round(found["gpt-4o-2024-05-13"], 2) == 57.46
    official = leaderboard()
    both = [name for name in found if name in official and name not in WRONG_ANCHORS]
    assert len(both) > 150
    assert [name for name in both if abs(found[name] - float(official[name]["length_controlled_winrate"])) > 0.02] == []


@needs_judgments
@pytest.mark.filterwarnings("ignore")
def test_the_original_agrees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """alpaca-eval itself, where it is installed, gives the same figures from the same rows, within its solver's tolerance.

    Not part of the development environment: it holds old packages back. To run this test::

        uv run --with alpaca-eval==0.6.6 --with 'setuptools<81' --with 'scikit-learn<1.10' \\
            pytest tests/evals/test_length_control.py -k original
    """
    pytest.importorskip("pkg_resources", reason="alpaca-eval needs setuptools<81", exc_type=ImportError)
    glm = pytest.importorskip(
        "alpaca_eval.metrics.glm_winrate", reason="alpaca-eval is not installed", exc_type=ImportError
    )
    pd = pytest.importorskip("pandas")
    table = tmp_path / "df_gamed.csv"
    table.write_bytes(gzip.decompress((FOLDER / "df_gamed_reconstructed.csv.gz").read_bytes()))
    monkeypatch.setattr(glm, "hf_hub_download", lambda **_: str(table))
    system = "FuseChat-Llama-3.1-8B-Instruct"
    rows = [row for row in read_rows(FOLDER / "annotations.jsonl.gz") if row["generator_2"] == system]
    frame = pd.DataFrame(rows).drop(columns="index")
    frame["output_1"], frame["output_2"] = frame["len_1"].map("x".__mul__), frame["len_2"].map("x".__mul__)
    frame["preferences"] = frame["preference"]
    theirs = glm.get_length_controlled_winrate(frame, save_weights_dir=None)
    (ours,) = score(rows, Shelf(DATA))
    assert ours["win_rate"] == pytest.approx(theirs["win_rate"], abs=1e-9)
    assert ours["length_controlled_winrate"] == pytest.approx(theirs["length_controlled_winrate"], abs=0.02)
    assert ours["lc_standard_error"] == pytest.approx(theirs["lc_standard_error"], abs=0.005)
