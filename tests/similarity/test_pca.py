"""The randomised route of PcaCosine against scikit-learn, and features freed of length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from companysim.errors import ConfigError, DataError
from companysim.similarity import PcaCosine, StandardisedCosine, base, pca

WIDE, TALL = (150, 400), (400, 150)


def counts(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    topics = rng.gamma(0.5, size=(shape[0], 12)) @ rng.gamma(0.3, size=(12, shape[1]))
    return rng.poisson(topics) * rng.uniform(0.1, 20.0, shape[1])


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make any matrix large: the randomised solver, several blocks of columns, nearly settled."""
    monkeypatch.setattr(pca, "EXACT", 10)
    monkeypatch.setattr(pca, "SETTLED", 1e-9)
    monkeypatch.setattr(base, "_BLOCK", 150 * 33)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("shape", [WIDE, TALL])
@pytest.mark.parametrize("sparse", [np.asarray, sp.csr_array])
def test_randomised_equals_scikit_learns_full_solver(
    rng: np.random.Generator, shape: tuple[int, int], sparse: Callable[[np.ndarray], np.ndarray]
) -> None:
    X = counts(rng, shape)
    scaled = StandardScaler().fit(X)
    peer = PCA(11, svd_solver="full").fit(scaled.transform(X))
    mine = PcaCosine(n_components=11).fit(sparse(X))
    assert mine.components_.dtype == np.float32
    np.testing.assert_allclose(mine.explained_variance_ratio_, peer.explained_variance_ratio_, rtol=1e-4)
    new = counts(rng, (20, shape[1]))
    expected = cosine_similarity(peer.transform(scaled.transform(new)), peer.transform(scaled.transform(X)))
    np.testing.assert_allclose(mine.transform(sparse(new)) @ mine.transform(sparse(X)).T, expected, atol=2e-3)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("variance", [0.5, 0.9, 1.0])
def test_randomised_reaches_a_share_of_variance_with_as_many_components(
    rng: np.random.Generator, variance: float
) -> None:
    X = counts(rng, (400, 350))
    peer = PCA(variance if variance < 1 else None, svd_solver="full").fit(StandardScaler().fit_transform(X))
    mine = PcaCosine(variance).fit(sp.csr_array(X))
    assert abs(len(mine.components_) - peer.n_components_) <= 1
    assert mine.explained_variance_ratio_.sum() > variance - 2e-3


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("shape", [WIDE, TALL])
def test_randomised_depends_neither_on_chance_nor_on_the_order_of_rows(
    rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    X = sp.csr_array(counts(rng, shape))
    order = rng.permutation(shape[0])
    first, again, permuted = (PcaCosine(n_components=8).fit(Y) for Y in (X, X, X[order]))
    np.testing.assert_array_equal(first.components_, again.components_)
    np.testing.assert_allclose(permuted.transform(X), first.transform(X), atol=1e-4)


def test_even_unsettled_components_do_not_depend_on_the_order_of_rows(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pca, "EXACT", 10)
    monkeypatch.setattr(pca, "SETTLED", 1.0)
    X = rng.normal(size=(150, 400))
    order = rng.permutation(150)
    found, permuted = (PcaCosine(n_components=8).fit(Y).transform(X) for Y in (X, X[order]))
    np.testing.assert_allclose(permuted, found, atol=1e-3)


@pytest.mark.parametrize("solver", ["exact", "randomised"])
def test_products_of_more_than_a_thousand_rows_are_whole(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, solver: str
) -> None:
    monkeypatch.setattr(pca, "EXACT", 5_000 if solver == "exact" else 10)
    X = rng.normal(size=(1100, 5)) @ rng.normal(size=(5, 1200)) + rng.normal(size=(1100, 1200))
    peer = PCA(5, svd_solver="arpack", random_state=0).fit(StandardScaler().fit_transform(X))
    found = PcaCosine(n_components=5).fit(X).explained_variance_ratio_
    np.testing.assert_allclose(found, peer.explained_variance_ratio_, rtol=1e-4)


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_unsettled_components_still_explain_nearly_as_much(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    X = rng.normal(size=(300, 500) if side == "rows" else (500, 300)) * np.arange(1, 301 + 200 * (side == "rows"))
    monkeypatch.setattr(pca, "EXACT", 10)
    full = PCA(40, svd_solver="full").fit(StandardScaler().fit_transform(X)).explained_variance_ratio_.sum()
    assert PcaCosine(n_components=40).fit(X).explained_variance_ratio_.sum() > 0.97 * full  # noise: the worst case


@pytest.mark.parametrize("shape", [WIDE, TALL])
def test_a_number_of_components_is_kept(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    X = counts(rng, shape)
    assert PcaCosine(n_components=7).fit(X).components_.shape == (7, shape[1])
    assert len(PcaCosine(n_components=10_000).fit(X).components_) <= 150  # no more than there are


@pytest.mark.parametrize("parameters", [{"n_components": 0}, {"variance": 0.0}])
def test_impossible_settings_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        PcaCosine(**parameters).fit(np.eye(3))


def test_too_many_rows_and_features_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca, "LARGEST", 20)
    with pytest.raises(DataError, match="30 rows of 30 features are too many for PCA: fit on 20 rows"):
        PcaCosine().fit(np.eye(30))
    PcaCosine().fit(np.eye(30)[:20])


@pytest.mark.parametrize("make", [StandardisedCosine, PcaCosine])
def test_length_control_is_a_regression_of_each_feature_on_log_length(
    make: type[StandardisedCosine], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_BLOCK", 100 * 7)
    X = counts(rng, (100, 40)) * rng.uniform(0.2, 8.0, (100, 1))
    new = counts(rng, (10, 40))
    lengths = [np.log1p(Y.sum(axis=1, keepdims=True)) for Y in (X, new)]
    regression = LinearRegression().fit(lengths[0], X)
    left, left_new = (Y - regression.predict(length) for Y, length in zip((X, new), lengths, strict=True))
    scaler = StandardScaler().fit(left)
    found = make(length_control=True, **({"variance": 1.0} if make is PcaCosine else {})).fit(sp.csr_array(X))
    np.testing.assert_allclose(
        found.transform(new) @ found.transform(X).T,
        cosine_similarity(scaler.transform(left_new), scaler.transform(left)),
        atol=1e-6,
    )


@pytest.mark.parametrize("log", [False, True])
def test_length_controlled_features_are_uncorrelated_with_log_length(rng: np.random.Generator, log: bool) -> None:
    X = counts(rng, (200, 60)) * rng.gamma(0.3, 10, (200, 1))
    found = StandardisedCosine(length_control=True, log=log).fit(X)
    length = np.log1p(X.sum(axis=1))
    for _, block in found._standardised(X):
        np.testing.assert_allclose((length - length.mean()) @ block, 0, atol=1e-8)


def test_logarithm_and_length_control_recover_topics_that_lengths_hide(rng: np.random.Generator) -> None:
    topics = rng.gamma(0.5, size=(200, 12)) @ rng.gamma(0.3, size=(12, 150))
    share = topics / topics.sum(axis=1, keepdims=True)
    X = rng.poisson(2000 * share * np.exp(rng.normal(0, 0.8, (200, 1)))) * rng.uniform(0.1, 20, 150)
    truth = cosine_similarity(topics)[np.triu_indices(200, 1)]

    def agreement(estimator: StandardisedCosine) -> float:
        vectors = estimator.fit_transform(X)
        return float(np.corrcoef((vectors @ vectors.T)[np.triu_indices(200, 1)], truth)[0, 1])

    published, controlled = agreement(PcaCosine()), agreement(PcaCosine(length_control=True, log=True))
    assert published < 0.3
    assert controlled > 0.5


@pytest.mark.parametrize("make", [StandardisedCosine, PcaCosine])
def test_the_logarithm_is_of_one_plus_the_feature(make: type[StandardisedCosine], rng: np.random.Generator) -> None:
    X = counts(rng, (50, 30))
    logarithm, plain = make(log=True).fit(sp.csr_array(X)), make().fit(np.log1p(X))
    np.testing.assert_allclose(logarithm.transform(X), plain.transform(np.log1p(X)), atol=1e-12)
    with pytest.raises(DataError, match="log is for features of 0 or more"):
        make(log=True).fit(-X)


def test_features_that_are_length_itself_weigh_nothing() -> None:
    X = np.zeros((30, 3))
    X[:, 0] = np.arange(30.0)
    X[::2, 2] = 1.0
    alike = np.expm1(np.linspace(1, 3, 30))[:, None] * np.ones((1, 1))  # all rows have this one feature
    found = StandardisedCosine(length_control=True).fit(np.log1p(alike))
    assert np.isfinite(found.transform(np.log1p(alike))).all()
    constant = StandardisedCosine(length_control=True).fit(np.full((7, 2), 0.1))  # all lengths are equal
    assert constant.scale_.tolist() == [0, 0]
    assert np.isfinite(StandardisedCosine(length_control=True).fit_transform(X)).all()


def test_length_control_leaves_the_input_alone(rng: np.random.Generator) -> None:
    X = counts(rng, (30, 20))
    before = X.copy()
    PcaCosine(length_control=True).fit_transform(X)
    np.testing.assert_array_equal(X, before)
