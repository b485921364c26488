from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from itertools import pairwise
from operator import eq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa import Delta, Function, Request, Scripted
from moa.answers import Answer
from moa.models import thinking
from moa.models.thinking import TAGS, ThinkingReader, separated, split
from moa.pieces import collected


def read(pieces: Sequence[str], reason: str | None = "stop", reader: ThinkingReader | None = None) -> Answer:
    """The answer that a reader makes of a text in pieces."""
    reader = reader or ThinkingReader()
    deltas = [separate for piece in pieces for separate in reader.read(Delta(piece))]
    return collected([*deltas, *reader.read(Delta(finish_reason=reason))])


HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>"

THOUGHTS = {
    "a line of its own": "<think>\nTHOUGHT\n</think>\n\nVisible.",
    "no line breaks": "<think>THOUGHT</think>Visible.",
    "white space and case": "\n\n <THINK >THOUGHT</Think >\nVisible.",
    "spaces in the brackets": "< think >THOUGHT</ think >Visible.",
    "an invisible character": "\ufeff<think>THOUGHT</think>Visible.",
    "another closing tag": "<think>THOUGHT</thinking>Visible.",
    "two blocks": "<think>THOUGHT</think>\n<think>more</think>\nVisible.",
    "nested": "<think>THOUGHT <think>inner</think> outer\n</think>\n\nVisible.",
    "a closing tag in inline code": "<think>THOUGHT `</think>` more</think>Visible.",
    "empty": "<think>\n\n</think>\n\nVisible.",
    # https://github.com/open-webui/open-webui/issues/9808
    "no opening tag": "THOUGHT\n</think>\n\nVisible.",
    "no opening tag, no line break": "THOUGHT</think>Visible.",
    # https://github.com/InternLM/lmdeploy/issues/3321
    "only a closing tag": "</think>\n\nVisible.",
    "gpt-oss": HARMONY.format("THOUGHT") + "Visible.",
    "gpt-oss, with its first token": "<|start|>assistant" + HARMONY.format("THOUGHT") + "Visible.",
    "gpt-oss, no opening": "THOUGHT<|end|><|start|>assistant<|channel|>final<|message|>Visible.",
    "gpt-oss without special tokens": "analysisThe THOUGHTassistantfinalVisible.",
}


@pytest.mark.parametrize("text", THOUGHTS.values(), ids=THOUGHTS)
def test_thinking_in_a_text_is_reasoning_however_it_is_cut(text: str) -> None:
    """Thinking inside the text becomes reasoning, in one piece, in single characters and in every pair of pieces."""
    for pieces in ([text], [*text], *([text[:at], text[at:]] for at in range(1, len(text)))):
        answer = read(pieces)
        assert answer.text == "Visible.", pieces
        assert "THOUGHT" in answer.reasoning or "THOUGHT" not in text


@pytest.mark.parametrize("tags", TAGS, ids=lambda tags: tags.opening)
def test_every_spelling_is_known(tags: thinking.Tags) -> None:
    """Each pair of tags in the table encloses thinking, whole and in single characters."""
    for closing in tags.closing:
        text = f"{tags.opening}We think.{closing}Visible."
        assert [(read(pieces).text, read(pieces).reasoning) for pieces in ([text], text)] == [
            ("Visible.", "We think.")
        ] * 2


ORDINARY = {
    "inline code": "Use `<think>` to begin and `</think>` to end.",
    "a fence": "Write:\n\n```\n<think>\nplan\n</think>\nanswer\n```\n\nThat is all.",
    "a closing tag in a fence": "```\nplan\n</think>\nanswer\n```\n",
    "a closing tag in prose": "The model ends its thinking with </think> and then answers.",
    "a closing tag in quotes": 'It sends "</think>" at the end, then “</think>” again.',
    "a closing tag at the end of prose": "Such models end their thinking with </think>",
    "tags in prose": "Models write <think>plan</think> first.",
    "a fence at the start": "```xml\n<think>plan</think>\n```",
    "other tags": "<thing>a</thing> < 5 and [T] ◁ <|im_end|",
    "half a tag at the end": "It is <thin",
    "half a tag alone": "<think",
    "a bracket": "<",
    "white space": "\n  Hello\n\n",
    "the subject of a sentence": "<think> is a tag that models use.",
    "a word": "analysis of the question follows.",
}


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_a_text_that_mentions_tags_stays_as_it_is(text: str) -> None:
    """Tags in code, in quotation marks and in prose are text."""
    for pieces in ([text], [*text]):
        assert (read(pieces).text, read(pieces, "tool_calls").text) == (text, text)


@given(st.text(st.sampled_from("<>/[]think THINK`\n ab◁▷|"), max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_the_pieces_of_a_text_make_no_difference(text: str, cuts: list[int]) -> None:
    """However a text is cut, the same answer results."""
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert read(pieces) == read([text])


def test_thinking_that_is_never_closed_is_reasoning() -> None:
    """An answer cut at max_tokens inside its thinking, or ended there, has no text."""
    for reason in ("length", "stop", "content_filter"):
        answer = read(["<think>\nFirst, I", " need to"], reason)
        assert (answer.text, answer.reasoning) == ("", "\nFirst, I need to")


def test_a_closing_tag_without_an_answer_behind_it_takes_nothing_back() -> None:
    """A stray closing tag at the end of an answer is dropped; the answer stays."""
    assert read(["Visible.</think>"]).text == "Visible."
    assert read(["Visible.\n", "</think>\n"]).text == "Visible.\n"
    assert read(["THOUGHT\n</think>\n"], "length").text == ""


def test_thinking_before_a_tool_call_is_reasoning() -> None:
    """A tool call ends what may be a tag; text before a closing tag is thinking, with a tool call behind it too."""
    call = Delta(tool_calls=({"index": 0, "function": {"name": "f", "arguments": "{}"}},))
    for text, expected in (("<think>why</think>", ""), ("why\n</think>\n", ""), ("Let me look.", "Let me look.")):
        reader = ThinkingReader()
        deltas = [
            each for delta in (Delta(text), call, Delta(finish_reason="tool_calls")) for each in reader.read(delta)
        ]
        answer = collected(deltas)
        assert (answer.text, len(answer.tool_calls)) == (expected, 1)


def test_an_ordinary_text_streams_without_delay() -> None:
    """Each piece of a text comes at once, and only what may be a tag is held back."""
    reader = ThinkingReader()
    streamed = [[each.text for each in reader.read(Delta(piece))] for piece in ("The ", "sky <", "b>is</b", "> blue")]
    assert streamed == [["The "], ["sky "], ["<b>is</b"], ["> blue"]]


def test_the_text_before_a_lone_closing_tag_is_taken_back() -> None:
    """A delta says how many characters of the text were thinking."""
    reader = ThinkingReader()
    deltas = [each for piece in ("First, ", "I think.", "</think>", "Yes") for each in reader.read(Delta(piece))]
    assert deltas == [Delta("First, "), Delta("I think."), Delta("Yes", thought=15)]


def test_a_tag_that_the_caller_asked_for_is_text() -> None:
    """Everyday tags stay text in a conversation that names them; ``<think>`` never does."""
    for tag, text in (
        ("reasoning", "<reasoning>a</reasoning>b"),
        ("thinking", "<thinking>a</thinking>b"),
        ("think", "b"),
    ):
        reader = ThinkingReader(names=partial(eq, f"<{tag}>"))
        assert read([f"<{tag}>a</{tag}>b"], reader=reader).text == text


async def of(*texts: str, reason: str = "stop", reasoning: str = "") -> list[Delta]:
    """The deltas of one call of a model that is always the same one."""

    async def say(request: Request) -> AsyncGenerator[Delta, None]:
        if reasoning:
            yield Delta(reasoning=reasoning)
        for text in texts:
            yield Delta(text)
        yield Delta(finish_reason=reason)

    model, request = Function(say, name="test/opens-in-its-prompt"), Request.of("Why?")
    return [delta async for delta in separated(model, request, model.stream(request))]


@pytest.mark.anyio
async def test_a_model_that_begins_inside_its_thinking_is_remembered() -> None:
    """After a closing tag without an opening one, a model's next answers stream as reasoning until their closing tag."""
    await of("Hm.", "\n</think>\n", "Yes.")
    assert [(delta.reasoning, delta.text) for delta in await of("Well ", "then</think>", "No.")][:3] == [
        ("Well ", ""),
        ("then", ""),
        ("", "No."),
    ]
    cut = collected(await of("Well then", reason="length"))
    assert (cut.text, cut.reasoning) == ("", "Well then")
    apart = await of("It ", "is.", reasoning="Its server parses it now.")
    assert [delta.text for delta in apart if delta.text] == ["It ", "is."]


@pytest.mark.anyio
async def test_a_model_that_no_longer_thinks_is_forgotten() -> None:
    """An answer without a closing tag is an answer, and the next one streams again."""
    await of("Hm.", "\n</think>\n", "Yes.")
    assert collected(await of("A plain ", "answer.")).text == "A plain answer."
    assert [delta.text for delta in await of("A plain ", "answer.") if delta.text] == ["A plain ", "answer."]


@pytest.mark.anyio
async def test_a_continuation_may_begin_with_thinking_or_with_a_quotation() -> None:
    """Thinking at the start of a continuation is reasoning, the white space behind it is the text's own, and the rest of a
    quoted tag is text."""
    said = {
        "<think>\nhm\n</think>\n\n  and so on": "  and so on",
        "<think>` tag.": "<think>` tag.",
        "<think>hm</think> so": " so",
    }
    for text, expected in said.items():
        model = Scripted(text, name="test/continues")
        request = Request.of([{"role": "user", "content": "How?"}, {"role": "assistant", "content": "Use the `"}])
        assert collected([delta async for delta in separated(model, request, model.stream(request))]).text == expected


def test_a_whole_text_is_split() -> None:
    """A text in one piece gives its answer and its thinking."""
    assert split("<think>a</think>\n\na") == ("a", "a")
    assert split("<think>a</think>b") == ("b", "a")
    assert split("plain") == ("plain", "")
