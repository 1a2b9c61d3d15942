from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from companysim.errors import DataError
from companysim.explain.matching import LatentMatch, activity, match_latents


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_renumbered_latents_are_found_whatever_their_length(seed: int, latents: int) -> None:
    rng = np.random.default_rng(seed)
    first, order = rng.normal(size=(latents, 12)), rng.permutation(latents)
    second = first[order] * rng.uniform(0.1, 9, (latents, 1))
    found = match_latents(first, second)
    assert found.other[order].tolist() == list(range(latents))
    assert found.cosine == pytest.approx(np.ones(latents))
    strength = sp.csr_array(rng.random((5, latents)))
    assert (found.renumbered(sp.csr_array(strength[:, order])) != strength).nnz == 0


def test_no_other_pairing_has_a_larger_sum() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 6, 3))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second)]
    every = [sum(unit[0][i] @ unit[1][j] for i, j in enumerate(order)) for order in permutations(range(6))]
    found = match_latents(first, second)
    assert found.cosine.sum() == pytest.approx(max(every))
    assert found.cosine == pytest.approx([unit[0][i] @ unit[1][j] for i, j in enumerate(found.other)])


def test_the_nearest_may_be_taken() -> None:
    """Both first latents are nearest to the second's 0; one to one, the pairing of the larger sum wins."""
    first, second = np.array([[1.0, 0.0], [1.0, 0.2]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    found = match_latents(first, second)
    assert found.other.tolist() == [0, 1]
    assert found.cosine == pytest.approx([1.0, 0.2 / np.sqrt(1.04)])
    assert found.shared() == 0.5
    assert found.shared(np.array([0])) == 1
    assert found.shared(np.array([1])) == 0
    assert found.shared(least=0.19) == 1
    assert found.shared(np.array([], dtype=int)) == 0


def test_a_cosine_of_the_bound_counts_and_an_opposite_does_not() -> None:
    assert LatentMatch(np.arange(3), np.array([0.7, 0.699, -0.9])).shared() == pytest.approx(1 / 3)


def test_activity_gives_correlations() -> None:
    rng = np.random.default_rng(1)
    dense = rng.random((30, 4)) * (rng.random((30, 4)) < 0.6)
    dense[:, 3] = 0
    vectors = activity(sp.csr_array(dense))
    found = match_latents(vectors, activity(sp.csr_array(dense[:, [2, 0, 1, 3]] ** 2)))
    assert found.other.tolist() == [1, 2, 0, 3]
    expected = [pd.Series(dense[:, j]).corr(pd.Series(dense[:, j] ** 2)) for j in range(3)]
    assert found.cosine == pytest.approx([*expected, 0.0])


def test_bad_input_is_refused() -> None:
    one = np.ones((3, 4))
    for other in (np.ones((2, 4)), np.ones((3, 5)), np.ones(4)):
        with pytest.raises(DataError, match="cannot be paired"):
            match_latents(one, other)
    with pytest.raises(DataError, match="cannot be paired"):
        match_latents(np.ones((0, 4)), np.ones((0, 4)))
    with pytest.raises(DataError, match="not finite"):
        match_latents(one, np.full((3, 4), np.nan))
