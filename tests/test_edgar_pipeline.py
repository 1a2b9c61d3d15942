"""From a list of tickers to a backtest, on EDGAR and Yahoo served on loopback; and nothing readable too late enters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from companysim.cli_data import app
from companysim.clustering import ThresholdMST
from companysim.config import load_config
from companysim.encoding.embeddings import Tfidf
from companysim.pipeline import run
from companysim.results import Run
from companysim.similarity import Cosine
from companysim.trading import Partitions
from companysim.trading.walk_forward import Backtest, Protocol, Window, rolling_windows, walk_forward
from companysim.universe import COMPANIES, FILINGS, PRICES, build_universe, read_table
from companysim.universe.sources import http
from tests import tiny
from tests.edgar_world import IDENTITY, Company, Filing, serve
from tests.loopback import Loopback
from tests.universe import yahoo_server

ROOT = Path(__file__).parents[1]
AS_OF = pd.Timestamp("2012-12-31")
FIRST_YEAR = 2012


def companies_of(filings: pd.DataFrame, second_filed: str) -> list[Company]:
    """Two reports of each company: what it does, filed in March 2012, and later the business of another industry."""
    swapped = np.roll(filings["text"].to_numpy(), tiny.PER_INDUSTRY)
    found = []
    for number, row in enumerate(filings.itertuples()):
        cik, kind = int(row.cik), list(tiny.INDUSTRIES)[number // tiny.PER_INDUSTRY]
        reports = [
            Filing(f"{cik:010d}-12-000001", "10-K", "2011-12-31", "2012-03-01", _long(row.text), tiny.SIC[kind]),
            Filing(f"{cik:010d}-13-000001", "10-K", "2012-08-31", second_filed, _long(swapped[number]), tiny.SIC[kind]),
        ]
        found.append(Company(cik, row.ticker, row.company, reports))
    return found


def _long(text: str) -> str:
    return " ".join([text] * 8)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("world")).parent


@pytest.fixture
def edgar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with Loopback() as server:
        monkeypatch.setenv("EDGAR_BASE_URL", server.url)
        monkeypatch.setenv("EDGAR_DATA_URL", server.url)
        monkeypatch.setenv("EDGAR_IDENTITY", IDENTITY)
        assert http.Client.__init__.__kwdefaults__
        monkeypatch.setitem(http.Client.__init__.__kwdefaults__, "per_second", 500)
        yield server


def fetched(edgar: Loopback, world: Path, folder: Path, second_filed: str) -> Path:
    """Folder of the tables that `companysim data filings` writes."""
    companies = companies_of(pd.read_csv(world / "filings.csv"), second_filed)
    serve(edgar, companies)
    tickers = ",".join(company.ticker for company in companies)
    call = ["filings", "--tickers", tickers, "--years", "2011-2012", "--out", str(folder)]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
def test_from_tickers_to_a_backtest(
    edgar: Loopback, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("yfinance").set_tz_cache_location(str(tmp_path / "zones"))
    folder = fetched(edgar, world, tmp_path / "runs" / "edgar-data", second_filed="2013-01-01")
    wide = pd.read_parquet(world / "prices.parquet").pivot(index="date", columns="ticker", values="adj_close")
    histories = {str(name): pd.DataFrame({"close": line, "adj_close": line}) for name, line in wide.items()}
    with ExitStack() as stack:
        yahoo = stack.enter_context(yahoo_server.serve(yahoo_server.FakeYahoo(histories)))
        monkeypatch.setenv("COMPANYSIM_YAHOO", yahoo.address)
        call = ["prices", "--tickers", ",".join(histories), "--start", "2007-01-01", "--end", "2015-12-31"]
        result = CliRunner().invoke(app, [*call, "--out", str(folder)])
        assert result.exit_code == 0, result.output
    checked = CliRunner().invoke(app, ["check", str(folder)])
    assert checked.exit_code == 0, checked.output
    settings = yaml.safe_load((ROOT / "pipelines" / "edgar.yaml").read_text())
    small = yaml.safe_load((world / "config.yaml").read_text())
    settings["encoder"] = small["encoder"] | {
        key: str(world / small["encoder"][key]) for key in ("model", "sae", "embedding")
    }
    settings["clustering"] = small["clustering"]
    settings["benchmark"] |= small["benchmark"]
    settings["backtest"] |= small["backtest"]
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "edgar.yaml").write_text(yaml.safe_dump(settings))
    found = run(load_config(tmp_path / "pipelines" / "edgar.yaml"), tmp_path / "run")
    assert found.summary["universe"]["companies"] == 18
    assert found.summary["universe"]["years"] == [2011]  # the reports of 2012 came a day too late
    scores = found.benchmark.set_index("grouping")
    assert scores.loc["sic", "coverage"] == 1
    assert scores.loc["gics", "coverage"] == 0  # EDGAR has no GICS codes
    assert scores.loc["tfidf", "pair_weighted"] > scores.loc["all_pairs", "pair_weighted"]
    assert len(found.backtest) == 7
    assert len(found.trades) > 0
    companies = pd.read_parquet(found.root / "universe" / "companies.parquet")
    assert companies["filing_id"].str.endswith("-12-000001").all()
    assert Run(found.root).peers(companies["ticker"][0], 3)["ticker"].nunique() == 3


def tables(folder: Path, world: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    return (
        read_table(folder / "filings.parquet", FILINGS),
        read_table(folder / "companies.csv", COMPANIES),
        read_table(world / "prices.parquet", PRICES),
    )


def backtest(filings: pd.DataFrame, companies: pd.DataFrame, prices: pd.DataFrame) -> tuple[Backtest, pd.DataFrame]:
    """Walk forward for three years, with a grouping of each formation end's readable texts; and the readings."""
    first = Window(pd.Timestamp("2011-01-03"), AS_OF, pd.Timestamp("2015-12-31"))
    windows = rolling_windows(first, 12)
    dated, read = [], []
    for window in windows:
        universe = build_universe(filings, companies, prices, window.formation_end)
        vectors = Cosine().fit_transform(Tfidf().encode(universe.companies["text"].tolist()))
        labels = ThresholdMST(share_of_pairs=0.2).fit(vectors).labels_
        dated.append(universe.companies[["ticker"]].assign(date=window.formation_end, cluster=labels))
        read.append(universe.companies[["ticker", "filing_id", "filed"]].assign(end=window.formation_end))
    wide = prices.pivot(index="date", columns="ticker", values="adj_close")
    partitions = Partitions(pd.concat(dated, ignore_index=True))
    return walk_forward(wide, partitions, Protocol(windows, p_value=0.2)), pd.concat(read, ignore_index=True)


def test_a_filing_of_a_day_late_waits_for_the_next_window(edgar: Loopback, world: Path, tmp_path: Path) -> None:
    in_time, late = (fetched(edgar, world, tmp_path / day, second_filed=day) for day in ("2012-12-31", "2013-01-01"))
    filings, companies, prices = tables(late, world)
    assert (filings["filed"] == AS_OF + pd.Timedelta(days=1)).sum() == 18
    found, read = backtest(filings, companies, prices)
    assert (read["filed"] <= read["end"]).all()
    never, _ = backtest(filings[filings["filed"] <= AS_OF], companies, prices)
    early, _ = backtest(*tables(in_time, world))

    def first(result: Backtest) -> tuple[pd.DataFrame, pd.DataFrame]:
        own = result.pairs[result.pairs["formation_end"] == AS_OF].reset_index(drop=True)
        return own, result.daily[result.daily.index.year == FIRST_YEAR + 1]

    for mine, other in zip(first(found), first(never), strict=True):  # as if the late filings did not exist
        pd.testing.assert_frame_equal(mine, other)
    assert not first(found)[0].equals(first(early)[0])  # a day earlier they change what is traded
    second = AS_OF + pd.DateOffset(years=1)
    assert set(read.loc[read["end"] == second, "filed"]) == {AS_OF + pd.Timedelta(days=1)}
    pairs = [result.pairs[result.pairs["formation_end"] == second].reset_index(drop=True) for result in (found, early)]
    pd.testing.assert_frame_equal(*pairs)  # and from the next window on they count
    assert not pairs[0].equals(never.pairs[never.pairs["formation_end"] == second].reset_index(drop=True))
