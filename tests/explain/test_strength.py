from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from companysim.errors import ConfigError, DataError
from companysim.explain.ablation import removed
from companysim.explain.attribution import attribute
from companysim.explain.strength import StrongLatents, cluster_latents, strong_latents
from companysim.similarity import Cosine, PcaCosine


def world(seed: int = 0, noise: float = 0.3) -> tuple[sp.csr_array, np.ndarray, list[str]]:
    """Three clusters of six; latents 10 c and 10 c + 1 belong to cluster c, the others are noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], 6)
    X = rng.gamma(1.0, noise, (18, 60)) * (rng.random((18, 60)) < 0.5)
    for cluster in range(3):
        X[np.ix_(labels == cluster, [10 * cluster, 10 * cluster + 1])] += 5
    return sp.csr_array(X), labels, [f"T{i:02d}" for i in range(18)]


@pytest.mark.parametrize("estimator", [Cosine(), PcaCosine(0.9)])
def test_the_latents_a_cluster_was_made_of_are_strong_in_it(estimator: Cosine | PcaCosine) -> None:
    X, labels, names = world()
    found = cluster_latents(estimator.fit(X), X, labels, names)
    for cluster in range(3):
        assert found.strong[cluster, [10 * cluster, 10 * cluster + 1]].all()
        assert set(np.argsort(-found.importance[cluster])[:2]) == {10 * cluster, 10 * cluster + 1}
    assert found.spread()[[0, 10, 20]] == pytest.approx([1 / 3] * 3)


def test_the_split_is_the_first_step_of_the_ladder_that_will_do() -> None:
    """Latents of equal weight: half of them never outweigh the rest before the 0.5 quantile is passed."""
    X, labels, _ = world(noise=1.5)
    pairs = np.argwhere(np.triu(labels[:, None] == labels, 1) & (labels == 0)[:, None])
    estimator = PcaCosine(0.9).fit(X)
    ladder = (0.98, 0.9, 0.75, 0.6, 0.3)
    found = strong_latents(estimator, X, pairs, quantiles=ladder)
    importance = attribute(estimator, X, pairs).importance()

    def changes(quantile: float) -> tuple[float, float]:
        strong = importance > np.quantile(importance, quantile)
        whole = estimator.transform(X)
        base = (whole[pairs[:, 0]] * whole[pairs[:, 1]]).sum(axis=1)
        both = []
        for gone in (strong, ~strong):
            less = X.toarray()
            less[:, gone] = 0
            vectors = estimator.transform(sp.csr_array(less))
            both.append(np.abs((vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(axis=1) - base).mean())
        return both[0], both[1]

    will_do = [q for q in ladder if changes(q)[0] > changes(q)[1]]
    assert found.quantile == max(will_do) < max(ladder)  # a step above it was tried and refused
    assert (found.strong_change, found.weak_change) == pytest.approx(changes(found.quantile))
    assert found.strong.tolist() == (importance > np.quantile(importance, found.quantile)).tolist()


def test_without_a_step_that_will_do_it_is_the_published_quantile() -> None:
    """Two rows that are one latent each and the same: everything strong changes nothing, the cosine stays 1."""
    X = sp.csr_array(np.ones((2, 40)))
    found = strong_latents(Cosine(), X, [[0, 1]])
    assert found.quantile == 0.9
    assert not found.strong.any()


def test_pairs_are_drawn_by_name_whatever_the_order_of_rows() -> None:
    X, labels, names = world(3)
    estimator = Cosine()
    found = cluster_latents(estimator, X, labels, names, max_pairs=5)
    back = np.random.default_rng(1).permutation(18)
    other = cluster_latents(estimator, X[back], (labels[back] + 1) % 3, [names[i] for i in back], max_pairs=5)
    assert found.table["pairs"].tolist() == [5, 5, 5]
    np.testing.assert_allclose(other.importance[[1, 2, 0]], found.importance, atol=1e-12)
    assert not np.allclose(
        cluster_latents(estimator, X, labels, names, max_pairs=5, seed=1).importance, found.importance
    )


def test_clusters_of_one_and_rows_in_none_are_left_out() -> None:
    X, labels, names = world()
    labels = np.where(labels == 2, -1, labels)
    labels[0] = 7
    found = cluster_latents(Cosine(), X, labels, names, latents=np.arange(30))
    assert found.table[["cluster", "size", "pairs"]].to_numpy().tolist() == [[0, 5, 10], [1, 6, 15]]
    assert found.importance.shape == found.strong.shape == (2, 30)
    assert found.to_frame() is found.table
    assert found.summary().startswith("2 clusters: share of strong latents")
    with pytest.raises(DataError, match="no cluster has two members"):
        cluster_latents(Cosine(), X, np.arange(18), names)
    with pytest.raises(DataError, match="18 rows need"):
        cluster_latents(Cosine(), X, labels, ["same"] * 18)


def test_table_and_summary() -> None:
    found = StrongLatents(
        np.array([4, 2, 9]), np.array([0.1, 0.3, 0.1]), np.array([False, True, False]), 0.9, 0.25, 0.125
    )
    assert found.to_frame()["latent"].tolist() == [2, 4, 9]
    assert found.share == pytest.approx(1 / 3)
    assert "1 of 3 latents are strong (quantile 0.90)" in found.summary()
    for wrong in ((), (1.0,), (0.5, 0.0)):
        with pytest.raises(ConfigError, match="quantiles are"):
            strong_latents(Cosine(), np.ones((2, 3)), [[0, 1]], quantiles=wrong)


def test_removed_leaves_what_it_was_given_alone() -> None:
    for X in (np.arange(6.0).reshape(2, 3), sp.csr_array(np.arange(6.0).reshape(2, 3))):
        less = removed(X, [0, 2])
        dense = less if isinstance(less, np.ndarray) else less.toarray()
        assert dense.tolist() == [[0, 1, 0], [0, 4, 0]]
        assert X.sum() == 15
