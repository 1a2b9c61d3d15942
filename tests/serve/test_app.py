"""Answers of the page: to whom, to what, and what it refuses."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from starlette.testclient import TestClient

from companysim.errors import ConfigError, RunError
from companysim.serve import application, find_runs
from companysim.serve.guard import Guard, hostname
from companysim.serve.server import listen, names_of
from tests.serve.conftest import NAMES, made

TOKEN = "0123456789abcdef"
HERE = "http://127.0.0.1:8765"


@pytest.fixture
def runs(root: Path) -> dict[str, Path]:
    made(root.parent / "second", shift=0.1)
    (root.parent / "no run").mkdir()
    return find_runs(root)


@pytest.fixture
def client(runs: dict[str, Path]) -> TestClient:
    return TestClient(application(runs), base_url=HERE, follow_redirects=False)


def test_runs_beside_are_found(root: Path, runs: dict[str, Path]) -> None:
    assert list(runs) == ["it's a run", "second"]
    with pytest.raises(RunError, match=r"no finished run in .*no run"):
        find_runs(root.parent / "no run")


@pytest.mark.parametrize(
    "summary", ['{"loss": 1}', "[1]", "no json", '{"universe": 4}', '{"universe": {"companies": "many"}}', "\udcff"]
)
def test_folders_of_other_programs_are_no_runs(root: Path, summary: str) -> None:
    other = root.parent / "other"
    (root.parent / "loop").symlink_to(root.parent / "loop")
    other.mkdir()
    (other / "config.yaml").write_text("loss: 1\n")
    (other / "summary.json").write_bytes(summary.encode("utf-8", "surrogateescape"))
    assert list(find_runs(root)) == ["it's a run"]
    with pytest.raises(RunError, match="no finished run"):
        find_runs(other)


def test_folders_one_may_not_read_are_no_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system says it to all but its administrator, who may read anything."""
    made(root.parent / "locked")
    for name in ("open", "stat"):

        def refused(path: Path, *options: object, real: object = getattr(Path, name), **more: object) -> object:
            if "locked" in path.parts:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *options, **more)  # type: ignore[operator]

        monkeypatch.setattr(Path, name, refused)
    with pytest.raises(PermissionError):
        (root.parent / "locked" / "summary.json").is_file()
    assert list(find_runs(root)) == ["it's a run"]
    real_iterdir = Path.iterdir

    def unlisted(path: Path) -> object:
        if path == root.parent.resolve():
            raise PermissionError(13, "Permission denied", str(path))
        return real_iterdir(path)

    monkeypatch.setattr(Path, "iterdir", unlisted)
    assert list(find_runs(root)) == ["it's a run"]


def test_a_run_that_is_made_anew_is_left_out_meanwhile(client: TestClient, runs: dict[str, Path]) -> None:
    (runs["second"] / "summary.json").unlink()
    assert [run["name"] for run in client.get("/api/runs").json()["runs"]] == ["it's a run"]
    (runs["it's a run"] / "summary.json").unlink()
    answer = client.get("/api/runs")
    assert (answer.status_code, answer.json()["error"][:23]) == (404, "no run here is finished")


def test_the_page_and_what_it_asks(client: TestClient) -> None:
    assert "<title>companysim</title>" in client.get("/").text
    assert client.get("/page.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/page.css").headers["content-type"].startswith("text/css")
    listed = client.get("/api/runs").json()
    assert [run["name"] for run in listed["runs"]] == ["it's a run", "second"]
    assert listed["runs"][0] == {
        "name": "it's a run",
        "companies": 4,
        "tables": ["companies", "benchmark"],
        "report": False,
    }
    found = client.get("/api/runs/second/companies", params={"search": "script", "limit": "1"}).json()
    assert (found["total"], found["rows"][0][1]) == (1, NAMES[2])
    order = client.get("/api/runs/second/companies?sort=cik&order=descending").json()["rows"]
    assert [row[2] for row in order] == [4, 3, 2, 1]
    rows = client.get("/api/compare", params={"first": "it's a run", "second": "second"}).json()["rows"]
    assert ["sae", "pair_weighted"] in [row[:2] for row in rows]


def test_downloads(client: TestClient) -> None:
    answer = client.get("/download/second/companies.parquet?search=apple")
    assert answer.headers["content-disposition"] == 'attachment; filename="companies.parquet"'
    assert pd.read_parquet(io.BytesIO(answer.content))["ticker"].tolist() == ["AAPL"]
    assert client.get("/download/second/benchmark.csv").text.startswith('"grouping"')


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/runs/none/companies", 404, "no run 'none'"),
        ("/api/runs/second/trades", 404, "no table 'trades'"),
        ("/api/runs/second/companies?limit=x", 400, "whole number"),
        ("/api/runs/second/companies?limit=9999", 400, "1 to 500"),
        ("/api/runs/second/companies?offset=-1", 400, "whole number"),
        ("/api/runs/second/companies?sort=1;--", 404, "no column"),
        ("/download/second/companies.exe", 400, "no format"),
        ("/api/compare?first=second", 404, "no run ''"),
        ("/report/second", 404, "companysim report"),
        ("/elsewhere", 404, "open /"),
        ("/..%2f..%2fetc/passwd", 404, "open /"),
        ("/report/..%2fsecond", 404, ""),
    ],
)
def test_a_wrong_question_is_answered_in_a_sentence(client: TestClient, path: str, status: int, words: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_the_report_keeps_its_own_policy(client: TestClient, runs: dict[str, Path]) -> None:
    (runs["second"] / "report.html").write_text("<p>report")
    answer = client.get("/report/second")
    assert answer.text == "<p>report"
    assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"


def test_headers_stand_on_every_answer(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/none"), client.post("/"), client.get("/", headers={"host": "evil"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(client: TestClient, method: str) -> None:
    assert client.request(method, "/api/runs").status_code == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", "", "[::2]", "0.0.0.0"]
)
def test_a_rebound_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/runs", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]:8765", "[::1]"])
def test_its_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/runs", headers={"host": host}).status_code == 200


def test_with_a_token_nothing_is_said_without_it(runs: dict[str, Path]) -> None:
    def fresh() -> TestClient:
        app = application(runs, names_of("10.1.2.3", TOKEN), TOKEN)
        return TestClient(app, base_url="http://10.1.2.3:8765", follow_redirects=False)

    for path in ("/", "/page.js", "/api/runs", "/download/second/companies.csv", "/report/second", "/none"):
        assert fresh().get(path).status_code == 401
        assert fresh().get(path + "?token=wrong-wrong-wrong").status_code == 401
    for given in ("Bearer wrong", "Bearer ", "", TOKEN[:-1], "Bearer " + TOKEN + "x"):
        assert fresh().get("/api/runs", headers={"authorization": given}).status_code == 401
    assert fresh().get("/api/runs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert fresh().get("/api/runs", headers={"authorization": f"Bearer {TOKEN}", "host": "evil"}).status_code == 403
    client = fresh()
    answer = client.get("/", params={"a": "b", "token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?a=b")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert client.get("/api/runs").status_code == 200
    assert (
        fresh().get("http://10.1.2.3:8765//evil.example/", params={"token": TOKEN}).headers["location"]
        == "/evil.example/"
    )


def test_elsewhere_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org", "2001:db8::1"):
        with pytest.raises(ConfigError, match="COMPANYSIM_TOKEN"):
            names_of(host, None)
        with pytest.raises(ConfigError, match="16 or more"):
            names_of(host, "short")
    assert names_of("0.0.0.0", TOKEN) is None
    assert "10.1.2.3" in (names_of("10.1.2.3", TOKEN) or ())
    for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
        assert host in (names_of(host, None) or ())
    with pytest.raises(AssertionError):
        Guard(lambda *_: None, hosts=None, token=None)  # type: ignore[arg-type]


def test_a_taken_port_is_said(runs: dict[str, Path]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="another --port"):
        listen(runs, port=taken.getsockname()[1])


@pytest.mark.parametrize(("header", "name"), [("A.b:80", "a.b"), ("[::1]:80", "::1"), ("", ""), (" x ", "x")])
def test_hostname(header: str, name: str) -> None:
    assert hostname(header) == name
