"""Which rows of a panel of prices are days of the market, known on the day itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

LIVE_DAYS = 10
"""A line that has had no price for so many rows no longer counts among those that should have one."""


def market_days(prices: pd.DataFrame) -> pd.DataFrame:
    """Leave out the days on which fewer than half of the live lines have a price.

    One price on a Saturday, or the row of a holiday, is no day of trading: taken for one, it would be a gap in every
    other line, which keeps its pairs out of the formation window, and orders due on it would be withdrawn. A line is
    live from its first price until it has had none for `LIVE_DAYS` rows, so that whether a day counts depends on
    nothing that comes after it.

    Parameters
    ----------
    prices : DataFrame, shape (days, series)
        In the order of the dates; NaN where a series has no price.

    Returns
    -------
    DataFrame, shape (days of the market, series)
    """
    seen = prices.notna().to_numpy()
    live = np.maximum.accumulate(seen, axis=0) & (days_without(seen) < LIVE_DAYS)
    kept: pd.DataFrame = prices[2 * seen.sum(axis=1) >= np.maximum(live.sum(axis=1), 1)]
    return kept


def days_without(priced: np.ndarray) -> np.ndarray:
    """Days in a row without a price up to each day, 0 before a series' first price; shape (days, series)."""
    day = np.arange(len(priced))[:, None]
    last = np.maximum.accumulate(np.where(priced, day, -1), axis=0)
    return np.where(last >= 0, day - last, 0)
