from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from companysim.errors import DataError
from companysim.trading.multiple_testing import discoveries

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array)


@pytest.mark.parametrize("q", [0.01, 0.05, 0.2])
def test_discoveries_equal_statsmodels(rng: np.random.Generator, q: float) -> None:
    p = np.concatenate([rng.uniform(size=400), rng.uniform(size=40) ** 6])
    summary = discoveries(p, q).summary()
    assert summary["bh"] == multipletests(p, q, method="fdr_bh")[0].sum()
    assert summary["by"] == multipletests(p, q, method="fdr_by")[0].sum()
    assert summary["raw"] == (p <= q).sum()
    assert 0 < summary["by"] < summary["bh"] < summary["raw"]  # type: ignore[operator]


def test_a_hand_computed_case() -> None:
    found = discoveries([0.01, 0.04, 0.02, 0.5, np.nan], q=0.05)
    np.testing.assert_allclose(found.adjusted_bh, [0.04, 0.04 * 4 / 3, 0.04, 0.5, np.nan])
    np.testing.assert_allclose(found.adjusted_by[0], 0.04 * (1 + 1 / 2 + 1 / 3 + 1 / 4))
    assert found.summary() == {"tests": 4, "q": 0.05, "raw": 3, "expected_by_chance": 0.2, "bh": 2, "by": 0}
    assert list(found.to_frame().columns) == ["p_value", "adjusted_bh", "adjusted_by"]


@settings(max_examples=50, deadline=None)
@given(P_VALUES, st.integers(0, 30))
def test_tests_left_out_count_as_p_of_one(p: np.ndarray, left_out: int) -> None:
    everything = discoveries(np.concatenate([p, np.ones(left_out)]))
    some = discoveries(p, n_tests=len(p) + left_out)
    for name in ("adjusted_bh", "adjusted_by"):
        np.testing.assert_allclose(getattr(some, name), getattr(everything, name)[: len(p)], rtol=1e-12)


def test_the_order_of_tests_changes_nothing(rng: np.random.Generator) -> None:
    p = np.round(rng.uniform(size=100) ** 2, 2)  # with ties
    order = rng.permutation(100)
    np.testing.assert_array_equal(discoveries(p[order]).adjusted_bh, discoveries(p).adjusted_bh[order])


def test_among_true_nulls_a_search_finds_raw_ones_and_hardly_any_after_control() -> None:
    found = [discoveries(np.random.default_rng(seed).uniform(size=1000)).summary() for seed in range(200)]
    assert np.mean([each["raw"] for each in found]) == pytest.approx(50, rel=0.05)
    assert np.mean([each["bh"] > 0 for each in found]) == pytest.approx(0.05, abs=0.04)
    assert np.mean([each["by"] > 0 for each in found]) < 0.03


def test_no_tests_are_no_discoveries() -> None:
    for p in ([], [np.nan, np.nan]):
        assert discoveries(p).summary() == {"tests": 0, "q": 0.05, "raw": 0, "expected_by_chance": 0, "bh": 0, "by": 0}


@pytest.mark.parametrize(
    ("given_p", "options", "message"),
    [
        ([0.1, 1.2], {}, "a p-value lies outside 0 to 1: give p-values, not statistics"),
        ([-3.4], {}, "a p-value lies outside 0 to 1"),
        ([0.1], {"q": 5}, "q = 5 is no share: give a number from 0 to 1"),
        ([0.1, 0.2], {"n_tests": 1}, "n_tests = 1, but there are 2 p-values: count every test that was made"),
    ],
)
def test_bad_input_is_refused(given_p: list[float], options: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        discoveries(given_p, **options)  # type: ignore[arg-type]
