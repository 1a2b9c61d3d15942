"""Thresholds: the exact optimum against a fine search, conditions, and years that must not be seen."""

from __future__ import annotations

import numpy as np
import pytest

from companysim.clustering import CorrelationCurve, best_theta, correlation_curve, rolling_thetas, theta_for_share
from companysim.clustering.tree import spanning_tree
from companysim.errors import ConfigError, DataError


def year(seed: int, n: int = 30) -> CorrelationCurve:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3))
    distance = np.sqrt(np.square(rows[:, None] - rows).sum(axis=2))
    noise = rng.normal(0, 0.3, (n, n))
    return correlation_curve(spanning_tree(distance), 0.6 - 0.2 * distance + (noise + noise.T) / 2)


CURVES = {2000 + k: year(k) for k in range(9)}


def mean_at(years: range, theta: float, name: str) -> float:
    return float(np.mean([CURVES[y].at(theta)[name].iloc[0] for y in years]))


@pytest.mark.parametrize("minimum", [0.3, 0.8])
def test_no_theta_of_a_fine_search_does_better(minimum: float) -> None:
    years = range(2000, 2004)
    choice = best_theta(CURVES, years, minimum)
    assert choice.coverage >= minimum
    assert choice.mean_correlation == pytest.approx(mean_at(years, choice.theta, "mean_correlation"), abs=1e-14)
    assert choice.coverage == pytest.approx(mean_at(years, choice.theta, "coverage"))
    for theta in np.linspace(0.01, 4, 300):
        if mean_at(years, theta, "coverage") >= minimum:
            assert mean_at(years, theta, "mean_correlation") <= choice.mean_correlation + 1e-14


def test_without_a_minimum_coverage_the_optimum_is_a_handful_of_companies() -> None:
    free, held = (best_theta(CURVES, range(2000, 2005), minimum) for minimum in (0.0, 0.5))
    assert free.mean_correlation > held.mean_correlation
    assert free.coverage < 0.25 < held.coverage


def test_only_given_thetas_are_tried_and_the_lowest_of_the_best_wins() -> None:
    grid = np.array([1.2, 0.9, 1.0])
    choice = best_theta(CURVES, [2003, 2001], 0.0, grid)
    assert choice.theta in grid
    flat = np.array([2.0, 1.0])
    curve = correlation_curve(spanning_tree(np.array([[0, 0.5], [0.5, 0]])), np.full((2, 2), 0.3))
    assert best_theta({1: curve}, [1], 0.0, flat).theta == 1.0


def test_a_choice_names_the_years_it_saw_and_does_not_change_with_the_others() -> None:
    choice = best_theta(CURVES, [2003, 2001, 2002])
    assert choice.years_ == (2001, 2002, 2003)
    assert "chosen on 2001-2003 (3 years)" in choice.summary()
    others = {y: year(99) for y in (2000, 2004, 2008)}
    assert best_theta({**CURVES, **others}, [2001, 2002, 2003]) == choice


def test_rolling_choices_see_the_five_years_before() -> None:
    choices = rolling_thetas(CURVES)
    assert list(choices) == [2005, 2006, 2007, 2008, 2009]
    for when, choice in choices.items():
        assert choice.years_ == tuple(range(when - 5, when))
        assert choice == best_theta(CURVES, choice.years_)
    changed = {**CURVES, 2007: year(77), 2008: year(78)}
    after = rolling_thetas(changed)
    assert [choices[y] for y in (2005, 2006, 2007)] == [after[y] for y in (2005, 2006, 2007)]
    assert choices[2008] != after[2008]


def test_rolling_skips_years_with_a_gap_behind_them() -> None:
    assert list(rolling_thetas({y: c for y, c in CURVES.items() if y != 2003}, window=2)) == [
        2002, 2003, 2006, 2007, 2008, 2009
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="window is 0"):
        rolling_thetas(CURVES, window=0)


def test_theta_for_share_is_the_closest_mean_share() -> None:
    years = range(2000, 2003)
    choice = theta_for_share(CURVES, years, 0.1)
    tried = np.unique(np.concatenate([CURVES[y].theta[1:] for y in years]))
    distances = [abs(mean_at(years, theta, "share_of_pairs") - 0.1) for theta in tried]
    assert choice.theta == tried[int(np.argmin(distances))]
    assert choice.years_ == (2000, 2001, 2002)
    for share in (0.0, 1.1):
        with pytest.raises(ConfigError, match="share"):
            theta_for_share(CURVES, years, share)


def test_a_year_without_returns_does_not_count_and_one_company_groups_nothing() -> None:
    tree = spanning_tree(np.array([[0, 0.5], [0.5, 0]]))
    empty = correlation_curve(tree, np.full((2, 2), np.nan))
    both = {**CURVES, 1999: empty}
    choice, without = best_theta(both, [1999, 2000], 0.0), best_theta(CURVES, [2000], 0.0)
    assert choice.mean_correlation == without.mean_correlation
    assert choice.years_ == (1999, 2000)
    with pytest.raises(DataError, match="no theta with a correlation covers 0%"):
        best_theta({1999: empty}, [1999], 0.0)
    single = correlation_curve(spanning_tree(np.zeros((1, 1))), np.ones((1, 1)))
    with pytest.raises(DataError, match="no pair to group"):
        theta_for_share({1: single}, [1], 0.5)


def test_a_theta_counts_only_where_every_year_has_a_score() -> None:
    distance = np.array([[0, 1.0, 2.0], [1.0, 0, 2.0], [2.0, 2.0, 0]])
    early = np.full((3, 3), 0.1)
    early[0, 1] = early[1, 0] = 0.9
    late = np.full((3, 3), 0.2)
    late[0, 1] = late[1, 0] = np.nan  # nothing to score at theta 1, where the other year alone would win
    curves = {y: correlation_curve(spanning_tree(distance), values) for y, values in ((1, early), (2, late))}
    choice = best_theta(curves, [1, 2], 0.0)
    assert choice.theta == 2.0
    assert choice.mean_correlation == pytest.approx((1.1 / 3 + 0.2) / 2)


def test_unreachable_conditions_and_unknown_years_are_refused() -> None:
    with pytest.raises(DataError, match="no theta with a correlation covers 110% of the companies of 2000-2001"):
        best_theta(CURVES, [2000, 2001], 1.1)
    with pytest.raises(DataError, match=r"no curve for the training years \[1990\]"):
        best_theta(CURVES, [1990, 2000])
    with pytest.raises(DataError, match="no curve"):
        best_theta(CURVES, [])
