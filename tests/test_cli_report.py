"""`companysim report` and `companysim serve` as a user meets them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from companysim.cli_report import report, serve
from companysim.errors import ConfigError, RunError
from tests.serve.conftest import made

app = typer.Typer()
app.command()(report)
app.command()(serve)


def test_no_run_is_said(tmp_path: Path) -> None:
    for command in ("report", "serve"):
        with pytest.raises(RunError, match="no finished run"):
            CliRunner().invoke(app, [command, str(tmp_path)], catch_exceptions=False)


def test_serve_refuses_other_addresses_without_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="COMPANYSIM_TOKEN"):
        CliRunner().invoke(app, ["serve", str(made(tmp_path / "run")), "--host", "0.0.0.0"], catch_exceptions=False)


def test_serve_answers_until_interrupted(tmp_path: Path) -> None:
    code = "import typer; from companysim.cli_report import serve; typer.run(serve)"
    arguments = [sys.executable, "-u", "-c", code, str(made(tmp_path / "run")), "--port", "0"]
    token = "x" * 20
    server = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, env=os.environ | {"COMPANYSIM_TOKEN": token}
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        assert token not in address
        address = address.partition("?")[0]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address, timeout=20)
        request = urllib.request.Request(address + "api/runs", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert b'"companies":4' in answer.read()
        server.send_signal(signal.SIGINT)
        server.wait(20)
    finally:
        server.kill()
        server.wait()
