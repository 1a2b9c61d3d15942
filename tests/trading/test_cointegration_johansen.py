from __future__ import annotations

import numpy as np
import pytest
from statsmodels.tsa.vector_ar.vecm import coint_johansen

from companysim.errors import DataError
from companysim.trading.johansen import johansen

ZERO, ONE = np.array([0]), np.array([1])


@pytest.fixture
def logs() -> np.ndarray:
    """A walk, the same times 0.5 with stationary noise, an unrelated walk, and two stationary series."""
    rng = np.random.default_rng(2)  # one seed in twenty takes the walk for stationary, by the size of the test
    walks = np.cumsum(rng.normal(0, 0.02, (1500, 2)), axis=0)
    noise = rng.normal(0, 0.02, (1500, 3))
    return np.column_stack([walks[:, 0], 0.5 * walks[:, 0] + noise[:, 0], walks[:, 1], noise[:, 1:]])


def test_rank_and_hedge_ratio_of_known_pairs(logs: np.ndarray) -> None:
    found = johansen(logs, np.array([0, 0, 3]), np.array([1, 2, 4]))
    assert found["rank"].tolist() == [1, 0, 2]
    assert found["hedge_ratio"][0] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("lags", [0, 1, 5])
def test_statistics_are_those_of_statsmodels(logs: np.ndarray, lags: int) -> None:
    row = johansen(logs, np.array([2]), np.array([1]), lags=lags).iloc[0]
    oracle = coint_johansen(logs[:, [2, 1]], 0, lags)
    assert row[["trace_0", "trace_1"]].tolist() == oracle.trace_stat.tolist()
    assert row[["critical_0", "critical_1"]].tolist() == [15.4943, 3.8415]


def test_bad_pairs_are_refused(logs: np.ndarray) -> None:
    logs[5, 0] = np.nan
    with pytest.raises(DataError, match="series 0 or 1 has missing prices"):
        johansen(logs, ZERO, ONE)
    logs[:, 0] = 2 * logs[:, 1] + 1
    with pytest.raises(DataError, match="series 0 or 1 is constant, or one is a multiple of the other"):
        johansen(logs, ZERO, ONE)


def test_no_pairs_are_an_empty_table(logs: np.ndarray) -> None:
    none = np.zeros(0, dtype=int)
    assert list(johansen(logs, none, none).columns) == list(johansen(logs, ONE, 2 * ONE).columns)
