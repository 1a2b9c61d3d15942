"""Augmented Dickey-Fuller tests of many series at once.

Dickey and Fuller (1979), Said and Dickey (1984): regress the change of a series on its lagged level, its lagged changes
and deterministic terms; the statistic is the t-ratio of the level. Everything a test needs is in the triangular factor
of the columns [level, change lagged 1 .. k, change]: the residual sums of squares of all nested orders (see
`lag_selection`) and the statistic itself. `dickey_fuller` therefore asks for factors and does not care where they come
from: from the columns of a series (here) or from moments that many pairs share (`residual_moments`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from companysim.errors import DataError
from companysim.trading.lag_selection import Criterion, choose_lags, longest_lag
from companysim.trading.mackinnon import Trend, mackinnon_p

Factors = Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""``(lag, members) -> (upper, kept)``: upper triangular factors of the columns [level, change lagged 1 .. lag, change]
on the longest sample of that order, shape (members, lag + 2, lag + 2), and the smallest share of a column's sum of
squares (a 1 - R^2) that survived every subtraction on the way: the digits lost are those of 1 / kept."""

MIN_DAYS = 30
"""On fewer days the longest order leaves hardly a degree of freedom."""
PRECISE = 1e-4
"""Factors from cross-products that kept less than this are computed again by QR from the columns."""
SINGULAR = 1e-12
"""Columns that keep less than this even so are linearly dependent: there is no statistic."""
TREND_TERMS: dict[str, int] = {"n": 0, "c": 1, "ct": 2}
_CHUNK = 512  # factors at a time: they stay in the processor's cache


def adf(
    series: np.ndarray, *, trend: Trend = "c", autolag: Criterion | None = "aic", max_lag: int | None = None
) -> pd.DataFrame:
    """Augmented Dickey-Fuller tests, equal to ``statsmodels.tsa.stattools.adfuller`` of every column.

    Parameters
    ----------
    series : ndarray, shape (days, n)
        Missing values may precede or follow a series, not interrupt it.
    trend : {"n", "c", "ct"}
        Deterministic terms: none, a constant, a constant and a linear trend.
    autolag : {"aic", "bic", "t-stat"} or None
        How the order is chosen from 0 .. `max_lag`, on the sample the longest one leaves; the chosen one is then
        estimated on all days it can use. None takes `max_lag` itself.
    max_lag : int, optional
        ``ceil(12 (days / 100)^(1/4))`` by default (Schwert 1989).

    Returns
    -------
    DataFrame
        One row a series: t, p_value (MacKinnon 1994), lags, n (days), status. Unless the status is "ok", t and p_value
        are NaN and lags is 0: "nan" (a value is missing inside), "short" (fewer than 30 days, or too few for
        `max_lag`), "constant", "singular" (the regressors are linearly dependent).

    Raises
    ------
    DataError
        If `series` is not a table.
    """
    if np.ndim(series) != 2:
        raise DataError(f"series has {np.ndim(series)} dimensions: give a table of days by series")
    values = np.ascontiguousarray(np.asarray(series, dtype=float).T)
    start, end, missing = valid_range(values)
    days = end - start
    status = np.full(len(values), "ok", dtype=object)
    status[is_constant(values)] = "constant"
    status[missing > 0] = "nan"
    status[(days < MIN_DAYS) | (days // 2 - 1 - TREND_TERMS[trend] < (max_lag or 0))] = "short"
    t, lags = np.full(len(values), np.nan), np.zeros(len(values), dtype=np.int64)
    ready = np.flatnonzero(status == "ok")
    for first, last in np.unique(np.column_stack([start, end])[ready], axis=0):
        members = ready[(start[ready] == first) & (end[ready] == last)]
        t[members], lags[members] = adf_statistics(values[members, first:last], trend, autolag, max_lag)
    status[ready[np.isnan(t[ready])]] = "singular"
    p = mackinnon_p(t, trend)
    return pd.DataFrame({"t": t, "p_value": p, "lags": lags, "n": days, "status": status.astype(str)})


def adf_statistics(
    rows: np.ndarray, trend: Trend, autolag: Criterion | None, max_lag: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Statistics and orders of complete series, shape (n, days): NaN and 0 where the regressors are dependent."""
    days, terms = rows.shape[1], TREND_TERMS[trend]
    longest = longest_lag(days, terms, max_lag)
    t, lags, kept = dickey_fuller(column_factors(rows, terms, qr=False), len(rows), days, longest, autolag, terms)
    poor = np.flatnonzero(kept < PRECISE)
    if len(poor):
        again = column_factors(rows[poor], terms, qr=True)
        t[poor], lags[poor], kept = dickey_fuller(again, len(poor), days, longest, autolag, terms)
        t[poor[kept < SINGULAR]], lags[poor[kept < SINGULAR]] = np.nan, 0
    return t, lags


def dickey_fuller(
    factors: Factors, count: int, days: int, max_lag: int, autolag: Criterion | None, trend_terms: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Statistics from triangular factors.

    Parameters
    ----------
    factors : Factors
    count : int
        Series to test; `factors` is asked for subsets of ``range(count)``.
    days, max_lag, trend_terms : int
    autolag : {"aic", "bic", "t-stat"} or None

    Returns
    -------
    t : ndarray, shape (count,)
    lags : ndarray of int, shape (count,)
    kept : ndarray, shape (count,)
        Smallest share kept by any factor used.
    """
    lags = np.full(count, max_lag, dtype=np.int64)
    t, kept = np.full(count, np.nan), np.ones(count)
    if autolag is not None:
        for members in _chunks(np.arange(count)):
            upper, kept[members] = factors(max_lag, members)
            lags[members] = choose_lags(upper, days - 1 - max_lag, autolag, trend_terms)
    for lag in np.unique(lags):
        for members in _chunks(np.flatnonzero(lags == lag)):
            upper, share = factors(int(lag), members)
            kept[members] = np.minimum(kept[members], share)
            t[members] = _level_t(upper, days - 1 - lag - (lag + 1) - trend_terms)
    return t, lags, kept


def _level_t(upper: np.ndarray, freedom: int) -> np.ndarray:
    """t-ratio of the first column's coefficient in the regression of the last column on the others.

    With the factor [[R, r], [0, s]] the coefficient is z'r and its variance s^2 / freedom z'z, where R'z = (1, 0, ...).
    """
    inner, right, residual = upper[:, :-1, :-1], upper[:, :-1, -1], np.abs(upper[:, -1, -1])
    unit = np.zeros((inner.shape[1], 1))
    unit[0] = 1
    z = np.linalg.solve(inner.transpose(0, 2, 1), unit)[:, :, 0]
    coefficient, length = np.einsum("pi,pi->p", z, right), np.sqrt(np.einsum("pi,pi->p", z, z))
    ratio: np.ndarray = coefficient * np.sqrt(freedom) / (length * residual)
    return ratio


def cholesky_factors(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper factors of a stack of cross-products (upper triangles suffice) and the shares their pivots kept.

    A matrix that is not positive definite has a factor of NaN and kept nothing.
    """
    diagonal = np.einsum("pii->pi", gram)
    try:
        upper = np.linalg.cholesky(gram, upper=True)
    except np.linalg.LinAlgError:  # numpy does not say which one it was
        if len(gram) == 1:
            return np.full_like(gram, np.nan), np.zeros(1)
        halves = [cholesky_factors(half) for half in np.array_split(gram, 2)]
        return np.concatenate([h[0] for h in halves]), np.concatenate([h[1] for h in halves])
    kept = (np.einsum("pii->pi", upper) ** 2 / diagonal).min(axis=1)
    return upper, np.nan_to_num(kept)


def column_factors(rows: np.ndarray, trend_terms: int, *, qr: bool) -> Factors:
    """Factors from the columns of series of shape (n, days): by Cholesky of cross-products, or by QR."""

    def factors(lag: int, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not qr:
            parts = [_columns(rows[some], lag, trend_terms) for some in np.array_split(members, len(members) // 64 + 1)]
            return cholesky_factors(np.concatenate([part @ part.transpose(0, 2, 1) for part in parts]))
        upper, kept = np.empty((len(members), lag + 2, lag + 2)), np.empty(len(members))
        for place, member in enumerate(members):
            upper[place], kept[place] = _qr_factor(_columns(rows[member : member + 1], lag, trend_terms)[0].T)
        return upper, kept

    return factors


def _qr_factor(columns: np.ndarray) -> tuple[np.ndarray, float]:
    """Upper factor of columns scaled to unit length; NaN if they are dependent."""
    lengths = np.sqrt((columns**2).sum(axis=0))
    if not lengths.all():
        return np.full((columns.shape[1],) * 2, np.nan), 0.0
    upper: np.ndarray = np.asarray(np.linalg.qr(columns / lengths, mode="r"))
    kept = float((np.diag(upper) ** 2).min())
    return (upper if kept >= SINGULAR else np.full_like(upper, np.nan)), kept


def _columns(rows: np.ndarray, lag: int, trend_terms: int) -> np.ndarray:
    """[level, change lagged 1 .. lag, change] without their trend, shape (n, lag + 2, days - 1 - lag)."""
    days, change = rows.shape[1], np.diff(rows, axis=1)
    lagged = [change[:, lag - i : days - 1 - i] for i in range(1, lag + 1)]
    columns = np.stack([rows[:, lag : days - 1], *lagged, change[:, lag:]], axis=1)
    if trend_terms:  # Frisch-Waugh: the regression without the trend equals the one with it
        columns -= columns.mean(axis=2, keepdims=True)
    if trend_terms == 2:
        time = np.arange(columns.shape[2]) - (columns.shape[2] - 1) / 2
        columns -= (columns @ time / (time @ time))[:, :, None] * time
    return columns


def valid_range(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First day, day after the last, and number of days missing in between, of series of shape (n, days).

    A series without any value starts and ends on day 0. Infinite values count as missing.
    """
    finite = np.isfinite(rows)
    some = finite.any(axis=1)
    start = np.where(some, finite.argmax(axis=1), 0)
    end = np.where(some, rows.shape[1] - finite[:, ::-1].argmax(axis=1), 0)
    return start, end, end - start - finite.sum(axis=1)


def is_constant(rows: np.ndarray) -> np.ndarray:
    """Whether the finite values of a series, shape (n, days), differ by no more than the last few digits."""
    finite = np.isfinite(rows)
    high = np.where(finite, rows, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(finite, rows, np.inf).min(axis=1, initial=np.inf)
    size = np.maximum(np.abs(high), np.abs(low))
    flat: np.ndarray = high - low <= 1e-12 * np.where(np.isfinite(size), size, 0)
    return flat


def _chunks(members: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(members), _CHUNK):
        yield members[start : start + _CHUNK]
