"""The process that an embedded model runs in: llama.cpp's own server, started by :mod:`moa.models.embedded`.

Notable decisions:
- It is a process, not a thread: llama.cpp holds Python's lock while it loads (8 s for a gigabyte on two cores), waits half
  a minute for open connections before it stops, and ends the process on an internal error. A server with other work cannot
  afford any of these; and a process frees all of its memory.
- It runs as long as its standard input is open, so it never outlives its parent, however that ends.
- It runs as a file and imports nothing of this package, so that it starts as fast as its one dependency.

Input: one line of JSON, the settings. Output: one line of JSON with ``address``, where it listens; on failure, the reason on
standard error.

https://github.com/xorbitsai/xllamacpp
https://github.com/ggml-org/llama.cpp/tree/master/tools/server
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def serve(settings: dict[str, Any]) -> Any:
    """Start a server of one model on a free loopback port.

    Args:
        settings: ``path`` of the GGUF file; ``name``, the model's ID in requests; ``api_key`` that requests must carry;
            ``context``, tokens per slot; ``slots``, concurrent answers; ``threads`` for reading prompts.

    Raises:
        RuntimeError: the model does not load; llama.cpp prints the reason on standard error.
    """
    # By default, threads that wait for each other spin, and starve when another process is busy: on two cores beside two
    # busy processes, two answers came at 1 to 8 tokens/s instead of 23, and loading took 2 to 10 s instead of 1.3 s.
    # No spinning at all costs a third of the speed of an idle machine (three answers in 19 s instead of 12 s), hence a few.
    # https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html (read when the library loads)
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}
    params.api_keys = [settings["api_key"]]
    params.n_ctx = settings["context"] * settings["slots"]  # divided evenly among the slots
    params.n_parallel = settings["slots"]
    params.kv_unified = False  # a long answer in one slot must not take another's context
    params.ctx_shift = False  # an answer that fills its context ends with `length` and keeps the question
    params.cpuparams.n_threads = 1  # a second thread gains 7 % and takes a core from the next model
    params.cpuparams_batch.n_threads = settings["threads"]  # for prompts, and for concurrent answers
    params.n_batch = 512  # tokens of a prompt between two checks for closed connections and the other slots
    params.cache_ram_mib = 0  # slots already keep their prefixes; the default would cache 8 GiB more
    params.port = 0
    params.ui = False
    params.verbosity = 1  # errors only
    return xllamacpp.Server(params)


def main() -> None:
    """Serve until standard input closes."""
    # Ctrl-C in a terminal reaches every process there; the parent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(sys.stdin.readline())
    sys.path[:] = settings["import_path"]
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output that C code prints is not the reply
    try:
        server = serve(settings)
    except Exception as error:
        sys.exit(str(error))
    print(json.dumps({"address": server.listening_address}), file=replies, flush=True)
    sys.stdin.read()
    os._exit(0)  # nothing to save, and an orderly stop waits for open connections


if __name__ == "__main__":
    main()
