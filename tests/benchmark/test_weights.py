"""Pair weights against brute force, ties against the average over random tie breaks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.benchmark.weights import Pairs, Ranking, cluster_means, grouped_pairs, nearest, ranking, runs

pytestmark = pytest.mark.filterwarnings("error")


def tied(seed: int, n: int, levels: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).integers(0, levels, (n, n)), 1)
    full: np.ndarray = (upper + upper.T).astype(float)
    return full


def everywhere(n: int) -> np.ndarray:
    available: np.ndarray = ~np.eye(n, dtype=bool)
    return available


def dense(pairs: Pairs, n: int) -> np.ndarray:
    weights = np.zeros((n, n))
    np.add.at(weights, (pairs.i, pairs.j), pairs.weight)
    return weights


def greedy(similarity: np.ndarray, groups: np.ndarray, pairs: int, cap: int, rng: np.random.Generator) -> np.ndarray:
    """Take pairs one after the other, most similar first, ties in random order, full groups passed over."""
    found, full = np.zeros_like(similarity), dict.fromkeys(groups.tolist(), 0)
    order = sorted(combinations(range(len(similarity)), 2), key=lambda p: (-similarity[p], rng.random()))
    for i, j in order:
        inside = groups[i] == groups[j] >= 0
        if found.sum() >= pairs or (inside and full[int(groups[i])] >= cap):
            continue
        found[i, j] = 1
        full[int(groups[i])] += inside
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(2, 8), st.integers(1, 5), st.integers(0, 30))
def test_top_fills_level_by_level_and_shares_the_last(seed: int, n: int, levels: int, pairs: int) -> None:
    similarity = tied(seed, n, levels)
    weights = dense(ranking(similarity).top(pairs), n)
    assert weights.sum() == pytest.approx(min(pairs, n * (n - 1) // 2))
    for level in np.unique(similarity[np.triu_indices(n, 1)]):  # ties alike, and nobody before the more similar
        same = weights[np.triu(similarity == level, 1)]
        above = weights[np.triu(similarity > level, 1)]
        assert np.ptp(same) < 1e-12
        assert same.max() == 0 or above.min(initial=1.0) == 1.0


def test_capped_pairs_are_the_mean_of_greedy_choices_with_random_tie_breaks() -> None:
    similarity, groups = tied(5, 9, 4), np.array([0, 0, 0, 0, 1, 1, 1, -1, -1])
    rng = np.random.default_rng(0)
    drawn = np.mean([greedy(similarity, groups, 12, 2, rng) for _ in range(3000)], axis=0)
    found = dense(ranking(similarity).top_capped(12, groups, 2), 9)
    assert found.sum() == pytest.approx(12)
    np.testing.assert_allclose(found, drawn, atol=0.05)


def test_no_group_fills_more_than_the_cap() -> None:
    rng = np.random.default_rng(1)
    upper = np.triu(rng.random((30, 30)), 1)
    groups = np.repeat([0, 1, -1], 10)
    chosen = ranking(upper + upper.T).top_capped(80, groups, 7.5)
    for group in (0, 1):
        assert chosen.weight[(groups[chosen.i] == group) & (groups[chosen.j] == group)].sum() <= 7.5 + 1e-12
    free = (groups[chosen.i] == groups[chosen.j]) & (groups[chosen.i] < 0)
    assert free.any()  # companies without a group are not one
    assert chosen.weight.sum() == pytest.approx(80)


def test_a_cap_nobody_reaches_changes_nothing() -> None:
    ranked, groups = ranking(tied(2, 10, 5)), np.repeat([0, 1], 5)
    np.testing.assert_allclose(dense(ranked.top_capped(13, groups, 99), 10), dense(ranked.top(13), 10), atol=1e-12)


def test_pairs_without_a_correlation_or_similarity_are_never_chosen() -> None:
    similarity = tied(3, 6, 9)
    similarity[0, 1] = similarity[1, 0] = np.nan
    available = everywhere(6)
    available[2, 3] = available[3, 2] = False
    chosen = ranking(similarity).among(available).top(99)
    assert len(chosen.i) == 13
    assert {(0, 1), (2, 3)}.isdisjoint(zip(chosen.i.tolist(), chosen.j.tolist(), strict=True))


@pytest.mark.parametrize("k", [1, 3, 7, 50])
def test_nearest_equals_a_sort_of_each_row(rng: np.random.Generator, k: int) -> None:
    similarity = rng.random((8, 8))
    available = everywhere(8) & (rng.random((8, 8)) < 0.8)
    available &= available.T
    available[5] = available[:, 5] = False
    found = dense(nearest(similarity, available, (k,))[k], 8)
    for i in range(8):
        there = [j for j in np.argsort(-similarity[i]).tolist() if available[i, j]][:k]
        expected = np.zeros(8)
        expected[there] = 1 / len(there) if there else 0
        np.testing.assert_allclose(found[i], expected)


def test_ties_at_the_last_place_of_the_nearest_share_it() -> None:
    similarity = np.array([[0, 2, 1, 1], [2, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0.0]])
    found = dense(nearest(similarity, everywhere(4), (2,))[2], 4)
    np.testing.assert_allclose(found[0], [0, 0.5, 0.25, 0.25])


def test_cluster_weights_count_clusters_alike() -> None:
    labels = np.array([0, 0, 0, 4, 4, 7, -1, -1])
    available = everywhere(8)
    pairs = cluster_means(labels, grouped_pairs(labels, available))
    assert pairs.weight.tolist() == pytest.approx([1 / 3] * 3 + [1])
    assert len(grouped_pairs(np.full(8, -1), available).i) == 0
    assert np.isnan(cluster_means(labels, grouped_pairs(np.full(8, -1), available)).mean(np.zeros((8, 8))))


def test_runs_by_hand() -> None:
    starts, length = runs(np.array([5, 5, 3, 3, 3, 1]))
    assert starts.tolist() == [0, 0, 2, 2, 2, 5]
    assert length.tolist() == [2, 2, 3, 3, 3, 1]
    assert runs(np.empty(0))[0].tolist() == []


def test_one_company_has_no_pair() -> None:
    assert len(ranking(np.zeros((1, 1))).top(3).i) == 0
    assert len(nearest(np.zeros((1, 1)), np.zeros((1, 1), bool), (1,))[1].i) == 0
    empty = Ranking(np.empty(0, int), np.empty(0, int), np.empty(0))
    assert len(empty.top_capped(3, np.zeros(1, int), 1).i) == 0
