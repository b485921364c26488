"""A process that has imported ``moa`` once and forks a copy of itself for each ``moa …`` that a test starts.

Importing takes most of the time that a short command needs; a fork takes a few milliseconds. The copy is a process of its
own, with its own terminal, signals, environment and exit code. :mod:`tests.fakes.processes` is the client.

Protocol, over a Unix socket: the client sends one JSON object (``args``, ``env``, ``cwd``, ``terminal``) with three file
descriptors; it receives the process ID, and when the process has ended, its exit code (negative: the signal).

No process outlives the suite, however that ends: each has a supervisor that kills it when the client closes the connection
or ends, and the kernel kills it with its supervisor.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import termios
import threading
import time
import traceback
from typing import Any, NoReturn

LARGEST_REQUEST = 1 << 17
"""Bytes of a request, arguments and environment included."""

NOT_IMPORTED = (
    "moa.evals",
    "moa.inspect",
    "moa.__main__",
    "moa.models.llama",
    "moa.batch.on_ray",
    "moa.batch.ray_files",
)
"""Modules that few commands load and that are slow, or that are programs."""

LATE = (
    *("genai_prices.data", "rich.live", "rich.markdown", "rich.traceback", "typer.rich_utils", "uvicorn", "uvloop"),
    *("uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.protocols.http.httptools_impl"),
)
"""What our modules import only when they need it."""


LIBRARY = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when its parent ends."""


def import_everything() -> None:
    import moa

    for module in pkgutil.walk_packages(moa.__path__, "moa."):
        if not module.name.startswith(NOT_IMPORTED):
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)


def serve(path: str) -> None:
    """Fork for every connection, until standard input is closed."""
    import_everything()
    if threading.active_count() > 1:
        raise RuntimeError(f"importing moa started threads, so it cannot be forked: {threading.enumerate()}")
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the supervisors
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the suite, which still stops its processes
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen(64)
        print("ready", flush=True)  # noqa: T201 - the client waits for this line
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = server.accept()
            if os.fork() == 0:
                try:
                    server.close()
                    supervise(connection)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)
            connection.close()


def supervise(connection: socket.socket) -> None:
    """Start one process and report its ID and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, descriptors, _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 3)
    if not data:
        return  # the client has gone
    request = json.loads(data)
    process = os.fork()
    if process == 0:
        connection.close()
        become(request, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.send(str(process).encode())
    ended = os.pidfd_open(process)
    if ended not in select.select([ended, connection, sys.stdin], [], [])[0]:
        os.kill(process, signal.SIGKILL)
        return
    _, status = os.waitpid(process, 0)
    connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be ``python -m moa …``, as far as a program can tell."""
    code = 1
    try:
        LIBRARY.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.setsid()
        if request["terminal"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored, and that is inherited
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        os.chdir(request["cwd"])
        sys.argv = [os.path.join(*sys.modules["moa"].__path__, "__main__.py"), *request["args"]]  # noqa: PTH118
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
        sys.stdout = _writer(1, line_buffering=os.isatty(1))
        sys.stderr = _writer(2, line_buffering=True, errors="backslashreplace")
        code = _exit_code()
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 120  # as Python ends where it cannot flush standard output
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _writer(descriptor: int, **how: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)), encoding="utf-8", **how)


def _exit_code() -> int:
    from moa.cli import main

    try:
        main()
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        sys.stderr.write(f"{stop.code}\n")
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
