"""The proposals of answers that are not complete: ``proposals.jsonl``, which a killed measurement leaves behind.

A mixture's answer takes many calls, and the journal holds it once all are made. Until then each finished proposal is kept
here, so that a resumed measurement pays for none twice. The file goes when the journal holds every answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from moa.evals.asking.data import Row
from moa.evals.asking.journal import Lines, call_row
from moa.messages import Call, Cost, Reference, Usage

Identity = tuple[str, str]
"""A call's key and digest."""


class Proposals:
    """The file, and what it holds by call.

    Args:
        path: the file; it need not exist.
        answered: the calls that the journal holds.
    """

    def __init__(self, path: Path, answered: Iterable[Identity]) -> None:
        self._path = path
        self._lines = Lines(path) if path.exists() else None
        self._open: dict[Identity, dict[tuple[int, str], Row]] = {}
        done = set(answered)
        for row in self._lines.rows if self._lines else ():
            identity = (row["key"], row["digest"])
            if identity in done:
                continue
            if "call" in row:
                call = row["call"]
                self._open.setdefault(identity, {})[call["layer"], call["agent"]] = call
            else:
                for call in self._open.get(identity, {}).values():
                    call["cost"], call["usage"] = {"dollars": 0.0}, {}

    @property
    def cost(self) -> Cost:
        """What the kept proposals cost that no other file counts."""
        return sum((Cost(**call["cost"]) for calls in self._open.values() for call in calls.values()), Cost())

    def of(self, identity: Identity) -> list[Row]:
        """The finished proposals of a call that has no reply yet."""
        return [*self._open.get(identity, {}).values()]

    def keep(self, identity: Identity, calls: Sequence[Call]) -> None:
        """Keep those of a run's calls that are finished proposals and are not kept yet."""
        for call in calls:
            finished = call.duration is not None and call.finish_reason and not call.dropped and not call.cut
            kept = self._open.setdefault(identity, {})
            if call.role != "proposer" or not finished or not call.text or (call.layer, call.agent) in kept:
                continue
            row = {"usage": {}, "cost": {"dollars": None}, **call_row(call)}
            kept[call.layer, call.agent] = row
            self._add({"key": identity[0], "digest": identity[1], "call": row})

    def failed(self, identity: Identity) -> None:
        """The call failed, and ``failures.jsonl`` counts what its proposals cost."""
        if self._open.get(identity):
            self._add({"key": identity[0], "digest": identity[1]})

    def answered(self, identity: Identity) -> None:
        """The journal holds the call's reply."""
        self._open.pop(identity, None)

    def close(self) -> None:
        """Close the file, and remove it if no call needs it."""
        if self._lines is not None:
            self._lines.close()
            if not any(self._open.values()):
                self._path.unlink(missing_ok=True)

    def _add(self, row: Row) -> None:
        if self._lines is None:
            self._lines = Lines(self._path)
        self._lines.add(row)


def references(calls: Iterable[Row]) -> list[Reference]:
    """Kept proposals, as a mixture takes them."""
    return [Reference(call["agent"], call["text"], layer=call["layer"]) for call in calls]


def figures(calls: Sequence[Row]) -> tuple[Usage, Cost]:
    """What kept proposals used and cost."""
    usage = sum((Usage(**call["usage"]) for call in calls), Usage())
    return usage, sum((Cost(**call["cost"]) for call in calls), Cost())
