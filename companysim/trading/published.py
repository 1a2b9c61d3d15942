"""The published pairs-trading protocol with its faults, each a switch.

Molinari et al. (arXiv 2412.02605) report annualised Sharpe ratios of 9.7 to 12.2 for pairs traded over 2014-2020.
With every fault of `Faults` switched on, `published` gives those figures on the released pair lists; switched off one
after another (`companysim.trading.ladder`) they show where the figures come from. It is a protocol to reproduce and to
explain; the one to trust is `companysim.trading.walk_forward`.

The spread of a pair is ``p1 - b p2``, b the slope of a least-squares line with a constant, and its z is
``(spread - mean) / sd``.
Open when z crosses +1 upwards (short leg 1, long leg 2, 5,000 each) or -1 downwards (the reverse); no crossing is seen
on the first day. Close when z is back at 0 or ``|z| >= 2``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from companysim.errors import DataError
from companysim.trading.performance import sharpe
from companysim.trading.simulator import TRADING_DAYS, check_prices


@dataclass(frozen=True)
class Faults:
    """What is wrong with the published protocol; True keeps the fault.

    Attributes
    ----------
    duplicates : bool
        A pair is traded once for every time it is listed, in either order. Off: only where it comes first.
    never_cleared : bool
        The first exit does not end the trade: on every later day that meets an exit rule its profit is booked again,
        and the pair opens no other trade. Off: a position is cleared at its exit.
    shared_account : bool
        One cash account for all pairs, valued at cash plus the current pair's open profit; each later pair overwrites
        the dates of the earlier ones, and what is open at its end is lost. Returns are changes of that value. Off: each
        pair has its own capital, marked to market every day, and the profits are added up by date.
    zscore_hindsight : bool
        Mean and sd of the spread come from the trading window itself. Off: from the formation window.
    hedge_hindsight : bool
        So does the hedge ratio. Off: from the formation window.
    no_costs : bool
        Trading is free. Off: `PublishedProtocol.cost_bp` at each entry and exit.
    same_close : bool
        A signal of today's close is filled at today's close. Off: at the next close.
    no_borrow_fee : bool
        Shares are lent for nothing. Off: `PublishedProtocol.borrow_percent`.
    survivors_only : bool
        Pairs without prices of both legs after `PublishedProtocol.alive_after` are skipped. Off: they are traded, and
        closed at the last price of the leg that goes.
    """

    duplicates: bool = True
    never_cleared: bool = True
    shared_account: bool = True
    zscore_hindsight: bool = True
    hedge_hindsight: bool = True
    no_costs: bool = True
    same_close: bool = True
    no_borrow_fee: bool = True
    survivors_only: bool = True


@dataclass(frozen=True)
class PublishedProtocol:
    """Windows, rules and faults; the defaults are the published ones.

    Attributes
    ----------
    formation_start, formation_end : str
        Days (YYYY-MM-DD) a pair is measured on where a hindsight fault is off, inclusive.
    trading_end : str
        Trading runs from the day after `formation_end` to this day.
    alive_after : str
        See `Faults.survivors_only`.
    entry, stop : float
        In units of the spread's sd.
    leg : float
        Money in each leg at entry.
    cash : float
        What the shared account starts with.
    cost_bp : float
        Basis points of both legs' money at entry, paid at each entry and each exit.
    borrow_percent : float
        Fee for the short leg, percent of its value a year.
    min_days : int
        Common days that a window needs for a line to be fitted on it; the published screen asks for as many.
    faults : Faults
    """

    formation_start: str = "2002-01-01"
    formation_end: str = "2013-12-31"
    trading_end: str = "2020-12-31"
    alive_after: str = "2020-12-01"
    entry: float = 1.0
    stop: float = 2.0
    leg: float = 5_000.0
    cash: float = 100_000.0
    cost_bp: float = 10.0
    borrow_percent: float = 1.0
    min_days: int = 60
    faults: Faults = field(default_factory=Faults)


@dataclass(frozen=True)
class PublishedBook:
    """What a list of pairs earned.

    Attributes
    ----------
    pairs : DataFrame
        ticker_1, ticker_2 of the traded pairs in list order, hedge_ratio, profit (all that was booked and what is open
        at the end, after costs).
    skipped : DataFrame
        ticker_1, ticker_2, reason.
    bookings : DataFrame
        pair (row of `pairs`), side (+1 long leg 1), entry, exit (dates), profit before costs. Trades that are never
        cleared come again and again with the same entry.
    daily : Series
        Return by date.
    """

    pairs: pd.DataFrame
    skipped: pd.DataFrame
    bookings: pd.DataFrame
    daily: pd.Series

    def summary(self) -> dict[str, float | int]:
        """Headline figures; `trades` counts entries, `bookings` the profits taken."""
        returns = self.daily.to_numpy()
        return {
            "pairs": len(self.pairs),
            "skipped": len(self.skipped),
            "trades": len(self.bookings[["pair", "entry"]].drop_duplicates()),
            "bookings": len(self.bookings),
            "sharpe": float(sharpe(returns)),
            "return_annual": float(returns.mean() * TRADING_DAYS),
        }

    def to_frame(self) -> pd.DataFrame:
        """Daily returns as a table: date, return."""
        return self.daily.rename("return").rename_axis("date").reset_index()


def published(
    prices: pd.DataFrame, pairs: pd.DataFrame, protocol: PublishedProtocol | None = None
) -> PublishedBook:
    """Trade a list of pairs as published, or with some of the faults switched off.

    Parameters
    ----------
    prices : DataFrame, shape (days, series)
        Adjusted prices by date; NaN where a series has none. A pair lives on the days on which both legs have a price.
    pairs : DataFrame
        ticker_1, ticker_2. Their order is part of the protocol while `Faults.shared_account` or `Faults.duplicates`
        is on (or a pair is listed in both directions): later pairs overwrite earlier ones.
    protocol : PublishedProtocol, optional

    Raises
    ------
    DataError
        If a column of `pairs` is missing, a pair names one ticker twice, a price is not positive, dates do not ascend,
        no pair can be traded, or a spread does not move.
    """
    protocol = protocol or PublishedProtocol()
    faults = protocol.faults
    check_prices(prices)
    listed = _listed(pairs, keep_duplicates=faults.duplicates)
    window = prices.loc[protocol.formation_start : protocol.trading_end]
    known = sorted({*listed["ticker_1"], *listed["ticker_2"]} & set(window.columns))
    reason = _why_skipped(window[known], listed, protocol)
    kept = listed[reason == ""].reset_index(drop=True)
    skipped = listed[reason != ""].assign(reason=reason[reason != ""]).reset_index(drop=True)
    if not len(kept):
        why = reason.iloc[0] if len(reason) else "the list is empty"
        raise DataError(
            f"none of the {len(listed)} pairs can be traded (the first: {why}): give pairs of tickers that have prices "
            "in the windows of the protocol"
        )
    values = window[known].to_numpy(dtype=float)
    place = pd.Index(known)
    one = values[:, place.get_indexer(kept["ticker_1"])]
    two = values[:, place.get_indexer(kept["ticker_2"])]
    trading = window.index > protocol.formation_end
    slope = _slope(one, two, trading if faults.hedge_hindsight else ~trading)
    spread = one - slope * two
    measured = spread[trading if faults.zscore_hindsight else ~trading]
    sd = np.nanstd(measured, axis=0)
    still = sd <= 1e-9 * np.nanmean(one, axis=0)
    if still.any():
        pair = kept.iloc[int(still.argmax())]
        raise DataError(
            f"the spread of {pair['ticker_1']} and {pair['ticker_2']} does not move: are they lines of one company? "
            "Leave that pair out"
        )
    z = (spread[trading] - np.nanmean(measured, axis=0)) / sd
    days = window.index[trading]
    profit, booked, bookings = _follow(one[trading], two[trading], z, protocol)
    if faults.shared_account:
        daily = _overwritten_account(profit, booked, days, protocol.cash).pct_change().dropna()
    else:
        marked = np.nan_to_num(pd.DataFrame(profit).ffill().to_numpy())
        earned = np.diff(marked, axis=0, prepend=0.0).sum(axis=1)
        daily = pd.Series(earned / (2 * protocol.leg * len(kept)), index=days)
    for column in ("entry", "exit"):
        bookings[column] = days[bookings[column].to_numpy(dtype=int)]
    last = pd.DataFrame(profit).ffill().iloc[-1].to_numpy()
    return PublishedBook(kept.assign(hedge_ratio=slope, profit=last), skipped, bookings, daily)


def _listed(pairs: pd.DataFrame, *, keep_duplicates: bool) -> pd.DataFrame:
    missing = {"ticker_1", "ticker_2"} - set(pairs.columns)
    if missing:
        raise DataError(f"the list of pairs has no column {sorted(missing)[0]}: it needs ticker_1 and ticker_2")
    listed = pairs[["ticker_1", "ticker_2"]].reset_index(drop=True)
    same = listed["ticker_1"] == listed["ticker_2"]
    if same.any():
        row = int(same.to_numpy().argmax())
        raise DataError(f"pair {row} is {listed['ticker_1'][row]} twice: a pair needs two different tickers")
    if keep_duplicates:
        return listed
    unordered = pd.Series([frozenset(pair) for pair in listed.itertuples(index=False, name=None)], dtype=object)
    return listed[~unordered.duplicated().to_numpy(dtype=bool)].reset_index(drop=True)


def _why_skipped(window: pd.DataFrame, listed: pd.DataFrame, protocol: PublishedProtocol) -> pd.Series:
    """Reason each pair is left out, or an empty string."""
    faults = protocol.faults
    trading = window.index > protocol.formation_end
    fitted = []
    if not (faults.hedge_hindsight and faults.zscore_hindsight):
        fitted.append(("formation", ~trading))
    if faults.hedge_hindsight or faults.zscore_hindsight:
        fitted.append(("trading", trading))
    priced = {ticker: window[ticker].notna().to_numpy() for ticker in window.columns}
    after = window.index > protocol.alive_after

    def reason(pair: tuple[str, str]) -> str:
        for ticker in pair:
            if ticker not in priced:
                return f"{ticker} has no prices"
        if faults.survivors_only and not all(priced[ticker][after].any() for ticker in pair):
            return f"no prices of both after {protocol.alive_after}"
        for name, rows in fitted:
            common = int((priced[pair[0]] & priced[pair[1]])[rows].sum())
            if common < protocol.min_days:
                return f"{common} common days in the {name} window, {protocol.min_days} are needed"
        return ""

    return pd.Series([reason(pair) for pair in listed.itertuples(index=False, name=None)], dtype=object)


def _slope(one: np.ndarray, two: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Least-squares slope of `one` on `two` with a constant, over `rows`, shape (pairs,)."""
    y, x = one[rows], two[rows]
    y, x = np.where(np.isnan(x), np.nan, y), np.where(np.isnan(y), np.nan, x)
    y, x = y - np.nanmean(y, axis=0), x - np.nanmean(x, axis=0)
    square = np.nansum(x * x, axis=0)  # a price that stands still explains nothing
    result: np.ndarray = np.divide(np.nansum(x * y, axis=0), square, out=np.zeros_like(square), where=square > 0)
    return result


def _follow(
    one: np.ndarray, two: np.ndarray, z: np.ndarray, protocol: PublishedProtocol
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Follow every pair through the trading days.

    Returns
    -------
    profit : ndarray, shape (days, pairs)
        Booked so far plus open; NaN on days without a price of both legs.
    booked : ndarray, shape (pairs,)
        Booked by the last day.
    bookings : DataFrame
        As `PublishedBook.bookings`, days as rows.
    """
    faults = protocol.faults
    days, count = z.shape
    seen = np.isfinite(z)
    ends = days - seen[::-1].argmax(axis=0)  # the day after the last with both prices
    filled = np.stack([pd.DataFrame(leg).ffill().to_numpy() for leg in (one, two)])
    fee = 0.0 if faults.no_costs else protocol.cost_bp / 1e4 * 2 * protocol.leg
    borrow = 0.0 if faults.no_borrow_fee else protocol.borrow_percent / 100 / TRADING_DAYS * protocol.leg

    side = np.zeros(count)  # +1 long leg 1 and short leg 2
    open_now = np.zeros(count, dtype=bool)  # not booked yet: only then does the account count an open profit
    entry = np.ones((2, count))
    opened = np.zeros(count, dtype=np.int64)
    before = np.full(count, np.nan)  # z of the pair's previous day
    booked = np.zeros(count)
    profit = np.full((days, count), np.nan)
    opening, closing = np.zeros(count), np.zeros(count, dtype=bool)
    nobody, never = np.zeros(0, dtype=np.int64), np.zeros(0)
    bookings = [(nobody, never, nobody, nobody, never)]  # the columns keep their types without any

    def gain(t: int) -> np.ndarray:
        growth = filled[:, t] / entry
        result: np.ndarray = np.where(side == 0, 0.0, side * protocol.leg * (growth[0] - growth[1]))
        return result

    def fill(t: int, opens: np.ndarray, closes: np.ndarray) -> None:
        starts = opens != 0
        side[starts], open_now[starts], opened[starts] = opens[starts], True, t
        entry[:, starts] = filled[:, t, starts]
        booked[starts] -= fee
        ends_now = np.flatnonzero(closes)
        if not len(ends_now):
            return
        taken = gain(t)[ends_now]
        booked[ends_now] += taken - fee
        bookings.append((ends_now, side[ends_now], opened[ends_now], np.full(len(ends_now), t), taken))
        open_now[ends_now] = False
        if not faults.never_cleared:
            side[ends_now] = 0

    for t in range(days):
        now = seen[t]
        if not faults.same_close:
            fill(t, opening * now, closing & now)
        rises = (before < protocol.entry) & (z[t] >= protocol.entry)
        falls = (before > -protocol.entry) & (z[t] <= -protocol.entry)
        crosses = np.where(side == 0, falls.astype(float) - rises, 0.0)
        leaves = (side != 0) & ((side * z[t] >= 0) | (np.abs(z[t]) >= protocol.stop))
        opening, closing = np.where(now, crosses, opening), np.where(now, leaves, closing)
        if faults.same_close:
            fill(t, opening * now, closing & now)
        gone = np.zeros(count, dtype=bool) if faults.survivors_only else t == ends
        fill(t, np.zeros(count), open_now & gone)
        short = np.where(side > 0, filled[1, t] / entry[1], filled[0, t] / entry[0])
        booked -= np.where(now & open_now, borrow * short, 0.0)
        profit[t] = np.where(now | gone, booked + np.where(open_now, gain(t), 0.0), np.nan)
        before = np.where(now, z[t], before)

    pair, sides, entries, exits, taken = (np.concatenate(column) for column in zip(*bookings, strict=True))
    table = pd.DataFrame({"pair": pair, "side": sides.astype(int), "entry": entries, "exit": exits, "profit": taken})
    return profit, booked, table.sort_values(["pair", "exit"], ignore_index=True)


def _overwritten_account(profit: np.ndarray, booked: np.ndarray, days: pd.Index, cash: float) -> pd.Series:
    """Value of the shared account by date, as the last pair to touch each date left it."""
    value = np.full(len(profit), np.nan)
    for pair in range(profit.shape[1]):
        touched = np.isfinite(profit[:, pair])
        value[touched] = cash + profit[touched, pair]
        cash += booked[pair]
    return pd.Series(value, index=days).dropna()
