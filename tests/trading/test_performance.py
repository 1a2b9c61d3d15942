from __future__ import annotations

import numpy as np
import pytest

from companysim.trading import max_drawdown, sharpe


def test_sharpe_by_hand() -> None:
    # mean 0.02, sd with n - 1: sqrt((0.01^2 + 0 + 0.01^2) / 2) = 0.01
    assert sharpe(np.array([0.01, 0.02, 0.03])) == pytest.approx(2 * np.sqrt(252), rel=1e-12)


def test_sharpe_of_losses_is_negative() -> None:
    assert sharpe(np.array([-0.03, 0.01])) == pytest.approx(-0.01 / np.sqrt(0.0008) * np.sqrt(252), rel=1e-12)


def test_sharpe_of_a_table_is_that_of_each_column(rng: np.random.Generator) -> None:
    table = rng.normal(0.001, 0.01, (50, 3))
    np.testing.assert_allclose(sharpe(table), [sharpe(column) for column in table.T], rtol=1e-12)
    np.testing.assert_allclose(sharpe(table.T, axis=1), sharpe(table), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_sharpe_of_returns_that_do_not_vary_is_nan(value: float) -> None:
    assert np.isnan(sharpe(np.full(100, value)))


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([0.1, -0.05, -0.1, 0.3, -0.02], 0.15),  # 0.10 down to -0.05
        ([-0.2, 0.1, 0.2], 0.2),  # measured from the capital, before the first day
        ([0.1, -0.1, 0.05, -0.2], 0.25),  # the new low counts from the old peak
        ([0.1, 0.0, 0.2], 0.0),
        ([], 0.0),
    ],
)
def test_max_drawdown_by_hand(returns: list[float], expected: float) -> None:
    assert max_drawdown(np.array(returns)) == pytest.approx(expected, abs=1e-12)
