"""Printing: to a terminal without control characters and in colour; to a pipe unchanged.

Text from models and servers is never trusted: on a terminal it may contain no escape sequence, no other control character
and no character that reorders the text around it.
"""

from __future__ import annotations

import os
import re
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


class Show(StrEnum):
    """What is shown of a run beside its answer: the whole proposals, or nothing."""

    PROPOSALS = "proposals"
    ANSWER = "answer"


_HARMFUL = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # control sequences: colours, cursor movement
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # strings: titles, links, the clipboard
    r"|\x1b[ -/]*[0-~]?"  # other escapes: resets, character sets
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"  # the rest
)


def clean(text: str) -> str:
    """The text without anything that a terminal would obey instead of display; newlines and tabs stay.

    No match spans lines, so a cleaned line does not change when more lines arrive.
    """
    return _HARMFUL.sub("", text)


def one_line(text: str) -> str:
    """The cleaned text on a single line."""
    return " ".join(clean(text).split())


def notify(line: str) -> None:
    """Print one line to standard error, after the program's name."""
    _error_line(f"moa: {one_line(line)}")


def notify_detail(line: str) -> None:
    """Print a further line of the last :func:`notify`, indented."""
    _error_line(f"     {one_line(line)}")


def _error_line(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - standard error is where it belongs
    except OSError:  # its reader has gone, or its disk is full: the answer is worth more than this line
        discard(sys.stderr)


def write(text: str = "", *, end: str = "\n") -> None:
    """Print plain text to standard output, and flush it.

    Raises:
        BrokenPipeError: its reader has gone.
        MoaError: it cannot be written; its disk is full, say.
    """
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        from moa.errors import MoaError

        discard(sys.stdout)
        raise MoaError(f"standard output cannot be written: {error.strerror}") from error


def discard(stream: TextIO) -> None:
    """Point a stream whose reader has gone at the null device. Otherwise Python reports the broken pipe when it exits.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_closed_streams() -> None:
    """Point standard streams that were closed when the program started (``2>&-``, a service) at the null device.

    Their file descriptors are filled, too: otherwise the next file or socket would get one of them, and with it the
    output of libraries and child processes.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Python sets a stream that was closed to None, whatever its type declaration promises.
    if vars(sys)["stdin"] is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the program ends
    for number, name in ((1, "stdout"), (2, "stderr")):
        if vars(sys)[name] is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - open until the program ends


def can_redraw() -> bool:
    """Whether standard output is a terminal that can redraw lines."""
    return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")


def screen() -> Console:
    """Standard output with layout. ``NO_COLOR`` removes the colours; a pipe, every escape code.

    Text is never interpreted as Rich's markup or as the name of an emoji.
    """
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        force_terminal=terminal,
        no_color=bool(os.environ.get("NO_COLOR")) or not terminal,
        markup=False,
        emoji=False,
        highlight=False,
    )


def figure(number: float) -> str:
    """A count for display: 873, 12,400, 1.2 M."""
    return f"{number:,.0f}" if number < 1e6 else f"{number / 1e6:.1f} M"


def seconds(duration: float) -> str:
    """A duration in seconds for display: 0.4 s, 12 s, 3 min 05 s."""
    if duration < 10:
        return f"{duration:.1f} s"
    if duration < 60:
        return f"{duration:.0f} s"
    return f"{int(duration) // 60} min {int(duration) % 60:02d} s"
