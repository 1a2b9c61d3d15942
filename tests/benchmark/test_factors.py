"""Factor files, residuals against statsmodels, and what no residual may see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.decomposition import PCA

from companysim.benchmark import (
    ConditionalAutoencoder,
    Factors,
    calendar_windows,
    factor_residuals,
    past_returns,
    pca_residuals,
    read_factors,
)
from companysim.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("error:::companysim")

FIVE = """This file was created by hand for a test.
It has two lines of prose, with, commas.

,Mkt-RF,SMB,HML,RMW,CMA,RF
201001,  -3.36,   0.38,   0.31,  -1.27,   0.46,   0.00
201002,   3.40,   1.51,   2.82,  -0.24,   1.43,   0.01
201003,   6.31,   1.85,   2.21,  -0.65,   1.67,   0.01
201004,   2.00,   4.98,   2.81,   0.69,   1.72, -99.99

 Annual Factors: January-December
,Mkt-RF,SMB,HML,RMW,CMA,RF
2010,  17.37,  14.15,  -5.29,   0.44,   9.86,   0.12
"""
MOMENTUM = """Missing data are indicated by -99.99.

,Mom
200912,   2.00
201001,  -5.40
201002,   3.75
201003,   3.70
"""


def test_files_of_the_data_library_in_percent(tmp_path: Path) -> None:
    five, momentum = tmp_path / "five.csv", tmp_path / "mom.csv"
    five.write_text(FIVE)
    momentum.write_text(MOMENTUM)
    found = read_factors(five, momentum)
    assert found.unit == "percent"
    assert found.returns.columns.tolist() == ["Mkt-RF", "SMB", "HML", "RMW", "CMA", "Mom"]
    assert [f"{day:%Y-%m-%d}" for day in found.returns.index] == ["2010-01-31", "2010-02-28", "2010-03-31"]
    assert found.returns.loc["2010-02-28"].tolist() == pytest.approx([0.034, 0.0151, 0.0282, -0.0024, 0.0143, 0.0375])
    assert found.risk_free.tolist() == pytest.approx([0, 0.0001, 0.0001])  # April has a missing value


def test_decimals_are_recognised_or_declared_and_days_read(tmp_path: Path) -> None:
    path, table = tmp_path / "daily.csv", tmp_path / "f.parquet"
    path.write_text("x\n\n,Mkt-RF,RF\n20100104,0.0169,0.0\n20100105,0.0031,0.0\n")
    found = read_factors(path)
    assert found.unit == "decimal"
    assert found.returns["Mkt-RF"].tolist() == [0.0169, 0.0031]
    assert f"{found.returns.index[0]:%Y-%m-%d}" == "2010-01-04"
    assert read_factors(path, unit="percent").returns["Mkt-RF"].iloc[0] == pytest.approx(0.000169)
    pd.DataFrame({"date": found.returns.index, "Mkt-RF": [1.69, 0.31]}).to_parquet(table)
    pd.testing.assert_series_equal(read_factors(table).returns["Mkt-RF"], found.returns["Mkt-RF"], check_freq=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [("no dates here\n", "no line starts"), ("201001,1.0\n", "names the factors"), (",Mkt\n201013,1.0\n", "date")],
)
def test_bad_factor_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_factors(path)
    with pytest.raises(DataError, match="cannot read"):
        read_factors(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("date,Mkt\n2010-01-31,0.01\n2010-02-28,0.02\n2010-01-31,0.01\n", "the date 2010-01-31 stands more than once"),
        (",Mkt\n201001,1\n201001,2\n", "the date 2010-01-31 stands more than once"),
        ("x\n,Mkt,RF\n201001,1,0\n201002,1,0,5\n", "line 4 has more values than there are names"),
        (",Mkt,RF\n201001,1,0,5\n201002,1,0,5\n", "line 2 has more values"),  # not: months are its index, Mkt is 0
        ('date,Mkt\n201001,"1\n201002,2\n', "cannot read .* EOF inside string"),
        ("date,Mkt\n2010-13-01,1\n", "a date cannot be read"),
    ],
)
def test_factor_files_that_would_be_misread_are_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as refusal:
        read_factors(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["date", "Month"])
def test_dates_are_found_by_name(tmp_path: Path, name: str) -> None:
    path, days = tmp_path / "f.parquet", ["2010-01-31", "2010-02-28"]
    table = pd.DataFrame({"Mkt-RF": [0.01, 0.03], name: pd.to_datetime(days), "RF": [0.001, 0.002]})
    table.to_parquet(path)
    found = read_factors(path)
    assert [f"{day:%Y-%m-%d}" for day in found.returns.index] == days
    assert found.returns.to_dict("list") == {"Mkt-RF": [0.01, 0.03]}
    assert found.risk_free.tolist() == [0.001, 0.002]
    table.drop(columns=name).to_parquet(path)
    with pytest.raises(DataError, match="a date cannot be read") as refusal:
        read_factors(path)
    assert "\n" not in str(refusal.value)


def test_the_same_factor_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mom.csv"
    path.write_text(MOMENTUM)
    with pytest.raises(DataError, match="Mom"):
        read_factors(path, path)


@pytest.fixture
def world(rng: np.random.Generator) -> tuple[pd.DataFrame, Factors]:
    """Seven years of six companies on two factors; the residuals of the first two move together."""
    dates = pd.date_range("2005-01-31", periods=84, freq="ME")
    f = pd.DataFrame(rng.normal(0, 0.04, (84, 2)), dates, ["Mkt-RF", "SMB"])
    free = pd.Series(rng.uniform(0, 0.003, 84), dates)
    own = rng.normal(0, 0.03, (84, 6))
    own[:, 1] = 0.9 * own[:, 0] + 0.1 * own[:, 1]
    simple = f.to_numpy() @ rng.normal(1, 0.3, (2, 6)) + own + free.to_numpy()[:, None]
    return pd.DataFrame(np.log1p(simple), dates, list("ABCDEF")), Factors(f, free, "decimal")


def test_residuals_use_statsmodels_betas_of_the_months_before(world: tuple[pd.DataFrame, Factors]) -> None:
    returns, factors = world
    returns.iloc[30:34, 2] = np.nan
    windows = calendar_windows(returns, range(2011, 2012))
    found = factor_residuals(returns, windows, factors).returns[2011]
    past = slice(12, 72)  # the sixty months before
    x = sm.add_constant(factors.returns.to_numpy()[past])
    for column, name in enumerate(returns):
        y = np.expm1(returns[name].to_numpy()) - factors.risk_free.to_numpy()
        beta = sm.OLS(y[past], x, missing="drop").fit().params[1:]
        expected = y[72:] - factors.returns.to_numpy()[72:] @ beta
        np.testing.assert_allclose(found.iloc[:, column], expected, atol=1e-12)


def test_what_is_left_correlates_where_it_should(world: tuple[pd.DataFrame, Factors]) -> None:
    returns, factors = world
    windows = calendar_windows(returns, range(2009, 2012))
    raw = np.mean([c for c in windows.correlations().values()], axis=0)
    left = np.mean([c for c in factor_residuals(returns, windows, factors, 48, 24).correlations().values()], axis=0)
    assert raw[2, 3] > 0.4
    assert abs(left[2, 3]) < 0.3
    assert left[0, 1] > 0.9


def test_exposures_never_see_the_window(world: tuple[pd.DataFrame, Factors]) -> None:
    returns, factors = world
    changed = returns.copy()
    changed.loc["2011":] *= -4
    kept = calendar_windows(returns, range(2010, 2011))
    pd.testing.assert_frame_equal(
        factor_residuals(returns, kept, factors).returns[2010], factor_residuals(changed, kept, factors).returns[2010]
    )
    windows = calendar_windows(returns, range(2011, 2012))
    own = np.expm1(windows.returns[2011]) - factor_residuals(returns, windows, factors).returns[2011]
    doubled = calendar_windows(changed, range(2011, 2012))
    other = np.expm1(doubled.returns[2011]) - factor_residuals(changed, doubled, factors).returns[2011]
    np.testing.assert_allclose(own, other, atol=1e-12)  # what the factors explain does not depend on the window


def test_companies_with_a_short_past_have_no_residual(world: tuple[pd.DataFrame, Factors]) -> None:
    returns, factors = world
    returns.iloc[:40, 0] = np.nan  # 32 months before 2011
    windows = calendar_windows(returns, range(2011, 2012))
    found = factor_residuals(returns, windows, factors).returns[2011]
    assert found["A"].isna().all()
    assert found["B"].notna().all()


def test_factors_must_cover_the_window(world: tuple[pd.DataFrame, Factors]) -> None:
    returns, factors = world
    short = Factors(factors.returns.iloc[:-1], factors.risk_free.iloc[:-1], "decimal")
    with pytest.raises(DataError, match="2011-12-31"):
        factor_residuals(returns, calendar_windows(returns, range(2011, 2012)), short)


@pytest.mark.parametrize("count", [1, 3])
def test_components_equal_scikit_learn(world: tuple[pd.DataFrame, Factors], count: int) -> None:
    returns, _ = world
    windows = calendar_windows(returns, range(2011, 2012))
    found = pca_residuals(windows, count)
    x = returns.loc["2011"].to_numpy()
    scaled = (x - x.mean(0)) / x.std(0)
    peer = PCA(count).fit(scaled)
    left = scaled - peer.inverse_transform(peer.transform(scaled))
    expected = np.corrcoef(left.T)
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_allclose(found.correlations()[2011], expected, atol=1e-9)


def test_components_of_gappy_constant_and_absent_series(world: tuple[pd.DataFrame, Factors]) -> None:
    returns, _ = world
    returns.loc["2011-04-30", "A"] = np.nan
    returns.loc["2011", "B"] = 0.01
    returns.loc["2011", "C"] = np.nan
    found = pca_residuals(calendar_windows(returns, range(2011, 2012)), 1)
    assert found.returns[2011]["A"].isna().tolist() == [False] * 3 + [True] + [False] * 8
    values = found.correlations()[2011]
    assert np.isnan(values[[1, 2]]).all()
    assert np.isfinite(values[0, 3:]).all()


def test_too_many_components_are_refused(world: tuple[pd.DataFrame, Factors]) -> None:
    windows = calendar_windows(world[0], range(2011, 2012))
    with pytest.raises(ConfigError, match="at most"):
        pca_residuals(windows, 11)
    with pytest.raises(ConfigError, match="one or more"):
        pca_residuals(windows, 0)


def test_characteristics_are_of_earlier_months(world: tuple[pd.DataFrame, Factors]) -> None:
    returns, _ = world
    changed = returns.copy()
    changed.iloc[50:] = 9.0
    before, names = past_returns(returns)
    after, _ = past_returns(changed)
    np.testing.assert_array_equal(before[:51], after[:51])  # month 50 itself is not seen at month 50
    assert not np.array_equal(before[51], after[51], equal_nan=True)
    month = 60
    assert before[month, 0, names.index("reversal")] == returns.iloc[month - 1, 0]
    assert before[month, 0, names.index("momentum")] == pytest.approx(returns.iloc[month - 12 : month - 1, 0].sum())
    assert before[month, 0, names.index("volatility")] == pytest.approx(returns.iloc[month - 36 : month, 0].std())
    market = returns.iloc[month - 36 : month].mean(axis=1)
    beta = np.cov(returns.iloc[month - 36 : month, 0], market)[0, 1] / market.var()
    assert before[month, 0, names.index("beta")] == pytest.approx(beta)


@pytest.fixture
def planted(rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Returns that are a characteristic times one factor, plus noise."""
    months, n = 72, 40
    dates = pd.date_range("2005-01-31", periods=months, freq="ME")
    z = np.repeat(rng.uniform(-0.5, 0.5, (1, n, 2)), months, axis=0)
    f = rng.normal(0, 0.2, months)
    r = f[:, None] * z[:, :, 0] + rng.normal(0, 0.01, (months, n))
    return pd.DataFrame(r, dates, [f"C{i}" for i in range(n)]), z


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_autoencoder_finds_a_planted_factor(planted: tuple[pd.DataFrame, np.ndarray], hidden: int) -> None:
    returns, z = planted
    model = ConditionalAutoencoder(until=2009, factors=1, hidden=hidden, epochs=80).fit(returns, z)
    assert model.years_ == (2005, 2006, 2007, 2008, 2009)
    test = returns.index.year == 2010
    left = model.residuals(returns, z)[test]
    assert float((left**2).mean().mean()) < 0.15 * float((returns[test] ** 2).mean().mean())


def test_the_autoencoder_never_sees_test_years_and_is_seeded(planted: tuple[pd.DataFrame, np.ndarray]) -> None:
    returns, z = planted
    changed = returns.copy()
    changed.loc["2010":] = 5.0
    fitted = [
        ConditionalAutoencoder(until=2009, factors=2, hidden=4, epochs=3, seed=seed).fit(table, z)
        for table, seed in ((returns, 0), (changed, 0), (returns, 1))
    ]
    np.testing.assert_array_equal(fitted[0].portfolios_, fitted[1].portfolios_)
    for (w, b), (other, bias) in zip(fitted[0].exposures_, fitted[1].exposures_, strict=True):
        np.testing.assert_array_equal(w, other)
        np.testing.assert_array_equal(b, bias)
    assert not np.array_equal(fitted[0].portfolios_, fitted[2].portfolios_)
    seen = calendar_windows(returns, range(2009, 2010))
    with pytest.raises(ConfigError, match="have seen"):
        fitted[0].windows(returns, seen, z)


def test_windows_of_the_autoencoder_keep_missing_months(planted: tuple[pd.DataFrame, np.ndarray]) -> None:
    returns, z = planted
    returns.iloc[-3, 0] = np.nan
    model = ConditionalAutoencoder(until=2009, factors=1, hidden=0, epochs=2).fit(returns, z)
    found = model.windows(returns, calendar_windows(returns, range(2010, 2011)), z).returns[2010]
    assert found.isna().sum().sum() == 1
    assert np.isnan(found.iloc[-3, 0])


def test_the_autoencoder_needs_a_past(planted: tuple[pd.DataFrame, np.ndarray]) -> None:
    returns, z = planted
    with pytest.raises(DataError, match="12 or more"):
        ConditionalAutoencoder(until=2004).fit(returns, z)
    with pytest.raises(ConfigError, match="positive"):
        ConditionalAutoencoder(until=2009, factors=0).fit(returns, z)
