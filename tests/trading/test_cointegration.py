from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.tsa.stattools import adfuller, coint

from companysim.errors import DataError
from companysim.trading import adf, engle_granger

FIRST, SECOND = np.array([0]), np.array([1])


def random_walks(rng: np.random.Generator, days: int, n: int) -> np.ndarray:
    return np.cumsum(rng.normal(0, 0.02, (days, n)), axis=0)


def autoregressions(rng: np.random.Generator, days: int, n: int) -> np.ndarray:
    """AR(3) series: the lag order matters."""
    series = rng.normal(0, 1, (days, n))
    for t in range(3, days):
        series[t] += 0.5 * series[t - 1] - 0.3 * series[t - 2] + 0.6 * series[t - 3]
    return series


@pytest.mark.parametrize("days", [61, 250, 504])
@pytest.mark.parametrize("make", [random_walks, autoregressions])
def test_adf_equals_statsmodels(rng: np.random.Generator, make, days: int) -> None:  # type: ignore[no-untyped-def]
    series = make(rng, days, 12)
    t, lags, gamma = adf(series)
    for i in range(12):
        expected, _, expected_lags, *_, store = adfuller(
            series[:, i], regression="n", autolag="AIC", regresults=True
        ) if False else (*adfuller(series[:, i], regression="n", autolag="AIC")[:3], None)
        assert lags[i] == expected_lags
        assert t[i] == pytest.approx(expected, rel=1e-8, abs=1e-8)
