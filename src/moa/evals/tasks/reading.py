"""The tasks of a file, checked as a whole before a model is called: every problem is reported with its line and the remedy.

Notable decisions:
- A file is read once to check it and again for every pass over its tasks, so memory does not grow with its tasks; only a
  digest of each identity is kept, to find duplicates.
- A file with a bad row is refused: a score over the remaining rows would be one of other questions.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

from moa.errors import ConfigError
from moa.evals.asking.data import Row
from moa.evals.sampling import chosen
from moa.evals.tasks import checks
from moa.evals.tasks.files import FileRow, file_rows
from moa.evals.tasks.task import BadRow, Task, task_of

Converting = Callable[[Row], Row | None]
"""Turns a row of a published format into a task's; into None if it cannot be checked."""

SHOWN = 10
"""Problems that an error lists."""


class Tasks(Collection[Task]):
    """The tasks of a file.

    Args:
        path: the file.
        limit: only the first tasks; None for all.
        sample: only so many, drawn with ``seed``, in which each first tag has its share; None for all.
        converted: turns a row of a published format into one as :func:`~moa.evals.tasks.task.task_of` reads it; into None
            if it cannot be checked.

    Attributes:
        path: the file.
        guessed: how many rows left each check to the program.
        counts: how many rows have each check.
        left_out: how many rows cannot be checked: converted to None, or kept runs without a reference or a rubric.

    Raises:
        ConfigError: the file cannot be read, has no row, or has bad rows; the error lists them.
    """

    def __init__(
        self,
        path: Path,
        limit: int | None = None,
        converted: Converting | None = None,
        *,
        sample: int | None = None,
        seed: int = 0,
    ) -> None:
        self.path, self._limit, self._converted = path, limit, converted
        self._drawn: set[int] | None = None
        self.guessed: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.left_out = 0
        self._check()
        if sample is not None:
            self._draw(sample, seed)

    def __len__(self) -> int:
        return self.counts.total()

    def __iter__(self) -> Iterator[Task]:
        for place, (_, task, _) in enumerate(self._read(checked=True)):
            assert task is not None
            if self._drawn is None or place in self._drawn:
                yield task

    def __contains__(self, task: object) -> bool:
        return any(each == task for each in self)

    @property
    def judged(self) -> bool:
        """Whether some tasks need a judge."""
        return any(checks.CHECKS[name].judged for name in self.counts)

    @property
    def notices(self) -> Iterator[str]:
        """What the user should know of the file: which checks were guessed, and how many rows are left out."""
        if self.left_out:
            yield f"{self.path.name}: {self.left_out} of {self.left_out + len(self)} rows cannot be checked and are left out"
        if not self.guessed:
            return
        listed = ", ".join(f"{name} ({count})" for name, count in self.guessed.most_common())
        yield f"{self.path.name}: checks guessed from the answers: {listed}; to choose them, add a field named check"

    def _check(self) -> None:
        seen: dict[bytes, str] = {}
        problems: list[str] = []
        wrong = 0
        for place, task, problem in self._read():
            if task is not None:
                key = hashlib.blake2b(task.id.encode("utf-8", "surrogatepass"), digest_size=12).digest()
                if (first := seen.setdefault(key, place)) != place:
                    problem = f"the same id or question as {first} ({task.id}); give it an id of its own, or remove it"
                self.counts[task.check] += 1
                self.guessed[task.check] += task.guessed
            if problem:
                wrong += 1
                problems += [f"{place}: {problem}"] if wrong <= SHOWN else []
        self.guessed = +self.guessed
        if wrong:
            more = f"\n  … and {wrong - SHOWN} more" if wrong > SHOWN else ""
            rows = "1 row" if wrong == 1 else f"{wrong} rows"
            raise ConfigError(f"{self.path}: {rows} cannot be used:\n  " + "\n  ".join(problems) + more)
        if not self.counts:
            why = "has no rows" if not self.left_out else f"has {self.left_out} rows, and none can be checked"
            raise ConfigError(f"{self.path}: the file {why}; write a question and an answer in each")

    def _draw(self, sample: int, seed: int) -> None:
        strata = [(place, task.tags[:1]) for place, task in enumerate(self)]
        self._drawn = {place for place, _ in chosen(strata, None, sample, seed, lambda each: each[1])}
        self.counts = Counter(task.check for task in self)

    def _read(self, checked: bool = False) -> Iterator[tuple[str, Task | None, str]]:
        """Each row's place, its task, and its problem: a task or a problem. ``checked``: the tasks are known to be sound."""
        self.left_out = 0
        with closing(file_rows(self.path)) as rows:
            yield from islice(self._tasks(rows, checked), self._limit)

    def _tasks(self, rows: Iterable[FileRow], checked: bool) -> Iterator[tuple[str, Task | None, str]]:
        for found in rows:
            if found.problem:
                yield found.place, None, found.problem
                continue
            try:
                row = self._converted(found.row) if self._converted else found.row
                if row is None:
                    self.left_out += 1
                    continue
                task = task_of(row)
            except BadRow as error:
                yield found.place, None, str(error)
                continue
            except (KeyError, TypeError, AttributeError) as error:
                yield found.place, None, f"not a row of this benchmark: {type(error).__name__} {error}"
                continue
            if "rating" in task.fields and not task.answers and not task.rubric:
                self.left_out += 1  # a kept run that nobody rated up: there is nothing to check a reply against
                continue
            if not task.check:
                task = replace(task, check=checks.guess(task), guessed=True)
            fault = "" if checked else checks.fault_of(task)
            yield found.place, None if fault else task, fault
