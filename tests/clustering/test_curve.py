"""The curve against brute force at every threshold, and returns against their correlation matrix."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.benchmark.metrics import score_partition
from companysim.clustering import ReturnCorrelations, correlation_curve, returns, spanning_tree
from companysim.errors import DataError

FIGURES = ("mean_correlation", "pair_weighted", "coverage", "share_of_pairs", "clusters", "largest")


def world(seed: int, n: int, tied: bool, missing: float) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric distances and correlations, some of them NaN."""
    rng = np.random.default_rng(seed)
    distance = rng.integers(1, 5, (n, n)).astype(float) if tied else rng.uniform(0, 2, (n, n))
    values = np.where(rng.random((n, n)) < missing, np.nan, rng.uniform(-1, 1, (n, n)))
    for matrix in (distance, values):
        matrix[np.tril_indices(n)] = matrix.T[np.tril_indices(n)]
    return distance, values


def brute_force(distance: np.ndarray, values: np.ndarray, theta: float) -> list[float]:
    """networkx's components, and one boolean mask over the table of pairs for each of them."""
    n = len(distance)
    graph = nx.empty_graph(n)
    i, j = np.triu_indices(n, 1)
    graph.add_edges_from((a, b) for a, b in zip(i, j, strict=True) if distance[a, b] <= theta)
    table = pd.DataFrame({"i": i, "j": j, "correlation": values[i, j]})
    means, inside = [], []
    groups = [group for group in nx.connected_components(graph) if len(group) > 1]
    for group in groups:
        found = table[table.i.isin(group) & table.j.isin(group)].correlation
        inside.append(found)
        if found.notna().any():
            means.append(found.mean())
    grouped = pd.concat([*inside, pd.Series(dtype=float)])
    return [
        np.mean(means) if means else np.nan,
        grouped.mean() if grouped.notna().any() else np.nan,
        sum(map(len, groups)) / n,
        len(grouped) / max(len(table), 1),
        len(groups),
        max(map(len, groups), default=1),
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 16), st.booleans(), st.sampled_from([0.0, 0.3, 0.9, 1.0])
)
def test_every_figure_equals_brute_force_at_every_theta(seed: int, n: int, tied: bool, missing: float) -> None:
    distance, values = world(seed, n, tied, missing)
    tree = spanning_tree(distance)
    curve = correlation_curve(tree, values)
    assert curve.theta.tolist() == [-np.inf, *np.unique(tree.weight)]
    expected = np.array([brute_force(distance, values, theta) for theta in curve.theta])
    found = np.column_stack([getattr(curve, name) for name in FIGURES])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_it_is_the_benchmarks_own_score_on_a_year_of_300_companies(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(300, 5))
    tree = spanning_tree(np.square(rows[:, None] - rows).sum(axis=2))
    values = pd.DataFrame(rng.normal(size=(12, 300)) + rng.normal(size=(12, 1))).corr().to_numpy(copy=True)
    curve = correlation_curve(tree, values)
    np.fill_diagonal(values, np.nan)
    for place in (1, 50, 150, 250, -1):
        score = score_partition(tree.labels(curve.theta[place]), {2020: values})
        for name in FIGURES:
            assert getattr(curve, name)[place] == pytest.approx(getattr(score, name), abs=1e-12)


def test_between_thresholds_the_curve_is_a_step() -> None:
    distance = np.array([[0, 1.0, 5.0], [1.0, 0, 3.0], [5.0, 3.0, 0]])
    values = np.array([[1, 0.2, 0.4], [0.2, 1, 0.9], [0.4, 0.9, 1]])
    curve = correlation_curve(spanning_tree(distance), values)
    found = curve.at([0.5, 1.0, 2.9, 3.0, 99.0])
    np.testing.assert_allclose(found["pair_weighted"], [np.nan, 0.2, 0.2, 0.5, 0.5])
    np.testing.assert_allclose(found["coverage"], [0, 2 / 3, 2 / 3, 1, 1])
    assert found["clusters"].tolist() == [0, 1, 1, 1, 1]
    assert len(curve.to_frame()) == 3
    assert "3 companies, 2 thresholds, mean correlation of all pairs 0.500" in curve.summary()


def holes(rng: np.random.Generator, periods: int, n: int) -> np.ndarray:
    """Returns with complete, partial, nearly empty, empty and constant series."""
    table = rng.normal(size=(periods, n)) + rng.normal(size=(periods, 1))
    table[rng.random((periods, n)) < 0.15 * (rng.random(n) < 0.5)] = np.nan
    table[:, 3], table[4:, 5] = np.nan, np.nan
    table[:, 7], table[:, 8] = 0.1, 0.0
    table[:8, 9], table[8:, 9] = np.nan, 0.3
    return table


@pytest.mark.parametrize("periods", [12, 60])
@pytest.mark.parametrize("chunk", [1, 97, 1 << 21])
def test_returns_give_what_their_correlation_matrix_gives(
    rng: np.random.Generator, periods: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(returns, "_CHUNK", chunk)
    table = holes(rng, periods, 40)
    matrix = pd.DataFrame(table).corr(min_periods=9).to_numpy(copy=True)
    matrix[[7, 8, 9]], matrix[:, [7, 8, 9]] = np.nan, np.nan  # pandas gives constants with rounding errors a value
    tree = spanning_tree(world(5, 40, tied=True, missing=0)[0])
    source = ReturnCorrelations(table)
    assert source.complete.any()
    assert source.partial.any()
    assert not (source.complete | source.partial)[[3, 5, 7, 8, 9]].any()
    found, expected = correlation_curve(tree, source), correlation_curve(tree, matrix)
    for name in FIGURES:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12)


def test_blocks_of_returns_are_pandas_pairwise_correlations(rng: np.random.Generator) -> None:
    table = rng.normal(0.01, 0.1, (14, 20))
    table[rng.random((14, 20)) < 0.3] = np.nan
    expected = pd.DataFrame(table).corr(min_periods=9).to_numpy()
    assert np.isnan(expected).any()
    found = ReturnCorrelations(table).block(np.arange(5), np.arange(5, 20))
    np.testing.assert_allclose(found, expected[:5, 5:], atol=1e-12)


def test_series_that_are_constant_where_they_meet_have_no_correlation(rng: np.random.Generator) -> None:
    table = rng.normal(size=(20, 2))
    table[:10, 0], table[10:, 1] = 0.25, np.nan  # the first moves only where the second is missing
    assert np.isnan(ReturnCorrelations(table).block(np.array([0]), np.array([1]))).all()


def test_years_without_returns_score_nothing_but_still_count_groups() -> None:
    tree = spanning_tree(world(1, 6, tied=False, missing=0)[0])
    for source in (np.full((6, 6), np.nan), ReturnCorrelations(np.full((12, 6), np.nan))):
        curve = correlation_curve(tree, source)
        assert np.isnan(curve.mean_correlation).all()
        assert np.isnan(curve.pair_weighted).all()
        assert np.isnan(curve.at(-5.0)["mean_correlation"].iloc[0])
        assert curve.coverage[-1] == curve.share_of_pairs[-1] == 1


def test_one_company_has_a_curve_without_thresholds() -> None:
    for source in (np.ones((1, 1)), ReturnCorrelations(np.ones((12, 1)))):
        curve = correlation_curve(spanning_tree(np.zeros((1, 1))), source)
        assert curve.theta.tolist() == [-np.inf]
        assert np.isnan(curve.mean_correlation).all()
        assert curve.coverage.tolist() == curve.share_of_pairs.tolist() == [0]


def test_bad_correlations_and_returns_are_refused() -> None:
    tree = spanning_tree(world(1, 4, tied=False, missing=0)[0])
    with pytest.raises(DataError, match=r"4 companies and the correlations have shape \(5, 5\)"):
        correlation_curve(tree, np.eye(5))
    with pytest.raises(DataError, match=r"4 companies and the correlations have shape \(3, 3\)"):
        correlation_curve(tree, ReturnCorrelations(np.zeros((12, 3))))
    infinite = np.eye(4)
    infinite[0, 1] = infinite[1, 0] = np.inf
    for other in (0.0, -np.inf, np.nan):
        infinite[2, 1] = infinite[1, 2] = other
        with pytest.raises(DataError, match="infinite"):
            correlation_curve(tree, infinite)
    with pytest.raises(DataError, match="finite matrix"):
        ReturnCorrelations(np.array([[np.inf], [1.0]]))
    with pytest.raises(DataError, match="two or more periods"):
        ReturnCorrelations(np.zeros((12, 3)), min_periods=1)


def test_the_input_is_left_alone() -> None:
    distance, values = world(2, 12, tied=False, missing=0.2)
    before = values.copy()
    correlation_curve(spanning_tree(distance), values)
    np.testing.assert_array_equal(values, before)
