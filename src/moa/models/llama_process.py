"""The process of an embedded model, as the program that starts it sees it; the program in it is :mod:`moa.models.llama`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import IO

_PROGRAM = Path(__file__).with_name("llama.py")
_ERROR_LINE = re.compile(r"^[\d.]+ E .*?: (?:error loading model: )?(?P<reason>.+)$", re.MULTILINE)


class LlamaProcess:
    """A running :mod:`moa.models.llama`. It ends with this object, or with the process that started it, at the latest.

    A child made by ``os.fork`` may call the server, but cannot end it.
    """

    def __init__(self, settings: dict[str, object]) -> None:
        """Start the process; it loads the model on its own.

        Args:
            settings: as :func:`moa.models.llama.serve` takes them.
        """
        # A file and not a pipe: nothing reads it while all is well, and a full pipe would stop the writer.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the finalizer)
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        weakref.finalize(self, _end, self._owner, self._process, self._errors)
        assert self._process.stdin
        self._process.stdin.write(json.dumps({**settings, "import_path": sys.path}).encode() + b"\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """The ID of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if os.getpid() == self._owner:
            return self._process.poll() is None
        try:
            os.kill(self.pid, 0)  # only its parent can wait for it; signal 0 tests whether the process exists
        except OSError:
            return False
        return True

    def address(self) -> str | None:
        """The URL where it listens, once it has loaded; None when it ends instead. Blocks until then."""
        assert self._process.stdout
        reply = self._process.stdout.readline()
        return str(json.loads(reply)["address"]) if reply else None

    def end(self) -> None:
        """Stop it at once; its memory is free when this returns. Blocks until then."""
        if os.getpid() == self._owner:
            self._process.kill()
            self._process.wait()

    def reason(self) -> str:
        """Why it ended by itself, in one line. Blocks until it has ended."""
        status = self._process.wait()
        self._errors.seek(0)
        output = self._errors.read().decode("utf-8", "replace").strip()
        if error := _ERROR_LINE.search(output):
            return error["reason"]
        return output.splitlines()[-1] if output else f"its process ended with status {status}"


def _end(owner: int, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    if os.getpid() == owner:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, errors):
        if pipe:
            pipe.close()
