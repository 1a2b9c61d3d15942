"""Supervised selection against pair-by-pair scores, planted signal, and the future it must not see."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from companysim.errors import ConfigError, DataError
from companysim.similarity import SupervisedCosine, base, fitted_arrays

YEARS = np.repeat([2010, 2011, 2012, 2013], [12, 15, 10, 14])


def world(rng: np.random.Generator) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Random latents and symmetric correlations with holes; rows of the years are mixed by the caller."""
    X = rng.poisson(0.6, (len(YEARS), 30)) * rng.uniform(0.5, 5, (len(YEARS), 30))
    correlations = {}
    for year in np.unique(YEARS):
        n = int((year == YEARS).sum())
        values = np.triu(rng.uniform(-0.3, 0.9, (n, n)), 1)
        values[np.triu(rng.random((n, n)) < 0.2, 1)] = np.nan
        correlations[int(year)] = values + values.T
    return X, correlations


def pair_by_pair(X: np.ndarray, correlations: dict[int, np.ndarray], until: int) -> tuple[np.ndarray, np.ndarray]:
    totals, number, everything = np.zeros(X.shape[1]), np.zeros(X.shape[1]), []
    for year, values in correlations.items():
        rows = np.flatnonzero(year == YEARS)
        for a, b in combinations(range(len(rows)), 2):
            if year <= until and np.isfinite(values[a, b]):
                both = (X[rows[a]] > 0) & (X[rows[b]] > 0)
                totals, number = totals + both * values[a, b], number + both
                everything.append(values[a, b])
    return totals / number - np.mean(everything), number


@pytest.mark.parametrize("sparse", [np.asarray, sp.csr_array])
def test_scores_are_mean_correlations_of_pairs_active_in_both(
    rng: np.random.Generator, sparse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_BLOCK", 100)
    X, correlations = world(rng)
    found = SupervisedCosine(until=2012, n_latents=5, minimum_pairs=1).fit(sparse(X), correlations, dates=YEARS)
    scores, number = pair_by_pair(X, correlations, 2012)
    np.testing.assert_allclose(found.scores_, scores, atol=1e-12)
    np.testing.assert_allclose(found.pair_counts_, number)
    assert found.selected_.tolist() == np.argsort(-scores)[:5].tolist()
    np.testing.assert_allclose(found.weights_, np.sort(scores)[::-1][:5], atol=1e-12)


def test_too_few_pairs_and_scores_below_the_mean_do_not_count(rng: np.random.Generator) -> None:
    X, correlations = world(rng)
    scores, number = pair_by_pair(X, correlations, 2013)
    limit = int(np.median(number))
    found = SupervisedCosine(until=2013, n_latents=100, minimum_pairs=limit).fit(X, correlations, dates=YEARS)
    assert set(found.selected_) == set(np.flatnonzero((number >= limit) & (scores > 0)))
    assert np.isnan(found.scores_[number < limit]).all()
    assert 0 < len(found.selected_) < (number >= limit).sum()


def test_a_planted_latent_comes_first(rng: np.random.Generator) -> None:
    X, correlations = world(rng)
    for year, values in correlations.items():
        active = X[year == YEARS, 11] > 0
        values[np.ix_(active, active)] += 2.0
    found = SupervisedCosine(until=2013, minimum_pairs=5).fit(X, correlations, dates=YEARS)
    assert found.selected_[0] == 11


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_similarity_is_the_product_over_the_norms_to_the_power_alpha(rng: np.random.Generator, alpha: float) -> None:
    X, correlations = world(rng)
    X[5] = 0
    found = SupervisedCosine(until=2013, alpha=alpha).fit(X, correlations, dates=YEARS)
    z = X * np.nan_to_num(np.where(found.scores_ > 0, found.scores_, 0))
    norms = np.linalg.norm(z, axis=1)
    norms[5] = 1
    vectors = found.transform(sp.csr_array(X))
    np.testing.assert_allclose(found.similarity(vectors), (z @ z.T) / np.outer(norms, norms) ** alpha, atol=1e-12)


def test_rows_and_correlations_after_the_cut_off_are_not_seen(rng: np.random.Generator) -> None:
    X, correlations = world(rng)
    order = rng.permutation(len(YEARS))
    changed, later = X.copy(), {**correlations, 2013: -correlations[2013], 2020: np.ones((999, 999))}
    changed[YEARS == 2013] += 7
    plain = SupervisedCosine(until=2012, minimum_pairs=5).fit(X, correlations, dates=YEARS)
    other = SupervisedCosine(until=2012, minimum_pairs=5).fit(changed, later, dates=YEARS)
    for name, array in fitted_arrays(plain).items():
        np.testing.assert_array_equal(fitted_arrays(other)[name], array)
    stood = {y: order[y == YEARS[order]] - np.flatnonzero(y == YEARS)[0] for y in correlations}  # within their year
    moved = {y: values[np.ix_(stood[y], stood[y])] for y, values in correlations.items()}
    mixed = SupervisedCosine(until=2012, minimum_pairs=5).fit(X[order], moved, dates=YEARS[order])
    np.testing.assert_allclose(mixed.scores_, plain.scores_, atol=1e-12)


def test_refusals(rng: np.random.Generator) -> None:
    X, correlations = world(rng)
    for parameters, fitting in (({}, {"dates": YEARS}), ({"until": 2012}, {})):
        with pytest.raises(ConfigError, match="needs until"):
            SupervisedCosine(**parameters).fit(X, correlations, **fitting)
    with pytest.raises(ConfigError, match="correlations by year"):
        SupervisedCosine(until=2012).fit(X, dates=YEARS)
    with pytest.raises(DataError, match=r"2010 has 12 rows and correlations of shape \(3, 3\)"):
        SupervisedCosine(until=2012).fit(X, {2010: np.eye(3)}, dates=YEARS)
    empty = {2010: np.full((12, 12), np.nan)}
    with pytest.raises(DataError, match="no return correlation up to 2012"):
        SupervisedCosine(until=2012).fit(X, empty, dates=YEARS)
    with pytest.raises(DataError, match="no return correlation up to 2011"):
        SupervisedCosine(until=2011).fit(X, {2012: correlations[2012]}, dates=YEARS)
    with pytest.raises(DataError, match="no latent has a positive score"):
        SupervisedCosine(until=2012, minimum_pairs=10_000).fit(X, correlations, dates=YEARS)
