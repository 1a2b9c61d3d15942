"""Minimum spanning trees: the published grouping, exact for every threshold.

Removing the edges heavier than theta from a minimum spanning tree leaves the components of the graph that joins
all pairs at most theta apart, which is single linkage cut at theta. The partition is the same for every minimum
spanning tree, so ties cannot change it. Ties are nevertheless broken by one rule everywhere, the order of
``(weight, smaller node, larger node)``, under which the tree itself is unique.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from companysim.errors import DataError


class Merges(NamedTuple):
    """The tree as a sequence of merges, lightest edge first; component ``n + k`` is what merge k makes.

    Attributes
    ----------
    children : ndarray of int64, shape (n - 1, 2)
        The two components each merge joins; components 0 to n - 1 are single nodes.
    size : ndarray of int64, shape (2 n - 1,)
        Nodes of each component.
    order : ndarray of int64, shape (n,)
        The nodes arranged so that every component is a run: component c is ``order[start[c] : start[c] + size[c]]``,
        its first child before its second.
    start : ndarray of int64, shape (2 n - 1,)
    """

    children: np.ndarray
    size: np.ndarray
    order: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class SpanningTree:
    """Edges of a minimum spanning tree in the order of ``(weight, left, right)``.

    Attributes
    ----------
    left, right : ndarray of int64, shape (n - 1,)
        Endpoints, ``left < right``.
    weight : ndarray, shape (n - 1,)
        Distances in rising order.
    n : int
        Number of nodes.
    """

    left: np.ndarray
    right: np.ndarray
    weight: np.ndarray
    n: int

    def labels(self, theta: float) -> np.ndarray:
        """Cluster of each node when edges heavier than `theta` are removed, shape (n,); numbered by first member."""
        kept = int(np.searchsorted(self.weight, theta, side="right"))
        graph = sp.coo_array((np.ones(kept), (self.left[:kept], self.right[:kept])), shape=(self.n, self.n))
        return by_first_member(connected_components(graph, directed=False)[1])

    def merges(self) -> Merges:
        """Return the tree as the sequence of its merges."""
        n = self.n
        parent, component = list(range(n)), list(range(n))
        size = [1] * (2 * n - 1)
        children = []
        for step, (i, j) in enumerate(zip(self.left.tolist(), self.right.tolist(), strict=True), start=n):
            a, b = _root(parent, i), _root(parent, j)
            first, second = component[a], component[b]
            children.append((first, second))
            size[step] = size[first] + size[second]
            if size[first] < size[second]:  # union by size: short ways to the root
                a, b = b, a
            parent[b], component[a] = a, step
        start = [0] * (2 * n - 1)
        for step in range(n - 2, -1, -1):
            first, second = children[step]
            start[first] = start[n + step]
            start[second] = start[n + step] + size[first]
        order = np.argsort(np.array(start[:n], dtype=np.int64), kind="stable")
        return Merges(np.array(children, dtype=np.int64).reshape(-1, 2), np.array(size), order, np.array(start))

    def grouped_pairs(self) -> np.ndarray:
        """Pairs that share a cluster after 0, 1, ..., n - 1 merges, shape (n,)."""
        merges = self.merges()
        return np.concatenate([[0], np.cumsum(merges.size[merges.children].prod(axis=1))])

    def last_of_ties(self) -> np.ndarray:
        """Whether an edge is the last of its weight, shape (n - 1,): only there can a threshold stop."""
        return np.append(self.weight, np.inf)[1:] > self.weight

    def theta_for_share(self, share: float) -> float:
        """Return the threshold whose share of grouped pairs is closest to `share` (the smaller one on a tie).

        Edges of equal weight merge together, since no threshold can separate them. At least one pair is grouped.

        Raises
        ------
        DataError
            If the tree has a single node, hence no pair to group.
        """
        if self.n < 2:
            raise DataError("one company has no pair to group: give two or more")
        stops = self.last_of_ties()
        reachable = self.grouped_pairs()[1:][stops] / (self.n * (self.n - 1) / 2)
        return float(self.weight[stops][np.argmin(np.abs(reachable - share))])


def by_first_member(labels: np.ndarray) -> np.ndarray:
    """Renumber clusters 0, 1, ... in the order of their first members; negative labels become -1."""
    known = labels >= 0
    _, first, inverse = np.unique(labels[known], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    result = np.full(len(labels), -1, dtype=np.int64)
    result[known] = rank[inverse]
    return result


def spanning_tree(distance: np.ndarray) -> SpanningTree:
    """Minimum spanning tree of a complete graph by Prim's algorithm, O(n^2) time and O(n) memory beyond the input.

    Parameters
    ----------
    distance : ndarray, shape (n, n)
        Symmetric; the diagonal is not read. Infinity is no edge.

    Returns
    -------
    SpanningTree
        The unique one under the order ``(weight, smaller node, larger node)`` of the edges: what Kruskal's algorithm
        finds if it takes ties in the order of their nodes.

    Raises
    ------
    DataError
        If there is no node, the matrix is not square, a distance is NaN, or infinite distances cut the graph apart.
    """
    n = len(distance)
    if n == 0 or distance.shape != (n, n):
        raise DataError(f"distances must be a square matrix of one or more companies, not of shape {distance.shape}")
    if np.isnan(distance.sum()) and np.isnan(distance[~np.eye(n, dtype=bool)]).any():
        raise DataError("a distance is NaN: leave companies without a finite vector out")
    tree = prim(distance)
    if not np.isfinite(tree.weight).all():
        raise DataError("infinite distances cut the companies apart: give each pair a finite distance")
    return tree


def prim(distance: np.ndarray) -> SpanningTree:
    """`spanning_tree` of distances known to be in order."""
    n = len(distance)
    key = np.full(n, np.inf)  # distance of each outside node to the tree; infinite inside
    nearest = np.full(n, n, dtype=np.int64)  # the tree's node it is measured to, the smallest of tied ones
    outside = np.ones(n, dtype=bool)
    closer, tied = np.empty(n, dtype=bool), np.empty(n, dtype=bool)
    ends, weight = np.zeros((n - 1, 2), dtype=np.int64), np.zeros(n - 1)
    node = 0
    for step in range(n - 1):
        outside[node], key[node] = False, np.inf
        row = distance[node]
        np.less(row, key, out=closer)
        np.equal(row, key, out=tied)
        tied &= nearest > node
        closer |= tied
        closer &= outside
        np.copyto(key, row, where=closer)
        np.copyto(nearest, node, where=closer)
        follower = int(key.argmin())
        weight[step] = lightest = key[follower]
        np.equal(key, lightest, out=tied)
        if np.count_nonzero(tied) > 1:
            rivals = np.flatnonzero(tied & outside)
            pairs = np.sort(np.column_stack([rivals, nearest[rivals]]), axis=1)
            follower = int(rivals[np.lexsort((pairs[:, 1], pairs[:, 0]))[0]])
        ends[step] = nearest[follower], follower
        node = follower
    ends.sort(axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0], weight))
    return SpanningTree(ends[order, 0], ends[order, 1], weight[order], n)


def _root(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node
