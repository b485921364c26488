"""Shell blocks of the documentation, run by bash with ``moa`` forked from the fork server and the world outside left out.

``moa`` on the PATH of such a shell is a small program that asks the fork server for a process with its own standard streams,
and waits for it. A server (``moa serve``) listens on a free port, and is stopped as soon as it accepts requests.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.fakes.processes import CAN_FORK, fork_server

NOT_RUN = {
    "docker": "there is no Docker where the tests run",
    "inspect": "needs a task, and tests/test_inspect.py runs the provider",
    "lm_eval": "a package of its own; tried by hand",
    "opentelemetry-instrument": "packages of its own; tests/server/test_telemetry.py reads the spans",
    "pip": "downloads packages",
    "uv run pytest": "is what runs this",
    "source": "activates an environment that the tests have already",
}
"""Commands in the documentation that do nothing in a test, and why."""

MOA = r"""
import json, os, re, signal, socket, sys

arguments = sys.argv[1:]
serving = arguments[:1] == ["serve"] and "--help" not in arguments
output = 1
if serving:
    reading, output = os.pipe()
    arguments += ["--port", "0"]
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    connection.connect(os.environ["FORK_SERVER"])
    request = {"args": arguments, "env": dict(os.environ), "cwd": os.getcwd(), "terminal": False}
    socket.send_fds(connection, [json.dumps(request).encode()], [0, output, 2])
    process = int(connection.recv(32))
    if serving:
        os.close(output)
        with open(reading) as lines:
            address = lines.readline()
        print(address, end="", flush=True)
        if match := re.match(r"http://([\d.]+):(\d+)", address):
            with socket.create_connection((match[1], int(match[2]))) as client:
                client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                client.recv(32)
            os.kill(process, signal.SIGTERM)
    code = int(connection.recv(32) or 1)
sys.exit(code if code >= 0 else 128 - code)
"""

UV = """\
#!/bin/sh
shift
[ "$1" = pytest ] || exec "$@"
"""

GIT = """\
#!/bin/sh
echo '-the sky is green'
echo '+the sky is blue'
"""


JQ = """\
#!{python} -I
import json, sys

print(json.load(sys.stdin)[sys.argv[2].removeprefix(".")])
"""
"""``jq -r .name``: few machines have the real one."""


def why_not(block: str) -> str | None:
    """Why a block cannot run on this machine; None where it can."""
    if not CAN_FORK:
        return "processes are forked on Linux only"
    missing = [name for name in ("bash", "curl") if (name == "bash" or name in block) and not shutil.which(name)]
    return f"needs {missing[0]}" if missing else None


def programs(folder: Path) -> None:
    """Write the programs that shell blocks call. Those of :data:`NOT_RUN` do nothing."""
    folder.mkdir()
    (folder / "moa.py").write_text(MOA.lstrip())
    texts = {name: "#!/bin/sh\n" for name in NOT_RUN if " " not in name and name != "source"}
    texts |= {
        "jq": JQ.format(python=sys.executable),
        "uv": UV,
        "git": GIT,
        "moa": f'#!/bin/sh\nexec {sys.executable} -I -S {folder}/moa.py "$@"\n',
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


async def run(block: str, programs: Path, folder: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Run a block of shell commands, the first failure of which ends it.

    Args:
        programs: the folder of :func:`programs`.
        folder: where it runs.
        env: its environment, with PATH.

    Returns:
        The exit code, and all that was printed.
    """
    process = await asyncio.create_subprocess_exec(
        *("bash", "-e", "-u", "-c", f"source() {{ :; }}\n{block}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={**env, "PATH": f"{programs}{os.pathsep}{env['PATH']}", "FORK_SERVER": fork_server()},
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode(errors="replace")
