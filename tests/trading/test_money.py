"""Every cent of a book is accounted for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from benchmarks.row_by_row import simulate_pair
from companysim.errors import ConfigError
from companysim.trading import Costs, Limits, Partitions, Protocol, Rules, Window, sharpe, simulate, walk_forward
from tests.trading.worlds import FREE, NAN, any_costs, any_limits, any_rules, one_pair, seeds, table, world


@pytest.fixture
def three_trades() -> pd.DataFrame:
    return table(
        # Mo   Tu  We  Th   Fr   Mo   Tu   We   Th  Fr  Mo  Tu  We  Th  Fr  Mo  Tu   We
        [100, 80, 75, 90, 100, 105, 125, 120, 108, 90, 96, 80, 80, 64, 72, 80, 80, 110],
        [100, 100, 100, 100, 100, 90, 100, 96, 96, 96, 108, 100, 100, 100, 100, 100, 100, 100],
    )


def test_three_trades_by_hand_to_the_cent(three_trades: pd.DataFrame) -> None:
    # 5,000 dollars a leg; 10 bp a fill; a borrow fee of 3.65 % a year is 1 bp of the short leg a calendar day.
    costs = Costs(commission_bp=2, half_spread_bp=8, borrow_percent=3.65)
    book = simulate(three_trades, one_pair(), costs=costs, size=10_000)
    dates = ["2010-01-06", "2010-01-13", "2010-01-20"], ["2010-01-11", "2010-01-18", "2010-01-22"]
    for column, expected in zip(("entry", "exit"), dates, strict=True):
        assert list(book.trades[column]) == list(pd.to_datetime(expected))
    assert list(book.trades["reason"]) == ["exit", "exit", "stop"]
    expected = {
        # bought 66 2/3 at 75, sold at 105: 2,000; short 50 from 100 to 90: 500
        # short 41 2/3 from 120 to 96: 1,000; bought 52 1/12 at 96, sold at 108: 625
        # bought 62 1/2 at 80, sold at 72: -500; short 50 from 100 to 100
        "pnl_gross": [2500.00, 1625.00, -500.00],
        # 10,000 in; 7,000 and 4,500 out.  4,000 and 5,625 out.  4,500 and 5,000 out.
        "cost": [10 + 11.50, 10 + 9.625, 10 + 9.50],
        # 5,000 for five nights, a weekend among them.  5,000, 4,500, and 3,750 over the weekend.  5,000 for two nights.
        "carry": [2.50, 0.50 + 0.45 + 1.125, 1.00],
        "pnl_net": [2476.00, 1603.30, -520.50],
    }
    for column, values in expected.items():
        np.testing.assert_allclose(book.trades[column], values, rtol=0, atol=1e-9, err_msg=column)
    assert book.net.sum() == pytest.approx(3558.80, abs=1e-9)
    by_day = {3: 1000 - 0.5, 5: 333 + 1 / 3 + 500 - 11.5 - 1.5, 10: -250 + 625 - 9.625 - 1.125, 12: -10.0}
    for t, value in by_day.items():
        assert book.net[t, 0] == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(book.long[:6], [0, 0, 5000, 6000, 6666 + 2 / 3, 0], atol=1e-9)
    np.testing.assert_allclose(book.short[:6], [0, 0, 5000, 5000, 5000, 0], atol=1e-9)
    np.testing.assert_allclose(book.traded[[2, 5, 7, 10, 12, 14]], [1e4, 11500, 1e4, 9625, 1e4, 9500], atol=1e-9)
    assert book.traded.sum() == pytest.approx(30_000 + 11_500 + 9_625 + 9_500)


@settings(max_examples=60, deadline=None)
@given(seeds, any_rules(), any_costs(), any_limits())
def test_money_is_conserved(seed: int, rules: Rules, costs: Costs, limits: Limits) -> None:
    prices, pairs = world(seed, gaps=True)
    book = simulate(prices, pairs, rules, costs, limits, size=1000)
    assert np.isfinite(book.gross).all()
    assert np.isfinite(book.net).all()
    sums = book.trades.groupby("pair")[["pnl_gross", "pnl_net"]].sum().reindex(range(len(pairs)), fill_value=0.0)
    np.testing.assert_allclose(sums["pnl_gross"], book.gross.sum(axis=0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(sums["pnl_net"], book.net.sum(axis=0), rtol=0, atol=1e-9)
    parts = book.trades["pnl_gross"] - book.trades["cost"] - book.trades["carry"]
    np.testing.assert_allclose(book.trades["pnl_net"], parts, rtol=0, atol=1e-9)
    assert book.long[-1] == book.short[-1] == 0  # nothing is left open
    fills = costs.commission_bp + costs.half_spread_bp
    assert book.trades["cost"].sum() == pytest.approx(book.traded.sum() * fills / 1e4, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seeds, any_rules(), any_costs())
def test_the_simulator_equals_the_rules_followed_row_by_row(seed: int, rules: Rules, costs: Costs) -> None:
    prices, pairs = world(seed, gaps=True)
    book = simulate(prices, pairs, rules, costs, size=100)
    for i in range(len(pairs)):
        gross, net, trades = simulate_pair(prices, pairs.iloc[i], rules, costs, size=100)
        np.testing.assert_allclose(book.gross[:, i], gross, rtol=0, atol=1e-11)
        np.testing.assert_allclose(book.net[:, i], net, rtol=0, atol=1e-11)
        mine = book.trades[book.trades["pair"] == i]
        found = mine[["side", "entry", "exit", "reason"]].itertuples(index=False, name=None)
        assert list(found) == [(side, entry, leave, why) for side, entry, leave, *_, why in trades]
        money = np.array([trade[3:6] for trade in trades], dtype=float).reshape(-1, 3)
        np.testing.assert_allclose(mine[["pnl_gross", "cost", "carry"]], money, rtol=0, atol=1e-11)


@settings(max_examples=15, deadline=None)
@given(seeds, any_costs(), any_limits())
def test_trades_and_interest_are_the_change_of_equity(seed: int, costs: Costs, limits: Limits) -> None:
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2010-01-04", periods=220)
    walk = np.cumsum(rng.normal(0, 0.01, (220, 1)), axis=0)
    prices = pd.DataFrame(40 * np.exp(walk + rng.normal(0, 0.03, (220, 5))), index=days, columns=list("VWXYZ"))
    prices.iloc[150:, 1] = NAN
    prices.iloc[170:176, 2] = NAN
    windows = Window(days[0], days[79], days[149]), Window(days[70], days[149], days[219])
    protocol = Protocol(windows, p_value=0.5, costs=costs, limits=limits, capital=25_000, leverage=2)
    one = Partitions.single(prices.columns, np.zeros(5), days[0])
    result = walk_forward(prices, one, protocol)
    assert len(result.trades)
    change = result.equity().iloc[-1] - 25_000
    interest = 25_000 * costs.cash_percent / 100 * (days[219] - days[79]).days / 365
    assert change == pytest.approx(result.trades["pnl_net"].sum() + interest, abs=1e-6)


def test_a_delisted_leg_is_closed_at_its_last_price_and_the_delisting_return() -> None:
    prices = table([100, 80, 80, 90, NAN, NAN, NAN, NAN], [100, 100, 100, 100, 95, 94, 50, 50])
    for lost, expected in ((0.0, 90), (-0.3, 63), (-1.0, 0)):
        costs = Costs(commission_bp=10, half_spread_bp=0, borrow_percent=0, delisting_return=lost)
        book = simulate(prices, one_pair(), Rules(delisted_after=2), costs)
        assert list(book.trades["reason"]) == ["delisted"]
        assert book.trades["exit"][0] == prices.index[5]  # on the second day without a price, not on the first
        gross = 0.5 * (expected - 80) / 80 + 0.5 * 6 / 100  # the other leg is bought back at the close of that day
        assert book.trades["pnl_gross"][0] == pytest.approx(gross, abs=1e-12)
        fills = 1 + 0.5 * expected / 80 + 0.5 * 94 / 100
        assert book.trades["cost"][0] == pytest.approx(0.001 * fills, abs=1e-12)
        assert not book.net[6:].any()


def test_a_short_seller_gains_from_a_delisting_return() -> None:
    prices = table([100, 125, 125, 130, NAN, NAN], [100] * 6)
    book = simulate(prices, one_pair(), Rules(delisted_after=1), Costs(0, 0, 0, delisting_return=-1.0))
    assert book.trades["pnl_gross"][0] == pytest.approx(0.5, abs=1e-12)  # the shares need not be bought back


def test_cash_pays_the_long_leg_and_is_paid_by_the_short_one() -> None:
    prices = table([100, 80, 80, 80, 80], [10, 10, 10, 10, 10])  # opened on Wednesday, closed on Friday
    costs = Costs(0, 0, borrow_percent=0, cash_percent=36.5)
    book = simulate(prices, one_pair(2.0).assign(intercept=-np.log(0.9)), costs=costs, size=3000)
    assert (book.long[2], book.short[2]) == pytest.approx((1000, 2000))
    assert book.trades["carry"][0] == pytest.approx(2 * 0.001 * (1000 - 2000), abs=1e-9)


def test_independent_random_walks_earn_the_cost_drag_and_nothing_else() -> None:
    rng = np.random.default_rng(5)
    n_days, n_books, per_book, sd = 252, 300, 5, 0.02
    pairs_all = n_books * per_book
    # Prices are martingales, so that no rule that sees only the past has an expected profit.
    logs = np.cumsum(rng.normal(-(sd**2) / 2, sd, (n_days, 2 * pairs_all)), axis=0)
    pairs = pd.DataFrame(
        {
            "first": np.arange(0, 2 * pairs_all, 2),
            "second": np.arange(1, 2 * pairs_all, 2),
            "hedge_ratio": 1.0,
            "intercept": 0.0,
            "residual_sd": 0.1,
        }
    )
    book = simulate(table(*np.exp(logs).T), pairs, costs=Costs(commission_bp=10, half_spread_bp=30))
    gross, net = (each.reshape(n_days, n_books, per_book).mean(axis=2) for each in (book.gross, book.net))
    drag = (gross - net).mean(axis=0) / net.std(axis=0, ddof=1) * np.sqrt(252)
    left = sharpe(net) + drag
    error = left.std(ddof=1) / np.sqrt(n_books)
    assert len(book.trades) > 1000
    assert error < 0.08  # one day's head start adds about 1 to the Sharpe ratio
    assert abs(left.mean()) < 3 * error
    assert sharpe(net).mean() < -3 * error  # the drag itself is seen


def test_costs_only_lower_profit_and_change_no_decision() -> None:
    prices, pairs = world(2, gaps=True)
    free, paid = simulate(prices, pairs, costs=FREE), simulate(prices, pairs, costs=Costs(3, 4, 5))
    np.testing.assert_array_equal(free.net, free.gross)
    np.testing.assert_array_equal(paid.gross, free.gross)
    assert (paid.net <= free.net).all()
    columns = ["pair", "side", "entry", "exit", "pnl_gross", "reason"]
    pd.testing.assert_frame_equal(paid.trades[columns], free.trades[columns])


@pytest.mark.parametrize(
    ("setting", "value"),
    [("commission_bp", -1), ("borrow_percent", np.nan), ("cash_percent", np.inf), ("delisting_return", -1.5)],
)
def test_impossible_costs_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is .*: it must be finite and at least"):
        Costs(**{setting: value})
