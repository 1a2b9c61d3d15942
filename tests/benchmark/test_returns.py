"""Windows and the months they may see, bad ticks, and files of returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from companysim.benchmark import calendar_windows, filing_windows, read_returns, winsorise
from companysim.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def monthly(rng: np.random.Generator) -> pd.DataFrame:
    dates = pd.date_range("2009-01-31", "2013-12-31", freq="ME")
    return pd.DataFrame(rng.normal(0, 0.1, (len(dates), 4)), dates, list("ABCD"))


@pytest.fixture
def daily(rng: np.random.Generator) -> pd.DataFrame:
    dates = pd.bdate_range("2010-01-01", "2012-12-31")
    return pd.DataFrame(rng.normal(0, 0.01, (len(dates), 3)), dates, list("ABC"))


def test_calendar_windows_hold_their_year_and_pandas_agrees(monthly: pd.DataFrame) -> None:
    monthly.iloc[14:16, 0] = np.nan
    windows = calendar_windows(monthly, range(2008, 2012))
    assert list(windows.returns) == [2009, 2010, 2011]
    expected = monthly[monthly.index.year == 2010].corr(min_periods=9).to_numpy(copy=True)
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_allclose(windows.correlations()[2010], expected, atol=1e-12)


def test_missing_months_are_counted_by_hand(monthly: pd.DataFrame) -> None:
    monthly.loc["2010-03", "A"] = np.nan  # 11 months
    monthly.loc["2010-01":"2010-06", "B"] = np.nan  # 6: no pair
    monthly.loc["2010", "C"] = np.nan
    row = calendar_windows(monthly, range(2010, 2011)).to_frame().iloc[0]
    assert (row["periods"], row["complete"], row["partial"], row["none"]) == (12, 1, 2, 1)
    assert (row["pairs"], row["pairs_scored"]) == (6, 1)


@pytest.mark.parametrize(
    ("filed", "first", "last"),
    [
        ("2011-03-15", "2011-04-30", "2012-03-31"),
        ("2011-02-28", "2011-03-31", "2012-02-29"),  # the last day of a month: its successor starts after the filing
        ("2011-12-01", "2012-01-31", "2012-12-31"),
    ],
)
def test_the_twelve_months_after_a_filing(monthly: pd.DataFrame, filed: str, first: str, last: str) -> None:
    windows = filing_windows(monthly, {2011: pd.Series({"A": filed})})
    seen = windows.returns[2011]["A"].dropna()
    assert len(seen) == 12
    assert (seen.index[0], seen.index[-1]) == (pd.Timestamp(first), pd.Timestamp(last))
    assert windows.returns[2011][["B", "C", "D"]].isna().all(axis=None)


@pytest.mark.parametrize("frequency", ["monthly", "daily"])
def test_no_return_begins_before_the_filing(
    rng: np.random.Generator, monthly: pd.DataFrame, daily: pd.DataFrame, frequency: str
) -> None:
    returns = monthly if frequency == "monthly" else daily
    begins = pd.Series(returns.index, index=returns.index).shift(1)
    for _ in range(40):
        filed = pd.Series(
            {name: pd.Timestamp("2010-06-01") + pd.Timedelta(int(rng.integers(0, 500)), "D") for name in returns}
        )
        found = filing_windows(returns, {2010: filed}, frequency).returns[2010]  # type: ignore[arg-type]
        for name in returns:
            seen = found[name].dropna().index
            assert (begins[seen] >= filed[name]).all()
            assert seen[-1] <= filed[name] + pd.DateOffset(months=13)
            later = returns.index[begins >= filed[name]]
            assert seen[0] == later[0]  # and none that could be seen is left out


def test_returns_before_the_filing_do_not_move_a_correlation(monthly: pd.DataFrame) -> None:
    filed = {2011: pd.Series({"A": "2011-03-15", "B": "2011-05-02", "C": "2011-03-31", "D": None})}
    changed = monthly.copy()
    changed.loc[:"2011-03-31"] *= 7
    changed.loc["2012-06-30":] *= -3
    before, after = (filing_windows(table, filed).correlations()[2011] for table in (monthly, changed))
    np.testing.assert_array_equal(before, after)
    common = monthly.loc["2011-06-30":"2012-03-31", ["A", "B"]]  # what both windows share, ten months
    assert before[0, 1] == pytest.approx(common.corr().iloc[0, 1], abs=1e-12)
    assert np.isnan(before[3]).all()


def test_a_year_without_filings_is_left_out(monthly: pd.DataFrame) -> None:
    assert filing_windows(monthly, {2011: pd.Series({"A": None})}).returns == {}


def test_limits_come_from_the_past_and_every_change_is_listed(monthly: pd.DataFrame) -> None:
    monthly.loc["2012-05-31", "B"], monthly.loc["2012-06-30", "B"] = 3.0, -2.9
    monthly.loc["2013-05-31", "C"] = -4.0
    original = monthly.copy()
    found = winsorise(monthly, until=2011, quantile=0.01)
    pd.testing.assert_frame_equal(monthly, original)
    past = original[original.index.year <= 2011].to_numpy()
    assert (found.low, found.high) == pytest.approx(np.quantile(past, [0.01, 0.99]))
    listed = found.flagged.set_index(["date", "ticker"])
    assert listed.loc[(pd.Timestamp("2012-05-31"), "B"), "reversed"]
    assert not listed.loc[(pd.Timestamp("2013-05-31"), "C"), "reversed"]
    changed = (found.returns != original).to_numpy()
    assert changed.sum() == len(found.flagged) == ((original < found.low) | (original > found.high)).to_numpy().sum()
    np.testing.assert_array_equal(found.returns.to_numpy(), np.clip(original.to_numpy(), found.low, found.high))


def test_later_years_do_not_move_the_limits(monthly: pd.DataFrame) -> None:
    changed = monthly.copy()
    changed.loc["2012":] *= 50
    first, second = (winsorise(table, 2011, 0.02) for table in (monthly, changed))
    assert (first.low, first.high) == (second.low, second.high)


def test_limits_need_a_past_and_a_quantile(monthly: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="2008"):
        winsorise(monthly, 2008)
    with pytest.raises(ConfigError, match="quantile"):
        winsorise(monthly, 2011, 0.5)


def test_long_and_wide_simple_and_log_and_prices_read_alike(tmp_path: Path, rng: np.random.Generator) -> None:
    dates = pd.date_range("2010-01-31", periods=6, freq="ME")
    prices = pd.DataFrame(50 * np.exp(np.cumsum(rng.normal(0, 0.1, (6, 2)), axis=0)), dates, ["B", "NA"])
    log = np.log(prices).diff().iloc[1:]
    simple = prices.pct_change().iloc[1:]

    def long(table: pd.DataFrame, name: str) -> pd.DataFrame:
        return table.rename_axis("date").reset_index().melt("date", var_name="ticker", value_name=name)

    files = {
        "wide.csv": simple.rename_axis("date").reset_index(),
        "simple.parquet": long(simple, "simple_return"),
        "log.csv": long(log, "log_return").sample(frac=1, random_state=0),
        "price.csv": long(prices, "adj_close"),
        "month.csv": long(simple, "ret").rename(columns={"date": "month"}),
    }
    for name, table in files.items():
        path = tmp_path / name
        table.to_parquet(path) if name.endswith("parquet") else table.to_csv(path, index=False)
        found = read_returns(path)
        assert found.columns.tolist() == ["B", "NA"], name  # a company may be called NA
        np.testing.assert_allclose(found.to_numpy(), log.to_numpy(), atol=1e-12, err_msg=name)
        assert (pd.DatetimeIndex(found.index) == dates[1:]).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("date,ticker,return\n2010-01-31,A,0.1\n2010-01-31,A,0.2\n", "more than one return on 2010-01-31 .row 2."),
        ("date,ticker,return\n2010-01-31,A,-1\n", "above -1"),
        ("date,ticker,adj_close\n2010-01-31,A,0\n", "positive"),
        ("date,ticker,return\n2010-99-31,A,0.1\n", "'2010-99-31' .row 1.: it must be a date"),
        ("date,ticker,return\n2010-01-31,A,x\n", "'x' .row 1.: it must be a number"),
        ("date,ticker,volume\n2010-01-31,A,1\n", "return"),
        ("date,A\n2010-01-31,0.1\n2010-01-31,0.2\n", "'date' repeats '2010-01-31' .row 2."),
        ("date,A\n", "no rows"),
        ("date,A,B\n2010-01-31,54.2,\n2010-02-28,55,10.5\n", "read as simple returns, .*: give prices long"),
        ("A,B,date\n1,0.9,2010-01-31\n1.1,0.8,2010-02-28\n", "give prices long"),
        ("date,ticker,adj_close\n2010-01-31,A,5\n2010-01-31,B,6\n", "prices of a single day give no return"),
        ("", "cannot read"),
    ],
)
def test_bad_returns_are_refused_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as refusal:
        read_returns(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("written", ["2010-{:02}", "2010{:02}"])
def test_months_are_month_ends(tmp_path: Path, written: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text("month,A\n" + "".join(f"{written.format(month)},0.1\n" for month in (2, 1)))
    assert read_returns(path).index.tolist() == [pd.Timestamp("2010-01-31"), pd.Timestamp("2010-02-28")]


def test_a_missing_return_may_be_written_na(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("date,A,B\n2010-01-31,NA,0.1\n2010-02-28,0.2,\n")
    assert np.isnan(read_returns(path).to_numpy()).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("row", ["0.1,0.3", "3,0", "0.9,0.8\n2010-02-28,-0.1,0.7", "NA,NA"])
def test_wide_returns_of_good_months_are_not_taken_for_prices(tmp_path: Path, row: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text("date,A,B,C\n" + "\n".join(f"{line},0.2" for line in f"2010-01-31,{row}".split("\n")) + "\n")
    first = pd.to_numeric(pd.Series(row.split("\n")[0].split(",")), errors="coerce")
    np.testing.assert_allclose(np.expm1(read_returns(path).iloc[0, :2]), first)
