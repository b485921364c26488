"""A Hugging Face hub on loopback: what its client asks of the real one to list a repository and fetch a file.

https://huggingface.co/docs/hub/api
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"


def gguf(length: int = 64) -> bytes:
    """The beginning of a GGUF file and nothing of a model: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"""
    return b"GGUF\x03\0\0\0".ljust(length, b"\0")


@dataclass
class FakeHub:
    """Serves repositories while it is open.

    Attributes:
        repositories: the files of each, by ``org/repo`` and then by name.
        status: what every request is answered with, where it is not 200.
        gated: repositories that need the user's consent.
        requests: ``METHOD /path`` of every request, in order.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    status: int = 200
    gated: frozenset[str] = frozenset()
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub._answer(self)

            def do_HEAD(self) -> None:
                hub._answer(self)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, call: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(call.path).path)
        self.requests.append(f"{call.command} {path}")
        if self.status != 200:
            return _send(call, self.status, {}, b"")
        if path.startswith("/api/models/"):
            repo = "/".join(path.split("/")[3:5])
            return self._list(call, repo)
        repo, _, rest = path.removeprefix("/").partition("/resolve/")
        return self._give(call, repo, rest.partition("/")[2])

    def _list(self, call: BaseHTTPRequestHandler, repo: str) -> None:
        if repo not in self.repositories:
            return _send(call, 404, {"X-Error-Code": "RepoNotFound"}, b"")
        files = [{"rfilename": name, "size": len(data)} for name, data in self.repositories[repo].items()]
        about = {"id": repo, "sha": COMMIT, "siblings": files}
        return _send(call, 200, {"Content-Type": "application/json"}, json.dumps(about).encode())

    def _give(self, call: BaseHTTPRequestHandler, repo: str, name: str) -> None:
        if repo in self.gated:
            return _send(call, 403, {"X-Error-Code": "GatedRepo"}, b"")
        data = self.repositories.get(repo, {}).get(name)
        if data is None:
            return _send(call, 404, {"X-Error-Code": "EntryNotFound"}, b"")
        etag = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}
        return _send(call, 200, headers, data)


def _send(call: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    call.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        call.send_header(name, value)
    call.end_headers()
    if call.command != "HEAD":
        call.wfile.write(body)
