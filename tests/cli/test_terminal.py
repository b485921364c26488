"""``moa ask`` on real terminals of several sizes, and text that is safe to print there."""

from __future__ import annotations

import asyncio
import errno
import io
import re
import signal
from pathlib import Path

import pytest

from moa.cli.prose import Prose
from moa.cli.terminal import clean, write
from moa.errors import MoaError
from tests.fakes.terminal import ESCAPE, Terminal
from tests.fakes.upstream import Upstream, drop, hang, refuse, say, think, words
from tests.fakes.waiting import PATIENCE

pytestmark = pytest.mark.anyio

ASK = ("ask", "--config")


# -- ask, on a terminal ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 12)])
async def test_a_terminal_shows_proposals_then_the_answer_once(config: str, columns: int, lines: int) -> None:
    """Each proposal has a panel, above the answer in Markdown and a line with the figures of the run."""
    async with Terminal(*ASK, config, "How many?", columns=columns, lines=lines) as terminal:
        assert await terminal.end() == 0
        shown, drawn = terminal.text, ESCAPE.sub("", terminal.raw)
    assert shown.index("✓ ann") < shown.rindex("── boss") < shown.rindex("It is four.")
    assert shown.rindex("Bob thinks five.") < shown.rindex("── boss")
    assert "**" not in shown[shown.rindex("── boss") :]
    assert re.search(r"3 calls · 45 tokens · \$0\.0045 · first\s+token [\d.]+ s · [\d.]+ s in total\n$", shown)
    assert max(map(len, drawn.splitlines())) <= columns


async def test_the_live_region_never_fills_the_window(config: str, upstream: Upstream) -> None:
    """However long the texts are, fewer lines are redrawn than the window has."""
    for model in ("ann", "bob", "boss"):
        upstream.script(model, say("\n\n".join(f"Line {number} of many words." for number in range(60)), pace=0.002))
    async with Terminal(*ASK, config, "-m", "tower", "Write.", columns=50, lines=12) as terminal:
        assert await terminal.end() == 0
        drawn = max(run.count("\x1b[1A") for run in re.findall(r"(?:\x1b\[1A\x1b\[2K)+", terminal.raw))
        answer = terminal.text[terminal.text.index("── boss") :]
    assert drawn < 12
    assert [answer.count(f"Line {number} of many words.") >= 1 for number in range(60)] == [True] * 60


async def test_long_proposals_are_shortened_by_default(config: str, upstream: Upstream) -> None:
    """A long proposal ends in "… +N lines"; --show proposals shows all of it, --show answer nothing."""
    upstream.script("ann", say("\n\n".join(f"Point {number}." for number in range(20))))
    for show, some, every in ((None, True, False), ("proposals", True, True), ("answer", False, False)):
        option = ("--show", show) if show else ()
        async with Terminal(*ASK, config, *option, "How many?", lines=15) as terminal:
            assert await terminal.end() == 0
            shown = terminal.text
        settled = shown[shown.rindex("✓ ann") : shown.rindex("It is four.")] if some else shown
        assert ("Point 0." in settled, "Point 12." in settled) == (some, every), show
        assert ("lines" in settled) == (some and not every), show


async def test_no_color_removes_the_colours(config: str) -> None:
    """A terminal gets colour codes, but none if NO_COLOR is set."""
    colours = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38|4[0-7])(?:;\d+)*m")
    async with Terminal(*ASK, config, "How many?", env={"NO_COLOR": "1"}) as terminal:
        assert await terminal.end() == 0
        assert "Ann" in terminal.text and not colours.search(terminal.raw)
    async with Terminal("mixtures", "--config", config) as terminal:
        assert await terminal.end() == 0
        assert colours.search(terminal.raw)


async def test_a_terminal_that_cannot_redraw_gets_plain_text(config: str, upstream: Upstream) -> None:
    """With TERM=dumb only the answer is printed, as in a pipe, but without anything that a terminal would obey."""
    upstream.script("boss", say("It is \x1b[31mfour\x07."))
    async with Terminal(*ASK, config, "How many?", env={"TERM": "dumb"}) as terminal:
        assert await terminal.end() == 0
        assert "\x1b" not in terminal.raw and "\x07" not in terminal.raw
        assert terminal.text.startswith("It is ")


async def test_models_cannot_command_the_terminal(config: str, upstream: Upstream) -> None:
    """No escape sequence, control character, bidi override or Rich markup of a model takes effect on the terminal."""
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m \x1b[31mred\x1b[0m [bold]kept[/bold] [link=x]y \u202egnihton\x08 \x1bc end"
    upstream.script("ann", think(evil, evil))
    upstream.script("bob", refuse(400, evil))
    upstream.script("boss", say(evil))
    async with Terminal(*ASK, config, evil) as terminal:
        assert await terminal.end() == 0
        assert not re.search(r"\x1b\]|\x1b\[2J|\x9b|\x07|\x08|\u202e|\x1bc", terminal.raw)
        assert "owned" not in terminal.text
        assert "[bold]kept[/bold] [link=x]y" in terminal.text


async def test_a_selected_answer_names_its_proposer(config: str) -> None:
    """If the answer is a proposal, the line above it names the proposer and how it was selected."""
    async with Terminal(*ASK, config, "-m", "pick", "How many?") as terminal:
        assert await terminal.end() == 0
        assert "── ann’s proposal, word for word: most like the other proposals" in terminal.text


async def test_a_failed_run_leaves_its_proposals_on_the_screen(config: str, upstream: Upstream) -> None:
    """If the aggregator fails, the proposals stay on the screen, and the error gives their cost."""
    upstream.script("boss", refuse(400, "not today"))
    async with Terminal(*ASK, config, "How many?", columns=120) as terminal:
        assert await terminal.end() == 1
        shown = terminal.text
    assert shown.rindex("Ann thinks four.") < shown.index("moa: no answer: the aggregator failed")
    assert "boss: up/boss: 400 Bad Request: not today" in shown
    assert re.search(r"2 proposals above \((at least )?\$[\d.]+\)", shown)


async def test_a_fallback_starts_below_the_failed_text(config: str, upstream: Upstream) -> None:
    """On a terminal a fallback may restart the answer: the failed text stays above it, with a line between."""
    upstream.script("boss", words("It is probably") + drop())
    async with Terminal(*ASK, config, "-m", "tower", "How many?", columns=100) as terminal:
        assert await terminal.end() == 0
        shown = terminal.text
    seen = [shown.rindex(text) for text in ("It is p", "✗ boss failed here", "── bob", "Bob thinks five.")]
    assert seen == sorted(seen)


async def test_ctrl_c_on_a_terminal_keeps_the_text(config: str, upstream: Upstream) -> None:
    """Ctrl-C cancels the calls, leaves proposals and the text so far on the screen, and exits 130."""
    upstream.script("boss", words("It is probably") + hang())
    async with Terminal(*ASK, config, "How many?") as terminal:
        await terminal.until("probably")
        terminal.type("\x03")
        assert await terminal.end() == 130
        shown, raw = terminal.text, terminal.raw
        async with asyncio.timeout(PATIENCE):
            await upstream.calls("boss")[0].disconnected.wait()
    assert shown.endswith("moa: interrupted\n")
    assert shown.rindex("Bob thinks five.") < shown.rindex("It is probably")
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l"), "the cursor is shown again"


# -- pieces ----------------------------------------------------------------------------------------------------------
def test_clean_keeps_text_and_drops_control_sequences() -> None:
    """Newlines, tabs and all letters stay; all control sequences go, and removing one never forms another."""
    assert clean("a\tb\nc é 漢 🙂") == "a\tb\nc é 漢 🙂"
    assert clean("\x1b\x1b[0m[31mred") == "[31mred"
    assert clean("\x1b]8;;http://x\x1b\\link\x1b]8;;\x07!\r\n\x9d0;t\x9c\ud800") == "link!\n"


def test_growing_markdown_is_returned_once() -> None:
    """However an answer is split into pieces, its settled blocks and the remainder are the answer, in order, once."""
    table, code = "| a |\n|---|\n| 1 |", "```py\nx = 1\n\ny = 2\n```"
    text = "\n\n".join(("# T", "para one\ngoes on", "- a\n- b\n\n  more b", "1. x\n\n2. y", code, table, "end"))
    for size in (1, 3, 7, 1000):
        prose, given = Prose(), list[str]()
        for start_ in range(0, len(text), size):
            prose.add(text[start_ : start_ + size])
            given += filter(None, [prose.settled()])
        given.append(prose.remainder())
        assert re.sub(r"\n+", "\n", "\n".join(given)) == re.sub(r"\n+", "\n", text)
        assert all(block.count("```") in (0, 2) for block in given)
        assert all("- a" not in block or "more b" in block for block in given)


# -- what an answer holds --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "Use List<String> and std::vector<int>.",
        "Press <enter>, then <kbd>x</kbd> and type <your name>.",
        "<details>",
        "<!-- a comment -->",
        r"Then $\\int_0^1 x\,dx$ and $\{a_1, b_1\}$ hold.",
        r"So $a*b*c$, \(x\,y\) and \[\{z\}\] hold.",
        r"$$\frac{a}{b}\;\%$$",
        "It costs $5 or $10.",
    ],
)
async def test_angle_brackets_and_formulas_are_shown_as_they_are(config: str, upstream: Upstream, text: str) -> None:
    """Nothing that stands in angle brackets is left out, and formulas keep their backslashes and stars."""
    upstream.script("bob", say(f"{text}\n"))
    async with Terminal(*ASK, config, "-m", "up/bob", "Q", columns=100) as terminal:
        assert await terminal.end() == 0
        assert text in terminal.text


def test_a_formula_of_several_lines_is_one_block() -> None:
    """Blank lines, signs of lists and underlines do not end a formula; it settles as a whole."""
    prose = Prose()
    prose.add("Before.\n\n$$\na\n\n= b\n- c\n")
    assert prose.settled().strip() == "Before."
    prose.add("$$\n\nAfter.\n")
    assert prose.settled() == "$$\na\n\n= b\n- c\n$$"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_that_ends_the_program_leaves_the_cursor(
    config: str, upstream: Upstream, number: signal.Signals
) -> None:
    """The cursor is shown again, the call is closed, and the program ends by the signal."""
    upstream.script("bob", words("It is probably") + hang())
    async with Terminal(*ASK, config, "-m", "up/bob", "Q") as terminal:
        await terminal.until("It is probably")
        terminal.process.send_signal(number)
        await terminal.end()
        assert terminal.raw.rfind("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l")
        assert abs(terminal.process.returncode or 0) in (number, 128 + number)
    async with asyncio.timeout(PATIENCE):
        await upstream.calls("bob")[0].disconnected.wait()


class _Full(io.StringIO):
    """A stream on a disk without space."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_output_that_cannot_be_written_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk is no unexpected error."""
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr("sys.stdout", _Full(file.fileno()))
        with pytest.raises(MoaError, match="standard output cannot be written: No space left on device"):
            write("An answer.")
