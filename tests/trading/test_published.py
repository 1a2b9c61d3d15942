"""The published protocol: a case worked by hand for every fault, the ladder, and what an honest rung may not see."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companysim.errors import DataError
from companysim.trading.ladder import PUBLISHED, STEPS, Ladder, ladder
from companysim.trading.performance import sharpe
from companysim.trading.published import Faults, PublishedBook, PublishedProtocol, published

# Ten days before and ten days of trading. On the latter leg A has mean 10 and sd sqrt(1.6), leg B does not covary with
# it (slope 0), so that z = (A - 10) / 1.265: 0 1.58 0.79 0 -0.79 -1.58 -0.79 0 1.58 -0.79.
DAYS = pd.bdate_range("2020-01-06", periods=20, name="date")
A = [10.0, 12, 11, 10, 9, 8, 9, 10, 12, 9]
B = [11.0, 10, 10, 9, 10, 10, 10, 10, 10, 10]
TRADED = DAYS[10:]
PAIR = pd.DataFrame({"ticker_1": ["A"], "ticker_2": ["B"]})
MINI = PublishedProtocol(
    formation_start="2020-01-06",
    formation_end="2020-01-17",
    trading_end="2020-01-31",
    alive_after="2020-01-30",
    min_days=5,
)
HONEST = Faults(**{fault: False for fault, _ in STEPS})
seeds = st.integers(0, 2**32 - 1)


def world(
    first: list[float] = A, second: list[float] = B, before: tuple[list[float], list[float]] = (A, B)
) -> pd.DataFrame:
    return pd.DataFrame({"A": before[0] + first, "B": before[1] + second}, index=DAYS)


def run(prices: pd.DataFrame, pairs: pd.DataFrame = PAIR, **switches: bool) -> PublishedBook:
    return published(prices, pairs, replace(MINI, faults=replace(Faults(), **switches)))


def account(book: PublishedBook, start: float = 100_000) -> list[float]:
    """Values of the shared account after its first day."""
    return [start * value for value in np.cumprod(1 + book.daily.to_numpy())]


def days_of(book: PublishedBook, column: str) -> list[int]:
    return TRADED.get_indexer(book.bookings[column]).tolist()


def random_world(seed: int, pairs: int = 6, days: int = 240) -> tuple[pd.DataFrame, pd.DataFrame, PublishedProtocol]:
    rng = np.random.default_rng(seed)
    index = pd.bdate_range("2018-01-01", periods=days, name="date")
    own = rng.normal(0, 0.03, (days, 2 * pairs))
    common = np.repeat(np.cumsum(rng.normal(0, 0.02, (days, pairs)), axis=0), 2, axis=1)
    names = [f"W{i:02d}" for i in range(2 * pairs)]
    prices = pd.DataFrame(40 * np.exp(common + own), index=index, columns=names)
    prices.iloc[-30:, 3] = np.nan  # one leg goes
    prices = prices.mask(pd.DataFrame(rng.random(prices.shape) < 0.02, index=index, columns=names))
    listed = pd.DataFrame({"ticker_1": names[::2], "ticker_2": names[1::2]})
    end = index[days // 2]
    windows = PublishedProtocol(
        formation_start=str(index[0].date()),
        formation_end=str(end.date()),
        trading_end=str(index[-1].date()),
        alive_after=str(index[-10].date()),
        faults=HONEST,
    )
    return prices, listed, windows


def test_the_first_exit_is_booked_again_on_every_day_that_meets_the_rule() -> None:
    book = run(world())
    # short A at 12 and long B at 10 on day 1; z <= 0 on days 3, 4, 5, 6, 7 and 9
    assert days_of(book, "entry") == [1] * 6
    assert days_of(book, "exit") == [3, 4, 5, 6, 7, 9]
    assert book.bookings["side"].tolist() == [-1] * 6
    profits = [5000 / 6 - 500, 1250, 5000 / 3, 1250, 2500 / 3, 1250]
    assert book.bookings["profit"].tolist() == pytest.approx(profits)
    booked = 100_000 + np.cumsum(profits)
    expected = [100_000, 100_000 + 1250 / 3, *booked[:5], booked[4], booked[5]]
    assert account(book) == pytest.approx(expected)
    assert book.pairs["profit"].tolist() == pytest.approx([sum(profits)])
    returns = pd.Series([100_000, *expected]).pct_change().dropna()
    assert book.summary()["sharpe"] == pytest.approx(returns.mean() / returns.std() * np.sqrt(252))
    assert book.summary()["trades"] == 1


def test_cleared_positions_are_booked_once_and_open_anew() -> None:
    book = run(world(), never_cleared=False)
    assert days_of(book, "entry") == [1, 5, 8]
    assert days_of(book, "exit") == [3, 7, 9]
    assert book.bookings["side"].tolist() == [-1, 1, -1]
    first = 5000 / 6 - 500
    assert book.bookings["profit"].tolist() == pytest.approx([first, 1250, 1250])
    at = 100_000 + first
    expected = [100_000, 100_000 + 1250 / 3, at, at, at, at + 625, at + 1250, at + 1250, at + 2500]
    assert account(book) == pytest.approx(expected)


def test_a_position_is_closed_at_two_standard_deviations() -> None:
    leg = [10.0, 10, 10, 10, 10, 10, 12, 15, 10, 10]  # mean 10.7, sd 1.55: z is 0.84 on day 6 and 2.77 on day 7
    flat = run(world(leg, B), never_cleared=False)
    assert not len(flat.bookings[flat.bookings["exit"] == TRADED[7]])
    book = published(world(leg, B), PAIR, replace(MINI, entry=0.8, faults=Faults(never_cleared=False)))
    assert days_of(book, "entry")[0] == 6
    assert days_of(book, "exit")[0] == 7
    assert book.bookings["profit"][0] == pytest.approx(-5000 * 3 / 12)


def test_only_a_crossing_opens() -> None:
    past = {"zscore_hindsight": False, "hedge_hindsight": False, "never_cleared": False}
    # z is 1.58 from the first day, crosses 1 on day 3, is 2.37 on day 4 and stays above 1 after the stop
    book = run(world([12.0, 12, 10, 12, 13, 12, 12, 12, 12, 12]), **past)
    assert (days_of(book, "entry"), days_of(book, "exit")) == ([3], [4])
    prices = world([10.0, 10, 12, 10, 10, 10, 10, 10, 10, 10])
    prices.loc[TRADED[1], "A"] = np.nan  # the day before is the last one that the pair had
    book = run(prices, **past)
    assert (days_of(book, "entry"), days_of(book, "exit")) == ([2], [3])


def test_each_pair_once_in_the_direction_listed_first() -> None:
    pairs = pd.DataFrame({"ticker_1": ["A", "B", "A"], "ticker_2": ["B", "A", "B"]})
    assert len(run(world(), pairs).pairs) == 3
    once = run(world(), pairs, duplicates=False)
    assert once.pairs[["ticker_1", "ticker_2"]].to_numpy().tolist() == [["A", "B"]]
    pd.testing.assert_series_equal(once.daily, run(world()).daily)


def test_a_later_pair_overwrites_the_dates_of_an_earlier_one() -> None:
    prices = world().assign(C=lambda p: p["A"], D=lambda p: p["B"])
    prices.loc[TRADED[7], "C"] = np.nan  # A is at its mean then: the other days keep mean 10 and slope 0
    pairs = pd.DataFrame({"ticker_1": ["A", "C"], "ticker_2": ["B", "D"]})
    one = np.array([100_000.0, *account(run(world()))])
    profits = [5000 / 6 - 500, 1250, 5000 / 3, 1250, 1250]  # of the second pair, booked on days 3, 4, 5, 6 and 9
    booked = one[-1] + np.cumsum(profits)
    expected = [one[-1], one[-1], one[-1] + 1250 / 3, *booked[:4], one[7], booked[3], booked[4]]
    assert account(run(prices, pairs), expected[0]) == pytest.approx(expected[1:])
    # in books of their own the two profits add up on 20,000
    apart = run(prices, pairs, shared_account=False)
    second = np.diff(np.array([0, 0, 1250 / 3, *np.cumsum(profits)[:4], *[np.cumsum(profits)[3]] * 2, sum(profits)]))
    assert apart.daily.to_numpy() == pytest.approx(np.concatenate([[0], (np.diff(one) + second) / 20_000]))


def test_a_profit_open_at_the_end_is_lost_in_the_account_and_counted_in_a_book() -> None:
    past = {"zscore_hindsight": False, "hedge_hindsight": False, "never_cleared": False}
    prices = world([10.0] * 8 + [8, 9.5])  # z is -1.58 and then -0.40: long A at 8 and still open
    twice = pd.concat([PAIR, PAIR])
    book = run(prices, twice, **past)
    profit = 5000 * (9.5 / 8 - 1)
    assert not len(book.bookings)
    assert book.pairs["profit"].tolist() == pytest.approx([profit, profit])
    assert account(book)[-1] == pytest.approx(100_000 + profit)  # the second pair's; the first pair's never came in
    apart = run(prices, twice, **past, shared_account=False)
    assert apart.daily.sum() == pytest.approx(2 * profit / 20_000)


def test_mean_and_sd_of_the_formation_window() -> None:
    wide = [10 + 2 * (value - 10) for value in A]  # twice the sd: |z| stays below 1 in the trading window
    assert len(run(world(before=(wide, B))).bookings)
    assert not len(run(world(before=(wide, B)), zscore_hindsight=False).bookings)


def test_hedge_ratio_of_the_formation_window() -> None:
    prices = world(before=([value + 5 for value in B], B))  # slope 1: the traded spread is A - B
    assert run(prices).pairs["hedge_ratio"].tolist() == [0.0]
    book = run(prices, hedge_hindsight=False, never_cleared=False)
    assert book.pairs["hedge_ratio"].tolist() == pytest.approx([1.0])
    # A - B less its mean: -1 2 1 1 -1 -2 -1 0 2 -1, sd 1.34: the first exit is a day later than for A alone
    assert days_of(book, "entry") == [1, 5, 8]
    assert days_of(book, "exit") == [4, 7, 9]


def test_costs_are_ten_at_entry_and_ten_at_exit() -> None:
    free = run(world(), never_cleared=False)
    paid = run(world(), never_cleared=False, no_costs=False)
    fees = [0, 10, 10, 20, 20, 30, 30, 40, 50, 60]  # two a trade
    difference = np.array(account(free)) - np.array(account(paid, 100_000))
    assert difference == pytest.approx(fees[1:])
    pd.testing.assert_frame_equal(free.bookings, paid.bookings)


def test_fills_at_the_next_close() -> None:
    book = run(world(), never_cleared=False, same_close=False)
    assert days_of(book, "entry") == [2, 6]
    assert days_of(book, "exit") == [4, 8]
    # short A from 11 to 9; long A from 9 to 12; the entry of day 8 fills on day 9 and stays open
    assert book.bookings["profit"].tolist() == pytest.approx([5000 * 2 / 11, 5000 * 3 / 9])
    prices = world()
    prices.loc[TRADED[2], "A"] = np.nan
    waits = run(prices, zscore_hindsight=False, hedge_hindsight=False, never_cleared=False, same_close=False)
    assert days_of(waits, "entry")[0] == 3


def test_the_short_leg_pays_a_fee_every_day_it_is_held() -> None:
    free = run(world(), never_cleared=False)
    paid = run(world(), never_cleared=False, no_borrow_fee=False)
    # short A 12 11, short B 10 10 (days 5 and 6), short A 12: values in units of the leg, over the night
    nights = [1, 11 / 12, 1, 1, 1]
    assert free.pairs["profit"][0] - paid.pairs["profit"][0] == pytest.approx(5000 * 0.01 / 252 * sum(nights))


def test_a_pair_that_dies_is_skipped_or_closed_at_the_last_price() -> None:
    prices = world(second=[*B[:6], 9.0, 9.0, 9.0, 9.0])
    prices.loc[TRADED[6] :, "A"] = np.nan
    past = {"zscore_hindsight": False, "hedge_hindsight": False, "never_cleared": False, "shared_account": False}
    with pytest.raises(DataError, match="no prices of both after 2020-01-30"):
        run(prices, **past)
    book = run(prices, **past, survivors_only=False)
    assert days_of(book, "entry") == [1, 5]
    assert days_of(book, "exit") == [3, 6]
    assert book.bookings["profit"].tolist() == pytest.approx([5000 / 6 - 500, 500])  # B is short from 10 to 9
    assert book.daily[TRADED[6] :].tolist() == pytest.approx([0.05, 0, 0, 0])


def test_skipped_pairs_are_named_with_their_reason() -> None:
    prices = world().assign(S=world()["B"])
    prices.loc[TRADED[3] :, "S"] = np.nan
    pairs = pd.DataFrame({"ticker_1": ["A", "A", "A"], "ticker_2": ["B", "X", "S"]})
    book = run(prices, pairs)
    assert book.skipped["reason"].tolist() == ["X has no prices", "no prices of both after 2020-01-30"]
    assert book.summary()["skipped"] == 2
    late = run(prices, pairs, survivors_only=False)
    assert late.skipped["reason"].tolist()[1] == "3 common days in the trading window, 5 are needed"
    assert book.to_frame().columns.tolist() == ["date", "return"]


@pytest.mark.parametrize(
    ("prices", "pairs", "message"),
    [
        (world(), PAIR.rename(columns={"ticker_2": "b"}), "no column ticker_2"),
        (world(), pd.DataFrame({"ticker_1": ["A"], "ticker_2": ["A"]}), "pair 0 is A twice"),
        (world(), PAIR.iloc[:0], "the list is empty"),
        (world(), pd.DataFrame({"ticker_1": ["X"], "ticker_2": ["A"]}), "X has no prices"),
        (world().assign(A=10.0), PAIR, "does not move"),
        (world().assign(B=world()["A"] * 2), PAIR, "does not move"),
        (world().iloc[::-1], PAIR, "do not ascend"),
        (world().assign(B=-1.0), PAIR, "positive"),
    ],
)
def test_bad_input(prices: pd.DataFrame, pairs: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run(prices, pairs)


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(121, 238))
def test_the_honest_rung_does_not_see_the_future(seed: int, day: int) -> None:
    prices, pairs, protocol = random_world(seed % 1000)
    other = prices.copy()
    later = prices.shape[0] - day - 1
    other.iloc[day + 1 :] *= np.exp(np.random.default_rng(seed).normal(0, 0.3, (later, prices.shape[1])))
    one, two = published(prices, pairs, protocol), published(other, pairs, protocol)
    assert len(one.bookings)
    until = prices.index[day]
    pd.testing.assert_series_equal(one.daily[:until], two.daily[:until])
    books = [book.bookings[book.bookings["exit"] <= until].reset_index(drop=True) for book in (one, two)]
    pd.testing.assert_frame_equal(*books)


def test_the_published_state_does_see_it() -> None:
    prices, pairs, protocol = random_world(4)
    other = prices.copy()
    other.iloc[-20:] *= 1.3 ** np.arange(prices.shape[1])
    faulty = replace(protocol, faults=Faults())
    until = prices.index[-21]
    one, two = published(prices, pairs, faulty).daily[:until], published(other, pairs, faulty).daily[:until]
    assert not np.allclose(one, two)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_the_order_of_pairs_changes_nothing_on_the_honest_rung(seed: int) -> None:
    prices, pairs, protocol = random_world(seed % 1000)
    shuffled = pairs.sample(frac=1, random_state=seed % 2**31)
    columns = prices.sample(frac=1, axis=1, random_state=seed % 2**31)
    one, two = published(prices, pairs, protocol), published(columns, shuffled, protocol)
    pd.testing.assert_series_equal(one.daily, two.daily)


def test_the_ladder_names_every_fault_once_and_ends_honest() -> None:
    assert sorted(fault for fault, _ in STEPS) == sorted(field.name for field in fields(Faults))
    prices, pairs, protocol = random_world(7)
    steps = ladder(prices, pairs, protocol)
    table = steps.to_frame()
    assert table["fault"].tolist() == [PUBLISHED, *(fault for fault, _ in STEPS)]
    honest = published(prices, pairs, replace(protocol, faults=HONEST))
    assert table["sharpe"].iloc[-1] == pytest.approx(float(sharpe(honest.daily.to_numpy())))
    alone = published(prices, pairs, replace(protocol, faults=Faults(no_costs=False))).summary()["sharpe"]
    assert table.set_index("fault")["alone"]["no_costs"] == pytest.approx(alone)
    middle = replace(HONEST, same_close=True, no_borrow_fee=True, survivors_only=True)
    rung = published(prices, pairs, replace(protocol, faults=middle)).summary()
    assert table.set_index("fault").loc["no_costs", ["sharpe", "trades"]].tolist() == pytest.approx(
        [rung["sharpe"], rung["trades"]]
    )
    assert len(str(steps).splitlines()) == len(table) + 1
    assert f"{table['sharpe'].iloc[-1]:.2f}" in str(steps).splitlines()[-1]


def test_the_summary_names_the_step_that_took_most() -> None:
    rows = {"fault": [PUBLISHED, "duplicates", "never_cleared"], "sharpe": [12.0, 11.5, 0.5]}
    summary = Ladder(pd.DataFrame(rows)).summary()
    assert summary == {"published": 12.0, "honest": 0.5, "largest_step": "never_cleared", "largest_fall": 11.0}


def test_random_walks_earn_a_fortune_as_published_and_nothing_when_honest() -> None:
    sharpes = []
    windows = {"formation_end": "2013-12-31", "trading_end": "2016-12-30", "alive_after": "2016-12-01"}
    for seed in range(12):
        rng = np.random.default_rng([5, seed])
        days = pd.bdate_range("2013-01-01", "2016-12-30", name="date")
        names = [f"W{i:02d}" for i in range(40)]
        steps = rng.normal(0, 0.02, (len(days), len(names)))
        prices = pd.DataFrame(50 * np.exp(np.cumsum(steps, axis=0)), index=days, columns=names)
        pairs = pd.DataFrame({"ticker_1": names[::2], "ticker_2": names[1::2]})
        past = Faults(**{fault: fault in ("no_costs", "no_borrow_fee") for fault, _ in STEPS})
        books = [published(prices, pairs, PublishedProtocol(**windows, faults=faults)) for faults in (Faults(), past)]
        sharpes.append([book.summary()["sharpe"] for book in books])
    as_published, honest = np.array(sharpes).T
    assert np.median(as_published) > 5
    # three years of independent walks: the Sharpe ratio of a book is 0 with a standard error of about 1 / sqrt(3)
    assert abs(honest.mean()) < 3 / np.sqrt(3 * len(honest))
