"""The whole comparison on a planted world, and at its edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from companysim.benchmark import (
    Grouping,
    benchmark,
    classification,
    interval,
    to_frame,
    top_pairs_weights,
)
from tests.benchmark.test_resampling import firm_year_bootstrap

pytestmark = pytest.mark.filterwarnings("error")  # numpy warns on its own behalf, not the caller's

N, SIZE = 40, 5
TRUTH = np.repeat(np.arange(N // SIZE), SIZE)
RESAMPLED = {"size_matched_null", "null_p", "ci95", "matched_ci95", "lead_ci95"}
Years = dict[int, np.ndarray]


def planted(rng: np.random.Generator, count: int = 3) -> Years:
    """Correlations of 0.6 inside the true groups and 0.2 across, plus noise and some missing pairs."""
    found = {}
    for year in range(2014, 2014 + count):
        noise = np.triu(rng.normal(0, 0.05, (N, N)), 1)
        noise[rng.random((N, N)) < 0.05] = np.nan
        values = np.where(np.equal.outer(TRUTH, TRUTH), 0.6, 0.2) + noise + noise.T
        np.fill_diagonal(values, np.nan)
        found[year] = values
    return found


def similarity_of(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    noise = np.triu(rng.uniform(0, 0.1, (N, N)), 1)
    full: np.ndarray = np.equal.outer(labels, labels) + noise + noise.T
    return full


def world(rng: np.random.Generator) -> list[Grouping]:
    """A method that found the truth, codes that are half right and partly missing, and a random method."""
    codes = [f"{10 + group // 2}{group % 2}0" for group in TRUTH]
    codes[3] = codes[17] = ""
    shuffled = rng.permutation(TRUTH)
    return [
        Grouping("sae", TRUTH, similarity_of(rng, TRUTH)),
        classification("sic", codes),
        Grouping("tfidf", shuffled, similarity_of(rng, shuffled)),
    ]


def rows_of(groupings: list[Grouping], correlations: Years, draws: int = 200) -> dict[str, dict[str, Any]]:
    rows = benchmark(groupings, correlations, null_draws=draws, bootstrap_draws=draws, seed=1)
    return {row["grouping"]: row for row in rows}


@pytest.fixture
def rows(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    return rows_of(world(rng), planted(rng))


def test_sic_agrees_at_four_three_and_two_digits() -> None:
    found = classification("sic", ["2834", "2836", "2890", "2834", "7372", ""])
    assert found.labels.tolist() == [0, 1, 2, 0, 3, -1]
    assert found.similarity[0].tolist() == [3.0, 2.0, 1.0, 3.0, 0.0, -1.0]


def test_gics_agrees_at_eight_six_four_and_two_digits() -> None:
    found = classification("gics", ["45103010", "45103020", "45102010", "45301020", "10101010"])
    assert found.similarity[0].tolist() == [4.0, 3.0, 2.0, 1.0, 0.0]


def test_companies_without_a_code_are_alike_with_none() -> None:
    found = classification("sic", ["", "2834", ""])
    assert found.labels.tolist() == [-1, 0, -1]
    assert found.similarity[0].tolist() == found.similarity[:, 2].tolist() == [-1.0, -1.0, -1.0]


def test_true_groups_beat_random_ones(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["sae"]["mean_correlation"] == pytest.approx(0.6, abs=0.02)
    assert rows["sae"]["pair_weighted"] == pytest.approx(0.6, abs=0.02)
    true = 4 * 0.95  # pairs measured: the others are missing, and the next nearest stands in
    assert rows["sae"]["peers5"] == pytest.approx((true * 0.6 + (5 - true) * 0.2) / 5, abs=0.02)
    assert rows["tfidf"]["pair_weighted"] < 0.4
    assert rows["sae"]["matched"]["sic"] > rows["tfidf"]["matched"]["sic"] + 0.1


def test_the_null_knows_the_planted_groups_from_random_ones(rows: dict[str, dict[str, Any]]) -> None:
    everything = rows["all_pairs"]["pair_weighted"]
    assert everything == pytest.approx(0.2 + 0.4 * (SIZE - 1) / (N - 1), abs=0.02)
    assert rows["sae"]["size_matched_null"] == pytest.approx(everything, abs=0.02)
    assert rows["sae"]["null_p"] == pytest.approx(1 / 201)
    assert rows["tfidf"]["null_p"] > 0.01


def test_intervals_hold_their_figures(rows: dict[str, dict[str, Any]]) -> None:
    for name in ("sae", "sic", "tfidf"):
        low, high = rows[name]["ci95"]
        assert low < rows[name]["pair_weighted"] < high
        low, high = rows[name]["matched_ci95"]["sic"]
        assert low < rows[name]["matched"]["sic"] < high


def test_the_first_grouping_leads_itself_by_nothing_and_chance_by_much(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["sae"]["lead_ci95"] == {"sic": [0.0, 0.0]}
    low, high = rows["tfidf"]["lead_ci95"]["sic"]
    lead = rows["sae"]["matched"]["sic"] - rows["tfidf"]["matched"]["sic"]
    assert 0 < low < lead < high


def test_matching_is_among_the_companies_that_have_the_code(rng: np.random.Generator) -> None:
    groupings, correlations = world(rng), planted(rng)
    known = np.flatnonzero(groupings[1].labels >= 0)
    pairs = sum(size * (size - 1) // 2 for size in np.bincount(groupings[1].labels[known]))
    i, j = np.triu_indices(len(known), 1)
    best = np.argsort(-groupings[0].similarity[np.ix_(known, known)][i, j])[:pairs]
    expected = np.mean([np.nanmean(values[known[i[best]], known[j[best]]]) for values in correlations.values()])
    assert rows_of(groupings, correlations, 5)["sae"]["matched"]["sic"] == pytest.approx(expected, abs=1e-12)


def test_a_scheme_at_its_own_number_of_pairs_is_its_own_grouping(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["sic"]["matched"]["sic"] == pytest.approx(rows["sic"]["pair_weighted"], abs=1e-12)


def test_the_same_seed_gives_the_same_table(rng: np.random.Generator) -> None:
    groupings, correlations = world(rng), planted(rng)
    assert rows_of(groupings, correlations, 20) == rows_of(groupings, correlations, 20)


def test_permuting_companies_changes_no_figure(rng: np.random.Generator) -> None:
    groupings, correlations, order = world(rng), planted(rng), rng.permutation(N)
    square = np.ix_(order, order)
    moved = [
        Grouping(g.name, g.labels[order], g.similarity[square], {level: own[order] for level, own in g.levels.items()})
        for g in groupings
    ]
    before = rows_of(groupings, correlations, 5)
    after = rows_of(moved, {year: values[square] for year, values in correlations.items()}, 5)
    for name, row in before.items():
        for key in row.keys() - RESAMPLED - {"grouping"}:
            assert after[name][key] == pytest.approx(row[key], abs=1e-12), (name, key)


def all_figures(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [figure for entry in value.values() for figure in all_figures(entry)]
    return list(value) if isinstance(value, list) else [value]


def test_a_scheme_no_company_has_a_code_of_gives_nan(rng: np.random.Generator) -> None:
    groupings = [*world(rng), classification("gics", [""] * N)]
    rows = rows_of(groupings, planted(rng), 20)
    empty = rows["gics"]
    assert (empty["coverage"], empty["share_of_pairs"], empty["clusters"], empty["largest"]) == (0.0, 0.0, 0, 0)
    for key in ("mean_correlation", "pair_weighted", "ci95", "size_matched_null", "null_p"):
        assert np.isnan(all_figures(empty[key])).all(), key
    for row in (rows["sae"], rows["sic"], rows["tfidf"], empty):
        figures = [row[key]["gics"] for key in ("matched", "matched_ci95", "lead_ci95")]
        assert np.isnan([x for figure in figures for x in all_figures(figure)]).all()
    assert np.isfinite(rows["sae"]["matched"]["sic"])


def test_a_method_without_a_cluster_of_two_has_no_p_value_but_still_matched_figures(rng: np.random.Generator) -> None:
    first, sic, _ = world(rng)
    rows = rows_of([first, sic, Grouping("minilm", np.arange(N), first.similarity)], planted(rng), 20)
    assert np.isnan([rows["minilm"]["mean_correlation"], rows["minilm"]["null_p"], *rows["minilm"]["ci95"]]).all()
    assert rows["minilm"]["matched"] == rows["sae"]["matched"]
    assert rows["minilm"]["lead_ci95"] == {"sic": [0.0, 0.0]}  # both in the same resamples


def test_null_draws_without_a_value_do_not_count(rng: np.random.Generator) -> None:
    values = np.full((N, N), np.nan)
    values[:6, :6] = 0.3
    np.fill_diagonal(values, np.nan)
    labels = np.r_[0, 0, np.arange(1, N - 1)]
    row = rows_of([Grouping("sae", labels, np.zeros((N, N)))], {2014: values}, 300)["sae"]
    assert row["size_matched_null"] == pytest.approx(0.3)
    assert row["null_p"] == 1.0  # every draw with a value reaches it


def test_a_single_year_is_enough(rng: np.random.Generator) -> None:
    rows = rows_of(world(rng), planted(rng, 1), 50)
    for row in rows.values():
        figures = [figure for key, value in row.items() if key != "grouping" for figure in all_figures(value)]
        assert np.isfinite(figures).all()


def test_to_frame_has_one_row_a_grouping_and_one_column_a_figure(rows: dict[str, dict[str, Any]]) -> None:
    frame = to_frame(list(rows.values()))
    assert frame["grouping"].tolist() == ["sae", "sic", "tfidf", "all_pairs"]
    assert set(frame.columns) == {
        "grouping",
        "mean_correlation",
        "pair_weighted",
        "coverage",
        "share_of_pairs",
        "lead_at_sic_low",
        "lead_at_sic_high",
        "clusters",
        "largest",
        "size_matched_null",
        "null_p",
        "peers5",
        "ci95_low",
        "ci95_high",
        "at_sic_pairs",
        "at_sic_low",
        "at_sic_high",
    }


def test_to_frame_carries_the_figures_over(rows: dict[str, dict[str, Any]]) -> None:
    frame = to_frame(list(rows.values())).set_index("grouping")
    for name in ("sae", "sic", "tfidf"):
        row, got = rows[name], frame.loc[name]
        assert [got["ci95_low"], got["ci95_high"]] == row["ci95"]
        assert [got["at_sic_low"], got["at_sic_high"]] == row["matched_ci95"]["sic"]
        assert got["at_sic_pairs"] == row["matched"]["sic"]
        assert got["peers5"] == row["peers5"]
    assert np.isnan(frame.loc["all_pairs", ["ci95_low", "at_sic_pairs", "mean_correlation"]].astype(float)).all()


def test_peers_of_a_classification_count_only_companies_with_a_code(rng: np.random.Generator) -> None:
    correlations = {2014: np.full((N, N), 0.1)}
    correlations[2014][: N // 2, : N // 2] = 0.6
    np.fill_diagonal(correlations[2014], np.nan)
    codes = ["6021"] * (N // 2) + [""] * (N - N // 2)
    assert rows_of([classification("sic", codes)], correlations, 10)["sic"]["peers5"] == pytest.approx(0.6)
    assert np.isnan(rows_of([classification("sic", [""] * N)], correlations, 10)["sic"]["peers5"])


def test_matched_intervals_resample_the_companies_with_a_code(rng: np.random.Generator) -> None:
    groupings, correlations = world(rng), planted(rng)
    known = np.flatnonzero(groupings[1].labels >= 0)
    square = np.ix_(known, known)
    pairs = sum(size * (size - 1) // 2 for size in np.bincount(groupings[1].labels[known]))
    complete = {year: np.where(np.isnan(values), 0.3, values) for year, values in correlations.items()}
    for values in complete.values():
        np.fill_diagonal(values, np.nan)
    weights = top_pairs_weights(groupings[0].similarity[square], pairs)
    draws = firm_year_bootstrap(weights, {year: values[square] for year, values in complete.items()}, 200, seed=1)
    expected = interval(draws)
    assert rows_of(groupings, complete)["sae"]["matched_ci95"]["sic"] == pytest.approx(list(expected), abs=1e-6)
