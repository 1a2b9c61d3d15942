"""Johansen's cointegration test of a few chosen pairs.

Johansen (1991): a likelihood-ratio test on the vector error-correction model of both series, which unlike
Engle-Granger needs no dependent variable. It costs an eigenvalue problem a pair, done by statsmodels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from statsmodels.tsa.vector_ar.vecm import coint_johansen

from companysim.errors import DataError


def johansen(logs: np.ndarray, first: np.ndarray, second: np.ndarray, *, lags: int = 1) -> pd.DataFrame:
    """Trace tests of pairs, with a constant.

    Parameters
    ----------
    logs : ndarray, shape (days, series)
        Log prices, complete for the series named.
    first, second : ndarray of int, shape (pairs,)
        Columns of `logs` that form the pairs.
    lags : int
        Lagged changes in the model.

    Returns
    -------
    DataFrame
        One row a pair: first, second, trace_0 and trace_1 (statistics against rank 0 and against rank 1 at most),
        critical_0 and critical_1 (their 95 % quantiles), rank (0: not cointegrated, 1: cointegrated, 2: both series
        look stationary already), hedge_ratio (b of the stationary combination ``first - b second``).

    Raises
    ------
    DataError
        If a price is missing, or a pair is constant or collinear.
    """
    listed = []
    for a, b in zip(np.asarray(first).tolist(), np.asarray(second).tolist(), strict=True):
        pair = np.asarray(logs, dtype=float)[:, [a, b]]
        if not np.isfinite(pair).all():
            raise DataError(f"series {a} or {b} has missing prices: choose days on which both are complete")
        if np.linalg.matrix_rank(pair - pair.mean(axis=0)) < 2:
            raise DataError(f"series {a} or {b} is constant, or one is a multiple of the other: leave the pair out")
        test = coint_johansen(pair, det_order=0, k_ar_diff=lags)
        critical = test.cvt[:, 1]  # 90, 95, 99 %
        passed = test.lr1 > critical
        rank = 0 if not passed[0] else 1 + int(passed[1])
        weights = test.evec[:, 0]
        listed.append((a, b, *test.lr1, *critical, rank, -weights[1] / weights[0]))
    columns = ["first", "second", "trace_0", "trace_1", "critical_0", "critical_1", "rank", "hedge_ratio"]
    return pd.DataFrame(listed, columns=columns)
