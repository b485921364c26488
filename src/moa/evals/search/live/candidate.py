"""A mixture that a search may find: who answers, how often, and how the answers become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moa.evals.search.live.members import Member
from moa.mixture.agent import seated

FREE = frozenset({"single", "vote", "mux", "central"})
"""Ways to one answer that call nothing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mixture, or a single model.

    Attributes:
        panel: the members by name, each with the number of its samples; the strongest first.
        way: ``single``, or an ``aggregate`` of a mixture.
        aggregator: the member that writes or selects; None for a way that calls nothing.
        weights: accuracies of members, for ``vote`` and ``mux``.
        settings: other keys of the mixture's table, such as ``rounds`` or ``analysis``.
    """

    panel: tuple[tuple[str, int], ...]
    way: str = "single"
    aggregator: str | None = None
    weights: tuple[tuple[str, float], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def names(self) -> list[str]:
        """The members whose answers it needs."""
        return [name for name, _ in self.panel]

    @property
    def calls(self) -> int:
        """Calls of one answer."""
        size = sum(samples for _, samples in self.panel)
        return size * self.rounds + (self.aggregator is not None) + bool(dict(self.settings).get("analysis"))

    @property
    def free(self) -> bool:
        """Whether it is known from the members' answers alone."""
        return self.way in FREE and self.rounds == 1

    @property
    def kind(self) -> str:
        """Equal for candidates whose further calls cost about the same."""
        return f"{self.aggregator}/{sum(samples for _, samples in self.panel)}/{self.settings}"

    @property
    def rounds(self) -> int:
        """How many times the members answer, each time after the first with the answers before."""
        return int(dict(self.settings).get("rounds", 1))

    @property
    def label(self) -> str:
        """The candidate in words."""
        panel = ", ".join(name if samples == 1 else f"{samples} × {name}" for name, samples in self.panel)
        if self.way == "single":
            return panel
        way = f"weighted {self.way}" if self.weights else self.way
        by = f" by {self.aggregator}" if self.aggregator else ""
        more = "".join(f", {name} {value}" if value is not True else f", {name}" for name, value in self.settings)
        return f"{way} of {panel}{by}{more}"

    def found(self, members: Mapping[str, Member]) -> dict[str, Any]:
        """The candidate as ``moa search --json`` gives it: a table as in a moa.toml, or ``{"model": …}``."""
        if self.way == "single" and members[self.panel[0][0]].plain:
            return {"model": self.panel[0][0]}
        return self.table(members)

    def table(self, members: Mapping[str, Member]) -> dict[str, Any]:
        """The candidate as a ``[mixtures.NAME]``."""
        if self.way == "single":
            return {"aggregator": members[self.panel[0][0]].entry}
        table: dict[str, Any] = {
            "layers": [[members[name].entry for name, samples in self.panel for _ in range(samples)]],
            "aggregate": self.way,
        }
        if self.aggregator is not None:
            table["aggregator"] = members[self.aggregator].entry
        if self.weights:
            known = dict(self.weights)
            table["weights"] = {
                members[name].model.name if members[name].plain else seat: known[name]
                for seat, name in self.seats(members).items()
                if name in known
            }
        return table | dict(self.settings)

    def seats(self, members: Mapping[str, Member]) -> dict[str, str]:
        """The member of each agent of the layer, by the agent's name in the mixture."""
        order = [name for name, samples in self.panel for _ in range(samples)]
        return dict(zip(seated([members[name].agent for name in order]), order, strict=True))
