"""A matrix of recorded answers from finished runs, so that others can search and compare without calling a model.

Notable decisions:
- A file that exists gains the new runs' answers; what it has of the same system and items is replaced. So a matrix of
  many models grows, one ``moa bench … --matrix FILE`` after another.
- Scores become labels from 0 to 1. Only benchmarks that check final answers have a final answer; elsewhere, there is the
  text alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from moa.errors import ConfigError
from moa.evals.asking.data import Row, read_rows
from moa.evals.reading.measured import Measured
from moa.evals.search.matrix import Item, Sample, read_matrix, write_matrix


def record(path: Path, runs: Sequence[Measured]) -> int:
    """Write the answers of runs into a matrix, which is created if it does not exist.

    Args:
        path: the file; gzipped if its name ends in ``.gz``.
        runs: of one benchmark. Several runs of one system are its samples.

    Returns:
        How many items the matrix has.

    Raises:
        ConfigError: the file is no matrix, or cannot be written; or it has other questions under the same identities.
    """
    items = {item.id: item for item in (read_matrix(path) if path.exists() else [])}
    fresh: dict[str, Item] = {}
    for run in runs:
        for item in items_of(run):
            before = fresh.get(item.id, replace(item, answers={}))
            samples = (*before.answers.get(run.name, ()), *item.answers[run.name])
            fresh[item.id] = replace(before, answers={**before.answers, run.name: samples})
    for name, item in fresh.items():
        known = items.get(name)
        if known is not None and known.question and item.question and known.question != item.question:
            raise ConfigError(f"{path} has another question under {name!r}; give another --matrix")
        items[name] = replace(item, answers={**(known.answers if known else {}), **item.answers})
    write_matrix(path, items.values())
    return len(items)


def items_of(run: Measured) -> Iterable[Item]:
    """The items of a run that have a score, each with the answer of its system."""
    metric = run.benchmark.metric
    calls: dict[str, list[Row]] = {}
    for row in run.answers:
        calls.setdefault(unquote(row["key"].split("/")[1]), []).append(row)
    verdicts: dict[str, Row] = {}
    for row in read_rows(run.folder / "judgments.jsonl"):
        verdicts.setdefault(run.benchmark.grade(row)[0], row)
    rows = {str(row["moa"]["id"]): row for row in read_rows(run.folder / "answers.jsonl")}
    for name, score in run.scores.items():
        row, own, verdict = rows.get(name, {}), calls.get(name, []), verdicts.get(name, {})
        text = "\n\n".join(str(call["text"]) for call in own) or row.get("output")
        dollars = [call["cost"]["dollars"] for call in own]
        final, expected, tags = verdict.get("answer"), verdict.get("expected") or [], verdict.get("tags") or []
        sample = Sample(
            answer=None if final is None else str(final),
            correct=(score - metric.low) / (metric.high - metric.low),
            characters=None if text is None else len(text),
            text=text,
            cost=None if not dollars or None in dollars else sum(dollars),
            seconds=sum(call["seconds"] for call in own) if own else None,
        )
        yield Item(
            id=name,
            question=str(row.get("instruction") or ""),
            answers={run.name: (sample,)},
            task=str(tags[0]) if tags else "",
            gold=str(expected[0]) if len(expected) == 1 else None,
        )
