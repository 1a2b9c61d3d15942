"""One written definition per performance figure."""

from __future__ import annotations

import numpy as np

from companysim.trading.simulator import TRADING_DAYS


def sharpe(returns: np.ndarray, axis: int = 0) -> np.ndarray:
    """Annualised Sharpe ratio of daily returns over a zero risk-free rate: ``mean / sd * sqrt(252)``, sd with n - 1.

    NaN where the returns do not vary.
    """
    sd = returns.std(axis=axis, ddof=1)
    result: np.ndarray = np.divide(
        returns.mean(axis=axis) * np.sqrt(TRADING_DAYS), sd, out=np.full(np.shape(sd), np.nan), where=sd > 1e-15
    )
    return result


def max_drawdown(returns: np.ndarray) -> float:
    """Largest fall of the summed returns from their running peak, as a positive fraction of the fixed capital."""
    equity = np.concatenate([[0.0], np.cumsum(returns)])
    return float((np.maximum.accumulate(equity) - equity).max())
