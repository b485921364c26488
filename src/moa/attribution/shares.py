"""Which passages of the proposals each sentence of an answer resembles, and each agent's share of the answer.

Shares measure words, not causes and not truth. Two agents that write alike share the credit, whichever of them the
aggregator used. A sentence that states the opposite in the same words resembles just as much, since "not" is one light word
among many; only a different number weighs. And good answers to the same question are alike anyway: read a share beside those
of a system that saw no proposal (``benchmarks/README.md``).

Notable decisions:
- A sentence may be merged from several passages. Each of its words is credited to the agents whose passages hold it, more to
  those that hold it and its neighbours better, equally where they hold it equally. Words that no passage holds are new.
- A passage below :data:`SUPPORT` earns no credit, so words of the topic alone earn none.
- An answer that is a proposal, word for word, is credited to that proposal alone.
- Each layer is compared separately, because a layer often repeats words of the layer before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moa.answers import Answer, Call, Reference
from moa.attribution.resemblance import Match, Rarity, SentenceIndex, Span, WeightedSentence, spans

SUPPORT = 0.3
"""Minimum resemblance of a passage that earns credit; chosen on recorded answers, see ``benchmarks/README.md``."""

IGNORED = 0.01
"""Share of the answer below which an agent counts as ignored."""

MOST_PASSAGES = 3
"""Maximum passages of one agent for one sentence."""

FURTHER = 0.15
"""Share of a sentence, by weight, that a further passage of the same agent must add."""

MOST_CHARACTERS = 1_000_000
MOST_SENTENCES = 30_000
"""Limits of all texts together: a hundred times a long answer with its proposals."""

_MAY_END = re.compile(r"[.!?。！？]\s|\n+")

STEEPNESS = 4
"""Exponent that favours the agent that holds a word better: its claim to the word is strength to this power."""

EXPLAINED = (
    "Each sentence of the answer is compared, word by word, with the proposals. A percentage says how much of the wording "
    "resembles passages of an agent; new is what resembles none. This is resemblance, not cause: models that never saw a "
    "proposal write much the same about the same question, so a share does not show which proposal was used. Nor is it "
    "truth: a sentence that says the opposite in the same words resembles too."
)
"""What the figures mean and do not mean, for readers of an attribution."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a proposal that a sentence of the answer resembles: one sentence, or two adjacent ones.

    Attributes:
        agent, layer: the agent that wrote the proposal, and its layer.
        start, end: code points in the proposal's text.
        share: the part of the sentence credited to the passage, 0 to 1. All shares of a layer and its new part sum to 1.
        resemblance: how much of the sentence the passage holds, 0 to 1.
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
        new: the part that no credited passage of the last layer holds, 0 to 1.
        passages: the credited passages of all layers, by layer, the largest share first.
    """

    start: int
    end: int
    new: float
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class LayerShares:
    """The shares of one layer's agents in the answer.

    ``shares`` holds every agent with a proposal; they and ``new`` sum to 1. ``ignored``: the agents below :data:`IGNORED`.
    """

    layer: int
    shares: Mapping[str, float]
    new: float
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """The answer's sentences, and the shares of each layer, in order; the aggregator read the proposals of the last."""

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
    """Compare an answer with proposals. The time is proportional to the texts' length: see ``benchmarks/README.md``.

    Args:
        text: the answer.
        proposals: of any layers, each with its ``agent``, ``layer`` and ``text``.
    """
    answer = spans(text)
    indexes = {id(proposal): SentenceIndex(proposal.text) for proposal in proposals}
    rarity = Rarity(span for index in indexes.values() for span in index.spans)
    # A sentence that is repeated is compared once.
    weighted = {
        key: WeightedSentence(sentence, rarity) for key, sentence in {each.key: each for each in answer}.items()
    }
    passages: list[list[Passage]] = [[] for _ in answer]
    new = [1.0] * len(answer)
    layers = []
    for layer in sorted({proposal.layer for proposal in proposals}):
        members = [proposal for proposal in proposals if proposal.layer == layer]
        same = [proposal for proposal in members if proposal.text.strip() == text.strip()]
        texts = [(proposal.agent, indexes[id(proposal)]) for proposal in same or members]
        credited = {key: _credited(layer, sentence, texts) for key, sentence in weighted.items()}
        for place, sentence in enumerate(answer):
            passages[place] += credited[sentence.key]
            new[place] = _rest(passage.share for passage in credited[sentence.key])
        layers.append(_shares(layer, [proposal.agent for proposal in members], answer, credited, same))
    return Attribution(
        tuple(
            Sentence(sentence.start, sentence.end, new[place], tuple(passages[place]))
            for place, sentence in enumerate(answer)
        ),
        tuple(layers),
    )


def _rest(shares: Iterable[float]) -> float:
    """The rest of 1; 0 where only a rounding error is left."""
    rest = 1.0 - sum(shares)
    return rest if rest > 1e-9 else 0.0


def _shares(
    layer: int,
    agents: Sequence[str],
    answer: Sequence[Span],
    credited: Mapping[tuple[str, ...], Sequence[Passage]],
    same: Sequence[Call | Reference],
) -> LayerShares:
    """The shares of a layer's agents: the mean over the answer's sentences, weighted by their length.

    Args:
        credited: the passages of each sentence, by its key.
        same: the proposals that equal the answer.
    """
    shares = dict.fromkeys(agents, 0.0)
    whole = sum(sentence.size for sentence in answer)
    for sentence in answer:
        for passage in credited[sentence.key]:
            shares[passage.agent] += passage.share * sentence.size / whole
    if not answer:  # only symbols: there is nothing to compare, except with a proposal that equals the answer
        for proposal in same:
            shares[proposal.agent] += 1 / len(same)
    ignored = tuple(agent for agent, share in shares.items() if share < IGNORED)
    return LayerShares(layer, shares, _rest(shares.values()), ignored)


def _credited(layer: int, sentence: WeightedSentence, texts: Sequence[tuple[str, SentenceIndex]]) -> list[Passage]:
    """The passages of a layer that hold parts of a sentence, each with its share of the sentence, the largest first."""
    found = [(agent, match) for agent, text in texts for match in _supporting(sentence, text.matches(sentence))]
    earned = _credits(sentence, found)
    passages = [
        Passage(agent, layer, match.start, match.end, credit / sentence.weight, min(match.resemblance, 1.0))
        for (agent, match), credit in zip(found, earned, strict=True)
        if credit > 0
    ]
    return sorted(passages, key=lambda passage: -passage.share)


def _credits(sentence: WeightedSentence, found: Sequence[tuple[str, Match]]) -> list[float]:
    """The weight of a sentence's words that each match earns.

    The weight of a word is divided among the agents that hold it, in proportion to their claims. An agent has one claim to a
    word, that of its best match, so that repeating itself earns it no more.
    """
    earned = [0.0] * len(found)
    for place, weight in enumerate(sentence.weights):
        best: dict[str, tuple[float, int]] = {}
        for number, (agent, match) in enumerate(found):
            claim = match.strength(place) ** STEEPNESS
            if claim > best.get(agent, (0.0, 0))[0]:
                best[agent] = claim, number
        claims = sum(claim for claim, _ in best.values())
        for claim, number in best.values():
            earned[number] += weight * claim / claims
    return earned


def _supporting(sentence: WeightedSentence, matches: Sequence[Match]) -> list[Match]:
    """The best match of one agent, and further ones that do not overlap and each hold more of the sentence."""
    taken: list[Match] = []
    held: set[int] = set()
    for match in matches:
        if match.resemblance < SUPPORT or len(taken) == MOST_PASSAGES:
            break
        if any(match.start < other.end and other.start < match.end for other in taken):
            continue
        holds = {place for place, holds_it in enumerate(match.holds) if holds_it}
        if not taken or sum(sentence.weights[place] for place in holds - held) >= FURTHER * sentence.weight:
            taken.append(match)
            held |= holds
    return taken


def attribution_json(origin: Attribution) -> dict[str, Any]:
    """An attribution as plain data for ``json.dumps``, with shares rounded to four places."""

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
            for layer in origin.layers
        ],
        "sentences": [
            {
                "start": sentence.start,
                "end": sentence.end,
                "new": round(sentence.new, 4),
                "passages": [passage_json(passage) for passage in sentence.passages],
            }
            for sentence in origin.sentences
        ],
    }
