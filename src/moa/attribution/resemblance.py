"""The resemblance of a passage to a sentence: how much of the sentence's words it holds, in their order; 0 to 1.

Notable decisions:
- Words are compared by a crude stem, ignoring case: the first letters of a long word, a short one without its plural s.
  Scripts without spaces between words are compared by pairs of characters. This serves many languages moderately well.
- The rarer a word is among the passages of its run, the more it weighs, so words that every answer to a question contains
  count little, but never nothing. Numbers count three times, function words a tenth.
- Half of the figure is for words, half for pairs of words that follow each other in both, with the sentence's ends as words.
  The same words in any order are worth half at most, and nothing where almost no order is shared.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from moa.attribution.sentences import sentences

STEM = 6
"""Letters of a word that are compared."""

NUMBER = 3.0
LIGHT = 0.1
NEAR = 0.3
"""The value of a pair whose words are near each other in the passage, but not adjacent."""

LEAST_HELD = 0.15
"""Share of a sentence's words, by weight, that a passage must hold to be compared."""

LEAST_ORDER = 0.1
"""Share of a sentence's pairs, by weight, that a passage must hold to have any resemblance."""

MOST_TRIED = 4
"""Sentences of one text that are compared with a sentence in full: those that hold most of its words."""

MORE_TOGETHER = 0.1
"""How much two adjacent sentences must resemble more than the better one alone, to be one passage."""

COMMON = 200
"""A word in more sentences of one text than this does not help to find a passage."""

_BEGIN, _END = "\x02", "\x03"

_PUNCTUATION = (
    r"\x00-\x20!-/:-@\[-`{-\xa9\xab-\xb1\xb4\xb6-\xb8\xbb\xbf\xd7\xf7\u055a-\u055f\u0589\u05be\u05c0\u060c\u061b\u061f"
    r"\u066a-\u066d\u06d4\u0964\u0965\u1680\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u2e00-\u2e7f\u3000-\u303f\u30fb"
    r"\ufe30-\ufe6f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\U0001f000-\U0001faff"
)
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
_TOKEN = re.compile(
    rf"([{_UNSPACED}]+)|(\d+(?:[.,]\d+)*)"
    rf"|([^\d{_PUNCTUATION}{_UNSPACED}][^{_PUNCTUATION}{_UNSPACED}]*(?:['’][^\d{_PUNCTUATION}{_UNSPACED}]+)*)"
    r"|([\u2190-\u2bff\U0001f000-\U0001faff])"
)
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
_ENDING = re.compile(r"(?<=..)['’]s$|(?<=...)(?:ings?|edly|ed|ly|i?es|ied|(?<![su])s|[ey])$")
_FUNCTION_WORDS = """
a about after again all also am an and any are as at be because been before being below between both but by can
could did do does doing down during each etc few for from further had has have having he her here hers him his
how i if in into is it its just let like may me might more most must my no nor not now of off on once only or
other our out over own per same she should so some such than that the their them then there these they this
those through to too under until up upon us very via was we were what when where which while who whom why will
with within without would yes yet you your i'm it's don't doesn't isn't aren't can't won't you're we're they're
that's there's let's
"""
_LIGHT_WORDS = frozenset(_FUNCTION_WORDS.split())
_COUNTING = "two three four five six seven eight nine ten eleven twelve"
_COUNTS = {word: str(number) for number, word in enumerate(_COUNTING.split(), start=2)}


def _stem(word: str) -> str:
    bare = _ENDING.sub("", word) if word[-1] in "sgdye" else word
    if len(bare) > 3 and bare[-1] == bare[-2]:
        bare = bare[:-1]
    return bare[:STEM]


def _number(digits: str) -> str:
    whole = _THOUSANDS.sub("", digits)
    return whole.rstrip("0").rstrip(".") or "0" if "." in whole else whole


def _tokens(text: str) -> list[tuple[str, float]]:
    """The tokens of a text, each with its weight before rarity."""
    found: list[tuple[str, float]] = []
    for run, number, word, sign in _TOKEN.findall(unicodedata.normalize("NFKC", text)):
        if word:
            low = word.casefold()
            if low in _COUNTS:
                found.append((_COUNTS[low], NUMBER))
            elif low.replace("’", "'") in _LIGHT_WORDS or (len(low) < 3 and word == low):
                found.append((low, LIGHT))
            else:
                found.append((_stem(low), 1.0))
        elif number:
            found.append((_number(number), NUMBER))
        elif len(run) > 1:
            found.extend((one + other, 1.0) for one, other in pairwise(run))
        else:
            found.append((run or sign, 1.0))
    return found


class Span:
    """A sentence, or two adjacent ones, as tokens to compare.

    Attributes:
        start, end: its place in its text, in code points.
        key: all tokens; spans with equal keys count as the same text.
        size: its length in characters without white space.
        content: its tokens without function words, with their weights; all tokens if there are only function words.
        light: its function words, with their weights.
    """

    def __init__(self, text: str, start: int, end: int) -> None:
        self.start, self.end = start, end
        tokens = _tokens(text[start:end])
        self.key = tuple(token for token, _ in tokens)
        self.size = sum(map(len, text[start:end].split()))
        content = [token for token in tokens if token[1] > LIGHT]
        self.light = [token for token, counts in tokens if counts == LIGHT] if content else []
        self.content = content or [(token, 1.0) for token in self.key]

    @cached_property
    def sequence(self) -> list[str]:
        """The tokens of ``content``, between a mark for the beginning and one for the end."""
        return [_BEGIN, *(token for token, _ in self.content), _END]

    @cached_property
    def held(self) -> set[str]:
        """All tokens, each once."""
        return {*self.key}

    @cached_property
    def pairs(self) -> set[tuple[str, str]]:
        """Tokens of ``sequence`` that follow each other."""
        return {*pairwise(self.sequence)}

    @cached_property
    def near(self) -> set[tuple[str, str]]:
        """Tokens with one or two others between them, and adjacent ones in reverse order."""
        tokens = self.sequence[1:-1]
        return {
            *zip(tokens, tokens[2:], strict=False),
            *zip(tokens, tokens[3:], strict=False),
            *zip(tokens[1:], tokens, strict=False),
        }

    def joined(self, other: Span) -> Span:
        """This span and the next one, as one span."""
        both = object.__new__(Span)
        both.start, both.end = self.start, other.end
        both.held, both.pairs, both.near = self.held | other.held, self.pairs | other.pairs, self.near | other.near
        return both


def spans(text: str) -> list[Span]:
    """The sentences of a text that hold at least one token."""
    return [span for start, end in sentences(text) if (span := Span(text, start, end)).key]


class Rarity:
    """The weight of each token: the rarer among the passages of a run, the higher."""

    def __init__(self, passages: Iterable[Span]) -> None:
        self._count = 0
        self._seen: Counter[str] = Counter()
        for passage in passages:
            self._count += 1
            self._seen.update(passage.held)

    def __call__(self, token: str) -> float:
        return math.log(1 + (self._count + 1) / (1 + self._seen[token]))


class WeightedSentence:
    """A sentence with a weight for each token (first those of ``content``, then the light ones) and for each pair."""

    def __init__(self, sentence: Span, rarity: Rarity) -> None:
        self.key = sentence.key
        self.tokens = [token for token, _ in sentence.content]
        self.weights = [counts * rarity(token) for token, counts in sentence.content]
        self.pairs = list(pairwise(sentence.sequence))
        ends = [self.weights[0] / 2, *self.weights, self.weights[-1] / 2]
        self.pair_weights = [(one + other) / 2 for one, other in pairwise(ends)]
        self.order = sum(self.pair_weights)
        self.tokens += sentence.light
        self.weights += [LIGHT * rarity(token) for token in sentence.light]
        self.weight = sum(self.weights)

    def content(self) -> Iterable[tuple[str, float]]:
        """The tokens of ``content``, with their weights."""
        return zip(self.tokens[: len(self.pairs) - 1], self.weights, strict=False)

    def compared(self, passage: Span) -> Match:
        """How much of the sentence a passage holds."""
        held, following, near = passage.held, passage.pairs, passage.near
        holds = [token in held for token in self.tokens]
        pairs = [1.0 if pair in following else NEAR if pair in near else 0.0 for pair in self.pairs]
        order = sum(map(float.__mul__, pairs, self.pair_weights))
        words = sum(weight for weight, there in zip(self.weights, holds, strict=True) if there)
        figure = (words + order) / (self.weight + self.order) if order >= LEAST_ORDER * self.order else 0.0
        return Match(passage.start, passage.end, figure, holds, pairs)

    def copied(self, passage: Span) -> Match:
        """The match of a passage with the same tokens."""
        return Match(passage.start, passage.end, 1.0, [True] * len(self.tokens), [1.0] * len(self.pairs))


@dataclass(frozen=True, slots=True)
class Match:
    """A passage compared with a sentence: which of the sentence's tokens it ``holds``, and how well each of its pairs."""

    start: int
    end: int
    resemblance: float
    holds: Sequence[bool]
    pairs: Sequence[float]

    def strength(self, place: int) -> float:
        """How well the passage holds the token at ``place``; 0 if not at all, more if its neighbours are the same."""
        if not self.holds[place]:
            return 0.0
        if place + 1 >= len(self.pairs):  # a function word
            return self.resemblance
        return self.resemblance * (1 + self.pairs[place] + self.pairs[place + 1]) / 3


class SentenceIndex:
    """The sentences of one proposal, to find passages that resemble a sentence."""

    def __init__(self, text: str) -> None:
        self.spans = spans(text)
        self._places: dict[str, list[int]] = {}
        self._same: dict[tuple[str, ...], int] = {}
        self._joined: dict[int, Span] = {}
        for place, span in enumerate(self.spans):
            if span.key not in self._same:
                self._same[span.key] = place
                for token in span.held:
                    self._places.setdefault(token, []).append(place)

    def matches(self, sentence: WeightedSentence) -> list[Match]:
        """The passages that resemble a sentence, the best first. A passage with the same tokens is the only one."""
        same = self._same.get(sentence.key)
        if same is not None:
            return [sentence.copied(self.spans[same])]
        held = self._held(sentence)
        likely = sorted(held, key=lambda place: (-held[place], place))[:MOST_TRIED]
        tried = [place for place in likely if held[place] >= LEAST_HELD * sentence.weight]
        alone = {place: sentence.compared(self.spans[place]) for place in tried}
        found = [*alone.values()]
        for place in tried[:2]:
            for first in (place - 1, place):
                other = first if first != place else place + 1
                if held.get(other, 0.0) < LEAST_HELD * sentence.weight:
                    continue
                # Two sentences are one passage only if both contribute: a long passage holds a little of everything.
                parts = [alone.get(each) or sentence.compared(self.spans[each]) for each in (place, other)]
                both = sentence.compared(self._with_next(first))
                if both.resemblance > max(part.resemblance for part in parts) + MORE_TOGETHER:
                    found.append(both)
        return sorted(found, key=lambda match: (-match.resemblance, match.start, match.end))

    def _with_next(self, place: int) -> Span:
        if place not in self._joined:
            self._joined[place] = self.spans[place].joined(self.spans[place + 1])
        return self._joined[place]

    def _held(self, sentence: WeightedSentence) -> dict[int, float]:
        """The weight of a sentence's tokens that each place holds, not counting :data:`COMMON` tokens."""
        held: dict[int, float] = {}
        for token, weight in sentence.content():
            places = self._places.get(token, ())
            if len(places) <= COMMON:
                for place in places:
                    held[place] = held.get(place, 0.0) + weight
        return held
