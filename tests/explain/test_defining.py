from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from companysim.explain.defining import defining_latents

MEMBER = np.arange(5) < 2
STRENGTH = np.array(
    # all members; all, but stronger; all, and an outsider; one; more frequent outside; too weak to be present
    [
        [4.0, 6.0, 9.0, 0.0, 3.0, 2.9],
        [4.0, 6.0, 9.0, 7.0, 0.0, 2.9],
        [0.0, 0.0, 9.0, 0.0, 8.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 8.0, 0.0],
        [2.9, 0.0, 0.0, 0.0, 8.0, 0.0],
    ]
)


def test_by_difference_of_shares_then_of_strengths() -> None:
    found = defining_latents(sp.csr_array(STRENGTH), MEMBER)
    assert found.tolist() == [1, 0, 2, 3]  # differences 1, 1, 2/3, 1/2; latent 4 is more frequent outside
    assert defining_latents(sp.csr_array(STRENGTH), MEMBER, 2).tolist() == [1, 0]
    assert defining_latents(sp.csr_array(STRENGTH[:, 4:]), MEMBER).tolist() == []


def test_without_outsiders_every_latent_present_counts() -> None:
    assert defining_latents(sp.csr_array(STRENGTH[:2]), np.ones(2, dtype=bool)).tolist() == [2, 1, 0, 3, 4]


@given(st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.gamma(0.3, 3.0, (20, 30)) * (rng.random((20, 30)) < 0.5)
    member, back = np.arange(20) < rng.integers(1, 19), rng.permutation(20)
    expected = defining_latents(sp.csr_array(X), member)
    assert defining_latents(sp.csr_array(X[back]), member[back]).tolist() == expected.tolist()
    present = X >= 3
    apart = present[member].mean(axis=0) - present[~member].mean(axis=0)
    assert (apart[expected] > 0).all()
    assert len(expected) == min(8, (apart > 0).sum())
    assert np.allclose(apart[expected], np.sort(apart)[::-1][: len(expected)])
