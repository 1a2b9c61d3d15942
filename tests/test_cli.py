"""The command line as a user meets it: exit codes, one sentence for every mistake, tables, JSON and CSV.

Most calls run `main` in this process, which is what the console script does; a few start a real process.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml
from rich.console import Console

from companysim.cli import main
from companysim.report.console import print_run
from companysim.results import Run
from tests import tiny
from tests.interrupts import interruptible


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def companysim(*arguments: object) -> Done:
    """Run the command line as the console script does."""
    stdout, stderr, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["companysim", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    return Done(int(end.value.code or 0), stdout.getvalue(), stderr.getvalue())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def out(world: Path) -> Path:
    target = world.parent / "out"
    command = [sys.executable, "-m", "companysim", "run", str(world), "--out", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Do similar companies move together?" in done.stdout
    assert "What would trading the pairs have earned?" in done.stdout
    assert str(target) in done.stdout
    return target


def assert_refused(done: Done, *words: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "Error: " in last
    for word in words:
        assert word in last, last


def test_help_says_how_to_start_and_lists_every_command() -> None:
    text = companysim("--help").stdout
    for word in ("companysim run", "companysim peers AAPL", "run", "peers", "show"):
        assert word in text
    for command in ("run", "peers", "show"):
        assert companysim(command, "--help").returncode == 0


def test_version() -> None:
    import companysim as package

    assert companysim("--version").stdout.strip() == f"companysim {package.__version__}"


def test_run_writes_figure_summary_and_tables(out: Path) -> None:
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    for name in ("summary.json", "benchmark/test.csv", "trading/backtest.csv", "config.yaml"):
        assert (out / name).stat().st_size > 0


def test_run_as_json_and_csv(world: Path, out: Path) -> None:
    printed = json.loads(companysim("run", world, "--out", out, "--json").stdout)
    assert printed == json.loads((out / "summary.json").read_text())
    benchmark, backtest = companysim("run", world, "--out", out, "--csv").stdout.split("\n\n")
    assert pd.read_csv(io.StringIO(benchmark))["grouping"].iloc[0] == "sae"
    assert len(pd.read_csv(io.StringIO(backtest))) == 7


def test_peers_as_table_json_and_csv(out: Path) -> None:
    shown = companysim("peers", "ba0", "-k", 3, "--run", out)
    assert shown.returncode == 0
    assert "Peers of BA0" in shown.stdout
    rows = json.loads(companysim("peers", "BA0", "-k", 3, "--run", out, "--json").stdout)
    table = pd.read_csv(io.StringIO(companysim("peers", "BA0", "-k", 3, "--run", out, "--csv").stdout))
    assert [row["ticker"] for row in rows] == table["ticker"].tolist()
    assert set(rows[0]) == {"rank", "ticker", "company", "similarity", "same_sic", "same_gics", "correlation", "why"}
    assert table["similarity"].is_monotonic_decreasing
    assert "BA0" not in table["ticker"].tolist()
    for ticker in table["ticker"]:
        assert f" {ticker} " in shown.stdout


def test_a_text_like_a_company_has_that_company_as_first_peer(out: Path, tmp_path: Path) -> None:
    companies = pd.read_parquet(out / "universe" / "companies.parquet").set_index("ticker")
    file = tmp_path / "draft.txt"
    file.write_text(companies.loc["DR2", "text"])
    found = json.loads(companysim("peers", "--text", file, "-k", 2, "--run", out, "--json").stdout)
    assert found[0]["ticker"] == "DR2"
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("table", ["benchmark", "backtest", "clusters", "pairs", "trades", "companies"])
def test_show_prints_every_table_as_text_json_and_csv(out: Path, table: str) -> None:
    assert companysim("show", table, "--run", out).returncode == 0
    rows = json.loads(companysim("show", table, "--run", out, "--json").stdout)
    read = pd.read_csv(io.StringIO(companysim("show", table, "--run", out, "--csv").stdout))
    assert len(rows) == len(read) > 0


def test_a_report_that_cannot_be_written_is_said(out: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "nope" / "x.html", tmp_path):
        assert_refused(companysim("report", out, "--out", place), f"cannot write to {place} (", "another --out")
    assert list(tmp_path.iterdir()) == []
    assert companysim("report", out, "--out", tmp_path / "x.html").stdout.strip() == str(tmp_path / "x.html")
    assert (tmp_path / "x.html").read_bytes() == (out / "report.html").read_bytes()


def test_names_are_printed_as_they_are(world: Path, out: Path, tmp_path: Path) -> None:
    """Square brackets and colons are no markup and no emoji, in companies' names as in those of folders."""
    name, folder = "[/b]Bank[reserved]:bank:", tmp_path / "[i]:bank:"
    shutil.copytree(out, folder)
    companies = pd.read_parquet(folder / "universe" / "companies.parquet")
    companies.loc[companies["ticker"] == "BA1", "company"] = name
    companies.to_parquet(folder / "universe" / "companies.parquet")
    for command in (["show", "companies"], ["peers", "BA0", "-k", 17], ["explain", "BA0", "BA1"]):
        assert name in companysim(*command, "--run", folder).stdout, command
    (tmp_path / "[i].txt").write_text("takes deposits")
    assert "the text in" in companysim("peers", "--text", tmp_path / "[i].txt", "--run", folder).stdout
    stream = io.StringIO()
    print_run(Run(folder), Console(file=stream, width=300), 1.0)
    assert f"Results: {folder}/ (" in stream.getvalue()
    shutil.copytree(out, tmp_path / "[red]")
    assert f"Results: {tmp_path / '[red]'}/ (" in companysim("run", world, "--out", tmp_path / "[red]").stdout


def test_descriptions_of_companies_are_for_programs(out: Path) -> None:
    companies = pd.read_parquet(out / "universe" / "companies.parquet")
    shown = companysim("show", "companies", "--run", out).stdout
    assert not [text for text in companies["text"] if text in shown]
    assert max(map(len, shown.splitlines())) < 160
    assert len(shown.splitlines()) == len(companies) + 1
    rows = json.loads(companysim("show", "companies", "--run", out, "--json").stdout)
    assert [row["text"] for row in rows] == companies["text"].tolist()
    table = pd.read_csv(io.StringIO(companysim("show", "companies", "--run", out, "--csv").stdout))
    assert table["text"].tolist() == companies["text"].tolist()


def test_unknown_ticker_names_the_nearest(out: Path) -> None:
    assert_refused(
        companysim("peers", "BAO", "--run", out), "UnknownTickerError", "no company 'BAO'", "did you mean BA"
    )
    assert_refused(companysim("peers", "chip 3", "--run", out), "CH3 (Chip 3 Inc.)")


def test_peers_needs_a_ticker_or_a_text_and_a_finished_run(out: Path, tmp_path: Path) -> None:
    assert_refused(companysim("peers", "--run", out), "--text FILE")
    assert_refused(companysim("peers", "BA0", "--run", tmp_path / "none"), "RunError", "companysim run")
    assert_refused(companysim("peers", "BA0", "-k", 0, "--run", out), "at least one peer")
    assert_refused(companysim("show", "clusters", "--method", "astrology", "--run", out), "no grouping 'astrology'")


@pytest.mark.parametrize("content", [b"", b" \n\t ", b"\x00\x01 ...", b"\xff\xfe\x80"])
def test_a_text_without_words_is_refused(out: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    assert_refused(companysim("peers", "--text", tmp_path / "text.txt", "--run", out), "DataError")
    assert_refused(companysim("peers", "--text", tmp_path / "missing.txt", "--run", out), "missing.txt")


def spoil(world: Path, folder: Path, table: str, change: str) -> Path:
    """A configuration whose `table` is spoilt in one way."""
    content = yaml.safe_load(world.read_text())
    for section, keys in {
        "universe": ("filings", "companies", "prices"),
        "encoder": ("model", "sae", "embedding"),
    }.items():
        for key in keys:
            content[section][key] = str(world.parent / content[section][key])
    path = Path(content["universe"][table])
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    spoilt = folder / f"{table}.csv"
    if change == "empty file":
        spoilt.write_bytes(b"")
    elif change == "missing column":
        frame.drop(columns=frame.columns[-1]).to_csv(spoilt, index=False)
    elif change == "no price":
        frame.assign(adj_close=frame["adj_close"].where(frame.index != 4)).to_csv(spoilt, index=False)
    elif change == "negative price":
        frame.assign(adj_close=frame["adj_close"].where(frame.index != 4, -1)).to_csv(spoilt, index=False)
    elif change == "duplicate":
        pd.concat([frame, frame.tail(1)]).to_csv(spoilt, index=False)
    elif change == "two words":
        frame.assign(ticker=frame["ticker"].where(frame.index != 1, "BRK B")).to_csv(spoilt, index=False)
    elif change == "empty text":
        frame.assign(text=frame["text"].where(frame.index != 2, " ")).to_csv(spoilt, index=False)
    content["universe"][table] = str(spoilt)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder / "config.yaml"


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("prices", "empty file", ["prices.csv"]),
        ("prices", "missing column", ["prices.csv", "'adj_close' is missing"]),
        ("prices", "no price", ["prices.csv", "adj_close", "row 5"]),
        ("prices", "negative price", ["prices.csv", "adj_close", "row 5", "positive"]),
        ("prices", "duplicate", ["prices.csv", "more than one price", "2015-12-31"]),
        ("companies", "two words", ["companies.csv", "ticker", "'BRK B' (row 2)", "no white space (write BRK.B"]),
        ("filings", "empty text", ["filings.csv", "text", "row 3"]),
        ("filings", "missing column", ["filings.csv", "'text' is missing"]),
    ],
)
def test_spoilt_tables_are_refused_and_leave_nothing(
    world: Path, tmp_path: Path, table: str, change: str, words: list[str]
) -> None:
    config = spoil(world, tmp_path, table, change)
    assert_refused(companysim("run", config, "--out", tmp_path / "out"), "DataError", *words)
    written = [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name not in ("config.yaml", ".lock")
    ]
    assert written == []


def test_unknown_keys_and_foreign_folders_are_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("encoder:\n  layer: 5\n")
    assert_refused(companysim("run", tmp_path / "bad.yaml"), "ConfigError", "encoder.layer", "hook")
    assert_refused(companysim("run", tmp_path / "missing.yaml"), "ConfigError", "missing.yaml")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert_refused(companysim("run", world, "--out", tmp_path / "mine"), "RunError", "no run directory")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_model_and_a_hook_that_do_not_exist(world: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(spoil(world, tmp_path, "filings", "none").read_text())
    content["universe"]["filings"] = str(world.parent / "filings.csv")
    content["encoder"]["hook"] = "layers.99"
    (tmp_path / "hook.yaml").write_text(yaml.safe_dump(content))
    assert_refused(companysim("run", tmp_path / "hook.yaml", "--out", tmp_path / "a"), "WeightsError", "layers.99")
    content["encoder"] |= {"hook": "layers.1", "model": str(tmp_path / "nowhere")}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content))
    assert_refused(companysim("run", tmp_path / "model.yaml", "--out", tmp_path / "b"), "WeightsError", "nowhere")


def test_a_mistake_ends_a_real_process_with_code_2_and_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "companysim", "peers", "AAPL", "--run", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert_refused(Done(done.returncode, done.stdout, done.stderr), "RunError", "no finished run")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_run_that_is_interrupted_says_that_it_resumes(world: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    command = [sys.executable, "-m", "companysim", "run", str(world), "--out", str(target)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    try:
        while not (target / "encoding").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert stdout == ""
    assert "Traceback" not in stderr
    assert stderr.strip().splitlines()[-1] == "stopped; run the same command again to resume"
    assert not (target / "summary.json").exists()


def test_importing_the_package_and_cached_answers_load_no_torch(out: Path) -> None:
    code = (
        "import sys, companysim as cs\n"
        f"cs.Run({str(out)!r}).peers('BA0')\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
