"""Which passages of the proposals each sentence of an answer resembles, and what share of the answer each agent has.

It measures words, not causes and not truth. Two agents that write alike share what resembles both, whoever was read; a
sentence that says the opposite in the same words resembles as much, for a "not" is one light word among many; only a
number that differs weighs. And good answers to one question are alike anyway: read a share beside those of a system that
saw no proposal (``benchmarks/README.md``).

Notable decisions:
- A sentence may be merged from several passages. Each of its words is credited to the agents whose passages hold it, the
  more the better they hold it and what stands around it, equally where they hold it equally. What none holds is new.
- A passage below :data:`SUPPORT` is no support, so words that belong to the topic support nothing by themselves.
- An answer that is a proposal, word for word, is that proposal's alone.
- Each layer is compared by itself: what the last layer holds, the layer before it may hold too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moa.answers import Answer, Call, Reference
from moa.attribution.resemblance import Match, Rarity, Stretch, Text, Weighed, stretches

SUPPORT = 0.3
"""The resemblance from which a passage supports a sentence; chosen on recorded answers, see ``benchmarks/README.md``."""

IGNORED = 0.01
"""The share of the answer below which an agent counts as ignored."""

MOST_PASSAGES = 3
"""Passages of one agent for one sentence."""

FURTHER = 0.15
"""The part of a sentence that a further passage of the same agent must add."""

MOST_CHARACTERS = 1_000_000
MOST_SENTENCES = 30_000
"""What texts may have together to be compared: a hundred times what a long answer and its proposals have."""

_MAY_END = re.compile(r"[.!?。！？]\s|\n+")

STEEPNESS = 4
"""How much more of a word goes to who holds it better: a claim is strength to this power."""

EXPLAINED = (
    "Each sentence of the answer is compared, word by word, with the proposals. A percentage says how much of the wording "
    "resembles passages of an agent; new is what resembles none. This is resemblance, not cause: models that never saw a "
    "proposal write much the same about the same question, so a share does not show who was read. Nor is it truth: a "
    "sentence that says the opposite in the same words resembles too."
)
"""What the figures mean and do not mean, for whoever reads them."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a proposal that a sentence of the answer resembles.

    Attributes:
        agent, layer: whose proposal.
        start, end: code points in the proposal's text.
        share: the part of the sentence credited to it, 0 to 1; with those of its layer and what is new there, 1.
        resemblance: how much of the sentence it holds, 0 to 1.
    """

    agent: str
    layer: int
    start: int
    end: int
    share: float
    resemblance: float


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the answer.

    Attributes:
        start, end: code points in the answer's text.
        new: the part that no supporting passage of the last layer holds.
        passages: of all layers, by layer, the largest share first.
    """

    start: int
    end: int
    new: float
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class LayerShares:
    """The answer beside one layer. ``shares`` names every agent with a proposal; with ``new`` they sum to 1. ``ignored``
    are the agents below :data:`IGNORED`."""

    layer: int
    shares: Mapping[str, float]
    new: float
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """``layers`` in their order; the last is what the aggregator read."""

    sentences: tuple[Sentence, ...]
    layers: tuple[LayerShares, ...]


def attribution_of(answer: Answer) -> Attribution | None:
    """Which passages of the proposals each sentence of an answer resembles.

    It takes a few seconds at most, and is computed anew at each call. None where the answer has no text or no proposals, or
    where they are too long to be compared (see :func:`comparable`).
    """
    if not answer.text.strip() or not answer.proposals or not comparable(answer.text, answer.proposals):
        return None
    return attribution(answer.text, answer.proposals)


def comparable(text: str, proposals: Sequence[Call | Reference]) -> bool:
    """Whether the texts can be compared in a few seconds."""
    texts = [text, *(proposal.text for proposal in proposals)]
    if sum(map(len, texts)) > MOST_CHARACTERS:
        return False
    return sum(len(_MAY_END.findall(each)) for each in texts) <= MOST_SENTENCES


def attribution(text: str, proposals: Sequence[Call | Reference]) -> Attribution:
    """Compare an answer with the proposals. It takes time in proportion to the texts: see ``benchmarks/README.md``.

    Args:
        text: the answer.
        proposals: of any layers, each with its ``agent``, ``layer`` and ``text``.
    """
    said = stretches(text)
    compared = {id(proposal): Text(proposal.text) for proposal in proposals}
    rarity = Rarity(stretch for one in compared.values() for stretch in one.stretches)
    different = {sentence.key: sentence for sentence in said}
    weighed = {key: Weighed(sentence, rarity) for key, sentence in different.items()}
    passages: list[list[Passage]] = [[] for _ in said]
    new = [1.0] * len(said)
    layers = []
    for layer in sorted({proposal.layer for proposal in proposals}):
        members = [proposal for proposal in proposals if proposal.layer == layer]
        same = [proposal for proposal in members if proposal.text.strip() == text.strip()]
        texts = [(proposal.agent, compared[id(proposal)]) for proposal in same or members]
        known = {key: _credited(layer, sentence, texts) for key, sentence in weighed.items()}
        for place, sentence in enumerate(said):
            passages[place] += known[sentence.key]
            new[place] = _rest(known[sentence.key])
        layers.append(_shares(layer, [proposal.agent for proposal in members], said, known, same))
    return Attribution(
        tuple(
            Sentence(sentence.start, sentence.end, new[place], tuple(passages[place]))
            for place, sentence in enumerate(said)
        ),
        tuple(layers),
    )


def _rest(passages: Sequence[Passage]) -> float:
    rest = 1.0 - sum(passage.share for passage in passages)
    return rest if rest > 1e-9 else 0.0


def _shares(
    layer: int,
    agents: Sequence[str],
    said: Sequence[Stretch],
    known: Mapping[tuple[str, ...], Sequence[Passage]],
    same: Sequence[Call | Reference],
) -> LayerShares:
    """The answer's figures from its sentences', each counted by its length."""
    shares = dict.fromkeys(agents, 0.0)
    whole = sum(sentence.size for sentence in said)
    for sentence in said:
        for passage in known[sentence.key]:
            shares[passage.agent] += passage.share * sentence.size / whole
    if not said:  # signs alone, which nothing can be told of but that they are the same
        for proposal in same:
            shares[proposal.agent] += 1 / len(same)
    rest = 1.0 - sum(shares.values())
    ignored = tuple(agent for agent, share in shares.items() if share < IGNORED)
    return LayerShares(layer, shares, rest if rest > 1e-9 else 0.0, ignored)


def _credited(layer: int, sentence: Weighed, texts: Sequence[tuple[str, Text]]) -> list[Passage]:
    """The passages of a layer that support a sentence, each with its share."""
    found = [(agent, match) for agent, text in texts for match in _supporting(sentence, text.matches(sentence))]
    credit = [0.0] * len(found)
    for place, weight in enumerate(sentence.weights):
        best: dict[str, tuple[float, int]] = {}  # one claim an agent
        for number, (agent, match) in enumerate(found):
            claim = match.strength(place) ** STEEPNESS
            if claim > best.get(agent, (0.0, 0))[0]:
                best[agent] = claim, number
        claims = sum(claim for claim, _ in best.values())
        for claim, number in best.values():
            credit[number] += weight * claim / claims
    passages = [
        Passage(agent, layer, match.start, match.end, mine / sentence.weight, min(match.resemblance, 1.0))
        for (agent, match), mine in zip(found, credit, strict=True)
        if mine > 0
    ]
    return sorted(passages, key=lambda passage: -passage.share)


def _supporting(sentence: Weighed, matches: Sequence[Match]) -> list[Match]:
    """Of one agent's passages, the best, and those apart from it that hold more of the sentence."""
    taken: list[Match] = []
    held: set[int] = set()
    for match in matches:
        if match.resemblance < SUPPORT or len(taken) == MOST_PASSAGES:
            break
        if any(match.start < other.end and other.start < match.end for other in taken):
            continue
        holds = {place for place, there in enumerate(match.holds) if there}
        if not taken or sum(sentence.weights[place] for place in holds - held) >= FURTHER * sentence.weight:
            taken.append(match)
            held |= holds
    return taken


def attribution_json(told: Attribution) -> dict[str, Any]:
    """It as plain data for ``json.dumps``, shares rounded to four places."""

    def passage_json(passage: Passage) -> dict[str, Any]:
        return {**asdict(passage), "share": round(passage.share, 4), "resemblance": round(passage.resemblance, 4)}

    return {
        "layers": [
            {
                "layer": layer.layer,
                "shares": {agent: round(share, 4) for agent, share in layer.shares.items()},
                "new": round(layer.new, 4),
                "ignored": list(layer.ignored),
            }
            for layer in told.layers
        ],
        "sentences": [
            {
                "start": sentence.start,
                "end": sentence.end,
                "new": round(sentence.new, 4),
                "passages": [passage_json(passage) for passage in sentence.passages],
            }
            for sentence in told.sentences
        ],
    }
