"""``moa chat``: a conversation, each question asked with everything that was said before.

The prompt is read in the main thread, where line editing and Ctrl-C work as anywhere; answers run in one event loop that
is kept across turns, and their connections with it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches

from moa.cli.ask import Opened, fail, shown
from moa.cli.terminal import Show, live, one_line, say, tell
from moa.errors import MoaError
from moa.messages import Answer, Message, Request
from moa.mixture.fold import Fold

HELP = """\
/mixture [NAME]             who answers from now on; without a name, who there is
/show [proposals|answer]    all of each proposal, only the answer, or (alone) the beginnings
/new                        forget what was said
/help                       this
/quit                       leave; so does Ctrl-D

Ctrl-C stops an answer that is being written; what it said is kept."""


class Chat:
    """One conversation.

    Args:
        mixture: who answers; None for the default.
        show: see :class:`~moa.cli.live.View`.
        config: the path of a moa.toml, or None to look for it.
    """

    def __init__(self, mixture: str | None, show: Show | None, config: str | None) -> None:
        self._wanted, self._show = mixture, show
        self._here = Opened(config)
        self._history: list[Message] = []
        self._failed = False
        self._commands: Mapping[str, Callable[[str], None]] = {
            "mixture": self._switch,
            "show": self._showing,
            "new": self._forget,
            "help": lambda _: say(HELP),
            "quit": self._leave,
        }

    def run(self) -> int:
        """Read and answer until there is nothing more to read; 1 where questions came from a pipe and one failed, else 0."""
        talking = sys.stdin.isatty()
        with asyncio.Runner() as runner:
            try:
                self._mixture = self._here.mixture(self._wanted)
                if talking:
                    with suppress(ImportError):
                        import readline  # noqa: F401 - input() edits lines with it
                    say(f"{self._mixture.name.removeprefix('moa/')} answers. /help for commands, Ctrl-D to leave.")
                with suppress(EOFError):
                    while True:
                        self._turn(runner, talking)
            finally:
                runner.run(self._here.config.aclose())
        return int(self._failed and not talking)

    def _turn(self, runner: asyncio.Runner, talking: bool) -> None:
        try:
            line = input("\n> " if talking else "").strip()
        except KeyboardInterrupt:
            if not talking:
                raise
            return
        except EOFError:
            if talking:
                say()
            raise
        except UnicodeDecodeError:
            tell("what came in is not UTF-8 text")
            self._failed = True
            return
        if line.startswith("/"):
            self._command(line)
        elif line:
            self._ask(runner, line, talking)

    # -- asking ------------------------------------------------------------------------------------------------------

    def _ask(self, runner: asyncio.Runner, question: str, talking: bool) -> None:
        asked: Message = {"role": "user", "content": question}
        request = Request.of([*self._history, asked])
        fold = Fold()
        if talking:
            say()
        try:
            runner.run(self._answered(request, fold))
        except KeyboardInterrupt:
            if not talking:
                raise
            tell("stopped" if fold.answer.text else "stopped before it said anything; the question is forgotten")
        except MoaError as error:
            tell(str(error))
        answer = fold.answer
        if answer.error:
            fail(answer.error, answer if live() else None)
        if answer.text:
            self._history += [asked, {"role": "assistant", "content": answer.text}]
        self._failed = self._failed or not answer.text

    async def _answered(self, request: Request, fold: Fold) -> Answer:
        events = self._mixture.run(request, restart=live())
        return await shown(events, self._show, fold, here=self._here)

    # -- commands ----------------------------------------------------------------------------------------------------

    def _command(self, line: str) -> None:
        name, _, rest = line[1:].partition(" ")
        command = self._commands.get(name) or (self._leave if name in ("exit", "bye", "q") else None)
        if command:
            command(rest.strip())
            return
        near = get_close_matches(name, self._commands, n=1, cutoff=0.5)
        tell(f"no command is called /{name}" + (f"; did you mean /{near[0]}?" if near else "; /help lists them"))

    def _switch(self, name: str) -> None:
        if name:
            try:
                self._mixture = self._here.mixture(name)
            except MoaError as error:
                tell(str(error))
                return
            say(f"{self._mixture.name.removeprefix('moa/')} answers from now on.")
            return
        here = self._mixture.name.removeprefix("moa/")
        for listed in self._here.config.listed():
            mark = "*" if listed.name == here else " "
            say(f"{mark} {listed.name:<14} {one_line(listed.description)}".rstrip())
        if here not in self._here.config.names():
            say(f"* {here}")

    def _showing(self, what: str) -> None:
        if what and what not in [*Show]:
            tell(f"/show knows {' and '.join(Show)}, not {what!r}")
            return
        self._show = Show(what) if what else None
        shown = {
            Show.PROPOSALS: "All of each proposal",
            Show.ANSWER: "Only the answer",
            None: "The beginning of each proposal",
        }
        say(f"{shown[self._show]} is shown.")

    def _forget(self, _: str) -> None:
        self._history.clear()
        say("A new conversation.")

    def _leave(self, _: str) -> None:
        raise EOFError
