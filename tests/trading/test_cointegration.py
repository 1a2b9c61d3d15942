from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.stattools import adfuller, coint

from companysim.errors import DataError
from companysim.trading import adf, engle_granger

pytestmark = pytest.mark.filterwarnings("ignore:.*currently returns a plain tuple:FutureWarning")
ZERO, ONE = np.array([0]), np.array([1])


def random_walks(rng: np.random.Generator, days: int, n: int) -> np.ndarray:
    return np.cumsum(rng.normal(0, 0.02, (days, n)), axis=0)


def autoregressions(rng: np.random.Generator, days: int, n: int) -> np.ndarray:
    """AR(3) series, whose lag order matters."""
    series = rng.normal(0, 1, (days, n))
    for t in range(3, days):
        series[t] += 0.5 * series[t - 1] - 0.3 * series[t - 2] + 0.6 * series[t - 3]
    return series


def ar1(rng: np.random.Generator, days: int, phi: float) -> np.ndarray:
    series = rng.normal(0, 0.01, days)
    for t in range(1, days):
        series[t] += phi * series[t - 1]
    return series


def related_logs(rng: np.random.Generator, days: int, n: int) -> np.ndarray:
    """Log prices from cointegrated (a common walk and stationary noise) to unrelated ones."""
    common = np.cumsum(rng.normal(0, 0.02, days))
    own = [ar1(rng, days, phi) for phi in np.linspace(0.5, 1.0, n)]
    return 3 + common[:, None] * np.linspace(0.5, 1.5, n) + np.stack(own, axis=1)


@pytest.mark.parametrize("days", [61, 250, 504])
@pytest.mark.parametrize("kind", [random_walks, autoregressions], ids=["walk", "ar"])
def test_adf_equals_statsmodels(rng: np.random.Generator, kind, days: int) -> None:  # type: ignore[no-untyped-def]
    series = kind(rng, days, 10)
    t, lags, gamma = adf(series)
    oracle = [adfuller(x, regression="n", autolag="AIC", regresults=True)[-1] for x in series.T]
    np.testing.assert_array_equal(lags, [each.usedlag for each in oracle])
    np.testing.assert_allclose(t, [each.adfstat for each in oracle], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(gamma, [each.resols.params[0] for each in oracle], rtol=1e-8, atol=1e-8)


def test_the_oracle_series_use_many_lag_orders(rng: np.random.Generator) -> None:
    _, lags, _ = adf(np.hstack([random_walks(rng, 250, 10), autoregressions(rng, 250, 10)]))
    assert len(np.unique(lags)) >= 3
    assert lags.max() >= 3


def test_adf_keeps_to_max_lag(rng: np.random.Generator) -> None:
    series = autoregressions(rng, 250, 5)
    t, lags, _ = adf(series, max_lag=1)
    expected = [adfuller(x, maxlag=1, regression="n", autolag="AIC")[0] for x in series.T]
    assert lags.max() <= 1
    np.testing.assert_allclose(t, expected, rtol=1e-8)


def test_adf_equals_arch(rng: np.random.Generator) -> None:
    unitroot = pytest.importorskip("arch.unitroot")
    for x in autoregressions(rng, 300, 5).T:
        oracle = unitroot.ADF(x, trend="n", max_lags=16, method="aic")  # 12 * 3^(1/4), rounded up
        t, lags, _ = adf(x[:, None])
        assert lags[0] == oracle.lags
        assert t[0] == pytest.approx(oracle.stat, abs=1e-8)


@pytest.mark.parametrize("days", [120, 500])
def test_engle_granger_equals_statsmodels_coint_of_the_better_direction(rng: np.random.Generator, days: int) -> None:
    logs = related_logs(rng, days, 6)
    first, second = np.triu_indices(6, 1)
    found = engle_granger(logs, first, second)
    assert set(found["first"] > found["second"]) == {True, False}  # both directions win somewhere
    for row, a, b in zip(found.itertuples(), first, second, strict=True):
        ways = {(y, x): coint(logs[:, y], logs[:, x], autolag="aic")[:2] for y, x in [(a, b), (b, a)]}
        best = min(ways, key=lambda way: ways[way][0])
        assert (row.first, row.second) == best
        assert row.adf_t == pytest.approx(ways[best][0], abs=1e-6)
        assert row.p_value == pytest.approx(min(1.0, 2 * ways[best][1]), abs=1e-6)


def test_engle_granger_equals_arch(rng: np.random.Generator) -> None:
    unitroot = pytest.importorskip("arch.unitroot")
    logs = related_logs(rng, 300, 4)
    for row in engle_granger(logs, np.array([0, 1]), np.array([2, 3])).itertuples():
        oracle = unitroot.engle_granger(logs[:, row.first], logs[:, row.second], max_lags=16, method="aic")
        assert row.adf_t == pytest.approx(oracle.stat, abs=1e-6)


def test_hedge_ratio_intercept_and_scale_are_those_of_least_squares(rng: np.random.Generator) -> None:
    logs = related_logs(rng, 250, 4)
    for row in engle_granger(logs, *np.triu_indices(4, 1)).itertuples():
        fit = sm.OLS(logs[:, row.first], sm.add_constant(logs[:, row.second])).fit()
        np.testing.assert_allclose([row.intercept, row.hedge_ratio], fit.params, rtol=1e-9)
        assert row.residual_sd == pytest.approx(np.sqrt(np.mean(fit.resid**2)), rel=1e-9)


@pytest.mark.parametrize("phi", [0.5, 0.9, 0.95])
def test_half_life_of_a_known_autoregression(rng: np.random.Generator, phi: float) -> None:
    walk = random_walks(rng, 40_000, 1)[:, 0]
    found = engle_granger(np.column_stack([walk + ar1(rng, len(walk), phi), walk]), ZERO, ONE)
    assert found["half_life"][0] == pytest.approx(np.log(0.5) / np.log(phi), rel=0.1)


def test_half_life_is_infinite_without_mean_reversion(rng: np.random.Generator) -> None:
    days = np.arange(200)
    logs = np.column_stack([np.exp(days / 40), rng.normal(size=200)])  # explosive
    row = engle_granger(logs, ZERO, ONE)
    forward = row[row["first"] == 0]
    assert row["half_life"].gt(0).all()
    assert np.isinf(forward["half_life"]).all()


def test_independent_walks_pass_no_more_often_than_the_p_value_says(rng: np.random.Generator) -> None:
    pairs = np.arange(2000).reshape(1000, 2)
    found = engle_granger(random_walks(rng, 300, 2000), *pairs.T)
    assert 0.12 < (found["p_value"] < 0.2).mean() < 0.22  # about 0.34 if two tries cost nothing


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_order_and_direction_of_the_pairs_change_nothing(random, seed: int) -> None:  # type: ignore[no-untyped-def]
    logs = related_logs(np.random.default_rng(seed), 80, 5)
    pairs = [(int(a), int(b)) for a, b in zip(*np.triu_indices(5, 1), strict=True)]
    shuffled = [pair if random.random() < 0.5 else pair[::-1] for pair in random.sample(pairs, len(pairs))]
    plain, other = (engle_granger(logs, *np.array(listed).T) for listed in (pairs, shuffled))
    place = [pairs.index((min(pair), max(pair))) for pair in shuffled]
    pd.testing.assert_frame_equal(plain.iloc[place].reset_index(drop=True), other, rtol=1e-9)


def test_more_pairs_than_one_block_equal_one_pair_at_a_time(rng: np.random.Generator) -> None:
    logs = related_logs(rng, 70, 18)
    first, second = np.triu_indices(18, 1)
    together = engle_granger(logs, first, second)
    assert len(together) == 153 > 128
    alone = [engle_granger(logs, first[i : i + 1], second[i : i + 1]) for i in (0, 127, 128, 152)]
    pd.testing.assert_frame_equal(
        together.iloc[[0, 127, 128, 152]].reset_index(drop=True), pd.concat(alone, ignore_index=True), rtol=1e-9
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_missing_price_is_refused_and_never_a_perfect_pair(rng: np.random.Generator, value: float) -> None:
    logs = random_walks(rng, 100, 3)
    logs[40, 2] = value
    with pytest.raises(DataError, match="series 2 has missing prices in the formation window: test complete series"):
        engle_granger(logs, np.array([0, 0]), np.array([1, 2]))


def test_a_missing_price_of_an_untested_series_does_not_matter(rng: np.random.Generator) -> None:
    logs = random_walks(rng, 100, 3)
    clean = engle_granger(logs, ZERO, ONE)
    logs[40, 2] = np.nan
    pd.testing.assert_frame_equal(engle_granger(logs, ZERO, ONE), clean)


def test_too_few_days_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="on 19 days of prices is meaningless: give at least 20"):
        engle_granger(random_walks(rng, 19, 2), ZERO, ONE)


def degenerate(rng: np.random.Generator, kind: str) -> np.ndarray:
    logs = random_walks(rng, 250, 2)
    if kind == "constant":
        logs[:, 0] = np.log(17.3)
    elif kind == "both constant":
        logs[:] = [1.0, 2.0]
    elif kind == "same":
        logs[:, 0] = logs[:, 1]
    elif kind == "collinear":
        logs[:, 0] = 1 + 2 * logs[:, 1]
    elif kind == "two share lines":
        logs[:, 0] = logs[:, 1] + rng.normal(0, 1e-6, 250)
    elif kind == "standing still":  # each moves on one day only, so that most lagged changes are all zero
        logs[:, 0], logs[:, 1] = 0.1 * (np.arange(250) >= 1), 0.3 * (np.arange(250) >= 249)
    return logs


@pytest.mark.parametrize(
    "kind", ["constant", "both constant", "same", "collinear", "two share lines", "standing still"]
)
def test_a_degenerate_pair_has_p_value_one_and_spoils_no_other(rng: np.random.Generator, kind: str) -> None:
    logs = np.hstack([degenerate(rng, kind), related_logs(rng, 250, 2)])
    found = engle_granger(logs, np.array([0, 2]), np.array([1, 3]))
    assert np.isnan(found["adf_t"][0])
    assert found["p_value"][0] == 1
    assert np.isinf(found["half_life"][0])
    alone = engle_granger(logs, np.array([2]), np.array([3]))
    pd.testing.assert_frame_equal(found.iloc[[1]].reset_index(drop=True), alone, rtol=1e-9)


def test_a_singular_series_has_no_statistic_and_spoils_no_other(rng: np.random.Generator) -> None:
    walk = random_walks(rng, 250, 1)
    t, lags, gamma = adf(np.hstack([np.sin(0.3 * np.arange(250))[:, None], walk, np.zeros((250, 1))]))
    assert np.isnan(t[[0, 2]]).all()
    assert np.isnan(gamma[[0, 2]]).all()
    assert (t[1], lags[1], gamma[1]) == pytest.approx([x[0] for x in adf(walk)])


def test_no_pairs_give_an_empty_table_with_the_same_columns_and_types(rng: np.random.Generator) -> None:
    logs = random_walks(rng, 100, 2)
    none = np.zeros(0, dtype=np.int64)
    pd.testing.assert_frame_equal(engle_granger(logs, none, none), engle_granger(logs, ZERO, ONE).iloc[:0])
