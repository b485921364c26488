"""``moa chat``: turns, commands, failed answers and Ctrl-C."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.terminal import Terminal, run
from tests.fakes.upstream import Upstream, hang, refuse, say, words
from tests.fakes.waiting import PATIENCE

pytestmark = pytest.mark.anyio


async def test_chat_sends_all_turns_before(config: str, upstream: Upstream) -> None:
    """Every question is sent with all turns before it; /new drops them."""
    ended = await run("chat", "--config", config, "-m", "up/bob", stdin=b"One?\nTwo?\n/new\nThree?\n")
    assert (ended.code, ended.out.count("Bob thinks five.\n")) == (0, 3)
    contents = [[message["content"] for message in call.body["messages"]] for call in upstream.calls("bob")]
    assert contents == [["One?"], ["One?", "Bob thinks five.", "Two?"], ["Three?"]]


async def test_chat_commands(config: str) -> None:
    """/mixture switches and lists, /show and /help respond, and an unknown command gets a suggestion."""
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


async def test_chat_continues_after_a_failed_answer(config: str, upstream: Upstream) -> None:
    """A question without an answer is reported and dropped, and the conversation continues."""
    upstream.script("bob", refuse(400, "no"), say("Better now."))
    ended = await run("chat", "--config", config, "-m", "up/bob", stdin=b"One?\nTwo?\n")
    assert (ended.code, ended.out) == (1, "Better now.\n")
    assert "moa: no answer: the aggregator failed" in ended.err
    assert len(upstream.calls("bob")[1].body["messages"]) == 1


async def test_ctrl_c_in_chat_cancels_the_answer_and_not_the_program(config: str, upstream: Upstream) -> None:
    """Text before Ctrl-C stays in the conversation; Ctrl-C at the prompt clears the line; Ctrl-D quits."""
    upstream.script("bob", words("It is probably") + hang(), say("Five it is."))
    async with Terminal("chat", "--config", config, "-m", "up/bob") as terminal:
        await terminal.until("> ")
        terminal.type("How many?\r")
        await terminal.until("It is probably")
        terminal.type("\x03")
        await terminal.until("moa: cancelled")
        async with asyncio.timeout(PATIENCE):
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


async def test_a_line_that_begins_with_a_path_is_a_question(config: str, upstream: Upstream) -> None:
    """Only a command, or a misspelt one, is taken for a command."""
    lines = ["/usr/bin/env python fails, why?", "/etc/hosts", "/new/york", "/tmp is full", "//comment"]
    ended = await run("chat", "--config", config, "-m", "up/bob", stdin="\n".join(lines).encode())
    assert (ended.code, ended.err) == (0, "")
    assert [call.body["messages"][-1]["content"] for call in upstream.calls("bob")] == lines


async def test_pasted_lines_are_one_question(config: str, upstream: Upstream) -> None:
    """A paste is one question, with its line breaks and indentation, also where its last line has no line break."""
    async with Terminal("chat", "--config", config, "-m", "up/bob") as terminal:
        await terminal.until("> ")
        terminal.type("Fix this:\rdef f(x):\r    return x\r\rThanks\r")
        await terminal.until("Bob thinks five.")
        await terminal.until("\n> ", times=2)
        terminal.type("/new is\rwhat?")
        await terminal.until("what?")
        terminal.type("\r")
        await terminal.until("Bob thinks five.", times=2)
        await terminal.until("\n> ", times=3)
        terminal.type("\x04")
        assert await terminal.end() == 0
    contents = [call.body["messages"][-1]["content"] for call in upstream.calls("bob")]
    assert contents == ["Fix this:\ndef f(x):\n    return x\n\nThanks", "/new is\nwhat?"]


async def test_piped_lines_that_are_not_utf_8_are_refused(config: str, upstream: Upstream) -> None:
    """The line is reported in every locale and the next one is sent; a byte order mark is no part of the first."""
    for locale in ("C", "C.UTF-8"):
        ended = await run(
            "chat", "--config", config, "-m", "up/bob", stdin=b"caf\xe9\n", env={"LC_ALL": locale}, new=True
        )
        assert (ended.code, "is not UTF-8 text" in ended.err) == (1, True)
    await run("chat", "--config", config, "-m", "up/bob", stdin=b"\xef\xbb\xbfHi\n")
    assert [call.body["messages"][-1]["content"] for call in upstream.calls("bob")] == ["Hi"]
