from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from companysim.errors import ConfigError, DataError
from companysim.explain.defining import defining_latents
from companysim.explain.stability import Stability, resampled, stability

SIZE, WIDTH = 60, 80


def world(seed: int = 0, own: int = 6) -> tuple[sp.csr_array, dict[int, np.ndarray]]:
    """Five groups of 12; group c has latents 10 c to 10 c + `own` - 1, all have noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), 12)
    X = rng.gamma(1.0, 0.5, (SIZE, WIDTH)) * (rng.random((SIZE, WIDTH)) < 0.4)
    for group in range(5):
        X[np.ix_(labels == group, np.arange(10 * group, 10 * group + own))] += 5
    return sp.csr_array(X), {group: labels == group for group in range(5)}


def test_the_latents_a_group_was_made_of_define_it() -> None:
    strength, clusters = world()
    for group, member in clusters.items():
        assert sorted(defining_latents(strength, member, 6)) == list(range(10 * group, 10 * group + 6))


def test_the_same_text_explains_the_same() -> None:
    strength, clusters = world()
    found = stability(strength, strength, clusters).table
    assert (found[["kept", "first_kept"]] == 1).all(axis=None)
    assert found["f1"].tolist() == found["f1_after"].tolist()
    assert found["size"].tolist() == [12] * 5


def test_of_half_the_latents_replaced_half_are_kept() -> None:
    """The second text has lost latents 0 to 2 of group 0 and says 6 to 8 instead."""
    strength, clusters = world()
    second = strength.toarray()
    second[:12, :3] = 0
    second[:12, 6:9] += 5
    found = stability(strength, sp.csr_array(second), clusters, k=6).table.set_index("cluster")
    assert found.loc[0, "kept"] == 0.5
    assert found.loc[1:, "kept"].tolist() == [1] * 4
    assert found.loc[1:, "f1_after"].min() == 1
    gone = strength.toarray()
    gone[:12] = 0
    found = stability(strength, sp.csr_array(gone), clusters).table.set_index("cluster")
    assert found.loc[0, ["kept", "first_kept", "f1_after"]].tolist() == [0, 0, 0]
    assert found.loc[0, "f1"] == 1


def test_halves_agree_on_real_groups_and_not_on_random_ones() -> None:
    strength, clusters = world()
    names = [f"T{i:02d}" for i in range(SIZE)]
    random = {group: np.arange(SIZE) % 5 == group for group in range(5)}  # two or three of each real group
    real, chance = (resampled(strength, groups, names, k=6, draws=4) for groups in (clusters, random))
    assert real.table["kept"].min() == 1
    assert real.table.groupby("cluster").size().tolist() == [4] * 5
    assert chance.table["kept"].mean() < 0.4
    assert (
        chance.table["f1"].mean() > chance.table["f1_after"].mean() + 0.3
    )  # found where it was searched, not elsewhere


def test_halves_depend_on_names_alone() -> None:
    strength, clusters = world(3, own=2)
    names = [f"T{i:02d}" for i in range(SIZE)]
    back = np.random.default_rng(0).permutation(SIZE)
    moved = resampled(
        sp.csr_array(strength[back]), {c: m[back] for c, m in clusters.items()}, [names[i] for i in back], draws=3
    )
    expected = resampled(strength, clusters, names, draws=3)
    pd.testing.assert_frame_equal(moved.table, expected.table)
    assert not resampled(strength, clusters, names, draws=3, seed=1).table.equals(expected.table)


def test_figures_and_summary() -> None:
    table = pd.DataFrame(
        {
            "cluster": [0, 0, 1, 1],
            "size": [4, 4, 9, 9],
            "draw": [0, 1, 0, 1],
            "kept": [0.0, 0.5, 1.0, 1.0],
            "first_kept": [1.0, 0.0, 1.0, 1.0],
            "f1": [1.0] * 4,
            "f1_after": [0.5, 0.5, 0.75, 0.25],
        }
    )
    found = Stability(table, 8)
    assert found.to_frame()["kept"].tolist() == [0.25, 1.0]
    figures = found.figures()
    assert figures["value"].tolist() == [0.625, 0.75, 1.0, 0.5]
    assert figures.loc["kept", ["low", "high"]].tolist() == [0.25, 1.0]
    assert found.summary() == (
        "2 clusters: 62% of the 8 defining latents are found again (25% to 100%); the rules' F1 goes from 1.00 to 0.50"
    )


def test_bad_input_is_refused() -> None:
    strength, clusters = world()
    names = [f"T{i:02d}" for i in range(SIZE)]
    with pytest.raises(DataError, match="the two have shapes"):
        stability(strength, strength[:5], clusters)
    with pytest.raises(ConfigError, match="k is 0"):
        stability(strength, strength, clusters, k=0)
    with pytest.raises(DataError, match="no cluster to explain"):
        stability(strength, strength, {})
    for wrong in (np.zeros(SIZE, bool), np.ones(SIZE, bool), np.ones(3, bool)):
        with pytest.raises(DataError, match="cluster 9 must have members and outsiders"):
            stability(strength, strength, {9: wrong})
    with pytest.raises(DataError, match="60 documents need"):
        resampled(strength, clusters, names[:-1])
    with pytest.raises(DataError, match="no cluster has four members"):
        resampled(strength, {0: np.arange(SIZE) < 3}, names)
