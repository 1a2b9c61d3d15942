"""Minimum spanning tree clusters: the published grouping, exact for every threshold.

Removing the edges heavier than theta from a minimum spanning tree leaves the components of the graph that joins
all pairs at most theta apart, which is single linkage cut at theta. The partition is the same for every minimum
spanning tree, so ties cannot change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin

from companysim.errors import ConfigError


@dataclass(frozen=True)
class SpanningTree:
    """Edges of a minimum spanning tree in order of weight.

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
        """Cluster of each node when edges heavier than `theta` are removed; numbered by first member."""
        return self._labels(int(np.searchsorted(self.weight, theta, side="right")))

    def grouped_pairs(self) -> np.ndarray:
        """Pairs that share a cluster after 0, 1, ..., n - 1 merges, shape (n,)."""
        parent = np.arange(self.n)
        size = np.ones(self.n, dtype=np.int64)
        pairs = np.zeros(self.n, dtype=np.int64)
        for step, (i, j) in enumerate(zip(self.left, self.right, strict=True)):
            a, b = _root(parent, i), _root(parent, j)
            pairs[step + 1] = pairs[step] + size[a] * size[b]
            parent[b] = a
            size[a] += size[b]
        return pairs

    def theta_for_share(self, share: float) -> float:
        """Return the threshold whose share of grouped pairs is closest to `share` (the smaller one on a tie).

        Edges of equal weight merge together, since no threshold can separate them. At least one pair is grouped.
        """
        total = self.n * (self.n - 1) / 2
        last_of_ties = np.append(self.weight[1:] > self.weight[:-1], True)
        reachable = self.grouped_pairs()[1:][last_of_ties] / total
        thetas = self.weight[last_of_ties]
        return float(thetas[np.argmin(np.abs(reachable - share))])

    def _labels(self, merges: int) -> np.ndarray:
        parent = np.arange(self.n)
        for i, j in zip(self.left[:merges], self.right[:merges], strict=True):
            a, b = _root(parent, i), _root(parent, j)
            parent[max(a, b)] = min(a, b)
        roots = np.array([_root(parent, i) for i in range(self.n)])
        return np.unique(roots, return_inverse=True)[1]


def spanning_tree(distance: np.ndarray) -> SpanningTree:
    """Minimum spanning tree of a complete graph by Prim's algorithm, O(n^2) time and O(n) memory beyond the input.

    Parameters
    ----------
    distance : ndarray, shape (n, n)
        Symmetric and finite.
    """
    n = len(distance)
    best = np.full(n, np.inf)
    nearest = np.zeros(n, dtype=np.int64)
    outside = np.ones(n, dtype=bool)
    edges = np.zeros((n - 1, 2), dtype=np.int64)
    weight = np.zeros(n - 1)
    node = 0
    for step in range(n - 1):
        outside[node] = False
        closer = outside & (distance[node] < best)
        best[closer] = distance[node][closer]
        nearest[closer] = node
        node = int(np.where(outside, best, np.inf).argmin())
        edges[step] = sorted((node, nearest[node]))
        weight[step] = best[node]
    order = np.lexsort((edges[:, 1], edges[:, 0], weight))
    return SpanningTree(edges[order, 0], edges[order, 1], weight[order], n)


class ThresholdMST(ClusterMixin, BaseEstimator):
    """Clusters of a minimum spanning tree cut at a threshold.

    Parameters
    ----------
    theta : float, optional
        Edges heavier than this are removed. Exactly one of `theta` and `share_of_pairs` is given.
    share_of_pairs : float, optional
        Choose the threshold whose share of grouped pairs is closest to this.

    Attributes
    ----------
    labels_ : ndarray of int64, shape (n,)
    theta_ : float
    tree_ : SpanningTree
    """

    def __init__(self, theta: float | None = None, share_of_pairs: float | None = None) -> None:
        self.theta = theta
        self.share_of_pairs = share_of_pairs

    def fit(self, X: np.ndarray, y: None = None) -> Self:
        """Cluster the rows of `X`, unit vectors of shape (n, features), by cosine distance ``1 - x . y``."""
        if (self.theta is None) == (self.share_of_pairs is None):
            raise ConfigError("ThresholdMST needs exactly one of theta and share_of_pairs")
        similarity = X @ X.T
        self.tree_ = spanning_tree(1.0 - (similarity + similarity.T) / 2)
        self.theta_ = self.theta if self.theta is not None else self.tree_.theta_for_share(self.share_of_pairs or 0.0)
        self.labels_ = self.tree_.labels(self.theta_)
        return self


def _root(parent: np.ndarray, node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return int(node)
