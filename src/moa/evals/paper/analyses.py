"""Does the aggregator pick or merge? (arXiv 2406.04692, section 3.3 and its figure of correlations)

For each prompt: Spearman's rank correlation between how good the proposals are and how like the final answer they are;
then the mean over prompts. The paper reads a positive mean as the aggregator taking from the better proposals.

Notable decisions:
- The bare mean proves little. Good answers are alike, whoever wrote them: models that saw no proposal at all score 0.17
  to 0.24 on BLEU-4 against the paper's own proposals, half of what its mixture scores. So each mean comes with the excess
  over controls that saw none, paired prompt by prompt, and a bootstrap interval of that excess.
- A prompt whose proposals are all equally good, or all equally like the answer, has no correlation. It is left out and
  counted, not taken as 0.
- Few proposals make each correlation coarse (with five, steps of 0.1); only the mean over many prompts says anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moa.errors import ConfigError
from moa.evals.asking.data import read_rows
from moa.evals.paper.similarity import Matrix, TfIdf, similarities
from moa.evals.reading.compare import Difference, paired

Texts = Mapping[str, str]
"""What one system said, by prompt."""

Quality = Mapping[str, float | Mapping[str, float]]
"""How good each proposer is: one figure each (its win rate), or one for each prompt (the judge's preference)."""

COPIED = 0.9
"""The Levenshtein similarity from which an answer counts as a copy of a proposal."""


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt: its proposals, how good each is, and what the system and each control answered."""

    proposals: tuple[str, ...]
    quality: tuple[float, ...]
    answer: str
    controls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Correlation:
    """One measure's result.

    Attributes:
        measure: ``BLEU-4``, …
        rho: the mean over prompts, -1 to 1; NaN where no prompt has one.
        standard_error: of that mean.
        prompts: how many have a correlation.
        undefined: how many have none.
        controls: the same mean for each control.
        excess: by control, the paired difference with its interval; None where too few prompts are paired.
    """

    measure: str
    rho: float
    standard_error: float
    prompts: int
    undefined: int
    controls: Mapping[str, float] = field(default_factory=dict)
    excess: Mapping[str, Difference | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Merging:
    """What became of the proposals.

    Attributes:
        correlations: one for each measure.
        copied: the share of answers that are a proposal nearly word for word (see :data:`COPIED`).
        closest_is_best: how often the proposal most like the answer (BLEU-4) is the best one; by chance it is
            ``1 / proposals``.
        proposals: how many a prompt has, on average.
    """

    correlations: tuple[Correlation, ...]
    copied: float
    closest_is_best: float
    proposals: float


def spearman(quality: Sequence[float], scores: Matrix) -> NDArray[np.float64]:
    """Rank correlations of each row of ``scores``, (rows, proposals), with ``quality``; NaN where either is constant."""
    good, like = _ranks(np.asarray(quality, dtype=float)), _ranks(scores)
    good, like = good - good.mean(), like - like.mean(axis=1, keepdims=True)
    scale = np.sqrt((good**2).sum() * (like**2).sum(axis=1))
    together: Matrix = like @ good
    rhos: NDArray[np.float64] = np.full(len(like), np.nan)
    np.divide(together, scale, out=rhos, where=scale > 0)
    return rhos


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks along the last axis, from 1; equals share the mean of theirs."""
    one, other = values[..., :, None], values[..., None, :]
    below: NDArray[np.float64] = (other < one).sum(axis=-1) + ((other == one).sum(axis=-1) + 1) / 2
    return below


def merging(cases: Sequence[Case], controls: Sequence[str] = (), *, seed: int = 0) -> Merging:
    """Correlate quality with similarity.

    Args:
        cases: the prompts; each has as many controls as ``controls`` has names.
        controls: their names.
        seed: of the bootstrap.

    Raises:
        ConfigError: there is no prompt with two proposals.
    """
    cases = [case for case in cases if len(case.proposals) > 1]
    if not cases:
        raise ConfigError("there is no prompt with at least two proposals of known quality and an answer")
    tf_idf = TfIdf(text for case in cases for text in (*case.proposals, case.answer, *case.controls))
    rhos: dict[str, list[NDArray[np.float64]]] = {}
    copied = best = 0
    for case in cases:
        scores = similarities([case.answer, *case.controls], case.proposals, tf_idf)
        for measure, matrix in scores.items():
            rhos.setdefault(measure, []).append(spearman(case.quality, matrix))
        copied += bool(scores["Levenshtein"][0].max() >= COPIED)
        best += case.quality[int(scores["BLEU-4"][0].argmax())] == max(case.quality)
    return Merging(
        tuple(_correlation(measure, np.array(rows), controls, seed) for measure, rows in rhos.items()),
        copied / len(cases),
        best / len(cases),
        sum(len(case.proposals) for case in cases) / len(cases),
    )


def _correlation(measure: str, rhos: Matrix, controls: Sequence[str], seed: int) -> Correlation:
    """From rank correlations of shape (prompts, 1 + controls)."""
    own = rhos[:, 0][~np.isnan(rhos[:, 0])]
    means, excess = {}, {}
    for place, name in enumerate(controls, start=1):
        known = rhos[:, place][~np.isnan(rhos[:, place])]
        means[name] = float(known.mean()) if len(known) else float("nan")
        both = ~np.isnan(rhos[:, [0, place]]).any(axis=1)
        excess[name] = paired(rhos[both, 0], rhos[both, place], seed=seed) if both.sum() > 1 else None
    return Correlation(
        measure,
        float(own.mean()) if len(own) else float("nan"),
        float(own.std(ddof=1) / np.sqrt(len(own))) if len(own) > 1 else float("nan"),
        len(own),
        len(rhos) - len(own),
        means,
        excess,
    )


def cases_of(
    answers: Texts,
    proposals: Mapping[str, Texts],
    quality: Quality,
    controls: Mapping[str, Texts] | None = None,
) -> list[Case]:
    """The prompts that the system and every control answered, each with the proposals whose quality is known.

    Args:
        answers: the system's.
        proposals: by proposer.
        quality: by proposer.
        controls: by name.

    Raises:
        ConfigError: a proposer has no quality.
    """
    controls = controls or {}
    if unknown := [name for name in proposals if name not in quality]:
        raise ConfigError(f"the quality of {unknown[0]!r} is not known; there is that of {', '.join(sorted(quality))}")
    cases = []
    for prompt, answer in answers.items():
        if not all(prompt in texts for texts in controls.values()):
            continue
        known = [
            (texts[prompt], good)
            for name, texts in proposals.items()
            if prompt in texts and (good := _quality(quality[name], prompt)) is not None
        ]
        texts, figures = tuple(text for text, _ in known), tuple(good for _, good in known)
        cases.append(Case(texts, figures, answer, tuple(texts[prompt] for texts in controls.values())))
    return cases


def _quality(known: float | Mapping[str, float], prompt: str) -> float | None:
    return known.get(prompt) if isinstance(known, Mapping) else known


def outputs(path: Path) -> dict[str, str]:
    """What a system said, by prompt: from a run's folder, or a file in AlpacaEval's format (``instruction`` or ``index``,
    ``output``), plain or gzipped.

    Raises:
        ConfigError: the file is not there, or is no such file.
    """
    rows = read_rows(path / "answers.jsonl" if path.is_dir() else path)
    return {prompt_of(row, path): _text(row, path) for row in rows}


def prompt_of(row: Mapping[str, Any], path: Path) -> str:
    """What a row's prompt is known by: its text, or its index where the text is not told."""
    for name in ("instruction", "index", "question_id", "idx"):
        if row.get(name) is not None:
            return str(row[name])
    raise ConfigError(f"{path}: a row has neither 'instruction' nor 'index'")


def _text(row: Mapping[str, Any], path: Path) -> str:
    text = row.get("output", row.get("text"))
    if not isinstance(text, str):
        raise ConfigError(f"{path}: a row has no 'output'")
    return text


def proposals_of(run: Path, layer: int | None = None) -> dict[str, dict[str, str]]:
    """What a mixture's proposers said in a run, by model and prompt; where one model has several seats, by seat.

    Args:
        run: the run's folder.
        layer: which layer's, from 1; the last of them where None, which is what the aggregator read.

    Raises:
        ConfigError: the run has no proposals.
    """
    answers = {row["moa"]["id"]: prompt_of(row, run) for row in read_rows(run / "answers.jsonl")}
    found: dict[str, dict[str, str]] = {}
    for row in read_rows(run / "journal.jsonl"):
        prompt = answers.get(row["key"].removeprefix("answer/"))
        said = [call for call in row["calls"] if call["role"] == "proposer" and "dropped" not in call]
        if prompt is None or not said:
            continue
        wanted = layer or max(call["layer"] for call in said)
        calls = [call for call in said if call["layer"] == wanted and call.get("text")]
        for call in calls:
            alone = sum(other["model"] == call["model"] for other in calls) == 1
            found.setdefault(call["model"] if alone else call["agent"], {})[prompt] = call["text"]
    if not found:
        raise ConfigError(f"{run}: there are no proposals in this run; was it a mixture's?")
    return found


def leaderboard(path: Path, column: str = "win_rate") -> dict[str, float | Mapping[str, float]]:
    """A figure for each system, from a CSV whose first column names it, such as AlpacaEval's leaderboard.

    Raises:
        ConfigError: there is no such file or column.
    """
    figures: dict[str, float | Mapping[str, float]] = {}
    for row in read_rows(path):
        if column not in row:
            raise ConfigError(f"{path}: no column {column!r}; there are {', '.join(filter(None, row))}")
        name = next(iter(row.values()))
        try:
            figures[str(name)] = float(row[column])
        except (TypeError, ValueError):
            continue
    return figures


def name_of(path: Path) -> str:
    """A system's name, from its file's or its run's."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


def chosen_quality(quality: Quality, names: Iterable[str]) -> dict[str, float | Mapping[str, float]]:
    """The figures of these proposers; a model is found by its last part, too: ``together/Qwen/x`` as ``x``."""
    return {name: quality[key] for name in names for key in (name, name.rsplit("/", 1)[-1]) if key in quality}
