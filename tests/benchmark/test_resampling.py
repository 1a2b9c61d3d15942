"""Nulls and bootstraps against the exact distributions of worlds small enough to enumerate."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from companysim.benchmark import interval, score_partition, size_matched_null
from companysim.benchmark.resampling import Resamples
from companysim.benchmark.weights import Pairs

pytestmark = pytest.mark.filterwarnings("error")  # numpy warns on its own behalf, not the caller's


def symmetric(rng: np.random.Generator, n: int) -> np.ndarray:
    upper = np.triu(rng.uniform(-1, 1, (n, n)), 1)
    full: np.ndarray = upper + upper.T
    np.fill_diagonal(full, np.nan)
    return full


def near(draws: np.ndarray, expected: float) -> bool:
    """Whether the mean of draws lies within four standard errors."""
    return bool(abs(draws.mean() - expected) < 4 * draws.std() / np.sqrt(len(draws)))


def test_null_draws_every_split_of_the_same_sizes_equally_often(rng: np.random.Generator) -> None:
    correlations = {2010: symmetric(rng, 5), 2011: symmetric(rng, 5)}
    possible = []
    for triple in combinations(range(5), 3):
        labels = np.array([0 if i in triple else 1 for i in range(5)])
        possible.append(score_partition(labels, correlations).mean_correlation)
    draws = size_matched_null(np.array([4, 2, 4, 2, 4]), correlations, 4000, seed=1)
    nearest = np.abs(draws[:, None] - np.array(possible)).argmin(axis=1)
    np.testing.assert_allclose(draws, np.array(possible)[nearest], atol=1e-12)
    assert np.abs(np.bincount(nearest, minlength=10) - 400).max() < 4 * np.sqrt(400)


def test_null_of_exchangeable_clusters_centres_on_all_pairs(rng: np.random.Generator) -> None:
    values = symmetric(rng, 20)
    draws = size_matched_null(np.repeat([0, 1, 2, 3, 4, 5], [7, 5, 4, 2, 1, 1]), {2010: values}, 3000, seed=2)
    assert near(draws, np.nanmean(values))


def test_null_keeps_unlabelled_companies_out(rng: np.random.Generator) -> None:
    values = symmetric(rng, 12)
    values[:, :4] = values[:4, :] = 99.0
    labels = np.array([-1] * 4 + [0, 0, 0, 1, 1, 2, 2, 2])
    assert size_matched_null(labels, {2010: values}, 200, seed=3).max() < 1


def test_null_of_one_cluster_is_its_own_score(rng: np.random.Generator) -> None:
    values = symmetric(rng, 6)
    draws = size_matched_null(np.zeros(6, int), {2010: values}, 5, seed=4)
    np.testing.assert_allclose(draws, np.nanmean(values), atol=1e-12)


def test_null_skips_clusters_and_years_without_values() -> None:
    values = np.full((6, 6), np.nan)
    values[:3, :3] = 0.5
    correlations = {2010: values, 2011: np.full((6, 6), np.nan)}
    draws = size_matched_null(np.array([0, 0, 0, 1, 1, 1]), correlations, 50, seed=5)
    np.testing.assert_array_equal(draws, 0.5)  # of three and three, one cluster always holds two of the first three


def test_null_is_nan_in_draws_without_any_value() -> None:
    values = np.full((6, 6), np.nan)
    values[0, 1] = values[1, 0] = 0.5
    draws = size_matched_null(np.array([0, 0, 1, 2, 3, 4]), {2010: values}, 300, seed=6)
    assert set(draws[np.isfinite(draws)]) == {0.5}
    assert 0 < np.isfinite(draws).sum() < 60  # one in fifteen


@pytest.mark.parametrize("labels", [[-1, -1, -1, -1], [0, 1, 2, 3], [0, -1, 1, -1]])
def test_null_without_a_cluster_of_two_is_nan(labels: list[int], rng: np.random.Generator) -> None:
    draws = size_matched_null(np.array(labels), {2010: symmetric(rng, 4)}, 7, seed=7)
    assert draws.shape == (7,)
    assert np.isnan(draws).all()


def test_same_seed_same_draws_other_seed_other_draws(rng: np.random.Generator) -> None:
    values, labels = {2010: symmetric(rng, 10), 2011: symmetric(rng, 10)}, np.repeat([0, 1], 5)
    weights = np.triu(np.ones((10, 10)), 1)
    for sample in (
        lambda seed: size_matched_null(labels, values, 20, seed),
        lambda seed: firm_year_bootstrap(weights, values, 20, seed),
    ):
        np.testing.assert_array_equal(sample(1), sample(1))
        assert (sample(1) != sample(2)).all()


def firm_year_bootstrap(
    weights: np.ndarray, correlations: dict[int, np.ndarray], draws: int, seed: int
) -> np.ndarray:
    """Weighted mean correlation of pairs in each draw of firms and years."""
    resamples = Resamples(len(weights), len(correlations), draws, seed)
    i, j = np.nonzero(weights)
    pairs = Pairs(i, j, weights[i, j])
    yearly = [resamples.year(pairs, values) for values in correlations.values()]
    return resamples.over_years(np.reshape(yearly, (len(yearly), draws)).T)


def enumerated_bootstrap(weights: np.ndarray, correlations: list[np.ndarray]) -> np.ndarray:
    """Every equally likely draw of firms and years, one figure each."""
    n, found = len(weights), []
    for firms in product(range(n), repeat=n):
        yearly = []
        for values in correlations:
            pairs = [(i, j) for i in firms for j in firms if i < j and not np.isnan(values[i, j])]
            total = sum(weights[i, j] for i, j in pairs)
            yearly.append(sum(weights[i, j] * values[i, j] for i, j in pairs) / total if total else np.nan)
        for chosen in product(yearly, repeat=len(correlations)):
            finite = [value for value in chosen if not np.isnan(value)]
            found.append(np.mean(finite) if finite else np.nan)
    return np.array(found)


def test_bootstrap_has_the_exact_distribution(rng: np.random.Generator) -> None:
    weights, values = np.triu(rng.uniform(0.5, 1, (4, 4)), 1), [symmetric(rng, 4), symmetric(rng, 4)]
    values[1][0, 2] = values[1][2, 0] = np.nan
    exact = enumerated_bootstrap(weights, values)
    draws = firm_year_bootstrap(weights, dict(enumerate(values)), 20000, seed=8)
    assert np.isfinite(draws).mean() == pytest.approx(np.isfinite(exact).mean(), abs=0.005)
    exact, draws = exact[np.isfinite(exact)], draws[np.isfinite(draws)]
    assert np.abs(draws[:, None] - np.unique(exact)).min(axis=1).max() < 1e-6
    levels = np.linspace(-1, 1, 41) + 1e-5  # between values, which are drawn in single precision
    shares = (draws[:, None] <= levels).mean(axis=0), (exact[:, None] <= levels).mean(axis=0)
    np.testing.assert_allclose(*shares, atol=0.015)


def test_bootstrap_of_all_pairs_centres_on_the_plain_mean(rng: np.random.Generator) -> None:
    values = symmetric(rng, 60)
    draws = firm_year_bootstrap(np.triu(np.ones((60, 60)), 1), {2010: values, 2011: values - 0.1}, 4000, seed=9)
    assert near(draws, np.nanmean(values) - 0.05)


def test_firms_never_pair_with_themselves() -> None:
    values = np.full((5, 5), 0.2)
    np.fill_diagonal(values, np.nan)
    draws = firm_year_bootstrap(np.triu(np.ones((5, 5)), 1), {2010: values}, 500, seed=10)
    np.testing.assert_allclose(draws, 0.2, atol=1e-12)


def test_a_pair_whose_firms_are_not_both_drawn_gives_nan() -> None:
    weights = np.array([[0.0, 1.0], [0.0, 0.0]])
    draws = firm_year_bootstrap(weights, {2010: np.full((2, 2), 0.3)}, 2000, seed=11)
    np.testing.assert_allclose(draws[np.isfinite(draws)], 0.3, atol=1e-6)
    assert np.isfinite(draws).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("n", [0, 4])
@pytest.mark.parametrize("years", [0, 1])
def test_bootstrap_without_pairs_or_years_is_nan(n: int, years: int) -> None:
    correlations = {year: np.full((n, n), 0.1) for year in range(years)}
    draws = firm_year_bootstrap(np.zeros((n, n)), correlations, 6, seed=12)
    assert draws.shape == (6,)
    assert np.isnan(draws).all()


def test_interval_is_the_central_quantiles() -> None:
    values = np.random.default_rng(0).permutation(np.arange(101.0))
    assert interval(values) == pytest.approx((2.5, 97.5))
    assert interval(values, 0.5) == pytest.approx((25.0, 75.0))


def test_interval_ignores_nan_and_has_none_of_nothing() -> None:
    assert interval(np.array([np.nan, 1.0, 3.0, np.nan]), 0.5) == pytest.approx((1.5, 2.5))
    assert np.isnan(interval(np.array([np.nan]))).all()
