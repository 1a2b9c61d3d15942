"""Jaccard, saturation, CSR that stays CSR, blocks of pairs, the cut-off in time, and refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist

from companysim.errors import ConfigError, DataError
from companysim.similarity import (
    Cosine,
    Jaccard,
    LogIdfCosine,
    PcaCosine,
    SaturatedCosine,
    Similarity,
    StandardisedCosine,
    fitted_arrays,
)

WEIGHTED = [Cosine, LogIdfCosine, SaturatedCosine]
LEARNING = [LogIdfCosine, SaturatedCosine, StandardisedCosine, PcaCosine]
EVERY: list[Callable[[], Similarity]] = [*WEIGHTED, StandardisedCosine, PcaCosine, Jaccard]


def latents(rng: np.random.Generator, shape: tuple[int, int] = (30, 50)) -> np.ndarray:
    return rng.poisson(0.4, shape) * rng.uniform(0.1, 9.0, shape)


def test_jaccard_equals_scipys(rng: np.random.Generator) -> None:
    X = latents(rng)
    X[4] = 0
    peer = 1 - cdist(X > 0, X > 0, "jaccard")
    peer[4], peer[:, 4] = 0, 0  # two empty sets: scipy says 1, and there is nothing they share
    for form in (X, sp.csr_array(X)):
        estimator = Jaccard()
        found = estimator.similarity(estimator.fit_transform(form))
        np.testing.assert_allclose(found, peer, atol=1e-15)


def test_jaccard_does_not_take_stored_zeros_and_negatives_for_active() -> None:
    X = sp.csr_array((np.array([1.0, 0.0, -2.0]), np.array([0, 1, 2]), np.array([0, 3])), shape=(1, 3))
    assert Jaccard().fit_transform(X).toarray().tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("make", WEIGHTED)
def test_csr_stays_csr_with_the_same_values(make: type[Cosine], rng: np.random.Generator) -> None:
    X = latents(rng)
    X[3] = 0
    dense, sparse = make().fit_transform(X), make(sparse_output=True).fit_transform(sp.csr_array(X))
    assert isinstance(sparse, sp.csr_array)
    np.testing.assert_allclose(sparse.toarray(), dense, atol=1e-14)
    assert isinstance(make(sparse_output=True).fit_transform(X), np.ndarray)


def test_saturation_by_hand() -> None:
    X = np.array([[2.0, 0.0, 1.0], [6.0, 4.0, 1.0], [0.0, 0.0, 1.0]])
    found = SaturatedCosine(k1=1.0, b=0.5).fit(X)
    np.testing.assert_allclose(found.typical_, [4, 4, 1])
    np.testing.assert_allclose(found.mean_length_, 15 / 3)
    damping = 1 - 0.5 + 0.5 * 11 / 5  # of the second document, 11 long
    first, second = np.log(3 / 2) * 1.5 * 2 / (1.5 + damping), np.log(3) * 1.0 * 2 / (1.0 + damping)
    np.testing.assert_allclose(found.transform(X)[1], np.array([first, second, 0]) / np.hypot(first, second))


def test_saturation_ranges_from_presence_to_proportion(rng: np.random.Generator) -> None:
    X = latents(rng)
    presence = SaturatedCosine(k1=0.0).fit(X)
    np.testing.assert_allclose(presence.transform(X), presence.transform((X > 0) * 5.0), atol=1e-12)
    proportional = SaturatedCosine(k1=1e9, b=0.0).fit(X)
    plain = X / proportional.typical_ * proportional.idf_
    np.testing.assert_allclose(
        proportional.transform(X), plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6
    )


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_blocks_are_the_similarities_of_all_pairs(
    make: Callable[[], Similarity], rows: int, rng: np.random.Generator
) -> None:
    estimator = make()
    vectors = estimator.fit_transform(sp.csr_array(latents(rng)))
    parts = list(estimator.blocks(vectors, rows))
    assert [i for part, _ in parts for i in range(part.start, part.stop)] == list(range(30))
    assert max(len(block) for _, block in parts) <= rows
    np.testing.assert_allclose(np.vstack([block for _, block in parts]), estimator.similarity(vectors), atol=1e-15)


@pytest.mark.parametrize("make", LEARNING)
@pytest.mark.parametrize("sparse", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("kind", ["years", "days"])
def test_nothing_is_fitted_on_the_future(
    make: type[LogIdfCosine], sparse: Callable[[np.ndarray], np.ndarray], kind: str, rng: np.random.Generator
) -> None:
    X = latents(rng)
    years = rng.permutation(np.repeat([2011, 2012, 2013, 2014, 2015], 6))
    dates, until = (years, 2013) if kind == "years" else (
        np.array([f"{y}-06-30" for y in years], dtype="datetime64[D]"), np.datetime64("2013-12-31")
    )  # fmt: skip
    changed = X.copy()
    changed[years > 2013] = 1e6 * rng.random((12, 50))
    plain, other = (fitted_arrays(make(until=until).fit(sparse(Y), dates=dates)) for Y in (X, changed))
    past = fitted_arrays(make().fit(sparse(X[years <= 2013])))
    assert plain.keys() == past.keys() != set()
    for name, array in plain.items():
        np.testing.assert_array_equal(other[name], array)
        np.testing.assert_allclose(past[name], array, atol=1e-12)
    everything = fitted_arrays(make().fit(sparse(X)))
    assert any(a.shape != plain[n].shape or not np.array_equal(a, plain[n]) for n, a in everything.items())


def test_a_cut_off_needs_dates_that_fit() -> None:
    X = np.eye(3)
    with pytest.raises(ConfigError, match="until is 2013: fit needs the dates"):
        LogIdfCosine(until=2013).fit(X)
    with pytest.raises(DataError, match="give each row one date"):
        LogIdfCosine(until=2013).fit(X, dates=[2013])
    with pytest.raises(DataError, match="no row is dated 2013 or earlier"):
        LogIdfCosine(until=2013).fit(X, dates=[2014, 2015, 2016])


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("sparse", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(
    make: Callable[[], Similarity], sparse: Callable[[np.ndarray], np.ndarray], bad: float, rng: np.random.Generator
) -> None:
    X = latents(rng)
    wrong = X.copy()
    wrong[17, 3] = bad
    with pytest.raises(DataError, match="row 17 of the features holds NaN or infinite"):
        make().fit(sparse(wrong))
    with pytest.raises(DataError, match="row 17 of the features"):
        make().fit(sparse(X)).transform(sparse(wrong))


@pytest.mark.parametrize("make", EVERY)
def test_no_rows_are_refused(make: Callable[[], Similarity]) -> None:
    with pytest.raises(DataError, match="one or more rows"):
        make().fit(np.zeros((0, 4)))


@pytest.mark.parametrize("make", [*WEIGHTED, StandardisedCosine, Jaccard])
def test_one_document_and_documents_of_zeros_are_defined(make: Callable[[], Similarity]) -> None:
    estimator = make()
    for X in (np.zeros((3, 4)), np.ones((1, 4))):
        vectors = estimator.fit_transform(X)
        similarity = estimator.similarity(vectors)
        assert np.isfinite(similarity).all()
        assert X.any() or not similarity.any()
