from __future__ import annotations

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap
from arch.bootstrap import optimal_block_length as oracle

from companysim.trading import sharpe
from companysim.trading.bootstrap import bootstrap, optimal_block_length, stationary_positions


def autoregressive(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    values = rng.normal(0, 0.01, n)
    for t in range(1, n):
        values[t] += rho * values[t - 1]
    return values


def ratios(histories: np.ndarray) -> np.ndarray:
    return sharpe(histories, axis=1)


def test_block_lengths_equal_those_of_arch(rng: np.random.Generator) -> None:
    # arch leaves out one more term of an autocorrelation's denominator, which matters at the threshold only.
    found, expected = [], []
    for rho in (0.0, 0.1, 0.3, 0.6, 0.9):
        for n in (100, 400, 1500):
            for _ in range(4):
                values = autoregressive(rng, n, rho)
                found.append(optimal_block_length(values))
                expected.append(max(1.0, float(oracle(values)["stationary"].iloc[0])))
    same = np.isclose(found, expected, rtol=1e-9)
    assert same.mean() >= 0.95
    assert max(expected) > 20 > 2 > min(expected)


def test_dependence_calls_for_longer_blocks(rng: np.random.Generator) -> None:
    lengths = [optimal_block_length(autoregressive(rng, 2000, rho)) for rho in (0.0, 0.5, 0.9)]
    assert lengths[0] < 5 < lengths[1] < lengths[2] <= np.ceil(3 * np.sqrt(2000))


@pytest.mark.parametrize("values", [np.zeros(100), np.full(100, 0.1), np.arange(5.0)])
def test_values_that_do_not_vary_or_are_few_are_drawn_one_by_one(values: np.ndarray) -> None:
    assert optimal_block_length(values) == 1.0


def test_blocks_run_on_around_the_circle_and_have_the_mean_length(rng: np.random.Generator) -> None:
    positions = stationary_positions(50, 2000, 8.0, rng)
    assert positions.shape == (2000, 50)
    assert np.unique(positions).tolist() == list(range(50))
    goes_on = (positions[:, 1:] - positions[:, :-1]) % 50 == 1
    # A new block may happen to begin where the old one would have gone on: with a chance of one in fifty.
    assert goes_on.mean() == pytest.approx(1 - (1 / 8) * (49 / 50), abs=0.005)
    counts = np.bincount(positions.ravel(), minlength=50)
    assert counts.min() > 0.9 * counts.mean()  # the circle gives every day the same weight


def test_the_distribution_is_that_of_arch(rng: np.random.Generator) -> None:
    values = autoregressive(rng, 600, 0.3) + 0.0006
    mine = bootstrap(values, ratios, 4000, seed=1, block=10)
    theirs = StationaryBootstrap(10, values, seed=2).apply(lambda x: np.array([float(sharpe(x))]), 2000)[:, 0]
    assert mine.mean() == pytest.approx(theirs.mean(), abs=4 * theirs.std() / np.sqrt(2000))
    assert mine.std() == pytest.approx(theirs.std(), rel=0.07)
    np.testing.assert_allclose(np.quantile(mine, [0.025, 0.975]), np.quantile(theirs, [0.025, 0.975]), atol=0.2)


def test_longer_blocks_widen_the_interval_of_a_dependent_series(rng: np.random.Generator) -> None:
    values = autoregressive(rng, 1000, 0.6)
    one_by_one, blocks = (bootstrap(values, ratios, 2000, seed=0, block=block).std() for block in (1, 30))
    assert blocks > 1.5 * one_by_one


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    rng, true = np.random.default_rng(3), 1.0
    held = 0
    for seed in range(200):
        values = rng.normal(true / np.sqrt(252) * 0.01, 0.01, 750)
        low, high = np.quantile(bootstrap(values, ratios, 400, seed=seed), [0.025, 0.975])
        held += low <= true <= high
    assert 0.89 <= held / 200 <= 0.985


def test_draws_depend_on_the_seed_alone_and_not_on_the_chunks(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = rng.normal(0, 1, 100)
    one, again, other = (bootstrap(values, ratios, 50, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.isnan(bootstrap(np.zeros(0), ratios, 3, seed=0)).all()
    assert np.isnan(bootstrap(np.zeros(9), ratios, 3, seed=0)).all()
    monkeypatch.setattr("companysim.trading.bootstrap._CELLS", 700)
    assert bootstrap(values, ratios, 50, seed=4).shape == (50,)
