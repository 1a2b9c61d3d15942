"""Explanations of clusters on a planted one, and what a report is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from companysim.errors import ConfigError, DataError
from companysim.explain import Condition, Corpus, Rule, cluster_tables, explain_cluster, numbered
from companysim.explain.clusters import in_words, require_cluster
from tests.explain.made import corpus


@pytest.fixture
def world(rng: np.random.Generator) -> tuple[Corpus, np.ndarray, pd.DataFrame]:
    """Twelve companies: D0-D4 strong in latent 2, D5-D7 in latent 5, the others on their own."""
    matrix = rng.random((12, 20)) * (rng.random((12, 20)) < 0.5) + 0.01
    matrix[:5, 2] = 9
    matrix[5:8, 5] = 9
    labels = np.array([7, 7, 7, 7, 7, 3, 3, 3, 0, 1, 2, -1])
    made = corpus(matrix)
    return made, made.estimator.transform(made.matrix), numbered(made.tickers, labels)


def test_clusters_are_numbered_by_size_then_tickers() -> None:
    found = numbered(["B", "A", "C", "E", "D", "F", "G"], np.array([5, 5, 2, 2, 2, 9, -1]))
    assert found.to_dict("list") == {"cluster": [0, 1], "size": [3, 2], "tickers": ["C D E", "A B"]}
    assert numbered(["A", "B"], np.array([0, 1])).empty


def test_what_defines_a_cluster_is_present_inside_and_rare_outside(
    world: tuple[Corpus, np.ndarray, pd.DataFrame],
) -> None:
    made, vectors, clusters = world
    found = explain_cluster(made, vectors, clusters, 0)
    first = found.latents.iloc[0]
    assert (first["latent"], first["inside"], first["label"], first["method"]) == (2, 1.0, "word 2", "terms")
    strength = made.strength.toarray()
    for row in found.latents.itertuples():
        present = strength[:, row.latent] >= 3
        assert row.inside == pytest.approx(present[:5].mean())
        assert row.outside == pytest.approx(present[5:].mean())
        assert row.ticker == f"D{strength[:5, row.latent].argmax()}"
    assert (found.latents["inside"] > found.latents["outside"]).all()
    assert first["sentence"] == "It drills <<wells.>>" or first["sentence"] == "It drills <<wells>>."
    assert found.rule.f1 == 1
    assert found.rule.conditions[0].latent == 2
    assert (found.held_out_precision, found.held_out_recall) == (1, 1)


def test_members_are_compared_with_the_rest_and_with_other_clusters(
    world: tuple[Corpus, np.ndarray, pd.DataFrame],
) -> None:
    made, vectors, clusters = world
    found = explain_cluster(made, vectors, clusters, 0)
    similarity = vectors @ vectors.T
    table = found.members.set_index("ticker")
    for number in range(5):
        rest = [other for other in range(5) if other != number]
        assert table.loc[f"D{number}", "similarity"] == pytest.approx(similarity[number, rest].mean())
        assert table.loc[f"D{number}", "nearest"] == 1
        assert table.loc[f"D{number}", "nearest_similarity"] == pytest.approx(similarity[number, 5:8].mean())
    assert found.members["similarity"].is_monotonic_decreasing
    assert found.outliers["ticker"].tolist() == found.members["ticker"].tolist()[::-1][:3]
    assert found.similarity == pytest.approx(similarity[:5, :5][np.triu_indices(5, 1)].mean())


def test_the_nearest_other_cluster_is_the_most_similar_one() -> None:
    vectors = np.array([[1.0, 0], [1, 0], [0.9, 0.4], [0.9, 0.4], [0, 1], [0, 1]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = corpus(np.eye(6) + 0.1)
    clusters = numbered(made.tickers, np.array([0, 0, 1, 1, 2, 2]))
    found = [explain_cluster(made, vectors, clusters, number).members for number in range(3)]
    assert [set(table["nearest"]) for table in found] == [{1}, {0}, {1}]
    assert found[2]["nearest_similarity"].iloc[0] == pytest.approx(vectors[4] @ vectors[2])


def test_return_correlations_are_means_of_pairs(world: tuple[Corpus, np.ndarray, pd.DataFrame]) -> None:
    made, vectors, clusters = world
    table = np.full((12, 12), 0.2)
    table[:5, :5] = 0.6
    table[0, 1] = table[1, 0] = np.nan
    found = explain_cluster(made, vectors, clusters, 0, correlations=table)
    assert found.mean_correlation == pytest.approx(0.6)
    assert found.usual_correlation == pytest.approx((9 * 0.6 + 56 * 0.2) / 65)
    assert "mean return correlation 0.600 (all pairs 0.255)" in found.headline()
    silent = explain_cluster(made, vectors, clusters, 0)
    assert silent.mean_correlation is None
    assert "correlation" not in silent.headline()
    table[:5, :5] = np.nan  # no member has a price
    unknown = explain_cluster(made, vectors, clusters, 0, correlations=table)
    assert (unknown.mean_correlation, unknown.usual_correlation) == (None, pytest.approx(0.2))
    assert "correlation" not in unknown.headline()
    facts, _ = cluster_tables(made, vectors, clusters, table)
    assert facts["mean_correlation"].isna().tolist() == [True, False]


def test_codes_are_counted_and_named(world: tuple[Corpus, np.ndarray, pd.DataFrame]) -> None:
    made, vectors, clusters = world
    found = explain_cluster(made, vectors, clusters, 0)
    counts = {(row.scheme, row.code): row.companies for row in found.codes.itertuples()}
    assert counts == {("sic", "13"): 4, ("sic", ""): 1, ("gics", "10"): 4, ("gics", ""): 1}
    assert found.codes_sentence() == "SIC: 13 4, unknown 1; GICS: Energy 4, unknown 1."


def test_a_cluster_of_two_has_no_outliers_and_a_lone_company_no_cluster(
    world: tuple[Corpus, np.ndarray, pd.DataFrame],
) -> None:
    made, vectors, _ = world
    clusters = numbered(made.tickers, np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))
    found = explain_cluster(made, vectors, clusters, 0)
    assert found.outliers.empty
    assert found.outliers_sentence() == ""
    assert found.members["nearest"].tolist() == [-1, -1]  # there is no other cluster
    with pytest.raises(DataError, match=r"D5 is in no sic cluster of two or more: `companysim peers D5`"):
        require_cluster(clusters, "D5", "sic")
    assert require_cluster(clusters, "D1", "sic") == 0


def test_unknown_clusters_and_counts_are_refused(world: tuple[Corpus, np.ndarray, pd.DataFrame]) -> None:
    made, vectors, clusters = world
    for wrong in (2, -1):
        with pytest.raises(ConfigError, match=f"no cluster {wrong} in this run: it has 2, numbered from 0"):
            explain_cluster(made, vectors, clusters, wrong)
    with pytest.raises(ConfigError, match="it has none of two or more"):
        explain_cluster(made, vectors, clusters.head(0), 0)
    with pytest.raises(ConfigError, match="at least one latent"):
        explain_cluster(made, vectors, clusters, 0, k=0)


def test_a_cluster_of_everyone_is_explained_without_others(rng: np.random.Generator) -> None:
    made = corpus(rng.random((3, 6)) + 0.1)
    clusters = numbered(made.tickers, np.zeros(3, dtype=int))
    found = explain_cluster(made, made.estimator.transform(made.matrix), clusters, 0)
    assert (found.rule.precision, found.rule.recall) == (1, 1)
    assert "Least similar" in found.summary()


def test_tables_for_the_report(world: tuple[Corpus, np.ndarray, pd.DataFrame]) -> None:
    made, vectors, clusters = world
    facts, latents = cluster_tables(made, vectors, clusters, k=4)
    assert facts.columns.tolist()[:7] == [
        "cluster", "size", "companies", "mean_correlation", "rule", "precision", "recall",
    ]  # fmt: skip
    assert facts["companies"].tolist() == ["D0 D1 D2 D3 D4", "D5 D6 D7"]
    assert facts["mean_correlation"].isna().all()
    assert latents.columns.tolist() == ["cluster", "rank", "latent", "inside", "outside", "label"]
    assert latents.groupby("cluster")["rank"].first().tolist() == [1, 1]
    assert latents[latents["rank"] == 1]["latent"].tolist() == [2, 5]
    none = cluster_tables(made, vectors, clusters.head(0))
    assert [len(table) for table in none] == [0, 0]
    assert none[1].columns.tolist() == latents.columns.tolist()


def test_labels_may_change_without_changing_the_rule(world: tuple[Corpus, np.ndarray, pd.DataFrame]) -> None:
    made, vectors, clusters = world
    renamed = replace(made, labels=made.labels.assign(label="new", method="llm x"))
    before, after = (explain_cluster(c, vectors, clusters, 0) for c in (made, renamed))
    assert after.rule == before.rule
    assert set(after.latents["method"]) == {"llm x"}
    assert '"new" (latent 2)' in after.rule_text


def test_a_rule_in_words() -> None:
    rule = Rule((Condition(0, 0.0), Condition(1, 12.345)), 0.5, 1.0)
    assert in_words(rule, ["oil, gas", ""]) == (
        '"oil, gas" (latent 0) fires and (no label) (latent 1) is 12 times average or more'
    )
    assert rule.f1 == pytest.approx(2 / 3)
    assert Rule((), 0.0, 0.0).f1 == 0
