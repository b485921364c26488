"""The command line. Commands are declared here and live in modules of their own, loaded when they are used.

Exit codes: 0 answered, 1 no answer, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from moa.cli import measuring
from moa.cli.options import ConfigFile, MixtureName, Shown
from moa.cli.terminal import discard, tell

ANSWERED, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

# Plain help: Rich's takes a third of a second of CPU before the first letter.
app = typer.Typer(
    name="moa",
    help="Several language models answer together, layer by layer, as one model.",
    epilog="Nothing configured? moa ask works all the same, with small models on this machine.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"moa {version('mixture-of-agents')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _moa(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("ask")
def _ask(
    question: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION", hidden=True),
    ] = None,
    mixture: MixtureName = None,
    show: Shown = None,
    json: Annotated[bool, typer.Option("--json", help="Print every event of the run, one JSON object a line.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Then say which proposals each sentence of the answer resembles.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the run, to come back to it: see moa runs.")] = False,
    config: ConfigFile = None,
) -> int:
    """Ask one question.

    QUESTION is the question itself; @FILE reads it from a file, and a - stands for standard input.

    On a terminal the proposals and the answer are shown while they are written; in a pipe there is only the answer's text.
    """
    from moa.cli.question import question_of

    text = question_of(question or [])
    from moa.cli import ask

    return ask.run(lambda: ask.ask(text, mixture, show, json, config, explain, keep))


@app.command("chat")
def _chat(mixture: MixtureName = None, show: Shown = None, config: ConfigFile = None) -> int:
    """Talk, with all that was said before. /help tells what else there is."""
    from moa.cli.chat import Chat

    return Chat(mixture, show, config).run()


@app.command("mixtures")
def _mixtures(config: ConfigFile = None) -> int:
    """List the mixtures: those of moa.toml, and those that ship."""
    from moa.cli import listing

    return listing.mixtures(config)


@app.command("show")
def _show(name: Annotated[str, typer.Argument(metavar="NAME", help="The mixture.")], config: ConfigFile = None) -> int:
    """Draw a mixture: its layers, agents and settings. Needs no keys."""
    from moa.cli import listing

    return listing.show(name, config)


@app.command("models")
def _models(
    provider: Annotated[str | None, typer.Argument(metavar="PROVIDER", help="Only this provider's.")] = None,
    config: ConfigFile = None,
) -> int:
    """List the single models that can be asked here and now."""
    from moa.cli import ask, listing

    return ask.run(lambda: listing.models(provider, config))


@app.command("check")
def _check(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A mixture, or a model as provider/name.")] = None,
    continuation: Annotated[
        bool, typer.Option("--continuation", help="Try how each goes on with a text it has begun; four more calls.")
    ] = False,
    config: ConfigFile = None,
) -> int:
    """Call each model of a mixture once.

    Says of each whether it answers, how fast, or what is wrong and how to mend it. Exit code 1 if any does not.
    """
    from moa.cli import ask
    from moa.cli.check import check

    return ask.run(lambda: check(name, config, continuation))


@app.command("serve")
def _serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = 8000,
    config: ConfigFile = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Ask callers for a key of this file; see moa key. Needed beyond this machine."
        ),
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let anyone ask who reaches the address.")] = False,
    store: Annotated[
        str | None,
        typer.Option(metavar="FILE|off", help="Where turns' proposals and keys' spending are kept; off: in memory."),
    ] = None,
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--no-keep", help="Keep runs in the store, to look at later. Without keys, the default."),
    ] = None,
    max_runs: Annotated[int, typer.Option(help="Runs at a time.", min=1)] = 64,
    max_queue: Annotated[int, typer.Option(help="Requests that may wait behind them.", min=0)] = 256,
    max_body: Annotated[int, typer.Option(help="Bytes that a request may have.", min=1024)] = 32 * 2**20,
    grace: Annotated[int, typer.Option(help="Seconds that runs may go on after SIGTERM.", min=0)] = 30,
) -> int:
    """Serve every mixture as a model, to any OpenAI-compatible client.

    Select moa/NAME at http://127.0.0.1:8000/v1.
    """
    from moa.cli import serve
    from moa.server.app import Settings

    return serve.serve(
        host=host,
        port=port,
        config=config,
        keys=keys,
        no_auth=no_auth,
        store=store,
        keep=keep,
        settings=Settings(max_runs, max_queue, max_body),
        grace=grace,
    )


key = typer.Typer(help="Make, list and remove the keys that moa serve asks for.", rich_markup_mode=None)
app.add_typer(key, name="key")

_Keys = Annotated[Path | None, typer.Option("--keys", metavar="FILE", help="Otherwise ~/.config/moa/keys.json.")]


@key.command("add")
def _add_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; this is what logs show.")],
    keys: _Keys = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="No limit otherwise.", min=1)] = None,
    dollars_per_day: Annotated[float | None, typer.Option(help="US dollars; no limit otherwise.", min=0)] = None,
) -> int:
    """Make a key and print it, this once."""
    from moa.cli import serve

    return serve.add_key(name, keys, requests_per_minute, dollars_per_day)


@key.command("list")
def _list_keys(keys: _Keys = None) -> int:
    """List names and limits."""
    from moa.cli import serve

    return serve.list_keys(keys)


@key.command("remove")
def _remove_key(name: Annotated[str, typer.Argument(metavar="NAME")], keys: _Keys = None) -> int:
    """Remove a key; a running server reads the file when it starts."""
    from moa.cli import serve

    return serve.remove_key(name, keys)


kept = typer.Typer(help="Come back to kept runs: those of moa serve, and of moa ask --keep.", rich_markup_mode=None)
app.add_typer(kept, name="runs")

_Store = Annotated[
    Path | None, typer.Option("--store", metavar="FILE", help="Otherwise ~/.local/state/moa/runs.sqlite.")
]
_Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's name, or how it begins.")]


@kept.callback(invoke_without_command=True)
def _list_runs(
    context: typer.Context,
    search: Annotated[
        str, typer.Option("--search", metavar="WORDS", help="Only with this in question or answer.")
    ] = "",
    limit: Annotated[int, typer.Option("-n", help="How many, from the latest.", min=1)] = 20,
    store: _Store = None,
) -> int | None:
    if context.invoked_subcommand is not None:
        return None
    from moa.cli import runs

    raise typer.Exit(runs.rows(store, search, limit))


@kept.command("show")
def _show_run(
    run: _Run,
    show: Shown = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Then say which proposals each sentence of the answer resembles.")
    ] = False,
    store: _Store = None,
) -> int:
    """Show a run as moa ask would have: proposals and answer; in a pipe the answer alone."""
    from moa.cli import ask, runs

    return ask.run(lambda: runs.show(run, store, show, explain))


@kept.command("compare")
def _compare_runs(
    one: _Run, other: Annotated[str, typer.Argument(metavar="RUN", help="Another.")], store: _Store = None
) -> int:
    """Set two runs side by side: answers, times, tokens, cost, what each resembles."""
    from moa.cli import runs

    return runs.compare(one, other, store)


@kept.command("continue")
def _continue_run(run: _Run, show: Shown = None, config: ConfigFile = None, store: _Store = None) -> int:
    """Go on with a run that failed or was stopped: its finished proposals are used, only the others are asked."""
    from moa.cli import ask, runs

    return ask.run(lambda: runs.go_on(run, store, show, config))


@kept.command("export")
def _export_run(run: _Run, store: _Store = None) -> int:
    """Print a run as one JSON object."""
    from moa.cli import runs

    return runs.export(run, store)


@kept.command("delete")
def _delete_runs(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names, or how they begin.")],
    store: _Store = None,
) -> int:
    """Forget runs; their text is overwritten."""
    from moa.cli import runs

    return runs.delete(names, store)


app.add_typer(measuring.bench, name="bench")
app.add_typer(measuring.analyse, name="analyse")
app.command("report")(measuring.report)


def main() -> None:
    """The command ``moa``."""
    sys.exit(_status())


def _status() -> int:
    from moa.errors import ConfigError, MoaError, RequestRejected

    try:
        for stream in (sys.stdout, sys.stderr):
            # What cannot be written in the terminal's encoding is no reason to fail.
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        # Not app(): that turns an interruption and a closed pipe into exits of its own before they get here.
        command = typer.main.get_command(app)
        with command.make_context("moa", sys.argv[1:]) as context:
            return int(command.invoke(context) or ANSWERED)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.TyperException as error:
        tell(error.format_message())
        return MISUSED
    except (KeyboardInterrupt, typer.Abort):
        tell("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has what they wanted: moa ask … | head -1.
        discard(sys.stdout)
        return ANSWERED
    except (ConfigError, RequestRejected) as error:
        _show_where(error)
        tell(str(error))
        return MISUSED
    except MoaError as error:
        _show_where(error)
        tell(str(error))
        return FAILED
    except Exception as error:
        _show_where(error)
        tell(f"this should not have happened: {type(error).__name__}: {error} (MOA_DEBUG=1 shows where)")
        return FAILED


def _show_where(error: Exception) -> None:
    if os.environ.get("MOA_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
