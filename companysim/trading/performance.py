"""One written definition per performance figure.

Returns are daily profits over a fixed capital: they add up, and nothing compounds. Profits of a book of long and short
legs are what it earns beyond cash (`companysim.trading.costs`), so no risk-free rate is taken off.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import kurtosis, norm, skew

from companysim.trading.simulator import TRADING_DAYS

ADV_DAYS = 20
"""Days over which a line's average daily dollar volume is taken."""


def sharpe(returns: np.ndarray, axis: int = 0) -> np.ndarray:
    """Annualised Sharpe ratio of daily excess returns: ``mean / sd * sqrt(252)``, sd with n - 1.

    NaN where the returns do not vary or are fewer than two.
    """
    if returns.shape[axis] < 2:
        return np.full(np.delete(returns.shape, axis), np.nan)
    sd = returns.std(axis=axis, ddof=1)
    result: np.ndarray = np.divide(
        returns.mean(axis=axis) * np.sqrt(TRADING_DAYS), sd, out=np.full(np.shape(sd), np.nan), where=sd > 1e-15
    )
    return result


def probabilistic_sharpe(returns: np.ndarray, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio lies above `benchmark` (annualised).

    ``Phi((S - S*) sqrt(n - 1) / sqrt(1 - g3 S + (g4 - 1) / 4 S^2))`` with daily ratios S and S*, skewness g3 and
    kurtosis g4 (3 for a normal) of the returns (Bailey and Lopez de Prado 2012). NaN where the ratio is.
    """
    observed = float(sharpe(returns)) / np.sqrt(TRADING_DAYS)
    if not np.isfinite(observed):
        return float("nan")
    spread = 1 - skew(returns) * observed + (kurtosis(returns, fisher=False) - 1) / 4 * observed**2
    distance = observed - benchmark / np.sqrt(TRADING_DAYS)
    return float(norm.cdf(distance * np.sqrt(len(returns) - 1) / np.sqrt(spread)))


def expected_best_sharpe(trials: int, variance: float) -> float:
    """Sharpe ratio that the best of `trials` strategies without skill is expected to show.

    ``sqrt(V) ((1 - c) Z(1 - 1/N) + c Z(1 - 1/(N e)))`` with the variance V of the trials' ratios, Euler's constant c
    and the normal quantile Z (Bailey and Lopez de Prado 2014); 0 for a single trial.
    """
    if trials < 2:
        return 0.0
    most, further = (float(norm.ppf(1 - share)) for share in (1 / trials, 1 / (trials * np.e)))
    return float(np.sqrt(variance) * ((1 - np.euler_gamma) * most + np.euler_gamma * further))


def deflated_sharpe(returns: np.ndarray, trials: int, variance: float | None = None) -> float:
    """Probability that the true Sharpe ratio is above what the best of so many worthless trials would show.

    The probabilistic Sharpe ratio against `expected_best_sharpe` (Bailey and Lopez de Prado 2014).

    Parameters
    ----------
    returns : ndarray, shape (days,)
    trials : int
        Strategies that were tried before this one was chosen, itself included.
    variance : float, optional
        Variance of the trials' annualised Sharpe ratios; by default that of ratios estimated from so many days of
        returns without skill, ``252 / (days - 1)``.
    """
    if variance is None:
        variance = TRADING_DAYS / max(len(returns) - 1, 1)
    return probabilistic_sharpe(returns, expected_best_sharpe(trials, variance))


def drawdown(returns: np.ndarray) -> np.ndarray:
    """Fall of the summed returns from their running peak, at least 0, as a fraction of the fixed capital, by day."""
    equity = np.concatenate([[0.0], np.cumsum(returns)])
    result: np.ndarray = (np.maximum.accumulate(equity) - equity)[1:]
    return result


def max_drawdown(returns: np.ndarray) -> float:
    """Largest fall of the summed returns from their running peak, as a positive fraction of the fixed capital."""
    return float(drawdown(returns).max(initial=0.0))


def turnover(traded: np.ndarray) -> float:
    """Value traded a year over the capital, both legs, entries and exits.

    Parameters
    ----------
    traded : ndarray, shape (days,)
        Value of each day's fills over the capital.
    """
    return float(traded.mean() * TRADING_DAYS) if len(traded) else float("nan")


def exposure(long: np.ndarray, short: np.ndarray) -> float:
    """Mean gross exposure at the close, long and short added, over the capital (both given over the capital)."""
    return float((long + short).mean()) if len(long) else float("nan")


def hit_rate(profits: np.ndarray) -> float:
    """Share of trades with a profit above 0 after costs; NaN without a trade."""
    return float((profits > 0).mean()) if len(profits) else float("nan")


def correlation(returns: np.ndarray, market: np.ndarray) -> float:
    """Pearson correlation with the market's daily returns over the days both have; NaN where one does not vary."""
    known = np.isfinite(returns) & np.isfinite(market)
    one, two = returns[known], market[known]
    if len(one) < 2 or min(one.std(), two.std()) < 1e-15:
        return float("nan")
    return float(np.corrcoef(one, two)[0, 1])


def market_returns(prices: pd.DataFrame) -> pd.Series:
    """Equally weighted mean of the daily simple returns of all lines that have both prices."""
    return (prices / prices.shift(1) - 1).mean(axis=1)


def volume_shares(trades: pd.DataFrame, volume: pd.DataFrame) -> np.ndarray:
    """Value of each leg at entry over its average daily dollar volume, shape (trades, 2).

    Parameters
    ----------
    trades : DataFrame
        ticker_1, ticker_2, entry, value_1, value_2 (in dollars).
    volume : DataFrame, shape (days, tickers)
        Dollars traded; the average runs over the 20 days before the entry, without those that miss.

    Returns
    -------
    ndarray
        NaN for a line or time without volume.
    """
    usual = volume.rolling(ADV_DAYS, min_periods=1).mean().shift(1)
    day = usual.index.get_indexer(pd.DatetimeIndex(trades["entry"]))
    shares = np.full((len(trades), 2), np.nan)
    for leg in (1, 2):
        column = usual.columns.get_indexer(pd.Index(trades[f"ticker_{leg}"]))
        known = (day >= 0) & (column >= 0)
        average = usual.to_numpy()[day[known], column[known]]
        value = np.abs(trades[f"value_{leg}"].to_numpy()[known])
        shares[known, leg - 1] = np.divide(value, average, out=np.full(len(value), np.nan), where=average > 0)
    return shares


def capacity(shares: np.ndarray, capital: float, limit: float = 0.01) -> float:
    """Capital at which 19 of 20 legs would still be at most `limit` of a day's usual dollar volume: a hint.

    ``capital * limit / (95th percentile of shares)``, as positions grow with the capital; NaN without a known share.
    """
    known = shares[np.isfinite(shares)]
    return float(capital * limit / np.quantile(known, 0.95)) if len(known) else float("nan")
