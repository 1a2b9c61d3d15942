"""Every figure of a comparison against loops, its intervals and p-values against planted truths, and its edges."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from companysim.benchmark import Comparison, Grouping, classification, compare, partition, rank_correlation
from companysim.benchmark.metrics import similarity_ranks, value_ranks
from companysim.benchmark.resampling import Resamples
from companysim.benchmark.weights import Pairs, ranking
from companysim.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("error")

N = 36
SIC = [f"{10 + g // 4}{g // 2 % 2}{g % 2}" + "0" for g in np.repeat(np.arange(12), 3)]
Years = dict[int, np.ndarray]


def correlations_of(rng: np.random.Generator, years: int = 3, missing: float = 0.0) -> Years:
    """Higher where codes agree."""
    similarity = classification("sic", SIC).similarity
    found = {}
    for year in range(2018, 2018 + years):
        noise = np.triu(rng.normal(0, 0.1, (N, N)), 1)
        noise[rng.random((N, N)) < missing] = np.nan
        values = 0.2 + 0.15 * similarity + noise + noise.T
        np.fill_diagonal(values, np.nan)
        found[year] = values
    return found


def noisy(rng: np.random.Generator, name: str, noise: float) -> Grouping:
    """A similarity that follows the codes up to noise, with clusters of three."""
    upper = np.triu(rng.normal(0, noise, (N, N)), 1)
    return Grouping(name, np.repeat(np.arange(12), 3), classification("sic", SIC).similarity + upper + upper.T)


@pytest.fixture
def world(rng: np.random.Generator) -> tuple[list[Grouping], Years]:
    return [noisy(rng, "good", 0.2), noisy(rng, "bad", 30.0), classification("sic", SIC)], correlations_of(rng)


def fast(groupings: object, correlations: Years, **settings: object) -> Comparison:
    return compare(groupings, correlations, **({"null_draws": 50, "bootstrap_draws": 100} | settings))  # type: ignore[arg-type]


def pairs_of(rows: np.ndarray) -> list[tuple[int, int]]:
    return list(combinations(rows.tolist(), 2))


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_every_figure_equals_a_loop(rng: np.random.Generator, missing: float) -> None:
    groupings, correlations = [noisy(rng, "good", 0.2), classification("sic", SIC)], correlations_of(rng, 2, missing)
    found = fast(groupings, correlations)
    similarity = groupings[0].similarity
    expected: dict[str, list[float]] = {}
    for values in correlations.values():
        there = [(i, j) for i, j in pairs_of(np.arange(N)) if not np.isnan(values[i, j])]
        there.sort(key=lambda p: -similarity[p])
        for digits in (4, 3, 2):
            count = sum(SIC[i][:digits] == SIC[j][:digits] for i, j in there)
            expected.setdefault(f"at_sic{digits}_pairs", []).append(np.mean([values[p] for p in there[:count]]))
        inside = [(i, j) for i, j in there if SIC[i][:2] == SIC[j][:2]]
        half = len(inside) / 2
        taken = [values[p] for p in inside[: int(half)]]
        more = [values[inside[int(half)]]] if half % 1 else []
        mean = (np.sum(taken) + 0.5 * np.sum(more)) / half
        expected.setdefault("lift_in_sic2", []).append(mean - np.mean([values[p] for p in inside]))
        for name, allowed in (("peers5", there), ("peers5_in_sic2", inside)):
            companies = []
            for i in range(N):
                mine = [p for p in allowed if i in p][:5]
                companies.extend([np.mean([values[p] for p in mine])] if mine else [])
            expected.setdefault(name, []).append(np.mean(companies))
        x, y = [similarity[p] for p in there], [values[p] for p in there]
        expected.setdefault("rho", []).append(spearmanr(x, y).statistic)
    for figure, yearly in expected.items():
        assert found.value("good", figure) == pytest.approx(np.mean(yearly), abs=1e-12), figure
        series = found.yearly[(found.yearly["grouping"] == "good") & (found.yearly["figure"] == figure)]
        assert series.sort_values("year")["value"].tolist() == pytest.approx(yearly, abs=1e-12)


def test_spearman_of_a_coarse_similarity_equals_scipy(rng: np.random.Generator) -> None:
    similarity, values = classification("sic", SIC).similarity, correlations_of(rng, 1, 0.2)[2018]
    i, j = np.triu_indices(N, 1)
    seen = np.isfinite(values[i, j])
    expected = spearmanr(similarity[i, j][seen], values[i, j][seen]).statistic
    assert rank_correlation(similarity, values) == pytest.approx(expected, abs=1e-12)


def test_a_scheme_has_no_lift_inside_its_own_finest_groups(world: tuple[list[Grouping], Years]) -> None:
    found = fast(*world)
    assert found.value("sic", "lift_in_sic4") == pytest.approx(0, abs=1e-12)
    assert found.value("sic", "lift_in_sic2") > 0.02
    assert found.value("sic", "at_sic4_pairs") == pytest.approx(found.value("sic", "pair_weighted"), abs=1e-12)


def test_capping_takes_a_dominant_group_out(rng: np.random.Generator) -> None:
    codes = ["6021"] * 20 + [f"{10 + i // 2}00" for i in range(16)]
    values = np.where(np.equal.outer(np.array(codes), np.array(codes)), 0.3, 0.1)
    values[:20, :20] = 0.8  # banks move together, and a method that finds only banks looks good
    np.fill_diagonal(values, np.nan)
    upper = np.triu(rng.random((36, 36)), 1)
    banks = np.zeros((36, 36))
    banks[:20, :20] = 2
    method = Grouping("banks", np.arange(36), banks + upper + upper.T)
    found = fast([method, classification("sic", codes)], {2019: values})
    assert found.value("banks", "at_sic4_pairs") > 0.75
    assert found.value("banks", "at_sic4_pairs_capped") < 0.2


def test_intervals_hold_their_figures_and_differences_theirs(world: tuple[list[Grouping], Years]) -> None:
    found = fast(*world, bootstrap_draws=400)
    e = found.estimates[found.estimates["grouping"] == "good"]
    inside = (e["low"] <= e["value"]) & (e["value"] <= e["high"])
    assert inside.mean() > 0.9
    d = found.differences.set_index(["figure", "first", "second"])
    row = d.loc[("at_sic4_pairs", "good", "bad")]
    expected = found.value("good", "at_sic4_pairs") - found.value("bad", "at_sic4_pairs")
    assert row["difference"] == pytest.approx(expected)
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert row["p_value"] == pytest.approx(2 / 401)
    assert row["p_value"] <= row["p_bh"] <= row["p_by"] <= 1


def test_two_names_for_one_similarity_do_not_differ(world: tuple[list[Grouping], Years]) -> None:
    groupings, correlations = world
    good = groupings[0]
    twin = Grouping("twin", good.labels, good.similarity.copy())
    d = fast([good, twin, groupings[2]], correlations).differences
    d = d[(d["first"] == "good") & (d["second"] == "twin")]
    assert len(d) == 15
    assert (d[["difference", "low", "high"]] == 0).all(axis=None)
    assert (d["p_value"] == 1).all()


def test_rho_of_a_draw_equals_the_weighted_correlation_of_ranks(rng: np.random.Generator) -> None:
    values, similarity = correlations_of(rng, 1, 0.1)[2018], noisy(rng, "g", 1.0).similarity
    ranked = ranking(similarity).among(np.isfinite(values))
    x, y = similarity_ranks(ranked), value_ranks(ranked, values)
    resamples = Resamples(N, 1, 20, seed=3)
    drawn = resamples.rank_correlation(ranked, x, y)
    for draw in range(20):
        m = resamples.firms[:, draw]
        times = (m[ranked.i] * m[ranked.j]).astype(int)
        expected = np.corrcoef(np.repeat(x, times), np.repeat(y, times))[0, 1]
        assert drawn[draw] == pytest.approx(expected, abs=1e-4)


def test_a_draw_of_firms_equals_repeating_its_pairs(rng: np.random.Generator) -> None:
    values = correlations_of(rng, 1, 0.1)[2018]
    i, j = np.nonzero(np.triu(rng.random((N, N)) < 0.2, 1))
    weight = rng.random(len(i))
    resamples = Resamples(N, 1, 10, seed=3)
    drawn = resamples.year(Pairs(i, j, weight), values)
    seen = np.isfinite(values[i, j])
    for draw in range(10):
        m = resamples.firms[:, draw]
        assert m.sum() == N
        w = (weight * m[i] * m[j])[seen]
        assert drawn[draw] == pytest.approx(w @ values[i, j][seen] / w.sum(), abs=1e-6)


def test_without_a_year_is_the_comparison_of_the_others(world: tuple[list[Grouping], Years]) -> None:
    groupings, correlations = world
    both = fast(groupings, correlations, without=[2019, 1990])
    assert both.estimates["years"].unique().tolist() == ["all", "without 2019"]
    rest = fast(groupings, {year: values for year, values in correlations.items() if year != 2019})
    for name in ("good", "bad", "sic"):
        for figure in ("at_sic4_pairs", "mean_correlation", "rho", "peers5", "lift_in_sic2"):
            assert both.value(name, figure, "without 2019") == pytest.approx(rest.value(name, figure), abs=1e-12)
    with pytest.raises(ConfigError, match="without 1990"):
        both.to_frame("without 1990")


def test_groupings_may_change_from_year_to_year(rng: np.random.Generator) -> None:
    correlations = correlations_of(rng, 2)
    sic, good = classification("sic", SIC), noisy(rng, "good", 0.2)
    late = Grouping("late", good.labels, good.similarity)
    found = fast({2018: [good, sic], 2019: [good, late, sic]}, correlations)
    same = fast([good, sic], correlations)
    for figure in ("at_sic4_pairs", "pair_weighted", "rho"):
        assert found.value("good", figure) == pytest.approx(same.value("good", figure), abs=1e-12)
        own = found.yearly[(found.yearly["grouping"] == "late") & (found.yearly["figure"] == figure)].set_index("year")
        assert np.isnan(own.loc[2018, "value"])
        assert found.value("late", figure) == pytest.approx(own.loc[2019, "value"])


def test_a_company_without_returns_in_a_year_does_not_exist_in_it(rng: np.random.Generator) -> None:
    correlations = correlations_of(rng, 1)
    correlations[2018][:6] = correlations[2018][:, :6] = np.nan
    groupings = [noisy(rng, "good", 0.2), classification("sic", SIC)]
    rest = np.ix_(range(6, N), range(6, N))
    short = [
        Grouping("good", groupings[0].labels[6:], groupings[0].similarity[rest]),
        classification("sic", SIC[6:]),
    ]
    whole, part = fast(groupings, correlations), fast(short, {2018: correlations[2018][rest]})
    for table in ("estimates", "partitions"):
        drop = ["low", "high", "size_matched_null", "null_low", "null_high", "null_p"]
        first, second = (getattr(c, table).drop(columns=drop, errors="ignore") for c in (whole, part))
        pd.testing.assert_frame_equal(first, second)
    assert whole.counts.loc[0, "companies"] == 30


def test_permuting_companies_changes_no_figure(world: tuple[list[Grouping], Years], rng: np.random.Generator) -> None:
    groupings, correlations = world
    order = rng.permutation(N)
    square = np.ix_(order, order)
    moved = [Grouping(g.name, g.labels[order], g.similarity[square]) for g in groupings[:2]]
    moved.append(classification("sic", [SIC[i] for i in order]))
    first, second = fast(groupings, correlations), fast(moved, {y: v[square] for y, v in correlations.items()})
    np.testing.assert_allclose(first.estimates["value"], second.estimates["value"], atol=1e-12)


def test_edges_are_nan_not_errors() -> None:
    lonely = {2018: np.full((1, 1), np.nan)}
    found = fast([partition("p", ["a"])], lonely)
    assert found.estimates["value"].isna().all()
    empty = {2018: np.full((4, 4), np.nan)}
    found = fast([partition("p", list("aabb")), classification("sic", ["1000", "", "2000", ""])], empty)
    assert found.estimates["value"].isna().all()
    assert found.counts.loc[0, "pairs"] == 0
    constant = np.full((4, 4), 0.3)
    np.fill_diagonal(constant, np.nan)
    found = fast([partition("p", ["a", "a", None, ""])], {2018: constant})
    assert np.isnan(found.value("p", "rho"))  # all correlations tie
    assert found.value("p", "pair_weighted") == pytest.approx(0.3)
    assert found.summary()


def test_wrong_arrays_are_refused(world: tuple[list[Grouping], Years]) -> None:
    groupings, correlations = world
    with pytest.raises(DataError, match="no year"):
        fast(groupings, {})
    with pytest.raises(DataError, match="name"):
        fast([groupings[0], groupings[0]], correlations)
    with pytest.raises(DataError, match="align"):
        fast([partition("p", ["a", "b"])], correlations)
    with pytest.raises(DataError, match="shape"):
        fast(groupings, correlations | {2030: np.zeros((3, 3))})


def test_the_wide_table_has_a_row_a_grouping(world: tuple[list[Grouping], Years]) -> None:
    found = fast(*world)
    wide = found.to_frame().set_index("grouping")
    assert wide.index.tolist() == ["all_pairs", "good", "bad", "sic"]
    assert wide.loc["good", "peers5"] == found.value("good", "peers5")
    assert wide.loc["good", "peers5_low"] <= wide.loc["good", "peers5"] <= wide.loc["good", "peers5_high"]
    assert wide.loc["sic", "coverage"] == 1
    assert np.isnan(wide.loc["all_pairs", "rho"])
    assert "good" in found.summary()


def test_a_partition_ignores_missing_and_negative_groups() -> None:
    found = partition("p", [3, 3.0, -1, None, np.nan, "", "3", 7])
    assert found.labels.tolist() == [0, 0, -1, -1, -1, -1, 0, 1]
    assert found.similarity[0, 1] == 1
    assert found.similarity[2].sum() == 0


def test_fama_french_industries_are_one_level() -> None:
    found = classification("ff48", ["Banks", "Oil", "Banks", ""])
    assert list(found.levels) == ["ff48"]
    assert found.similarity.tolist() == [[1, 0, 1, -1], [0, 1, 0, -1], [1, 0, 1, -1], [-1, -1, -1, -1]]
