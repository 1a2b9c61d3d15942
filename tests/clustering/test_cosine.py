"""Cosine distances and the tiled spanning tree, against scipy and the tree of the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from companysim.clustering import cosine_distance, cosine_tree, spanning_tree
from companysim.errors import DataError


def rows_of(seed: int, n: int, tied: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (n, 5)).astype(float) if tied else rng.normal(size=(n, 6))


def test_distances_equal_scipys(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(30, 8)) * rng.uniform(0.1, 10, (30, 1))
    np.testing.assert_allclose(cosine_distance(rows), cdist(rows, rows, "cosine"), atol=1e-12)


def test_equal_vectors_are_exactly_zero_apart_whatever_their_length(rng: np.random.Generator) -> None:
    row = rng.normal(size=301)
    rows = row * rng.uniform(0.1, 10, (40, 1))
    assert (cosine_distance(rows) == 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.booleans(), st.sampled_from([4, 10, 16, 40]))
def test_tiles_give_the_tree_of_the_whole_matrix(seed: int, n: int, tied: bool, rows: int) -> None:
    X = rows_of(seed, n, tied)
    whole, tiled = spanning_tree(cosine_distance(X)), cosine_tree(X, rows)
    np.testing.assert_array_equal(tiled.weight, whole.weight)
    np.testing.assert_array_equal(tiled.left, whole.left)
    np.testing.assert_array_equal(tiled.right, whole.right)
    assert tiled.n == n


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_partition_does_not_depend_on_the_order_of_rows(seed: int, tied: bool) -> None:
    X = rows_of(seed, 50, tied)
    order = np.random.default_rng(seed).permutation(50)
    tree, permuted = cosine_tree(X, 16), cosine_tree(X[order], 16)
    np.testing.assert_array_equal(permuted.weight, tree.weight)
    for theta in np.unique(tree.weight):
        labels, others = tree.labels(theta)[order], permuted.labels(theta)
        np.testing.assert_array_equal(np.equal.outer(labels, labels), np.equal.outer(others, others))


def test_a_row_of_zeros_is_one_apart_from_all(rng: np.random.Generator) -> None:
    rows = np.vstack([np.zeros(4), np.abs(rng.normal(size=(6, 4)))])
    assert (cosine_distance(rows)[0, 1:] == 1).all()
    assert cosine_tree(rows, 4).weight[-1] == 1


@pytest.mark.parametrize(("bad", "message"), [(np.nan, "row 2 holds NaN"), (np.inf, "row 2 holds NaN or infinite")])
def test_vectors_that_are_not_finite_are_refused(bad: float, message: str) -> None:
    rows = np.eye(4)
    rows[2, 1] = bad
    with pytest.raises(DataError, match=message):
        cosine_tree(rows)


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.zeros(3)])
def test_vectors_must_be_a_matrix(rows: np.ndarray) -> None:
    with pytest.raises(DataError, match="one or more companies"):
        cosine_distance(rows)


def test_the_input_is_left_alone(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(20, 3))
    before = rows.copy()
    cosine_tree(rows, 8)
    np.testing.assert_array_equal(rows, before)
