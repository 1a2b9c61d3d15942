from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from companysim.errors import DataError
from companysim.trading.candidates import cluster_pairs, nearest_pairs, placebo_pairs

NAMES = [f"T{i:02d}" for i in range(30)]


def as_set(pairs: tuple[np.ndarray, np.ndarray], names: list[str] | np.ndarray) -> set[frozenset[str]]:
    return {frozenset((str(names[a]), str(names[b]))) for a, b in zip(*pairs, strict=True)}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-2, 4), max_size=20))
def test_cluster_pairs_are_all_pairs_of_equal_labels(labels: list[int]) -> None:
    expected = [
        (a, b) for a, b in itertools.combinations(range(len(labels)), 2) if labels[a] == labels[b] and labels[a] >= 0
    ]
    first, second = cluster_pairs(labels)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected


def test_nearest_pairs_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    points = rng.normal(size=(30, 4))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    neighbours = NearestNeighbors(n_neighbors=3).fit(points).kneighbors(return_distance=False)
    expected = {frozenset((NAMES[a], NAMES[int(b)])) for a in range(30) for b in neighbours[a]}
    assert as_set(nearest_pairs(-distance, 3, NAMES), NAMES) == expected


@pytest.mark.parametrize("k", [1, 4, 100])
def test_nearest_pairs_do_not_depend_on_the_order_of_rows_even_with_ties(rng: np.random.Generator, k: int) -> None:
    codes = rng.integers(0, 5, 30)
    similarity = np.equal.outer(codes, codes).astype(float)
    order = rng.permutation(30)
    shuffled = nearest_pairs(similarity[np.ix_(order, order)], k, [NAMES[i] for i in order])
    found = nearest_pairs(similarity, k, NAMES)
    assert as_set(shuffled, [NAMES[i] for i in order]) == as_set(found, NAMES)
    assert (found[0] < found[1]).all()
    if k == 100:
        assert len(found[0]) == 30 * 29 / 2


def test_unknown_similarities_give_no_pairs() -> None:
    similarity = np.full((3, 3), np.nan)
    similarity[0, 1] = 0.2
    first, second = nearest_pairs(similarity, 2, ["a", "b", "c"])
    assert (first.tolist(), second.tolist()) == ([0], [1])


@pytest.fixture
def sectors(rng: np.random.Generator) -> list[str]:
    return [str(s) for s in rng.choice(["bank", "oil", "shop", "unknown"], 30)]


def combinations(pairs: tuple[np.ndarray, np.ndarray], sectors: list[str]) -> list[tuple[str, ...]]:
    return sorted(tuple(sorted((sectors[a], sectors[b]))) for a, b in zip(*pairs, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_placebo_pairs_match_number_and_sectors(rng: np.random.Generator, sectors: list[str], seed: int) -> None:
    i, j = np.triu_indices(30, 1)
    real = rng.choice(len(i), 60, replace=False)
    placebo = placebo_pairs(i[real], j[real], sectors, NAMES, seed)
    assert len(as_set(placebo, NAMES)) == len(placebo[0]) == 60
    assert (placebo[0] < placebo[1]).all()
    assert combinations(placebo, sectors) == combinations((i[real], j[real]), sectors)
    assert as_set(placebo, NAMES) != as_set((i[real], j[real]), NAMES)


def test_placebo_pairs_depend_on_the_seed_and_on_no_order(rng: np.random.Generator, sectors: list[str]) -> None:
    i, j = np.triu_indices(30, 1)
    real = rng.choice(len(i), 40, replace=False)
    expected = as_set(placebo_pairs(i[real], j[real], sectors, NAMES, 7), NAMES)
    assert as_set(placebo_pairs(i[real], j[real], sectors, NAMES, 8), NAMES) != expected
    order = rng.permutation(30)
    place = np.argsort(order)
    mixed = rng.permutation(real)
    names = [NAMES[k] for k in order]
    shuffled = placebo_pairs(place[j[mixed]], place[i[mixed]], [sectors[k] for k in order], names, 7)
    assert as_set(shuffled, names) == expected


def test_placebo_pairs_are_uniform_within_their_sectors() -> None:
    sectors = ["a"] * 5 + ["b"] * 3
    names = list("klmnopqr")
    counts: dict[frozenset[str], int] = {}
    for seed in range(1500):  # one of the 10 pairs a-a and one of the 15 pairs a-b
        for pair in as_set(placebo_pairs(np.array([0, 0]), np.array([1, 5]), sectors, names, seed), names):
            counts[pair] = counts.get(pair, 0) + 1
    inside = [count for pair, count in counts.items() if not pair & set("pqr")]
    across = [count for pair, count in counts.items() if pair & set("pqr")]
    assert (len(inside), len(across)) == (10, 15)
    assert min(inside) > 150 - 5 * 12
    assert max(inside) < 150 + 5 * 12
    assert min(across) > 100 - 5 * 10
    assert max(across) < 100 + 5 * 10


def test_a_whole_sector_has_itself_as_placebo() -> None:
    pairs = cluster_pairs([0] * 6 + [-1] * 4)
    placebo = placebo_pairs(*pairs, sectors=["x"] * 6 + ["y"] * 4, names=NAMES[:10], seed=0)
    np.testing.assert_array_equal(placebo, pairs)


def test_pairs_given_twice_count_once() -> None:
    first, _ = placebo_pairs(np.array([0, 1]), np.array([1, 0]), ["x"] * 5, NAMES[:5], 0)
    assert len(first) == 1


def test_no_candidates_are_no_pairs() -> None:
    none = np.zeros(0, dtype=np.int64)
    for pairs in (
        cluster_pairs([]),
        cluster_pairs([-1, -1]),
        placebo_pairs(none, none, ["x"] * 3, NAMES[:3], 0),
        nearest_pairs(np.full((3, 3), np.nan), 2, NAMES[:3]),
    ):
        assert [each.tolist() for each in pairs] == [[], []]


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match=r"a similarity of shape \(2, 2\) for 3 names"):
        nearest_pairs(np.eye(2), 1, ["a", "b", "c"])
    with pytest.raises(DataError, match="k = 0 neighbours: give at least 1"):
        nearest_pairs(np.eye(2), 0, ["a", "b"])
    with pytest.raises(DataError, match="the name a occurs twice"):
        nearest_pairs(np.eye(2), 1, ["a", "a"])
    with pytest.raises(DataError, match="1 sectors for 2 names: give one sector a name"):
        placebo_pairs(np.array([0]), np.array([1]), ["x"], ["a", "b"], 0)
    for pair in ((0, 2), (0, 0), (-1, 0)):
        with pytest.raises(DataError, match="a pair names a company twice or none of the 2"):
            placebo_pairs(np.array([pair[0]]), np.array([pair[1]]), ["x", "x"], ["a", "b"], 0)
