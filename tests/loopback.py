"""A real HTTP server on loopback whose answers, and faults, a test decides."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit


@dataclass
class Answer:
    """What the server says; `short` bytes are held back, though the announced length counts them."""

    body: bytes = b""
    kind: str = "text/plain"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    short: int = 0
    delay: float = 0.0
    length: bool = True


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    at: float


class Loopback:
    """``with Loopback() as server: server.answers["/a"] = Answer(b"...")``; faults of a path are used up first."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.faults: dict[str, list[Answer]] = defaultdict(list)
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                with outer._lock:
                    outer.asked.append(Asked(self.path, dict(self.headers), time.monotonic()))
                    fault = outer.faults[path].pop(0) if outer.faults[path] else None
                answer = fault or outer.answers.get(path) or Answer(b"<html>no such page</html>", "text/html", 404)
                time.sleep(answer.delay)
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.length:
                    self.send_header("Content-Length", str(len(answer.body)))
                else:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                try:
                    self.wfile.write(answer.body[: len(answer.body) - answer.short])
                except OSError:  # the client has read enough
                    self.close_connection = True
                if answer.short:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
