"""Spanning tree clusters against networkx, scipy's single linkage and brute force."""

from __future__ import annotations

from collections import Counter
from math import comb
from random import Random

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.base import clone

from companysim.clustering import SpanningTree, ThresholdMST, spanning_tree
from companysim.errors import ConfigError


@st.composite
def distances(draw: st.DrawFn, tied: bool) -> np.ndarray:
    n = draw(st.integers(2, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = n * (n - 1) // 2
    upper = rng.integers(1, 5, size).astype(float) if tied else rng.uniform(0, 2, size)
    return squareform(upper)


either_kind = st.booleans().flatmap(distances)


def together(labels: np.ndarray) -> np.ndarray:
    return np.equal.outer(labels, labels)


def threshold_graph(distance: np.ndarray, theta: float) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from(range(len(distance)))
    graph.add_edges_from(zip(*np.nonzero(np.triu(distance <= theta, 1)), strict=True))
    return graph


def pairs_joined(graph: nx.Graph) -> int:
    return sum(comb(len(component), 2) for component in nx.connected_components(graph))


def cuts(distance: np.ndarray) -> list[float]:
    values = np.unique(distance[np.triu_indices(len(distance), 1)])
    return [values[0] - 0.5, *values, *(values[:-1] + np.diff(values) / 2), values[-1] + 0.5]


@settings(max_examples=30, deadline=None)
@given(either_kind)
def test_weights_equal_those_of_networkx(distance: np.ndarray) -> None:
    tree = spanning_tree(distance)
    peer = nx.minimum_spanning_tree(nx.from_numpy_array(distance))
    assert tree.weight.tolist() == sorted(weight for _, _, weight in peer.edges(data="weight"))


@settings(max_examples=30, deadline=None)
@given(either_kind)
def test_edges_span_all_nodes_and_carry_their_own_distance(distance: np.ndarray) -> None:
    tree = spanning_tree(distance)
    assert (tree.left < tree.right).all()
    assert nx.is_tree(nx.Graph(zip(tree.left, tree.right, strict=True)))
    assert sorted({*tree.left, *tree.right}) == list(range(len(distance)))
    np.testing.assert_array_equal(distance[tree.left, tree.right], tree.weight)


@settings(max_examples=20, deadline=None)
@given(either_kind)
def test_labels_are_the_components_of_the_threshold_graph_at_every_theta(distance: np.ndarray) -> None:
    tree = spanning_tree(distance)
    for theta in cuts(distance):
        components = {frozenset(part) for part in nx.connected_components(threshold_graph(distance, theta))}
        labels = tree.labels(theta)
        assert {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())} == components


@settings(max_examples=20, deadline=None)
@given(either_kind)
def test_labels_are_single_linkage_at_every_theta(distance: np.ndarray) -> None:
    tree, merges = spanning_tree(distance), linkage(squareform(distance), "single")
    for theta in cuts(distance):
        peer = fcluster(merges, theta, criterion="distance")
        np.testing.assert_array_equal(together(tree.labels(theta)), together(peer))


def test_clusters_are_numbered_by_their_first_member() -> None:
    distance = np.full((5, 5), 9.0)
    for i, j in ((0, 3), (1, 4)):
        distance[i, j] = distance[j, i] = 1.0
    assert spanning_tree(distance).labels(1.0).tolist() == [0, 1, 2, 0, 1]


def test_an_edge_of_exactly_theta_stays() -> None:
    tree = spanning_tree(np.array([[0.0, 0.3], [0.3, 0.0]]))
    assert tree.labels(0.3).tolist() == [0, 0]
    assert tree.labels(np.nextafter(0.3, 0)).tolist() == [0, 1]


@settings(max_examples=20, deadline=None)
@given(either_kind)
def test_grouped_pairs_count_the_pairs_joined_after_each_merge(distance: np.ndarray) -> None:
    tree = spanning_tree(distance)
    graph = nx.empty_graph(tree.n)
    expected = [0]
    for edge in zip(tree.left, tree.right, strict=True):
        graph.add_edge(*edge)
        expected.append(pairs_joined(graph))
    assert tree.grouped_pairs().tolist() == expected


@settings(max_examples=30, deadline=None)
@given(either_kind, st.floats(0.001, 1.0))
def test_theta_for_share_is_the_lowest_of_the_closest_reachable(distance: np.ndarray, share: float) -> None:
    tree = spanning_tree(distance)
    total = comb(tree.n, 2)
    reachable = {theta: pairs_joined(threshold_graph(distance, theta)) / total for theta in tree.weight.tolist()}
    best = min(abs(value - share) for value in reachable.values())
    expected = min(theta for theta, value in reachable.items() if abs(value - share) == best)
    assert tree.theta_for_share(share) == expected


def test_tied_edges_merge_together_even_if_half_of_them_would_come_closer() -> None:
    distance = np.full((6, 6), 2.0)  # reachable: 1 pair, or all 15 at once
    distance[0, 1] = distance[1, 0] = 1.0
    assert spanning_tree(distance).theta_for_share(4 / 15) == 1.0
    assert spanning_tree(distance).theta_for_share(9 / 15) == 2.0


def test_a_share_below_the_first_merge_still_groups_one_pair() -> None:
    tree = spanning_tree(squareform(np.array([1.0, 3.0, 2.0])))
    assert tree.theta_for_share(0.001) == 1.0


@settings(max_examples=25, deadline=None)
@given(either_kind, st.randoms(use_true_random=False))
def test_permuting_rows_permutes_the_partition_only(distance: np.ndarray, random: Random) -> None:
    order = np.array(random.sample(range(len(distance)), len(distance)))
    tree, permuted = spanning_tree(distance), spanning_tree(distance[np.ix_(order, order)])
    np.testing.assert_array_equal(permuted.weight, tree.weight)
    assert permuted.theta_for_share(0.3) == tree.theta_for_share(0.3)
    for theta in tree.weight:
        np.testing.assert_array_equal(together(permuted.labels(theta)), together(tree.labels(theta)[order]))


def test_the_tree_does_not_change_its_input(rng: np.random.Generator) -> None:
    distance = squareform(rng.uniform(size=15))
    before = distance.copy()
    spanning_tree(distance)
    np.testing.assert_array_equal(distance, before)


def unit_rows(rng: np.random.Generator, n: int = 40) -> np.ndarray:
    rows = rng.normal(size=(n, 5))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_estimator_clusters_by_cosine_distance(rng: np.random.Generator) -> None:
    rows = unit_rows(rng)
    peer = fcluster(linkage(rows, "single", metric="cosine"), 0.1, criterion="distance")
    found = ThresholdMST(theta=0.1).fit(rows)
    assert 3 < len(set(found.labels_)) < 38
    np.testing.assert_array_equal(together(found.labels_), together(peer))
    assert found.theta_ == 0.1
    assert isinstance(found.tree_, SpanningTree)


def test_estimator_cuts_where_the_share_of_grouped_pairs_is_closest(rng: np.random.Generator) -> None:
    found = ThresholdMST(share_of_pairs=0.2).fit(unit_rows(rng))
    shares = found.tree_.grouped_pairs() / comb(40, 2)
    got = sum(comb(size, 2) for size in Counter(found.labels_.tolist()).values()) / comb(40, 2)
    assert abs(got - 0.2) == np.abs(shares - 0.2).min()


def test_theta_zero_is_a_threshold_and_joins_equal_rows() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert ThresholdMST(theta=0.0).fit(rows).labels_.tolist() == [0, 1, 0]
    assert ThresholdMST(theta=0.0).fit(np.eye(3)).labels_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("parameters", [{}, {"theta": 0.1, "share_of_pairs": 0.1}])
def test_estimator_needs_exactly_one_of_theta_and_share(parameters: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="exactly one of theta and share_of_pairs"):
        ThresholdMST(**parameters).fit(np.eye(3))


def test_estimator_follows_scikit_learn(rng: np.random.Generator) -> None:
    rows = unit_rows(rng)
    fitted = ThresholdMST(share_of_pairs=0.1).fit(rows)
    fresh = clone(fitted)
    assert fresh.get_params() == {"theta": None, "share_of_pairs": 0.1, "standardise": None, "rows": 4096}
    assert not hasattr(fresh, "labels_")
    np.testing.assert_array_equal(fresh.fit_predict(rows), fitted.labels_)
