"""A conversation in the terminal: each question is sent with all turns before it.

The main thread reads the prompt, so line editing and Ctrl-C work as usual. All answers run in one event loop, so that
connections are reused from turn to turn.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches

from moa.cli.output import fail, show_run
from moa.cli.question import check_unicode
from moa.cli.session import Session
from moa.cli.terminal import Show, can_redraw, notify, one_line, write
from moa.errors import ConfigError, MoaError
from moa.messages import Answer, Message, Request
from moa.mixture.fold import Fold

BYTE_ORDER_MARK = "\ufeff"

HELP = """\
/mixture [NAME]             switch to a mixture or model; without NAME, list the mixtures
/show [proposals|answer]    show whole proposals, only the answer, or (alone) their beginnings
/new                        start a new conversation
/help                       show this help
/quit                       quit (also Ctrl-D)

A line that begins with / and resembles no command, such as a path, is a question.
Ctrl-C cancels the answer that is being written; the text so far stays in the conversation."""


PASTE_GAP = 0.03
"""Seconds after Enter within which further input was pasted: nobody types that fast."""


def _read(interactive: bool) -> str:
    """The next line; on a terminal, all lines of a paste.

    Python's readline turns bracketed paste off, and libedit has none, so a paste is recognised by its speed: when a line
    ends, the next one is already there.
    """
    lines = [input("\n> " if interactive else "")]
    while interactive and _more_arrived():
        try:
            lines.append(input())
        except EOFError:
            break
    return "\n".join(lines)


def _more_arrived() -> bool:
    try:
        return bool(select.select([sys.stdin], [], [], PASTE_GAP)[0])
    except (OSError, ValueError):  # Windows waits for sockets alone
        return False


class Conversation:
    """One conversation.

    Args:
        mixture: the mixture or model that answers; None for the default.
        show: see :class:`~moa.cli.live.View`.
        config: the path of a moa.toml; None to look in the usual places.
    """

    def __init__(self, mixture: str | None, show: Show | None, config: str | None) -> None:
        self._wanted, self._show = mixture, show
        self._session = Session(config)
        self._history: list[Message] = []
        self._failed = False
        self._commands: Mapping[str, Callable[[str], None]] = {
            "mixture": self._switch,
            "show": self._set_show,
            "new": self._start_over,
            "help": lambda _: write(HELP),
            "quit": self._quit,
        }

    @property
    def _name(self) -> str:
        """The name of the mixture that answers, as the user would type it."""
        return self._mixture.name.removeprefix("moa/")

    def run(self) -> int:
        """Read and answer until the input ends. Exit code 1 if the questions came from a pipe and one failed, else 0."""
        interactive = sys.stdin.isatty()
        with asyncio.Runner() as runner:
            try:
                self._mixture = self._session.mixture(self._wanted)
                if interactive:
                    with suppress(ImportError):
                        import readline  # noqa: F401 - input() edits lines with it
                    write(f"Chatting with {self._name}. Type /help for commands, Ctrl-D to quit.")
                with suppress(EOFError):
                    while True:
                        self._turn(runner, interactive)
            finally:
                runner.run(self._session.aclose())
        return int(self._failed and not interactive)

    def _turn(self, runner: asyncio.Runner, interactive: bool) -> None:
        try:
            line = _read(interactive).removeprefix(BYTE_ORDER_MARK).strip()
            check_unicode(line, "the input")
        except KeyboardInterrupt:
            if not interactive:
                raise
            return
        except EOFError:
            if interactive:
                write()
            raise
        except (UnicodeDecodeError, ConfigError):
            notify("the input is not UTF-8 text")
            self._failed = True
            return
        if line and ("\n" in line or not self._command(line)):
            self._ask(runner, line, interactive)

    # -- asking ------------------------------------------------------------------------------------------------------

    def _ask(self, runner: asyncio.Runner, question: str, interactive: bool) -> None:
        message: Message = {"role": "user", "content": question}
        request = Request.of([*self._history, message])
        fold = Fold()
        if interactive:
            write()
        try:
            runner.run(self._answer(request, fold))
        except KeyboardInterrupt:
            if not interactive:
                raise
            notify("cancelled" if fold.answer.text else "cancelled before any text arrived; the question is dropped")
        except MoaError as error:
            notify(str(error))
        answer = fold.answer
        if answer.error:
            fail(answer.error, answer if can_redraw() else None)
        if answer.text:
            self._history += [message, {"role": "assistant", "content": answer.text}]
        self._failed = self._failed or not answer.text

    async def _answer(self, request: Request, fold: Fold) -> Answer:
        events = self._mixture.run(request, restart=can_redraw())
        return await show_run(events, self._show, fold, session=self._session)

    # -- commands ----------------------------------------------------------------------------------------------------

    def _command(self, line: str) -> bool:
        """Run the line if it is a command. A misspelt command is reported; any other line, also a path, is a question."""
        if not line.startswith("/"):
            return False
        name, _, rest = line[1:].partition(" ")
        if command := self._commands.get(name) or (self._quit if name in ("exit", "bye", "q") else None):
            command(rest.strip())
            return True
        near = [] if "/" in name else get_close_matches(name, self._commands, n=1, cutoff=0.6)
        if near:
            notify(f"unknown command /{name}; did you mean /{near[0]}?")
        return bool(near)

    def _switch(self, name: str) -> None:
        if name:
            try:
                self._mixture = self._session.mixture(name)
            except MoaError as error:
                notify(str(error))
                return
            write(f"Switched to {self._name}.")
            return
        current = self._name
        for listed in self._session.config.listed():
            mark = "*" if listed.name == current else " "
            write(f"{mark} {listed.name:<14} {one_line(self._session.config.summary(listed))}".rstrip())
        if current not in self._session.config.names():
            write(f"* {current}")

    def _set_show(self, what: str) -> None:
        if what and what not in [*Show]:
            notify(f"/show takes {' or '.join(Show)}, not {what!r}")
            return
        self._show = Show(what) if what else None
        shown = {
            Show.PROPOSALS: "whole proposals",
            Show.ANSWER: "only the answer",
            None: "the beginning of each proposal",
        }
        write(f"Showing {shown[self._show]}.")

    def _start_over(self, _: str) -> None:
        self._history.clear()
        write("Started a new conversation.")

    def _quit(self, _: str) -> None:
        raise EOFError
