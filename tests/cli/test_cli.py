"""The command as its users meet it: real processes, real terminals, a real (scripted) server."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import subprocess
from pathlib import Path

import pytest

from moa.cli.prose import Prose
from moa.cli.terminal import clean
from tests.fakes.processes import command
from tests.fakes.terminal import ESCAPE, Terminal, environment, run, start
from tests.fakes.upstream import Upstream, drop, hang, refuse, say, think, until, words

pytestmark = pytest.mark.anyio

TOML = """
default = "duo"

[endpoints.up]
base_url = "{base_url}"
attempts = 1

[endpoints.dead]
base_url = "http://127.0.0.1:9/v1"
attempts = 1

[mixtures.duo]
description = "two and one"
layers = [["up/ann", "up/bob"]]
aggregator = "up/boss"

[mixtures.pick]
layers = [["up/ann", "up/bob"]]
aggregator = "up/boss"
aggregate = "central"

[mixtures.tower]
layers = [["up/ann", {{ model = "up/bob", persona = "You are brief.", temperature = 0.2 }}], ["up/ann"]]
aggregator = {{ model = "up/boss", fallbacks = ["up/bob"] }}
deadline = 30

[mixtures.ill]
layers = [["groq/llama", "up/anne", "up/bob", "dead/x"]]
aggregator = "up/boss"

[mixtures.keyless]
layers = [["up/ann", "groq/llama"]]
aggregator = "up/boss"

[mixtures.lonely]
layers = [["dead/ann"]]
aggregator = "dead/boss"

[prices."up/*"]
input = 100
output = 100
"""

ASK = ("ask", "--config")


@pytest.fixture
def config(upstream: Upstream, tmp_path: Path) -> str:
    """A moa.toml with a few mixtures on the scripted server, whose models answer well."""
    upstream.script("ann", say("Ann thinks four."))
    upstream.script("bob", say("Bob thinks five."))
    upstream.script("boss", say("It is **four**."))
    path = tmp_path / "moa.toml"
    path.write_text(TOML.format(base_url=upstream.base_url))
    return str(path)


# -- ask, in a pipe ---------------------------------------------------------------------------------------------------


async def test_a_pipe_gets_the_answer_and_nothing_else(config: str) -> None:
    """Standard output holds the answer's text and a newline, standard error nothing."""
    ended = await run(*ASK, config, "How", "many?")
    assert (ended.code, ended.out, ended.err) == (0, "It is **four**.\n", "")


async def test_words_reach_a_pipe_as_they_come(config: str, upstream: Upstream) -> None:
    """The first words are there while the model still writes the rest."""
    rest = asyncio.Event()
    upstream.script("boss", words("First ") + until(rest) + say("second."))
    process = await start(*ASK, config, "How many?")
    assert process.stdout
    async with asyncio.timeout(30):
        assert await process.stdout.read(5) == b"First"
        rest.set()
        assert await process.stdout.read() == b" second.\n"
        assert await process.wait() == 0


async def test_proposals_stand_under_headings_where_they_are_asked_for(config: str) -> None:
    """--show proposals in a pipe puts each proposal, and the answer, under a line that says whose it is."""
    ended = await run(*ASK, config, "--show", "proposals", "How many?")
    assert ended.code == 0
    proposals, _, answer = ended.out.partition("## answer\n\n")
    assert answer == "It is **four**.\n"
    assert sorted(re.split(r"(?=^## )", proposals, flags=re.MULTILINE)[1:]) == [
        "## ann (up/ann), layer 1\n\nAnn thinks four.\n\n",
        "## bob (up/bob), layer 1\n\nBob thinks five.\n\n",
    ]


async def test_what_is_less_than_promised_is_told_on_standard_error(config: str, upstream: Upstream) -> None:
    """A proposer that failed leaves the answer whole and one line on standard error."""
    upstream.script("bob", refuse(400, "\x1b[31mno such luck"))
    ended = await run(*ASK, config, "How many?")
    assert (ended.code, ended.out) == (0, "It is **four**.\n")
    assert ended.err.startswith("moa: bob (layer 1) failed: up/bob: 400 Bad Request: no such luck")
    assert "\x1b" not in ended.err


async def test_colours_stay_out_of_a_pipe_even_when_forced(config: str) -> None:
    """FORCE_COLOR does not put escape codes where no terminal is."""
    for args in ((*ASK, config, "Hi"), ("show", "duo", "--config", config)):
        ended = await run(*args, env={"FORCE_COLOR": "1"})
        assert ended.code == 0
        assert "\x1b" not in ended.out + ended.err


async def test_a_reader_who_leaves_ends_the_run_quietly(config: str, upstream: Upstream) -> None:
    """moa ask … | head -1 says nothing about the closed pipe, and the upstream call is cancelled."""
    upstream.script("boss", words("one\n") + words("two " * 5000, pace=0.005))
    shell = " ".join([*command(*ASK, config, "Count."), "| head -1"])
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_shell(shell, stdout=pipe, stderr=pipe, env=environment())
    async with asyncio.timeout(30):
        out, err = await process.communicate()
        await upstream.calls("boss")[0].disconnected.wait()
    assert (out, err) == (b"one\n", b"")


async def test_json_is_one_event_a_line(config: str) -> None:
    """--json prints every event from run_started to run_finished, and exits 0."""
    ended = await run(*ASK, config, "--json", "How many?")
    events = [json.loads(line) for line in ended.out.splitlines()]
    assert (ended.code, ended.err) == (0, "")
    assert (events[0]["event"], events[-1]["event"]) == ("run_started", "run_finished")
    assert "".join(event.get("text", "") for event in events if event.get("agent") == "boss") == "It is **four**."


async def test_json_of_a_failed_run_ends_with_run_failed(config: str, upstream: Upstream) -> None:
    """A run without an answer ends with a run_failed line and exit code 1."""
    upstream.script("boss", refuse(400, "no"))
    ended = await run(*ASK, config, "--json", "How many?")
    assert ended.code == 1
    assert json.loads(ended.out.splitlines()[-1])["event"] == "run_failed"


async def test_a_failed_run_names_its_causes_a_line_each(config: str) -> None:
    """When nobody answers, each cause has its line, nothing is on standard output, and the exit code is 1."""
    ended = await run(*ASK, config, "-m", "lonely", "How many?")
    assert (ended.code, ended.out) == (1, "")
    first, cause, *_ = ended.err.splitlines()
    assert first == "moa: no answer: no usable proposal in layer 1"
    assert "ann (layer 1)" in cause and "127.0.0.1:9" in cause and "server running" in cause


async def test_words_that_were_printed_are_not_said_again(config: str, upstream: Upstream) -> None:
    """An aggregator that breaks off in a pipe is not followed by a fallback that starts anew."""
    upstream.script("boss", words("It is ") + drop())
    ended = await run(*ASK, config, "-m", "tower", "How many?")
    assert (ended.code, ended.out) == (1, "It is \n")
    assert "the aggregator failed" in ended.err


async def test_a_selected_proposal_is_the_answer(config: str) -> None:
    """A mixture that selects prints the proposal that it chose."""
    ended = await run(*ASK, config, "-m", "pick", "How many?")
    assert (ended.code, ended.out) == (0, "Ann thinks four.\n")


async def test_a_single_model_answers_alone(config: str, upstream: Upstream) -> None:
    """-m provider/name asks that model, once."""
    ended = await run(*ASK, config, "-m", "up/bob", "How many?")
    assert (ended.code, ended.out) == (0, "Bob thinks five.\n")
    assert [call.model for call in upstream.requests] == ["bob"]


# -- where the question comes from --------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [(), ("-",)])
async def test_a_question_can_be_piped_in(config: str, upstream: Upstream, args: tuple[str, ...]) -> None:
    """Without an argument, or with -, the question is what standard input holds."""
    assert (await run(*ASK, config, *args, stdin="Wie viele Füße?\n".encode())).code == 0
    assert upstream.calls("ann")[0].prompt == "Wie viele Füße?\n"


async def test_a_question_can_be_in_a_file(config: str, upstream: Upstream, tmp_path: Path) -> None:
    """@file asks what the file holds; a byte order mark is no part of it."""
    (tmp_path / "question.md").write_bytes(b"\xef\xbb\xbfHow many?")
    assert (await run(*ASK, config, f"@{tmp_path}/question.md")).code == 0
    assert upstream.calls("ann")[0].prompt == "How many?"


@pytest.mark.parametrize(
    ("args", "stdin", "told"),
    [
        (("-m", "dou", "Hi"), b"", "no mixture is called 'dou'; did you mean 'duo'?"),
        (("-m", "grok/llama", "Hi"), b"", "no provider is called 'grok'; did you mean 'groq'?"),
        (("-m", "groq/llama", "Hi"), b"", "GROQ_API_KEY"),
        (("-m", "keyless", "Hi"), b"", "GROQ_API_KEY"),
        (("@missing.md",), b"", "the file 'missing.md' cannot be read: No such file or directory"),
        (("",), b"", "the question is empty"),
        ((), b" \n", "the question is empty"),
        ((), b"\xff\xfe", "standard input is not UTF-8 text (byte 0)"),
        (("--shwo", "answer", "Hi"), b"", "No such option: --shwo"),
        (("--show", "all", "Hi"), b"", "'all' is not one of 'proposals', 'answer'"),
    ],
)
async def test_wrong_usage_is_one_line_and_exit_code_2(
    config: str, args: tuple[str, ...], stdin: bytes, told: str
) -> None:
    """What is wrong with a command is said in one line that names it; nothing is asked, and no traceback is shown."""
    ended = await run(*ASK, config, *args, stdin=stdin)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("moa: ") and ended.err.count("\n") == 1 and told in ended.err


async def test_an_unknown_command_is_exit_code_2() -> None:
    """A command that does not exist is named."""
    ended = await run("aks", "Hi")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("moa: No such command 'aks'")


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[mixtures.x]\nlayers = [[", "moa.toml:2: not valid TOML"),
        ('[mixtures.x]\nlayers = [["a/b"]]\nagregator = "a/b"', "moa.toml:3: mixtures.x.agregator: no such field"),
    ],
)
async def test_an_error_in_the_file_names_its_place(tmp_path: Path, toml: str, told: str) -> None:
    """A mistake in moa.toml is told with file, line and field."""
    (tmp_path / "moa.toml").write_text(toml)
    ended = await run("ask", "--config", str(tmp_path / "moa.toml"), "Hi")
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err and "Traceback" not in ended.err


async def test_where_an_error_comes_from_is_shown_when_asked_for(config: str) -> None:
    """MOA_DEBUG=1 adds the traceback."""
    ended = await run(*ASK, config, "-m", "dou", "Hi", env={"MOA_DEBUG": "1"})
    assert ended.code == 2
    assert "Traceback" in ended.err


async def test_ctrl_c_cancels_the_calls_and_exits_130(config: str, upstream: Upstream) -> None:
    """An interruption in a pipe closes the upstream calls at once and says so in one line."""
    upstream.script("ann", hang())
    upstream.script("bob", hang())
    process = await start(*ASK, config, "How many?")
    async with asyncio.timeout(30):
        while upstream.open_calls < 2:  # noqa: ASYNC110 - the server has no event for this
            await asyncio.sleep(0.01)
        process.send_signal(2)
        out, err = await process.communicate()
        for call in upstream.requests:
            await call.disconnected.wait()
    assert (process.returncode, out, err) == (130, b"", b"moa: interrupted\n")


# -- ask, on a terminal -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 12)])
async def test_a_terminal_shows_proposals_then_the_answer_once(config: str, columns: int, lines: int) -> None:
    """Each proposal stands in a panel of its own, before the answer in Markdown and a line about what it took."""
    async with Terminal(*ASK, config, "How many?", columns=columns, lines=lines) as terminal:
        assert await terminal.end() == 0
        shown, drawn = terminal.text, ESCAPE.sub("", terminal.raw)
    assert shown.index("✓ ann") < shown.rindex("── boss") < shown.rindex("It is four.")
    assert shown.rindex("Bob thinks five.") < shown.rindex("── boss")
    assert "**" not in shown[shown.rindex("── boss") :]
    assert re.search(r"3 calls · 45 tokens · \$0\.0045 · first\s+token [\d.]+ s · [\d.]+ s in total\n$", shown)
    assert max(map(len, drawn.splitlines())) <= columns


async def test_the_live_region_never_fills_the_window(config: str, upstream: Upstream) -> None:
    """However much is written, no more lines are drawn anew than the window has."""
    for model in ("ann", "bob", "boss"):
        upstream.script(model, say("\n\n".join(f"Line {number} of many words." for number in range(60)), pace=0.002))
    async with Terminal(*ASK, config, "-m", "tower", "Write.", columns=50, lines=12) as terminal:
        assert await terminal.end() == 0
        drawn = max(run.count("\x1b[1A") for run in re.findall(r"(?:\x1b\[1A\x1b\[2K)+", terminal.raw))
        answer = terminal.text[terminal.text.index("── boss") :]
    assert drawn < 12
    assert [answer.count(f"Line {number} of many words.") >= 1 for number in range(60)] == [True] * 60


async def test_long_proposals_are_shortened_unless_asked_for(config: str, upstream: Upstream) -> None:
    """A long proposal ends in "… +N lines"; with --show proposals it is whole; with --show answer it is not there."""
    upstream.script("ann", say("\n\n".join(f"Point {number}." for number in range(20))))
    for show, some, every in ((None, True, False), ("proposals", True, True), ("answer", False, False)):
        option = ("--show", show) if show else ()
        async with Terminal(*ASK, config, *option, "How many?", lines=15) as terminal:
            assert await terminal.end() == 0
            shown = terminal.text
        settled = shown[shown.rindex("✓ ann") : shown.rindex("It is four.")] if some else shown
        assert ("Point 0." in settled, "Point 12." in settled) == (some, every), show
        assert ("lines" in settled) == (some and not every), show


async def test_no_color_takes_the_colours(config: str) -> None:
    """With NO_COLOR set a terminal gets no colour codes, and without it some."""
    colours = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38|4[0-7])(?:;\d+)*m")
    async with Terminal(*ASK, config, "How many?", env={"NO_COLOR": "1"}) as terminal:
        assert await terminal.end() == 0
        assert "Ann" in terminal.text and not colours.search(terminal.raw)
    async with Terminal("mixtures", "--config", config) as terminal:
        assert await terminal.end() == 0
        assert colours.search(terminal.raw)


async def test_a_terminal_that_cannot_draw_gets_plain_words(config: str, upstream: Upstream) -> None:
    """With TERM=dumb there is only the answer's text, as in a pipe, still without what a terminal would obey."""
    upstream.script("boss", say("It is \x1b[31mfour\x07."))
    async with Terminal(*ASK, config, "How many?", env={"TERM": "dumb"}) as terminal:
        assert await terminal.end() == 0
        assert "\x1b" not in terminal.raw and "\x07" not in terminal.raw
        assert terminal.text.startswith("It is ")


async def test_models_cannot_command_the_terminal(config: str, upstream: Upstream) -> None:
    """No escape sequence, control character, bidi override or Rich markup of a model reaches the terminal as such."""
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m \x1b[31mred\x1b[0m [bold]kept[/bold] [link=x]y \u202egnihton\x08 \x1bc end"
    upstream.script("ann", think(evil, evil))
    upstream.script("bob", refuse(400, evil))
    upstream.script("boss", say(evil))
    async with Terminal(*ASK, config, evil) as terminal:
        assert await terminal.end() == 0
        assert not re.search(r"\x1b\]|\x1b\[2J|\x9b|\x07|\x08|\u202e|\x1bc", terminal.raw)
        assert "owned" not in terminal.text
        assert "[bold]kept[/bold] [link=x]y" in terminal.text


async def test_a_selection_says_whose_proposal_it_is(config: str) -> None:
    """Where the answer is a proposal, the line above it names the proposer and how it was chosen."""
    async with Terminal(*ASK, config, "-m", "pick", "How many?") as terminal:
        assert await terminal.end() == 0
        assert "── ann’s proposal, word for word: most like the other proposals" in terminal.text


async def test_a_failed_run_keeps_what_was_paid_for(config: str, upstream: Upstream) -> None:
    """When the aggregator fails, the proposals stay on the screen and the error says so."""
    upstream.script("boss", refuse(400, "not today"))
    async with Terminal(*ASK, config, "How many?", columns=120) as terminal:
        assert await terminal.end() == 1
        shown = terminal.text
    assert shown.rindex("Ann thinks four.") < shown.index("moa: no answer: the aggregator failed")
    assert "boss: up/boss: 400 Bad Request: not today" in shown
    assert re.search(r"2 proposals above \((at least )?\$[\d.]+\)", shown)


async def test_a_fallback_begins_below_what_broke_off(config: str, upstream: Upstream) -> None:
    """On a terminal a fallback may start anew: what was seen stays, with a line between."""
    upstream.script("boss", words("It is probably") + drop())
    async with Terminal(*ASK, config, "-m", "tower", "How many?", columns=100) as terminal:
        assert await terminal.end() == 0
        shown = terminal.text
    seen = [shown.rindex(text) for text in ("It is p", "✗ boss failed here", "── bob", "Bob thinks five.")]
    assert seen == sorted(seen)


async def test_ctrl_c_on_a_terminal_keeps_what_was_shown(config: str, upstream: Upstream) -> None:
    """Ctrl-C stops the calls, leaves proposals and the words said so far on the screen, and exits 130."""
    upstream.script("boss", words("It is probably") + hang())
    async with Terminal(*ASK, config, "How many?") as terminal:
        await terminal.until("probably")
        terminal.type("\x03")
        assert await terminal.end() == 130
        shown, raw = terminal.text, terminal.raw
        async with asyncio.timeout(5):
            await upstream.calls("boss")[0].disconnected.wait()
    assert shown.endswith("moa: interrupted\n")
    assert shown.rindex("Bob thinks five.") < shown.rindex("It is probably")
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l"), "the cursor is shown again"


# -- chat ---------------------------------------------------------------------------------------------------------------


async def test_chat_sends_what_was_said_before(config: str, upstream: Upstream) -> None:
    """Every question goes out with all turns before it; /new forgets them."""
    ended = await run("chat", "--config", config, "-m", "up/bob", stdin=b"One?\nTwo?\n/new\nThree?\n")
    assert (ended.code, ended.out.count("Bob thinks five.\n")) == (0, 3)
    contents = [[message["content"] for message in call.body["messages"]] for call in upstream.calls("bob")]
    assert contents == [["One?"], ["One?", "Bob thinks five.", "Two?"], ["Three?"]]


async def test_chat_commands(config: str) -> None:
    """/mixture switches and lists, /show and /help speak, and what is unknown gets a suggestion."""
    lines = b"/mixture up/bob\nHi\n/mixture nobody\n/mixture\n/show answer\n/show all\n/hlep\n/help\n/quit\nnot asked\n"
    ended = await run("chat", "--config", config, stdin=lines)
    assert ended.code == 0
    assert "Switched to up/bob.\nBob thinks five.\n" in ended.out
    assert "  duo            two and one" in ended.out
    assert "Showing only the answer." in ended.out
    assert "/new  " in ended.out
    assert ended.out.count("Bob thinks") == 1
    assert [line.split(";")[0] for line in ended.err.splitlines()] == [
        "moa: no mixture is called 'nobody' (`moa mixtures` lists them)",
        "moa: /show takes proposals or answer, not 'all'",
        "moa: unknown command /hlep",
    ]


async def test_chat_goes_on_after_a_failed_answer(config: str, upstream: Upstream) -> None:
    """A question that got no answer is told, forgotten, and does not end the conversation."""
    upstream.script("bob", refuse(400, "no"), say("Better now."))
    ended = await run("chat", "--config", config, "-m", "up/bob", stdin=b"One?\nTwo?\n")
    assert (ended.code, ended.out) == (1, "Better now.\n")
    assert "moa: no answer: the aggregator failed" in ended.err
    assert len(upstream.calls("bob")[1].body["messages"]) == 1


async def test_ctrl_c_in_chat_stops_the_answer_and_not_the_program(config: str, upstream: Upstream) -> None:
    """What was said before Ctrl-C stays in the conversation; Ctrl-C at the prompt clears the line; Ctrl-D leaves."""
    upstream.script("bob", words("It is probably") + hang(), say("Five it is."))
    async with Terminal("chat", "--config", config, "-m", "up/bob") as terminal:
        await terminal.until("> ")
        terminal.type("How many?\r")
        await terminal.until("It is probably")
        terminal.type("\x03")
        await terminal.until("moa: cancelled")
        async with asyncio.timeout(5):
            await upstream.calls("bob")[0].disconnected.wait()
        await terminal.until("\n> ", times=2)
        terminal.type("never mind")
        await terminal.until("never mind")
        await terminal.interrupt("\n> ", times=3)
        terminal.type("And?\r")
        await terminal.until("Five it is.")
        await terminal.until("\n> ", times=4)
        terminal.type("\x04")
        assert await terminal.end() == 0
    contents = [message["content"] for message in upstream.calls("bob")[1].body["messages"]]
    assert contents == ["How many?", "It is probably", "And?"]


# -- what there is ------------------------------------------------------------------------------------------------------


async def test_mixtures_in_a_pipe_are_tab_separated(config: str) -> None:
    """Name, layers, description, source and whether it is the default, one mixture a line."""
    lines = (await run("mixtures", "--config", config)).out.splitlines()
    assert lines[0].split("\t") == ["duo", "2 → 1", "two and one", config, "default"]
    assert lines[1].split("\t")[:2] == ["pick", "2 → central"]
    assert any(line.startswith("paper\t6 → 6 → 1\t") and line.endswith("\tpreset\t") for line in lines)


async def test_show_draws_a_mixture_without_keys(config: str) -> None:
    """Layers, models, personas, sampling, fallbacks and settings are drawn; no key is needed and nothing is called."""
    ended = await run("show", "tower", "--config", config)
    assert ended.code == 0
    for told in ("layer 1: 2 proposers", "up/bob   temperature 0.2", "“You are brief.”", "if it fails", "30 s"):
        assert told in ended.out
    assert (await run("show", "keyless", "--config", config)).code == 0


async def test_tables_fit_a_narrow_terminal(config: str) -> None:
    """On 40 columns nothing of the list of mixtures is wider than the window."""
    async with Terminal("mixtures", "--config", config, columns=40) as terminal:
        assert await terminal.end() == 0
        assert max(map(len, terminal.text.splitlines())) <= 40
        assert "● duo" in terminal.text


async def test_models_lists_what_can_be_asked(config: str) -> None:
    """A server's models are listed as they are asked; a pipe gets one line about all others; a dead one exits 1."""
    ended = await run("models", "up", "--config", config)
    assert (ended.code, ended.out) == (0, "up/ann\nup/bob\nup/boss\n")
    everything = await run("models", "--config", config)
    assert everything.code == 0
    assert "up/ann\n" in everything.out
    (line,) = everything.err.splitlines()
    assert line.startswith("moa: not available: dead, ") and "groq" in line and "`moa models PROVIDER`" in line
    assert (await run("models", "dead", "--config", config)).code == 1
    assert (await run("models", "groq", "--config", config)).code == 2


async def test_check_calls_every_model_once(config: str, upstream: Upstream) -> None:
    """A mixture whose models all answer: a line each, the same model only once, exit code 0."""
    ended = await run("check", "tower", "--config", config)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(line.split()[1] for line in ended.out.splitlines() if line[0] == "✓") == [
        "up/ann",
        "up/bob",
        "up/boss",
    ]
    assert sorted(call.model for call in upstream.requests) == ["ann", "bob", "boss"]
    assert upstream.requests[0].body["max_tokens"] == 16


async def test_check_says_what_is_wrong_and_how_to_mend_it(config: str, upstream: Upstream) -> None:
    """A missing key, a rejected one, an unknown model and a dead server each get their advice, and hide nobody else's."""
    upstream.script("bob", refuse(401, "bad key"))
    ended = await run("check", "ill", "--config", config)
    assert ended.code == 1
    assert ended.err == "moa: 4 of 5 models of ill failed\n"
    found = {part.split()[0]: part for part in re.split(r"^[✓✗] ", ended.out, flags=re.MULTILINE)[1:]}
    assert "GROQ_API_KEY is not set\n    create an API key at https://console.groq.com/keys" in found["groq/llama"]
    assert "404" in found["up/anne"] and "it offers up/ann" in found["up/anne"]
    assert "401" in found["up/bob"] and "set api_key_env of [endpoints.up]" in found["up/bob"]
    assert "check the base_url of dead" in found["dead/x"]
    assert "first token after" in found["up/boss"]


# -- the program itself -------------------------------------------------------------------------------------------------


def test_help_is_there_at_once() -> None:
    """moa --help loads nothing heavy: it takes less than 0.3 seconds of CPU on a machine that is not busy."""

    def cpu() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command("--help"), env=environment(), capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "ask" in done.stdout
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu() for _ in range(3)) < 0.3


async def test_version_and_help() -> None:
    """--version names the version; no command at all shows the help."""
    assert re.fullmatch(r"moa \d+\.\d+\S*\n", (await run("--version")).out)
    assert (await run()).out.startswith("Usage: moa ")


# -- pieces -------------------------------------------------------------------------------------------------------------


def test_clean_keeps_text_and_drops_commands() -> None:
    """Newlines, tabs and every letter stay; nothing that a terminal obeys does, nor can removal make a new one."""
    assert clean("a\tb\nc é 漢 🙂") == "a\tb\nc é 漢 🙂"
    assert clean("\x1b\x1b[0m[31mred") == "[31mred"
    assert clean("\x1b]8;;http://x\x1b\\link\x1b]8;;\x07!\r\n\x9d0;t\x9c\ud800") == "link!\n"


def test_growing_markdown_is_given_once() -> None:
    """However an answer is cut into pieces, its settled blocks and the remainder are the answer, in order, once."""
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
