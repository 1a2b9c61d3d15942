"""Layer groups: distances against the formula token by token, groups against every possible cut."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from transformers import LlamaModel

from companysim.encoding.llm import ResidualStream
from companysim.errors import ConfigError, DataError
from companysim.sae_training.groups import amad, angular_distances, contiguous_groups

TEXTS = ["crude oil and gas wells", "a bank that lends"]


@pytest.fixture(scope="module")
def uncut(llm_path: Path) -> ResidualStream:
    return ResidualStream(str(llm_path), "", window=64, overlap=0, batch_tokens=256, massive=float("inf"))


def random_distances(layers: int, seed: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).random((layers, layers)), 1)
    return upper + upper.T


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6), st.data())
def test_groups_are_the_best_of_all_cuts(layers: int, seed: int, data: st.DataObject) -> None:
    distances = random_distances(layers, seed)
    groups = data.draw(st.integers(1, layers))
    found = contiguous_groups(distances, groups)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == layers
    assert all(start < stop for start, stop in found)
    every = [list(zip((0, *cuts), (*cuts, layers), strict=True)) for cuts in combinations(range(1, layers), groups - 1)]
    assert len(found) == groups
    assert amad(distances, found) == pytest.approx(min(amad(distances, bounds) for bounds in every))


def test_amad_by_hand() -> None:
    distances = np.array([[0, 0.1, 0.4], [0.1, 0, 0.2], [0.4, 0.2, 0]])
    assert amad(distances, [(0, 3)]) == 0.4
    assert amad(distances, [(0, 2), (2, 3)]) == pytest.approx(0.05)
    assert contiguous_groups(distances, 2) == [(0, 2), (2, 3)]
    assert contiguous_groups(np.zeros((4, 4)), 2) == [(0, 3), (3, 4)]  # of ties, larger groups first


def test_never_worse_than_hierarchical_clustering_as_published() -> None:
    # Distances that grow with depth, as residual streams have; complete linkage then gives contiguous groups.
    for seed in range(20):
        at = np.cumsum(np.random.default_rng(seed).random(9))
        distances = np.abs(at[:, None] - at)
        for groups in range(1, 10):
            labels = fcluster(linkage(squareform(distances), "complete"), groups, "maxclust")
            starts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist()]
            bounds = list(zip(starts, [*starts[1:], 9], strict=True))
            assert amad(distances, contiguous_groups(distances, groups)) <= amad(distances, bounds) + 1e-12


def test_distances_are_mean_angles(uncut: ResidualStream, whole: LlamaModel) -> None:
    found = angular_distances(uncut, TEXTS)
    assert found.hooks == ("layers.0", "layers.1", "layers.2", "layers.3")
    assert found.tokens == sum(map(len, TEXTS))
    angles = np.zeros((3, 3))
    for text in TEXTS:
        ids = torch.tensor([[0, *uncut.tokenise([text])[0][0].tolist()]])
        with torch.no_grad():
            states = whole(ids, output_hidden_states=True).hidden_states
        rows = [state[0, 1:].double().numpy() for state in states[1:4]]  # the last is past the final norm
        for i in range(3):
            for j in range(3):
                norms = np.linalg.norm(rows[i], axis=1) * np.linalg.norm(rows[j], axis=1)
                angles[i, j] += np.arccos(np.clip((rows[i] * rows[j]).sum(1) / norms, -1, 1)).sum() / np.pi
    np.testing.assert_allclose(found.distances[:3, :3], angles / found.tokens, atol=2e-4)
    assert np.array_equal(found.distances, found.distances.T)
    chosen = angular_distances(uncut, TEXTS[::-1], ["layers.1", "layers.2"])
    np.testing.assert_allclose(chosen.distances[0, 1], found.distances[1, 2], atol=1e-6)


def test_frame_and_groups_of_hooks(uncut: ResidualStream) -> None:
    found = angular_distances(uncut, TEXTS)
    frame = found.to_frame()
    assert frame["groups"].tolist() == [1, 2, 3, 4]
    assert frame["amad"].iloc[0] == found.distances.max()
    assert frame["amad"].iloc[-1] == 0
    assert [len(names.split()) for names in frame["layers"]] == [1, 2, 3, 4]
    assert found.into(4) == [["layers.0"], ["layers.1"], ["layers.2"], ["layers.3"]]
    with pytest.raises(ConfigError, match="4 layers do not make 5 groups: choose 1 to 4"):
        found.into(5)


def test_no_text_is_refused(uncut: ResidualStream) -> None:
    with pytest.raises(DataError, match="give more text"):
        angular_distances(uncut, [""])
