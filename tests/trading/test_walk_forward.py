from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from companysim.errors import ConfigError, DataError
from companysim.trading import (
    Backtest,
    Costs,
    Limits,
    Partitions,
    Protocol,
    Rules,
    Window,
    cluster_pairs,
    engle_granger,
    placebo,
    placebo_p,
    random_books,
    rolling_windows,
    sharpe,
    walk_forward,
)
from companysim.trading.sessions import LIVE_DAYS, market_days
from companysim.trading.walk_forward import screen, select
from tests.trading.worlds import seeds, world

DATES = pd.bdate_range("2010-01-04", periods=260, name="date")
END = 140  # row of the last day of formation
WINDOW = Window(DATES[0], DATES[END], DATES[-1])
PROTOCOL = Protocol((WINDOW,), p_value=0.2, max_pairs=6, rules=Rules(delisted_after=1))
LABELS = np.array([0, 0, 0, 1, 1, 1, -1, 2])
TICKERS = pd.Index([f"C{i}" for i in range(8)])


def grouped(labels: np.ndarray = LABELS, tickers: pd.Index = TICKERS) -> Partitions:
    return Partitions.single(tickers, labels, DATES[0])


def windowed(protocol: Protocol = PROTOCOL, **dates: pd.Timestamp) -> Protocol:
    """The protocol with other dates in its window."""
    return replace(protocol, windows=(replace(WINDOW, **dates),))


def cointegrated(seed: int = 3) -> pd.DataFrame:
    """Eight prices around one common walk: every pair is cointegrated."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 0.02, (len(DATES), 8))
    for t in range(1, len(DATES)):
        own[t] += 0.7 * own[t - 1]
    logs = np.cumsum(rng.normal(0, 0.01, (len(DATES), 1)), axis=0) + own
    return pd.DataFrame(40 * np.exp(logs), index=DATES, columns=[f"C{i}" for i in range(8)])


def test_nothing_before_the_formation_window_or_after_trading_is_used() -> None:
    prices = cointegrated()
    narrow = windowed(formation_start=DATES[20], trading_end=DATES[220])
    plain = walk_forward(prices, grouped(), narrow)
    other = prices.copy()
    other.iloc[:20] *= 7
    other.iloc[221:] = 0.01
    columns = ["return_gross", "return_net", "long", "short", "traded"]
    pd.testing.assert_frame_equal(walk_forward(other, grouped(), narrow).daily[columns], plain.daily[columns])
    assert (plain.daily.index[0], plain.daily.index[-1]) == (DATES[END + 1], DATES[220])


def test_pairs_are_the_best_tested_ones_with_their_formation_figures() -> None:
    prices = cointegrated()
    result = walk_forward(prices, grouped(), PROTOCOL)
    logs = np.log(prices.iloc[: END + 1].to_numpy())
    tested = engle_granger(logs, *cluster_pairs(LABELS))
    assert result.counts == (6,) == (len(tested),)
    assert result.summary()["passed"] == (tested["p_value"] < 0.2).sum()
    best = tested.sort_values("p_value", ignore_index=True)
    assert list(result.pairs["ticker_1"]) == [f"C{i}" for i in best["first"]]
    assert list(result.pairs["ticker_2"]) == [f"C{i}" for i in best["second"]]
    np.testing.assert_array_equal(result.pairs["hedge_ratio"], best["hedge_ratio"])
    limited = walk_forward(prices, grouped(), replace(PROTOCOL, max_pairs=2))
    pd.testing.assert_frame_equal(limited.pairs, result.pairs.iloc[:2])
    assert limited.summary()["passed"] == result.summary()["passed"]


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


def test_companies_with_gaps_in_formation_are_no_candidates() -> None:
    prices = cointegrated()
    prices.iloc[50, 0] = np.nan
    result = walk_forward(prices, grouped(), PROTOCOL)
    assert result.counts == (4,)
    assert "C0" not in set(result.pairs[["ticker_1", "ticker_2"]].to_numpy().ravel())


def with_rows(prices: pd.DataFrame, days: list[pd.Timestamp], tickers: int = 1) -> pd.DataFrame:
    """Prices with further days on which only the first tickers have one."""
    stray = pd.DataFrame(np.nan, index=pd.DatetimeIndex(days), columns=prices.columns)
    stray.iloc[:, :tickers] = 50.0
    return pd.concat([prices, stray]).sort_index().rename_axis("date")


@pytest.mark.parametrize("tickers", [0, 1, 3])
def test_days_on_which_few_companies_have_a_price_change_nothing(tickers: int) -> None:
    prices = cointegrated()
    weekends = [day + pd.Timedelta(days=1) for day in DATES if day.day_of_week == 4]  # before and after formation
    plain = walk_forward(prices, grouped(), PROTOCOL)
    other = walk_forward(with_rows(prices, weekends, tickers), grouped(), PROTOCOL)
    assert len(plain.trades) > 3
    for name in ("daily", "pairs", "trades", "windows"):
        pd.testing.assert_frame_equal(getattr(other, name), getattr(plain, name), check_freq=False)
    books = [
        placebo(each, [plain.counts], PROTOCOL, pool=9, books=4, seed=0)[plain.counts]
        for each in (prices, with_rows(prices, weekends, tickers))
    ]
    np.testing.assert_array_equal(*books)


def test_a_day_on_which_half_of_the_live_companies_have_a_price_counts() -> None:
    prices = cointegrated()
    assert not len(market_days(prices.mask(np.ones(prices.shape, dtype=bool))))
    prices.iloc[200:, 2:] = np.nan  # six of eight lines end
    found = market_days(prices)
    assert list(found.index) == [*DATES[:200], *DATES[200 + LIVE_DAYS - 1 :]]  # until they no longer count as live
    prices.iloc[:100, 4:] = np.nan  # and four begin only then
    prices.iloc[50, 2:4] = np.nan
    pd.testing.assert_index_equal(market_days(prices.iloc[:199]).index, DATES[:199], check_names=False)
    prices.iloc[50, 1] = np.nan
    assert DATES[50] not in market_days(prices).index


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(1, 79))
def test_whether_a_day_counts_does_not_depend_on_later_days(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    prices = world(seed, gaps=True)[0].mask(rng.random((80, 5)) < rng.choice([0.2, 0.6]))
    known = market_days(prices.iloc[:n]).index
    np.testing.assert_array_equal(known, market_days(prices).index[: len(known)])
    assert len(market_days(prices)) == len(known) or market_days(prices).index[len(known)] > prices.index[n - 1]


def test_a_screen_says_which_of_the_pairs_given_it_tested() -> None:
    formation = cointegrated().iloc[: END + 1]
    formation.iloc[7, 2] = np.nan
    tested = screen(formation, np.array([2, 0, 1, 3]), np.array([5, 4, 2, 1]))
    assert tested.index.tolist() == [1, 3]
    assert set(tested.loc[3, ["first", "second"]]) == {1, 3}


@pytest.mark.parametrize("labels", [np.full(8, -1), np.arange(8)], ids=["none", "singletons"])
def test_a_grouping_without_pairs_earns_nothing(labels: np.ndarray) -> None:
    result = walk_forward(cointegrated(), grouped(labels), PROTOCOL)
    figures = result.summary()
    assert (figures["candidates"], figures["pairs"], figures["trades"], figures["return_net_annual"]) == (0, 0, 0, 0)
    assert np.isnan(figures["sharpe_net"])
    assert not result.daily.drop(columns="market").to_numpy().any()
    assert list(result.trades) == list(walk_forward(cointegrated(), grouped(), PROTOCOL).trades)


def test_a_short_formation_window_is_refused() -> None:
    prices = cointegrated()
    walk_forward(prices, grouped(), windowed(formation_start=DATES[END - 59]))
    with pytest.raises(DataError, match=r"formation window .* to .* has only 59 days of prices: at least 60"):
        walk_forward(prices, grouped(), windowed(formation_start=DATES[END - 58]))


@pytest.mark.parametrize("extra", [0, 1])
def test_an_empty_trading_window_is_refused(extra: int) -> None:
    protocol = windowed(trading_end=DATES[END + extra] + pd.Timedelta(hours=1))
    message = rf"{('0 days', '1 day')[extra]} of prices after {DATES[END]:%Y-%m-%d} .* nothing to trade on, at least 2"
    with pytest.raises(DataError, match=message):
        walk_forward(cointegrated(), grouped(), protocol)
    with pytest.raises(DataError, match=message):
        placebo(cointegrated(), [(3,)], protocol, pool=9, books=2, seed=0)


@pytest.mark.parametrize("left", [0, 1])
def test_a_last_window_without_days_to_trade_is_left_out(left: int) -> None:
    first = replace(WINDOW, trading_end=DATES[-1 - left])
    last = Window(DATES[40], DATES[-1 - left], DATES[-1] + pd.Timedelta(days=1))
    both = replace(PROTOCOL, windows=(first, last))
    alone = walk_forward(cointegrated(), grouped(), replace(PROTOCOL, windows=(first,)))
    result = walk_forward(cointegrated(), grouped(), both)
    pd.testing.assert_frame_equal(result.windows, alone.windows)
    pd.testing.assert_frame_equal(result.daily, alone.daily)
    assert placebo(cointegrated(), [result.counts], both, pool=9, books=2, seed=0)[result.counts].shape == (2,)
    two_days = Window(DATES[40], DATES[-3], DATES[-1])
    kept = replace(PROTOCOL, windows=(replace(WINDOW, trading_end=DATES[-3]), two_days))
    assert len(walk_forward(cointegrated(), grouped(), kept).windows) == 2


@pytest.mark.parametrize("fdr", [0.0, 0.05, 0.3])
def test_discoveries_are_counted_among_those_that_passed(fdr: float) -> None:
    p = engle_granger(np.log(cointegrated().iloc[: END + 1].to_numpy()), *cluster_pairs(LABELS))["p_value"].to_numpy()
    found = multipletests(p, fdr, method="fdr_by")[0] if fdr else np.zeros(6, dtype=bool)
    for p_value in (1e-30, float(np.sort(p)[2]), 0.2, 1.0):
        row = walk_forward(cointegrated(), grouped(), replace(PROTOCOL, p_value=p_value, fdr=fdr)).summary()
        assert row["discoveries"] == (found & (p < p_value)).sum()
    assert found.sum() > 2 or not fdr


def test_dates_must_ascend() -> None:
    with pytest.raises(DataError, match="do not ascend: sort them"):
        walk_forward(cointegrated().iloc[::-1], grouped(), PROTOCOL)


def test_a_price_of_zero_in_the_formation_window_is_refused() -> None:
    prices = cointegrated()
    prices.iloc[9, 2] = 0
    with pytest.raises(DataError, match=f"price of C2 on {DATES[9]:%Y-%m-%d} is 0: prices must be positive"):
        walk_forward(prices, grouped(), PROTOCOL)


def test_the_order_of_companies_changes_nothing() -> None:
    prices, order = cointegrated(), [5, 2, 7, 0, 3, 6, 1, 4]
    plain = walk_forward(prices, grouped(), PROTOCOL)
    other = walk_forward(prices.iloc[:, order], grouped(LABELS[order], TICKERS[order]), PROTOCOL)
    for name in ("daily", "pairs", "trades", "windows"):
        pd.testing.assert_frame_equal(getattr(other, name), getattr(plain, name), check_exact=True)


def test_a_company_that_vanishes_after_formation_is_still_chosen() -> None:
    prices = cointegrated()
    plain = walk_forward(prices, grouped(), PROTOCOL)
    held = plain.trades[plain.trades["exit"] - plain.trades["entry"] > pd.Timedelta(days=7)].iloc[0]
    gone = prices.copy()
    gone.loc[gone.index > held["entry"], held["ticker_1"]] = np.nan
    other = walk_forward(gone, grouped(), PROTOCOL)
    assert plain.counts == other.counts
    pd.testing.assert_frame_equal(other.pairs, plain.pairs)
    closed = other.trades[other.trades["reason"] == "delisted"]
    assert set(closed["exit"]) == {DATES[DATES.get_loc(held["entry"]) + 1]}


@pytest.mark.parametrize(("limits", "places"), [(Limits(), 6), (Limits(max_open=2), 2), (Limits(max_open=20), 20)])
def test_each_position_gets_an_equal_part_of_the_capital(limits: Limits, places: int) -> None:
    protocol = replace(PROTOCOL, limits=limits, capital=3000, leverage=2)
    result = walk_forward(cointegrated(), grouped(), protocol)
    size = result.trades["value_1"].abs() + result.trades["value_2"].abs()
    np.testing.assert_allclose(size, 6000 / places)
    for kind in ("gross", "net"):
        total = result.daily[f"return_{kind}"].sum() * 3000
        assert total == pytest.approx(result.trades[f"pnl_{kind}"].sum(), abs=1e-9)
    assert result.daily["traded"].sum() * 3000 == pytest.approx(2 * size.sum(), rel=0.05)
    assert result.trades["entry"].min() > DATES[END + 1]  # seen on the first day of trading at the earliest


def test_interest_is_paid_for_every_calendar_day() -> None:
    protocol = replace(PROTOCOL, costs=Costs(cash_percent=3.65))
    daily = walk_forward(cointegrated(), grouped(), protocol).daily
    nights = (DATES[-1] - DATES[END]).days
    assert daily["interest"].sum() == pytest.approx(1e-4 * nights, rel=1e-12)
    monday = daily.index.day_of_week == 0
    np.testing.assert_allclose(daily["interest"][monday], 3e-4)


def test_summary_and_years_by_hand() -> None:
    days = pd.DatetimeIndex(["2010-12-30", "2010-12-31", "2011-01-03"])
    daily = pd.DataFrame(
        {
            "return_gross": [0.02, 0.01, 0.03],
            "return_net": [0.02, -0.01, 0.02],
            "interest": [0.001, 0.001, 0.003],
            "long": [0.5, 0.4, 0.0],
            "short": [0.5, 0.4, 0.0],
            "traded": [1.0, 0.0, 0.5],
            "market": [0.01, -0.02, 0.04],
        },
        index=days,
    )
    trades = pd.DataFrame(
        {
            "entry": days[[0, 0, 0, 1]],
            "exit": days[[1, 2, 2, 2]],
            "value_1": [50.0, -50, 50, 50],
            "value_2": [-50.0, 50, -50, -50],
            "pnl_net": [0.1, -0.2, 0.3, 0.0],
        }
    )
    windows = pd.DataFrame({"candidates": [5, 4], "passed": [3, 1], "discoveries": [1, 0], "pairs": [2, 1]})
    result = Backtest(windows, pd.DataFrame(), trades, daily, 1000.0)
    assert result.summary() == {
        "candidates": 9,
        "passed": 4,
        "discoveries": 1,
        "pairs": 3,
        "trades": 4,
        "sharpe_gross": pytest.approx(2 * np.sqrt(252)),
        "sharpe_net": pytest.approx(0.01 / np.sqrt(0.0003) * np.sqrt(252)),
        "return_net_annual": pytest.approx(2.52),
        "max_drawdown": pytest.approx(0.01),
        "hit_rate": 0.5,
        "profit_per_trade_bp": pytest.approx(0.2 / 400 * 1e4),
        "days_held": pytest.approx((1 + 4 + 4 + 3) / 4),
        "turnover": pytest.approx(0.5 * 252),
        "exposure": pytest.approx(0.6),
        "market_correlation": pytest.approx(np.corrcoef([0.02, -0.01, 0.02], [0.01, -0.02, 0.04])[0, 1]),
    }
    np.testing.assert_allclose(result.equity(), [1021, 1012, 1035])
    years = result.yearly()
    assert list(years["year"]) == [2010, 2011]
    figures = years[["return_gross", "return_net", "max_drawdown"]]
    np.testing.assert_allclose(figures, [[0.03, 0.01, 0.01], [0.03, 0.02, 0]])
    assert list(years["trades"]) == [1, 3]
    assert years["sharpe_net"][0] == pytest.approx(0.005 / (0.03 / np.sqrt(2)) * np.sqrt(252))
    assert np.isnan(years["sharpe_net"][1])


# Windows


def test_windows_roll_by_calendar_months_and_keep_their_ends() -> None:
    first = Window(*(pd.Timestamp(day) for day in ("2007-01-01", "2009-12-31", "2012-03-15")))
    assert rolling_windows(first, None) == (first,)
    found = rolling_windows(first, 6)
    ends = ["2009-12-31", "2010-06-30", "2010-12-31", "2011-06-30", "2011-12-31", "2012-03-15"]
    assert [window.formation_end for window in found] == list(pd.to_datetime(ends[:-1]))
    assert [window.trading_end for window in found] == list(pd.to_datetime(ends[1:]))
    assert [f"{window.formation_start:%Y-%m-%d}" for window in found[:3]] == ["2007-01-01", "2007-07-01", "2008-01-01"]
    with pytest.raises(ConfigError, match="roll_months is 0"):
        rolling_windows(first, 0)


def test_windows_whose_trading_overlaps_are_refused() -> None:
    later = Window(DATES[10], DATES[END + 10], DATES[-1])
    with pytest.raises(ConfigError, match="overlaps with trading after"):
        Protocol((WINDOW, later))
    Protocol((replace(WINDOW, trading_end=DATES[END + 10]), later))


@pytest.mark.parametrize("wrong", [{"windows": ()}, {"capital": 0.0}, {"leverage": np.inf}])
def test_impossible_protocols_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"at least one window|must be positive"):
        replace(PROTOCOL, **wrong)
    with pytest.raises(ConfigError, match="the three dates must ascend"):
        replace(WINDOW, trading_end=WINDOW.formation_end)


def test_several_windows_are_the_single_ones_one_after_the_other() -> None:
    prices = cointegrated()
    windows = Window(DATES[0], DATES[99], DATES[149]), Window(DATES[50], DATES[149], DATES[199])
    both = walk_forward(prices, grouped(), replace(PROTOCOL, windows=windows))
    alone = [walk_forward(prices, grouped(), replace(PROTOCOL, windows=(window,))) for window in windows]
    for name in ("windows", "pairs", "trades"):
        joined = pd.concat([getattr(each, name) for each in alone], ignore_index=True)
        pd.testing.assert_frame_equal(getattr(both, name), joined)
    pd.testing.assert_frame_equal(both.daily, pd.concat([each.daily for each in alone]))
    assert list(both.daily.index) == list(DATES[100:200])
    assert both.counts == alone[0].counts + alone[1].counts


def test_each_window_trades_the_grouping_readable_at_its_formation_end() -> None:
    windows = Window(DATES[0], DATES[99], DATES[149]), Window(DATES[50], DATES[149], DATES[199])
    early = pd.DataFrame({"date": DATES[99], "ticker": TICKERS, "cluster": ["a", "a", "", "", "", "", "", ""]})
    late = pd.DataFrame({"date": DATES[150], "ticker": TICKERS, "cluster": "all"})
    protocol = replace(PROTOCOL, windows=windows)
    assert walk_forward(cointegrated(), Partitions(pd.concat([early, late])), protocol).counts == (1, 1)
    on_time = late.assign(date=DATES[149])
    assert walk_forward(cointegrated(), Partitions(pd.concat([early, on_time])), protocol).counts == (1, 28)


def test_a_grouping_from_after_the_formation_end_is_refused() -> None:
    late = Partitions.single(TICKERS, LABELS, DATES[END] + pd.Timedelta(days=1))
    with pytest.raises(DataError, match=rf"first grouping is dated .*, after the formation end {DATES[END]:%Y-%m-%d}"):
        walk_forward(cointegrated(), late, PROTOCOL)


# Partitions


def test_partitions_number_their_clusters_and_know_who_has_none() -> None:
    table = pd.DataFrame({"date": DATES[3], "ticker": list("ABCDEF"), "cluster": ["x", "y", "", None, "x", " "]})
    found = Partitions(table).labels(DATES[3], pd.Index(list("FEDCBAZ")))
    assert found.tolist() == [-1, 0, -1, -1, 1, 0, -1]
    numbers = Partitions(table.assign(cluster=[7, 7, -1, np.nan, 3, -2])).labels(DATES[9], pd.Index(list("ABCDEF")))
    assert numbers.tolist() == [0, 0, -1, -1, 1, -1]


def test_bad_partitions_are_refused() -> None:
    table = pd.DataFrame({"date": DATES[3], "ticker": ["A", "A"], "cluster": [1, 2]})
    with pytest.raises(DataError, match=f"A is twice in the grouping of {DATES[3]:%Y-%m-%d}"):
        Partitions(table)
    for wrong in (table.iloc[:0], table.assign(date=pd.NaT)):
        with pytest.raises(DataError, match="at least one row, and a date on every row"):
            Partitions(wrong)
    with pytest.raises(DataError, match="7 labels for 8 companies: give one label a company"):
        Partitions.single(TICKERS, LABELS[:7], DATES[0])


def test_two_columns_of_one_company_are_refused() -> None:
    prices = cointegrated().rename(columns={"C3": "C2"})
    with pytest.raises(DataError, match="C2 has more than one column of prices: keep one"):
        walk_forward(prices, grouped(), PROTOCOL)


# Placebo


def test_placebo_gives_the_books_asked_for_at_each_number_of_candidates() -> None:
    chance = placebo(cointegrated(), [(12,), (4,), (12,)], PROTOCOL, pool=20, books=7, seed=1)
    assert list(chance) == [(4,), (12,)]
    assert all(values.shape == (7,) for values in chance.values())
    assert np.isfinite(chance[12,]).all()
    assert len(set(chance[12,])) > 1  # each book draws pairs of its own


def test_placebo_depends_on_the_seed_alone() -> None:
    run = [placebo(cointegrated(), [(3,), (6,)], PROTOCOL, pool=20, books=5, seed=seed) for seed in (1, 1, 2)]
    alone = placebo(cointegrated(), [(6,)], PROTOCOL, pool=20, books=5, seed=1)
    np.testing.assert_array_equal(alone[6,], run[0][6,])
    for count in ((3,), (6,)):
        np.testing.assert_array_equal(run[0][count], run[1][count])
        assert not np.array_equal(run[0][count], run[2][count], equal_nan=True)


@pytest.mark.parametrize("limits", [Limits(), Limits(max_open=2, max_per_company=1)], ids=["free", "limited"])
@pytest.mark.parametrize("max_pairs", [5, 50])
def test_placebo_with_every_pair_is_the_backtest_of_one_cluster(
    max_pairs: int, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("companysim.trading.random_books._COLUMNS", 12)  # two books a simulation at most
    windows = Window(DATES[0], DATES[99], DATES[169]), Window(DATES[70], DATES[169], DATES[259])
    protocol = replace(PROTOCOL, windows=windows, max_pairs=max_pairs, limits=limits)
    whole = walk_forward(cointegrated(), grouped(np.zeros(8, dtype=int)), protocol).daily["return_net"].to_numpy()
    chance = placebo(cointegrated(), [(28, 28), (99, 99)], protocol, pool=999, books=3, seed=4)
    for values in chance.values():
        np.testing.assert_allclose(values, sharpe(whole), rtol=1e-9)


def test_placebo_of_one_candidate_is_the_sharpe_ratio_of_one_pair() -> None:
    prices = cointegrated().iloc[:, :4]
    known = [
        walk_forward(prices, grouped(np.where(np.isin(np.arange(8), pair), 0, -1)), PROTOCOL).summary()["sharpe_net"]
        for pair in combinations(range(4), 2)
    ]
    assert np.isfinite(known).sum() == 5  # and one pair that never trades
    drawn = placebo(prices, [(1,)], PROTOCOL, pool=6, books=40, seed=0)[1,]
    np.testing.assert_allclose(np.unique(drawn), np.sort(known), rtol=1e-9)


@pytest.mark.parametrize("limits", [Limits(), Limits(max_open=2)])
def test_placebo_is_nan_where_no_pair_passes(limits: Limits) -> None:
    prices = cointegrated()
    protocol = replace(PROTOCOL, limits=limits)
    strict = placebo(prices, [(5,)], replace(protocol, p_value=0.0), pool=20, books=3, seed=0)
    assert np.isnan(strict[5,]).all()
    for company in range(8):
        prices.iloc[3 + company, company] = np.nan  # no complete company, so nothing to test
    assert np.isnan(placebo(prices, [(5,)], protocol, pool=20, books=3, seed=0)[5,]).all()


# Is the placebo's p-value what it says?


def walks(companies: int, seed: int = 0) -> pd.DataFrame:
    """Independent random walks: no grouping of them says anything."""
    steps = np.random.default_rng(seed).normal(0, 0.01, (len(DATES), companies))
    return pd.DataFrame(40 * np.exp(np.cumsum(steps, axis=0)), DATES, [f"C{i:02d}" for i in range(companies)])


def test_all_pairs_as_candidates_are_as_good_as_any_book_of_as_many() -> None:
    # All books then are the backtest itself, added up in another order.
    for seed in range(6):
        result = walk_forward(cointegrated(seed), grouped(np.zeros(8, dtype=int)), PROTOCOL)
        books = placebo(cointegrated(seed), [result.counts], PROTOCOL, pool=5, books=20, seed=seed)[result.counts]
        assert placebo_p(float(result.summary()["sharpe_net"]), books) == 1


def test_a_pool_has_room_for_books_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(formation: pd.DataFrame, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
        sizes.append(len(first))
        return screen(formation, first, second)

    monkeypatch.setattr(random_books, "screen", counted)
    for counts in ([(2,)], [(6,)], [(2,), (6,)], [(50,)]):
        placebo(walks(24), counts, PROTOCOL, pool=30, books=2, seed=0)
    assert sizes == [40, 120, 120, 276]  # twenty times the candidates, or all pairs; never fewer than `pool`
    placebo(walks(24), [(1,)], PROTOCOL, pool=30, books=2, seed=0)
    assert sizes[-1] == 30
    gaps = walks(24)
    gaps.iloc[5, :4] = np.nan
    placebo(gaps, [(50,)], PROTOCOL, pool=30, books=2, seed=0)
    assert sizes[-1] == 190  # of the companies that can be tested


def test_the_pool_of_one_grouping_does_not_depend_on_the_others() -> None:
    together = placebo(walks(24), [(2,), (6,), (50,)], PROTOCOL, pool=30, books=20, seed=0)
    for counts, books in together.items():
        alone = placebo(walks(24), [counts], PROTOCOL, pool=30, books=20, seed=0)[counts]
        np.testing.assert_allclose(alone, books, rtol=1e-9)


def test_under_the_null_one_p_value_in_ten_is_below_a_tenth() -> None:
    # Candidates are drawn at random, so that every p-value is as likely as any other. From a pool as small as the one
    # asked for (50 pairs for 40 candidates) most of them would lie in the tails.
    prices, count, rng = walks(16), 40, np.random.default_rng(5)
    protocol = replace(PROTOCOL, windows=(Window(DATES[0], DATES[69], DATES[129]),))
    books = placebo(prices, [(count,)], protocol, pool=50, books=1000, seed=0)[count,]
    i, j = np.triu_indices(16, 1)
    found = []
    for _ in range(200):
        drawn = np.sort(rng.choice(len(i), count, replace=False))
        result = walk_forward(prices, lambda day, tickers, drawn=drawn: (i[drawn], j[drawn]), protocol)
        found.append(placebo_p(float(result.summary()["sharpe_net"]), books))
    p = np.array(found)
    assert np.mean(p < 0.1) == pytest.approx(0.1, abs=0.065)  # three standard errors
    assert np.mean(p > 0.9) == pytest.approx(0.1, abs=0.065)
