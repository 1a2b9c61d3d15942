"""An OpenAI-compatible service, real and local: what it is sent, what it may answer, and where the key goes."""

from __future__ import annotations

import json
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from companysim.errors import CompanySimError, ConfigError, ServiceError
from companysim.explain.endpoint import KEY, endpoint

SECRET = "sk-very-secret-123"


class Service(ThreadingHTTPServer):
    """Answers each request by the next of `script`: (status, headers, body) or None for silence."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[tuple[int, dict[str, str], bytes] | None] = []
        self.seen: list[tuple[str, dict[str, str], dict[str, object]]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, dict(self.headers), body))
        planned = self.server.script.pop(0)
        if planned is None:
            self.server.released.wait(10)
            return
        status, headers, content = planned
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


def answer(text: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(KEY, SECRET)
    made = Service()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def ask(service: Service) -> Callable[[], str]:
    complete = endpoint(service.url + "/", "little-model", timeout=0.5, attempts=3, pause=0.01, tokens=7)
    return lambda: complete("What do these have in common?")


def refused(ask: Callable[[], str], *words: str) -> None:
    with pytest.raises(ServiceError) as caught:
        ask()
    told = str(caught.value)
    for word in words:
        assert word in told, told
    assert SECRET not in told
    assert SECRET not in repr(caught.value.__cause__)
    assert "\n" not in told


def test_a_prompt_is_answered(service: Service, ask: Callable[[], str]) -> None:
    service.script = [answer("oil drilling")]
    assert ask() == "oil drilling"
    path, headers, body = service.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert body["model"] == "little-model"
    assert body["messages"] == [{"role": "user", "content": "What do these have in common?"}]
    assert (body["temperature"], body["max_tokens"]) == (0, 7)


def test_no_key_is_sent_where_there_is_none(
    service: Service, ask: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY)
    service.script = [answer("x")]
    ask()
    assert "Authorization" not in service.seen[0][1]


@pytest.mark.parametrize("key", ["sk-secret\nsecond", "sk-secret€", "sk-secret\tx", "sk-secret\udc80"])
def test_a_key_no_header_can_hold_is_refused_unquoted(
    service: Service, ask: Callable[[], str], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY, key)
    for call in (lambda: endpoint(service.url, "little-model"), ask):
        with pytest.raises(ConfigError, match="set it again") as caught:
            call()
        assert "sk-secret" not in "".join(traceback.format_exception(caught.value))
    assert service.seen == []
    monkeypatch.setenv(KEY, f" {SECRET}\n")  # as a file read into the environment ends
    service.script = [answer("x")]
    ask()
    assert service.seen[0][1]["Authorization"] == f"Bearer {SECRET}"


def test_a_refused_key_is_not_tried_again_nor_repeated(service: Service, ask: Callable[[], str]) -> None:
    said = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}"}}).encode()
    service.script = [(401, {}, said)]
    refused(ask, "refuses the key (401, Incorrect API key provided: ***)", f"set {KEY} to one it accepts")
    assert len(service.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_service_is_asked_again_and_then_given_up(service: Service, ask: Callable[[], str], status: int) -> None:
    service.script = [(status, {}, b"slow down"), answer("oil")]
    assert ask() == "oil"
    service.script = [(status, {"Retry-After": "0"}, b"{}")] * 3
    refused(ask, f"too busy or fails ({status}, ", "after 3 attempts", "try again later")
    assert len(service.seen) == 5


def test_retry_after_is_heeded(service: Service, ask: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("companysim.explain.endpoint.time.sleep", waits.append)
    for asked, expected in (
        ("7", 7),
        ("100000", 60),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0.01),
        ("-3", 0),
        ("nan", 0.01),
    ):
        service.script = [(429, {"Retry-After": asked}, b""), answer("oil")]
        ask()
        assert waits.pop() == pytest.approx(expected)
    service.script = [(429, {}, b""), (429, {}, b""), answer("oil")]
    ask()
    assert waits == pytest.approx([0.01, 0.02])


def test_silence_ends_in_a_sentence(service: Service, ask: Callable[[], str]) -> None:
    service.script = [None, None, None]
    refused(ask, "does not answer after 3 attempts", "timed out", "--base-url")
    assert len(service.seen) == 3


def test_nobody_listening_ends_in_a_sentence(service: Service) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    complete = endpoint(f"http://127.0.0.1:{port}", "m", attempts=2, pause=0.01)
    refused(lambda: complete("x"), "does not answer after 2 attempts", "check --base-url")


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>hello</html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {}}]}', b"\xff\xfe\x00"],
)
def test_garbage_ends_in_a_sentence(service: Service, ask: Callable[[], str], content: bytes) -> None:
    service.script = [(200, {}, content)]
    refused(ask, "answers no chat completion but", "--base-url")


def test_an_answer_without_text_is_garbage_too(service: Service, ask: Callable[[], str]) -> None:
    service.script = [answer(None)]
    refused(ask, "answers no chat completion")


def test_a_torn_answer_is_asked_for_again(service: Service, ask: Callable[[], str]) -> None:
    service.script = [(200, {"Content-Length": "500"}, b"{"), answer("oil")]
    assert ask() == "oil"


def test_an_unknown_model_is_named(service: Service, ask: Callable[[], str]) -> None:
    service.script = [(404, {}, json.dumps({"error": "no such model"}).encode())]
    refused(ask, "no such address or model 'little-model' (404, no such model)")
    service.script = [(400, {}, b'{"message": "bad\\n request"}')]
    refused(ask, "refuses the request (400, bad request)")


def test_redirects_are_refused_and_the_key_stays_here(service: Service, ask: Callable[[], str]) -> None:
    other = Service()
    thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        for status in (301, 302, 307, 308):
            other.script = [answer("stolen")]
            service.script = [(status, {"Location": other.url + "/chat/completions"}, b"")]
            refused(ask, f"redirects elsewhere ({status})")
        assert other.seen == []
    finally:
        other.shutdown()
        other.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "is no base URL"),
        ("ftp://host/v1", "is no base URL"),
        ("http://host:abc/v1", "is no base URL"),
        ("http://[broken", "is no base URL"),
        ("file:///etc/passwd", "is no base URL"),
        ("", "is no base URL"),
        ("https://user:secret@host/v1", "holds more than an address"),
        ("https://host/v1?key=secret", "holds more than an address"),
        ("http://example.com/v1", "in clear text"),
    ],
)
def test_wrong_addresses_are_refused_before_anything_is_sent(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    with pytest.raises(ConfigError, match=words) as caught:
        endpoint(url, "m")
    assert ":secret" not in str(caught.value)
    assert "=secret" not in str(caught.value)
    assert isinstance(caught.value, CompanySimError)


def test_clear_text_without_a_key_and_encrypted_text_with_one_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    endpoint("https://example.com/v1", "m")
    monkeypatch.delenv(KEY)
    endpoint("http://10.0.0.5:8000/v1", "m")


def test_nothing_is_logged(
    service: Service, ask: Callable[[], str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    service.script = [answer("oil"), (401, {}, SECRET.encode())]
    ask()
    refused(ask, "refuses the key")
    assert SECRET not in caplog.text
    assert SECRET not in "".join(capfd.readouterr())
