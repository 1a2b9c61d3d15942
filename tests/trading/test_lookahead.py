"""Nothing that happens after a day changes a decision, a trade or an equity value up to that day."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.trading import (
    Backtest,
    Book,
    Costs,
    Limits,
    Partitions,
    Protocol,
    Rules,
    Window,
    simulate,
    walk_forward,
)
from tests.trading.worlds import NAN, any_costs, any_limits, any_rules, holes, seeds, world

DAYS = pd.bdate_range("2010-01-04", periods=330, name="date")
WINDOWS = tuple(
    Window(DAYS[start], DAYS[start + 89], DAYS[min(start + 169, len(DAYS) - 1)]) for start in (0, 80, 160)
)
KEY = ["entry", "value_1", "value_2", "z_entry", "side"]


def changed_after(prices: pd.DataFrame, t: int, seed: int) -> pd.DataFrame:
    """Other prices after day t, with other gaps, other delistings and other comebacks."""
    rng = np.random.default_rng(seed)
    other = prices.copy()
    later = other.iloc[t + 1 :].ffill().bfill().fillna(50.0)
    later *= np.exp(rng.normal(0, 0.5, later.shape))
    later = later.mask(rng.random(later.shape) < 0.1)
    for column in range(later.shape[1]):
        if rng.random() < 0.4 and len(later):
            later.iloc[int(rng.integers(len(later))) :, column] = NAN
    other.iloc[t + 1 :] = later.to_numpy()
    return other


def same_book_until(one: Book, two: Book, t: int, today: pd.Timestamp) -> None:
    for name in ("gross", "net", "long", "short", "traded"):
        np.testing.assert_array_equal(getattr(one, name)[: t + 1], getattr(two, name)[: t + 1], err_msg=name)
    same_trades_until(one.trades, two.trades, today, ["pair"])


def same_trades_until(one: pd.DataFrame, two: pd.DataFrame, today: pd.Timestamp, legs: list[str]) -> None:
    closed = [each[each["exit"] <= today].reset_index(drop=True) for each in (one, two)]
    pd.testing.assert_frame_equal(*closed, check_exact=True)
    opened = [each.loc[each["entry"] <= today, [*legs, *KEY]] for each in (one, two)]
    opened = [each.sort_values([*legs, "entry"], ignore_index=True) for each in opened]
    pd.testing.assert_frame_equal(*opened, check_exact=True)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(0, 78), st.booleans(), any_rules(), any_costs(), any_limits())
def test_prices_after_a_day_change_nothing_up_to_it(
    seed: int, t: int, gaps: bool, rules: Rules, costs: Costs, limits: Limits
) -> None:
    prices, pairs = world(seed, gaps=gaps)
    other = changed_after(prices, t, seed + 1)
    one, two = (simulate(each, pairs, rules, costs, limits) for each in (prices, other))
    same_book_until(one, two, t, prices.index[t])


def test_the_days_after_are_really_changed() -> None:
    prices, pairs = world(1, gaps=True)
    one, two = (simulate(each, pairs) for each in (prices, changed_after(prices, 40, 1)))
    assert not np.array_equal(one.net[41:], two.net[41:])


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(2, 78))
def test_ending_the_data_changes_nothing_before_the_last_day(seed: int, t: int) -> None:
    prices, pairs = world(seed, gaps=True)
    full, cut = simulate(prices, pairs), simulate(prices.iloc[: t + 1], pairs)
    np.testing.assert_array_equal(full.net[:t], cut.net[:t])


def test_a_signal_cannot_be_filled_on_the_day_it_is_seen() -> None:
    # The day's own close is in the view: whoever trades at it trades on what the market learnt together with him.
    prices, pairs = world(3)
    for lag in (1, 2, 5):
        trades = simulate(prices, pairs, Rules(entry=1, lag=lag)).trades
        day_of = prices.index.get_indexer(pd.DatetimeIndex(trades["entry"]))
        logs = np.log(prices.to_numpy())
        for trade, t in zip(trades.itertuples(), day_of, strict=True):
            pair = pairs.iloc[trade.pair]
            one, two = (logs[t - lag, int(pair[leg])] for leg in ("first", "second"))
            seen = (one - pair["hedge_ratio"] * two - pair["intercept"]) / pair["residual_sd"]
            assert trade.z_entry == seen


# The whole walk-forward


def market(seed: int) -> pd.DataFrame:
    """Eight prices around one common walk; four of them with gaps and delistings after the first formation."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 0.02, (len(DAYS), 8))
    for t in range(1, len(DAYS)):
        own[t] += 0.7 * own[t - 1]
    logs = np.cumsum(rng.normal(0, 0.01, (len(DAYS), 1)), axis=0) + own
    prices = pd.DataFrame(40 * np.exp(logs), index=DAYS, columns=[f"C{i}" for i in range(8)])
    prices.iloc[90:, :4] = holes(prices.iloc[90:, :4], rng)
    prices.iloc[320:, 5] = NAN
    return prices


def groups(seed: int, dates: list[pd.Timestamp]) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = [
        pd.DataFrame({"date": date, "ticker": [f"C{i}" for i in range(8)], "cluster": rng.integers(-1, 2, 8)})
        for date in dates
    ]
    return pd.concat(parts, ignore_index=True)


def same_backtest_until(one: Backtest, two: Backtest, today: pd.Timestamp) -> int:
    chosen = [each.windows[each.windows["formation_end"] <= today] for each in (one, two)]
    pd.testing.assert_frame_equal(*chosen, check_exact=True)
    pairs = [each.pairs[each.pairs["formation_end"] <= today] for each in (one, two)]
    pd.testing.assert_frame_equal(*pairs, check_exact=True)
    daily = [each.daily.loc[:today] for each in (one, two)]
    pd.testing.assert_frame_equal(*daily, check_exact=True, check_freq=False)
    equity = [each.equity().loc[:today] for each in (one, two)]
    pd.testing.assert_series_equal(*equity, check_exact=True, check_freq=False)
    same_trades_until(one.trades, two.trades, today, ["ticker_1", "ticker_2"])
    return len(one.trades[one.trades["entry"] <= today])


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(89, len(DAYS) - 2), any_rules(), any_costs(), any_limits())
def test_neither_prices_nor_groupings_after_a_day_change_a_backtest_up_to_it(
    seed: int, t: int, rules: Rules, costs: Costs, limits: Limits
) -> None:
    protocol = Protocol(WINDOWS, p_value=0.3, max_pairs=6, rules=rules, costs=costs, limits=limits)
    prices = market(seed)
    dates = [DAYS[20], DAYS[100], DAYS[200]]
    known = groups(seed, dates)
    later = groups(seed + 1, [*dates, DAYS[t] + pd.Timedelta(days=1)])
    mixed = pd.concat([known[known["date"] <= DAYS[t]], later[later["date"] > DAYS[t]]], ignore_index=True)
    one = walk_forward(prices, Partitions(known), protocol)
    two = walk_forward(changed_after(prices, t, seed + 1), Partitions(mixed), protocol)
    same_backtest_until(one, two, DAYS[t])


def test_the_property_sees_trades_in_every_window() -> None:
    protocol = Protocol(WINDOWS, p_value=0.3, max_pairs=6, rules=Rules(entry=1.0))
    result = walk_forward(market(3), Partitions(groups(3, [DAYS[20]])), protocol)
    for window in WINDOWS:
        inside = (result.trades["entry"] > window.formation_end) & (result.trades["exit"] <= window.trading_end)
        assert inside.any()
    assert same_backtest_until(result, result, DAYS[-1]) == len(result.trades)
