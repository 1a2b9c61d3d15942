"""Spanning tree clusters against networkx, scipy's single linkage and brute force."""

from __future__ import annotations

from math import comb
from random import Random

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from companysim.clustering import spanning_tree
from companysim.errors import DataError


@st.composite
def distances(draw: st.DrawFn, tied: bool) -> np.ndarray:
    n = draw(st.integers(2, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = n * (n - 1) // 2
    upper = rng.integers(1, 5, size).astype(float) if tied else rng.uniform(0, 2, size)
    return squareform(upper)


either_kind = st.booleans().flatmap(distances)


def edges_of_networkx(distance: np.ndarray) -> list[tuple[int, int, float]]:
    """Kruskal's tree; networkx sorts stably, so ties fall in the order of the nodes."""
    tree = nx.minimum_spanning_tree(nx.from_numpy_array(distance), algorithm="kruskal")
    return sorted(((min(i, j), max(i, j), w) for i, j, w in tree.edges(data="weight")), key=lambda e: (e[2], e[:2]))


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


@settings(max_examples=60, deadline=None)
@given(either_kind)
def test_edges_are_those_kruskal_finds_even_among_ties(distance: np.ndarray) -> None:
    tree = spanning_tree(distance)
    found = zip(tree.left.tolist(), tree.right.tolist(), tree.weight.tolist(), strict=True)
    assert list(found) == edges_of_networkx(distance)


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


@settings(max_examples=30, deadline=None)
@given(either_kind)
def test_merges_are_components_in_runs(distance: np.ndarray) -> None:
    tree = spanning_tree(distance)
    merges, graph = tree.merges(), nx.empty_graph(tree.n)
    assert sorted(merges.order.tolist()) == list(range(tree.n))
    for step, (edge, pair) in enumerate(zip(zip(tree.left, tree.right, strict=True), merges.children, strict=True)):
        parts = [nx.node_connected_component(graph, int(end)) for end in edge]
        runs = [set(merges.order[merges.start[c] : merges.start[c] + merges.size[c]].tolist()) for c in pair]
        assert runs == parts
        graph.add_edge(*edge)
        whole = tree.n + step
        span = slice(merges.start[whole], merges.start[whole] + merges.size[whole])
        halves = [merges.order[merges.start[c] :][: merges.size[c]] for c in pair]
        assert merges.order[span].tolist() == np.concatenate(halves).tolist()


def test_one_company_is_a_tree_without_edges() -> None:
    tree = spanning_tree(np.zeros((1, 1)))
    assert tree.labels(1.0).tolist() == [0]
    assert tree.grouped_pairs().tolist() == [0]
    with pytest.raises(DataError, match="no pair to group"):
        tree.theta_for_share(0.1)


@pytest.mark.parametrize(
    ("distance", "message"),
    [
        (np.zeros((0, 0)), "one or more companies"),
        (np.zeros((2, 3)), "square"),
        (np.array([[0, np.nan], [np.nan, 0]]), "NaN"),
        (np.array([[0, np.inf], [np.inf, 0]]), "infinite distances cut the companies apart"),
    ],
)
def test_impossible_distances_are_refused(distance: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        spanning_tree(distance)


def test_the_diagonal_is_not_read() -> None:
    distance = np.array([[np.nan, 1.0, 2.0], [1.0, np.nan, 3.0], [2.0, 3.0, np.nan]])
    assert spanning_tree(distance).weight.tolist() == [1.0, 2.0]


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
