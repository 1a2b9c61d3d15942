"""Correlations of stock returns, year by year."""

from __future__ import annotations

import numpy as np
import pandas as pd

from companysim.universe import log_returns

MIN_MONTHS = 9


def yearly_correlations(prices: pd.DataFrame, first_year: int, last_year: int) -> dict[int, np.ndarray]:
    """Pairwise correlations of the monthly log returns of each calendar year (the published target).

    Parameters
    ----------
    prices : DataFrame, shape (days, companies)
    first_year, last_year : int
        Inclusive; years without any price are left out.

    Returns
    -------
    dict of ndarray, shape (companies, companies)
        NaN on the diagonal, for pairs with fewer than nine common months, and for constant series.
    """
    returns = log_returns(prices)
    result = {}
    for year in range(first_year, last_year + 1):
        months = returns[pd.DatetimeIndex(returns.index).year == year].to_numpy()
        if np.isfinite(months).any():
            result[year] = correlation(months)
    return result


def correlation(returns: np.ndarray, min_periods: int = MIN_MONTHS) -> np.ndarray:
    """Pearson correlations over the periods both series have, shape (series, series).

    Each pair uses its own common periods, as `pandas.DataFrame.corr` does, by matrix products over masks.

    Parameters
    ----------
    returns : ndarray, shape (periods, series)
        NaN where missing.
    min_periods : int
        Pairs with fewer common periods are NaN.
    """
    seen = np.isfinite(returns)
    filled = np.where(seen, returns, 0.0)
    centre = filled.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)  # one shift a series: better conditioned
    x = np.where(seen, filled - centre, 0.0)
    m = seen.astype(float)
    n = m.T @ m
    with np.errstate(invalid="ignore", divide="ignore"):
        sx, sxx = x.T @ m, (x * x).T @ m  # sums over the common periods of row i's series with column j's
        cov = x.T @ x - sx * sx.T / n
        variance = sxx - sx**2 / n
        variance[variance <= 1e-14 * np.maximum(sxx, 1e-300)] = np.nan
        result = cov / np.sqrt(variance * variance.T)
    result[n < min_periods] = np.nan
    np.fill_diagonal(result, np.nan)
    clipped: np.ndarray = np.clip(result, -1.0, 1.0)
    return clipped
