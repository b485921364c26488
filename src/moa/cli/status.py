"""From a command line to an exit code: 0 answered, 1 no answer, 2 wrong usage or configuration, 130 interrupted."""

from __future__ import annotations

import os
import re
import sys

import typer

from moa.cli.terminal import discard, notify, open_closed_streams

ANSWERED, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def status_of(app: typer.Typer) -> int:
    """Run the command in ``sys.argv`` and give its exit code. Every error becomes one line on standard error."""
    from moa.errors import ConfigError, MoaError, RequestRejected

    try:
        open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            # A character that the terminal's encoding lacks is replaced, not an error.
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        # Not app(): it handles interruptions and closed pipes itself, with other exit codes.
        command = typer.main.get_command(app)
        with command.make_context("moa", sys.argv[1:]) as context:
            return int(command.invoke(context) or ANSWERED)
    except typer.Exit as error:
        return error.exit_code
    except typer.TyperException as error:
        notify(error.format_message())
        return MISUSED
    except (KeyboardInterrupt, typer.Abort):
        notify("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output needs no more of it: moa ask … | head -1.
        discard(sys.stdout)
        return ANSWERED
    except (ConfigError, RequestRejected) as error:
        _show_traceback(error)
        notify(str(error))
        return MISUSED
    except MoaError as error:
        _show_traceback(error)
        notify(str(error))
        return FAILED
    except ImportError as error:
        _show_traceback(error)
        extra = extra_with(error.name)
        if extra is None:
            notify(f"unexpected error: {type(error).__name__}: {error} (set MOA_DEBUG=1 for a traceback)")
            return FAILED
        notify(f"this needs {str(error.name).partition('.')[0]}: pip install 'mixture-of-agents[{extra}]'")
        return MISUSED
    except Exception as error:
        _show_traceback(error)
        notify(f"unexpected error: {type(error).__name__}: {error} (set MOA_DEBUG=1 for a traceback)")
        return FAILED


def extra_with(module: str | None) -> str | None:
    """The extra of this package that installs a module; None if none does.

    The module's name is that of its distribution, or of a part of it, with other separators.
    """
    from importlib.metadata import PackageNotFoundError, requires

    try:
        requirements = requires("mixture-of-agents") or []
    except PackageNotFoundError:
        return None
    wanted = re.sub(r"[._]+", "-", (module or "").lower())
    for requirement in requirements:
        named = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra *== *['"]([\w.-]+)['"]""", requirement)
        if named and extra and wanted:
            distribution = named[0].lower()
            if wanted == distribution or wanted.startswith(f"{distribution}-") or distribution.startswith(f"{wanted}-"):
                return extra[1]
    return None


def _show_traceback(error: Exception) -> None:
    if os.environ.get("MOA_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
