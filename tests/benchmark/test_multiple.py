"""Adjusted p-values against statsmodels, paired ones by hand."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from companysim.benchmark import adjusted, paired_p_value


@pytest.mark.parametrize(("dependence", "method"), [(False, "fdr_bh"), (True, "fdr_by")])
@pytest.mark.parametrize("count", [1, 2, 9, 40])
def test_equals_statsmodels(rng: np.random.Generator, count: int, dependence: bool, method: str) -> None:
    p = np.round(rng.random(count) ** 3, 2)  # with ties
    expected = multipletests(p, method=method)[1]
    np.testing.assert_allclose(adjusted(p, dependence), expected, rtol=0, atol=1e-12)


def test_missing_p_values_stay_and_do_not_count() -> None:
    p = np.array([0.01, np.nan, 0.04, np.nan, 0.03])
    expected = multipletests(p[[0, 2, 4]], method="fdr_by")[1]
    found = adjusted(p, dependence=True)
    assert np.isnan(found[[1, 3]]).all()
    np.testing.assert_allclose(found[[0, 2, 4]], expected)
    assert np.isnan(adjusted(np.array([np.nan]))).all()
    assert len(adjusted(np.array([]))) == 0


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
