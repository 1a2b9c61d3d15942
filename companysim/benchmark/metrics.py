"""What a grouping or a similarity says about return correlations. One definition per metric.

Throughout, ``correlations`` is a dict year -> (n, n) array with NaN for pairs without a value, and a metric is the
mean of its yearly values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Correlations = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class PartitionScore:
    """How well the groups of a partition move together.

    Attributes
    ----------
    mean_correlation : float
        MC: mean over clusters of the mean correlation of their pairs (the published figure; it rewards tiny clusters).
    pair_weighted : float
        Mean correlation of all grouped pairs.
    coverage : float
        Share of companies in a cluster of two or more.
    share_of_pairs : float
        Share of all pairs that are grouped.
    clusters : int
        Clusters of two or more.
    largest : int
        Members of the largest cluster.
    """

    mean_correlation: float
    pair_weighted: float
    coverage: float
    share_of_pairs: float
    clusters: int
    largest: int


def score_partition(labels: np.ndarray, correlations: Correlations) -> PartitionScore:
    """Score a partition.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Cluster of each company; negative for companies without one.
    """
    n = len(labels)
    sizes = np.unique(labels[labels >= 0], return_counts=True)[1]
    sizes = sizes[sizes > 1]
    mc, weighted = [], []
    for values in correlations.values():
        sums, counts = cluster_sums(labels, values)
        if counts.sum():
            mc.append(float((sums[counts > 0] / counts[counts > 0]).mean()))
            weighted.append(float(sums.sum() / counts.sum()))
    return PartitionScore(
        mean_correlation=_mean(mc),
        pair_weighted=_mean(weighted),
        coverage=float(sizes.sum() / n),
        share_of_pairs=float((sizes * (sizes - 1)).sum() / (n * (n - 1))),
        clusters=len(sizes),
        largest=int(sizes.max(initial=0)),
    )


def cluster_sums(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the finite values over the pairs inside each cluster, shape (clusters,) each."""
    known = labels >= 0
    codes = np.unique(labels[known], return_inverse=True)[1]
    inside = np.equal.outer(codes, codes)
    i, j = np.nonzero(np.triu(inside, 1))
    pair = values[np.ix_(known, known)][i, j]
    finite = np.isfinite(pair)
    k = int(codes.max(initial=-1)) + 1
    sums = np.bincount(codes[i][finite], pair[finite], minlength=k)
    return sums, np.bincount(codes[i][finite], minlength=k)


def top_pairs_weights(similarity: np.ndarray, pairs: int) -> np.ndarray:
    """Weights in [0, 1] that pick the `pairs` most similar pairs, shape (n, n), upper triangle.

    Pairs tied at the boundary share the remaining places equally, so a coarse similarity (a code hierarchy) gets the
    expectation over random tie breaks and the result does not depend on the order of the rows.
    """
    i, j = np.triu_indices(len(similarity), 1)
    values = similarity[i, j]
    weights = np.zeros_like(similarity, dtype=float)
    pairs = min(pairs, len(values))
    if pairs <= 0:
        return weights
    boundary = np.partition(values, len(values) - pairs)[len(values) - pairs]
    above, tied = values > boundary, values == boundary
    weights[i, j] = above + tied * (pairs - above.sum()) / tied.sum()
    return weights


def weighted_correlation(weights: np.ndarray, correlations: Correlations) -> float:
    """Mean over years of the weighted mean correlation of pairs, weights as from `top_pairs_weights`."""
    yearly = []
    for values in correlations.values():
        use = np.where(np.isfinite(values), weights, 0.0)
        if use.sum() > 0:
            yearly.append(float((use * np.nan_to_num(values)).sum() / use.sum()))
    return _mean(yearly)


def peers_correlation(similarity: np.ndarray, k: int, correlations: Correlations) -> float:
    """Mean correlation of each company with its `k` nearest, averaged over companies, then years.

    Ties at the k-th place share it equally.
    """
    n = len(similarity)
    off = np.array(similarity, dtype=float)
    np.fill_diagonal(off, -np.inf)
    k = min(k, n - 1)
    boundary = np.partition(off, n - k, axis=1)[:, n - k][:, None]
    above, tied = off > boundary, off == boundary
    weights = above + tied * (k - above.sum(axis=1, keepdims=True)) / tied.sum(axis=1, keepdims=True)
    yearly = []
    for values in correlations.values():
        use = np.where(np.isfinite(values), weights, 0.0)
        total = use.sum(axis=1)
        ok = total > 0
        if ok.any():
            yearly.append(float(((use * np.nan_to_num(values)).sum(axis=1)[ok] / total[ok]).mean()))
    return _mean(yearly)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
