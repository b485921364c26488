"""``moa ask`` as its users see it: real processes with pipes, and a scripted server."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.fakes.processes import command
from tests.fakes.terminal import environment, run, start
from tests.fakes.upstream import Upstream, drop, hang, refuse, say, until, words
from tests.fakes.waiting import PATIENCE

pytestmark = pytest.mark.anyio

ASK = ("ask", "--config")


# -- ask, in a pipe --------------------------------------------------------------------------------------------------
async def test_a_pipe_gets_the_answer_and_nothing_else(config: str) -> None:
    """Standard output holds the answer's text and a newline, standard error nothing."""
    ended = await run(*ASK, config, "How", "many?")
    assert (ended.code, ended.out, ended.err) == (0, "It is **four**.\n", "")


async def test_a_pipe_gets_text_while_it_is_written(config: str, upstream: Upstream) -> None:
    """The first words are readable while the model still writes the rest."""
    rest = asyncio.Event()
    upstream.script("boss", words("First ") + until(rest) + say("second."))
    process = await start(*ASK, config, "How many?")
    assert process.stdout
    async with asyncio.timeout(PATIENCE):
        assert await process.stdout.read(5) == b"First"
        rest.set()
        assert await process.stdout.read() == b" second.\n"
        assert await process.wait() == 0


async def test_show_proposals_prints_each_under_a_heading(config: str) -> None:
    """In a pipe, --show proposals prints each proposal, and the answer, under a line that names its agent."""
    ended = await run(*ASK, config, "--show", "proposals", "How many?")
    assert ended.code == 0
    proposals, _, answer = ended.out.partition("## answer\n\n")
    assert answer == "It is **four**.\n"
    assert sorted(re.split(r"(?=^## )", proposals, flags=re.MULTILINE)[1:]) == [
        "## ann (up/ann), layer 1\n\nAnn thinks four.\n\n",
        "## bob (up/bob), layer 1\n\nBob thinks five.\n\n",
    ]


async def test_a_degraded_answer_is_reported_on_standard_error(config: str, upstream: Upstream) -> None:
    """A proposer that fails leaves the answer complete and prints one line on standard error."""
    upstream.script("bob", refuse(400, "\x1b[31mno such luck"))
    ended = await run(*ASK, config, "How many?")
    assert (ended.code, ended.out) == (0, "It is **four**.\n")
    assert ended.err.startswith("moa: bob (layer 1) failed: up/bob: 400 Bad Request: no such luck")
    assert "\x1b" not in ended.err


async def test_a_pipe_gets_no_colours_even_with_force_color(config: str) -> None:
    """FORCE_COLOR puts no escape codes into a pipe."""
    for args in ((*ASK, config, "Hi"), ("show", "duo", "--config", config)):
        ended = await run(*args, env={"FORCE_COLOR": "1"})
        assert ended.code == 0
        assert "\x1b" not in ended.out + ended.err


async def test_a_closed_pipe_ends_the_run_quietly(config: str, upstream: Upstream) -> None:
    """moa ask … | head -1 prints no error about the closed pipe, and cancels the upstream call."""
    upstream.script("boss", words("one\n") + words("two " * 5000, pace=0.005))
    shell = " ".join([*command(*ASK, config, "Count."), "| head -1"])
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_shell(shell, stdout=pipe, stderr=pipe, env=environment())
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
        await upstream.calls("boss")[0].disconnected.wait()
    assert (out, err) == (b"one\n", b"")


async def test_json_prints_one_event_per_line(config: str) -> None:
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


async def test_a_failed_run_prints_one_line_per_cause(config: str) -> None:
    """If every agent fails, each cause has its line, standard output is empty, and the exit code is 1."""
    ended = await run(*ASK, config, "-m", "lonely", "How many?")
    assert (ended.code, ended.out) == (1, "")
    first, cause, *_ = ended.err.splitlines()
    assert first == "moa: no answer: no usable proposal in layer 1"
    assert "ann (layer 1)" in cause and "127.0.0.1:9" in cause and "server running" in cause


async def test_a_pipe_never_gets_the_answer_twice(config: str, upstream: Upstream) -> None:
    """If an aggregator fails halfway in a pipe, no fallback restarts the answer."""
    upstream.script("boss", words("It is ") + drop())
    ended = await run(*ASK, config, "-m", "tower", "How many?")
    assert (ended.code, ended.out) == (1, "It is \n")
    assert "the aggregator failed" in ended.err


async def test_a_selected_proposal_is_the_answer(config: str) -> None:
    """A mixture that selects prints the proposal that it chose."""
    ended = await run(*ASK, config, "-m", "pick", "How many?")
    assert (ended.code, ended.out) == (0, "Ann thinks four.\n")


async def test_a_single_model_answers_alone(config: str, upstream: Upstream) -> None:
    """-m provider/name calls that model, once."""
    ended = await run(*ASK, config, "-m", "up/bob", "How many?")
    assert (ended.code, ended.out) == (0, "Bob thinks five.\n")
    assert [call.model for call in upstream.requests] == ["bob"]


# -- where the question comes from -----------------------------------------------------------------------------------
@pytest.mark.parametrize("args", [(), ("-",)])
async def test_a_question_can_be_piped_in(config: str, upstream: Upstream, args: tuple[str, ...]) -> None:
    """Without an argument, or with -, the question is read from standard input."""
    assert (await run(*ASK, config, *args, stdin="Wie viele Füße?\n".encode())).code == 0
    assert upstream.calls("ann")[0].prompt == "Wie viele Füße?\n"


async def test_a_question_can_be_in_a_file(config: str, upstream: Upstream, tmp_path: Path) -> None:
    """@FILE reads the question from the file, without its byte order mark."""
    (tmp_path / "question.md").write_bytes(b"\xef\xbb\xbfHow many?")
    assert (await run(*ASK, config, f"@{tmp_path}/question.md")).code == 0
    assert upstream.calls("ann")[0].prompt == "How many?"


@pytest.mark.parametrize(
    ("args", "stdin", "expected"),
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
    config: str, args: tuple[str, ...], stdin: bytes, expected: str
) -> None:
    """A wrong command line is one line that names the mistake; no model is called, and no traceback is printed."""
    ended = await run(*ASK, config, *args, stdin=stdin)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("moa: ") and ended.err.count("\n") == 1 and expected in ended.err


async def test_an_unknown_command_is_exit_code_2() -> None:
    """The error names the command that does not exist."""
    ended = await run("aks", "Hi")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("moa: No such command 'aks'")


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[mixtures.x]\nlayers = [[", "moa.toml:2: not valid TOML"),
        ('[mixtures.x]\nlayers = [["a/b"]]\nagregator = "a/b"', "moa.toml:3: mixtures.x.agregator: no such field"),
    ],
)
async def test_an_error_in_the_file_names_its_place(tmp_path: Path, toml: str, expected: str) -> None:
    """An error in moa.toml has file, line and field."""
    (tmp_path / "moa.toml").write_text(toml)
    ended = await run("ask", "--config", str(tmp_path / "moa.toml"), "Hi")
    assert (ended.code, ended.out) == (2, "")
    assert expected in ended.err and "Traceback" not in ended.err


async def test_moa_debug_prints_the_traceback(config: str) -> None:
    """MOA_DEBUG=1 adds the traceback to an error."""
    ended = await run(*ASK, config, "-m", "dou", "Hi", env={"MOA_DEBUG": "1"})
    assert ended.code == 2
    assert "Traceback" in ended.err


async def test_ctrl_c_cancels_the_calls_and_exits_130(config: str, upstream: Upstream) -> None:
    """Ctrl-C in a pipe closes the upstream calls immediately and prints one line."""
    upstream.script("ann", hang())
    upstream.script("bob", hang())
    process = await start(*ASK, config, "How many?")
    async with asyncio.timeout(PATIENCE):
        await upstream.received(2)
        process.send_signal(2)
        out, err = await process.communicate()
        for call in upstream.requests:
            await call.disconnected.wait()
    assert (process.returncode, out, err) == (130, b"", b"moa: interrupted\n")


@pytest.mark.parametrize(("closed", "shown"), [("2>&-", True), ("<&-", True), ("<&- 2>&-", True), (">&-", False)])
async def test_closed_streams_do_not_cost_the_answer(config: str, closed: str, shown: bool) -> None:
    """A service may start a program with its standard streams closed."""
    line = f"exec {shlex.quote(sys.executable)} -m moa ask --config {shlex.quote(config)} -m up/bob Hi {closed}"
    process = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"Bob thinks five.\n" if shown else b"")
