"""When a job stops because going on is no use: every row would fail, or lack an agent, for one cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from moa.batch.answering import Answered
from moa.errors import KeyRejected, MoaError
from moa.messages import Cost

HOPELESS = 20
"""Failures in a row, with no success between them, after which a job stops."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A row that was answered or has failed, the digest of its input, and what this start of the job paid for it."""

    result: Answered
    digest: bytes
    spent: Cost


class Trouble:
    """Counts failures in a row: of all rows, and of each model's key.

    Attributes:
        error: why the job must stop; None while it may go on.
    """

    def __init__(self) -> None:
        self.error: MoaError | None = None
        self._held: list[Ended] = []
        self._of_rows = 0
        self._succeeded = False
        self._keys: dict[str, int] = {}
        self._worked: set[str] = set()

    def worked(self, model: str) -> None:
        """A call of this model succeeded."""
        self._worked.add(model)
        self._keys.pop(model, None)

    def failed(self, error: MoaError) -> None:
        """A call failed. A rejected key stops the job: at once where the model never worked, else after :data:`HOPELESS`."""
        if isinstance(error, KeyRejected) and not error.of_request:
            count = self._keys[error.model] = self._keys.get(error.model, 0) + 1
            if error.model not in self._worked or count >= HOPELESS:
                self.stop(MoaError(f"every row would lack this model: {error}"))

    def stop(self, error: MoaError) -> None:
        """Stop the job for this cause; the first one counts."""
        self.error = self.error or error

    def is_of_the_row(self, ended: Ended) -> bool:
        """Whether a failed row is to be recorded: the row itself is to blame. Otherwise it is held until one succeeds."""
        result = ended.result
        assert result.error
        if result.error.status == 400:
            self._of_rows += 1
            if self._of_rows >= HOPELESS and not self._succeeded:
                self.stop(self._cause(self._of_rows, result))
            return True
        self._held.append(ended)
        if len(self._held) >= HOPELESS:
            self.stop(self._cause(len(self._held), result))
        return False

    def held(self) -> Iterator[Ended]:
        """A row has succeeded, or the job has ended: the rows that were held, which are no longer."""
        self._succeeded = True
        held, self._held = self._held, []
        yield from held

    def _cause(self, count: int, result: Answered) -> MoaError:
        assert result.error
        return MoaError(
            f"{count} rows failed, and none was answered between them; the last one: {result.error.message}"
        )
