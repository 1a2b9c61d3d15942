"""The stationary bootstrap: resampled histories of a series that keep its dependence over time.

Politis and Romano (1994): blocks of geometric length, drawn with replacement from the series closed to a circle, are
laid end to end. The mean block length is that of Politis and White (2004) with the correction of Patton, Politis and
White (2009), unless one is given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_RUN = 5  # autocorrelations in a row: max(5, sqrt(log10 n)) is 5 for any n below 1e25
_CELLS = 4_000_000  # of one chunk of resampled histories


def optimal_block_length(values: np.ndarray) -> float:
    """Mean block length that minimises the mean squared error of the bootstrap variance of the mean.

    ``b = (2 G^2 / D)^(1/3) n^(1/3)`` with ``G = sum of w(k / M) |k| R(k)`` and ``D = 2 (sum of w(k / M) R(k))^2`` over
    the lags k from -M to M, autocovariances R and the flat-top window w (1 up to a half, then down to 0 at 1). M is
    twice the first lag that begins five autocorrelations within ``2 sqrt(log10 n / n)``.

    Parameters
    ----------
    values : ndarray, shape (n,)

    Returns
    -------
    float
        At least 1 and at most ``ceil(min(3 sqrt(n), n / 3))``; 1 where the values do not vary.
    """
    n = len(values)
    centred = values - values.mean()
    if n < 8 or not centred @ centred > 1e-24 * max(1.0, float(values @ values)):
        return 1.0
    most = min(int(np.ceil(np.sqrt(n))) + _RUN, n - 1)
    covariance = np.array([centred[k:] @ centred[: n - k] / n for k in range(most + 1)])
    small = np.abs(covariance[1:] / covariance[0]) < 2 * np.sqrt(np.log10(n) / n)
    starts = [lag for lag in range(1, most - _RUN + 1) if small[lag - 1 : lag - 1 + _RUN].all()]
    bandwidth = min(2 * starts[0], most) if starts else most
    k = np.arange(1, bandwidth + 1)
    window = np.minimum(1.0, 2 * (1 - k / bandwidth))
    g = 2 * (window * k * covariance[1 : bandwidth + 1]).sum()
    long_run = covariance[0] + 2 * (window * covariance[1 : bandwidth + 1]).sum()
    d = 2 * long_run**2
    if d <= 0:
        return 1.0
    length = (2 * g**2 / d) ** (1 / 3) * n ** (1 / 3)
    return float(np.clip(length, 1.0, np.ceil(min(3 * np.sqrt(n), n / 3))))


def stationary_positions(n: int, draws: int, block: float, rng: np.random.Generator) -> np.ndarray:
    """Positions of resampled histories, shape (draws, n): a new block starts with probability ``1 / block``."""
    restart = rng.random((draws, n)) < 1 / block
    restart[:, 0] = True
    day = np.arange(n)
    begun = np.maximum.accumulate(np.where(restart, day, 0), axis=1)
    first = rng.integers(0, n, (draws, n))
    positions: np.ndarray = (np.take_along_axis(first, begun, axis=1) + day - begun) % n
    return positions


def bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    draws: int,
    seed: int,
    block: float | None = None,
) -> np.ndarray:
    """Return a statistic of resampled histories, shape (draws,).

    Parameters
    ----------
    values : ndarray, shape (n,)
    statistic : callable
        Of an array of shape (histories, n), along its last axis.
    block : float, optional
        Mean block length; `optimal_block_length` by default.
    """
    if not len(values):
        return np.full(draws, np.nan)
    length = optimal_block_length(values) if block is None else block
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // len(values))
    parts = [
        statistic(values[stationary_positions(len(values), min(step, draws - start), length, rng)])
        for start in range(0, draws, step)
    ]
    return np.concatenate(parts)
