"""`companysim backtest` on a user's own tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from companysim.cli_backtest import backtest, default_dates
from companysim.errors import CompanySimError, ConfigError, DataError, RunError
from companysim.trading import Partitions
from tests.tiny import made_prices

app = typer.Typer()
app.command()(backtest)
TICKERS = [f"{kind}{i}" for kind in "ABC" for i in range(6)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    prices = made_prices(TICKERS, np.random.default_rng(1))
    prices.assign(dollar_volume=1e7).to_parquet(folder / "prices.parquet", index=False)
    groups = [
        (year, ticker, cluster, method)
        for year in (2010, 2011)
        for ticker in TICKERS
        for method, cluster in (("industry", ticker[0]), ("none", ""))
    ]
    pd.DataFrame(groups, columns=["year", "ticker", "cluster", "method"]).to_csv(folder / "groups.csv", index=False)
    (folder / "own.yaml").write_text(
        "backtest:\n  p_value: 0.2\n  roll_months: 24\n  placebo_books: 200\n  placebo_pairs: 60\n"
        "  bootstrap_draws: 100\n  capital: 50000\n"
    )
    return folder


def call(tables: Path, out: Path, *further: str) -> Result:
    given = ["--prices", str(tables / "prices.parquet"), "--groups", str(tables / "groups.csv"), "--out", str(out)]
    result = CliRunner().invoke(app, [*given, *further])
    if isinstance(result.exception, CompanySimError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def printed(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("out") / "backtest"
    return call(tables, out, "--config", str(tables / "own.yaml")).stdout, out


def test_tables_are_printed(printed: tuple[str, Path]) -> None:
    text, _ = printed
    assert "Walk-forward, 2010-12-31 to 2015-12-31" in text
    head = next(line for line in text.splitlines() if line.startswith("grouping"))
    for column in ("Sharpe gross", "Sharpe net", "95 %", "placebo p", "deflated"):
        assert column in head
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith(("industry", "none"))}
    assert int(rows["industry"][1]) == 3 * 45  # three windows
    assert rows["none"][1:5] == ["0", "0", "0", "0"]
    assert "best of 2 worthless trials" in " ".join(text.split())
    years = [line.split()[0] for line in text.splitlines() if line[:2] == "20"]
    assert years == ["2011", "2012", "2013", "2014", "2015"]
    assert "Capital at which" in text


def test_files_hold_every_trade_and_day(printed: tuple[str, Path]) -> None:
    _, out = printed
    trades, equity = pd.read_csv(out / "trades.csv"), pd.read_parquet(out / "equity.parquet")
    figures = pd.read_csv(out / "backtest.csv").set_index("grouping")
    assert len(trades) == figures.loc["industry", "trades"] > 0
    assert set(trades["reason"]) <= {"exit", "stop", "time", "delisted", "end"}
    book = equity[equity["method"] == "industry"]
    assert book["return_net"].sum() * 50_000 == pytest.approx(trades["pnl_net"].sum())
    pd.testing.assert_frame_equal(pd.read_parquet(out / "trades.parquet")[["cost"]], trades[["cost"]])
    assert (out / "backtest.png").read_bytes()[:4] == b"\x89PNG"
    assert {"windows.csv", "pairs.csv", "yearly.csv", "equity.csv"} <= {file.name for file in out.iterdir()}
    windows = pd.read_csv(out / "windows.csv")
    assert windows["formation_end"].tolist()[:3] == ["2010-12-31", "2012-12-31", "2014-12-31"]


def test_json_and_csv_and_the_seed(tables: Path, tmp_path: Path, printed: tuple[str, Path]) -> None:
    given = ("--config", str(tables / "own.yaml"))
    rows = json.loads(call(tables, tmp_path, *given, "--json").stdout)
    assert [row["grouping"] for row in rows] == ["industry", "none"]
    assert rows[1]["sharpe_net"] is None
    assert (tmp_path / "backtest.csv").read_text() == (printed[1] / "backtest.csv").read_text()
    other = call(tables, tmp_path, *given, "--csv", "--seed", "1").stdout
    assert other.splitlines()[0].startswith("protocol,grouping,candidates")
    assert other != (printed[1] / "backtest.csv").read_text()


def test_a_later_grouping_changes_nothing_before(tables: Path, tmp_path: Path, printed: tuple[str, Path]) -> None:
    groups = pd.read_csv(tables / "groups.csv", dtype=str, keep_default_na=False)
    later = groups[groups["year"] == "2011"].assign(year="2014", cluster="all")
    for name in ("prices.parquet", "own.yaml"):
        (tmp_path / name).write_bytes((tables / name).read_bytes())
    pd.concat([groups, later]).to_csv(tmp_path / "groups.csv", index=False)
    call(tmp_path, tmp_path / "out", "--config", str(tables / "own.yaml"))
    before, after = (pd.read_csv(out / "equity.csv") for out in (printed[1], tmp_path / "out"))
    early = before["date"] <= "2014-12-31"
    pd.testing.assert_frame_equal(before[early], after[after["date"] <= "2014-12-31"])
    assert not before["return_net"].equals(after["return_net"])


def test_default_dates_are_three_years_of_formation_and_wait_for_the_groupings() -> None:
    prices = pd.DataFrame(1.0, index=pd.bdate_range("2001-01-01", "2010-12-31"), columns=["A"])

    def dates(readable: str) -> list[str]:
        partitions = {"g": Partitions.single(pd.Index(["A"]), np.zeros(1), pd.Timestamp(readable))}
        return [str(value) for value in default_dates(prices, partitions).values()]

    assert dates("1999-12-31") == ["2001-01-01", "2003-12-31", "2010-12-31"]
    assert dates("2005-12-31") == ["2003-01-01", "2005-12-31", "2010-12-31"]
    with pytest.raises(DataError, match="leave no day to trade after three years of formation: give more prices"):
        dates("2010-12-31")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backtest:\n  entri: 2\n", "unknown key 'backtest.entri': known here are formation_start"),
        ("backtes:\n  entry: 2\n", "unknown key 'backtes': known here are name"),
        ("backtest: 3\n", "write its settings below it"),
        ("backtest:\n  entry: 9\n", "exit, entry and stop must be in this order"),
        ("backtest:\n  lag: 0\n", r"backtest.lag is 0"),
    ],
)
def test_bad_settings_are_named(text: str, message: str, tables: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        call(tables, tmp_path / "out", "--config", str(tmp_path / "c.yaml"))


def test_a_configuration_of_a_run_gives_its_section(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: x\nuniverse:\n  as_of: 2014-01-01\n" + (tables / "own.yaml").read_text())
    result = call(tables, tmp_path / "out", "--config", str(tmp_path / "c.yaml"), "--json")
    assert json.loads(result.stdout)[0]["candidates"] == 3 * 45


def own_tables(tables: Path, folder: Path, groups: pd.DataFrame | None = None, until: str = "2015-12-31") -> Path:
    """A folder with the tables, but with other groups or fewer days."""
    prices = pd.read_parquet(tables / "prices.parquet")
    prices[prices["date"] <= until].to_parquet(folder / "prices.parquet", index=False)
    if groups is None:
        (folder / "groups.csv").write_bytes((tables / "groups.csv").read_bytes())
    else:
        groups.to_csv(folder / "groups.csv", index=False)
    return folder


def test_short_tables_are_taken_with_dates_of_their_own(tables: Path, tmp_path: Path) -> None:
    own_tables(tables, tmp_path, until="2012-12-31")
    prices = pd.read_parquet(tmp_path / "prices.parquet")
    prices[prices["date"] >= "2011-01-01"].to_parquet(tmp_path / "prices.parquet", index=False)
    with pytest.raises(DataError, match="leave no day to trade after three years of formation"):
        call(tmp_path, tmp_path / "out")
    dates = "  formation_start: 2011-01-01\n  formation_end: 2011-12-31\n  trading_end: 2012-12-31\n"
    (tmp_path / "c.yaml").write_text((tables / "own.yaml").read_text() + dates)
    call(tmp_path, tmp_path / "out", "--config", str(tmp_path / "c.yaml"))
    equity = pd.read_csv(tmp_path / "out" / "equity.csv")
    assert equity["date"].min()[:7] == "2012-01"


def computed(*given: object, **named: object) -> None:
    raise AssertionError("the backtest was computed")


@pytest.mark.parametrize("obstacle", ["file", "folder"])
def test_a_place_that_cannot_be_written_to_is_named_before_anything_is_computed(
    obstacle: str, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("companysim.trading.compare", computed)
    out = tmp_path / "out"
    if obstacle == "file":
        out.write_text("")
    else:  # root, whom nothing stops, runs these tests too

        def refuse(**options: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("companysim.cli_backtest.TemporaryFile", refuse)
    with pytest.raises(RunError, match=r"cannot write to .*out .(File exists|Permission denied).: make room or choose"):
        call(tables, out, "--config", str(tables / "own.yaml"))


def test_a_negative_seed_is_refused(tables: Path, tmp_path: Path) -> None:
    given = ["--prices", str(tables / "prices.parquet"), "--groups", str(tables / "groups.csv"), "--seed=-1"]
    result = CliRunner().invoke(app, [*given, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "Invalid value for '--seed'" in result.output


def test_groups_of_other_companies_are_refused(tables: Path, tmp_path: Path) -> None:
    groups = pd.DataFrame({"year": 2010, "ticker": ["X1", "X2"], "cluster": "a"})
    with pytest.raises(DataError, match="none of the companies of the grouping 'groups', such as X1, has prices"):
        call(own_tables(tables, tmp_path, groups), tmp_path / "out", "--config", str(tables / "own.yaml"))


def test_groups_without_a_pair_to_test_are_refused(tables: Path, tmp_path: Path) -> None:
    groups = pd.DataFrame({"year": 2010, "ticker": TICKERS, "cluster": TICKERS})
    with pytest.raises(DataError, match=r"no pair of .*groups.csv could be tested in any window: a pair needs two"):
        call(own_tables(tables, tmp_path, groups), tmp_path / "out", "--config", str(tables / "own.yaml"))


def test_days_too_few_for_a_last_window_are_left_out_and_said(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text((tables / "own.yaml").read_text().replace("24", "12"))
    until = "2014-01-01"  # windows end with each December
    result = call(own_tables(tables, tmp_path, until=until), tmp_path / "out", "--config", str(tmp_path / "own.yaml"))
    assert "Walk-forward, 2010-12-31 to 2013-12-31" in result.stdout
    assert "Left out: the days after 2013-12-31, with prices on fewer than two" in result.stdout
    assert pd.read_csv(tmp_path / "out" / "windows.csv")["trading_end"].max() == "2013-12-31"
