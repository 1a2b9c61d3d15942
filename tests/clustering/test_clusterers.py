"""scikit-learn's clusterers: planted groups, the order of rows, seeds and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from companysim.clustering import CosineClusters
from companysim.clustering.clusterers import METHODS
from companysim.errors import ConfigError, DataError


def planted(rng: np.random.Generator, spread: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Four directions in space; lengths differ, which cosine must not see."""
    truth = np.repeat(np.arange(4), 15)
    rows = np.eye(4, 6)[truth] + rng.normal(0, spread, (60, 6))
    return rows * rng.uniform(0.2, 5.0, (60, 1)), truth


@pytest.mark.parametrize("method", METHODS)
def test_planted_groups_are_found(method: str, rng: np.random.Generator) -> None:
    rows, truth = planted(rng, 0.05)
    options = {"min_cluster_size": 5} if method == "hdbscan" else None
    assert adjusted_rand_score(CosineClusters(method, 4, options=options).fit(rows).labels_, truth) > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_rows_does_not_matter_even_where_groups_are_unclear(
    method: str, rng: np.random.Generator
) -> None:
    rows = rng.normal(size=(60, 6))
    order = rng.permutation(60)
    labels, permuted = (CosineClusters(method, 7).fit_predict(X) for X in (rows, rows[order]))
    assert adjusted_rand_score(labels[order], permuted) == 1
    assert ((labels < 0)[order] == (permuted < 0)).all()


@pytest.mark.parametrize("method", METHODS)
def test_clusters_are_numbered_by_first_member(method: str, rng: np.random.Generator) -> None:
    labels = CosineClusters(method, 4).fit(planted(rng)[0]).labels_
    known = labels[labels >= 0]
    assert known[np.sort(np.unique(known, return_index=True)[1])].tolist() == list(range(known.max() + 1))
    assert labels.dtype == np.int64


def test_options_reach_scikit_learn(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(60, 6))
    peer = AgglomerativeClustering(7, metric="cosine", linkage="complete").fit(rows)
    complete = CosineClusters("agglomerative", 7, options={"linkage": "complete"}).fit(rows)
    assert adjusted_rand_score(complete.labels_, peer.labels_) == 1
    assert adjusted_rand_score(CosineClusters("agglomerative", 7).fit(rows).labels_, peer.labels_) < 1


def test_noise_is_minus_one(rng: np.random.Generator) -> None:
    rows = np.vstack([planted(rng, 0.02)[0], -np.ones(6)])
    assert CosineClusters("hdbscan", options={"min_cluster_size": 5}).fit(rows).labels_[-1] == -1


@pytest.mark.parametrize(
    ("parameters", "rows", "error", "message"),
    [
        ({"method": "louvain"}, np.eye(9), ConfigError, "choose among agglomerative, hdbscan, kmeans, spectral"),
        ({"n_clusters": 4}, np.eye(3), DataError, "3 companies cannot form 4 clusters"),
        ({"method": "hdbscan"}, np.ones((1, 2)), DataError, "1 companies cannot form 2"),
        ({"n_clusters": 2}, np.full((3, 2), np.nan), DataError, "row 0 holds NaN"),
    ],
)
def test_refusals(parameters: dict[str, Any], rows: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CosineClusters(**parameters).fit(rows)


def test_it_can_be_cloned() -> None:
    assert clone(CosineClusters("kmeans", 3, 7)).get_params()["seed"] == 7
