"""Correlations of stock returns that may have gaps."""

from __future__ import annotations

import numpy as np

MIN_MONTHS = 9


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
