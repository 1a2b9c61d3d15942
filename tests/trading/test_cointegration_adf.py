"""Batched Dickey-Fuller tests against statsmodels and arch."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.tsa.adfvalues import mackinnonp
from statsmodels.tsa.stattools import adfuller

from companysim.errors import DataError
from companysim.trading import unit_root
from companysim.trading.lag_selection import longest_lag
from companysim.trading.mackinnon import mackinnon_p
from companysim.trading.unit_root import adf

pytestmark = pytest.mark.filterwarnings("ignore:.*currently returns a plain tuple:FutureWarning")


def random_walks(rng: np.random.Generator, days: int, n: int) -> np.ndarray:
    return np.cumsum(rng.normal(0.001, 0.02, (days, n)), axis=0)


def autoregressions(rng: np.random.Generator, days: int, n: int) -> np.ndarray:
    """AR(3) series around a trend, whose lag order matters."""
    series = rng.normal(0, 1, (days, n))
    for t in range(3, days):
        series[t] += 0.5 * series[t - 1] - 0.3 * series[t - 2] + 0.6 * series[t - 3]
    return series + 0.01 * np.arange(days)[:, None]


@pytest.mark.parametrize("days", [30, 61, 250, 504])
@pytest.mark.parametrize("autolag", ["aic", "bic", "t-stat", None])
@pytest.mark.parametrize("trend", ["n", "c", "ct"])
def test_adf_equals_statsmodels(rng: np.random.Generator, trend: str, autolag: str | None, days: int) -> None:
    series = np.hstack([random_walks(rng, days, 6), autoregressions(rng, days, 6)])
    found = adf(series, trend=trend, autolag=autolag)  # type: ignore[arg-type]
    oracle = [adfuller(x, regression=trend, autolag=autolag) for x in series.T]
    np.testing.assert_array_equal(found["lags"], [each[2] for each in oracle])
    np.testing.assert_allclose(found["t"], [each[0] for each in oracle], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found["p_value"], [each[1] for each in oracle], rtol=0, atol=1e-9)
    assert found["status"].eq("ok").all()
    assert found["n"].eq(days).all()


def test_the_oracle_series_use_many_lag_orders(rng: np.random.Generator) -> None:
    series = np.hstack([random_walks(rng, 250, 10), autoregressions(rng, 250, 10)])
    chosen = {rule: adf(series, autolag=rule)["lags"] for rule in ("aic", "bic", "t-stat")}
    assert [lags.nunique() >= least for lags, least in zip(chosen.values(), (3, 2, 3), strict=True)] == [True] * 3
    assert not chosen["aic"].equals(chosen["bic"])
    assert not chosen["aic"].equals(chosen["t-stat"])


@pytest.mark.parametrize("max_lag", [0, 1, 7])
def test_adf_keeps_to_max_lag(rng: np.random.Generator, max_lag: int) -> None:
    series = autoregressions(rng, 250, 5)
    found = adf(series, max_lag=max_lag)
    oracle = [adfuller(x, maxlag=max_lag) for x in series.T]
    np.testing.assert_array_equal(found["lags"], [each[2] for each in oracle])
    np.testing.assert_allclose(found["t"], [each[0] for each in oracle], rtol=1e-9)


def test_adf_equals_arch(rng: np.random.Generator) -> None:
    arch = pytest.importorskip("arch.unitroot")
    series = autoregressions(rng, 300, 5)
    for x, row in zip(series.T, adf(series, trend="ct").itertuples(), strict=True):
        oracle = arch.ADF(x, trend="ct", max_lags=16, method="aic")  # 12 * 3^(1/4), rounded up
        assert row.lags == oracle.lags
        assert row.t == pytest.approx(oracle.stat, abs=1e-9)
        assert row.p_value == pytest.approx(oracle.pvalue, abs=1e-6)


@pytest.mark.parametrize("days", [30, 100, 101, 756, 3000])
@pytest.mark.parametrize("terms", [0, 1, 2])
def test_the_longest_lag_is_the_one_of_statsmodels(rng: np.random.Generator, days: int, terms: int) -> None:
    used = adfuller(rng.normal(size=days), regression=("n", "c", "ct")[terms], autolag="AIC", store=True)[-1]
    assert longest_lag(days, terms) == used.maxlag


def test_nearly_dependent_columns_are_solved_by_qr(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    smooth = np.sin(0.05 * np.arange(400)) + 1e-4 * rng.normal(size=400)  # changes all but follow from earlier ones
    exact = adfuller(smooth, regression="c", autolag="AIC")
    found = adf(smooth[:, None])
    assert found["lags"][0] == exact[2]
    assert found["t"][0] == pytest.approx(exact[0], rel=1e-8)
    calls = []
    original = unit_root._qr_factor
    monkeypatch.setattr(unit_root, "_qr_factor", lambda columns: calls.append(1) or original(columns))
    monkeypatch.setattr(unit_root, "PRECISE", 1.0)
    series = autoregressions(rng, 200, 3)
    by_qr = adf(series)
    assert calls
    monkeypatch.setattr(unit_root, "PRECISE", 0.0)
    by_cholesky = adf(series)
    np.testing.assert_allclose(by_qr["t"], by_cholesky["t"], rtol=1e-10)


def test_a_singular_series_has_no_statistic_and_spoils_no_other(rng: np.random.Generator) -> None:
    walk = random_walks(rng, 250, 1)
    step = 1.0 * (np.arange(250) >= 249)[:, None]
    wave = np.sin(0.3 * np.arange(250))[:, None]
    found = adf(np.hstack([wave, walk, np.full((250, 1), 0.1 + 0.2), step]), trend="n")
    assert found["status"].tolist() == ["singular", "ok", "constant", "singular"]
    assert found[["t", "p_value"]].isna().all(axis=1).tolist() == [True, False, True, True]
    assert found["t"][1] == pytest.approx(adf(walk, trend="n")["t"][0], rel=1e-12)


def test_missing_values_around_a_series_are_cut_and_inside_it_reported(rng: np.random.Generator) -> None:
    series = random_walks(rng, 200, 5)
    series[:20, 1] = np.nan
    series[150:, 2] = np.nan
    series[100, 3] = np.inf
    series[25:, 4] = np.nan
    found = adf(series)
    assert found["status"].tolist() == ["ok", "ok", "ok", "nan", "short"]
    assert found["n"].tolist() == [200, 180, 150, 200, 25]
    for column, some in ((1, slice(20, 200)), (2, slice(0, 150))):
        assert found["t"][column] == pytest.approx(adfuller(series[some, column])[0], rel=1e-10)
    assert found["p_value"][3:].isna().all()
    assert adf(np.full((40, 1), np.nan))["status"].tolist() == ["short"]


def test_a_lag_order_beyond_the_days_is_reported(rng: np.random.Generator) -> None:
    series = random_walks(rng, 60, 2)
    series[:20, 1] = np.nan
    assert adf(series, max_lag=25)["status"].tolist() == ["ok", "short"]
    with pytest.raises(DataError, match="max_lag = -1 on 60 days: give a number from 0 to 28"):
        adf(series[:, :1], max_lag=-1)


def test_a_single_column_is_no_table(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="series has 1 dimensions: give a table of days by series"):
        adf(rng.normal(size=100))


@pytest.mark.parametrize(("trend", "variables"), [("n", 1), ("c", 1), ("ct", 1), ("c", 2)])
def test_p_values_are_mackinnons(trend: str, variables: int) -> None:
    t = np.concatenate([np.linspace(-30, 5, 7001), [-1.04, -1.61, -2.89, -2.62, 0.92, 2.74]])
    found = mackinnon_p(t, trend, variables)  # type: ignore[arg-type]
    expected = [mackinnonp(value, regression=trend, N=variables) for value in t]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-21)
    assert (found > 0).all()
    assert np.isnan(mackinnon_p(np.nan, trend, variables))  # type: ignore[arg-type]


def test_residuals_need_their_own_p_values() -> None:
    assert mackinnon_p(-3.34, "c", 2) == pytest.approx(0.05, abs=0.001)  # MacKinnon's 5 % quantile of two variables
    assert mackinnon_p(-2.86, "c", 1) == pytest.approx(0.05, abs=0.001)
