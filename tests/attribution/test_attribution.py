from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa import Answer, Call, Mixture, Scripted
from moa.attribution.sentences import LONGEST, sentences
from moa.attribution.shares import (
    EXPLAINED,
    SUPPORT,
    Attribution,
    LayerShares,
    attribution,
    attribution_json,
    attribution_of,
)
from moa.messages import Reference
from tests.fakes.recordings import alpaca_eval_outputs, needs_recordings

BEES = (
    "Bees sleep between five and eight hours a day, often in the dark of the hive. Their antennae droop as they relax. "
    "Foragers sleep mostly at night."
)
SUN = (
    "The Sun fuses hydrogen into helium in its core. That releases energy as light and heat, which warms the planets. "
    "It has done so for 4.6 billion years."
)


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def compared(text: str, **proposals: str) -> Attribution:
    return attribution(text, [Reference(agent, proposal) for agent, proposal in proposals.items()])


def shares(text: str, **proposals: str) -> LayerShares:
    (layer,) = compared(text, **proposals).layers
    return layer


# -- sentences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("One. Two! Three?! Four… Five", ["One.", "Two!", "Three?!", "Four…", "Five"]),
        ("Take e.g. 3.5 kg, i.e. more. Then rest.", ["Take e.g. 3.5 kg, i.e. more.", "Then rest."]),
        ("The U.S. Senate met. In the U.S. The law holds.", ["The U.S. Senate met.", "In the U.S.", "The law holds."]),
        ("Dr. Smith et al. agree. So do we.", ["Dr. Smith et al. agree.", "So do we."]),
        ("It costs approx. 5 dollars. No. 7 is free.", ["It costs approx. 5 dollars.", "No. 7 is free."]),
        (
            "A work of art. The sun. He said no. It sat. Then",
            ["A work of art.", "The sun.", "He said no.", "It sat.", "Then"],
        ),
        ('"Really?" he said. "Yes." She left.', ['"Really?" he said.', '"Yes."', "She left."]),
        ("(See above.) It is **so.** Then.[2] End", ["(See above.)", "It is **so.**", "Then.[2]", "End"]),
        ("so. it is all small. yes.", ["so.", "it is all small.", "yes."]),
        ("今日は晴れです。明日は雨？はい！そう", ["今日は晴れです。", "明日は雨？", "はい！", "そう"]),
        ("هل هذا صحيح؟ نعم. هذا صحيح.", ["هل هذا صحيح؟", "نعم.", "هذا صحيح."]),
        ("यह सच है। वह भी।", ["यह सच है।", "वह भी।"]),
        ("# A *title*\nText.\n\n---\n## Next", ["A *title*", "Text.", "Next"]),
        ("- one. Two.\n  2. three\n> * [x] four\n(b) five", ["one.", "Two.", "three", "four", "five"]),
        ("1. First\n2. Second. And 3 more.", ["First", "Second.", "And 3 more."]),
        ("| a | b |\n|---|---|\n| 1 | 2 x |", ["a | b", "1 | 2 x"]),
        ("Poem line\nanother line\nlast", ["Poem line", "another line", "last"]),
        ("A line that is long enough to have been wrapped by\nits author. End.", None),
        ("```python\ndef f():\n\n    # note\n    }\n```\nAfter.", ["def f():", "# note", "After."]),
        ("~~~\n- x = 1\n", ["- x = 1"]),
        ("👍 ok 👍\n\n👍", ["👍 ok 👍", "👍"]),
    ],
)
def test_a_text_is_cut_into_sentences(text: str, expected: list[str] | None) -> None:
    """Sentences, items, rows, headings and lines of code are cut apart, without list markers; wrapped lines are joined."""
    if expected is None:
        expected = ["A line that is long enough to have been wrapped by\nits author.", "End."]
    assert cut(text) == expected


def test_a_text_without_a_stop_or_a_space_is_cut_into_pieces() -> None:
    """No sentence is longer than the maximum, and nothing is lost."""
    pieces = cut("x" * 2500)
    assert [len(piece) for piece in pieces] == [LONGEST, LONGEST, 500]
    words = cut("word " * 1000)
    assert max(map(len, words)) <= LONGEST
    assert all(piece.startswith("word") and piece.endswith("word") for piece in words)


MARKDOWN = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(
            ["# ", "- ", "1. ", "> ", "```\n", "~~~", "\n", "\n\n", ". ", "? ", "! ", "。", "… ", "e.g. ", "U.S. "]
        ),
        st.sampled_from(['"', "'", "(", ")", "**", "\t", " ", "| x | y |\n", " a ", " b ", "|"]),
        st.sampled_from(["word", "Other", "3.5", "日本語", "שלום", "हिन्दी", "👍", "40"]),
    ),
    max_size=40,
).map("".join)


@given(MARKDOWN)
def test_sentences_are_ordered_and_leave_out_only_markup(text: str) -> None:
    """Offsets are in range and do not overlap; letters outside of them belong to a list marker or a fence line."""
    spans = sentences(text)
    last = 0
    outside = ""
    for start, end in spans:
        assert last <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        outside += f"{text[last:start]}\x00"
        last = end
    outside += text[last:]
    for line in re.split(r"[\n\r\x0b\x0c\x85\u2028\u2029\x00]", outside):
        if re.search(r"[^\W_]", line):
            assert re.match(r"[ \t>]*(```|~~~)", line) or re.fullmatch(
                r"\s*((>|#{1,6}|[-*+•‣◦▪●·–—]|\(?(\d{1,3}|[A-Za-z]|[ivx]{2,4})\)|\d{1,3}\.|\[[ xX]\])\s*)+[\W_]*", line
            ), (text, line)


# -- known cases ------------------------------------------------------------------------------------------------------


def test_a_copied_sentence_is_credited_to_its_writer() -> None:
    """The resemblance is 1, the share whole, nothing is new, and the passage is the sentence in the proposal."""
    text = "Their antennae droop as they relax."
    (sentence,) = compared(text, ann=BEES, bob=SUN).sentences
    (passage,) = sentence.passages
    assert (passage.agent, passage.layer, passage.resemblance, sentence.new) == ("ann", 1, 1.0, 0.0)
    assert passage.share == pytest.approx(1)
    assert BEES[passage.start : passage.end] == text


def test_a_sentence_merged_from_two_proposals_is_shared() -> None:
    """Each proposal gets about half, and hardly anything is new."""
    text = "Their antennae droop as they relax, while the Sun fuses hydrogen into helium."
    found = shares(text, ann=BEES, bob=SUN, eve="Octopuses have three hearts.")
    assert 0.35 < found.shares["ann"] < 0.65
    assert 0.35 < found.shares["bob"] < 0.65
    assert found.new < 0.1
    assert found.ignored == ("eve",)


def test_a_paraphrase_earns_less_than_a_copy() -> None:
    """The same statement in other words and another order is credited in part."""
    text = "In the darkness of their hive, bees often sleep for five to eight hours every day."
    (sentence,) = compared(text, ann=BEES, bob=SUN).sentences
    (passage,) = sentence.passages
    assert passage.agent == "ann"
    assert SUPPORT + 0.1 < passage.resemblance < 0.9
    assert 0.05 < sentence.new < 0.5


def test_a_copy_beside_a_paraphrase_gets_nearly_all() -> None:
    """A proposal with the exact words gets far more credit than one with other words."""
    text = BEES.split(". ")[0] + "."
    found = shares(text, ann=BEES, bob="In their dark hive bees sleep for five to eight hours a day. They like it.")
    assert found.shares["ann"] > 0.8 > 0.2 > found.shares["bob"]


def test_a_sentence_that_no_proposal_holds_is_new() -> None:
    """It has no passage, new is 1, and every agent counts as ignored."""
    result = compared("Octopuses have three hearts and blue blood.", ann=BEES, bob=SUN)
    assert [(one.new, one.passages) for one in result.sentences] == [(1.0, ())]
    assert result.layers[0].ignored == ("ann", "bob")


def test_a_different_number_weighs() -> None:
    """The proposal with the right number gets nearly all; without that proposal, much of the sentence is new."""
    text = "The basic plan costs 40 dollars a month."
    right, wrong = f"{text} It is fine.", "The basic plan costs 70 dollars a month. It is fine."
    both = shares(text, ann=right, bob=wrong)
    assert both.shares["ann"] > 0.85
    assert both.shares["bob"] < 0.15
    (sentence,) = compared(text, bob=wrong).sentences
    assert sentence.passages[0].resemblance < 0.6
    assert sentence.new > 0.35


def test_a_number_is_the_same_however_it_is_written() -> None:
    """It matches with or without a thousands separator, in digits or as a word."""
    assert shares("It has 1,500 rooms on three floors.", ann="Big. It has 1500 rooms on 3 floors.").new == 0


def test_a_sentence_in_two_proposals_is_split_equally() -> None:
    """Both shares are equal to the last digit."""
    text = "Water boils at 100 degrees."
    found = shares(text, ann=f"{text} So it is.", bob=f"Cook well. {text}", eve=SUN)
    assert found.shares == {"ann": 0.5, "bob": 0.5, "eve": 0.0}


def test_words_of_the_topic_earn_nothing() -> None:
    """Shared topic words alone, in whatever order, are no resemblance."""
    text = "Solar panels lose about half a percent of their output every year."
    topical = "Solar panels turn light into current. The output of solar panels depends on the season."
    scrambled = "Percent panels year output. The half that solar will lose."
    assert shares(text, ann=topical, bob=scrambled, eve="Every year the panels are cleaned.").new == 1


def test_a_negated_sentence_resembles_the_original() -> None:
    """Only words are measured, and "not" is one light word: the documentation names this limit."""
    assert (
        shares("Sugar does not cause cavities in teeth.", ann="Sugar does cause cavities in teeth. Beware.").new < 0.1
    )


def test_an_answer_that_equals_a_proposal_is_credited_to_it_alone() -> None:
    """Proposals that hold parts of the answer get nothing; several equal proposals share it equally."""
    near = BEES.replace("droop", "hang")
    alone = shares(BEES, ann=BEES, bob=near)
    assert (alone.shares, alone.new, alone.ignored) == ({"ann": pytest.approx(1), "bob": 0.0}, 0.0, ("bob",))
    assert shares(f"{BEES}\n", ann=BEES, bob=near, eve=f" {BEES}").shares == pytest.approx(
        {"ann": 0.5, "bob": 0.0, "eve": 0.5}
    )
    assert shares("!!!", ann="!!!", bob="?").shares == {"ann": 1.0, "bob": 0.0}


@pytest.mark.parametrize(
    ("text", "ann"),
    [
        ("蜂は毎日五時間から八時間くらい眠る。", "蜂は一日に五時間から八時間眠ります。触角は垂れます。"),
        (
            "Die Katze schläft den ganzen Tag auf dem Sofa.",
            "Auf dem Sofa schläft die Katze den ganzen Tag. Sie frisst.",
        ),
        ("تنام النحلة خمس ساعات في اليوم داخل الخلية.", "تنام النحلة خمس ساعات كل يوم في الخلية. هذا كثير."),
        ("मधुमक्खियाँ दिन में पाँच घंटे सोती हैं।", "मधुमक्खियाँ हर दिन पाँच घंटे सोती हैं। यह सच है।"),
        ("    return total / count", "```\ndef mean():\n    return total / count\n```"),
    ],
)
def test_other_languages_are_compared(text: str, ann: str) -> None:
    """Languages without spaces between words are compared too, and so is code."""
    found = shares(text, ann=ann, bob=SUN)
    assert found.shares["ann"] > 0.3
    assert found.shares["bob"] == 0


def test_a_heading_of_one_word_is_not_credited_to_every_text_with_that_word() -> None:
    """A sentence's ends count: a proposal with the heading gets more than one that uses the word."""
    found = shares("## Safety", ann="Safety is what matters most. Be careful.", bob="Intro.\n## Safety\nBe careful.")
    assert found.shares["bob"] > 0.7


def test_a_single_word_is_credited_where_a_sentence_begins_or_ends_with_it() -> None:
    """Elsewhere it may be a word of the topic, and earns nothing."""
    assert shares("- Camping", ann="Try tent camping with friends.").new == 1
    assert shares("- Camping", ann="Camping: bring a tent.").new == 0


def test_layers_are_compared_separately() -> None:
    """They are listed in order, whatever the order of the proposals; new refers to the last layer."""
    proposals = [Reference("b", SUN, layer=2), Reference("a", BEES, layer=1), Reference("a", SUN, layer=2)]
    result = attribution(f"{BEES} {SUN}", proposals)
    first, last = result.layers
    assert (first.layer, last.layer) == (1, 2)
    assert first.shares == {"a": pytest.approx(1 - first.new)}
    assert last.shares["a"] == last.shares["b"] == pytest.approx((1 - last.new) / 2)
    assert [sentence.new for sentence in result.sentences] == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


# -- properties -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(MARKDOWN, st.lists(st.tuples(MARKDOWN, st.integers(1, 3)), max_size=5))
def test_shares_and_new_sum_to_one(text: str, proposals: Sequence[tuple[str, int]]) -> None:
    """This holds for each sentence, each layer and the answer; passages lie within their proposals; results repeat."""
    given_ = [Reference(f"agent{number}", said, layer=layer) for number, (said, layer) in enumerate(proposals)]
    # Pieces of the proposals in the answer, so that there is something to find.
    text += "".join(said[: len(said) // 2] for said, _ in proposals)
    result = attribution(text, given_)
    assert result == attribution(text, given_)
    assert [layer.layer for layer in result.layers] == sorted({layer for _, layer in proposals})
    texts = {(one.layer, one.agent): one.text for one in given_}
    for sentence in result.sentences:
        for layer in {layer for _, layer in proposals}:
            mine = [passage for passage in sentence.passages if passage.layer == layer]
            assert 0 <= sum(passage.share for passage in mine) <= 1 + 1e-9
            for passage in mine:
                assert SUPPORT <= passage.resemblance <= 1
                assert 0 <= passage.start < passage.end <= len(texts[passage.layer, passage.agent])
        if result.layers:
            last = [passage for passage in sentence.passages if passage.layer == result.layers[-1].layer]
            assert sentence.new + sum(passage.share for passage in last) == pytest.approx(1)
    for shared in result.layers:
        assert sum(shared.shares.values()) + shared.new == pytest.approx(1)
        assert {agent for layer, agent in texts if layer == shared.layer} == set(shared.shares)
    json.dumps(attribution_json(result))


@pytest.mark.parametrize(
    "text",
    ["x" * 10**6, "字" * 300_000, "word\n" * 30_000, "a. " * 30_000, "- " * 300_000, '. "' * 200_000, "|" * 10**6],
    ids=["no space", "unspaced", "one-word lines", "stops", "markers", "quotes", "bars"],
)
def test_a_hostile_text_is_compared_in_seconds(text: str) -> None:
    """The longest texts that are compared at all, of the worst kind to cut, take seconds and not minutes."""
    began = time.process_time()
    attribution(text, [Reference("ann", text[: len(text) // 2])])
    assert time.process_time() - began < 30


# -- where it is found ------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_attribution_of_an_answer() -> None:
    """It compares the answer with its proposals; a selected answer is credited to its proposal alone."""
    answer = await Mixture([[Scripted(BEES, name="x/ann"), Scripted(SUN, name="x/bob")]], Scripted(BEES[:77])).answer(
        "?"
    )
    assert attribution_of(answer) == attribution(answer.text, answer.proposals)
    chosen = await Mixture([[Scripted(BEES, name="x/ann"), Scripted(SUN, name="x/bob")]], aggregate="central").answer(
        "?"
    )
    origin = attribution_of(chosen)
    assert origin and sorted(origin.layers[-1].shares.values()) == [0.0, pytest.approx(1.0)]


def test_there_is_no_attribution_without_a_text_or_proposals() -> None:
    """Without either there is nothing to compare."""
    call = Call("ann", 1, "x/ann", text=BEES)
    assert attribution_of(Answer(text="Something.")) is None
    assert attribution_of(Answer(text=" ", calls=(call,))) is None
    assert attribution_of(Answer(text="Something.", calls=(call,))) is not None


@pytest.mark.parametrize("text", ["x" * 600_000, "yes\n" * 20_000, "No. " * 20_000], ids=["long", "lines", "sentences"])
def test_oversized_texts_are_not_compared(text: str) -> None:
    """Texts that would take many seconds give None, and finding that out takes no time."""
    began = time.process_time()
    assert attribution_of(Answer(text=text, calls=(Call("ann", 1, "x/ann", text=text),))) is None
    assert time.process_time() - began < 2


def test_attribution_as_json_is_rounded() -> None:
    """The command line, the server and saved runs all show this form."""
    text = "Water boils at 100 degrees. Hello there."
    assert attribution_json(compared(text, ann="Water boils at 100 degrees.", bob=SUN)) == {
        "layers": [{"layer": 1, "shares": {"ann": 0.6765, "bob": 0.0}, "new": 0.3235, "ignored": ["bob"]}],
        "sentences": [
            {
                "start": 0,
                "end": 27,
                "new": 0.0,
                "passages": [{"agent": "ann", "layer": 1, "start": 0, "end": 27, "share": 1.0, "resemblance": 1.0}],
            },
            {"start": 28, "end": 40, "new": 1.0, "passages": []},
        ],
    }


def test_the_explanation_of_the_figures_is_short() -> None:
    """It is one paragraph that a page can show."""
    assert len(EXPLAINED.split()) <= 90
    assert "\n" not in EXPLAINED


@needs_recordings
def test_recorded_answers_resemble_proposals_to_their_own_question_only() -> None:
    """A mixture's published answers hold much of the proposals to the same instruction, and almost nothing of others."""
    names = ("Qwen1.5-110B-Chat", "Meta-Llama-3-70B-Instruct", "Mixtral-8x22B-Instruct-v0.1")
    proposals = {name: list(alpaca_eval_outputs(name).values()) for name in names}
    answers = list(alpaca_eval_outputs("Together-MoA").values())
    own: list[float] = []
    others: list[float] = []
    for index in range(3, 600, 20):
        for found, shift in ((own, 0), (others, 101)):
            refs = [Reference(name, proposals[name][index + shift]) for name in names]
            found.append(attribution(answers[index], refs).layers[-1].new)
    assert sum(own) / len(own) < 0.8
    assert sum(others) / len(others) > 0.98
