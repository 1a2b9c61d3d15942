"""Engle-Granger of many pairs against statsmodels and arch, and what happens to pairs that cannot be tested."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.adfvalues import mackinnonp
from statsmodels.tsa.stattools import adfuller, coint

from companysim.errors import DataError
from companysim.trading import cointegration, engle_granger, residual_moments
from companysim.trading.unit_root import cholesky_factors, column_factors

pytestmark = pytest.mark.filterwarnings("ignore:.*currently returns a plain tuple:FutureWarning")
ZERO, ONE = np.array([0]), np.array([1])
PRICES = Path(__file__).resolve().parents[3] / "shared" / "data" / "prices_daily.parquet"
FIGURES = ["adf_t", "p_value", "hedge_ratio", "intercept", "residual_sd", "half_life"]


def random_walks(rng: np.random.Generator, days: int, n: int) -> np.ndarray:
    return np.cumsum(rng.normal(0, 0.02, (days, n)), axis=0)


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


def residual(logs: np.ndarray, dependent: int, explaining: int) -> np.ndarray:
    return sm.OLS(logs[:, dependent], sm.add_constant(logs[:, explaining])).fit().resid


def assert_equals_statsmodels(
    found: pd.DataFrame, logs: np.ndarray, autolag: str | None = "aic", max_lag: int | None = None
) -> None:
    """Statistic, lags and p-value of the direction shown, which is the better one."""
    for row in found.itertuples():
        ways = {}
        for way in ((row.first, row.second), (row.second, row.first)):
            t, _, lags = adfuller(residual(logs, *way), maxlag=max_lag, regression="n", autolag=autolag)[:3]
            ways[way] = (t, lags)
        shown = ways[row.first, row.second]
        assert shown[0] == min(ways.values())[0]
        assert row.lags == shown[1]
        assert row.adf_t == pytest.approx(shown[0], abs=1e-8)
        assert row.p_value == pytest.approx(min(1.0, 2 * mackinnonp(shown[0], "c", 2)), abs=1e-6)


@pytest.mark.parametrize(
    ("autolag", "max_lag"),
    [("aic", None), ("bic", None), ("t-stat", None), (None, None), (None, 3), (None, 0), ("aic", 2)],
)
@pytest.mark.parametrize("days", [30, 120, 500])
def test_every_pair_equals_statsmodels(
    rng: np.random.Generator, days: int, autolag: str | None, max_lag: int | None
) -> None:
    logs = related_logs(rng, days, 6)
    found = engle_granger(logs, *np.triu_indices(6, 1), autolag=autolag, max_lag=max_lag)  # type: ignore[arg-type]
    assert (found["status"] == "ok").all()
    assert (found["n"] == days).all()
    assert_equals_statsmodels(found, logs, autolag, max_lag)


def test_both_directions_win_somewhere_and_many_lag_orders_are_used(rng: np.random.Generator) -> None:
    logs = related_logs(rng, 500, 12)
    logs[2:] += 0.03 * np.diff(rng.normal(size=(500, 12)), n=2, axis=0)  # makes changes depend on earlier ones
    found = engle_granger(logs, *np.triu_indices(12, 1))
    assert set(found["first"] > found["second"]) == {True, False}
    assert found["lags"].nunique() > 5
    assert_equals_statsmodels(found, logs)


def test_one_direction_equals_coint(rng: np.random.Generator) -> None:
    logs = related_logs(rng, 300, 4)
    for row in engle_granger(logs, np.array([0, 1]), np.array([2, 3])).itertuples():
        t, p, _ = coint(logs[:, row.first], logs[:, row.second], autolag="aic")
        assert row.adf_t == pytest.approx(t, abs=1e-8)
        assert row.p_value == pytest.approx(min(1, 2 * p), abs=1e-8)


def test_engle_granger_equals_arch(rng: np.random.Generator) -> None:
    unitroot = pytest.importorskip("arch.unitroot")
    logs = related_logs(rng, 300, 4)
    for row in engle_granger(logs, np.array([0, 1]), np.array([2, 3])).itertuples():
        oracle = unitroot.engle_granger(logs[:, row.first], logs[:, row.second], max_lags=16, method="aic")
        assert row.adf_t == pytest.approx(oracle.stat, abs=1e-8)


@pytest.mark.parametrize("unexplained", [1e-2, 1e-3, 1e-4, 1e-5, 5e-6])
def test_nearly_collinear_pairs_are_as_exact(rng: np.random.Generator, unexplained: float) -> None:
    common = np.cumsum(rng.normal(0, 0.02, (3000, 1)), axis=0)
    noise = np.stack([ar1(rng, 3000, phi) for phi in (0.0, 0.5, 0.9, 1.0)], axis=1)
    noise *= np.sqrt(unexplained) * common.std() / noise.std(axis=0)
    logs = 3 + np.hstack([common, 1.3 * common + noise])
    found = engle_granger(logs, np.zeros(4, dtype=int), np.arange(1, 5))
    assert (found["status"] == "ok").all()
    for row in found.itertuples():
        # least squares of centred levels: on levels far from 0 the oracle would lose digits of its own
        y, x = logs[:, row.first] - logs[:, row.first].mean(), logs[:, row.second] - logs[:, row.second].mean()
        t, _, lags = adfuller(y - x * (x @ y / (x @ x)), regression="n", autolag="AIC")[:3]
        assert row.lags == lags
        assert row.adf_t == pytest.approx(t, abs=1e-8)


@pytest.mark.parametrize("day", [0, 3])
def test_a_spike_on_days_the_regression_hardly_sees_costs_no_digits(rng: np.random.Generator, day: int) -> None:
    logs = related_logs(rng, 300, 3)
    logs[day, 0] += 1e6  # its square, 1e12, is in some of the sums and has to vanish from others
    found = engle_granger(logs, *np.triu_indices(3, 1), autolag=None, max_lag=8)
    assert (found["status"] == "ok").all()
    assert_equals_statsmodels(found, logs, None, 8)


def test_pairs_that_lose_digits_are_computed_from_their_residual(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = related_logs(rng, 200, 5)
    pairs = np.triu_indices(5, 1)
    shared = engle_granger(logs, *pairs)
    found = []
    original = cointegration.adf_statistics
    monkeypatch.setattr(cointegration, "PRECISE", 2.0)
    monkeypatch.setattr(cointegration, "adf_statistics", lambda *given: found.append(1) or original(*given))
    pd.testing.assert_frame_equal(engle_granger(logs, *pairs), shared, rtol=1e-9)
    assert found


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
    assert found["half_life"][0] == pytest.approx(np.log(0.5) / np.log(phi), rel=0.05)


def test_half_life_is_that_of_the_residuals_first_autoregression(rng: np.random.Generator) -> None:
    logs = related_logs(rng, 250, 5)
    for row in engle_granger(logs, *np.triu_indices(5, 1)).itertuples():
        e = residual(logs, row.first, row.second)
        rho = sm.OLS(e[1:], e[:-1]).fit().params[0]
        assert row.half_life == pytest.approx(np.log(0.5) / np.log(rho), rel=1e-8)


def test_half_life_is_infinite_without_mean_reversion_and_zero_if_it_overshoots(rng: np.random.Generator) -> None:
    days = np.arange(200)
    explosive = engle_granger(np.column_stack([np.exp(days / 10), rng.normal(size=200)]), ZERO, ONE, max_lag=0)
    residuals = residual_moments.series_moments(np.exp(days / 10)[None], 0)
    assert np.isinf(residuals.half_life()).all()
    assert explosive["half_life"].ge(0).all()
    walk = random_walks(rng, 200, 1)[:, 0]
    overshooting = engle_granger(np.column_stack([walk + 0.1 * (-1.0) ** days, walk]), ZERO, ONE)
    assert overshooting["half_life"][0] == 0


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


def test_factors_from_shared_moments_are_those_of_the_columns(rng: np.random.Generator) -> None:
    rows = related_logs(rng, 90, 4).T
    rows = rows - rows.mean(axis=1, keepdims=True)
    y, x = np.array([0, 1, 2]), np.array([3, 3, 0])
    slope = np.array([0.7, -1.2, 1.0])
    own, cross = residual_moments.series_moments(rows, 11), residual_moments.cross_moments(rows, y, x, 11)
    shared = residual_moments.residual_moments(own.of(y), own.of(x), cross, slope)
    direct = column_factors(rows[y] - slope[:, None] * rows[x], 0, qr=False)
    for lag in range(12):
        members = np.array([2, 0])
        np.testing.assert_allclose(shared.factors(lag, members)[0], direct(lag, members)[0], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("worth_it", [0, 1e9])
def test_cross_products_one_by_one_equal_matrix_products(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, worth_it: float
) -> None:
    rows = random_walks(rng, 60, 4).T
    monkeypatch.setattr(residual_moments, "_WORTH_IT", worth_it)
    found = residual_moments.cross_moments(rows, np.array([0, 2, 2]), np.array([1, 3, 0]), 5)
    dy, dx = np.diff(rows[2]), np.diff(rows[0])
    by_hand = [sum(dy[t] * dx[t - m] + dx[t] * dy[t - m] for t in range(5, 59)) for m in range(6)]
    np.testing.assert_allclose(found.changes[2], by_hand, rtol=1e-12)
    np.testing.assert_allclose(found.levels, [rows[0] @ rows[1], rows[2] @ rows[3], rows[2] @ rows[0]], rtol=1e-12)


def test_a_matrix_that_is_not_positive_definite_has_no_factor_and_spoils_no_other() -> None:
    good, bad = np.diag([2.0, 3.0, 4.0]), np.diag([1.0, -1.0, 1.0])
    upper, kept = cholesky_factors(np.stack([good, bad, good, np.zeros((3, 3)), good]))
    assert np.isnan(upper).all(axis=(1, 2)).tolist() == [False, True, False, True, False]
    assert kept.tolist() == pytest.approx([1, 0, 1, 0, 1])


@pytest.fixture
def ragged(rng: np.random.Generator) -> np.ndarray:
    """Twelve series of 200 days: complete ones, late ones, early ones, some of the same dates, one with a gap."""
    logs = related_logs(rng, 200, 12)
    logs[:50, [2, 3]] = np.nan
    logs[:80, 4] = np.nan
    logs[150:, [5, 6]] = np.nan
    logs[:120, 7] = np.nan
    logs[90, 8] = np.nan
    logs[60:, 9] = np.nan
    return logs


def test_pairs_of_unequal_dates_are_tested_on_their_common_days(ragged: np.ndarray) -> None:
    found = engle_granger(ragged, *np.triu_indices(12, 1))
    for row in found.itertuples():
        pair = ragged[:, [row.first, row.second]]
        present = np.flatnonzero(np.isfinite(pair).all(axis=1))
        common = pair[present[0] : present[-1] + 1] if len(present) else pair[:0]
        if len(common) < 30:
            assert row.status == "short"
        elif np.isnan(common).any():
            assert row.status == "nan"
        else:
            alone = engle_granger(common, ZERO, ONE).iloc[0]
            assert row.status == "ok"
            assert row.n == len(common)
            assert row.adf_t == pytest.approx(alone["adf_t"], rel=1e-9)
            assert row.intercept == pytest.approx(alone["intercept"], rel=1e-9)
    assert set(found["status"]) == {"ok", "nan", "short"}
    assert found["n"].nunique() > 6
    untested = found[found["status"] != "ok"]
    assert untested[FIGURES].isna().all(axis=None)
    assert (untested["lags"] == 0).all()
    # a gap outside the common days does no harm: series 9 ends before day 90
    assert found[(found["first"].isin([8, 9])) & found["second"].isin([8, 9])]["status"].tolist() == ["ok"]


@pytest.mark.parametrize("parallel", [{"n_jobs": 2}, {"n_jobs": 3, "backend": "threading"}], ids=["loky", "threading"])
def test_the_number_of_jobs_changes_nothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, parallel: dict[str, object]
) -> None:
    monkeypatch.setattr(cointegration, "_TILE", 7)
    logs = related_logs(rng, 70, 40)
    logs[:10, ::3] = np.nan
    pairs = np.triu_indices(40, 1)
    alone = engle_granger(logs, *pairs)
    with joblib.parallel_config(**parallel):
        pd.testing.assert_frame_equal(engle_granger(logs, *pairs), alone, check_exact=True)


@pytest.mark.parametrize("tile", [1, 3, 16, 1000])
def test_the_size_of_blocks_changes_nothing(
    ragged: np.ndarray, monkeypatch: pytest.MonkeyPatch, tile: int
) -> None:
    pairs = np.triu_indices(12, 1)
    expected = engle_granger(ragged, *pairs)
    monkeypatch.setattr(cointegration, "_TILE", tile)
    pd.testing.assert_frame_equal(engle_granger(ragged, *pairs), expected, rtol=1e-9)


def test_one_pair_among_many_is_the_pair_alone(rng: np.random.Generator) -> None:
    logs = related_logs(rng, 70, 18)
    first, second = np.triu_indices(18, 1)
    together = engle_granger(logs, first, second)
    places = [0, 127, 128, 152]
    alone = [engle_granger(logs, first[i : i + 1], second[i : i + 1]) for i in places]
    pd.testing.assert_frame_equal(
        together.iloc[places].reset_index(drop=True), pd.concat(alone, ignore_index=True), rtol=1e-9
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_missing_price_is_reported_and_never_a_perfect_pair(rng: np.random.Generator, value: float) -> None:
    logs = random_walks(rng, 100, 3)
    clean = engle_granger(logs, ZERO, ONE)
    logs[40, 2] = value
    found = engle_granger(logs, np.array([0, 0, 2]), np.array([1, 2, 2]))
    assert found["status"].tolist() == ["ok", "nan", "nan"]
    assert found["p_value"].isna().tolist() == [False, True, True]
    pd.testing.assert_frame_equal(found.iloc[:1], clean)


def test_series_without_any_price_or_common_day_are_short(rng: np.random.Generator) -> None:
    logs = random_walks(rng, 100, 4)
    logs[:, 1] = np.nan
    logs[50:, 2] = np.nan
    logs[:50, 3] = np.nan
    found = engle_granger(logs, np.array([0, 2, 1]), np.array([1, 3, 3]))
    assert found["status"].tolist() == ["short"] * 3
    assert found["n"].tolist() == [0, 0, 0]


def test_too_few_days_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="on 29 days of prices is meaningless: give at least 30"):
        engle_granger(random_walks(rng, 29, 2), ZERO, ONE)


def test_pairs_that_are_not_in_the_table_are_refused(rng: np.random.Generator) -> None:
    logs = random_walks(rng, 100, 3)
    with pytest.raises(DataError, match="a pair names series 3: the table has series 0 to 2"):
        engle_granger(logs, ZERO, np.array([3]))
    with pytest.raises(DataError, match="a pair names series -1"):
        engle_granger(logs, np.array([-1]), ZERO)
    with pytest.raises(DataError, match="2 first and 1 second series: give two lists of the same length"):
        engle_granger(logs, np.array([0, 1]), ZERO)
    with pytest.raises(DataError, match="the log prices have 1 dimensions"):
        engle_granger(logs[:, 0], ZERO, ONE)


@pytest.mark.parametrize("max_lag", [50, -1])
def test_an_impossible_max_lag_is_reported(rng: np.random.Generator, max_lag: int) -> None:
    logs = random_walks(rng, 100, 2)
    if max_lag < 0:
        with pytest.raises(DataError, match="max_lag = -1 on 100 days: give a number from 0 to 49"):
            engle_granger(logs, ZERO, ONE, max_lag=max_lag)
    else:
        assert engle_granger(logs, ZERO, ONE, max_lag=max_lag)["status"].tolist() == ["short"]


def degenerate(rng: np.random.Generator, kind: str) -> np.ndarray:
    logs = random_walks(rng, 250, 2)
    if kind == "constant":
        logs[:, 0] = np.log(17.3)
    elif kind == "both constant":
        logs[:] = [1.0, 2.0]
    elif kind == "same":
        logs[:, 0] = logs[:, 1]
    elif kind == "multiple":
        logs[:, 0] = 1 + 2 * logs[:, 1]
    elif kind == "two share lines":
        logs[:, 0] = logs[:, 1] + rng.normal(0, 1e-6, 250)
    elif kind == "standing still":  # each moves on one day only, so that most lagged changes are all zero
        logs[:, 0], logs[:, 1] = 0.1 * (np.arange(250) >= 1), 0.3 * (np.arange(250) >= 249)
    return logs


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("constant", "constant"),
        ("both constant", "constant"),
        ("same", "collinear"),
        ("multiple", "collinear"),
        ("two share lines", "collinear"),
        ("standing still", "singular"),
    ],
)
def test_a_degenerate_pair_has_no_figures_and_spoils_no_other(
    rng: np.random.Generator, kind: str, status: str
) -> None:
    logs = np.hstack([degenerate(rng, kind), related_logs(rng, 250, 2)])
    found = engle_granger(logs, np.array([0, 2]), np.array([1, 3]))
    assert found["status"].tolist() == [status, "ok"]
    assert found.loc[0, FIGURES].isna().all()
    assert found["lags"][0] == 0
    alone = engle_granger(logs, np.array([2]), np.array([3]))
    pd.testing.assert_frame_equal(found.iloc[[1]].reset_index(drop=True), alone, rtol=1e-9)


def test_a_price_constant_on_the_common_days_only_is_constant(rng: np.random.Generator) -> None:
    logs = random_walks(rng, 200, 2)
    logs[100:, 0] = 1.0
    logs[:100, 1] = np.nan
    assert engle_granger(logs, ZERO, ONE)["status"].tolist() == ["constant"]


@pytest.mark.parametrize("dead", [0, 1])
def test_the_direction_that_can_be_tested_is_taken(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    logs = random_walks(rng, 100, 2)
    original = cointegration._one_way

    def one_way_is_singular(*given):  # type: ignore[no-untyped-def]
        found = original(*given)
        return {**found, "adf_t": np.where(given[3] == dead, np.nan, found["adf_t"])}

    monkeypatch.setattr(cointegration, "_one_way", one_way_is_singular)
    row = engle_granger(logs, ZERO, ONE).iloc[0]
    assert (row["first"], row["second"], row["status"]) == (1 - dead, dead, "ok")
    assert row["adf_t"] == pytest.approx(coint(logs[:, 1 - dead], logs[:, dead])[0], abs=1e-8)


def test_a_series_against_itself_is_collinear(rng: np.random.Generator) -> None:
    found = engle_granger(random_walks(rng, 100, 1), ZERO, ZERO)
    assert found["status"].tolist() == ["collinear"]


def test_no_pairs_give_an_empty_table_with_the_same_columns_and_types(rng: np.random.Generator) -> None:
    logs = random_walks(rng, 100, 2)
    none = np.zeros(0, dtype=np.int64)
    pd.testing.assert_frame_equal(engle_granger(logs, none, none), engle_granger(logs, ZERO, ONE).iloc[:0])


@pytest.mark.skipif(not PRICES.exists(), reason="needs ../shared/data/prices_daily.parquet (research data)")
def test_real_pairs_equal_statsmodels(rng: np.random.Generator) -> None:
    table = pd.read_parquet(PRICES, columns=["date", "ticker", "adj_close"])
    wide = table.pivot(index="date", columns="ticker", values="adj_close").loc["2012":"2013"]
    complete = wide.loc[:, wide.notna().all() & (wide > 0).all()]
    logs = np.log(complete.iloc[:, ::10].to_numpy())
    first, second = np.triu_indices(logs.shape[1], 1)
    chosen = rng.choice(len(first), 60, replace=False)
    found = engle_granger(logs, first[chosen], second[chosen])
    assert (found["status"] == "ok").all()
    assert_equals_statsmodels(found, logs)
