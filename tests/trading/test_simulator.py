from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.errors import DataError
from companysim.trading import Book, Rules, simulate
from companysim.trading.simulator import zscores

NAN = np.nan
FREE = Rules(cost_bp=0, borrow_percent=0)
seeds = st.integers(0, 2**32 - 1)


def table(*legs: list[float]) -> pd.DataFrame:
    columns = np.array(legs, dtype=float).T
    return pd.DataFrame(columns, index=pd.bdate_range("2010-01-04", periods=len(columns), name="date"))


def one_pair(hedge_ratio: float = 1.0) -> pd.DataFrame:
    """With hedge ratio 1, z is ten times the log of the price ratio: 80 to 100 is -2.2, 64 to 100 is -4.5."""
    return pd.DataFrame(
        {"first": [0], "second": [1], "hedge_ratio": [hedge_ratio], "intercept": [0.0], "residual_sd": [0.1]}
    )


def day(prices: pd.DataFrame, date: pd.Timestamp) -> int:
    return int(prices.index.get_loc(date))  # type: ignore[arg-type]


def days(prices: pd.DataFrame, book: Book) -> list[tuple[int, int, int, str]]:
    """Side, days of entry and exit, and reason of each trade."""
    return [
        (trade.side, day(prices, trade.entry), day(prices, trade.exit), trade.reason)
        for trade in book.trades.itertuples()
    ]


def world(seed: int, *, gaps: bool = False, n_days: int = 80) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Five series whose spreads swing widely, and six pairs of them; with gaps, late starts and delistings."""
    rng = np.random.default_rng(seed)
    swings = rng.normal(0, 0.06, (n_days, 5))
    for t in range(1, n_days):
        swings[t] += 0.8 * swings[t - 1]
    prices = table(*(50 * np.exp(np.cumsum(rng.normal(0, 0.01, (n_days, 1)), axis=0) + swings)).T)
    if gaps:
        prices = prices.mask(rng.random(prices.shape) < 0.05)
        for column, end in zip((0, 1), rng.integers(n_days // 3, n_days, 2), strict=True):
            prices.iloc[end:, column] = NAN
        prices.iloc[: n_days // 4, 2] = NAN
    first, second = np.array([0, 0, 1, 2, 3, 4]), np.array([1, 3, 2, 4, 4, 0])
    hedge = np.array([1.0, 0.7, 1.3, -0.5, 1.0, 0.9])
    logs = np.log(50) * (1 - hedge)
    pairs = pd.DataFrame(
        {"first": first, "second": second, "hedge_ratio": hedge, "intercept": logs, "residual_sd": np.full(6, 0.08)}
    )
    return prices, pairs


WORLD_RULES = Rules(entry=1.5, exit=0.2, stop=3.0, max_days=15)


@pytest.fixture
def three_trades() -> tuple[pd.DataFrame, Book]:
    prices = table(
        # 0    1   2   3    4    5    6    7    8   9   10  11  12  13  14  15  16   17
        [100, 80, 75, 90, 100, 105, 125, 120, 108, 90, 96, 80, 80, 64, 72, 80, 80, 110],
        [100, 100, 100, 100, 100, 90, 100, 96, 96, 96, 108, 100, 100, 100, 100, 100, 100, 100],
    )
    return prices, simulate(prices, one_pair(), Rules(cost_bp=10, borrow_percent=2.52))  # fee: 1e-4 of the short a day


def test_three_trades_by_hand(three_trades: tuple[pd.DataFrame, Book]) -> None:
    prices, book = three_trades
    assert days(prices, book) == [(1, 2, 5, "exit"), (-1, 7, 10, "exit"), (1, 12, 14, "stop")]
    # bought 0.5 / 75 at 75, sold at 105; short 0.5 / 100 from 100 to 90
    # short 0.5 / 120 from 120 to 96; bought 0.5 / 96 at 96, sold at 108
    # bought 0.5 / 80 at 80, sold at 72; short 0.5 / 100 from 100 to 100
    gross = [0.5 * 30 / 75 + 0.5 * 10 / 100, 0.5 * 24 / 120 + 0.5 * 12 / 96, -0.5 * 8 / 80]
    cost = [
        0.001 * (1 + 0.5 * 105 / 75 + 0.5 * 90 / 100) + 1e-4 * (0.5 + 0.5 + 0.5),
        0.001 * (1 + 0.5 * 96 / 120 + 0.5 * 108 / 96) + 1e-4 * 0.5 * (120 + 108 + 90) / 120,
        0.001 * (1 + 0.5 * 72 / 80 + 0.5) + 1e-4 * (0.5 + 0.5),
    ]
    np.testing.assert_allclose(book.trades["pnl_gross"], gross, rtol=0, atol=1e-12)
    np.testing.assert_allclose(book.trades["cost"], cost, rtol=0, atol=1e-12)
    np.testing.assert_allclose(book.trades["pnl_net"], np.subtract(gross, cost), rtol=0, atol=1e-12)
    np.testing.assert_allclose(gross, [0.25, 0.1625, -0.05], atol=1e-12)
    np.testing.assert_allclose(cost, [0.0023, 0.002095, 0.00205], atol=1e-12)


def test_daily_profit_by_hand(three_trades: tuple[pd.DataFrame, Book]) -> None:
    _, book = three_trades
    gross = np.zeros(18)
    gross[[3, 4, 5]] = [0.5 * 15 / 75, 0.5 * 10 / 75, 0.5 * 5 / 75 + 0.5 * 10 / 100]
    gross[[8, 9, 10]] = [0.5 * 12 / 120, 0.5 * 18 / 120, -0.5 * 6 / 120 + 0.5 * 12 / 96]
    gross[[13, 14]] = [-0.5 * 16 / 80, 0.5 * 8 / 80]
    cost = np.zeros(18)
    cost[[2, 7, 12]] = 0.001
    cost[[3, 4, 13]] = 0.5e-4
    cost[5] = 0.5e-4 + 0.00115
    cost[[8, 9]] = [0.5e-4, 0.45e-4]
    cost[10] = 0.375e-4 + 0.0009625
    cost[14] = 0.5e-4 + 0.00095
    np.testing.assert_allclose(book.gross[:, 0], gross, rtol=0, atol=1e-12)
    np.testing.assert_allclose(book.net[:, 0], gross - cost, rtol=0, atol=1e-12)


def test_legs_are_split_by_the_hedge_ratio() -> None:
    # z = 10 (log p1 - 2 log p2): decided on day 1, filled on day 2 with 1/3 in the first leg and 2/3 short
    prices = table([100, 80, 80, 88, 88], [10, 10, 10, 10, 8])
    book = simulate(prices, one_pair(2.0), FREE)
    np.testing.assert_allclose(book.gross[:, 0], [0, 0, 0, 0.1 / 3, 0.2 * 2 / 3], atol=1e-12)


def test_a_negative_hedge_ratio_holds_both_legs_on_the_same_side() -> None:
    # z = 10 (log p1 + log p2 - log 10^4): bought together, so nothing is borrowed
    prices = table([100, 80, 80, 88, 88], [100, 100, 100, 100, 110])
    pairs = one_pair(-1.0).assign(intercept=np.log(1e4))
    book = simulate(prices, pairs, Rules(cost_bp=0, borrow_percent=50))
    np.testing.assert_allclose(book.net[:, 0], [0, 0, 0, 0.05, 0.05], atol=1e-12)


def test_the_fill_is_at_the_close_of_the_day_after_the_signal() -> None:
    prices = table([100, 80, 100, 100, 100, 100], [100] * 6)
    book = simulate(prices, one_pair(), FREE)
    assert days(prices, book) == [(1, 2, 3, "exit")]
    assert not book.gross.any()  # the move from 80 to 100 is gone by the time of the fill


def test_a_signal_on_the_last_two_days_opens_nothing() -> None:
    for path in ([100, 100, 100, 80], [100, 100, 80, 80]):
        book = simulate(table(path, [100] * 4), one_pair(), Rules())
        assert book.trades.empty
        assert not book.net.any()


def test_no_entry_beyond_the_stop() -> None:
    assert simulate(table([100, 60, 60, 60], [100] * 4), one_pair(), Rules()).trades.empty


def test_entry_at_exactly_the_threshold() -> None:
    prices, pairs = table([1, 0.5, 0.5, 0.5], [1] * 4), one_pair()
    exact = float(-np.log(0.5) / 0.1)
    assert len(simulate(prices, pairs, Rules(entry=exact, stop=exact + 1)).trades) == 1
    assert simulate(prices, pairs, Rules(entry=np.nextafter(exact, 9), stop=9)).trades.empty
    assert simulate(prices, pairs, Rules(entry=1, stop=exact)).trades.empty


def test_the_exit_level_is_on_the_side_the_spread_came_from() -> None:
    prices = table([100, 80, 80, 90, 94, 96, 100, 100], [100] * 8)  # z: -1.05, -0.62, -0.41, 0
    assert days(prices, simulate(prices, one_pair(), replace(FREE, exit=0.5))) == [(1, 2, 6, "exit")]
    assert days(prices, simulate(prices, one_pair(), replace(FREE, exit=0.7))) == [(1, 2, 5, "exit")]
    assert days(prices, simulate(prices, one_pair(), FREE)) == [(1, 2, 7, "exit")]


def test_time_out() -> None:
    prices = table([100] + [80] * 11, [100] * 12)
    book = simulate(prices, one_pair(), replace(FREE, max_days=3))
    assert days(prices, book) == [(1, 2, 6, "time")]  # three days held on day 5, filled on day 6, not opened again


def test_an_open_trade_ends_with_the_data() -> None:
    prices = table([100, 80, 80, 84], [100] * 4)
    book = simulate(prices, one_pair(), Rules(cost_bp=10, borrow_percent=0))
    assert days(prices, book) == [(1, 2, 3, "end")]
    assert book.trades["pnl_net"][0] == pytest.approx(0.5 * 4 / 80 - 0.001 * (2 + 0.5 * 4 / 80), abs=1e-12)


@pytest.mark.parametrize(
    ("way", "rules"), [([64, 64], Rules()), ([81, 81], Rules(max_days=1))], ids=["stop", "time-out"]
)
def test_after_a_stop_or_time_out_the_pair_waits_for_a_crossing_of_zero(way: list[float], rules: Rules) -> None:
    waiting = [80, 99, 80, 80]  # z comes back to -0.1 but does not cross
    prices = table([100, 80, 80, *way, *waiting, 101, 80, 80, 80], [100] * 13)
    trades = days(prices, simulate(prices, one_pair(), rules))
    assert [trade[:2] for trade in trades] == [(1, 2), (1, 11)]
    assert trades[0][3] in ("stop", "time")


def test_after_an_ordinary_exit_the_pair_may_open_again_without_a_crossing() -> None:
    prices = table([100, 80, 80, 96, 96, 80, 80, 80], [100] * 8)  # back to -0.41: inside the exit level
    assert [trade[:2] for trade in days(prices, simulate(prices, one_pair(), replace(FREE, exit=0.5)))] == [
        (1, 2),
        (1, 6),
    ]


def test_a_delisted_leg_is_closed_at_its_last_price() -> None:
    prices = table([100, 80, 80, 90, NAN, NAN, NAN], [100, 100, 100, 100, 95, 50, 50])
    book = simulate(prices, one_pair(), Rules(cost_bp=10, borrow_percent=0))
    assert days(prices, book) == [(1, 2, 4, "delisted")]
    gross = 0.5 * 10 / 80 + 0.5 * 5 / 100  # the other leg is bought back at the close of that day
    assert book.trades["pnl_gross"][0] == pytest.approx(gross, abs=1e-12)
    assert book.trades["cost"][0] == pytest.approx(0.001 * (1 + 0.5 * 90 / 80 + 0.5 * 95 / 100), abs=1e-12)
    assert not book.net[5:].any()


def test_a_delisting_on_the_last_day_is_one_too() -> None:
    prices = table([100, 80, 80, 90, NAN], [100] * 5)
    assert days(prices, simulate(prices, one_pair(), FREE)) == [(1, 2, 4, "delisted")]


def test_an_order_to_close_waits_for_both_prices() -> None:
    prices = table([100, 80, 80, 100, NAN, NAN, 104, 104], [100] * 8)
    book = simulate(prices, one_pair(), FREE)
    assert days(prices, book) == [(1, 2, 6, "exit")]
    assert book.gross[6, 0] == pytest.approx(0.5 * 4 / 80, abs=1e-12)


def test_an_order_to_open_is_withdrawn_when_a_leg_has_no_price() -> None:
    prices = table([100, 80, NAN, 90, 90, 90], [100] * 6)
    assert simulate(prices, one_pair(), Rules()).trades.empty


def test_zscores_look_at_the_last_day_and_are_nan_without_a_price() -> None:
    view = np.log(np.array([[1.0, 1.0, 1.0], [np.e**3, np.e, NAN]]))
    pairs = pd.DataFrame(
        {"first": [0, 0], "second": [1, 2], "hedge_ratio": [2.0, 1.0], "intercept": 0.5, "residual_sd": 0.25}
    )
    np.testing.assert_allclose(zscores(view, pairs), [(3 - 2 - 0.5) / 0.25, NAN])


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(0, 78), st.booleans())
def test_prices_after_a_day_change_nothing_up_to_it(seed: int, t: int, gaps: bool) -> None:
    prices, pairs = world(seed, gaps=gaps)
    other = prices.copy()
    other.iloc[t + 1 :] *= np.exp(np.random.default_rng(seed + 1).normal(0, 0.5, (len(prices) - t - 1, 5)))
    before, after = simulate(prices, pairs, WORLD_RULES), simulate(other, pairs, WORLD_RULES)
    np.testing.assert_array_equal(before.gross[: t + 1], after.gross[: t + 1])
    np.testing.assert_array_equal(before.net[: t + 1], after.net[: t + 1])
    today = prices.index[t]
    opened, closed = (
        [book.trades.loc[book.trades[when] <= today].reset_index(drop=True) for book in (before, after)]
        for when in ("entry", "exit")
    )
    pd.testing.assert_frame_equal(*closed)
    entries = [each[["pair", "side", "entry"]].sort_values(["entry", "pair"], ignore_index=True) for each in opened]
    pd.testing.assert_frame_equal(*entries)


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(2, 78))
def test_ending_the_data_changes_nothing_before_the_last_day(seed: int, t: int) -> None:
    prices, pairs = world(seed)
    full, cut = simulate(prices, pairs, WORLD_RULES), simulate(prices.iloc[: t + 1], pairs, WORLD_RULES)
    np.testing.assert_array_equal(full.net[:t], cut.net[:t])
    assert (cut.trades.loc[cut.trades["reason"] == "end", "exit"] == prices.index[t]).all()


@settings(max_examples=15, deadline=None)
@given(seeds, st.booleans())
def test_money_is_conserved(seed: int, gaps: bool) -> None:
    prices, pairs = world(seed, gaps=gaps)
    book = simulate(prices, pairs, WORLD_RULES)
    assert np.isfinite(book.gross).all()
    assert np.isfinite(book.net).all()
    sums = book.trades.groupby("pair")[["pnl_gross", "pnl_net"]].sum().reindex(range(len(pairs)), fill_value=0.0)
    np.testing.assert_allclose(sums["pnl_gross"], book.gross.sum(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(sums["pnl_net"], book.net.sum(axis=0), rtol=0, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(seeds, st.booleans())
def test_each_trade_earns_what_its_entry_and_exit_prices_say(seed: int, gaps: bool) -> None:
    prices, pairs = world(seed, gaps=gaps)
    last = prices.ffill().to_numpy()
    for trade in simulate(prices, pairs, WORLD_RULES).trades.itertuples():
        pair = pairs.iloc[trade.pair]
        legs = [int(pair["first"]), int(pair["second"])]
        entry, leave = last[day(prices, trade.entry), legs], last[day(prices, trade.exit), legs]
        weights = trade.side * np.array([1, -pair["hedge_ratio"]]) / (1 + abs(pair["hedge_ratio"]))
        assert trade.pnl_gross == pytest.approx(weights @ (leave / entry - 1), abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(seeds, st.booleans())
def test_each_trade_follows_the_rules(seed: int, gaps: bool) -> None:
    prices, pairs = world(seed, gaps=gaps)
    logs, rules = np.log(prices.to_numpy()), WORLD_RULES
    zs = np.array([zscores(logs[: t + 1], pairs) for t in range(len(logs))])
    for trade in simulate(prices, pairs, rules).trades.itertuples():
        z = zs[:, trade.pair]
        entry, leave = day(prices, trade.entry), day(prices, trade.exit)
        assert rules.entry <= -trade.side * z[entry - 1] < rules.stop
        toward = trade.side * z[entry:leave]  # the days on which the open trade was looked at, grows to the mean
        reasons = {
            "exit": toward >= -rules.exit,
            "stop": toward <= -rules.stop,
            "time": (np.arange(len(toward)) >= rules.max_days) & np.isfinite(toward),
        }
        leaving = np.flatnonzero(np.any(list(reasons.values()), axis=0))
        if trade.reason in reasons:
            assert reasons[trade.reason][leaving[0]]
            assert np.isnan(z[entry + leaving[0] + 1 : leave]).all()  # closed on the next day with both prices
        elif trade.reason == "end":
            assert leave == len(logs) - 1
            assert len(leaving) == 0
        else:
            assert np.isnan(z[leave:]).all()
            assert np.isfinite(z[leave - 1])


def test_the_property_worlds_see_every_reason() -> None:
    books = [simulate(*world(seed, gaps=True), WORLD_RULES).trades for seed in range(5)]
    assert set(pd.concat(books)["reason"]) == {"exit", "stop", "time", "delisted", "end"}


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(6)), seeds)
def test_order_of_pairs_changes_nothing(order: list[int], seed: int) -> None:
    prices, pairs = world(seed, gaps=True)
    plain = simulate(prices, pairs, WORLD_RULES)
    other = simulate(prices, pairs.iloc[order].reset_index(drop=True), WORLD_RULES)
    np.testing.assert_array_equal(other.net, plain.net[:, order])
    renamed = other.trades.assign(pair=np.array(order)[other.trades["pair"]])
    by = ["exit", "pair"]
    pd.testing.assert_frame_equal(
        renamed.sort_values(by, ignore_index=True), plain.trades.sort_values(by, ignore_index=True)
    )


@settings(max_examples=4, deadline=None)
@given(seeds)
def test_pairs_together_equal_each_pair_alone(seed: int) -> None:
    prices, pairs = world(seed, gaps=True)
    together = simulate(prices, pairs, WORLD_RULES)
    for i in range(len(pairs)):
        alone = simulate(prices, pairs.iloc[[i]], WORLD_RULES)
        np.testing.assert_array_equal(alone.gross[:, 0], together.gross[:, i])
        np.testing.assert_array_equal(alone.net[:, 0], together.net[:, i])
        mine = together.trades[together.trades["pair"] == i].assign(pair=0).reset_index(drop=True)
        pd.testing.assert_frame_equal(alone.trades, mine)


@settings(max_examples=10, deadline=None)
@given(seeds, st.floats(0, 50), st.floats(0, 50))
def test_costs_only_lower_profit_and_change_no_decision(seed: int, cost_bp: float, borrow: float) -> None:
    prices, pairs = world(seed, gaps=True)
    free = simulate(prices, pairs, replace(WORLD_RULES, cost_bp=0, borrow_percent=0))
    paid = simulate(prices, pairs, replace(WORLD_RULES, cost_bp=cost_bp, borrow_percent=borrow))
    np.testing.assert_array_equal(free.net, free.gross)
    np.testing.assert_array_equal(paid.gross, free.gross)
    assert (paid.net <= free.net).all()
    columns = ["pair", "side", "entry", "exit", "pnl_gross", "reason"]
    pd.testing.assert_frame_equal(paid.trades[columns], free.trades[columns])


def test_independent_random_walks_earn_nothing_before_costs() -> None:
    rng = np.random.default_rng(5)
    n_days, n_pairs, sd = 252, 1500, 0.02
    # Prices are martingales, so that no rule that sees only the past has an expected profit.
    logs = np.cumsum(rng.normal(-(sd**2) / 2, sd, (n_days, 2 * n_pairs)), axis=0)
    pairs = pd.DataFrame(
        {
            "first": np.arange(0, 2 * n_pairs, 2),
            "second": np.arange(1, 2 * n_pairs, 2),
            "hedge_ratio": 1.0,
            "intercept": 0.0,
            "residual_sd": 0.1,
        }
    )
    book = simulate(table(*np.exp(logs).T), pairs, Rules())
    profit = book.gross.sum(axis=0)
    error = profit.std(ddof=1) / np.sqrt(n_pairs)
    assert len(book.trades) > 1000
    assert error < 0.005  # one day's head start earns about 0.01 a trade
    assert abs(profit.mean()) < 3 * error
    assert book.net.sum() < book.gross.sum()


def test_no_pairs_give_an_empty_book_with_typed_columns() -> None:
    prices, pairs = world(0)
    book = simulate(prices, pairs.iloc[:0], Rules())
    assert book.net.shape == (80, 0)
    traded = simulate(prices, pairs, WORLD_RULES).trades
    pd.testing.assert_frame_equal(book.trades, traded.iloc[:0].reset_index(drop=True))


@pytest.mark.parametrize("price", [0.0, -3.0, np.inf])
def test_a_price_that_is_not_positive_is_refused(price: float) -> None:
    prices = table([100, price, 100], [100] * 3).set_axis(["AA", "BB"], axis=1)
    with pytest.raises(DataError, match=f"price of AA on 2010-01-05 is {price:g}: prices must be positive"):
        simulate(prices, one_pair(), Rules())


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 0, 1]], ids=["unsorted", "twice"])
def test_dates_must_ascend(order: list[int]) -> None:
    with pytest.raises(DataError, match="do not ascend: sort them"):
        simulate(table([1, 1, 1], [1, 1, 1]).iloc[order], one_pair(), Rules())
