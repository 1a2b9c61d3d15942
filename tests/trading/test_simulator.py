from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from companysim.errors import ConfigError, DataError
from companysim.trading import Costs, Limits, Rules, simulate
from companysim.trading.simulator import zscores
from tests.trading.worlds import (
    FREE,
    NAN,
    WORLD_RULES,
    any_costs,
    any_limits,
    any_rules,
    day,
    days,
    one_pair,
    seeds,
    table,
    world,
)


def arrays(pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Legs and figures of pairs as `zscores` takes them."""
    return pairs[["first", "second"]].to_numpy().T, pairs[["hedge_ratio", "intercept", "residual_sd"]].to_numpy().T


def test_legs_are_split_by_the_hedge_ratio() -> None:
    # z = 10 (log p1 - 2 log p2): decided on day 1, filled on day 2 with 1/3 in the first leg and 2/3 short
    prices = table([100, 80, 80, 88, 88], [10, 10, 10, 10, 8])
    book = simulate(prices, one_pair(2.0), costs=FREE)
    np.testing.assert_allclose(book.gross[:, 0], [0, 0, 0, 0.1 / 3, 0.2 * 2 / 3], atol=1e-12)


def test_a_negative_hedge_ratio_holds_both_legs_on_the_same_side() -> None:
    # z = 10 (log p1 + log p2 - log 10^4): bought together, so nothing is borrowed
    prices = table([100, 80, 80, 88, 88], [100, 100, 100, 100, 110])
    pairs = one_pair(-1.0).assign(intercept=np.log(1e4))
    book = simulate(prices, pairs, costs=Costs(0, 0, borrow_percent=50))
    np.testing.assert_allclose(book.net[:, 0], [0, 0, 0, 0.05, 0.05], atol=1e-12)


def test_the_fill_is_at_the_close_of_the_day_after_the_signal() -> None:
    prices = table([100, 80, 100, 100, 100, 100], [100] * 6)
    book = simulate(prices, one_pair(), costs=FREE)
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
    assert days(prices, simulate(prices, one_pair(), Rules(exit=0.5))) == [(1, 2, 6, "exit")]
    assert days(prices, simulate(prices, one_pair(), Rules(exit=0.7))) == [(1, 2, 5, "exit")]
    assert days(prices, simulate(prices, one_pair())) == [(1, 2, 7, "exit")]


def test_time_out() -> None:
    prices = table([100] + [80] * 11, [100] * 12)
    book = simulate(prices, one_pair(), Rules(max_days=3))
    assert days(prices, book) == [(1, 2, 6, "time")]  # three days held on day 5, filled on day 6, not opened again


def test_an_open_trade_ends_with_the_data() -> None:
    prices = table([100, 80, 80, 84], [100] * 4)
    book = simulate(prices, one_pair(), costs=Costs(6, 4, borrow_percent=0))
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
    assert [trade[:2] for trade in days(prices, simulate(prices, one_pair(), Rules(exit=0.5)))] == [
        (1, 2),
        (1, 6),
    ]


def test_an_order_to_close_waits_for_both_prices() -> None:
    prices = table([100, 80, 80, 100, NAN, NAN, 104, 104], [100] * 8)
    book = simulate(prices, one_pair())
    assert days(prices, book) == [(1, 2, 6, "exit")]
    assert book.gross[6, 0] == pytest.approx(0.5 * 4 / 80, abs=1e-12)


def test_an_order_to_open_is_withdrawn_when_a_leg_has_no_price() -> None:
    prices = table([100, 80, NAN, 90, 90, 90], [100] * 6)
    assert simulate(prices, one_pair(), Rules()).trades.empty


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
@example(7985, True)
def test_each_trade_follows_the_rules(seed: int, gaps: bool) -> None:
    prices, pairs = world(seed, gaps=gaps)
    logs, rules = np.log(prices.to_numpy()), WORLD_RULES
    legs, figures = arrays(pairs)
    zs = np.array([zscores(logs[: t + 1], legs, figures) for t in range(len(logs))])
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
            assert all(np.isnan(z[entry + day + 1 :]).all() for day in leaving[:1])  # no day with both prices was left
        else:
            silent = prices.iloc[leave - rules.delisted_after + 1 : leave + 1, legs[:, trade.pair]]
            assert silent.isna().all().any()


def test_the_property_worlds_see_every_reason() -> None:
    books = [simulate(*world(seed, gaps=True), WORLD_RULES).trades for seed in range(5)]
    assert set(pd.concat(books)["reason"]) == {"exit", "stop", "time", "delisted", "end"}


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"entry": 0.0, "exit": -1.0},
        {"exit": 2.0},
        {"stop": 2.0},
        {"lag": 0},
        {"max_days": 0},
        {"pause": -1},
        {"zscore_days": 2},
        {"delisted_after": 0},
        {"reentry": "soon"},
        {"hedge": "none"},
    ],
)
def test_impossible_rules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}.*must"):
        Rules(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [{"max_open": 0}, {"max_per_company": 0}])
def test_impossible_limits_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(limits))} is 0: it must be at least 1"):
        Limits(**limits)


@pytest.mark.parametrize(("column", "value"), [("residual_sd", 0.0), ("hedge_ratio", NAN), ("intercept", np.inf)])
def test_a_pair_without_figures_is_refused(column: str, value: float) -> None:
    with pytest.raises(DataError, match="is no number: trade pairs that passed the test"):
        simulate(table([1, 1, 1], [1, 1, 1]), one_pair().assign(**{column: value}))


# Signals


def test_zscores_look_at_the_last_day_and_are_nan_without_a_price() -> None:
    view = np.log(np.array([[1.0, 1.0, 1.0], [np.e**3, np.e, NAN]]))
    figures = np.array([[2.0, 1.0], [0.5, 0.5], [0.25, 0.25]])
    np.testing.assert_allclose(zscores(view, np.array([[0, 0], [1, 2]]), figures), [(3 - 2 - 0.5) / 0.25, NAN])


def test_rolling_zscores_equal_those_of_pandas() -> None:
    prices, pairs = world(11, gaps=True)
    logs = np.log(prices)
    legs, figures = arrays(pairs)
    for i, pair in pairs.iterrows():
        spread = logs.iloc[:, int(pair["first"])] - pair["hedge_ratio"] * logs.iloc[:, int(pair["second"])]
        window = spread.rolling(12, min_periods=6)
        expected = ((spread - window.mean()) / window.std()).to_numpy()
        found = [zscores(logs.to_numpy()[: t + 1], legs, figures, 12)[int(i)] for t in range(len(logs))]
        # With fewer than 12 days so far, half of 12 is still asked for.
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert np.isfinite(expected).sum() > 10


def test_a_rolling_zscore_of_a_price_that_stands_still_is_none() -> None:
    view = np.log(np.full((20, 2), 7.0))
    assert np.isnan(zscores(view, np.array([[0], [1]]), np.ones((3, 1)), 10)).all()


def test_days_before_the_start_feed_rolling_zscores_and_nothing_else() -> None:
    prices, pairs = world(4)
    rules = replace(WORLD_RULES, zscore_days=20)
    start = prices.index[30]
    book = simulate(prices, pairs, rules, start=start)
    assert book.dates[0] == start
    assert len(book.net) == len(book.long) == 50
    assert prices.index[31] <= book.trades["entry"].min() < prices.index[40]
    cut = simulate(prices.iloc[30:], pairs, rules)
    assert cut.trades["entry"].min() >= prices.index[40]  # half of 20 days are there on day 39
    frozen, again = simulate(prices, pairs, WORLD_RULES, start=start), simulate(prices.iloc[30:], pairs, WORLD_RULES)
    np.testing.assert_array_equal(frozen.net, again.net)


# Positions


def test_dollar_neutral_legs_are_equal() -> None:
    prices, pairs = world(2)
    trades = simulate(prices, pairs, replace(WORLD_RULES, hedge="dollar"), size=10).trades
    np.testing.assert_allclose(trades[["value_1", "value_2"]].abs(), 5)
    beta = simulate(prices, pairs, WORLD_RULES, size=10).trades
    ratio = pairs["hedge_ratio"].to_numpy()[beta["pair"]]
    np.testing.assert_allclose(-beta["value_2"] / beta["value_1"], ratio)
    np.testing.assert_allclose(beta[["value_1", "value_2"]].abs().sum(axis=1), 10)


def test_a_fill_waits_for_the_lag() -> None:
    prices = table([100, 80, 81, 82, 83, 100, 99, 98, 97, 96], [100] * 10)
    for lag, expected in ((1, (1, 2, 6)), (2, (1, 3, 7)), (3, (1, 4, 8))):
        assert days(prices, simulate(prices, one_pair(), Rules(lag=lag))) == [(*expected, "exit")]


def test_an_order_that_waits_for_its_lag_is_not_placed_twice_or_changed() -> None:
    prices = table([100, 80, 100, 125, 124, 100, 100, 100], [100] * 8)  # the opposite signal comes before the fill
    assert days(prices, simulate(prices, one_pair(), Rules(lag=3))) == [(1, 4, 7, "exit")]


@pytest.mark.parametrize(("reentry", "again"), [("crossing", 11), ("inside", 8), ("never", None)])
def test_reentry_after_a_stop(reentry: str, again: int | None) -> None:
    prices = table([100, 80, 80, 64, 64, 80, 90, 80, 80, 101, 80, 80, 80], [100] * 13)
    trades = days(prices, simulate(prices, one_pair(), Rules(reentry=reentry)))  # type: ignore[arg-type]
    assert trades[0] == (1, 2, 4, "stop")
    assert [trade[1] for trade in trades[1:2]] == ([again] if again else [])


@pytest.mark.parametrize(("pause", "again"), [(0, 8), (4, 8), (5, 9), (8, 12)])
def test_a_pause_after_a_stop_holds_back_orders(pause: int, again: int) -> None:
    prices = table([100, 80, 80, 64, 64, 80, 90, *[80] * 7], [100] * 14)  # the stop is seen on day 3
    rules = Rules(reentry="inside", pause=pause)
    assert [trade[1] for trade in days(prices, simulate(prices, one_pair(), rules))] == [2, again]


def test_a_gap_shorter_than_a_delisting_is_sat_out() -> None:
    prices = table([100, 80, 80, NAN, NAN, NAN, 100, 100, 100], [100] * 9)
    assert days(prices, simulate(prices, one_pair(), Rules(delisted_after=4))) == [(1, 2, 7, "exit")]
    assert days(prices, simulate(prices, one_pair(), Rules(delisted_after=3))) == [(1, 2, 5, "delisted")]


def test_a_line_deemed_delisted_is_not_traded_again() -> None:
    prices = table([100, 100, NAN, NAN, 80, 80, 80, 80], [100] * 8)
    assert len(simulate(prices, one_pair(), Rules(delisted_after=3)).trades) == 1
    assert simulate(prices, one_pair(), Rules(delisted_after=2)).trades.empty


def test_a_line_not_listed_yet_is_not_delisted() -> None:
    prices = table([NAN, NAN, NAN, 80, 80, 80], [100] * 6)
    assert days(prices, simulate(prices, one_pair(), Rules(delisted_after=1))) == [(1, 4, 5, "end")]


# Limits


def rivals(*lows: float, names: str = "ABCDEF") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs of a series that falls to its low on day 1 and stays, each against a series of its own."""
    legs = [leg for low in lows for leg in ([100, low, low, low, low, low], [100] * 6)]
    prices = table(*legs)
    prices.columns = pd.Index([f"{name}{i}" for name in names[: len(lows)] for i in (1, 2)])
    pairs = pd.concat([one_pair().assign(first=2 * i, second=2 * i + 1) for i in range(len(lows))], ignore_index=True)
    return prices, pairs


def test_the_strongest_signals_take_the_places() -> None:
    prices, pairs = rivals(80, 75, 78, 70)
    for places, expected in ((1, [3]), (2, [1, 3]), (3, [1, 2, 3]), (9, [0, 1, 2, 3])):
        assert sorted(simulate(prices, pairs, limits=Limits(max_open=places)).trades["pair"]) == expected


def test_equal_signals_are_taken_by_name_whatever_the_order() -> None:
    prices, pairs = rivals(80, 80, 80, names="CAB")
    for order in ([0, 1, 2], [2, 0, 1]):
        book = simulate(prices, pairs.iloc[order], limits=Limits(max_open=2))
        assert sorted(prices.columns[pairs["first"].iloc[order].iloc[book.trades["pair"]]]) == ["A1", "B1"]


def test_a_company_is_in_so_many_open_pairs_only() -> None:
    prices, pairs = rivals(80, 75, 70)
    shared = pairs.assign(second=[1, 1, 5])  # the first two share a leg
    assert sorted(simulate(prices, shared, limits=Limits(max_per_company=1)).trades["pair"]) == [1, 2]
    assert len(simulate(prices, shared, limits=Limits(max_per_company=2)).trades) == 3


def test_each_account_has_places_of_its_own() -> None:
    prices, pairs = rivals(80, 75, 78, 70)
    book = simulate(prices, pairs, limits=Limits(max_open=1), accounts=np.array([7, 7, 2, 2]))
    assert sorted(book.trades["pair"]) == [1, 3]


def test_a_place_is_free_again_after_the_exit_and_after_a_withdrawn_order() -> None:
    prices, pairs = rivals(75, 80)
    prices.iloc[2:, 0] = 100  # closed on day 3
    book = simulate(prices, pairs, limits=Limits(max_open=1))
    assert [(trade.pair, day(prices, trade.entry)) for trade in book.trades.itertuples()] == [(0, 2), (1, 4)]
    prices.iloc[2, 0] = NAN  # never filled
    book = simulate(prices, pairs, limits=Limits(max_open=1))
    assert [(trade.pair, day(prices, trade.entry)) for trade in book.trades.itertuples()] == [(1, 3)]


@settings(max_examples=20, deadline=None)
@given(seeds, any_limits(), any_rules())
def test_limits_are_kept(seed: int, limits: Limits, rules: Rules) -> None:
    prices, pairs = world(seed, gaps=True)
    book = simulate(prices, pairs, rules, limits=limits)
    trades = book.trades
    for date in prices.index:
        held = trades[(trades["entry"] <= date) & (date < trades["exit"])]
        assert len(held) <= (limits.max_open or 99)
        legs = pairs.iloc[held["pair"]][["first", "second"]].to_numpy().ravel()
        assert np.bincount(legs, minlength=1).max() <= (limits.max_per_company or 99)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), seeds, any_rules(), any_costs(), any_limits())
def test_order_of_pairs_changes_nothing(
    order: list[int], seed: int, rules: Rules, costs: Costs, limits: Limits
) -> None:
    prices, pairs = world(seed, gaps=True)
    plain = simulate(prices, pairs, rules, costs, limits)
    other = simulate(prices, pairs.iloc[order].reset_index(drop=True), rules, costs, limits)
    np.testing.assert_array_equal(other.net, plain.net[:, order])
    for name in ("long", "short", "traded"):
        np.testing.assert_array_equal(getattr(other, name), getattr(plain, name))
    renamed = other.trades.assign(pair=np.array(order)[other.trades["pair"]])
    pd.testing.assert_frame_equal(renamed, plain.trades, check_exact=True)
