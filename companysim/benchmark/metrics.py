"""What a grouping or a similarity says about return correlations. One definition per metric.

Throughout, ``correlations`` is a dict year -> (n, n) array with NaN for pairs without a value, and a metric is the
mean of its yearly values. A year's companies are those with a correlation in it, so that a company which was not yet
listed counts neither as ungrouped nor as a pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from companysim.benchmark.weights import Ranking, cluster_means, grouped_pairs, nearest, ranking, runs

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
    clusters : float
        Clusters of two or more.
    largest : float
        Members of the largest cluster.
    """

    mean_correlation: float
    pair_weighted: float
    coverage: float
    share_of_pairs: float
    clusters: float
    largest: float


def score_partition(labels: np.ndarray, correlations: Correlations) -> PartitionScore:
    """Score a partition: the mean of `score_year` over years, each figure over the years that have it.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Cluster of each company; negative for companies without one.
    """
    return mean_score([score_year(labels, values) for values in correlations.values()])


def score_year(labels: np.ndarray, values: np.ndarray) -> PartitionScore:
    """Score a partition in one year, `values` of shape (n, n), among the companies with a correlation."""
    available = finite_pairs(values)
    present = available.any(axis=1)
    sizes = np.unique(labels[(labels >= 0) & present], return_counts=True)[1]
    sizes, n = sizes[sizes > 1], int(present.sum())
    pairs = grouped_pairs(labels, available)
    return PartitionScore(
        mean_correlation=cluster_means(labels, pairs).mean(values),
        pair_weighted=pairs.mean(values),
        coverage=float(sizes.sum() / n) if n else float("nan"),
        share_of_pairs=float((sizes * (sizes - 1)).sum() / (n * (n - 1))) if n else float("nan"),
        clusters=len(sizes),
        largest=int(sizes.max(initial=0)),
    )


def mean_score(scores: list[PartitionScore]) -> PartitionScore:
    """Mean of each figure over the years that have it; 0 clusters and NaN for the rest if there is no year."""
    return PartitionScore(
        mean_correlation=mean([score.mean_correlation for score in scores]),
        pair_weighted=mean([score.pair_weighted for score in scores]),
        coverage=mean([score.coverage for score in scores]),
        share_of_pairs=mean([score.share_of_pairs for score in scores]),
        clusters=mean([score.clusters for score in scores]) if scores else 0,
        largest=mean([score.largest for score in scores]) if scores else 0,
    )


def finite_pairs(values: np.ndarray) -> np.ndarray:
    """Whether two different companies have a correlation, shape (n, n)."""
    available: np.ndarray = np.isfinite(values)
    np.fill_diagonal(available, False)
    return available


def top_pairs_weights(similarity: np.ndarray, pairs: int) -> np.ndarray:
    """Weights in [0, 1] that pick the `pairs` most similar pairs, shape (n, n), upper triangle.

    Pairs tied at the boundary share the remaining places equally, so a coarse similarity (a code hierarchy) gets the
    expectation over random tie breaks and the result does not depend on the order of the rows.
    """
    chosen = ranking(similarity).top(pairs)
    weights = np.zeros_like(similarity, dtype=float)
    weights[chosen.i, chosen.j] = chosen.weight
    return weights


def weighted_correlation(weights: np.ndarray, correlations: Correlations) -> float:
    """Mean over years of the weighted mean correlation of pairs, weights as from `top_pairs_weights`."""
    yearly = []
    for values in correlations.values():
        use = np.where(np.isfinite(values), weights, 0.0)
        if use.sum() > 0:
            yearly.append(float((use * np.nan_to_num(values)).sum() / use.sum()))
    return mean(yearly)


def peers_correlation(similarity: np.ndarray, k: int, correlations: Correlations) -> float:
    """Mean correlation of each company with its `k` nearest of the year's companies, over companies, then years.

    Ties at the k-th place share it equally.
    """
    yearly = [nearest(similarity, finite_pairs(values), (k,))[k].mean(values) for values in correlations.values()]
    return mean(yearly)


def rank_correlation(similarity: np.ndarray, values: np.ndarray) -> float:
    """Spearman's rho between the similarity and the return correlation of all pairs of one year that have both.

    Tied similarities have their mean rank. NaN with fewer than three pairs, or where one of the two is constant.
    """
    ranked = ranking(similarity).among(finite_pairs(values))
    x, y = similarity_ranks(ranked), value_ranks(ranked, values)
    return float(x @ y / len(x)) if len(x) and len(y) else float("nan")


def similarity_ranks(ranked: Ranking) -> np.ndarray:
    """Ranks of the similarities, mean 0 and sd 1, in the order of `ranked`; empty where rho is NaN."""
    starts, run = runs(ranked.similarity)
    return _standard(-(starts + (run - 1) / 2))


def value_ranks(ranked: Ranking, values: np.ndarray) -> np.ndarray:
    """Ranks of the correlations of the same pairs, in the same order, likewise."""
    return _standard(rankdata(values[ranked.i, ranked.j]))


def _standard(ranks: np.ndarray) -> np.ndarray:
    centred = ranks - ranks.mean() if len(ranks) > 2 else ranks[:0]
    spread = np.sqrt(np.mean(centred**2)) if len(centred) else 0.0
    standard: np.ndarray = centred / spread if spread > 0 else centred[:0]
    return standard


def mean(values: list[float]) -> float:
    """Mean of the finite values, NaN if there is none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
