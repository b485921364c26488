from __future__ import annotations

import random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa import Mixture, Request, Scripted, fold
from moa.answers import Delta
from moa.mixture.repetition import STEP, WINDOW, Loops, Repetition
from tests.mixture.panels import events_of, model, prompt_of

SCRIPTS = {
    "Latin": "abcdefghijklmnopqrstuvwxyz",
    "Cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "Greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "Arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "Hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "Devanagari": "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह",
    "Chinese": "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会",
    "Japanese": "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん",
    "Thai": "กขคงจฉชซญดตถทธนบปผฝพฟภมยรลวศษสหอฮ",
    "Hangul": "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허",
}
UNSPACED = ("Chinese", "Japanese", "Thai")


def repeats(text: str, pieces: int = 0) -> bool:
    """Whether a text is a loop, fed whole or in pieces of so many characters."""
    repetition = Repetition()
    if not pieces:
        return repetition.feed(text)
    return any(repetition.feed(text[at : at + pieces]) for at in range(0, len(text), pieces))


def words(chance: random.Random, script: str, count: int) -> str:
    """Random words of a script."""
    between = "" if script in UNSPACED else " "
    return between.join("".join(chance.choices(SCRIPTS[script], k=chance.randint(2, 8))) for _ in range(count))


def prose(chance: random.Random, script: str, sentences: int = 12) -> str:
    """Random sentences of a script, each different."""
    return " ".join(f"{words(chance, script, chance.randint(4, 12))}." for _ in range(sentences))


@given(
    st.integers(0, 2**32).map(random.Random),
    st.sampled_from(sorted(SCRIPTS)),
    st.integers(1, 60),
    st.sampled_from(["", " ", "\n", "\n\n", "\n- "]),
)
def test_a_loop_is_found_in_any_script(chance: random.Random, script: str, count: int, between: str) -> None:
    """A word, a phrase, a line or a paragraph that repeats is found, and the text before it is no loop."""
    unit = words(chance, script, count) + between
    before = prose(chance, script)
    enough = max(24 * len(unit), 1500) + WINDOW // 8
    loop = before + unit * (enough // len(unit) + 1)
    assert not repeats(before)
    assert repeats(loop)


@given(st.integers(0, 2**32).map(random.Random), st.integers(1, 12), st.integers(1, 700))
def test_the_pieces_make_no_difference(chance: random.Random, count: int, pieces: int) -> None:
    """A loop is found at the same place however the text is cut."""
    text = "\n".join(f"{number}. {words(chance, 'Latin', 3)}" for number in range(9))
    unit = words(chance, "Latin", count)
    text += "".join(f"\n{number}. {unit}" for number in range(9, 500))
    whole, cut = Repetition(), Repetition()
    whole.feed(text)
    for at in range(0, len(text), pieces):
        cut.feed(text[at : at + pieces])
    assert (cut.unit, cut.length) == (whole.unit, whole.length) != ("", 0)


LOOPS = {
    "numbers alone": "1. ",
    "numbers without spaces": "1.",
    "a word": "court ",
    "the same letter": "G",
    "exclamation marks": "!",
    "a bulleted list": "- Save water\n",
    "two lines in turn": "Done.\nGoodbye.\n",
    "a sentence": "I'm sorry, I can't help with that. ",
    "a paragraph": "The model repeats one long paragraph, again and again, word for word, until its tokens are spent.\n\n",
    "a long paragraph": "It says: " + " ".join(f"reason{number}" for number in range(60)) + ".\n\n",
    "closing tags": "</invoke>\n</parameter>\n",
    "a phrase of Chinese": "我不知道该怎么说。",
    "code": "    x = x + 1\n",
    "a sentence of Chinese": "你可以通过向法国首制设的哪里！赢丧战争中明确地说，这就是某种族杀害者。",
    "figures": "3.14 2.72 1.41 1.73\n",
}
NUMBERED = {
    "a numbered list of one item": "{}. Save water by turning off the tap.\n",
    "a bold numbered list": "**{}.** Save water by turning off the tap.\n",
    "a numbered list with a heading": "{}) **Water**: turn off the tap.\n\n",
}


@pytest.mark.parametrize("unit", LOOPS.values(), ids=LOOPS)
def test_known_loops_are_found(unit: str) -> None:
    """Loops that models were seen to write are found, whole, in tokens and in characters, and behind a good text."""
    good = " ".join(f"word{number}" for number in range(900))
    text = unit * (7000 // len(unit))
    assert [repeats(text, pieces) for pieces in (0, 1, 4)] == [True] * 3
    assert repeats(f"{good}\n\n{text}")


@pytest.mark.parametrize("item", NUMBERED.values(), ids=NUMBERED)
def test_the_numbers_of_equal_list_items_do_not_hide_a_loop(item: str) -> None:
    """List items that differ in their numbers alone are a loop."""
    assert repeats("".join(item.format(number) for number in range(1, 90)))


@pytest.mark.parametrize("unit", LOOPS.values(), ids=LOOPS)
def test_a_text_that_was_cut_needs_fewer_repetitions(unit: str) -> None:
    """A loop that max_tokens has cut is found from a fifth of the length on, and only where its end repeats."""
    text = "There are many ways. " + unit * max(8, 500 // len(unit))
    for end, expected in (
        ("", unit not in (LOOPS["code"], LOOPS["closing tags"])),
        (" So much for that, in the end.", False),
    ):
        repetition = Repetition()
        assert not repetition.feed(text + end) or unit == LOOPS["a long paragraph"]
        assert repetition.end_cut() is expected or unit == LOOPS["a long paragraph"]


_CHANCE = random.Random(7)
_REFRAIN = (
    "Row, row, row your boat,\nGently down the stream,\nMerrily, merrily, merrily, merrily,\nLife is but a dream.\n\n"
)
_VERSES = [f"{prose(_CHANCE, 'Latin', 2)}\n{prose(_CHANCE, 'Latin', 2)}\n" for _ in range(8)]
_GIFTS = [
    "a partridge",
    "two doves",
    "three hens",
    "four birds",
    "five rings",
    "six geese",
    "seven swans",
    "eight maids",
    "nine ladies",
]

LEGITIMATE = {
    "a multiplication table": "".join(f"{a} x {b} = {a * b}\n" for a in range(1, 13) for b in range(1, 13)),
    "a multiplication table in words": "".join(
        f"{a} times {b} is {a * b}.\n" for a in range(1, 13) for b in range(1, 13)
    ),
    "a long table": "| name | yes | no |\n|------|-----|----|\n"
    + "".join(f"| item {n} | yes | no |\n" for n in range(200)),
    "a table of few values": "".join(
        f"| {_CHANCE.choice('ab')} | {_CHANCE.choice(('yes', 'no'))} |\n" for _ in range(200)
    ),
    "an empty table": "|     |     |     |     |\n" * 60,
    "a timetable": "".join(f"| {hour}:00 | free | free | free | free | free |\n" for hour in range(24)) * 2,
    "CSV": "".join(f"{n},{_CHANCE.randint(0, 9)},0,0,0,0\n" for n in range(300)),
    "JSON rows": "[\n" + "".join(f'  {{"id": {n}, "name": "x", "tags": [], "ok": true}},\n' for n in range(200)) + "]",
    "equal JSON rows": "```json\n[\n" + '  {"x": 0, "y": 0},\n' * 40 + "]\n```",
    "a matrix of zeros": "\n".join(" ".join("0" * 40) for _ in range(40)),
    "a matrix of zeros in brackets": "[" + ",".join("[" + ",".join("0" * 50) + "]" for _ in range(50)) + "]",
    "a row of zeros": "10 to the power of 800 is 1" + "0" * 800 + ".",
    "an identity matrix": "\n".join(" ".join("1" if a == b else "0" for b in range(30)) for a in range(30)),
    "separators": ("-" * 80 + "\n" + prose(_CHANCE, "Latin", 2) + "\n") * 3 + "=" * 400,
    "lines to fill in": "Name: " + "_" * 300 + "\n" + ("_" * 60 + "\n") * 20,
    "boxes to tick": "- [ ] \n" * 40,
    "a dump of zeros": "".join(
        f"{n * 16:08x}: 0000 0000 0000 0000 0000 0000 0000 0000  ................\n" for n in range(100)
    ),
    "a dump": "".join(
        f"{n * 16:08x}: " + " ".join(f"{_CHANCE.randrange(65536):04x}" for _ in range(8)) + "\n" for n in range(100)
    ),
    "DNA": "".join(_CHANCE.choices("ACGT", k=3000)),
    "a poly-A tail": "".join(_CHANCE.choices("ACGT", k=300)) + "A" * 250,
    "microsatellites": "".join("CA" * 60 + "".join(_CHANCE.choices("ACGT", k=40)) for _ in range(6)),
    "a song": "".join(verse + _REFRAIN for verse in _VERSES),
    "a cumulative song": "".join(
        f"On day {day} my true love gave to me\n" + "".join(f"{gift},\n" for gift in reversed(_GIFTS[:day])) + "\n"
        for day in range(1, 10)
    ),
    "a counting song": "".join(
        f"{n} bottles of beer on the wall, {n} bottles of beer.\nTake one down, pass it around.\n"
        for n in range(99, 0, -1)
    ),
    "a chorus": "Na, na na na-na-na na, na-na-na na, hey Jude\n" * 12,
    "laughter": "Ha" * 40 + "! " + "ha " * 30,
    "a round": _REFRAIN * 3,
    "a sentence many times, and then the end": "Each part is looked at in turn. " * 40 + "The bridge holds.",
    "a log": "".join(f"2026-01-01 12:{n // 60:02}:{n % 60:02} INFO worker-{n % 4} heartbeat ok\n" for n in range(400)),
    "a list of answers": "".join(f"{n}. {_CHANCE.choice(('True', 'False'))}\n" for n in range(1, 200)),
    "a list of names to fill in": "".join(f"{n}. [Name]\n" for n in range(1, 41)),
    "a recipe": "".join(f"{n}. Stir for {n} minutes, then add {n * 10} g of flour.\n" for n in range(1, 60)),
    "code with equal lines": "```python\n" + "print()\n" * 40 + "x = [\n" + "    0,\n" * 200 + "]\n```",
    "assembler": "".join("    nop\n" * 12 + f"    mov eax, {n}\n" for n in range(30)),
    "closing brackets": "{" * 60 + "}" * 60 + "\n" + "".join(" " * n + "}\n" for n in range(40, 0, -1)),
    "HTML": "<ul>\n" + "".join(f'  <li class="item"><a href="#{n}">Item</a></li>\n' for n in range(150)) + "</ul>",
    "LaTeX": r"\begin{pmatrix} " + r" \\ ".join(" & ".join("0" * 20) for _ in range(20)) + r" \end{pmatrix}",
    "a sum": " + ".join(f"x_{{{n}}}" for n in range(300)),
    "an equation by steps": "".join(
        f"x_{n + 1} = x_{n} - f(x_{n}) / f'(x_{n}) = {1.5 + 1 / (n + 2):.6f}\n" for n in range(80)
    ),
    "a drawing": "\n".join(" " * (30 - n) + "*" * (2 * n + 1) for n in range(30)) + "\n" + (" " * 80 + "\n") * 30,
    "a chessboard": "\n".join("# " * 20 if n % 2 else " #" * 20 for n in range(20)),
    "the decimals of 1/7": "0." + "142857" * 50,
    "a sutra": "南無阿弥陀仏、" * 8,
    "the alphabet": ("abcdefghijklmnopqrstuvwxyz " * 6 + "\n") * 2,
    "steps of Hanoi": "".join(
        f"Move disk {(n & -n).bit_length()} from {'ABC'[n % 3]} to {'ABC'[(n + 1) % 3]}.\n" for n in range(1, 256)
    ),
}


@pytest.mark.parametrize("text", LEGITIMATE.values(), ids=LEGITIMATE)
def test_repetition_that_is_meant_is_no_loop(text: str) -> None:
    """Tables, code, verse, lists, logs, numbers and drawings repeat much, and are not taken for loops."""
    for around in ("", prose(random.Random(3), "Latin")):
        assert not repeats(f"{around}{text}{around}"), around


def test_a_repetition_that_the_user_asks_for_is_no_loop() -> None:
    """A question with a number and all the words of what repeats allows that many repetitions."""
    line = "I must not talk in class.\n"
    question = "Write 'I must not talk in class' 80 times."
    assert not Repetition(question).feed(line * 80)
    assert Repetition(question).feed(line * 300)
    assert Repetition("Write something.").feed(line * 80)


def test_the_memory_is_bounded() -> None:
    """However long a text is, only its end is kept."""
    chance, repetition = random.Random(1), Repetition()
    for _ in range(40):
        repetition.feed(prose(chance, "Latin", 40))
    assert sum(len(value) for value in vars(repetition).values() if isinstance(value, str)) <= WINDOW + 2 * STEP + 64


def test_the_text_before_a_loop_is_found() -> None:
    """What a looping text says up to its first repetition is kept."""
    loops, before = Loops(), "There are three ways to save water, and the first is this one: "
    text = before + "turn off the tap, " * 120
    for piece in text.split(" "):
        loops.add(Delta(f"{piece} "))
    assert loops.reason == "it repeats itself"
    kept = loops.before(text)
    assert kept.startswith(before.strip()) and len(kept) < len(before) + 100


GOOD = "Fix the leaking tap, take short showers, and water the garden in the evening."
LOOP = "1. " * 900


@pytest.mark.anyio
async def test_a_proposal_that_loops_is_dropped_and_closed() -> None:
    """The call ends soon after the loop begins, with the reason; the aggregator reads the other proposal alone."""
    looping, last = model(LOOP, "scripted/loop"), model("merged", "scripted/last")
    answer = fold(await events_of(Mixture([[looping, model(GOOD)]], last)))
    assert answer.text == "merged"
    assert answer.degraded == ("loop (layer 1) was dropped: it repeats itself",)
    assert "1. 1." not in prompt_of(last)
    [dropped] = [call for call in answer.calls if call.agent == "loop"]
    assert len(dropped.text) < 1400 and looping.cancelled == 1


@pytest.mark.anyio
async def test_central_does_not_choose_a_loop() -> None:
    """Two of three samples loop alike, and the third one is the answer."""
    layer = [model(LOOP, "x/a"), model(GOOD, "x/b"), model(LOOP, "x/c")]
    assert fold(await events_of(Mixture([layer], model("", "x/last"), aggregate="central"))).text == GOOD


@pytest.mark.parametrize("aggregate", ["synthesize", "central"])
@pytest.mark.anyio
async def test_loops_are_used_where_nothing_else_is_left(aggregate: Literal["synthesize", "central"]) -> None:
    """Where every proposal loops, what they say before is used, marked as cut, and ``degraded`` says so."""
    said = f"{GOOD} And then, and then. "
    mixture = Mixture(
        [[model(said + LOOP, "x/a"), model(said + LOOP, "x/b")]], model("merged", "x/last"), aggregate=aggregate
    )
    answer = fold(await events_of(mixture))
    assert answer.text == "merged" if aggregate == "synthesize" else answer.text.startswith(GOOD)
    assert len(answer.text) < 200
    assert "proposals that repeat themselves are used, since too few others are left" in answer.degraded


@pytest.mark.anyio
async def test_an_earlier_layer_is_used_before_a_loop() -> None:
    """Where all of the last layer loops, the proposals of the layer before are what the answer is made from."""
    last = model("merged", "x/last")
    answer = fold(await events_of(Mixture([[model(GOOD, "x/a")], [model(f"{GOOD} {LOOP}", "x/b")]], last)))
    assert answer.text == "merged" and GOOD in prompt_of(last) and "1. 1." not in prompt_of(last)


@pytest.mark.anyio
async def test_an_answer_that_loops_is_stopped() -> None:
    """The answer ends with the finish reason ``length``, and ``degraded`` gives the reason; no fallback is called for it."""
    long = " ".join(f"word{number}" for number in range(100))
    spare = model("spare", "x/spare")
    answer = fold(await events_of(Mixture([], model(f"{long} {LOOP}", "x/last"), fallbacks=[spare])))
    assert answer.text.startswith(long) and len(answer.text) < len(long) + 1400
    assert (answer.finish_reason, answer.degraded) == ("length", ("last was stopped: it repeats itself",))
    assert not spare.requests


@pytest.mark.parametrize("looping", [Scripted(LOOP, name="x/last"), Scripted("never", reasoning=LOOP, name="x/last")])
@pytest.mark.anyio
async def test_a_fallback_answers_where_nothing_sensible_was_said(looping: Scripted) -> None:
    """An aggregator that only loops, in its text or in its reasoning, is dropped for a fallback."""
    answer = fold(await events_of(Mixture([], looping, fallbacks=[model("spare", "x/spare")])))
    assert answer.text == "spare"
    assert answer.degraded[0].startswith("last (layer 1) was dropped: it repeats itself")


@pytest.mark.anyio
async def test_a_streamed_answer_that_loops_is_stopped_where_it_is() -> None:
    """A reader who has seen the text gets no second answer; one who has seen reasoning alone does."""
    for looping, text in (
        (Scripted(LOOP, name="x/last"), "1."),
        (Scripted("never", reasoning=LOOP, name="x/last"), "spare"),
    ):
        run = Mixture([], looping, fallbacks=[model("spare", "x/spare")]).run("Why?", restart=False)
        async for _ in run:
            pass
        assert run.answer.text.startswith(text) and run.answer.error is None


@pytest.mark.anyio
async def test_reasoning_that_loops_without_a_fallback_ends_like_max_tokens() -> None:
    """The answer is empty, with the finish reason ``length``, as where all tokens were spent on reasoning."""
    answer = fold(await events_of(Mixture([], Scripted("never", reasoning=LOOP, name="x/last"))))
    assert (answer.text, answer.finish_reason, answer.error) == ("", "length", None)
    assert answer.degraded == ("last was stopped: it repeats itself while reasoning",)


@pytest.mark.anyio
async def test_a_proposal_that_max_tokens_cut_in_a_loop_is_dropped() -> None:
    """A short loop at the end of a cut text drops the proposal; a cut answer is kept."""
    short = f"{GOOD} {'and so on ' * 40}"
    cut = model(short, "x/cut", finish_reason="length")
    answer = fold(await events_of(Mixture([[cut, model(GOOD)]], model(short, "x/last", finish_reason="length"))))
    assert answer.degraded == (
        "cut (layer 1) was dropped: it repeats itself",
        "last was stopped: it repeats itself",
    )
    assert (answer.text, answer.finish_reason) == (short, "length")


@pytest.mark.anyio
async def test_a_question_may_ask_for_repetition() -> None:
    """An agent may repeat what the user asks for."""
    text = "I must not talk in class.\n" * 80
    request = Request.of("Write 'I must not talk in class' 80 times.")
    answer = fold([event async for event in Mixture([[model(text)]], model(text, "x/last")).run(request)])
    assert (answer.text, answer.degraded) == (text, ())


@pytest.mark.parametrize("where", ["{asks}\n{document}", "{document}\n{asks}"])
def test_repetitions_may_be_asked_for_at_either_end_of_a_document(where: str) -> None:
    """A long question is not read in its middle, where its document is."""
    question = where.format(asks="Write 'I must not talk in class' 80 times.", document="Lorem ipsum. " * 5000)
    repetition = Repetition(question)
    assert not repetition.feed("I must not talk in class. " * 79)
    assert Repetition("Lorem ipsum. " * 5000).feed("I must not talk in class. " * 79)
