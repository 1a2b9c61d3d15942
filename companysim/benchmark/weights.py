"""Every figure of the benchmark but one is a weighted mean of pair correlations; this file has the weights.

MC, the pair-weighted mean, the most similar pairs, capped or not, and the nearest peers differ in the weight a pair
gets and in nothing else, so they share one bootstrap and one test of differences. (The exception is Spearman's rho.)
Only pairs that have a correlation in the year at hand can be chosen; ties share what is left equally, so that codes,
which tie nearly everything, get the expectation over random tie breaks and the order of rows does not matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Pairs(NamedTuple):
    """Pairs of companies and their weights in a mean.

    Attributes
    ----------
    i, j : ndarray of int64, shape (pairs,)
        A pair may stand in both directions (peers do), with a weight for each.
    weight : ndarray, shape (pairs,)
        Non-negative.
    """

    i: np.ndarray
    j: np.ndarray
    weight: np.ndarray

    def mean(self, values: np.ndarray) -> float:
        """Weighted mean of the pairs' `values`, shape (n, n); NaN without any weight."""
        total = self.weight.sum()
        return float(self.weight @ values[self.i, self.j] / total) if total > 0 else float("nan")


class Ranking(NamedTuple):
    """Pairs in falling order of similarity.

    Attributes
    ----------
    i, j : ndarray of int64, shape (pairs,)
        ``i < j``.
    similarity : ndarray, shape (pairs,)
    """

    i: np.ndarray
    j: np.ndarray
    similarity: np.ndarray

    def among(self, available: np.ndarray) -> Ranking:
        """Only the pairs that are true in `available`, shape (n, n)."""
        kept = available[self.i, self.j]
        return self if kept.all() else Ranking(self.i[kept], self.j[kept], self.similarity[kept])

    def top(self, pairs: float) -> Pairs:
        """Return the `pairs` most similar pairs; those tied at the boundary share the remaining places equally."""
        count = min(pairs, len(self.i))
        if count <= 0:
            return Pairs(self.i[:0], self.j[:0], self.similarity[:0])
        boundary = self.similarity[int(np.ceil(count)) - 1]
        falling = -self.similarity
        start, stop = (int(np.searchsorted(falling, -boundary, side)) for side in ("left", "right"))
        weight = np.ones(stop)
        weight[start:] = (count - start) / (stop - start)
        return Pairs(self.i[:stop], self.j[:stop], weight)

    def top_capped(self, pairs: float, groups: np.ndarray, cap: float) -> Pairs:
        """`top`, with at most `cap` pairs inside each group; what a group may not take goes to the next pairs.

        Parameters
        ----------
        groups : ndarray of int, shape (n,)
            Group of each company, negative where it has none. Pairs across groups are not capped.
        """
        room = np.ones(len(self.i))  # how much of each pair may be taken
        inside = np.flatnonzero((groups[self.i] == groups[self.j]) & (groups[self.i] >= 0))
        group = groups[self.i[inside]]
        order = inside[np.argsort(group, kind="stable")]  # by group, most similar first
        starts, run = runs(groups[self.i[order]], self.similarity[order])
        first_of_group = np.searchsorted(groups[self.i[order]], groups[self.i[order]], side="left")
        room[order] = np.clip((cap - (starts - first_of_group)) / run, 0.0, 1.0)
        starts, run = runs(self.similarity)
        taken = np.concatenate([[0.0], np.cumsum(room)])
        before, here = taken[starts], taken[starts + run] - taken[starts]
        share = np.clip(np.divide(pairs - before, here, out=np.zeros_like(here), where=here > 0), 0.0, 1.0)
        weight = room * share
        kept = weight > 0
        return Pairs(self.i[kept], self.j[kept], weight[kept])


def ranking(similarity: np.ndarray) -> Ranking:
    """Rank all pairs of a symmetric matrix; a pair whose similarity is NaN is left out."""
    i, j = np.triu_indices(len(similarity), 1)
    values = similarity[i, j]
    known = ~np.isnan(values)
    i, j, values = i[known], j[known], values[known]
    order = np.argsort(-values, kind="stable")
    return Ranking(i[order], j[order], values[order])


def grouped_pairs(labels: np.ndarray, available: np.ndarray) -> Pairs:
    """Pairs inside clusters, all of weight 1.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Cluster of each company, negative where it has none.
    available : ndarray of bool, shape (n, n)
        Pairs that have a correlation.
    """
    i, j = np.nonzero(np.triu(np.equal.outer(labels, labels) & (labels >= 0)[:, None] & available, 1))
    return Pairs(i, j, np.ones(len(i)))


def cluster_means(labels: np.ndarray, pairs: Pairs) -> Pairs:
    """Weights of MC: each cluster with a scored pair counts alike, and so does each of its pairs."""
    cluster = np.unique(labels[pairs.i], return_inverse=True)[1]
    return Pairs(pairs.i, pairs.j, 1.0 / np.bincount(cluster)[cluster]) if len(pairs.i) else pairs


def nearest(similarity: np.ndarray, available: np.ndarray, ks: tuple[int, ...]) -> dict[int, Pairs]:
    """Each company's k nearest among `available`, for several k; each company counts alike.

    A company with fewer than k has all of them; one without any does not count. Ties at the k-th place share it.
    """
    n = len(similarity)
    off = np.where(available & ~np.isnan(similarity), similarity, -np.inf)
    np.fill_diagonal(off, -np.inf)
    places = sorted({max(n - k, 0) for k in ks})
    ranked = np.partition(off, places, axis=1) if n else off
    found = {}
    for k in ks:
        if n < 2:
            found[k] = Pairs(*(np.empty(0, dtype) for dtype in (np.int64, np.int64, float)))
            continue
        boundary = ranked[:, max(n - k, 0)][:, None]
        above, tied = off > boundary, (off == boundary) & np.isfinite(off)
        left = k - above.sum(axis=1)
        i, j = np.nonzero(above | tied)
        share = np.divide(left, tied.sum(axis=1), out=np.zeros(n), where=tied.any(axis=1))
        weight = np.where(above[i, j], 1.0, np.minimum(share[i], 1.0))
        total = np.bincount(i, weight, minlength=n)
        found[k] = Pairs(i, j, weight / total[i])
    return found


def runs(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the run of equal keys each entry belongs to starts, and how long it is, shape (entries,) each."""
    n = len(keys[0])
    if not n:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    new = np.ones(n, dtype=bool)
    new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    begins = np.flatnonzero(new)
    length = np.diff(np.append(begins, n))
    run = np.cumsum(new) - 1
    return begins[run], length[run]
