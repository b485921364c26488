"""The two parts of the questions: one is searched on, the other confirms. They are on disk before the first call."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from moa.batch.folder import write_whole
from moa.errors import ConfigError
from moa.evals.tasks.task import Task


def parted(tasks: Sequence[Task], seed: int, kept: Path) -> tuple[list[Task], list[Task]]:
    """The search part and the confirmation part, each in the order in which it is asked.

    Both parts have about as many questions of each first tag. Questions with the same text stay together. A question keeps
    its part as long as the file ``kept`` exists, so that one that was searched on never confirms; new ones join the smaller
    part.

    Args:
        tasks: the questions.
        seed: of the order and the parts; another seed in an existing folder is refused.
        kept: where the parts are written.

    Raises:
        ConfigError: the folder's parts were made with another seed, or their file is damaged.
    """
    known: dict[str, int] = {}
    if kept.exists():
        try:
            before = json.loads(kept.read_text(encoding="utf-8"))
            known = {str(text): int(part) for text, part in before["parts"].items()}
            made_with = int(before["seed"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(f"{kept} is damaged; give another --out") from None
        if made_with != seed:
            raise ConfigError(f"{kept} was made with --seed {made_with}; give that, or another --out")
    order = list(tasks)
    random.Random(seed).shuffle(order)
    sizes = Counter(known.values())
    by_tag = Counter(
        (tag, part) for task in order if (part := known.get(_text(task))) is not None for tag in task.tags[:1]
    )
    for task in order:
        text, tag = _text(task), "".join(task.tags[:1])
        if text not in known:
            known[text] = min((0, 1), key=lambda part: (by_tag[tag, part], sizes[part], part))
            sizes[known[text]] += 1
            by_tag[tag, known[text]] += 1
    write_whole(kept, {"seed": seed, "parts": known})
    return [task for task in order if known[_text(task)] == 0], [task for task in order if known[_text(task)] == 1]


def _text(task: Task) -> str:
    return " ".join(task.question.casefold().split())
