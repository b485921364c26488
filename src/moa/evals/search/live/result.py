"""What a search has found, as one JSON object and as a block for a moa.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from moa.config.tables import MixtureTable
from moa.errors import ConfigError
from moa.evals.search.intervals import clustered, paired
from moa.evals.search.live.candidate import Candidate
from moa.evals.search.live.finding import Finding
from moa.evals.search.live.members import Member
from moa.evals.search.live.scores import Score
from moa.evals.tasks.task import Task

Row = dict[str, Any]


def as_object(finding: Finding, members: Mapping[str, Member], confirmation: list[Task]) -> Row:
    """The result as one JSON object: accuracies, gains and bounds from 0 to 1, costs in US dollars, times in seconds.

    Args:
        finding: the result.
        members: by name.
        confirmation: the questions of the confirmation part, in the order of the scores.
    """
    tags = [task.tags[0] if task.tags else "" for task in confirmation]

    def figures(candidate: Candidate, searched: Score | None) -> Row:
        known = finding.confirmed.get(candidate)
        row: Row = {"label": candidate.label, "way": candidate.way, "calls": candidate.calls}
        if searched is not None:
            row |= {"cost": searched.dollars, "seconds": searched.seconds, "searched": searched.mean}
        return row | _confirmed(known, finding.confirmed.get(finding.best), tags)

    by_candidate = {score.candidate: score for score in finding.scores}
    return {
        "found": finding.found.found(members),
        "confirmation": figures(finding.found, by_candidate.get(finding.found))
        | {"best_model": finding.best.panel[0][0]},
        "tried": finding.tried,
        "front": [
            {"found": score.candidate.found(members)} | figures(score.candidate, score) for score in finding.front
        ],
        "search": {
            "items": finding.searched,
            "members": {
                name: {"accuracy": score.mean, "cost": score.dollars, "seconds": score.seconds}
                for candidate, score in by_candidate.items()
                if candidate.way == "single"
                for name in candidate.names
            },
        },
        "chosen": {"found": asdict(finding.found), "best": asdict(finding.best)},
        "left_out": finding.left_out,
        "left_early": {candidate.label: why for candidate, why in finding.left.items()},
        "notes": finding.notes,
    }


def _confirmed(score: Score | None, best: Score | None, tags: list[str]) -> Row:
    """The figures of a candidate on the confirmation part; its gain is None where it was not measured there."""
    if score is None or best is None or not score.right:
        return {"items": 0, "best": None, "accuracy": None, "gain": None, "low": None, "high": None}
    count = min(len(score.right), len(best.right))
    row = {"items": count, "best": float(np.mean(best.right[:count])), "accuracy": float(np.mean(score.right[:count]))}
    if score.candidate == best.candidate:
        return row | {"gain": 0.0, "low": 0.0, "high": 0.0}
    gains = np.array(score.right[:count]) - np.array(best.right[:count])
    over = paired(gains)
    row |= {"gain": over.mean, "low": over.low, "high": over.high}
    groups = list(dict.fromkeys(tags[:count]))
    by_tag = clustered(gains, np.array([groups.index(tag) for tag in tags[:count]], dtype=np.intp))
    return row | {"low_by_task": by_tag and by_tag.low, "high_by_task": by_tag and by_tag.high}


def block(result: Row, name: str = "found") -> str:
    """A block for a moa.toml with the figures as comments. For one model, the comments alone."""
    confirmed, found = result["confirmation"], result["found"]
    lines = [f"# found by moa search on {result['search']['items']} questions; {result['tried']} candidates were tried"]
    if confirmed["accuracy"] is not None:
        lines.append(f"# on {confirmed['items']} other questions: {confirmed['accuracy']:.1%} right")
        if confirmed["way"] != "single":
            lines += [
                f"# the best single model, {confirmed['best_model']}: {confirmed['best']:.1%}",
                f"# gain {_points(confirmed['gain'])} points, 95 % interval {_points(confirmed['low'])} to "
                + _points(confirmed["high"]),
            ]
    if confirmed.get("cost") is not None:
        lines.append(f"# an answer costs ${confirmed['cost']:.4g} and takes {confirmed['seconds']:.1f} s")
    lines = [re.sub(r"[\x00-\x1f\x7f]", " ", line) for line in lines]
    if confirmed["way"] == "single":
        lines.append(f"# one model is best: {confirmed['label']}")
    if "model" in found:
        return "\n".join(lines) + "\n"
    return "\n".join(lines) + "\n" + tomli_w.dumps({"mixtures": {name: found}})


def _points(share: float) -> str:
    return f"{100 * share:+z.1f}"


def write(path: Path, text: str, name: str) -> None:
    """Append a block to a moa.toml, which is created if it does not exist.

    Raises:
        ConfigError: the file has a mixture of this name, cannot be written, or would not be a moa.toml.
    """
    try:
        before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        if name in tomllib.loads(before).get("mixtures", {}):
            raise ConfigError(
                f"{path} has a mixture called {name!r} already; give the new one another name with --name"
            )
        whole = before + ("\n" if before and not before.endswith("\n\n") else "") + text
        MixtureTable.model_validate(tomllib.loads(whole)["mixtures"][name])
        part = path.with_name(f"{path.name}.part")
        part.write_text(whole, encoding="utf-8")
        part.replace(path)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
