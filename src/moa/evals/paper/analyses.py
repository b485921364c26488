"""Does the aggregator pick or merge? (arXiv 2406.04692, section 3.3 and its figure of correlations)

For each prompt: Spearman's rank correlation between the quality of the proposals and the final answer's similarity to them;
then the mean over prompts. The paper concludes from a positive mean that the aggregator uses the better proposals more.

Notable decisions:
- The mean alone proves little. Good answers are similar by themselves: models that saw no proposal score 0.17 to 0.24
  on BLEU-4 against the paper's own proposals, half the score of its mixture. So each mean comes with the excess over
  controls that saw none, paired by prompt, and a bootstrap interval of that excess.
- A prompt whose proposals all have the same quality, or the same similarity to the answer, has no correlation. It is left
  out and counted, not taken as 0.
- With few proposals each correlation is coarse (with five, steps of 0.1); only the mean over many prompts is informative.
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
"""The answers of one system, by prompt."""

Quality = Mapping[str, float | Mapping[str, float]]
"""The quality of each proposer: one figure (its win rate), or one for each prompt (the judge's preference)."""

COPIED = 0.9
"""The smallest Levenshtein similarity at which an answer counts as a copy of a proposal."""


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt: its proposals, the quality of each, the system's answer, and the answer of each control."""

    proposals: tuple[str, ...]
    quality: tuple[float, ...]
    answer: str
    controls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Correlation:
    """The correlation with one measure of similarity.

    Attributes:
        measure: ``BLEU-4``, …
        rho: the mean over prompts, -1 to 1; NaN if no prompt has a correlation.
        standard_error: of that mean.
        prompts: the number of prompts with a correlation.
        undefined: the number of prompts without one.
        controls: the same mean for each control.
        excess: by control, the paired difference with its interval; None if fewer than two prompts have both correlations.
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
    """How the answers use the proposals.

    Attributes:
        correlations: one for each measure of similarity.
        copied: the share of answers that are nearly a copy of a proposal (see :data:`COPIED`).
        closest_is_best: the share of prompts whose most similar proposal (BLEU-4) is the best one; by chance
            ``1 / proposals``.
        proposals: the mean number of proposals per prompt.
    """

    correlations: tuple[Correlation, ...]
    copied: float
    closest_is_best: float
    proposals: float


def spearman(quality: Sequence[float], scores: Matrix) -> NDArray[np.float64]:
    """Rank correlations of each row of ``scores``, (rows, proposals), with ``quality``; NaN if either is constant."""
    good, like = _ranks(np.asarray(quality, dtype=float)), _ranks(scores)
    good, like = good - good.mean(), like - like.mean(axis=1, keepdims=True)
    scale = np.sqrt((good**2).sum() * (like**2).sum(axis=1))
    together: Matrix = like @ good
    rhos: NDArray[np.float64] = np.full(len(like), np.nan)
    np.divide(together, scale, out=rhos, where=scale > 0)
    return rhos


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks along the last axis, from 1; equal values share the mean of their ranks."""
    one, other = values[..., :, None], values[..., None, :]
    below: NDArray[np.float64] = (other < one).sum(axis=-1) + ((other == one).sum(axis=-1) + 1) / 2
    return below


def merging(cases: Sequence[Case], controls: Sequence[str] = (), *, seed: int = 0) -> Merging:
    """Correlate quality with similarity.

    Args:
        cases: the prompts; each has one answer for each name in ``controls``.
        controls: the names of the controls.
        seed: of the bootstrap.

    Raises:
        ConfigError: no prompt has two proposals.
    """
    cases = [case for case in cases if len(case.proposals) > 1]
    if not cases:
        raise ConfigError("no prompt has an answer and at least two proposals of known quality")
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
    """The prompts that the system and every control answered, each with the proposals of known quality.

    Args:
        answers: of the system.
        proposals: by proposer.
        quality: by proposer.
        controls: answers by the control's name.

    Raises:
        ConfigError: the quality of a proposer is unknown.
    """
    controls = controls or {}
    if unknown := [name for name in proposals if name not in quality]:
        raise ConfigError(f"the quality of {unknown[0]!r} is unknown; known: {', '.join(sorted(quality))}")
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
    """A system's answers by prompt, from a run's folder or a file in AlpacaEval's format.

    Such a file has rows of ``instruction`` or ``index``, and ``output``; it may be gzipped.

    Raises:
        ConfigError: the file does not exist or has another format.
    """
    rows = read_rows(path / "answers.jsonl" if path.is_dir() else path)
    return {prompt_of(row, path): _text(row, path) for row in rows}


def prompt_of(row: Mapping[str, Any], path: Path) -> str:
    """The identity of a row's prompt: its text, else its index, else the identity that a run gave the row."""
    for name in ("instruction", "index", "question_id", "idx"):
        if row.get(name) is not None:
            return str(row[name])
    if identity := row.get("moa", {}).get("id"):
        return str(identity)
    raise ConfigError(f"{path}: a row has neither 'instruction' nor 'index'")


def _text(row: Mapping[str, Any], path: Path) -> str:
    text = row.get("output", row.get("text"))
    if not isinstance(text, str):
        raise ConfigError(f"{path}: a row has no 'output'")
    return text


def proposals_of(run: Path, layer: int | None = None) -> dict[str, dict[str, str]]:
    """The proposals in a mixture's run, by model and prompt; by agent if several agents have the same model.

    Args:
        run: the run's folder.
        layer: the layer, from 1; None for the last, which the aggregator reads.

    Raises:
        ConfigError: the run has no proposals.
    """
    answers = {row["moa"]["id"]: prompt_of(row, run) for row in read_rows(run / "answers.jsonl")}
    found: dict[str, dict[str, str]] = {}
    for row in read_rows(run / "journal.jsonl"):
        prompt = answers.get(row["key"].removeprefix("answer/"))
        proposing = [call for call in row["calls"] if call["role"] == "proposer" and "dropped" not in call]
        if prompt is None or not proposing:
            continue
        wanted = layer or max(call["layer"] for call in proposing)
        calls = [call for call in proposing if call["layer"] == wanted and call.get("text")]
        for call in calls:
            unique = sum(other["model"] == call["model"] for other in calls) == 1
            found.setdefault(call["model"] if unique else call["agent"], {})[prompt] = call["text"]
    if not found:
        raise ConfigError(f"{run}: this run has no proposals; give the run of a mixture")
    return found


def leaderboard(path: Path, column: str = "win_rate") -> dict[str, float | Mapping[str, float]]:
    """A figure for each system, from a CSV whose first column names it, such as AlpacaEval's leaderboard.

    Raises:
        ConfigError: the file or the column does not exist.
    """
    figures: dict[str, float | Mapping[str, float]] = {}
    for row in read_rows(path):
        if column not in row:
            raise ConfigError(f"{path}: no column {column!r}; columns: {', '.join(filter(None, row))}")
        name = next(iter(row.values()))
        try:
            figures[str(name)] = float(row[column])
        except (TypeError, ValueError):
            continue
    return figures


GENERIC = frozenset({"model_outputs", "outputs", "model_answers", "model_answer", "answers", "annotations"})
"""Names of files that name no system: in AlpacaEval's layout, each system has a folder with a ``model_outputs.json``."""


def name_of(path: Path) -> str:
    """A system's name: that of its file or its run's folder, or of a file that every system has, the rows' generator or else
    the file's folder."""
    name = _stem(path)
    return name if name not in GENERIC or path.is_dir() else _generator(path) or path.resolve().parent.name


def named_outputs(paths: Sequence[Path]) -> dict[str, dict[str, str]]:
    """The answers in these files and runs, as :func:`outputs`, by system.

    Files of one name are told apart by their rows' generator, or else by their folders.

    Raises:
        ConfigError: two are of one system, or a file cannot be read.
    """
    stems = [_stem(path) for path in paths]
    found: dict[str, dict[str, str]] = {}
    for path, stem in zip(paths, stems, strict=True):
        name = name_of(path)
        if stems.count(stem) > 1 and not path.is_dir():
            name = _generator(path) or path.resolve().parent.name
        if name in found:
            raise ConfigError(f"{path}: two files are of the system {name}; rename one")
        found[name] = outputs(path)
    return found


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


def _generator(path: Path) -> str:
    """The system that all rows of a file name; empty if they name none, or several."""
    names = {row.get("generator") for row in read_rows(path)}
    return str(names.pop() or "") if len(names) == 1 else ""


def chosen_quality(quality: Quality, names: Iterable[str]) -> dict[str, float | Mapping[str, float]]:
    """The quality of these proposers, under their name or its last part: ``together/Qwen/x`` or ``x``."""
    return {name: quality[key] for name in names for key in (name, name.rsplit("/", 1)[-1]) if key in quality}
