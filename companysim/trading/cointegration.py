"""Engle-Granger cointegration tests of many pairs at once.

Engle and Granger 1987: regress one log price on the other with a constant and test the residual for a unit root
(augmented Dickey-Fuller, no deterministic term, lags chosen by AIC on a common sample); p-values from MacKinnon
2010 with two variables. The result equals ``statsmodels.tsa.stattools.coint(y, x, autolag="aic")``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from statsmodels.tsa.adfvalues import mackinnonp

from companysim.errors import DataError

_BLOCK = 128
COLLINEAR = 1 - 1e-6
"""Two series whose R^2 exceeds this are lines of one company, not a pair."""
MIN_DAYS = 20
"""On fewer days the longest lag order would leave no degree of freedom."""


def engle_granger(logs: np.ndarray, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    """Test pairs of series in both directions and keep the better one.

    The test is asymmetric: regressing a on b and b on a give different answers. The direction with the more negative
    statistic is kept and its p-value doubled (Bonferroni for the two tries), so that the choice costs what it should.

    Parameters
    ----------
    logs : ndarray, shape (days, series)
        Log prices. Every tested series must be complete and finite.
    first, second : ndarray of int, shape (pairs,)
        Columns of `logs` that form the pairs.

    Returns
    -------
    DataFrame
        One row a pair: first, second (the dependent and the explaining series after the choice), adf_t, p_value, lags,
        hedge_ratio, intercept, residual_sd, half_life (days, from the coefficient of
        the lagged level; infinite without mean reversion). A pair of constant or
        collinear series, or whose residual stands still for so long that the test
        regression is singular, has adf_t NaN and p_value 1.

    Raises
    ------
    DataError
        If there are fewer than 20 days, or if a tested series has a missing value: a NaN would otherwise pass as
        perfectly cointegrated.
    """
    if len(logs) < MIN_DAYS:
        raise DataError(f"a cointegration test on {len(logs)} days of prices is meaningless: give at least {MIN_DAYS}")
    used = np.unique(np.concatenate([first, second]))
    if not np.isfinite(logs[:, used]).all():
        bad = int(used[~np.isfinite(logs[:, used]).all(axis=0)][0])
        raise DataError(f"series {bad} has missing prices in the formation window: test complete series only")
    blocks = [
        _better(logs, first[start : start + _BLOCK], second[start : start + _BLOCK])
        for start in range(0, max(1, len(first)), _BLOCK)  # no pairs: one empty block, which has the columns and types
    ]
    return pd.concat(blocks, ignore_index=True)


def _better(logs: np.ndarray, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    forward, backward = _one_way(logs, first, second), _one_way(logs, second, first)
    use_back = (backward["adf_t"] < forward["adf_t"]).to_numpy()
    chosen = pd.concat([forward[~use_back], backward[use_back]]).sort_index()
    chosen["p_value"] = np.minimum(1.0, 2 * chosen["p_value"])
    return chosen


def _one_way(logs: np.ndarray, dependent: np.ndarray, explaining: np.ndarray) -> pd.DataFrame:
    y, x = logs[:, dependent], logs[:, explaining]
    ym, xm = y.mean(axis=0), x.mean(axis=0)
    yc, xc = y - ym, x - xm
    sxx, sxy, syy = (xc * xc).sum(axis=0), (xc * yc).sum(axis=0), (yc * yc).sum(axis=0)
    flat = (sxx < 1e-12) | (syy < 1e-12)
    slope = np.divide(sxy, sxx, out=np.zeros_like(sxy), where=~flat)
    r2 = np.divide(sxy**2, sxx * syy, out=np.ones_like(sxy), where=~flat)
    residual = yc - slope * xc
    testable = ~flat & (r2 < COLLINEAR)
    t = np.full(len(slope), np.nan)
    gamma = np.full(len(slope), np.nan)
    lags = np.zeros(len(slope), dtype=np.int64)
    if testable.any():
        t[testable], lags[testable], gamma[testable] = adf(residual[:, testable])
    p = np.array([mackinnonp(value, regression="c", N=2) if np.isfinite(value) else 1.0 for value in t])
    half_life = np.where(gamma <= -1, 0.0, np.inf)
    reverting = (gamma > -1) & (gamma < 0)
    half_life[reverting] = -np.log(2) / np.log1p(gamma[reverting])
    return pd.DataFrame(
        {
            "first": dependent,
            "second": explaining,
            "adf_t": t,
            "p_value": p,
            "lags": lags,
            "hedge_ratio": slope,
            "intercept": ym - slope * xm,
            "residual_sd": residual.std(axis=0),
            "half_life": half_life,
        }
    )


def adf(series: np.ndarray, max_lag: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Augmented Dickey-Fuller statistics without deterministic terms, lags by AIC.

    All lag orders are compared on the sample the longest one leaves, then the chosen one is estimated on all data it
    can use, as statsmodels does. One Cholesky factor of each series' cross-products holds the residual sums of squares
    of all nested regressions: with the dependent variable last, each regressor takes away the square of its entry.

    Parameters
    ----------
    series : ndarray, shape (days, n)
    max_lag : int, optional
        Longest lag tried; ``ceil(12 (days / 100)^(1/4))`` by default (Schwert 1989).

    Returns
    -------
    t, lags, gamma : ndarray, shape (n,)
        Statistic, lags used, and coefficient of the lagged level. A series whose regression is singular (constant,
        or standing still but for a few days) has t and gamma NaN and lags 0.
    """
    days, n = series.shape
    if max_lag is None:
        max_lag = int(np.ceil(12 * (days / 100) ** 0.25))
    max_lag = min(max_lag, days // 2 - 1)
    gram = _cross_products(series, max_lag)
    scale = np.sqrt(np.einsum("pii->pi", gram))
    scale[scale == 0] = 1
    lower = _cholesky(gram / (scale[:, :, None] * scale[:, None, :]))
    taken = np.cumsum(lower[:, -1, :-1] ** 2, axis=1)  # share of y'y explained by 1, 2, ... regressors
    nobs = days - 1 - max_lag
    regressors = np.arange(1, max_lag + 2)
    aic = nobs * np.log(np.maximum(1 - taken, 1e-300)) + 2 * regressors
    regular = np.isfinite(aic).all(axis=1)
    lags = np.where(regular, aic.argmin(axis=1), 0)
    t, gamma = np.full(n, np.nan), np.full(n, np.nan)
    for lag in np.unique(lags[regular]):
        members = np.flatnonzero(regular & (lags == lag))
        products = _cross_products(series[:, members], int(lag))
        xx, xy, yy = products[:, :-1, :-1], products[:, :-1, -1], products[:, -1, -1]
        inverse = np.linalg.inv(xx)
        beta = np.einsum("pij,pj->pi", inverse, xy)
        ssr = yy - np.einsum("pi,pi->p", beta, xy)
        variance = ssr / (days - 1 - lag - (lag + 1))
        gamma[members] = beta[:, 0]
        t[members] = beta[:, 0] / np.sqrt(variance * inverse[:, 0, 0])
    return t, lags, gamma


def _cholesky(matrices: np.ndarray) -> np.ndarray:
    """Lower factors of a stack of matrices; NaN for those that are not positive definite."""
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:  # numpy does not say which one it was
        if len(matrices) == 1:
            return np.full_like(matrices, np.nan)
        return np.concatenate([_cholesky(matrix[None]) for matrix in matrices])


def _cross_products(series: np.ndarray, lag: int) -> np.ndarray:
    """Cross-products of [level, difference lags 1..lag, difference], shape (n, lag + 2, lag + 2)."""
    difference = np.diff(series, axis=0).T  # (n, days - 1)
    days = series.shape[0]
    stacked = np.stack(
        [
            series.T[:, lag : days - 1],
            *(difference[:, lag - i : days - 1 - i] for i in range(1, lag + 1)),
            difference[:, lag:],
        ],
        axis=1,
    )
    result: np.ndarray = stacked @ stacked.transpose(0, 2, 1)
    return result
