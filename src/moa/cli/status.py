"""From a command line to an exit code: 0 answered, 1 no answer, 2 wrong usage or configuration, 130 interrupted."""

from __future__ import annotations

import os
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
    except Exception as error:
        _show_traceback(error)
        notify(f"unexpected error: {type(error).__name__}: {error} (set MOA_DEBUG=1 for a traceback)")
        return FAILED


def _show_traceback(error: Exception) -> None:
    if os.environ.get("MOA_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
