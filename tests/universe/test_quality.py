"""Flags on prices: each kind where it is, and none where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from companysim.universe.quality import quality

DAYS = pd.bdate_range("2012-01-02", periods=60)


@pytest.fixture
def clean(rng: np.random.Generator) -> pd.DataFrame:
    returns = rng.normal(0, 0.01, (60, 5))
    return pd.DataFrame(50 * np.exp(np.cumsum(returns, axis=0)), DAYS, list("ABCDE"))


def only(table: pd.DataFrame) -> pd.Series:
    found = quality(table).flags
    assert len(found) == 1
    return found.iloc[0]


def test_nothing_is_flagged_where_nothing_is_wrong(clean: pd.DataFrame) -> None:
    found = quality(clean)
    assert found.flags.empty
    assert found.summary() == "5 lines, 2012-01-02 to 2012-03-23: nothing flagged"
    assert found.lines["days"].tolist() == [60] * 5


def test_a_gap_counts_days_of_the_market_and_starts_at_five(clean: pd.DataFrame) -> None:
    clean.iloc[10:15, 1] = np.nan
    flag = only(clean)
    assert (flag["ticker"], flag["kind"], flag["value"]) == ("B", "gap", 5)
    assert (flag["date"], flag["until"]) == (DAYS[10], DAYS[14])
    assert flag["sentence"] == "B has no price for 5 days from 2012-01-16 to 2012-01-20"
    clean.iloc[14, 1] = 50.0
    assert quality(clean).flags.empty
    clean.iloc[20:40] = np.nan  # nobody has prices: a holiday, not a gap
    assert quality(clean).flags.empty


def test_a_late_start_is_no_gap_and_an_early_end_is_told(clean: pd.DataFrame) -> None:
    clean.iloc[:30, 0] = np.nan
    assert quality(clean).flags.empty
    clean.iloc[48:, 4] = np.nan
    flag = only(clean)
    assert (flag["ticker"], flag["kind"], flag["value"], flag["date"]) == ("E", "ended", 12, DAYS[47])
    lines = quality(clean).lines.set_index("ticker")
    assert lines.loc["A", "first"] == DAYS[30]
    assert lines.loc["E", "last"] == DAYS[47]
    assert lines["flags"].to_dict() == {"A": 0, "B": 0, "C": 0, "D": 0, "E": 1}


@pytest.mark.parametrize(("factor", "what"), [(2.5, "+150%"), (0.4, "-60%")])
def test_a_jump_is_flagged_and_a_bad_tick_called_one(clean: pd.DataFrame, factor: float, what: str) -> None:
    flat = pd.DataFrame(50 + np.tile(np.arange(60) % 2, (5, 1)).T * 1e-9, DAYS, list("ABCDE"))
    stays = flat.copy()
    stays.iloc[30:, 2] *= factor
    assert only(stays)["sentence"] == f"C moves by {what} on 2012-02-13"
    tick = flat.copy()
    tick.iloc[30, 2] *= factor
    flags = quality(tick).flags
    assert flags["sentence"].iloc[0] == f"C moves by {what} on 2012-02-13, taken back by the next price: a bad tick?"


def test_a_price_that_does_not_move_is_stale_after_ten_days(clean: pd.DataFrame) -> None:
    clean.iloc[5:14, 3] = 50.0
    assert quality(clean).flags.empty
    clean.iloc[14, 3] = 50.0
    flag = only(clean)
    assert (flag["kind"], flag["value"], flag["date"], flag["until"]) == ("stale", 10, DAYS[5], DAYS[14])


def test_flags_do_not_depend_on_the_order_of_rows_and_columns(clean: pd.DataFrame) -> None:
    clean.iloc[10:20, 1] = np.nan
    clean.iloc[30:, 2] *= 3
    shuffled = clean.sample(frac=1, random_state=0).sample(frac=1, axis=1, random_state=0)
    pd.testing.assert_frame_equal(quality(shuffled).flags, quality(clean).flags)
    assert quality(clean).to_frame()["kind"].tolist() == ["gap", "jump"]
