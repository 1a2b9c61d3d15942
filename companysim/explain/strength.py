"""Strong and weak latents: how few latents it takes to make the companies of a cluster alike.

The importance of a latent in a cluster is the mean absolute change of its pairs' similarities when the latent is
removed. Strong are the latents above a quantile of importance, at the highest quantile at which removing all strong
ones together changes the similarities more than removing all others together does (METHOD.md, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from companysim.errors import ConfigError, DataError
from companysim.explain.ablation import removed
from companysim.explain.attribution import attribute
from companysim.similarity import Similarity
from companysim.similarity.base import Matrix, dense

QUANTILES = (0.99, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""The published ladder, tried from the top."""
FALLBACK = 0.9
"""The published quantile where no step of the ladder will do."""
MAX_PAIRS = 200


@dataclass(frozen=True)
class StrongLatents:
    """The split of latents for one set of pairs.

    Attributes
    ----------
    latents : ndarray of int64, shape (latents,)
        The candidates.
    importance : ndarray, shape (latents,)
        Mean absolute change of the similarities when the latent is removed.
    strong : ndarray of bool, shape (latents,)
        Those with an importance above the quantile.
    quantile : float
    strong_change, weak_change : float
        Mean absolute change of the similarities when all strong, or all weak, candidates are removed together.
    """

    latents: np.ndarray
    importance: np.ndarray
    strong: np.ndarray
    quantile: float
    strong_change: float
    weak_change: float

    @property
    def share(self) -> float:
        """Share of the candidates that are strong."""
        return float(self.strong.mean())

    def to_frame(self) -> pd.DataFrame:
        """One row a candidate: latent, importance, strong; the most important first, ties by number."""
        table = pd.DataFrame({"latent": self.latents, "importance": self.importance, "strong": self.strong})
        return table.sort_values(["importance", "latent"], ascending=[False, True], ignore_index=True)

    def summary(self) -> str:
        """One line."""
        return (
            f"{self.strong.sum()} of {len(self.strong)} latents are strong (quantile {self.quantile:.2f}): removing "
            f"them changes the similarities by {self.strong_change:.3f}, removing all others by {self.weak_change:.3f}"
        )


@dataclass(frozen=True)
class ClusterLatents:
    """Strong latents of every cluster.

    Attributes
    ----------
    table : DataFrame
        One row a cluster: cluster, size, pairs (looked at), quantile, strong (how many), share (of the candidates),
        strong_change, weak_change.
    latents : ndarray of int64, shape (latents,)
        The candidates.
    importance : ndarray, shape (clusters, latents)
    strong : ndarray of bool, shape (clusters, latents)
    """

    table: pd.DataFrame
    latents: np.ndarray
    importance: np.ndarray
    strong: np.ndarray

    def spread(self) -> np.ndarray:
        """Share of the clusters in which each candidate is strong, shape (latents,)."""
        share: np.ndarray = self.strong.mean(axis=0)
        return share

    def to_frame(self) -> pd.DataFrame:
        """Return the `table`."""
        return self.table

    def summary(self) -> str:
        """One line: the distribution of the share of strong latents over clusters."""
        low, middle, high = np.quantile(self.table["share"], [0.05, 0.5, 0.95])
        return (
            f"{len(self.table)} clusters: share of strong latents {middle:.2%} in the median "
            f"(5 % to 95 % of clusters: {low:.2%} to {high:.2%}); {(self.spread() > 0).mean():.1%} of the "
            f"{len(self.latents)} latents are strong in some cluster"
        )


def strong_latents(
    estimator: Similarity,
    X: Matrix,
    pairs: Any,
    latents: Any = None,
    quantiles: Sequence[float] = QUANTILES,
    budget_mb: float = 256,
) -> StrongLatents:
    """Split the latents into strong and weak ones for a set of pairs.

    Parameters
    ----------
    estimator, X, pairs, latents, budget_mb
        As in `companysim.explain.attribution.attribute`; `latents` are the candidates, all by default.
    quantiles : sequence of float
        Tried in falling order. If none will do, strong is what lies above the 0.9 quantile, as published.

    Raises
    ------
    ConfigError
        If there is no quantile or one is not between 0 and 1.
    """
    ladder = sorted(quantiles, reverse=True)
    if not ladder or not all(0 < q < 1 for q in ladder):
        raise ConfigError(f"quantiles are {tuple(quantiles)}: give at least one between 0 and 1")
    found = attribute(estimator, X, pairs, latents, budget_mb)
    importance = found.importance()
    rows, ends = np.unique(found.pairs, return_inverse=True)
    first, second = ends.reshape(found.pairs.shape).T
    own = X[rows]

    def change(chosen: np.ndarray) -> float:
        vectors = dense(estimator.transform(removed(own, found.latents[chosen])))
        without = np.einsum("ij,ij->i", vectors[first], vectors[second])
        return float(np.abs(found.similarity - without).mean())

    def split(quantile: float) -> StrongLatents:
        strong = importance > np.quantile(importance, quantile)
        return StrongLatents(found.latents, importance, strong, quantile, change(strong), change(~strong))

    for quantile in ladder:
        tried = split(quantile)
        if tried.strong_change > tried.weak_change:
            return tried
    return split(FALLBACK)


def cluster_latents(
    estimator: Similarity,
    X: Matrix,
    labels: Any,
    names: Sequence[str],
    latents: Any = None,
    *,
    max_pairs: int = MAX_PAIRS,
    quantiles: Sequence[float] = QUANTILES,
    seed: int = 0,
    budget_mb: float = 256,
) -> ClusterLatents:
    """Strong latents of each cluster of two or more.

    Parameters
    ----------
    estimator, X, latents, quantiles, budget_mb
        As in `strong_latents`.
    labels : array of int, shape (documents,)
        Cluster of each row of `X`; negative for a row in none.
    names : sequence of str, shape (documents,)
        Different names of the rows. Of a cluster with more than `max_pairs` pairs that many are drawn, by name, so that
        the draw depends on the members and the seed, not on the order of rows or the numbers of clusters.

    Raises
    ------
    DataError
        If labels or names do not fit the rows, or no cluster has two members.
    """
    groups, called = np.asarray(labels), np.asarray(names, dtype=str)
    if groups.shape != (X.shape[0],) or called.shape != groups.shape or len(set(called)) != len(called):
        raise DataError(f"{X.shape[0]} rows need as many labels and as many different names")
    clusters = [cluster for cluster in np.unique(groups) if cluster >= 0 and (groups == cluster).sum() > 1]
    if not clusters:
        raise DataError("no cluster has two members: there is nothing to explain")
    rows, importance, strong = [], [], []
    for cluster in clusters:
        members = np.flatnonzero(groups == cluster)
        members = members[np.argsort(called[members])]
        pairs = members[np.stack(np.triu_indices(len(members), 1), axis=1)]
        if len(pairs) > max_pairs:
            pairs = pairs[np.sort(np.random.default_rng(seed).choice(len(pairs), max_pairs, replace=False))]
        found = strong_latents(estimator, X, pairs, latents, quantiles, budget_mb)
        importance.append(found.importance)
        strong.append(found.strong)
        rows.append(
            {"cluster": int(cluster), "size": len(members), "pairs": len(pairs), "quantile": found.quantile}
            | {"strong": int(found.strong.sum()), "share": found.share}
            | {"strong_change": found.strong_change, "weak_change": found.weak_change}
        )
    return ClusterLatents(pd.DataFrame(rows), found.latents, np.stack(importance), np.stack(strong))
