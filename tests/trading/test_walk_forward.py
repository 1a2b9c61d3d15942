from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.errors import DataError
from companysim.trading import Backtest, Protocol, candidate_pairs, engle_granger, placebo, sharpe, walk_forward
from companysim.trading.walk_forward import select

DATES = pd.bdate_range("2010-01-04", periods=260, name="date")
END = 140  # row of the last day of formation
PROTOCOL = Protocol(DATES[0], DATES[END], DATES[-1], p_value=0.2, max_pairs=6)
LABELS = np.array([0, 0, 0, 1, 1, 1, -1, 2])
seeds = st.integers(0, 2**32 - 1)


def cointegrated(seed: int = 3) -> pd.DataFrame:
    """Eight prices around one common walk: every pair is cointegrated."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 0.02, (len(DATES), 8))
    for t in range(1, len(DATES)):
        own[t] += 0.7 * own[t - 1]
    logs = np.cumsum(rng.normal(0, 0.01, (len(DATES), 1)), axis=0) + own
    return pd.DataFrame(40 * np.exp(logs), index=DATES, columns=[f"C{i}" for i in range(8)])


def shaken(prices: pd.DataFrame, after: int, seed: int) -> pd.DataFrame:
    """Other prices after row `after`."""
    other = prices.copy()
    rows = len(prices) - after - 1
    other.iloc[after + 1 :] *= np.exp(np.random.default_rng(seed).normal(0, 0.3, (rows, prices.shape[1])))
    return other


def same_until(one: Backtest, two: Backtest, day: pd.Timestamp) -> None:
    pd.testing.assert_frame_equal(one.pairs, two.pairs)
    pd.testing.assert_frame_equal(one.daily.loc[:day], two.daily.loc[:day])
    closed = [each.trades[each.trades["exit"] <= day].reset_index(drop=True) for each in (one, two)]
    pd.testing.assert_frame_equal(*closed)
    key = ["entry", "ticker_1", "ticker_2"]
    opened = [each.trades.loc[each.trades["entry"] <= day, [*key, "side"]] for each in (one, two)]
    pd.testing.assert_frame_equal(*(each.sort_values(key, ignore_index=True) for each in opened))


@given(st.lists(st.integers(-1, 3), max_size=9))
@settings(max_examples=30, deadline=None)
def test_candidates_are_the_pairs_inside_clusters(labels: list[int]) -> None:
    first, second = candidate_pairs(np.array(labels, dtype=np.int64))
    expected = [(i, j) for i, j in combinations(range(len(labels)), 2) if labels[i] == labels[j] >= 0]
    assert list(zip(first, second, strict=True)) == expected


@settings(max_examples=8, deadline=None)
@given(seeds, st.integers(END, len(DATES) - 2))
def test_prices_after_a_day_change_nothing_up_to_it(seed: int, t: int) -> None:
    prices = cointegrated()
    plain = walk_forward(prices, LABELS, PROTOCOL)
    assert len(plain.pairs) == 6
    same_until(plain, walk_forward(shaken(prices, t, seed), LABELS, PROTOCOL), DATES[t])


def test_a_company_that_vanishes_after_formation_is_still_chosen() -> None:
    prices = cointegrated()
    plain = walk_forward(prices, LABELS, PROTOCOL)
    held = plain.trades[plain.trades["exit"] - plain.trades["entry"] > pd.Timedelta(days=7)].iloc[0]
    gone = prices.copy()
    gone.loc[gone.index > held["entry"], held["ticker_1"]] = np.nan
    other = walk_forward(gone, LABELS, PROTOCOL)
    assert plain.candidates == other.candidates
    same_until(plain, other, held["entry"])
    closed = other.trades[other.trades["reason"] == "delisted"]
    assert set(closed["exit"]) == {DATES[DATES.get_loc(held["entry"]) + 1]}


def test_nothing_before_the_formation_window_or_after_trading_is_used() -> None:
    prices = cointegrated()
    narrow = replace(PROTOCOL, formation_start=DATES[20], trading_end=DATES[220])
    plain = walk_forward(prices, LABELS, narrow)
    other = prices.copy()
    other.iloc[:20] *= 7
    other.iloc[221:] = 0.01
    pd.testing.assert_frame_equal(walk_forward(other, LABELS, narrow).daily, plain.daily)
    assert (plain.daily.index[0], plain.daily.index[-1]) == (DATES[END + 1], DATES[220])


def test_pairs_are_the_best_tested_ones_with_their_formation_figures() -> None:
    prices = cointegrated()
    result = walk_forward(prices, LABELS, PROTOCOL)
    logs = np.log(prices.iloc[: END + 1].to_numpy())
    tested = engle_granger(logs, *candidate_pairs(LABELS))
    assert result.candidates == 6 == len(tested)
    assert result.passed == (tested["p_value"] < 0.2).sum()
    best = tested.sort_values("p_value", ignore_index=True)
    assert list(result.pairs["ticker_1"]) == [f"C{i}" for i in best["first"]]
    assert list(result.pairs["ticker_2"]) == [f"C{i}" for i in best["second"]]
    np.testing.assert_array_equal(result.pairs["hedge_ratio"], best["hedge_ratio"])
    limited = walk_forward(prices, LABELS, replace(PROTOCOL, max_pairs=2))
    pd.testing.assert_frame_equal(limited.pairs, result.pairs.iloc[:2])
    assert limited.passed == result.passed


def test_selection_wants_a_positive_hedge_ratio_and_a_small_p_value() -> None:
    tested = pd.DataFrame(
        {
            "first": [0, 1, 2, 3],
            "second": [4, 5, 6, 7],
            "p_value": [0.04, 0.001, 0.05, 0.002],
            "adf_t": [-3.0, -5.0, -2.9, -4.0],
            "hedge_ratio": [1.0, -1.0, 1.0, 0.5],
        }
    )
    assert list(select(tested, 0.05, 9)["first"]) == [3, 0]


def test_daily_returns_are_the_trades_over_the_capital_of_all_pairs() -> None:
    result = walk_forward(cointegrated(), LABELS, PROTOCOL)
    assert len(result.trades) > 10
    assert result.trades["entry"].min() > DATES[END + 1]  # seen on the first day of trading at the earliest
    for kind in ("gross", "net"):
        total = result.daily[f"return_{kind}"].sum() * len(result.pairs)
        assert total == pytest.approx(result.trades[f"pnl_{kind}"].sum(), abs=1e-12)
    known = set(zip(result.pairs["ticker_1"], result.pairs["ticker_2"], strict=True))
    assert set(zip(result.trades["ticker_1"], result.trades["ticker_2"], strict=True)) <= known


def test_the_order_of_companies_changes_nothing() -> None:
    prices, order = cointegrated(), [5, 2, 7, 0, 3, 6, 1, 4]
    plain = walk_forward(prices, LABELS, PROTOCOL)
    other = walk_forward(prices.iloc[:, order], LABELS[order], PROTOCOL)
    pd.testing.assert_frame_equal(other.daily, plain.daily)
    pd.testing.assert_frame_equal(other.pairs, plain.pairs, rtol=1e-8)


def test_summary_by_hand() -> None:
    daily = pd.DataFrame({"return_gross": [0.02, 0.01, 0.03], "return_net": [0.02, -0.01, 0.02]}, index=DATES[:3])
    trades = pd.DataFrame({"pnl_net": [0.1, -0.2, 0.3, 0.0]})
    figures = Backtest(9, 4, pd.DataFrame(index=range(3)), trades, daily).summary()
    assert figures == {
        "candidates": 9,
        "passed": 4,
        "pairs": 3,
        "trades": 4,
        "sharpe_gross": pytest.approx(2 * np.sqrt(252)),
        "sharpe_net": pytest.approx(0.01 / np.sqrt(0.0003) * np.sqrt(252)),
        "return_net_annual": pytest.approx(2.52),
        "max_drawdown": pytest.approx(0.01),
        "hit_rate": 0.5,
    }


def test_companies_with_gaps_in_formation_are_no_candidates() -> None:
    prices = cointegrated()
    prices.iloc[50, 0] = np.nan
    result = walk_forward(prices, LABELS, PROTOCOL)
    assert result.candidates == 4
    assert "C0" not in set(result.pairs[["ticker_1", "ticker_2"]].to_numpy().ravel())


@pytest.mark.parametrize("labels", [np.full(8, -1), np.arange(8)], ids=["none", "singletons"])
def test_a_grouping_without_pairs_earns_nothing(labels: np.ndarray) -> None:
    result = walk_forward(cointegrated(), labels, PROTOCOL)
    figures = result.summary()
    assert (figures["candidates"], figures["pairs"], figures["trades"], figures["return_net_annual"]) == (0, 0, 0, 0)
    assert np.isnan(figures["sharpe_net"])
    assert not result.daily.to_numpy().any()
    assert list(result.trades) == list(walk_forward(cointegrated(), LABELS, PROTOCOL).trades)


def test_a_short_formation_window_is_refused() -> None:
    prices = cointegrated()
    walk_forward(prices, LABELS, replace(PROTOCOL, formation_start=DATES[END - 59]))
    with pytest.raises(DataError, match=r"formation window .* to .* has only 59 days of prices: at least 60"):
        walk_forward(prices, LABELS, replace(PROTOCOL, formation_start=DATES[END - 58]))


@pytest.mark.parametrize("extra", [0, 1])
def test_an_empty_trading_window_is_refused(extra: int) -> None:
    protocol = replace(PROTOCOL, trading_end=DATES[END + extra])
    message = rf"{extra} days of prices after {DATES[END]:%Y-%m-%d} .* nothing to trade on, at least 2"
    with pytest.raises(DataError, match=message):
        walk_forward(cointegrated(), LABELS, protocol)
    with pytest.raises(DataError, match=message):
        placebo(cointegrated(), [3], protocol, pool=9, books=2, seed=0)


def test_one_label_a_company_is_needed() -> None:
    with pytest.raises(DataError, match="7 labels for 8 companies with prices: give one label a column"):
        walk_forward(cointegrated(), LABELS[:7], PROTOCOL)


def test_dates_must_ascend() -> None:
    with pytest.raises(DataError, match="do not ascend: sort them"):
        walk_forward(cointegrated().iloc[::-1], LABELS, PROTOCOL)


def test_a_price_of_zero_in_the_formation_window_is_refused() -> None:
    prices = cointegrated()
    prices.iloc[9, 2] = 0
    with pytest.raises(DataError, match=f"price of C2 on {DATES[9]:%Y-%m-%d} is 0: prices must be positive"):
        walk_forward(prices, LABELS, PROTOCOL)


def test_placebo_gives_the_books_asked_for_at_each_number_of_candidates() -> None:
    chance = placebo(cointegrated(), [12, 4, 12], PROTOCOL, pool=20, books=7, seed=1)
    assert list(chance) == [4, 12]
    assert all(values.shape == (7,) for values in chance.values())
    assert np.isfinite(chance[12]).all()
    assert len(set(chance[12])) > 1  # each book draws pairs of its own


def test_placebo_depends_on_the_seed_alone() -> None:
    one, again, other = (placebo(cointegrated(), [3, 6], PROTOCOL, pool=20, books=5, seed=seed) for seed in (1, 1, 2))
    for count in (3, 6):
        np.testing.assert_array_equal(one[count], again[count])
        assert not np.array_equal(one[count], other[count], equal_nan=True)


@pytest.mark.parametrize("max_pairs", [5, 50])
def test_placebo_with_every_pair_is_the_backtest_of_one_cluster(max_pairs: int) -> None:
    protocol = replace(PROTOCOL, max_pairs=max_pairs)
    whole = walk_forward(cointegrated(), np.zeros(8, dtype=int), protocol).daily["return_net"].to_numpy()
    chance = placebo(cointegrated(), [28, 99], protocol, pool=999, books=3, seed=4)
    for values in chance.values():
        np.testing.assert_allclose(values, sharpe(whole), rtol=1e-9)


def test_placebo_of_one_candidate_is_the_sharpe_ratio_of_one_pair() -> None:
    prices = cointegrated().iloc[:, :4]
    known = [
        walk_forward(prices, np.where(np.isin(np.arange(4), pair), 0, -1), PROTOCOL).summary()["sharpe_net"]
        for pair in combinations(range(4), 2)
    ]
    assert np.isfinite(known).sum() == 5  # and one pair that never trades
    drawn = placebo(prices, [1], PROTOCOL, pool=6, books=40, seed=0)[1]
    np.testing.assert_allclose(np.unique(drawn), np.sort(known), rtol=1e-9)


def test_placebo_is_nan_where_no_pair_passes() -> None:
    prices = cointegrated()
    strict = placebo(prices, [5], replace(PROTOCOL, p_value=0.0), pool=20, books=3, seed=0)
    assert np.isnan(strict[5]).all()
    prices.iloc[3] = np.nan  # no complete company, so nothing to test
    assert np.isnan(placebo(prices, [5], PROTOCOL, pool=20, books=3, seed=0)[5]).all()
