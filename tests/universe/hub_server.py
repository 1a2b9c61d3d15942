"""A web server on loopback that serves folders as data sets of the Hugging Face hub, at one commit each."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Data sets by repository; statuses to answer for files before they are served; what was asked for."""

    folders: dict[str, Path]
    faults: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bytes_served: int = 0
    address: str = ""


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            for repo, folder in hub.folders.items():
                api = f"/api/datasets/{repo}"
                if path.startswith(api):
                    rest = path.removeprefix(api).strip("/").split("/")
                    return self._api(repo, folder, rest)
                resolve = f"/datasets/{repo}/resolve/{COMMIT}/"
                if path.startswith(resolve):
                    return self._file(folder / path.removeprefix(resolve))
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            hub.asked.append(f"POST {self.path}")
            for repo, folder in hub.folders.items():
                if f"/api/datasets/{repo}/paths-info/{COMMIT}" == urlsplit(self.path).path:
                    return self._json([entry for entry in _entries(folder) if f"{entry['path']}" in unquote(body)])
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

        def _api(self, repo: str, folder: Path, rest: list[str]) -> None:
            if len(rest) > 1 and rest[1] != COMMIT:
                return self._json({"error": "Revision not found"}, 404, {"X-Error-Code": "RevisionNotFound"})
            if rest[0] == "tree":
                return self._json(_entries(folder))
            siblings = [{"rfilename": entry["path"]} for entry in _entries(folder) if entry["type"] == "file"]
            return self._json({"id": repo, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})

        def _file(self, path: Path) -> None:
            if hub.faults and self.command == "GET":
                status = hub.faults.pop(0)
                return self._send(status, b"", {})
            if not path.is_file():
                return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            content = path.read_bytes()
            headers = {"ETag": f'"{path.name}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if "Range" in self.headers:
                first, last = self.headers["Range"].removeprefix("bytes=").split("-")
                start, stop = int(first), min(int(last or len(content) - 1), len(content) - 1)
                headers["Content-Range"] = f"bytes {start}-{stop}/{len(content)}"
                return self._send(206, content[start : stop + 1], headers)
            return self._send(200, content, headers)

        def _json(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
                hub.bytes_served += len(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _entries(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file" if path.is_file() else "directory",
            "oid": f"{number:040}",
            "size": path.stat().st_size if path.is_file() else 0,
            "path": str(path.relative_to(folder)),
        }
        for number, path in enumerate(sorted(folder.rglob("*")))
    ]
