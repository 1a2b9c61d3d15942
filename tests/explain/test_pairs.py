"""Explanations of pairs: contributions add up, what is usual does not count, what separates fires in one alone."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics.pairwise import cosine_similarity

from companysim.errors import ConfigError, DataError
from companysim.explain import explain_pair, shared_latents, unit_latents
from companysim.explain.pairs import COLUMNS, usual_contribution
from companysim.similarity import LogIdfCosine, PcaCosine, Similarity
from tests.explain.made import corpus

#: Latent 0 is everyone's, 1 is shared by D0 and D1, 2 is D0's, 3 is D1's and faintly D0's, 4 is weak.
MATRIX = np.array(
    [
        [8.0, 6, 9, 0.2, 0.1, 0],
        [8, 6, 0, 9.0, 0.1, 0],
        [8, 0, 0, 0.0, 0.1, 3],
        [8, 0, 0, 0.0, 0.0, 3],
    ]
)


def test_what_everyone_has_is_no_reason() -> None:
    found = explain_pair(corpus(MATRIX), 0, 1)
    shared = found.side("shared")
    assert shared["latent"].tolist()[0] == 1
    assert 0 not in shared["latent"].tolist()
    assert found.similarity == pytest.approx(cosine_similarity(MATRIX)[0, 1])
    unit = MATRIX / np.linalg.norm(MATRIX, axis=1, keepdims=True)
    assert shared["contribution"].iloc[0] == pytest.approx(unit[0, 1] * unit[1, 1])
    assert shared["share"].iloc[0] == pytest.approx(unit[0, 1] * unit[1, 1] / found.similarity)
    assert found.usual == pytest.approx((unit.mean(axis=0) ** 2).sum())
    without = MATRIX.copy()
    without[:, 1] = 0
    assert shared["drop"].iloc[0] == pytest.approx(found.similarity - cosine_similarity(without)[0, 1])


def test_what_exceeds_the_usual_ranks_before_what_is_larger_but_usual() -> None:
    found = explain_pair(corpus(np.array([[8.0, 6, 0], [8, 6, 0], *[[6.0, 0, 8]] * 4])), 0, 1)
    assert found.side("shared")["latent"].tolist() == [1, 0]
    assert found.side("shared")["contribution"].tolist() == pytest.approx([0.36, 0.64])
    assert found.side("shared")["usual"].tolist() == pytest.approx([0.2**2, (2 / 3) ** 2])


def test_what_separates_is_strong_in_one_and_faint_or_absent_in_the_other() -> None:
    strong = np.array([[6.0, 9, 0, 0, 0, 0, 0, 1], [6, 0.2, 9, 0.5, 0.5, 0.5, 0.5, 1], [1, 1, 1, 1, 1, 1, 1, 1]])
    strong = np.hstack([strong, np.full((3, 12), 0.2)])
    found = explain_pair(corpus(strong), 0, 1)
    assert found.side("first")["latent"].tolist() == [1]
    assert found.side("second")["latent"].tolist() == [2]
    assert (found.side("first")["drop"] < 0).all()
    row = found.side("second").to_dict("records")[0]
    assert row["sentence_1"] is None
    assert found.sentences("second", row) == [("D1", row["sentence_2"])]


def test_a_latent_that_is_only_weaker_in_the_other_does_not_separate() -> None:
    matrix = np.hstack([[[9.0, 9, 1], [9, 2, 8], [1, 1, 1]], np.full((3, 12), 0.2)])
    without = matrix.copy()
    without[:, 1] = 0
    assert cosine_similarity(without)[0, 1] > cosine_similarity(matrix)[0, 1]  # though it does lower the similarity
    found = explain_pair(corpus(matrix), 0, 1)
    assert 1 not in found.side("first")["latent"].tolist()
    faint = np.where(matrix == 2, 0.8, matrix)
    assert 1 in explain_pair(corpus(faint), 0, 1).side("first")["latent"].tolist()


@pytest.mark.parametrize("estimator", [LogIdfCosine(), PcaCosine(0.99)])
def test_other_similarities_are_explained_too(estimator: Similarity, rng: np.random.Generator) -> None:
    matrix = rng.random((12, 30)) * (rng.random((12, 30)) < 0.4)
    made = corpus(matrix, estimator=estimator)
    vectors = made.estimator.transform(sp.csr_array(matrix.astype(np.float32)))
    found = explain_pair(made, 3, 5, k=40)
    assert found.similarity == pytest.approx(float(vectors[3] @ vectors[5]), abs=1e-6)
    table = found.side("shared")
    assert (table["contribution"] > table["usual"]).all()
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    excess = table["contribution"] - table["usual"]
    assert excess.is_monotonic_decreasing
    if isinstance(estimator, PcaCosine):
        assert not usual_contribution(made).any()


def test_sentences_are_those_in_which_the_latent_fires() -> None:
    found = explain_pair(corpus(MATRIX), 0, 1)
    row = found.side("shared").iloc[0]
    assert row["latent"] == 1
    assert row["sentence_1"] == row["sentence_2"] == "It <<drills>> wells."


def test_a_pair_without_common_latents_is_said_to_have_none() -> None:
    found = explain_pair(corpus(np.array([[3.0, 2, 0, 0], [0, 0, 4, 1], [1, 1, 1, 1]])), 0, 1)
    assert found.similarity == 0
    assert found.side("shared").empty
    assert found.table["share"].isna().all()
    assert found.verdict() == "D0 and D1 share no latent beyond what two average companies share."
    assert found.verdict() in found.summary()


def test_of_a_similarity_that_latents_exceed_there_are_no_shares(rng: np.random.Generator) -> None:
    """Standardised rows have contributions of both signs: a share of what is left of them says nothing."""
    matrix = rng.random((12, 30)) * (rng.random((12, 30)) < 0.4)
    made = corpus(matrix, estimator=PcaCosine(0.99))
    similarity = made.estimator.transform(made.matrix)
    similarity = similarity @ similarity.T
    first, second = np.triu_indices(12, 1)
    order = np.argsort(np.abs(similarity[first, second]))
    pairs = list(zip(first[order].tolist(), second[order].tolist(), strict=True))
    negative = next(pair for pair in pairs if similarity[pair] < 0)
    small = next(pair for pair in pairs if similarity[pair] > 0)
    for pair in (negative, small):
        found = explain_pair(made, *pair)
        assert len(found.side("shared"))
        assert found.table["share"].isna().all()
        assert found.measure("shared") == "contribution"
        row = found.side("shared").to_dict("records")[0]
        assert f"(latent {row['latent']}, terms; contribution +{row['contribution']:.4f})" in found.summary()
        assert "%" not in found.summary()
        assert "nan" not in found.summary()
    usual = explain_pair(corpus(MATRIX), 0, 1)
    row = usual.side("shared").to_dict("records")[0]
    assert (usual.measure("shared"), usual.figure("shared", row)) == ("share", f"{100 * row['share']:.1f}%")
    assert usual.table["share"].between(0, 1).all()
    alone = explain_pair(corpus(np.array([[0.3, 0, 0], [0.7, 0, 0], [0, 1, 1]])), 0, 1)
    assert alone.side("shared")["share"].tolist() == pytest.approx([1])


def test_k_limits_each_side_and_is_checked(rng: np.random.Generator) -> None:
    made = corpus(rng.random((5, 40)))
    assert len(explain_pair(made, 0, 1, k=3).side("shared")) == 3
    with pytest.raises(ConfigError, match="at least one latent"):
        explain_pair(made, 0, 1, k=0)
    with pytest.raises(DataError, match="D2 is compared with itself: give two different companies"):
        explain_pair(made, 2, 2)


def test_the_pair_may_be_given_either_way(rng: np.random.Generator) -> None:
    made = corpus(rng.random((6, 30)) * (rng.random((6, 30)) < 0.5))
    one, two = explain_pair(made, 1, 4), explain_pair(made, 4, 1)
    assert one.similarity == pytest.approx(two.similarity)
    assert one.side("shared")["latent"].tolist() == two.side("shared")["latent"].tolist()
    assert one.side("first")["latent"].tolist() == two.side("second")["latent"].tolist()


def test_frame_and_summary_hold_everything() -> None:
    found = explain_pair(corpus(MATRIX, labels=["all", "wells", "rigs", "oil", "", ""]), 0, 1, correlation=0.25)
    frame = found.to_frame()
    assert frame.columns.tolist() == [*COLUMNS, "sentence_1", "sentence_2"]
    frame.loc[:, "label"] = "spoilt"
    assert "spoilt" not in found.table["label"].tolist()
    text = found.summary()
    assert text.startswith("D0 (Company 0) and D1 (Company 1): similarity 0.")
    assert "return correlation 0.25." in text
    assert "  1. wells (latent 1, terms; " in text
    assert "     D1: It <<drills>> wells." in text


def test_shared_latents_count_what_exceeds_the_usual() -> None:
    first, second = np.array([0.9, 0.4, 0.1, 0.0]), np.array([0.9, 0.5, 0.2, 0.7])
    usual = np.array([0.9, 0.1, 0.1, 0.0])  # everyone has latent 0
    for one, other in ((first, second), (second, first)):
        row = sp.csr_array(other[None])
        assert shared_latents(one, row, usual).tolist() == [1, 2]
        assert shared_latents(one, row, usual, count=1).tolist() == [1]


def test_unit_latents_have_norm_one_and_empty_rows_stay_empty() -> None:
    unit = unit_latents(sp.csr_array(np.array([[3.0, 4.0], [0.0, 0.0]])))
    assert unit.toarray().ravel() == pytest.approx([0.6, 0.8, 0, 0])
    assert unit.nnz == 2  # as sparse as it came
