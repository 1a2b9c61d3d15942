"""Adjusted p-values against statsmodels, the others by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from companysim.significance import adjusted, null_p_value, paired_p_value


@pytest.mark.parametrize(("dependence", "method"), [(False, "fdr_bh"), (True, "fdr_by")])
@pytest.mark.parametrize("count", [1, 2, 9, 40])
def test_equals_statsmodels(rng: np.random.Generator, count: int, dependence: bool, method: str) -> None:
    p = np.round(rng.random(count) ** 3, 2)  # with ties
    expected = multipletests(p, method=method)[1]
    np.testing.assert_allclose(adjusted(p, dependence), expected, rtol=0, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array), st.integers(0, 30))
def test_equals_statsmodels_where_tests_were_left_out(p: np.ndarray, left_out: int) -> None:
    everything = np.concatenate([p, np.ones(left_out)])
    for dependence, method in ((False, "fdr_bh"), (True, "fdr_by")):
        expected = multipletests(everything, method=method)[1][: len(p)]
        np.testing.assert_allclose(adjusted(p, dependence, len(everything)), expected, rtol=1e-12, atol=1e-300)


def test_missing_p_values_stay_and_do_not_count() -> None:
    p = np.array([0.01, np.nan, 0.04, np.nan, 0.03])
    expected = multipletests(p[[0, 2, 4]], method="fdr_by")[1]
    found = adjusted(p, dependence=True)
    assert np.isnan(found[[1, 3]]).all()
    np.testing.assert_allclose(found[[0, 2, 4]], expected)
    assert np.isnan(adjusted(np.array([np.nan]))).all()
    assert len(adjusted(np.array([]))) == 0


def test_null_p_value_by_hand() -> None:
    null = np.array([0.1, 0.5, np.nan, 0.9])
    assert [null_p_value(value, null) for value in (1.0, 0.9, 0.5, -1.0)] == [0.25, 0.5, 0.75, 1.0]
    assert np.isnan([null_p_value(np.nan, null), null_p_value(0.1, null[2:3])]).all()


@pytest.mark.parametrize("value", [7.0, -7.0])
def test_a_draw_that_differs_by_rounding_does_as_well(value: float) -> None:
    null = value * (1 + np.array([1e-15, -1e-15, 1e-6, -1e-6]))
    assert null_p_value(value, null) == pytest.approx(4 / 5)


def test_paired_p_value_by_hand() -> None:
    assert paired_p_value(np.ones(999)) == pytest.approx(2 / 1000)
    assert paired_p_value(-np.ones(999)) == pytest.approx(2 / 1000)
    assert paired_p_value(np.r_[-np.ones(50), np.ones(50)]) == 1.0
    assert paired_p_value(np.r_[-np.ones(9), np.ones(90), np.nan]) == pytest.approx(2 * 10 / 100)
    assert paired_p_value(np.zeros(10)) == 1.0
    assert np.isnan(paired_p_value(np.full(3, np.nan)))


def test_under_the_null_one_in_twenty_is_below_five_percent(rng: np.random.Generator) -> None:
    found = []
    for _ in range(400):
        data = rng.normal(size=40)
        resampled = rng.choice(data, (200, 40)).mean(axis=1)
        found.append(paired_p_value(resampled))
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.10
