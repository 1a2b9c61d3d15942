"""Engle-Granger cointegration tests of many pairs at once.

Engle and Granger (1987): regress one log price on the other with a constant and test the residual for a unit root
(augmented Dickey-Fuller without deterministic terms); p-values from MacKinnon (1994) with two variables. Each direction
equals ``statsmodels.tsa.stattools.coint(y, x)``.

The lagged cross-products of a block of series are matrix products; each pair then costs a small triangular factor or
two (`residual_moments`). Where that would lose digits (a share 1 - R^2 below `PRECISE`), the pair is computed again
from its residual. Half a million pairs of 3,000 days, both directions of each, cost about 25 seconds of one processor
(``benchmarks/cointegration.py``). Blocks of pairs run through joblib: inside ``joblib.parallel_config(backend="ray")``
or ``"dask"`` a cluster takes them unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from companysim.errors import DataError
from companysim.trading.lag_selection import Criterion, longest_lag
from companysim.trading.mackinnon import mackinnon_p
from companysim.trading.residual_moments import CrossMoments, Moments, cross_moments, residual_moments, series_moments
from companysim.trading.unit_root import (
    MIN_DAYS,
    PRECISE,
    adf,
    adf_statistics,
    dickey_fuller,
    is_constant,
    valid_range,
)

__all__ = ["COLLINEAR", "adf", "engle_granger"]

COLLINEAR = 100 * float(np.sqrt(np.finfo(float).eps))
"""Two series whose 1 - R^2 is not above this (1.5e-6, as in statsmodels) are lines of one company, not a pair."""
_TILE = 128  # series a side of a block: large enough for BLAS, small enough that blocks outnumber processors
_FIGURES = ["adf_t", "lags", "hedge_ratio", "intercept", "residual_sd", "half_life"]  # of one direction of a pair


def engle_granger(
    logs: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    autolag: Criterion | None = "aic",
    max_lag: int | None = None,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Test pairs of series in both directions and keep the better one.

    The test is asymmetric: regressing a on b and b on a give different answers. The direction with the more negative
    statistic is kept and its p-value doubled (Bonferroni for the two tries), so that the choice costs what it should.

    Series may start and end on different days: a pair is tested on the days from the later start to the earlier end.

    Parameters
    ----------
    logs : ndarray, shape (days, series)
        Log prices; NaN where there is none.
    first, second : ndarray of int, shape (pairs,)
        Columns of `logs` that form the pairs.
    autolag : {"aic", "bic", "t-stat"} or None
        How the number of lagged changes is chosen (see `companysim.trading.unit_root.adf`); None takes `max_lag`.
    max_lag : int, optional
        Longest order; ``ceil(12 (days / 100)^(1/4))`` by default.
    n_jobs : int, optional
        Processes, as joblib counts them; one by default. Results do not depend on it.

    Returns
    -------
    DataFrame
        One row a pair: first, second (the dependent and the explaining series after the choice), adf_t, p_value, lags,
        hedge_ratio, intercept, residual_sd, half_life (days, of an AR(1) of the residual: ``ln(1/2) / ln(rho)``,
        infinite without reversion), n (common days), status. Unless the status is "ok" there is no test, the
        figures are NaN and lags is 0: "nan" (a price is missing between the first and last common day), "short" (fewer
        than 30 common days, or too few for `max_lag`), "constant", "collinear" (1 - R^2 at most `COLLINEAR`),
        "singular" (the test regression's columns are dependent, as of a price that stands still).

    Raises
    ------
    DataError
        If `logs` is not a table or has fewer than 30 days, or the pairs are not columns of it.
    """
    first, second = _checked(logs, first, second)
    rows = np.ascontiguousarray(np.asarray(logs, dtype=float).T)
    a, b = np.minimum(first, second), np.maximum(first, second)  # so that the given direction makes no difference
    begin, finish, status = _common_range(rows, a, b, max_lag)
    blocks = list(_blocks(a, b, begin, finish, np.flatnonzero(status == "ok")))
    results = Parallel(n_jobs=n_jobs)(
        delayed(_test_block)(*_block_input(rows, a[i], b[i], begin[i[0]], finish[i[0]]), autolag, max_lag)
        for i in blocks
    )
    figures = {name: np.full(len(a), np.nan) for name in _FIGURES}
    swap = np.zeros(len(a), dtype=bool)
    for pairs, (found, swap[pairs], status[pairs]) in zip(blocks, results, strict=True):
        for name, values in found.items():
            figures[name][pairs] = values
    return pd.DataFrame(
        {
            "first": np.where(swap, b, a),
            "second": np.where(swap, a, b),
            "adf_t": figures["adf_t"],
            "p_value": np.minimum(1.0, 2 * mackinnon_p(figures["adf_t"], "c", variables=2)),
            "lags": np.nan_to_num(figures["lags"]).astype(np.int64),
            **{name: figures[name] for name in _FIGURES[2:]},
            "n": np.maximum(0, finish - begin),
            "status": status.astype(str),
        }
    )


def _checked(logs: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if np.ndim(logs) != 2:
        raise DataError(f"the log prices have {np.ndim(logs)} dimensions: give a table of days by series")
    if len(logs) < MIN_DAYS:
        raise DataError(f"a cointegration test on {len(logs)} days of prices is meaningless: give at least {MIN_DAYS}")
    first, second = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    if first.shape != second.shape or first.ndim != 1:
        raise DataError(f"{first.size} first and {second.size} second series: give two lists of the same length")
    listed = np.concatenate([first, second])
    outside = listed[(listed < 0) | (listed >= np.shape(logs)[1])]
    if len(outside):
        raise DataError(f"a pair names series {outside[0]}: the table has series 0 to {np.shape(logs)[1] - 1}")
    return first, second


def _common_range(
    rows: np.ndarray, a: np.ndarray, b: np.ndarray, max_lag: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the common days of each pair, from `begin` to before `finish`, and whether it can be tested on them."""
    start, end, _ = valid_range(rows)
    begin, finish = np.maximum(start[a], start[b]), np.minimum(end[a], end[b])
    missing = np.pad(np.cumsum(~np.isfinite(rows), axis=1), ((0, 0), (1, 0)))  # before each day
    status = np.full(len(a), "ok", dtype=object)
    for series in (a, b):
        status[missing[series, finish] > missing[series, begin]] = "nan"
    days = finish - begin
    status[(days < MIN_DAYS) | (days // 2 - 1 < (max_lag or 0))] = "short"
    return begin, finish, status


def _blocks(
    a: np.ndarray, b: np.ndarray, begin: np.ndarray, finish: np.ndarray, ready: np.ndarray
) -> Iterator[np.ndarray]:
    """Pairs of the same days whose series lie in the same tile; tiles of few pairs go together."""
    keys = np.stack([begin, finish, a // _TILE, b // _TILE, a, b])[:, ready]
    order = np.lexsort(keys[::-1])
    pairs, change = ready[order], np.diff(keys[:4, order], axis=1) != 0
    cuts = np.flatnonzero(change.any(axis=0)) + 1
    other_days = change[:2].any(axis=0)
    start = 0
    for cut, following in zip(cuts, np.append(cuts, len(pairs))[1:], strict=True):
        if other_days[cut - 1] or following - start > _TILE:
            yield pairs[start:cut]
            start = int(cut)
    if len(pairs):
        yield pairs[start:]


def _block_input(
    rows: np.ndarray, a: np.ndarray, b: np.ndarray, begin: int, finish: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut out the block's series and days, all that a worker has to be sent, and say where its pairs are in them."""
    used, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    return rows[used, begin:finish], place[: len(a)], place[len(a) :]


def _test_block(
    rows: np.ndarray, a: np.ndarray, b: np.ndarray, autolag: Criterion | None, max_lag: int | None
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Both directions of pairs of complete series on the same days.

    Returns figures of the better direction, whether that is the second series on the first, and the status.
    """
    with threadpool_limits(limits=1, user_api="blas"):  # the same rounding wherever the block runs
        means, constant = rows.mean(axis=1), is_constant(rows)
        centred, longest = rows - means[:, None], longest_lag(rows.shape[1], 0, max_lag)
        moments, cross = series_moments(centred, longest), cross_moments(centred, a, b, longest)
        dead = constant[a] | constant[b]
        r2 = np.zeros(len(a))
        np.divide(cross.levels**2, moments.squares[a] * moments.squares[b], out=r2, where=~dead)
        status = np.where(dead, "constant", np.where(1 - r2 <= COLLINEAR, "collinear", "ok")).astype(object)
        fine = np.flatnonzero(status == "ok")
        cross = cross.of(fine)
        forward = _one_way(centred, moments, cross, a[fine], b[fine], autolag)
        backward = _one_way(centred, moments, cross, b[fine], a[fine], autolag)
    back = np.nan_to_num(backward["adf_t"], nan=np.inf) < np.nan_to_num(forward["adf_t"], nan=np.inf)
    swap = np.zeros(len(a), dtype=bool)
    swap[fine] = back
    figures = {name: np.full(len(a), np.nan) for name in _FIGURES}
    singular = np.isnan(forward["adf_t"]) & np.isnan(backward["adf_t"])
    for name, values in figures.items():
        if name in forward:
            values[fine] = np.where(singular, np.nan, np.where(back, backward[name], forward[name]))
    figures["intercept"] = means[np.where(swap, b, a)] - figures["hedge_ratio"] * means[np.where(swap, a, b)]
    status[fine[singular]] = "singular"
    return figures, swap, status


def _one_way(
    centred: np.ndarray,
    moments: Moments,
    cross: CrossMoments,
    dependent: np.ndarray,
    explaining: np.ndarray,
    autolag: Criterion | None,
) -> dict[str, np.ndarray]:
    """Test the residuals of the dependent on the explaining series."""
    days, max_lag = centred.shape[1], moments.head.shape[1] - 1
    slope = cross.levels / moments.squares[explaining]
    residuals = residual_moments(moments.of(dependent), moments.of(explaining), cross, slope)
    t, lags, kept = dickey_fuller(residuals.factors, len(slope), days, max_lag, autolag, trend_terms=0)
    poor = np.flatnonzero(kept < PRECISE)
    for some in np.array_split(poor, len(poor) // 512 + 1):
        residual = centred[dependent[some]] - slope[some, None] * centred[explaining[some]]
        t[some], lags[some] = adf_statistics(residual, "n", autolag, max_lag)
    return {
        "adf_t": t,
        "lags": lags,
        "hedge_ratio": slope,
        "residual_sd": np.sqrt(residuals.squares / days),
        "half_life": residuals.half_life(),
    }
