"""Metrics against double loops over pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.benchmark import frontier, peers_correlation, score_partition, top_pairs_weights
from companysim.benchmark.metrics import weighted_correlation

pytestmark = pytest.mark.filterwarnings("error")  # numpy warns on its own behalf, not the caller's


def symmetric(rng: np.random.Generator, n: int, missing: float = 0.0) -> np.ndarray:
    upper = np.triu(rng.uniform(-1, 1, (n, n)), 1)
    upper[rng.random((n, n)) < missing] = np.nan
    full: np.ndarray = upper + upper.T
    np.fill_diagonal(full, np.nan)
    return full


def years(rng: np.random.Generator, n: int, missing: float = 0.0) -> dict[int, np.ndarray]:
    return {year: symmetric(rng, n, missing) for year in (2010, 2011, 2012)}


def loop_scores(labels: np.ndarray, correlations: dict[int, np.ndarray]) -> tuple[float, float]:
    """MC and pair-weighted correlation as their definitions read."""
    per_cluster, pooled = [], []
    for values in correlations.values():
        clusters: dict[int, list[float]] = {}
        for i in range(len(labels)):
            for j in range(i):
                if labels[i] == labels[j] >= 0 and not np.isnan(values[i, j]):
                    clusters.setdefault(int(labels[i]), []).append(float(values[i, j]))
        if clusters:
            per_cluster.append(np.mean([np.mean(members) for members in clusters.values()]))
            pooled.append(np.mean([value for members in clusters.values() for value in members]))
    return float(np.mean(per_cluster)), float(np.mean(pooled))


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("clusters", [2, 8])
def test_score_equals_a_double_loop(rng: np.random.Generator, missing: float, clusters: int) -> None:
    labels = rng.integers(-1, clusters, 30)
    correlations = years(rng, 30, missing)
    score = score_partition(labels, correlations)
    assert (score.mean_correlation, score.pair_weighted) == pytest.approx(loop_scores(labels, correlations), abs=1e-12)


def test_score_counts_by_hand() -> None:
    labels = np.array([7, 7, 7, 2, 2, 5, -1, -1, -1, 9])  # a triple, a pair, two singletons, three without a group
    score = score_partition(labels, {2010: np.zeros((10, 10))})
    assert (score.clusters, score.largest, score.coverage) == (2, 3, 0.5)
    assert score.share_of_pairs == pytest.approx(4 / 45)


def test_mean_correlation_weighs_clusters_alike_and_pair_weighted_weighs_pairs() -> None:
    values = np.full((5, 5), 0.1)
    values[3, 4] = values[4, 3] = 0.9
    score = score_partition(np.array([0, 0, 0, 1, 1]), {2010: values})
    assert score.mean_correlation == pytest.approx(0.5)
    assert score.pair_weighted == pytest.approx((3 * 0.1 + 0.9) / 4)


def test_years_count_alike_however_many_pairs_they_have() -> None:
    full, sparse = np.full((4, 4), 0.2), np.full((4, 4), np.nan)
    sparse[0, 1] = sparse[1, 0] = 0.8
    assert score_partition(np.zeros(4, int), {1: full, 2: sparse}).pair_weighted == pytest.approx(0.5)


def test_a_year_in_which_no_grouped_pair_has_a_value_is_left_out() -> None:
    correlations = {1: np.full((3, 3), 0.4), 2: np.full((3, 3), np.nan)}
    assert score_partition(np.array([0, 0, 1]), correlations).mean_correlation == pytest.approx(0.4)


@pytest.mark.parametrize("labels", [[-1, -1, -1], [0, 1, 2], [0, -1, 3]])
def test_no_group_of_two_scores_nan_and_covers_nothing(labels: list[int]) -> None:
    score = score_partition(np.array(labels), {2010: np.full((3, 3), 0.4)})
    assert np.isnan([score.mean_correlation, score.pair_weighted]).all()
    assert (score.coverage, score.share_of_pairs, score.clusters, score.largest) == (0.0, 0.0, 0, 0)


def test_score_depends_on_neither_names_nor_order(rng: np.random.Generator) -> None:
    labels, correlations, order = rng.integers(-1, 6, 25), years(rng, 25, 0.2), rng.permutation(25)
    renamed = np.where(labels >= 0, 100 - 7 * labels, -3)[order]
    permuted = {year: values[np.ix_(order, order)] for year, values in correlations.items()}
    first, second = score_partition(labels, correlations), score_partition(renamed, permuted)
    assert list(vars(second).values()) == pytest.approx(list(vars(first).values()), abs=1e-12)


def tied_similarity(seed: int, n: int, levels: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).integers(0, levels, (n, n)), 1)
    full: np.ndarray = (upper + upper.T).astype(float)
    return full


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(2, 9), st.integers(1, 6), st.integers(0, 40))
def test_weights_pick_exactly_the_requested_pairs(seed: int, n: int, levels: int, pairs: int) -> None:
    weights = top_pairs_weights(tied_similarity(seed, n, levels), pairs)
    assert weights.sum() == pytest.approx(min(pairs, n * (n - 1) // 2))
    assert ((weights >= 0) & (weights <= 1)).all()
    assert not np.tril(weights).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 10))
def test_weights_are_the_expectation_over_all_tie_breaks(seed: int, pairs: int) -> None:
    similarity = tied_similarity(seed, 5, 3)
    i, j = np.triu_indices(5, 1)
    values = similarity[i, j]
    best = np.sort(values)[::-1][:pairs].sum()
    picks = [pick for pick in combinations(range(10), pairs) if values[list(pick)].sum() == best]
    expected = np.zeros((5, 5))
    for pick in picks:
        expected[i[list(pick)], j[list(pick)]] += 1 / len(picks)
    np.testing.assert_allclose(top_pairs_weights(similarity, pairs), expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(0, 28))
def test_weights_follow_the_companies_when_they_are_permuted(seed: int, pairs: int) -> None:
    similarity, order = tied_similarity(seed, 8, 4), np.random.default_rng(seed).permutation(8)
    weights, permuted = top_pairs_weights(similarity, pairs), top_pairs_weights(similarity[np.ix_(order, order)], pairs)
    np.testing.assert_array_equal(permuted + permuted.T, (weights + weights.T)[np.ix_(order, order)])


@pytest.mark.parametrize("n", [0, 1])
def test_no_pairs_get_no_weights(n: int) -> None:
    assert top_pairs_weights(np.ones((n, n)), 3).tolist() == [[0.0]] * n


def test_weighted_correlation_equals_a_double_loop(rng: np.random.Generator) -> None:
    weights, correlations = np.triu(rng.random((12, 12)), 1), years(rng, 12, 0.3)
    yearly = []
    for values in correlations.values():
        pairs = [(i, j) for i in range(12) for j in range(i + 1, 12) if not np.isnan(values[i, j])]
        total = sum(weights[i, j] for i, j in pairs)
        yearly.append(sum(weights[i, j] * values[i, j] for i, j in pairs) / total)
    assert weighted_correlation(weights, correlations) == pytest.approx(np.mean(yearly), abs=1e-12)


def test_weighted_correlation_without_weights_or_years_is_nan(rng: np.random.Generator) -> None:
    assert np.isnan(weighted_correlation(np.zeros((4, 4)), years(rng, 4)))
    assert np.isnan(weighted_correlation(np.ones((4, 4)), {}))


@pytest.mark.parametrize("k", [1, 4, 14, 99])
def test_peers_equal_a_double_loop(rng: np.random.Generator, k: int) -> None:
    similarity, correlations = symmetric(rng, 15), years(rng, 15, 0.3)
    yearly = []
    for values in correlations.values():
        companies = []
        for i in range(15):
            there = [j for j in range(15) if j != i and not np.isnan(values[i, j])]  # measured this year
            found = [values[i, j] for j in sorted(there, key=lambda j: -similarity[i, j])[:k]]
            companies.extend([np.mean(found)] if found else [])
        yearly.append(np.mean(companies))
    assert peers_correlation(similarity, k, correlations) == pytest.approx(np.mean(yearly), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 6))
def test_tied_peers_are_the_expectation_over_all_tie_breaks(seed: int, k: int) -> None:
    similarity, values = tied_similarity(seed, 7, 3), symmetric(np.random.default_rng(seed), 7)
    companies = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        best = sum(sorted(similarity[i, others], reverse=True)[:k])
        picks = [pick for pick in combinations(others, k) if similarity[i, list(pick)].sum() == best]
        companies.append(np.mean([values[i, list(pick)].mean() for pick in picks]))
    assert peers_correlation(similarity, k, {2010: values}) == pytest.approx(np.mean(companies), abs=1e-12)


def test_a_company_is_not_its_own_peer() -> None:
    values = np.full((4, 4), 0.3)
    np.fill_diagonal(values, 1.0)
    assert peers_correlation(np.eye(4), 2, {2010: values}) == pytest.approx(0.3)


def test_peers_leave_the_similarity_alone(rng: np.random.Generator) -> None:
    similarity = np.ones((4, 4))
    peers_correlation(similarity, 2, years(rng, 4))
    np.testing.assert_array_equal(similarity, np.ones((4, 4)))


def test_peers_without_any_value_are_nan() -> None:
    assert np.isnan(peers_correlation(np.eye(4), 2, {2010: np.full((4, 4), np.nan)}))


def test_frontier_runs_from_the_best_pair_to_all_pairs(rng: np.random.Generator) -> None:
    similarity, values = symmetric(rng, 10), symmetric(rng, 10)
    pairs = np.triu_indices(10, 1)
    ranked = values[pairs][np.argsort(-similarity[pairs])]
    found = frontier(similarity, {2010: values}, np.array([1e-6, 9 / 45, 1.0]))
    np.testing.assert_allclose(found, [ranked[0], ranked[:9].mean(), ranked.mean()], atol=1e-12)
