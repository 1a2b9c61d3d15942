"""How companies moved together: the return correlations explanations quote."""

from __future__ import annotations

import numpy as np
import pandas as pd

from companysim.benchmark import calendar_windows
from companysim.benchmark.study import mean_correlations
from companysim.universe import log_returns


def return_correlations(prices: pd.DataFrame, first_year: int, last_year: int) -> np.ndarray:
    """Correlations of monthly log returns within each year, averaged over the years: the benchmark's, pair by pair.

    Parameters
    ----------
    prices : DataFrame, shape (days, companies)
    first_year, last_year : int

    Returns
    -------
    ndarray, shape (companies, companies)
        NaN for pairs without a correlation in any year.
    """
    years = calendar_windows(log_returns(prices), range(first_year, last_year + 1)).correlations()
    companies = prices.shape[1]
    return mean_correlations(years) if years else np.full((companies, companies), np.nan)
