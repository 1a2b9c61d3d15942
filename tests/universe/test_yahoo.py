"""Prices through yfinance from a real web server on loopback: cache, updates, adjustments, faults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

from companysim.cli_data_prices import prices
from companysim.errors import DataError
from companysim.universe import PRICES, read_table
from companysim.universe.sources.yahoo import CACHE, Yahoo, download
from tests.universe.yahoo_server import FakeYahoo, serve

yfinance = pytest.importorskip("yfinance")
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # of yfinance
DAYS = pd.bdate_range("2012-01-02", periods=40)


def history(days: int = 40, factor: float = 1.0, **columns: list[float]) -> pd.DataFrame:
    close = 50 + np.arange(days) % 7 + 0.25
    return pd.DataFrame({"close": close, "adj_close": close * factor, **columns}, index=DAYS[:days])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeYahoo]:
    yfinance.set_tz_cache_location(str(tmp_path / "zones"))
    with serve(FakeYahoo({})) as yahoo:
        yield yahoo


def source(server: FakeYahoo, retries: int = 2) -> Yahoo:
    return Yahoo(retries=retries, pause=0.01, mirror=server.address)


def test_what_yahoo_has_is_what_comes_out(server: FakeYahoo, tmp_path: Path) -> None:
    dividend = [0.0] * 40
    dividend[3] = 0.5
    split = [0.0] * 40
    split[9] = 2.0
    server.histories = {"BB": history(30), "AA": history(40, 0.9, dividend=dividend, split=split)}
    server.names = {"AA": "Ay Inc."}
    found = download(["BB", "AA", "BB"], tmp_path, source=source(server))
    for ticker, table in server.histories.items():
        own = found.prices[found.prices["ticker"] == ticker].set_index("date")
        np.testing.assert_allclose(own[["adj_close", "close"]], table[["adj_close", "close"]])
        assert own.index.tolist() == table.index.tolist()
    aa = found.prices[found.prices["ticker"] == "AA"]
    assert aa.loc[aa["dividend"] > 0, "date"].tolist() == [DAYS[3]]
    assert aa.loc[aa["split"] > 0, "split"].tolist() == [2.0]
    assert found.lines["ticker"].tolist() == ["AA", "BB"]
    assert found.lines["last"].tolist() == [DAYS[39], DAYS[29]]
    assert found.lines["name"].tolist() == ["Ay Inc.", ""]
    assert found.summary() == "2 new"
    some = download(["AA"], tmp_path, DAYS[5], DAYS[8], source=source(server)).prices
    assert some["date"].tolist() == DAYS[5:9].tolist()


def test_only_new_days_are_asked_for(server: FakeYahoo, tmp_path: Path) -> None:
    server.histories = {"AA": history(30)}
    download(["AA"], tmp_path, source=source(server))
    server.histories = {"AA": history(40)}
    server.asked.clear()
    found = download(["AA"], tmp_path, source=source(server))
    assert found.lines["status"].tolist() == ["updated"]
    assert len(found.prices) == 40
    assert len(server.asked) == 1
    assert pd.Timedelta(days=8) < DAYS[29] - server.asked[0][1] < pd.Timedelta(days=12)
    again = download(["AA"], tmp_path, source=source(server))
    assert again.lines["status"].tolist() == ["unchanged"]
    assert_frame_equal(again.prices, found.prices)


@pytest.mark.parametrize("what", ["dividend", "split", "restated"])
def test_the_past_is_fetched_again_when_it_was_adjusted(server: FakeYahoo, tmp_path: Path, what: str) -> None:
    server.histories = {"AA": history(30)}
    download(["AA"], tmp_path, source=source(server))
    event = {} if what == "restated" else {what: [0.0] * 38 + [2.0, 0.0]}
    server.histories = {"AA": history(40, 0.5 if what != "dividend" else 1.0, **event)}
    found = download(["AA"], tmp_path, source=source(server))
    assert found.lines["status"].tolist() == ["adjusted again"]
    np.testing.assert_allclose(found.prices["adj_close"], server.histories["AA"]["adj_close"])
    assert_frame_equal(found.prices, download(["AA"], tmp_path / "fresh", source=source(server)).prices)


def test_an_earlier_start_fetches_all_and_a_later_one_nothing_more(server: FakeYahoo, tmp_path: Path) -> None:
    server.histories = {"AA": history(40)}
    assert len(download(["AA"], tmp_path, DAYS[20], source=source(server)).prices) == 20
    later = download(["AA"], tmp_path, DAYS[25], source=source(server))
    assert later.lines["status"].tolist() == ["unchanged"]
    earlier = download(["AA"], tmp_path, DAYS[2], source=source(server))
    assert earlier.lines["status"].tolist() == ["new"]
    assert earlier.prices["date"].iloc[0] == DAYS[2]


def test_a_changed_ticker_is_found_under_its_symbol_and_kept_under_its_name(server: FakeYahoo, tmp_path: Path) -> None:
    server.histories = {"META": history(), "BRK-B": history(), "OLD": history()}
    server.answers_for = {"OLD": "NEW"}
    found = download(["FB", "BRK.B", "OLD"], tmp_path, symbols={"FB": "META", "BRK.B": ""}, source=source(server))
    assert sorted(found.prices["ticker"].unique()) == ["BRK.B", "FB", "OLD"]
    lines = found.lines.set_index("ticker")
    assert lines["symbol"].to_dict() == {"BRK.B": "BRK-B", "FB": "META", "OLD": "OLD"}
    assert lines["answered"].to_dict() == {"BRK.B": "BRK-B", "FB": "META", "OLD": "NEW"}


def test_a_ticker_that_does_not_exist_is_a_row_with_a_sentence(server: FakeYahoo, tmp_path: Path) -> None:
    server.histories = {"AA": history()}
    found = download(["AA", "NOPE"], tmp_path, source=source(server))
    assert found.summary() == "1 failed, 1 new"
    reason = found.lines["reason"].iloc[1]
    assert reason.startswith("Yahoo knows no prices of NOPE")
    assert "check the ticker" in reason
    with pytest.raises(DataError, match=r"^not one of 1 tickers has a price; the first: Yahoo knows no prices of NOPE"):
        download(["NOPE"], tmp_path / "other", source=source(server))
    with pytest.raises(DataError, match="there is no ticker"):
        download([" "], tmp_path, source=source(server))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("429", "status 429 for AA, 3 attempts"),
        ("503", "status 503, 3 attempts"),
        ("truncated", "bytes missing, 3 attempts"),
        ("html", "expected a JSON value"),
        ("hang up", "Empty reply from server, 3 attempts"),
    ],
)
def test_faults_are_waited_out_or_said_and_never_cached(
    server: FakeYahoo, tmp_path: Path, fault: str, words: str
) -> None:
    server.histories = {"AA": history()}
    server.faults["AA"] = [fault]
    assert download(["AA"], tmp_path, source=source(server)).summary() == "1 new"
    server.faults["AA"] = [fault] * 20
    with pytest.raises(DataError) as caught:
        download(["AA"], tmp_path / "other", source=source(server))
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert list((tmp_path / "other" / CACHE).iterdir()) == []


def test_a_failed_update_keeps_what_is_cached(server: FakeYahoo, tmp_path: Path) -> None:
    server.histories = {"AA": history(30)}
    before = download(["AA"], tmp_path, source=source(server))
    files = {path.name: path.read_bytes() for path in (tmp_path / CACHE).iterdir()}
    server.histories = {"AA": history(40)}
    server.faults["AA"] = ["truncated"] * 20
    found = download(["AA"], tmp_path, source=source(server))
    assert found.lines["status"].tolist() == ["kept"]
    assert "bytes missing" in found.lines["reason"].iloc[0]
    assert_frame_equal(found.prices, before.prices)
    assert {path.name: path.read_bytes() for path in (tmp_path / CACHE).iterdir()} == files


def test_once_refused_the_other_tickers_are_not_asked_for(server: FakeYahoo, tmp_path: Path) -> None:
    server.histories = {"AA": history(), "BB": history(), "CC": history()}
    server.faults["BB"] = ["429"] * 20
    found = download(["AA", "BB", "CC"], tmp_path, source=source(server), workers=1)
    assert found.lines["status"].tolist() == ["new", "failed", "failed"]
    assert found.lines["reason"].iloc[2].startswith("CC was not asked for: Yahoo refuses further requests")
    assert "CC" not in [symbol for symbol, _ in server.asked]
    server.faults.clear()
    assert download(["AA", "BB", "CC"], tmp_path, source=source(server), workers=1).lines["status"].iloc[2] == "new"


def test_a_failure_of_another_thread_does_not_lift_a_refusal(
    server: FakeYahoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    yahoo, start = source(server, retries=0), DAYS[0]
    refused = yfinance.exceptions.YFRateLimitError

    def ask(symbol: str, start: pd.Timestamp) -> None:
        if symbol == "AA":
            raise refused
        with pytest.raises(DataError, match="refuses further requests"):  # of a second thread, meanwhile
            yahoo.history("AA", start)
        raise ValueError("nothing to read")

    monkeypatch.setattr(yahoo, "_ask", ask)
    with pytest.raises(DataError, match="nothing to read"):
        yahoo.history("BB", start)
    with pytest.raises(DataError, match="CC was not asked for: Yahoo refuses further requests"):
        yahoo.history("CC", start)


def test_a_damaged_file_of_the_cache_is_fetched_again(server: FakeYahoo, tmp_path: Path) -> None:
    server.histories = {"AA": history()}
    before = download(["AA"], tmp_path, source=source(server))
    path = tmp_path / CACHE / "AA.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    found = download(["AA"], tmp_path, source=source(server))
    assert found.lines["status"].tolist() == ["new"]
    assert_frame_equal(found.prices, before.prices)


def test_today_is_left_out_since_it_may_not_have_closed(server: FakeYahoo, tmp_path: Path) -> None:
    today = pd.Timestamp.now("America/New_York").tz_localize(None).normalize()
    days = pd.DatetimeIndex([today - pd.Timedelta(days=1), today])
    server.histories = {"AA": pd.DataFrame({"close": [1.0, 2.0], "adj_close": [1.0, 2.0]}, index=days)}
    assert download(["AA"], tmp_path, source=source(server)).prices["date"].tolist() == [days[0]]


def test_a_killed_download_leaves_whole_files_and_goes_on(server: FakeYahoo, tmp_path: Path) -> None:
    names = [f"T{i:02}" for i in range(12)]
    server.histories = {name: history() for name in names}
    script = (
        "import sys; from pathlib import Path; from companysim.universe.sources.yahoo import *\n"
        "import yfinance; yfinance.set_tz_cache_location(sys.argv[2])\n"
        "download(sys.argv[3:], Path(sys.argv[1]), workers=1)"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path), str(tmp_path / "zones"), *names]
    child: list[subprocess.Popen[bytes]] = []
    server.before_answer = lambda symbol: child[0].send_signal(signal.SIGKILL) if symbol == "T07" and child else None
    child.append(subprocess.Popen(command, env={**os.environ, "COMPANYSIM_YAHOO": server.address}))
    assert child[0].wait(60) == -signal.SIGKILL
    whole = sorted(path.stem for path in (tmp_path / CACHE).glob("*.parquet"))
    assert whole == names[:7]
    assert not list(tmp_path.rglob("cookies.db*"))  # yfinance would pickle them
    server.before_answer = lambda symbol: None
    server.asked.clear()
    found = download(names, tmp_path, source=source(server), workers=1)
    assert found.summary() == "5 new, 7 unchanged"
    assert found.prices.groupby("ticker").size().tolist() == [40] * 12


def test_sector_and_industry_are_yahoos_own(server: FakeYahoo) -> None:
    server.histories = {"AA": history()}
    server.profiles = {"AA": {"sector": "Technology", "industry": "Semiconductors"}}
    assert source(server).profile("AA") == {"sector": "Technology", "industry": "Semiconductors"}
    with pytest.raises(DataError, match="NOPE"):
        source(server).profile("NOPE")


@pytest.mark.slow
def test_the_command_writes_prices_lines_and_flags(
    server: FakeYahoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jump = history()
    jump.iloc[20:, :2] *= 4
    server.histories = {"AA": history(), "META": jump}
    (tmp_path / "tickers.csv").write_text("ticker,symbol\nFB,META\nAA,\nNOPE,\n")
    monkeypatch.setenv("COMPANYSIM_YAHOO", server.address)
    app = typer.Typer()
    app.command()(prices)
    arguments = ["--tickers-file", str(tmp_path / "tickers.csv"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "FB moves by" in result.output
    assert "1 without a price (NOPE): Yahoo knows no prices of NOPE" in result.output
    table = read_table(tmp_path / "out/prices.parquet", PRICES)
    assert sorted(table["ticker"].unique()) == ["AA", "FB"]
    lines = pd.read_csv(tmp_path / "out/lines.csv").set_index("ticker")
    assert lines["last"].to_dict() == {"AA": f"{DAYS[39]:%Y-%m-%d}", "FB": f"{DAYS[39]:%Y-%m-%d}", "NOPE": np.nan}
    assert pd.read_csv(tmp_path / "out/quality.csv")["kind"].tolist() == ["jump"]
    assert CliRunner().invoke(app, [*arguments, "--strict"]).exit_code == 1
