"""What a search tries: first what the members' answers alone decide, then what needs calls, near the best so far.

Notable decisions:
- Votes are tried exhaustively where there are few panels. With many members, they grow greedily: from each of the best
  members, the member that helps most joins, until none helps.
- Calls cost money, so what needs them is tried near the best so far: the members that know most together, and every
  aggregator in turn; then one change at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from moa.evals.search.live.ballots import Ballots, mean
from moa.evals.search.live.candidate import Candidate

Panel = tuple[tuple[str, int], ...]
"""Members by name, each with the number of its samples."""

MOST_MEMBERS = 6
"""Members of the largest panel that is tried."""

EXHAUSTIVE = 8
"""Members up to which every panel is tried."""

STARTS = 3
"""Members, the best first, from which panels grow where not every panel is tried."""


def counted(ballots: Ballots, samples: int) -> Iterator[Candidate]:
    """Candidates that call nothing: every member alone, votes, mux and central.

    Panels are in the order of accuracy, the strongest first.
    """
    names = sorted(ballots.names, key=lambda name: -mean(ballots.scores(name)))
    weights = {name: round(ballots.accuracy(name), 4) for name in names}
    for name in names:
        yield Candidate(((name, 1),))
    for panel in _panels(ballots, names, samples, weights):
        yield from _ways(panel, weights)
    for size in range(3, min(MOST_MEMBERS, len(names)) + 1):
        yield Candidate(tuple((name, 1) for name in names[:size]), "central")


def _ways(panel: Panel, weights: Mapping[str, float]) -> Iterator[Candidate]:
    size = sum(samples for _, samples in panel)
    if len(panel) > 1:
        yield Candidate(panel, "vote", weights=tuple((name, weights[name]) for name, _ in panel))
        if min(samples for _, samples in panel) > 1:
            yield Candidate(panel, "mux", weights=tuple((name, weights[name]) for name, _ in panel))
    if size > 2:
        yield Candidate(panel, "vote")


def _panels(ballots: Ballots, names: Sequence[str], samples: int, weights: Mapping[str, float]) -> Iterator[Panel]:
    counts = sorted({1, samples})
    for name in names:
        if samples > 2:
            yield ((name, samples),)
    if len(names) <= EXHAUSTIVE:
        for size in range(2, min(MOST_MEMBERS, len(names)) + 1):
            for chosen in combinations(names, size):
                yield from (tuple((name, count) for name in chosen) for count in counts)
        return
    for first in names[:STARTS]:
        for count in counts:
            panel: Panel = ((first, count),)
            best = mean(ballots.scores(first))
            while len(panel) < MOST_MEMBERS:
                grown = [_sorted((*panel, (name, count)), names) for name in names if name not in dict(panel)]
                scores = [mean(ballots.voted(each, weights)) for each in grown]
                if not grown or (max(scores) <= best and len(panel) > 2):
                    break
                best = max(scores)
                panel = grown[scores.index(best)]
                yield panel


def _sorted(panel: Panel, names: Sequence[str]) -> Panel:
    return tuple(sorted(panel, key=lambda member: names.index(member[0])))


def calling(ballots: Ballots, samples: int, leader: Candidate) -> Iterator[Candidate]:
    """Candidates that call an aggregator, the most promising first.

    Panels are those whose members know most together, by size, the leader's own, and samples of the best member (Self-MoA).
    The strongest members write first.
    """
    names = sorted(ballots.names, key=lambda name: -mean(ballots.scores(name)))
    panels: list[Panel] = []
    if len(leader.panel) > 1:
        panels.append(leader.panel)
    for size in range(2, min(4, len(names)) + 1):
        among = combinations(names[:EXHAUSTIVE], size)
        best = max(among, key=lambda chosen: mean([max(row) for row in zip(*map(ballots.scores, chosen), strict=True)]))
        panels.append(tuple((name, 1) for name in best))
    if samples > 1:
        panels.append(((names[0], samples),))
    for aggregator in names[:STARTS]:
        for panel in dict.fromkeys(panels):
            yield Candidate(panel, "synthesize", aggregator)


def near(leader: Candidate, ballots: Ballots) -> Iterator[Candidate]:
    """Candidates that differ from one that calls an aggregator in one thing."""
    names = sorted(ballots.names, key=lambda name: -mean(ballots.scores(name)))
    if leader.way not in ("synthesize", "select"):
        return
    yield replace(leader, way="select" if leader.way == "synthesize" else "synthesize", settings=())
    for name in names:
        if name != leader.aggregator:
            yield replace(leader, aggregator=name)
    panel = dict(leader.panel)
    for name in names:
        if name not in panel and len(panel) < MOST_MEMBERS:
            yield replace(leader, panel=_sorted((*leader.panel, (name, 1)), names))
        elif name in panel and len(panel) > 2:
            yield replace(leader, panel=tuple(each for each in leader.panel if each[0] != name))
    settings = dict(leader.settings)
    if leader.way == "synthesize":
        for name, value in (("analysis", True), ("rounds", 2)):
            if name not in settings:
                yield replace(leader, settings=(*leader.settings, (name, value)))
