"""How many lagged changes a Dickey-Fuller regression gets.

All orders are compared on the sample that the longest one leaves. With the columns [lagged level, change lagged 1, 2,
..., the change itself], one triangular factor holds every nested regression: the last column's entries are the
projections of the change on one column after the other, so the residual sum of squares of order k is the sum of the
squares of the entries below the first k + 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from companysim.errors import DataError

Criterion = Literal["aic", "bic", "t-stat"]
SIGNIFICANT = 1.6448536269514722
"""Normal 95 % quantile: the "t-stat" rule drops lags from the longest until the last one exceeds it."""


def longest_lag(days: int, trend_terms: int, max_lag: int | None = None) -> int:
    """Longest order tried: ``ceil(12 (days / 100)^(1/4))`` (Schwert 1989), at most ``days // 2 - 1 - trend_terms``.

    Raises
    ------
    DataError
        If `max_lag` is negative or exceeds that limit.
    """
    limit = days // 2 - 1 - trend_terms
    if max_lag is None:
        return max(0, min(limit, int(np.ceil(12.0 * np.power(days / 100.0, 0.25)))))
    if not 0 <= max_lag <= limit:
        raise DataError(f"max_lag = {max_lag} on {days} days: give a number from 0 to {limit}")
    return max_lag


def choose_lags(upper: np.ndarray, nobs: int, criterion: Criterion, trend_terms: int) -> np.ndarray:
    """Orders by an information criterion or by the last lag's t-statistic, as statsmodels' `adfuller` chooses them.

    ``aic = nobs log(rss) + 2 p`` and ``bic = nobs log(rss) + log(nobs) p`` with p estimated coefficients; the smaller
    order wins a tie.

    Parameters
    ----------
    upper : ndarray, shape (n, max_lag + 2, max_lag + 2)
        Upper triangular factors of the cross-products of [level, change lagged 1 .. max_lag, change], trend removed.
    nobs : int
        Observations of the common sample.
    criterion : {"aic", "bic", "t-stat"}
    trend_terms : int
        Deterministic terms of the regression: 0, 1 or 2.

    Returns
    -------
    ndarray of int, shape (n,)
        0 for a factor that holds NaN.
    """
    squares = upper[:, :, -1] ** 2
    rss = np.cumsum(squares[:, ::-1], axis=1)[:, -2::-1]  # of order 0, 1, ...: sums of squares, nothing cancels
    coefficients = trend_terms + 1 + np.arange(rss.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):  # an exact fit
        if criterion == "t-stat":
            significant = squares[:, :-1] * (nobs - coefficients) / rss >= SIGNIFICANT**2
            last = rss.shape[1] - 1 - significant[:, ::-1].argmax(axis=1)
            return np.where(significant.any(axis=1), last, 0)
        penalty = 2.0 if criterion == "aic" else np.log(nobs)
        order: np.ndarray = (nobs * np.log(rss) + penalty * coefficients).argmin(axis=1)
    return order
