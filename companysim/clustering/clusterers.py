"""scikit-learn's clusterers behind the interface of `ThresholdMST`: cosine, seeded, blind to the order of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans, SpectralClustering

from companysim.clustering.cosine import cosine_distance, unit_rows
from companysim.clustering.tree import by_first_member
from companysim.errors import ConfigError, DataError

Fit = Callable[..., np.ndarray]


def _agglomerative(unit: np.ndarray, n_clusters: int, seed: int, **options: Any) -> np.ndarray:
    peer = AgglomerativeClustering(n_clusters, metric="precomputed", **({"linkage": "average"} | options))
    labels: np.ndarray = peer.fit_predict(cosine_distance(unit))
    return labels


def _hdbscan(unit: np.ndarray, n_clusters: int, seed: int, **options: Any) -> np.ndarray:
    peer = HDBSCAN(metric="precomputed", copy=False, **({"min_cluster_size": 2} | options))
    labels: np.ndarray = peer.fit_predict(cosine_distance(unit))
    return labels


def _kmeans(unit: np.ndarray, n_clusters: int, seed: int, **options: Any) -> np.ndarray:
    peer = KMeans(n_clusters, random_state=seed, **({"n_init": 10} | options))
    labels: np.ndarray = peer.fit_predict(unit)  # of unit vectors |x - y|^2 = 2 - 2 cos, so that near is alike
    return labels


def _spectral(unit: np.ndarray, n_clusters: int, seed: int, **options: Any) -> np.ndarray:
    affinity = np.maximum(1.0 - cosine_distance(unit), 0.0)  # opposite companies are as unrelated as orthogonal ones
    peer = SpectralClustering(n_clusters, affinity="precomputed", random_state=seed, **options)
    labels: np.ndarray = peer.fit_predict(affinity)
    return labels


METHODS: Mapping[str, Fit] = {
    "agglomerative": _agglomerative,
    "hdbscan": _hdbscan,
    "kmeans": _kmeans,
    "spectral": _spectral,
}


class CosineClusters(ClusterMixin, BaseEstimator):
    """Clusters of rows by one of scikit-learn's algorithms, by cosine.

    Parameters
    ----------
    method : {"agglomerative", "hdbscan", "kmeans", "spectral"}
        Agglomerative clustering is of average linkage and HDBSCAN of two members or more unless `options` say so.
    n_clusters : int
        Number of clusters; HDBSCAN finds its own and does not read it.
    seed : int
        Of k-means and spectral clustering.
    options : mapping, optional
        Further parameters of scikit-learn's class, such as ``{"linkage": "complete"}``.

    Attributes
    ----------
    labels_ : ndarray of int64, shape (n,)
        Numbered by first member; -1 where HDBSCAN sees noise.

    Notes
    -----
    Rows are clustered in lexicographic order, so that seeds and ties fall alike however they came in.
    All but k-means hold the n x n distances.
    """

    def __init__(
        self,
        method: str = "agglomerative",
        n_clusters: int = 8,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.n_clusters = n_clusters
        self.seed = seed
        self.options = options

    def fit(self, X: np.ndarray, y: None = None) -> Self:
        """Cluster the rows of `X`, vectors of shape (n, features).

        Raises
        ------
        ConfigError
            If the method is unknown.
        DataError
            If a vector holds NaN or infinite values, or there are fewer companies than clusters (than two, HDBSCAN).
        """
        if self.method not in METHODS:
            raise ConfigError(f"no clusterer is called {self.method!r}: choose among {', '.join(METHODS)}")
        unit = unit_rows(X)
        needed = 2 if self.method == "hdbscan" else self.n_clusters
        if len(unit) < needed:
            raise DataError(f"{len(unit)} companies cannot form {needed} clusters: give more, or ask for fewer")
        order = np.lexsort(np.asarray(X).T[::-1])
        found = METHODS[self.method](unit[order], self.n_clusters, self.seed, **(self.options or {}))
        labels = np.empty(len(unit), dtype=np.int64)
        labels[order] = found
        self.labels_ = by_first_member(labels)
        return self
