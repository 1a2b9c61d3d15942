"""Return correlations against pandas, and the months that go into them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from companysim.benchmark import calendar_windows, correlation
from companysim.universe import log_returns

pytestmark = pytest.mark.filterwarnings("error")  # numpy warns on its own behalf, not the caller's


def by_pandas(returns: np.ndarray, min_periods: int) -> np.ndarray:
    expected = pd.DataFrame(returns).corr(min_periods=min_periods).to_numpy(copy=True)
    np.fill_diagonal(expected, np.nan)
    return expected


@pytest.mark.parametrize("min_periods", [2, 9])
@pytest.mark.parametrize("missing", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("level", [0.0, 100.0])
def test_equals_pandas(rng: np.random.Generator, missing: float, min_periods: int, level: float) -> None:
    returns = level + rng.normal(size=(14, 25)) @ rng.normal(size=(25, 25)) * rng.uniform(0.01, 10, 25)
    returns[rng.random(returns.shape) < missing] = np.nan
    found = correlation(returns, min_periods)
    np.testing.assert_allclose(found, by_pandas(returns, min_periods), rtol=0, atol=1e-10)
    assert np.isfinite(found).any()


def test_pairs_need_min_periods_in_common_not_each_alone(rng: np.random.Generator) -> None:
    returns = rng.normal(size=(12, 3))
    returns[:2, 0] = returns[-2:, 1] = np.nan  # ten months each, eight in common
    found = correlation(returns, min_periods=9)
    assert np.isnan(found[0, 1])
    assert np.isfinite(found[[0, 1], 2]).all()


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6 / 3])
def test_constant_series_have_no_correlation(rng: np.random.Generator, constant: float) -> None:
    returns = rng.normal(size=(12, 3))
    returns[:, 1] = constant
    found = correlation(returns)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[0, 2])


def test_a_series_constant_over_the_common_months_has_none_with_that_partner(rng: np.random.Generator) -> None:
    returns = rng.normal(size=(12, 3))
    returns[3:, 0] = 0.1
    returns[:3, 1] = np.nan
    found = correlation(returns)
    assert np.isnan(found[0, 1])
    assert np.isfinite(found[0, 2])


def test_diagonal_is_nan_and_the_rest_symmetric_within_one(rng: np.random.Generator) -> None:
    returns = np.outer(rng.normal(size=12), rng.normal(size=40))  # all correlations are 1 or -1, give or take rounding
    found = correlation(returns)
    assert np.isnan(np.diag(found)).all()
    np.testing.assert_array_equal(found, found.T)
    assert np.nanmax(np.abs(found)) == 1.0
    assert np.nanmin(np.abs(found)) > 1 - 1e-12


@pytest.mark.parametrize("shape", [(0, 3), (12, 3)])
def test_nothing_seen_is_nan_throughout(shape: tuple[int, int]) -> None:
    assert np.isnan(correlation(np.full(shape, np.nan))).all()


def test_an_infinite_return_counts_as_missing(rng: np.random.Generator) -> None:
    returns = rng.normal(size=(12, 3))
    missing = returns.copy()
    returns[4, 1], missing[4, 1] = np.inf, np.nan
    np.testing.assert_array_equal(correlation(returns), correlation(missing))


def yearly_correlations(prices: pd.DataFrame, first: int, last: int) -> dict[int, np.ndarray]:
    """Monthly log returns of each calendar year, correlated: the published target."""
    return calendar_windows(log_returns(prices), range(first, last + 1)).correlations()


def month_end_prices(rng: np.random.Generator, names: str = "AB") -> tuple[pd.DataFrame, np.ndarray]:
    """Daily prices from December 2009 to December 2011 of which only month ends mean anything, and those."""
    days = pd.bdate_range("2009-12-01", "2011-12-30")
    daily = pd.DataFrame(rng.uniform(1, 100, (len(days), len(names))), days, list(names))
    return daily, daily.groupby([daily.index.year, daily.index.month]).last().to_numpy(copy=True)


def test_a_year_holds_the_twelve_returns_that_end_in_it(rng: np.random.Generator) -> None:
    daily, ends = month_end_prices(rng)
    returns = np.diff(np.log(ends), axis=0)
    found = yearly_correlations(daily, 2010, 2011)
    assert list(found) == [2010, 2011]
    assert found[2010][0, 1] == pytest.approx(np.corrcoef(returns[:12].T)[0, 1], abs=1e-12)
    assert found[2011][0, 1] == pytest.approx(np.corrcoef(returns[12:].T)[0, 1], abs=1e-12)


def test_no_return_spans_a_gap(rng: np.random.Generator) -> None:
    daily, ends = month_end_prices(rng)
    daily.loc["2010-05":"2010-06", "A"] = np.nan
    returns = np.diff(np.log(ends), axis=0)[:12]
    kept = np.delete(returns, [4, 5, 6], axis=0)  # May and June have no price, July none to start from
    found = yearly_correlations(daily, 2010, 2010)[2010][0, 1]
    assert found == pytest.approx(np.corrcoef(kept.T)[0, 1], abs=1e-12)


def test_eight_common_months_are_too_few(rng: np.random.Generator) -> None:
    daily, _ = month_end_prices(rng)
    daily.loc["2010-05":"2010-07", "A"] = np.nan
    assert np.isnan(yearly_correlations(daily, 2010, 2010)[2010][0, 1])


def test_a_month_without_a_price_on_its_last_day_uses_the_last_it_has(rng: np.random.Generator) -> None:
    daily, ends = month_end_prices(rng)
    daily.loc["2010-03-31", "A"] = np.nan
    ends[3, 0] = daily.loc["2010-03-30", "A"]
    expected = np.corrcoef(np.diff(np.log(ends), axis=0)[:12].T)[0, 1]
    assert yearly_correlations(daily, 2010, 2010)[2010][0, 1] == pytest.approx(expected, abs=1e-12)


def test_years_without_returns_are_left_out(prices: pd.DataFrame) -> None:
    assert list(yearly_correlations(prices, 2000, 2020)) == [2007, 2008, 2009, 2010, 2011, 2012]
    assert yearly_correlations(prices, 1990, 1995) == {}
    prices.loc["2009-01":"2010-12"] = np.nan
    assert list(yearly_correlations(prices, 2007, 2012)) == [2007, 2008, 2011, 2012]


def test_later_prices_do_not_touch_a_year(prices: pd.DataFrame) -> None:
    changed = prices.copy()
    changed.loc["2010":] *= 1 + np.arange(12) / 10
    changed.loc["2011":] **= 2
    np.testing.assert_array_equal(
        yearly_correlations(changed, 2009, 2009)[2009], yearly_correlations(prices, 2009, 2009)[2009]
    )


def test_the_order_of_days_changes_nothing(prices: pd.DataFrame) -> None:
    shuffled = prices.sample(frac=1, random_state=1)
    np.testing.assert_array_equal(
        yearly_correlations(shuffled, 2009, 2009)[2009], yearly_correlations(prices, 2009, 2009)[2009]
    )
