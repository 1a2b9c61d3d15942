from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from companysim.errors import DataError
from companysim.trading import Partitions
from companysim.trading.inputs import check_tickers, read_groups, read_prices

DAYS = pd.bdate_range("2010-01-04", periods=4, name="date")


@pytest.fixture
def wide() -> pd.DataFrame:
    return pd.DataFrame({"NA": [1.0, 2, np.nan, 4], "TRUE": [5.0, 6, 7, 8]}, index=DAYS)


def test_long_and_wide_tables_of_either_kind_are_the_same_prices(wide: pd.DataFrame, tmp_path: Path) -> None:
    long = wide.reset_index().melt("date", var_name="ticker", value_name="adj_close").dropna()
    long.sample(frac=1, random_state=0).to_csv(tmp_path / "long.csv", index=False)
    long.to_parquet(tmp_path / "long.parquet")
    wide.to_csv(tmp_path / "wide.csv")
    wide.to_csv(tmp_path / "wide.csv.gz")
    wide.to_parquet(tmp_path / "index.parquet")
    wide.reset_index(names="day").to_parquet(tmp_path / "column.parquet")
    for file in tmp_path.iterdir():
        prices, volume = read_prices(file)
        pd.testing.assert_frame_equal(prices, wide, check_names=False, check_freq=False, check_index_type=False)
        assert volume is None


def test_dollar_volume_is_read_where_it_is(wide: pd.DataFrame, tmp_path: Path) -> None:
    long = wide.reset_index().melt("date", var_name="ticker", value_name="adj_close").dropna()
    volume = np.arange(7.0) * 100
    long.assign(dollar_volume=volume).to_csv(tmp_path / "p.csv", index=False)
    prices, found = read_prices(tmp_path / "p.csv")
    assert found is not None
    assert found["NA"].tolist()[:2] == [0.0, 100.0]
    assert np.isnan(found["NA"].iloc[2])
    assert found.shape == prices.shape
    long.assign(dollar_volume=-1).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(
        DataError, match=r"'dollar_volume' holds '-1.0' .row 1. and 6 more .rows 2, 3, 4, ....: it must be 0 or more"
    ):
        read_prices(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,ticker,adj_close\n2010-01-04,A,0\n", "column 'adj_close' holds '0.0' .row 1.: it must be positive"),
        ("date,ticker\n2010-01-04,A\n", "column 'adj_close' is missing"),
        ("date,A\n2010-01-04,x\n", "column 'A' holds 'x' .row 1.: it must be a number"),
        ("date,A\nfirst,1\n", "column 'date' holds 'first' .row 1.: it must be a date"),
        ("day,A,A\n2010-01-04,1,2\n", "column 'A' stands 2 times: keep one"),
        ("date,ticker,adj_close\n2010-01-04,A,1\n2010-01-04,A,2\n", "'A' has more than one price on 2010-01-04"),
    ],
)
def test_bad_prices_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_prices(tmp_path / "p.csv")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*p.csv: give a parquet or CSV file with date, ticker"):
        read_prices(tmp_path / "p.csv")
    (tmp_path / "p.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"cannot read .*p.parquet"):
        read_groups(tmp_path / "p.parquet")


def test_groups_by_date_or_year_and_method(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(
        "year,ticker,cluster,method\n2009,A,x,two\n2009,B,x,two\n2010,A,,two\n2010,B,-1,two\n2009,A,3,one\n"
    )
    found = read_groups(tmp_path / "g.csv")
    assert list(found) == ["one", "two"]
    two, tickers = found["two"], pd.Index(["A", "B"])
    assert two.first == pd.Timestamp("2009-12-31")
    assert two.labels(pd.Timestamp("2010-12-30"), tickers).tolist() == [0, 0]
    assert two.labels(pd.Timestamp("2010-12-31"), tickers).tolist() == [-1, -1]
    with pytest.raises(DataError, match="first grouping is dated 2009-12-31"):
        two.labels(pd.Timestamp("2009-12-30"), tickers)
    frame = pd.DataFrame({"date": ["2009-05-01"] * 2, "ticker": ["A", "B"], "cluster": [1, np.nan]})
    frame.to_parquet(tmp_path / "g.parquet")
    named = read_groups(tmp_path / "g.parquet")
    assert list(named) == ["groups"]
    assert named["groups"].labels(pd.Timestamp("2009-05-01"), tickers).tolist() == [0, -1]
    frame.assign(year=2009).drop(columns="date").to_parquet(tmp_path / "g.parquet")
    assert read_groups(tmp_path / "g.parquet")["groups"].first == pd.Timestamp("2009-12-31")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("year,ticker,cluster\nx,A,1\n", "column 'year' holds 'x' .row 1.: write 2012"),
        ("ticker,cluster\nA,1\n", "column 'date' is missing"),
        ("year,ticker,cluster,cluster\n2009,A,1,2\n", "g.csv: column 'cluster' stands 2 times: keep one"),
        ("year,year,ticker,cluster\n2009,2009,A,1\n", "g.csv: column 'year' stands 2 times: keep one"),
        ("year,ticker\n2009,A\n", "column 'cluster' is missing: name the group"),
        ("date,ticker,cluster\n2009-01-01,A,1\n2009-01-01,A,2\n", "A is twice in the grouping of 2009-01-01"),
        ("date,ticker,cluster\n2009-01-01,,1\n", "column 'ticker' has no value .row 1."),
    ],
)
def test_bad_groups_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_groups(tmp_path / "g.csv")


def test_a_grouping_of_companies_without_prices_is_named(wide: pd.DataFrame) -> None:
    def grouping(*tickers: str) -> Partitions:
        return Partitions(pd.DataFrame({"date": DAYS[0], "ticker": tickers, "cluster": 1}))

    check_tickers(wide, {"half": grouping("TRUE", "X")})
    message = "none of the companies of the grouping 'other', such as X, has prices, as NA has: use the same tickers"
    with pytest.raises(DataError, match=message):
        check_tickers(wide, {"half": grouping("TRUE", "X"), "other": grouping("X", "Y")})
