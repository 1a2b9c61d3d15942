from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from companysim.trading import deflated_sharpe, max_drawdown, probabilistic_sharpe, sharpe
from companysim.trading.performance import (
    capacity,
    correlation,
    drawdown,
    expected_best_sharpe,
    exposure,
    hit_rate,
    market_returns,
    turnover,
    volume_shares,
)

NAN = np.nan


def test_sharpe_by_hand() -> None:
    # mean 0.02, sd with n - 1: sqrt((0.01^2 + 0 + 0.01^2) / 2) = 0.01
    assert sharpe(np.array([0.01, 0.02, 0.03])) == pytest.approx(2 * np.sqrt(252), rel=1e-12)


def test_sharpe_of_losses_is_negative() -> None:
    assert sharpe(np.array([-0.03, 0.01])) == pytest.approx(-0.01 / np.sqrt(0.0008) * np.sqrt(252), rel=1e-12)


def test_sharpe_of_a_table_is_that_of_each_column(rng: np.random.Generator) -> None:
    table = rng.normal(0.001, 0.01, (50, 3))
    np.testing.assert_allclose(sharpe(table), [sharpe(column) for column in table.T], rtol=1e-12)
    np.testing.assert_allclose(sharpe(table.T, axis=1), sharpe(table), rtol=1e-12)


@pytest.mark.parametrize("returns", [np.zeros(100), np.full(100, 0.1), np.array([0.1]), np.zeros(0)])
def test_sharpe_of_returns_that_do_not_vary_is_nan(returns: np.ndarray) -> None:
    assert np.isnan(sharpe(returns))
    assert np.isnan(probabilistic_sharpe(returns))
    assert np.isnan(deflated_sharpe(returns, 5))


def test_definitions_shared_with_empyrical_agree(rng: np.random.Generator) -> None:
    empyrical = pytest.importorskip("empyrical", reason="pip install empyrical-reloaded")
    returns = rng.normal(0.0005, 0.01, 700)
    assert sharpe(returns) == pytest.approx(empyrical.sharpe_ratio(returns), rel=1e-12)
    market = 0.3 * returns + rng.normal(0, 0.01, 700)
    beta = empyrical.beta(returns, market)  # the correlation, scaled by the two deviations
    assert correlation(returns, market) == pytest.approx(beta * market.std() / returns.std(), rel=1e-9)


def test_definitions_recomputed_by_pandas(rng: np.random.Generator) -> None:
    returns = pd.Series(rng.normal(0.0005, 0.01, 700))
    equity = returns.cumsum()
    falls = equity.cummax().clip(lower=0) - equity
    np.testing.assert_allclose(drawdown(returns.to_numpy()), falls, atol=1e-15)
    assert max_drawdown(returns.to_numpy()) == pytest.approx(falls.max())
    assert sharpe(returns.to_numpy()) == pytest.approx(returns.mean() / returns.std() * 252**0.5)
    market = pd.Series(0.5 * returns + rng.normal(0, 0.01, 700))
    market[5] = NAN
    assert correlation(returns.to_numpy(), market.to_numpy()) == pytest.approx(returns.corr(market))


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([0.1, -0.05, -0.1, 0.3, -0.02], 0.15),  # 0.10 down to -0.05
        ([-0.2, 0.1, 0.2], 0.2),  # measured from the capital, before the first day
        ([0.1, -0.1, 0.05, -0.2], 0.25),  # the new low counts from the old peak
        ([0.1, 0.0, 0.2], 0.0),
        ([], 0.0),
    ],
)
def test_max_drawdown_by_hand(returns: list[float], expected: float) -> None:
    assert max_drawdown(np.array(returns)) == pytest.approx(expected, abs=1e-12)


def test_drawdown_by_day_by_hand() -> None:
    np.testing.assert_allclose(drawdown(np.array([-0.1, 0.3, -0.05, -0.05, 0.2])), [0.1, 0, 0.05, 0.1, 0], atol=1e-12)


def test_probabilistic_sharpe_by_hand() -> None:
    # -1, 0, 0, 1 and 2 percent: mean 0.4 %, sd sqrt(1.3) %; central moments (1/n): 1.04, 0.384, 2.0192 in percent
    returns = np.array([-0.01, 0, 0, 0.01, 0.02])
    ratio = 0.4 / np.sqrt(1.3)
    skewness, kurtosis = 0.288 / 1.04**1.5, 2.1152 / 1.04**2
    assert ((returns * 100 - 0.4) ** 3).mean() == pytest.approx(0.288)
    assert ((returns * 100 - 0.4) ** 4).mean() == pytest.approx(2.1152)
    expected = norm.cdf(ratio * 2 / np.sqrt(1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2))
    assert probabilistic_sharpe(returns) == pytest.approx(expected, rel=1e-12)
    shifted = (ratio - 0.1) * 2 / np.sqrt(1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2)
    assert probabilistic_sharpe(returns, 0.1 * np.sqrt(252)) == pytest.approx(norm.cdf(shifted), rel=1e-12)


def test_the_deflated_ratio_of_the_authors_example() -> None:
    # Bailey and Lopez de Prado (2014), numerical example: 1,250 days, annualised ratio 2.5, skewness -3, kurtosis 10,
    # 100 trials whose annualised ratios have variance 1/2 give 0.1132 a day as the best of chance and 0.9004.
    best = expected_best_sharpe(100, 0.5) / np.sqrt(250)  # the authors count 250 days a year
    assert best == pytest.approx(0.1132, abs=5e-5)
    observed = 2.5 / np.sqrt(250)
    spread = 1 + 3 * observed + (10 - 1) / 4 * observed**2
    assert norm.cdf((observed - best) * np.sqrt(1249) / np.sqrt(spread)) == pytest.approx(0.9004, abs=5e-5)


def test_the_expected_best_of_worthless_trials_is_what_simulation_gives(rng: np.random.Generator) -> None:
    for trials in (5, 50, 500):
        best = rng.normal(0, 0.7, (4000, trials)).max(axis=1).mean()
        assert expected_best_sharpe(trials, 0.49) == pytest.approx(best, rel=0.05)
    assert expected_best_sharpe(1, 0.49) == 0


def test_deflation_grows_with_the_trials(rng: np.random.Generator) -> None:
    returns = rng.normal(0.0008, 0.01, 1000)
    values = [deflated_sharpe(returns, trials) for trials in (1, 2, 10, 1000)]
    assert values[0] == probabilistic_sharpe(returns)
    assert sorted(values, reverse=True) == values
    assert values[0] - values[-1] > 0.1
    assert deflated_sharpe(returns, 10, 252 / 999) == pytest.approx(values[2])
    assert deflated_sharpe(returns, 10, 4.0) < values[2]


def test_the_probabilistic_ratio_of_worthless_returns_is_uniform() -> None:
    rng = np.random.default_rng(8)
    values = np.array([probabilistic_sharpe(rng.standard_t(5, 500) * 0.01) for _ in range(800)])
    np.testing.assert_allclose(np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9]), [0.1, 0.25, 0.5, 0.75, 0.9], atol=0.05)


def test_turnover_exposure_and_hit_rate_by_hand() -> None:
    assert turnover(np.array([1.0, 0.0, 0.5, 0.0])) == pytest.approx(1.5 / 4 * 252)
    assert exposure(np.array([0.5, 0.25]), np.array([0.5, 0.0])) == pytest.approx(0.625)
    assert hit_rate(np.array([1.0, -1.0, 0.0, 2.0])) == 0.5
    assert np.isnan([turnover(np.zeros(0)), exposure(np.zeros(0), np.zeros(0)), hit_rate(np.zeros(0))]).all()


def test_correlation_is_nan_where_one_side_does_not_vary() -> None:
    assert np.isnan(correlation(np.zeros(5), np.arange(5.0)))
    assert np.isnan(correlation(np.array([1.0, 2.0]), np.array([1.0, NAN])))


def test_market_returns_are_the_mean_of_what_has_both_prices() -> None:
    prices = pd.DataFrame({"A": [100.0, 110, 121], "B": [100.0, 90, NAN], "C": [NAN, 50, 50]})
    found = market_returns(prices)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [0.0, 0.05], atol=1e-12)


def test_volume_shares_use_the_days_before_the_entry() -> None:
    days = pd.bdate_range("2010-01-04", periods=30)
    volume = pd.DataFrame({"A": np.arange(1.0, 31) * 1e6, "B": NAN}, index=days)
    volume.iloc[9, 0] = 0  # a day without a trade counts, one without a figure does not
    volume.iloc[10, 0] = NAN
    trades = pd.DataFrame(
        {
            "ticker_1": ["A", "A", "Z"],
            "ticker_2": ["B", "A", "A"],
            "entry": [days[5], days[0], days[25]],
            "value_1": [-3e4, 1.0, 1.0],
            "value_2": [1.0, 1.0, 16e4],
        }
    )
    found = volume_shares(trades, volume)
    usual = (sum(range(6, 26)) - 10 - 11) / 19 * 1e6
    np.testing.assert_allclose(found, [[3e4 / 3e6, NAN], [NAN, NAN], [NAN, 16e4 / usual]], rtol=1e-12)


def test_capacity_by_hand() -> None:
    shares = np.append(np.full(99, 0.002), NAN)
    assert capacity(shares, 1e6) == pytest.approx(5e6)  # at 5 million a leg is 1 % of the usual volume
    assert np.isnan(capacity(np.array([NAN]), 1e6))
