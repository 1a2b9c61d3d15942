"""Aligning companies, filings and prices as of a day, and log returns."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal

from companysim.errors import DataError
from companysim.universe import COMPANIES, FILINGS, PRICES, Universe, build_universe, bundled, check_table, log_returns

AS_OF = pd.Timestamp("2012-12-31")
Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def filing_table(*rows: tuple[str, int, str, str]) -> pd.DataFrame:
    """Filings from (filing_id, cik, filed, text)."""
    frame = pd.DataFrame(rows, columns=["filing_id", "cik", "filed", "text"])
    frame = frame.assign(ticker="ANY", company="Any", fiscal_year=frame["filed"].str[:4])
    return check_table(frame, FILINGS, "filings")


def company_table(**ciks: int) -> pd.DataFrame:
    """Companies from ticker=cik, with codes that are all verified."""
    codes = {"sic": "3571", "sic_source": "edgar", "gics": "45202030", "gics_source": "vendor"}
    frame = pd.DataFrame({"ticker": list(ciks), "cik": list(ciks.values()), "company": "Any"})
    return check_table(frame.assign(**codes), COMPANIES, "companies")


def price_table(**days: int) -> pd.DataFrame:
    """Prices from ticker=number of days since 2012-01-02."""
    parts = [
        pd.DataFrame(
            {"date": pd.bdate_range("2012-01-02", periods=n), "ticker": ticker, "adj_close": 1.0 + np.arange(n)}
        )
        for ticker, n in days.items()
    ]
    return check_table(pd.concat(parts), PRICES, "prices")


def four() -> Tables:
    """Four companies with one line, one filing and five prices each."""
    return (
        filing_table(*((f"f{cik}", cik, "2012-03-01", f"text of {cik}") for cik in (1, 2, 3, 4))),
        company_table(A=1, B=2, C=3, D=4),
        price_table(A=5, B=5, C=5, D=5),
    )


def messy(rng: np.random.Generator) -> Tables:
    """Twelve companies, some with two or three lines, no filing, late filings or no price, in no order."""
    lines = {f"{'ZYXWVUTSRQPO'[cik]}{'ABC'[line]}": cik + 1 for cik in range(12) for line in range(1 + cik % 3)}
    told = [
        (f"f{cik}-{day}", cik, f"2012-{3 + day:02d}-{1 + cik:02d}", f"cik {cik} on {day}")
        for cik in range(1, 12)
        for day in rng.choice(9, 3, replace=False)
    ]
    listed = company_table(**lines)
    listed["sic_source"] = rng.choice(["edgar", "unverified"], len(listed))
    listed["gics_source"] = rng.choice(["vendor", "unverified", ""], len(listed))
    return filing_table(*told), listed, price_table(**{t: int(rng.integers(3, 6)) for t in lines if t != "VA"}, SPY=9)


def shuffled(tables: Tables, seed: int) -> Tables:
    first, second, third = (table.sample(frac=1, random_state=seed + i) for i, table in enumerate(tables))
    return first, second, third


def assert_same(one: Universe, other: Universe) -> None:
    assert_frame_equal(one.companies, other.companies, check_exact=True)
    assert_frame_equal(one.prices, other.prices, check_exact=True)
    assert one.dropped == other.dropped


# Aligning


def test_every_company_stands_once_in_the_order_of_its_ticker() -> None:
    universe = build_universe(*four(), AS_OF)
    assert universe.companies["ticker"].tolist() == ["A", "B", "C", "D"]
    assert universe.companies["text"].tolist() == ["text of 1", "text of 2", "text of 3", "text of 4"]
    assert universe.companies.index.tolist() == [0, 1, 2, 3]
    assert universe.prices.columns.tolist() == ["A", "B", "C", "D"]
    assert universe.prices.index.is_monotonic_increasing
    assert set(universe.dropped.values()) == {0}


def test_prices_stay_with_their_ticker_and_day() -> None:
    told, listed, priced = four()
    priced["adj_close"] = np.arange(1.0, len(priced) + 1)
    wide = build_universe(told, listed, priced, AS_OF).prices
    assert wide.size == len(priced)
    for row in priced.itertuples():
        assert wide.loc[row.date, row.ticker] == row.adj_close


def test_a_day_without_a_price_is_nan_and_never_filled() -> None:
    told, listed, _ = four()
    wide = build_universe(told, listed, price_table(A=5, B=3, C=5, D=5), AS_OF).prices
    assert wide["B"].isna().tolist() == [False, False, False, True, True]
    assert wide.isna().sum().sum() == 2


@pytest.mark.parametrize(
    ("days", "kept"), [({"FA": 3, "FB": 5}, "FB"), ({"FA": 5, "FB": 3}, "FA"), ({"FA": 5, "FB": 5}, "FA")]
)
def test_of_two_lines_of_a_company_the_longer_counts_and_ties_go_by_ticker(days: dict[str, int], kept: str) -> None:
    told, _, _ = four()
    universe = build_universe(told, company_table(A=1, FB=2, FA=2, C=3, D=4), price_table(A=4, C=4, D=4, **days), AS_OF)
    assert universe.companies["ticker"].tolist() == ["A", "C", "D", kept]
    assert universe.companies["cik"].is_unique
    assert universe.prices.columns.tolist() == ["A", "C", "D", kept]
    assert universe.dropped["further lines of the same company"] == 1


def test_a_line_without_prices_does_not_displace_the_line_with_prices() -> None:
    told, _, priced = four()
    universe = build_universe(told, company_table(A=1, AA=1, B=2, C=3, D=4), priced, AS_OF)
    assert universe.companies["ticker"].tolist() == ["A", "B", "C", "D"]
    assert universe.dropped["without a price"] == 1
    assert universe.dropped["further lines of the same company"] == 0


def test_every_company_left_out_is_counted_with_its_reason() -> None:
    told, _, priced = four()
    listed = company_table(A=1, A2=1, B=2, C=3, D=4, E=5, F=6, G=7)
    more = pd.concat([priced, price_table(A2=2, E=5, F=5)])
    assert build_universe(told, listed, more, AS_OF).dropped == {
        "without a price": 1,
        "further lines of the same company": 1,
        "without a filing by 2012-12-31": 2,
    }


@pytest.mark.parametrize("extra", [{"SPY": 900}, {"SPY": 2, "AAA": 9}])
def test_prices_of_other_tickers_change_nothing(extra: dict[str, int]) -> None:
    told, listed, priced = four()
    elsewhere = price_table(**extra).assign(date=lambda frame: frame["date"] - pd.Timedelta(days=33))
    assert_same(
        build_universe(told, listed, priced, AS_OF), build_universe(told, listed, pd.concat([priced, elsewhere]), AS_OF)
    )


def test_filings_of_other_companies_change_nothing() -> None:
    told, listed, priced = four()
    more = pd.concat([told, filing_table(("f99", 99, "2012-05-01", "another company"))])
    assert_same(build_universe(told, listed, priced, AS_OF), build_universe(more, listed, priced, AS_OF))


def test_unverified_codes_are_blanked_and_verified_ones_kept() -> None:
    told, listed, priced = four()
    listed = listed.assign(sic_source=["edgar", "unverified", "", "edgar"], gics_source=["unverified", "v", "v", ""])
    found = build_universe(told, listed, priced, AS_OF).companies
    assert found["sic"].tolist() == ["3571", "", "3571", "3571"]
    assert found["gics"].tolist() == ["", "45202030", "45202030", "45202030"]


@pytest.mark.parametrize("left", [0, 1, 2])
def test_fewer_than_three_companies_are_refused_with_the_reasons(left: int) -> None:
    told, listed, priced = four()
    with pytest.raises(DataError, match="at least 3 are needed") as caught:
        build_universe(told.iloc[:left], listed, priced, AS_OF)
    few = "1 company has" if left == 1 else f"{left} companies have"
    assert f"only {few} prices and a filing" in str(caught.value)
    assert f"{4 - left} without a filing by 2012-12-31" in str(caught.value)
    assert str(caught.value).isprintable()


def test_three_companies_are_enough() -> None:
    told, listed, priced = four()
    assert len(build_universe(told.iloc[:3], listed, priced, AS_OF).companies) == 3


@settings(max_examples=14, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_the_rows_changes_nothing(seed: int) -> None:
    tables = messy(np.random.default_rng(seed % 7))
    assert_same(build_universe(*tables, AS_OF), build_universe(*shuffled(tables, seed), AS_OF))


# What is known on a day


def test_a_filing_of_the_day_itself_is_readable_and_one_of_the_next_day_is_not() -> None:
    _, listed, priced = four()
    told = filing_table(
        ("a1", 1, "2012-03-01", "old"),
        ("a2", 1, "2012-12-31", "of the day"),
        ("a3", 1, "2013-01-01", "of the day after"),
        ("b1", 2, "2012-03-01", "only"),
        ("c1", 3, "2012-12-31", "only"),
        ("d1", 4, "2013-01-01", "too late"),
    )
    universe = build_universe(told, listed, priced, AS_OF)
    assert universe.companies["filing_id"].tolist() == ["a2", "b1", "c1"]
    assert universe.dropped["without a filing by 2012-12-31"] == 1


def test_a_filing_of_the_day_is_readable_at_whatever_hour_it_was_filed() -> None:
    _, listed, priced = four()
    told = filing_table(*((f"f{cik}", cik, "2012-12-31 17:30", "late") for cik in (1, 2, 3)))
    assert len(build_universe(told, listed, priced, AS_OF).companies) == 3


def test_of_two_filings_of_one_day_the_one_with_the_last_id_counts() -> None:
    told, listed, priced = four()
    more = filing_table(("f0", 1, "2012-03-01", "first id"), ("g1", 1, "2012-03-01", "last id"))
    found = build_universe(pd.concat([told, more]), listed, priced, AS_OF).companies
    assert found["text"][0] == "last id"


@settings(max_examples=15, deadline=None)
@given(
    offsets=st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=5), min_size=3, max_size=5),
    seed=st.integers(0, 1000),
)
def test_each_company_is_described_by_its_last_readable_filing_and_no_later_one(
    offsets: list[list[int]], seed: int
) -> None:
    offsets = [[-3, *some] for some in offsets]  # everybody has one readable filing
    rows = [
        (f"f{cik}-{i}", cik, f"{AS_OF + pd.Timedelta(days=days):%Y-%m-%d}", f"{cik} {i} {days}")
        for cik, some in enumerate(offsets, start=1)
        for i, days in enumerate(some)
    ]
    lines = dict(zip("ABCDE", range(1, len(offsets) + 1), strict=False))
    priced = price_table(**{ticker: 4 for ticker in lines})
    told = filing_table(*rows).sample(frac=1, random_state=seed)
    universe = build_universe(told, company_table(**lines), priced, AS_OF)
    expected = [
        max((days, f"f{cik}-{i}") for i, days in enumerate(some) if days <= 0)[1] for cik, some in enumerate(offsets, 1)
    ]
    assert universe.companies["filing_id"].tolist() == expected
    known = told[told["filed"] <= AS_OF]  # a world in which later filings were never written
    assert_same(universe, build_universe(known, company_table(**lines), priced, AS_OF))


# Log returns


def test_monthly_returns_run_from_month_end_to_month_end() -> None:
    days = pd.to_datetime(["2012-01-03", "2012-01-30", "2012-02-01", "2012-02-28", "2012-03-30"])
    found = log_returns(pd.DataFrame({"A": [7.0, 10.0, 99.0, 20.0, 5.0]}, index=days))
    assert found.index.tolist() == [pd.Timestamp("2012-02-29"), pd.Timestamp("2012-03-31")]
    np.testing.assert_allclose(found["A"], [math.log(2), math.log(0.25)], rtol=1e-15)


def test_no_return_spans_a_month_without_a_price() -> None:
    days = pd.to_datetime(["2012-01-31", "2012-02-29", "2012-03-30", "2012-04-30", "2012-05-31"])
    found = log_returns(pd.DataFrame({"A": [1.0, 2.0, np.nan, 8.0, 4.0], "B": 1.0}, index=days))
    np.testing.assert_allclose(found["A"], [math.log(2), np.nan, np.nan, math.log(0.5)])
    assert (found["B"] == 0).all()


def test_no_return_spans_a_month_that_is_not_in_the_table() -> None:
    days = pd.to_datetime(["2012-01-31", "2012-02-29", "2012-04-30", "2012-05-31"])
    found = log_returns(pd.DataFrame({"A": [1.0, 2.0, 8.0, 4.0]}, index=days))
    assert len(found) == 4
    np.testing.assert_allclose(found["A"], [math.log(2), np.nan, np.nan, math.log(0.5)])


def test_daily_returns_do_not_span_a_missing_day() -> None:
    days = pd.bdate_range("2012-01-02", periods=5)
    found = log_returns(pd.DataFrame({"A": [1.0, 2.0, np.nan, 8.0, 4.0]}, index=days), "D")
    assert found.index.tolist() == days[1:].tolist()
    np.testing.assert_allclose(found["A"], [math.log(2), np.nan, np.nan, math.log(0.5)])


def test_the_last_price_of_a_month_counts_even_when_the_line_stops_before_its_end() -> None:
    days = pd.to_datetime(["2012-01-31", "2012-02-10", "2012-02-29", "2012-03-30"])
    found = log_returns(pd.DataFrame({"A": [1.0, 2.0, np.nan, 4.0]}, index=days))
    np.testing.assert_allclose(found["A"], [math.log(2), math.log(2)])


def test_monthly_returns_agree_with_a_plain_loop(prices: pd.DataFrame, rng: np.random.Generator) -> None:
    holes = prices.mask(rng.random(prices.shape) < 0.1)
    holes.iloc[200:260, 3] = np.nan
    found = log_returns(holes)
    months = sorted({(day.year, day.month) for day in holes.index})
    assert [(day.year, day.month) for day in found.index] == months[1:]
    for ticker, values in holes.items():
        last = {(day.year, day.month): value for day, value in values.dropna().items()}
        expected = [
            math.log(last[now] / last[before]) if now in last and before in last else math.nan
            for before, now in pairwise(months)
        ]
        np.testing.assert_allclose(found[ticker], expected, rtol=0, atol=1e-13)
    assert found["T03"].isna().sum() >= 2


def test_returns_of_later_prices_do_not_reach_back(prices: pd.DataFrame) -> None:
    cut = prices.loc[:"2010-06-30"]
    assert_frame_equal(log_returns(prices).loc[:"2010-06-30"], log_returns(cut), check_freq=False)


def test_daily_log_returns_add_up_to_the_whole(prices: pd.DataFrame) -> None:
    whole = np.log(prices.iloc[-1] / prices.iloc[0])
    assert_series_equal(log_returns(prices, "D").sum(), whole, check_names=False)


# Bundled files


@pytest.mark.parametrize(
    "name", ["sample/filings.parquet", "sample/companies.csv", "sample/prices.parquet", "sae", "sae/cfg.json"]
)
def test_bundled_files_exist(name: str) -> None:
    assert bundled(name).exists()
    assert bundled(name).as_posix().endswith(name)


def test_an_unknown_bundled_file_is_named() -> None:
    with pytest.raises(DataError, match=r"^the bundled data has no sample/nothing\.csv: reinstall companysim$"):
        bundled("sample/nothing.csv")
