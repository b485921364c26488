"""What a mixture costs in other packages: the same three proposers and aggregator, on the same upstream, in the same run.

    uv run python benchmarks/peers.py [--rounds N] [NAME …]

Every package gets an environment of its own, in a cache outside this repository, and a driver of a few lines written from
its documentation (``contenders.py``). A package that does not install, start or answer in time is left out, and the table
gives the reason. A server is called over HTTP, a library in the driver's process, without a server's work: compare like with
like.

Notable decisions:
- The upstream (``counting_upstream.py``) streams the words of ``fast_upstream.py``. Most packages request a whole answer
  instead, and one requests ``n`` of them, so it returns those too; a whole answer is less work to read.
- All packages stay loaded and are called in turn, round by round, so the ratios hold on a machine whose speed drifts.
- The upstream counts, so the table can show how many calls a request really made.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from contenders import CONTENDERS, DRIVER, HERE, Contender

INSTALL = 120.0
START = 120.0
ROUND = 45.0
"""Time limits in seconds for an installation, a start, and a round."""

QUIET = {
    "OPENAI_API_KEY": "none",
    "OTEL_SDK_DISABLED": "true",
    "SWARMS_TELEMETRY_ON": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


class Skipped(Exception):
    """A contender is left out; the message is the reason."""


@asynccontextmanager
async def process(*command: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command with its errors in a log, and kill it at the end."""
    with log.open("wb") as errors:
        started = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **QUIET, "WORKSPACE_DIR": str(log.parent)},
            cwd=log.parent,
        )
    try:
        yield started
    finally:
        if started.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                started.kill()
            await started.wait()


async def line(started: asyncio.subprocess.Process, prefix: str, seconds: float, step: str, log: Path) -> str:
    """The rest of the next line with this prefix that a process prints; raises Skipped with the name of the step."""
    assert started.stdout
    try:
        async with asyncio.timeout(seconds):
            async for output in started.stdout:
                if (text := output.decode().strip()).startswith(prefix):
                    return text.removeprefix(prefix)
    except TimeoutError:
        raise Skipped(f"{step}: not within {seconds:g} s") from None
    raise Skipped(f"{step}: {last_line(log)}")


def last_line(log: Path) -> str:
    lines = [text.strip() for text in log.read_text(errors="replace").splitlines() if text.strip()]
    return lines[-1][:100].replace("|", "/") if lines else "it exited"


async def installed(contender: Contender, cache: Path, log: Path) -> str:
    """Install a contender, unless it is in the cache; return its environment's Python."""
    if not contender.packages:
        return sys.executable
    folder = cache / contender.name.lower()
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        uv = shutil.which("uv") or "uv"
        commands = (
            (uv, "venv", "--quiet", str(folder), "--python", sys.executable),
            (uv, "pip", "install", "--quiet", "--python", str(python), *contender.packages),
        )
        for command in commands:
            async with process(*command, log=log) as running:
                try:
                    code = await asyncio.wait_for(running.wait(), INSTALL)
                except TimeoutError:
                    raise Skipped(f"installing: not within {INSTALL:g} s") from None
                if code:
                    raise Skipped(f"installing: {last_line(log)}")
        done.touch()
    return str(python)


async def started(
    contender: Contender, url: str, cache: Path, folder: Path, stack: AsyncExitStack
) -> tuple[asyncio.subprocess.Process, Path]:
    """Start a contender and its server; return its driver, ready for the first round, and the driver's log."""
    name = contender.name.replace(" ", "-").lower()
    log = folder / f"{name}.log"
    python = await installed(contender, cache, log)
    target = url
    if contender.serve:
        port = free_port()
        places = {
            "python": python,
            "bin": str(Path(python).parent),
            "url": url,
            "folder": str(folder),
            "port": str(port),
        }
        server_log = folder / f"{name}.server.log"
        command = [part.format(**places) for part in contender.serve]
        server = await stack.enter_async_context(process(*command, log=server_log))
        if "{port}" in contender.serve:
            target = f"http://127.0.0.1:{port}/v1"
            await listens(server, port, server_log)
        else:
            target = "http" + await line(server, "http", START, "starting", server_log)
    driver = folder / f"drive-{name}.py"
    driver.write_text(DRIVER.replace("{adapter}", contender.adapter))
    counter = url.removesuffix("/v1")
    interpreter = sys.executable if contender.serve else python
    running = await stack.enter_async_context(process(interpreter, str(driver), target, counter, log=log))
    await line(running, "ready", START, "starting", log)
    return running, log


async def listens(server: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Wait until a server accepts connections; raises Skipped if it exits or takes too long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START):
            while server.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.3)
    raise Skipped(f"starting: {f'not within {START:g} s' if server.returncode is None else last_line(log)}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def table(contenders: list[Contender]) -> str:
    rows = [
        "| | as a | requests a second, 16 in flight | of the bare proxy | a single request | upstream calls a request |",
        "|---|---|---:|---:|---:|---:|",
    ]
    bare = next((contender.rounds for contender in contenders if contender.rounds), [])
    for contender in contenders:
        if contender.skipped:
            rows.append(f"| {contender.name} | {contender.kind} | left out: {contender.skipped} | | | |")
            continue
        rate, alone, made = (statistics.median(values) for values in zip(*contender.rounds, strict=True))
        share = statistics.median(own[0] / base[0] for own, base in zip(contender.rounds, bare, strict=False))
        rows.append(f"| {contender.name} | {contender.kind} | {rate:.0f} | {share:.2f} | {alone:.1f} ms | {made:.1f} |")
    return "\n".join(rows)


async def main(names: list[str], rounds: int) -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moa-benchmarks" / "peers"
    cache.mkdir(parents=True, exist_ok=True)
    contenders = [contender for contender in CONTENDERS if not names or contender.name in {"bare proxy", *names}]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        up = await stack.enter_async_context(
            process(sys.executable, str(HERE / "counting_upstream.py"), log=folder / "up.log")
        )
        url = "http" + await line(up, "http", START, "starting the upstream", folder / "up.log")
        (folder / "moa.toml").write_text(
            f'[endpoints.up]\nbase_url = "{url}"\n'
            '[mixtures.m]\nlayers = [["up/a", "up/b", "up/c"]]\naggregator = "up/d"\n'
        )
        running: list[tuple[Contender, asyncio.subprocess.Process, Path]] = []
        for contender in contenders:
            print(f"{contender.name} …", file=sys.stderr, flush=True)
            try:
                running.append((contender, *await started(contender, url, cache, folder, stack)))
            except Skipped as reason:
                contender.skipped = str(reason)
        for _ in range(rounds):
            for contender, driver, log in running:
                if contender.skipped:
                    continue
                assert driver.stdin
                try:
                    driver.stdin.write(b"go\n")
                    rate, alone, made = json.loads(await line(driver, "round", ROUND, "a round", log))
                    contender.rounds.append((rate, alone, made))
                except (Skipped, ConnectionError) as reason:
                    contender.skipped = str(reason)
    print(table(contenders))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.names, arguments.rounds))
