"""Similarities against scikit-learn and by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from companysim.config import SimilarityConfig
from companysim.errors import DataError
from companysim.matrices import load_arrays, save_arrays
from companysim.similarity import (
    Cosine,
    LogIdfCosine,
    PcaCosine,
    StandardisedCosine,
    fitted_arrays,
    restore,
    sae_similarity,
)

Estimator = Cosine | LogIdfCosine | StandardisedCosine | PcaCosine
ALL: list[Callable[[], Estimator]] = [Cosine, LogIdfCosine, StandardisedCosine, PcaCosine]
WIDE, TALL = (30, 80), (80, 30)


def counts(rng: np.random.Generator, shape: tuple[int, int] = WIDE) -> np.ndarray:
    """Sparse, non-negative, correlated, with columns of very different scale: like summed latents."""
    topics = rng.gamma(0.5, size=(shape[0], 6)) @ rng.gamma(0.3, size=(6, shape[1]))
    return rng.poisson(topics) * rng.uniform(0.1, 20.0, shape[1])


def peer_pipeline(X: np.ndarray, variance: float = 0.9) -> Pipeline:
    return make_pipeline(StandardScaler(), PCA(variance, svd_solver="full")).fit(X)


@pytest.mark.parametrize("shape", [WIDE, TALL])
@pytest.mark.parametrize("variance", [0.5, 0.9])
def test_pca_explains_what_scikit_learn_does(rng: np.random.Generator, shape: tuple[int, int], variance: float) -> None:
    X = counts(rng, shape)
    mine, peer = PcaCosine(variance).fit(X), peer_pipeline(X, variance)[-1]
    np.testing.assert_allclose(mine.explained_variance_ratio_, peer.explained_variance_ratio_, rtol=1e-9)
    assert mine.explained_variance_ratio_.sum() >= variance > mine.explained_variance_ratio_[:-1].sum()


@pytest.mark.parametrize("shape", [WIDE, TALL])
def test_pca_components_equal_scikit_learns_up_to_sign(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    X = counts(rng, shape)
    mine, peer = PcaCosine().fit(X).components_, peer_pipeline(X)[-1].components_
    signs = np.sign((mine * peer).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(mine, signs * peer, atol=1e-9)


def test_pca_signs_make_the_largest_loading_positive(rng: np.random.Generator) -> None:
    axes = PcaCosine().fit(counts(rng)).components_
    assert (axes.max(axis=1) == np.abs(axes).max(axis=1)).all()


@pytest.mark.parametrize("shape", [WIDE, TALL])
@pytest.mark.parametrize("variance", [0.9, 1.0])
def test_pca_cosines_equal_scikit_learns(rng: np.random.Generator, shape: tuple[int, int], variance: float) -> None:
    X = counts(rng, shape)
    unit = PcaCosine(variance).fit_transform(X)
    peer = peer_pipeline(X, variance if variance < 1 else None)
    np.testing.assert_allclose(unit @ unit.T, cosine_similarity(peer.transform(X)), atol=1e-8)


def test_pca_cosines_of_unseen_rows_equal_scikit_learns(rng: np.random.Generator) -> None:
    X = counts(rng, (60, 50))
    seen, unseen = X[:40], X[40:]
    mine, peer = PcaCosine().fit(seen), peer_pipeline(seen)
    found = mine.transform(unseen) @ mine.transform(seen).T
    np.testing.assert_allclose(found, cosine_similarity(peer.transform(unseen), peer.transform(seen)), atol=1e-8)


@pytest.mark.parametrize("make", ALL)
def test_an_unseen_row_does_not_depend_on_the_other_unseen_rows(
    make: Callable[[], Estimator], rng: np.random.Generator
) -> None:
    X = counts(rng)
    estimator = make().fit(X[:20])
    learned = {name: array.copy() for name, array in fitted_arrays(estimator).items()}
    together = estimator.transform(X[20:])
    alone = np.vstack([estimator.transform(X[i : i + 1]) for i in range(20, 30)])
    np.testing.assert_allclose(together, alone, atol=1e-12)
    for name, array in fitted_arrays(estimator).items():
        np.testing.assert_array_equal(array, learned[name])


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("sparse", [sp.csr_array, sp.csr_matrix])
def test_csr_equals_dense(
    make: Callable[[], Estimator], sparse: Callable[[np.ndarray], sp.csr_array], rng: np.random.Generator
) -> None:
    X = counts(rng)
    np.testing.assert_array_equal(make().fit_transform(sparse(X)), make().fit_transform(X))


@pytest.mark.parametrize("make", ALL)
def test_rows_have_unit_length_in_double_precision(make: Callable[[], Estimator], rng: np.random.Generator) -> None:
    unit = make().fit_transform(counts(rng).astype(np.float32))
    assert unit.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("make", ALL)
def test_row_order_changes_nothing(make: Callable[[], Estimator], rng: np.random.Generator) -> None:
    X = counts(rng)
    order = rng.permutation(len(X))
    unit, permuted = make().fit_transform(X), make().fit_transform(X[order])
    np.testing.assert_allclose(permuted @ permuted.T, (unit @ unit.T)[np.ix_(order, order)], atol=1e-9)


@pytest.mark.parametrize("make", ALL)
def test_the_input_is_left_alone(make: Callable[[], Estimator], rng: np.random.Generator) -> None:
    X = counts(rng)
    before = X.copy()
    make().fit_transform(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("make", [StandardisedCosine, PcaCosine])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 / 3])
def test_constant_features_are_ignored(
    make: Callable[[], Estimator], constant: float, rng: np.random.Generator
) -> None:
    X = counts(rng)
    padded = np.insert(X, 40, constant, axis=1)  # the mean of 30 times 0.1 is not 0.1
    estimator = make().fit(padded)
    unit, without = estimator.transform(padded), make().fit_transform(X)
    np.testing.assert_allclose(unit @ unit.T, without @ without.T, atol=1e-9)
    changed = padded.copy()
    changed[:, 40] += 7.0
    np.testing.assert_array_equal(estimator.transform(changed), unit)


@pytest.mark.parametrize("row", [[0.0, 0.0, 0.0], [0.1, 0.7, 1e6 / 3]])
def test_equal_rows_leave_nothing_to_compare(row: list[float]) -> None:
    with pytest.raises(DataError, match="all documents have the same vector"):
        PcaCosine().fit(np.tile(row, (7, 1)))


def test_standardised_equals_scikit_learn(rng: np.random.Generator) -> None:
    X = counts(rng)
    mine, peer = StandardisedCosine().fit(X), StandardScaler().fit(X)
    unit, varying = mine.transform(X), peer.var_ > 0
    np.testing.assert_allclose(mine.mean_, peer.mean_, rtol=1e-12)
    np.testing.assert_allclose(mine.scale_[varying], peer.scale_[varying], rtol=1e-12)
    np.testing.assert_allclose(unit @ unit.T, cosine_similarity(peer.transform(X)), atol=1e-12)


def test_raw_cosine_equals_scikit_learn(rng: np.random.Generator) -> None:
    X = counts(rng)
    unit = Cosine().fit_transform(X)
    np.testing.assert_allclose(unit @ unit.T, cosine_similarity(X), atol=1e-12)


def test_a_row_of_zeros_stays_zero() -> None:
    assert Cosine().fit_transform(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0.0, 0.0], [0.6, 0.8]]


def test_log_idf_by_hand() -> None:
    X = np.array([[1.0, 3.0, 0.0, 0.0], [2.0, 0.0, 5.0, 0.0], [4.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    estimator = LogIdfCosine().fit(X)
    np.testing.assert_allclose(estimator.idf_, [0.0, np.log(2), np.log(4), 0.0])
    new = np.array([[9.0, 1.0, 3.0, 8.0]])  # log 2 * log 2 and log 4 * log 4 = 1 : 4; features 0 and 3 weigh nothing
    np.testing.assert_allclose(estimator.transform(new), np.array([[0.0, 1.0, 4.0, 0.0]]) / np.sqrt(17))


def test_log_idf_counts_no_stored_zero_as_active() -> None:
    X = sp.csr_array((np.array([1.0, 0.0, 2.0]), np.array([0, 0, 1]), np.array([0, 1, 3])), shape=(2, 2))
    np.testing.assert_allclose(LogIdfCosine().fit(X).idf_, [np.log(2), np.log(2)])


@pytest.mark.parametrize("make", ALL)
def test_saved_and_restored_estimator_transforms_alike(
    make: Callable[[], Estimator], rng: np.random.Generator, tmp_path: Path
) -> None:
    X = counts(rng)
    fitted = make().fit(X[:20])
    save_arrays(tmp_path / "estimator.safetensors", fitted_arrays(fitted))
    restored = restore(make(), load_arrays(tmp_path / "estimator.safetensors"))
    np.testing.assert_array_equal(restored.transform(X[20:]), fitted.transform(X[20:]))


def test_fitted_arrays_are_what_was_learned(rng: np.random.Generator) -> None:
    assert set(fitted_arrays(PcaCosine().fit(counts(rng)))) == {
        "mean_",
        "scale_",
        "components_",
        "explained_variance_ratio_",
    }
    assert fitted_arrays(Cosine().fit(counts(rng))) == {}


def test_estimators_can_be_cloned(rng: np.random.Generator) -> None:
    fresh = clone(PcaCosine(0.7).fit(counts(rng)))
    assert fresh.get_params()["variance"] == 0.7
    assert not hasattr(fresh, "components_")


def test_configuration_chooses_the_estimator() -> None:
    assert isinstance(sae_similarity(SimilarityConfig(sae="cosine")), Cosine)
    assert isinstance(sae_similarity(SimilarityConfig(sae="log_idf_cosine")), LogIdfCosine)
    pca = sae_similarity(SimilarityConfig(sae="pca_cosine", pca_variance=0.6))
    assert isinstance(pca, PcaCosine)
    assert pca.variance == 0.6
