"""Small markets for the tests of simulator and protocols, and rules to trade them by."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from companysim.trading import Book, Costs, Limits, Rules

NAN = np.nan
FREE = Costs(commission_bp=0, half_spread_bp=0, borrow_percent=0)
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
        prices = holes(prices, rng)
    first, second = np.array([0, 0, 1, 2, 3, 4]), np.array([1, 3, 2, 4, 4, 0])
    hedge = np.array([1.0, 0.7, 1.3, -0.5, 1.0, 0.9])
    logs = np.log(50) * (1 - hedge)
    pairs = pd.DataFrame(
        {"first": first, "second": second, "hedge_ratio": hedge, "intercept": logs, "residual_sd": np.full(6, 0.08)}
    )
    return prices, pairs


def holes(prices: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The same prices with days missing, one long halt, two delistings and a late start."""
    n = len(prices)
    found = prices.mask(rng.random(prices.shape) < 0.05)
    for column, end in zip((0, 1), rng.integers(n // 3, n, 2), strict=True):
        found.iloc[end:, column] = NAN
    halt = int(rng.integers(n // 3, n))
    found.iloc[halt : halt + 7, 3] = NAN
    found.iloc[: n // 4, 2] = NAN
    return found


WORLD_RULES = Rules(entry=1.5, exit=0.2, stop=3.0, max_days=15, delisted_after=5)


@st.composite
def any_rules(draw: st.DrawFn) -> Rules:
    return Rules(
        entry=draw(st.sampled_from([1.0, 1.5])),
        exit=draw(st.sampled_from([-0.5, 0.0, 0.4])),
        stop=draw(st.sampled_from([2.0, 3.0])),
        max_days=draw(st.integers(1, 20)),
        reentry=draw(st.sampled_from(["crossing", "inside", "never"])),
        pause=draw(st.integers(0, 8)),
        zscore_days=draw(st.sampled_from([None, None, 5, 20])),
        hedge=draw(st.sampled_from(["beta", "dollar"])),
        lag=draw(st.integers(1, 3)),
        delisted_after=draw(st.integers(1, 9)),
    )


@st.composite
def any_costs(draw: st.DrawFn) -> Costs:
    rates = st.sampled_from([0.0, 1.0, 7.0])
    return Costs(draw(rates), draw(rates), draw(rates), draw(rates), draw(st.sampled_from([0.0, -0.3, -1.0])))


@st.composite
def any_limits(draw: st.DrawFn) -> Limits:
    return Limits(draw(st.sampled_from([None, 1, 2])), draw(st.sampled_from([None, 1, 2])))
