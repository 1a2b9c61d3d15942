"""Attribution against brute force: set a latent to 0, transform again, compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.errors import ConfigError, DataError
from companysim.explain.attribution import Attribution, attribute
from companysim.similarity import (
    Cosine,
    Jaccard,
    LogIdfCosine,
    PcaCosine,
    SaturatedCosine,
    StandardisedCosine,
    SupervisedCosine,
)

ESTIMATORS = {
    "raw": lambda: Cosine(),
    "raw, sparse": lambda: Cosine(sparse_output=True),
    "log-idf": lambda: LogIdfCosine(),
    "saturated": lambda: SaturatedCosine(),
    "saturated, full length control": lambda: SaturatedCosine(k1=0.7, b=1.0),
    "saturated, no length control": lambda: SaturatedCosine(b=0),
    "saturated, presence only": lambda: SaturatedCosine(k1=0),
    "standardised": lambda: StandardisedCosine(),
    "standardised, length, log": lambda: StandardisedCosine(length_control=True, log=True),
    "pca": lambda: PcaCosine(0.9),
    "pca, all components": lambda: PcaCosine(1.0),
    "pca, length": lambda: PcaCosine(n_components=3, length_control=True),
    "pca, length, log": lambda: PcaCosine(0.8, length_control=True, log=True),
}


def sparse(seed: int, rows: int, latents: int, share: float = 0.4, spread: float = 1.0) -> sp.csr_array:
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.7, 3.0, (rows, latents)) * np.exp(spread * rng.normal(size=(1, latents)))
    values[rng.random((rows, latents)) > share] = 0
    return sp.csr_array(values)


def brute_force(estimator: Any, X: sp.csr_array, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarities, and what they lose when one latent is set to 0 in every row and everything is projected anew."""

    def similarity(rows: np.ndarray) -> np.ndarray:
        vectors = estimator.transform(sp.csr_array(rows))
        vectors = vectors if isinstance(vectors, np.ndarray) else vectors.toarray()
        return np.einsum("ij,ij->i", vectors[pairs[:, 0]], vectors[pairs[:, 1]])

    whole = X.toarray().astype(float)
    base, without = similarity(whole), []
    for latent in range(X.shape[1]):
        less = whole.copy()
        less[:, latent] = 0
        without.append(similarity(less))
    return base, base[:, None] - np.stack(without, axis=1)


def all_pairs(n: int) -> np.ndarray:
    return np.stack(np.triu_indices(n, 1), axis=1)


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(3, 9),
    latents=st.integers(2, 14),
    share=st.floats(0.2, 1.0),
    spread=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_every_drop_equals_projecting_anew(
    name: str, seed: int, rows: int, latents: int, share: float, spread: float
) -> None:
    X = sparse(seed, rows, latents, share, spread)
    if not (np.ptp(X.toarray(), axis=0) > 0).any():
        return
    try:
        estimator = ESTIMATORS[name]().fit(X)
    except DataError:  # length explains all there is to a latent
        return
    pairs = all_pairs(rows)
    found = attribute(estimator, X, pairs)
    base, drop = brute_force(estimator, X, pairs)
    np.testing.assert_allclose(found.similarity, base, atol=1e-9)
    np.testing.assert_allclose(found.drop, drop, atol=1e-6)


def test_supervised_weights_and_their_exponent() -> None:
    rng = np.random.default_rng(3)
    X = sparse(3, 20, 12)
    returns = np.corrcoef(rng.normal(size=(20, 6)) + X.toarray()[:, :6])
    for alpha in (1.0, 0.5, 0.0):
        estimator = SupervisedCosine(2000, n_latents=8, minimum_pairs=2, alpha=alpha)
        estimator.fit(X, {2000: returns}, np.full(20, 2000))
        base, drop = brute_force(estimator, X, all_pairs(20))
        found = attribute(estimator, X, all_pairs(20))
        np.testing.assert_allclose(found.similarity, base, atol=1e-9)
        np.testing.assert_allclose(found.drop, drop, atol=1e-9)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_contributions_add_up_to_the_similarity(name: str) -> None:
    X = sparse(1, 12, 30)
    found = attribute(ESTIMATORS[name]().fit(X), X, all_pairs(12))
    np.testing.assert_allclose(found.contribution.sum(axis=1), found.similarity, atol=1e-9)


def test_a_case_by_hand() -> None:
    """(3, 4, 0) and (3, 0, 4): cosine 9/25, none of it without latent 0, 9/(3*5) without latent 1."""
    X = sp.csr_array(np.array([[3.0, 4, 0], [3, 0, 4]]))
    found = attribute(Cosine(), X, [[0, 1]])
    assert found.similarity == pytest.approx([9 / 25])
    assert found.drop[0] == pytest.approx([9 / 25, 9 / 25 - 9 / 15, 9 / 25 - 9 / 15])
    assert found.contribution[0] == pytest.approx([9 / 25, 0, 0])


def test_a_row_of_nothing_but_one_latent_is_similar_to_nothing_without_it() -> None:
    X = sp.csr_array(np.array([[1e8, 0, 1.0], [1e8, 2.0, 0], [5.0, 0, 0]]))
    found = attribute(Cosine(), X, all_pairs(3))
    drop = brute_force(Cosine(), X, all_pairs(3))[1]
    np.testing.assert_allclose(found.drop, drop, atol=1e-12)
    assert found.drop[1, 0] == found.similarity[1]


@pytest.mark.parametrize("name", ["raw", "saturated", "standardised, length, log", "pca, length"])
def test_some_latents_in_any_order_and_small_blocks_give_the_same(name: str) -> None:
    X = sparse(5, 15, 40)
    estimator = ESTIMATORS[name]().fit(X)
    whole = attribute(estimator, X, all_pairs(15))
    chosen = np.array([39, 3, 17, 3, 0, 21])
    some = attribute(estimator, X, all_pairs(15), latents=chosen, budget_mb=1e-4)
    np.testing.assert_array_equal(some.latents, chosen)
    np.testing.assert_allclose(some.drop, whole.drop[:, chosen], atol=1e-13)
    np.testing.assert_allclose(some.contribution, whole.contribution[:, chosen], atol=1e-13)


def test_single_precision_loadings_stay_exact_to_1e_6() -> None:
    X = sparse(7, 60, 400)
    estimator = PcaCosine(n_components=40).fit(X)
    estimator.components_ = estimator.components_.astype(np.float32)
    found = attribute(estimator, X, all_pairs(12))
    doubled = PcaCosine(n_components=40).fit(X)
    doubled.components_ = estimator.components_.astype(np.float64)
    np.testing.assert_allclose(found.drop, brute_force(doubled, X, all_pairs(12))[1], atol=1e-6)


def test_the_order_of_pairs_and_rows_does_not_matter() -> None:
    X = sparse(9, 10, 20)
    estimator = PcaCosine(0.9).fit(X)
    found = attribute(estimator, X, [[1, 4], [7, 2]])
    swapped = attribute(estimator, X, [[2, 7], [4, 1]])
    np.testing.assert_allclose(found.drop, swapped.drop[::-1], atol=1e-12)
    back = np.random.default_rng(0).permutation(10)
    moved = attribute(estimator, X[back], [[np.flatnonzero(back == i)[0] for i in (1, 4)]])
    np.testing.assert_allclose(moved.drop[0], found.drop[0], atol=1e-12)


def test_latents_active_in_neither_do_nothing() -> None:
    X = sparse(2, 8, 30, share=0.3)
    for name in ("saturated", "pca, length, log", "raw"):
        found = attribute(ESTIMATORS[name]().fit(X), X, all_pairs(8))
        active = X.toarray() > 0
        idle = ~(active[found.pairs[:, 0]] | active[found.pairs[:, 1]])
        assert not found.drop[idle].any()
        assert found.drop[~idle].any()


def test_tables() -> None:
    drop = np.array([[0.1, 0.3, -0.2, 0.3], [0.0, 0.0, 0.0, -1.0]])
    found = Attribution(
        np.array([[0, 1], [2, 3]]), np.array([7, 9, 11, 8]), np.array([0.5, 0.6]), drop, np.abs(drop) / 2
    )
    top = found.top(3)
    assert top[["row_1", "rank", "latent"]].to_numpy().tolist() == [[0, 1, 8], [0, 2, 9], [0, 3, 7]]
    assert top["drop"].tolist() == [0.3, 0.3, 0.1]
    assert found.importance() == pytest.approx([0.05, 0.15, 0.1, 0.65])
    frame = found.to_frame()
    assert frame["latent"].tolist() == [7, 9, 11, 8, 8]
    assert frame["similarity"].tolist() == [0.5] * 4 + [0.6]
    assert "2 pairs, 4 latents: mean similarity 0.550" in found.summary()
    with pytest.raises(ConfigError, match="n is 0"):
        found.top(0)


@pytest.mark.parametrize(
    ("estimator", "pairs", "latents", "says"),
    [
        (Jaccard(), [[0, 1]], None, "Jaccard is no cosine"),
        (PcaCosine(), [[0, 1]], None, "PcaCosine is not fitted"),
        (LogIdfCosine(), [[0, 1]], None, "LogIdfCosine is not fitted"),
        (Cosine(), [[0, 5]], None, "rows run from 0 to 4"),
        (Cosine(), [[-1, 2]], None, "rows run from 0 to 4"),
        (Cosine(), [0, 1], None, r"pairs must have shape \(pairs, 2\)"),
        (Cosine(), np.zeros((0, 2), int), None, "at least one pair"),
        (Cosine(), [[0, 1]], [6], "latents run from 0 to 5"),
        (LogIdfCosine().fit(np.ones((3, 4))), [[0, 1]], None, "fitted on 4"),
    ],
)
def test_what_cannot_be_attributed_is_refused(estimator: Any, pairs: Any, latents: Any, says: str) -> None:
    with pytest.raises((ConfigError, DataError), match=says):
        attribute(estimator, sparse(0, 5, 6), pairs, latents)


def test_nan_and_an_empty_budget_are_refused() -> None:
    X = sparse(0, 5, 6).toarray()
    with pytest.raises(ConfigError, match="budget_mb is 0"):
        attribute(Cosine(), X, [[0, 1]], budget_mb=0)
    X[1, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        attribute(Cosine(), X, [[0, 1]])
