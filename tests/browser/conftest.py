"""A real headless Chromium, and what it opens: the report of a tiny run and the page over it.

These tests are left out unless asked for: `make browser`, or `pytest -m browser`.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

import companysim as cs
from companysim.report.html import write_report
from companysim.serve import application, find_runs
from tests.report.world import made_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives a real Chromium; left out unless asked for by `-m browser`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of this folder out unless `-m` names them."""
    if "browser" in config.getoption("-m"):
        return
    own = [item for item in items if HERE in item.path.parents]
    if own:
        config.hook.pytest_deselected(items=own)
        items[:] = [item for item in items if item not in own]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, or the one CHROMIUM names; where there is none a test fails, since it was asked for."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "no Chromium: run `apt-get install --no-install-recommends chromium`, or name one in CHROMIUM"
    from playwright.sync_api import sync_playwright  # here, so that collecting the tests does not need it

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> cs.Run:
    """A tiny run whose first company is called `<script>`, or the finished one COMPANYSIM_RUN names."""
    named = os.environ.get("COMPANYSIM_RUN")
    if named:
        made = tmp_path_factory.mktemp("named") / Path(named).name
        shutil.copytree(named, made)
        found = cs.Run(made)
    else:
        found = made_run(tmp_path_factory.mktemp("browser"))
    write_report(found, found.root / "report.html")
    return found


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Opener]:
    """Open pages whose console and network are watched; afterwards nothing may have gone wrong."""
    opener = Opener(chromium)
    yield opener
    opener.close()


class Opener:
    """Open addresses in fresh contexts and collect what they complain about and ask for."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.contexts: list[BrowserContext] = []
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def __call__(self, address: str, **options: Any) -> Page:
        context = self.browser.new_context(**options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", lambda dialog: self.complaints.append("a dialog"))
        page.goto(address)
        return page

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        assert self.complaints == []


@pytest.fixture(scope="session")
def address(run: cs.Run) -> Iterator[str]:
    """The page over the run, on a free port of this machine."""
    second = run.root.parent / "second"
    shutil.copytree(run.root, second, dirs_exist_ok=True)
    (second / "report.html").unlink()
    config = uvicorn.Config(application(find_runs(run.root)), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
