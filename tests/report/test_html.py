"""The report file: its figures are the run's, its text is inert, and it asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import companysim as cs
from companysim.cli_report import report
from companysim.errors import RunError
from companysim.report.html import write_report
from companysim.report.html.page import embedded, page_data, render
from tests.report.world import HOSTILE, IMAGE


class Reader(HTMLParser):
    """Cells with their source, the elements that run or load something, and the content of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._path = ""
        self._open = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.tags.append((tag, given))
        self._path = given.get("data-from") or ""
        if tag in self.inside:
            self.inside[tag].append("")
            self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, text: str) -> None:
        if self._path:
            self.cells[self._path] = text
            self._path = ""
        if self._open:
            self.inside[self._open][-1] += text


@pytest.fixture(scope="module")
def page(tiny_run: cs.Run) -> str:
    return render(tiny_run)


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def at(summary: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(summary, list):
            summary = summary[int(part)]
        else:
            summary = None if summary is None else summary.get(part)
    return summary


def equals(text: str, value: float | None) -> bool:
    """Whether a written figure is the value rounded to as many digits as are written."""
    if value is None:
        return text == "-"
    scale = 100 if text.endswith("%") else 1
    bare = text.rstrip("%").replace(",", "")
    digits = len(bare.partition(".")[2])
    return abs(float(bare) - scale * value) <= 0.5 * 10**-digits + 1e-9


def test_every_cell_equals_the_summary(tiny_run: cs.Run, read: Reader) -> None:
    summary = json.loads((tiny_run.root / "summary.json").read_text())
    for paths, text in read.cells.items():
        values = [at(summary, path) for path in paths.split()]
        if len(values) == 1 and isinstance(values[0], list):
            values = values[0]
        written = ["-"] * len(values) if text == "-" else text.split("..")
        assert len(written) == len(values), (paths, text)
        assert all(equals(*pair) for pair in zip(written, values, strict=True)), (paths, text, values)


def test_every_grouping_and_headline_figure_is_there(tiny_run: cs.Run, read: Reader) -> None:
    wanted = ["mean_correlation", "size_matched_null", "pair_weighted", "ci95", "coverage", "share_of_pairs", "peers5"]
    wanted += [f"{kind}.{scheme}" for kind in ("matched", "matched_ci95") for scheme in ("sic", "gics")]
    for section in ("benchmark", "benchmark_before"):
        for place in range(len(tiny_run.summary[section])):
            assert {f"{section}.{place}.{key}" for key in wanted} <= set(read.cells)
    for place in range(len(tiny_run.summary["backtest"])):
        for key in (
            "pairs",
            "trades",
            "sharpe_gross",
            "sharpe_net",
            "sharpe_low backtest",
            "placebo_p",
            "max_drawdown",
        ):
            assert any(path.startswith(f"backtest.{place}.{key}") for path in read.cells), key


def test_nothing_is_fetched_and_nothing_else_may_run(read: Reader) -> None:
    loading = {"src", "srcset", "data", "action", "formaction", "poster", "background", "style"}
    for tag, attributes in read.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img", "form"), tag
        assert not loading & set(attributes), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert attributes.get("href", "#").startswith("#"), attributes
    policy = next(
        a["content"] for t, a in read.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    block, script = read.inside["script"]
    for kind, text in (("script-src", script), ("style-src", read.inside["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert json.loads(block)["companies"]


def test_hostile_text_is_kept_as_text(tiny_run: cs.Run, read: Reader) -> None:
    data = json.loads(read.inside["script"][0])
    company = next(company for company in data["companies"] if company["ticker"] == "BA0")
    assert company["name"] == HOSTILE
    assert "</script><script>" in company["text"]
    assert any(latent["label"].startswith(IMAGE) for latent in data["latents"].values())
    assert [tag for tag, _ in read.tags].count("script") == 2


@given(st.text() | st.sampled_from(["</script>", "<!--", "]]>", "\u2028", "&lt;", "\\u003c", "</ScRiPt >"]))
def test_embedded_json_holds_no_markup_and_reads_back(text: str) -> None:
    written = embedded({text: [text, 1.5, None]})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {text: [text, 1.5, None]}


def test_names_in_the_settings_are_escaped(tiny_run: cs.Run) -> None:
    summary = tiny_run.summary | {"encoder": tiny_run.summary["encoder"] | {"model": HOSTILE}}
    run = cs.Run(tiny_run.root)
    run.__dict__["summary"] = summary
    text = render(run)
    assert HOSTILE not in text
    assert "&lt;script&gt;window.hacked = 1&lt;/script&gt;" in text


def test_the_same_run_gives_the_same_file(tiny_run: cs.Run, page: str, tmp_path: Path) -> None:
    path = write_report(cs.Run(tiny_run.root), tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == page


def test_the_command_writes_the_report_where_it_says(tiny_run: cs.Run, page: str, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    root = Path(shutil.copytree(tiny_run.root, tmp_path / "run"))
    for arguments, path in (([], root / "report.html"), (["--out", str(tmp_path / "r.html")], tmp_path / "r.html")):
        result = CliRunner().invoke(app, [str(root), *arguments], catch_exceptions=False)
        assert result.stdout.strip() == str(path)
        assert path.read_text(encoding="utf-8") == page


def test_a_missing_file_is_named(tiny_run: cs.Run, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_run.root, tmp_path / "run"))
    (root / "explain" / "labels.parquet").unlink()
    with pytest.raises(RunError, match=r"explain/labels\.parquet"):
        page_data(cs.Run(root))


def test_the_ladder_is_the_one_of_the_study() -> None:
    from companysim.report.html.cards import ladder

    study = Path(__file__).parents[2] / "docs" / "STUDY.md"
    if not study.is_file():
        pytest.skip("docs are part of the repository, not of the package")
    text = study.read_text().split("## 1. The published protocol, reproduced")[1].split("### Lists of our own")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert [ladder()["columns"], *ladder()["rows"]] == [rows[0], *rows[2:]]


def test_scripts_write_no_markup() -> None:
    from companysim.report.html.page import SCRIPTS, asset

    for name in SCRIPTS:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", asset(name))
