"""The estimator: cosine distances, thresholds in their own or in z units, years that cannot know the others."""

from __future__ import annotations

from collections import Counter
from math import comb

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.base import clone

from companysim.clustering import SpanningTree, ThresholdMST, distance_moments
from companysim.errors import ConfigError, DataError


def together(labels: np.ndarray) -> np.ndarray:
    return np.equal.outer(labels, labels)


def unit_rows(rng: np.random.Generator, n: int = 40) -> np.ndarray:
    rows = rng.normal(size=(n, 5))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_estimator_clusters_by_cosine_distance(rng: np.random.Generator) -> None:
    rows = unit_rows(rng)
    peer = fcluster(linkage(rows, "single", metric="cosine"), 0.1, criterion="distance")
    found = ThresholdMST(theta=0.1).fit(rows)
    assert 3 < len(set(found.labels_)) < 38
    np.testing.assert_array_equal(together(found.labels_), together(peer))
    assert found.theta_ == 0.1
    assert isinstance(found.tree_, SpanningTree)


def test_estimator_cuts_where_the_share_of_grouped_pairs_is_closest(rng: np.random.Generator) -> None:
    found = ThresholdMST(share_of_pairs=0.2).fit(unit_rows(rng))
    shares = found.tree_.grouped_pairs() / comb(40, 2)
    got = sum(comb(size, 2) for size in Counter(found.labels_.tolist()).values()) / comb(40, 2)
    assert abs(got - 0.2) == np.abs(shares - 0.2).min()


def test_theta_zero_is_a_threshold_and_joins_equal_rows() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert ThresholdMST(theta=0.0).fit(rows).labels_.tolist() == [0, 1, 0]
    assert ThresholdMST(theta=0.0).fit(np.eye(3)).labels_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("parameters", [{}, {"theta": 0.1, "share_of_pairs": 0.1}])
def test_estimator_needs_exactly_one_of_theta_and_share(parameters: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="exactly one of theta and share_of_pairs"):
        ThresholdMST(**parameters).fit(np.eye(3))


def test_estimator_follows_scikit_learn(rng: np.random.Generator) -> None:
    rows = unit_rows(rng)
    fitted = ThresholdMST(share_of_pairs=0.1).fit(rows)
    fresh = clone(fitted)
    assert fresh.get_params() == {"theta": None, "share_of_pairs": 0.1, "standardise": None, "rows": 4096}
    assert not hasattr(fresh, "labels_")
    np.testing.assert_array_equal(fresh.fit_predict(rows), fitted.labels_)


def test_theta_in_z_units_is_the_distance_it_stands_for(rng: np.random.Generator) -> None:
    years = [unit_rows(rng, n) for n in (40, 25, 1)]
    distances = np.concatenate([pdist(rows, "cosine") for rows in years])
    moments = distance_moments(years)
    np.testing.assert_allclose(moments, [distances.mean(), distances.std()], rtol=1e-10)
    z = (0.1 - moments.mean) / moments.sd
    found, plain = (ThresholdMST(theta=t, standardise=s).fit(years[0]) for t, s in ((z, moments), (0.1, None)))
    np.testing.assert_array_equal(found.labels_, plain.labels_)
    np.testing.assert_allclose(found.tree_.weight, (plain.tree_.weight - moments.mean) / moments.sd, rtol=1e-9)
    shared = ThresholdMST(share_of_pairs=0.1, standardise=moments).fit(years[0])
    np.testing.assert_array_equal(shared.labels_, ThresholdMST(share_of_pairs=0.1).fit(years[0]).labels_)


@pytest.mark.parametrize("vectors", [[], [np.ones((1, 2))], [np.ones((5, 2))]])
def test_moments_need_different_pairs(vectors: list[np.ndarray]) -> None:
    with pytest.raises(DataError, match="z units"):
        distance_moments(vectors)


@pytest.mark.parametrize("standardise", [(0.5, 0.0), (0.5, -1.0), (np.nan, 1.0)])
def test_impossible_moments_are_refused(standardise: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="positive sd"):
        ThresholdMST(theta=0.0, standardise=standardise).fit(np.eye(3))


def test_one_company_and_no_theta() -> None:
    assert ThresholdMST(theta=0.5).fit(np.ones((1, 3))).labels_.tolist() == [0]
    with pytest.raises(DataError, match="no pair to group"):
        ThresholdMST(share_of_pairs=0.5).fit(np.ones((1, 3)))
    with pytest.raises(ConfigError, match="theta is NaN"):
        ThresholdMST(theta=np.nan).fit(np.eye(3))
