"""A two-leg pairs simulator whose decisions cannot see the future.

On each day, in this order: what is held is marked to the day's closes; lines that have stopped trading are closed;
orders that are due are filled at the day's closes; the rules look at a view of the prices that ends on this day and
place orders, which are filled `lag` days later. Every pair keeps its own book, and the books add up by date.

All pairs move through the days together. An account (one by default) bounds how many of its pairs are open at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from companysim.errors import DataError
from companysim.trading.costs import Costs
from companysim.trading.rules import Limits, Rules
from companysim.trading.sessions import days_without

TRADING_DAYS = 252
REASONS = ("exit", "stop", "time", "delisted", "end")
EXIT, STOP, TIME, DELISTED, END = range(len(REASONS))


@dataclass(frozen=True)
class Book:
    """What trading the pairs earned, in the currency of `simulate`'s `size`.

    Attributes
    ----------
    dates : DatetimeIndex, shape (days,)
        Days of trading.
    gross, net : ndarray, shape (days, pairs)
        Daily profit marked to market, before and after trading costs and carry.
    long, short, traded : ndarray, shape (days,)
        Over all pairs: value held long and held short (both positive) at the close, and value of the day's fills.
    trades : DataFrame
        pair (row of `pairs`), side (+1 long the first leg), entry, exit (dates of the fills), value_1, value_2 (signed
        value of each leg at entry), z_entry (at the signal), pnl_gross, cost (of the fills), carry (borrow fees and
        interest), pnl_net, reason; ordered by exit, then by names.
    """

    dates: pd.DatetimeIndex
    gross: np.ndarray
    net: np.ndarray
    long: np.ndarray
    short: np.ndarray
    traded: np.ndarray
    trades: pd.DataFrame


def check_prices(prices: pd.DataFrame) -> None:
    """Raise DataError unless dates ascend and every price is positive and finite, or NaN."""
    if not (prices.index.is_monotonic_increasing and prices.index.is_unique):
        raise DataError("the dates of the prices do not ascend: sort them and drop those that come twice")
    values = prices.to_numpy(dtype=float)
    bad = np.argwhere((values <= 0) | np.isinf(values))
    if len(bad):
        day, column = bad[0]
        raise DataError(
            f"the price of {prices.columns[column]} on {prices.index[day]:%Y-%m-%d} is {values[day, column]:g}: "
            "prices must be positive; leave out those that are missing"
        )


def zscores(
    view: np.ndarray, legs: np.ndarray, figures: np.ndarray, zscore_days: int | None = None
) -> np.ndarray:
    """Spread of each pair on the view's last day, in standard deviations from its mean.

    ``z = (log p1 - hedge_ratio log p2 - intercept) / residual_sd``

    Parameters
    ----------
    view : ndarray, shape (days so far, series)
        Log prices; NaN where a series has no price.
    legs : ndarray of int, shape (2, pairs)
        Columns of the view.
    figures : ndarray, shape (3, pairs)
        Hedge ratio, intercept and residual standard deviation of the formation window.
    zscore_days : int, optional
        Take the mean and standard deviation of the spread over the last so many days instead.

    Returns
    -------
    ndarray, shape (pairs,)
        NaN where a leg has no price today or the last days have too few, or no variation.
    """
    hedge_ratio, intercept, sd = figures
    recent = view[-(zscore_days or 1) :]
    recent = recent[:, legs[0]] - hedge_ratio * recent[:, legs[1]]
    if zscore_days is not None:
        known = np.isfinite(recent)
        count = known.sum(axis=0)
        intercept = np.where(known, recent, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(known, recent - intercept, 0.0) ** 2).sum(axis=0)
        sd = np.sqrt(squares / np.maximum(count - 1, 1))
        sd = np.where((2 * count >= zscore_days) & (sd > 1e-12), sd, np.nan)
    result: np.ndarray = (recent[-1] - intercept) / sd
    return result


def simulate(
    prices: pd.DataFrame,
    pairs: pd.DataFrame,
    rules: Rules | None = None,
    costs: Costs | None = None,
    limits: Limits | None = None,
    *,
    size: float = 1.0,
    start: pd.Timestamp | None = None,
    accounts: np.ndarray | None = None,
) -> Book:
    """Trade `pairs` over the days of `prices`.

    A position holds long and short legs of together `size` at entry, in fixed shares until it is closed. An order to
    open is withdrawn if a leg has no price on the day it is due; an order to close waits until both legs have one.
    A position with a delisted leg is closed on the day the line is deemed delisted: that leg at its last price and
    `Costs.delisting_return`, the other at its latest close. What is open on the last day is closed at its closes.

    Parameters
    ----------
    prices : DataFrame, shape (days, series)
        Positive; NaN where a series has no price.
    pairs : DataFrame
        Rows of `companysim.trading.cointegration.engle_granger`: first, second (columns of `prices`), hedge_ratio,
        intercept, residual_sd. Their order changes nothing.
    rules, costs, limits : Rules, Costs, Limits
        Defaults where left out.
    size : float
        Gross value of a position at entry, in the currency of the result.
    start : Timestamp, optional
        First day of trading; earlier days only feed rolling z-scores. By default the first day of `prices`.
    accounts : ndarray of int, shape (pairs,), optional
        Account of each pair; limits hold within an account.

    Raises
    ------
    DataError
        If a price is not positive, the dates do not ascend, or a pair's figures are not finite.
    """
    check_prices(prices)
    rules, costs, limits = rules or Rules(), costs or Costs(), limits or Limits()
    figures = pairs[["hedge_ratio", "intercept", "residual_sd"]].to_numpy(dtype=float)
    if not (np.isfinite(figures).all() and (figures[:, 2] > 0).all()):
        raise DataError("a pair's hedge ratio, intercept or residual sd is no number: trade pairs that passed the test")
    names = prices.columns.astype(str).to_numpy()
    given = pd.DataFrame(
        {
            "account": np.zeros(len(pairs), dtype=np.int64) if accounts is None else accounts,
            "name_1": names[pairs["first"]],
            "name_2": names[pairs["second"]],
            "hedge": figures[:, 0],
        }
    )
    # Sums and ties then come out the same, to the last bit, in whatever order the pairs are given.
    order = np.lexsort([given[key] for key in ("hedge", "name_2", "name_1", "account")])
    first_day = 0 if start is None else int(prices.index.searchsorted(start))
    days = _Days(prices, pairs.iloc[order], figures[order], rules, first_day)
    desk = _Desk(days, costs, rules, limits, size, given["account"].to_numpy()[order], order)
    for t in range(first_day, len(prices)):
        desk.trade(t)
        desk.decide(t)
    return Book(
        dates=pd.DatetimeIndex(prices.index[first_day:]),
        gross=desk.gross,
        net=desk.net,
        long=desk.long,
        short=desk.short,
        traded=desk.traded,
        trades=_trades(desk.closed, order, prices.index),
    )


class _Days:
    """The market as each day shows it: closes, what can be traded, and a view of them that ends there."""

    def __init__(
        self, prices: pd.DataFrame, pairs: pd.DataFrame, figures: np.ndarray, rules: Rules, first_day: int
    ) -> None:
        values = prices.to_numpy(dtype=float)
        self.count, self.first_day, self._rules = len(values), first_day, rules
        self.legs = np.stack([pairs["first"].to_numpy(dtype=np.int64), pairs["second"].to_numpy(dtype=np.int64)])
        self.figures = np.ascontiguousarray(figures.T)
        self._last = pd.DataFrame(values).ffill().to_numpy()
        gap = days_without(np.isfinite(values))
        self._gone = np.maximum.accumulate(gap >= rules.delisted_after, axis=0)
        self._priced = np.isfinite(values) & ~self._gone
        self._logs = np.log(values)
        self._logs.setflags(write=False)
        index = pd.DatetimeIndex(prices.index)
        self.nights = np.diff(index.to_numpy(), prepend=index.to_numpy()[:1]) / np.timedelta64(1, "D")

    def closes(self, t: int) -> np.ndarray:
        """Last known price of both legs, shape (2, pairs)."""
        result: np.ndarray = self._last[t][self.legs]
        return result

    def gone(self, t: int) -> np.ndarray:
        """Whether each leg is deemed delisted, shape (2, pairs)."""
        result: np.ndarray = self._gone[t][self.legs]
        return result

    def tradable(self, t: int) -> np.ndarray:
        """Whether both legs have a price, shape (pairs,)."""
        priced = self._priced[t]
        result: np.ndarray = priced[self.legs[0]] & priced[self.legs[1]]
        return result

    def zscores(self, t: int) -> np.ndarray:
        """Return z-scores from the view that ends on day t."""
        return zscores(self._logs[: t + 1], self.legs, self.figures, self._rules.zscore_days)


class _Desk:
    """Positions, orders and books of all pairs."""

    def __init__(
        self,
        days: _Days,
        costs: Costs,
        rules: Rules,
        limits: Limits,
        size: float,
        accounts: np.ndarray,
        order: np.ndarray,
    ) -> None:
        self.days, self.costs, self.rules, self.limits = days, costs, rules, limits
        pairs, traded = len(accounts), days.count - days.first_day
        beta = days.figures[0]
        self.order = order  # place of each pair in the result
        share = 1 / (1 + np.abs(beta)) if rules.hedge == "beta" else np.full(pairs, 0.5)
        self.weights = size * np.stack([share, -(1 - share) * np.sign(beta)])  # of a position long the spread
        self.accounts = np.unique(accounts, return_inverse=True)[1]
        self.side = np.zeros(pairs)  # position held: +1 long the spread, -1 short
        self.units = np.zeros((2, pairs))  # shares of each leg
        self.wanted = np.zeros(pairs)  # position ordered; equals side where there is no order
        self.due = np.zeros(pairs, dtype=np.int64)  # day on which the order is filled
        self.why = np.zeros(pairs, dtype=np.int64)  # reason of the order to close
        self.opened = np.zeros(pairs, dtype=np.int64)
        self.signal = np.zeros(pairs)  # z at the order to open
        self.before = np.zeros((2, pairs))  # closes of the day before
        self.running = np.zeros((3, pairs))  # of the open trade: gross profit, cost of fills, carry
        self.waiting = np.zeros(pairs, dtype=bool)  # after a stop or time-out
        self.rest_until = np.zeros(pairs, dtype=np.int64)
        self.last_sign = np.zeros(pairs)
        self.profit, self.cost = np.zeros(pairs), np.zeros(pairs)  # of the day
        self.gross, self.net = np.zeros((traded, pairs)), np.zeros((traded, pairs))
        self.long, self.short, self.traded = np.zeros(traded), np.zeros(traded), np.zeros(traded)
        self.closed: list[tuple[np.ndarray, ...]] = []

    def trade(self, t: int) -> None:
        """Mark to the closes of day t, then fill what is due."""
        row, last_day = t - self.days.first_day, self.days.count - 1
        self.profit[:] = self.cost[:] = 0
        closes, tradable = self.days.closes(t), self.days.tradable(t)
        held = self.side != 0
        if held.any():
            self._mark(held, closes, self.days.nights[t])
            gone = self.days.gone(t)
            delisted = held & (gone[0] | gone[1])
            ordered = held & (self.wanted == 0) & tradable & (t >= self.due)
            closing = delisted | ordered | (held & (t == last_day))
            if closing.any():
                reason = np.where(delisted, DELISTED, np.where(ordered, self.why, END))
                self._close(t, row, np.flatnonzero(closing), closes, gone, reason)
        opening = (self.side == 0) & (self.wanted != 0) & (t >= self.due)
        if opening.any():
            self.wanted[opening & ~tradable] = 0
            if t < last_day:
                self._open(t, row, np.flatnonzero(opening & tradable), closes)
        self.before = closes
        if (self.side != 0).any():
            value = np.where(self.side != 0, self.units * closes, 0.0)
            self.long[row], self.short[row] = np.maximum(value, 0).sum(), np.maximum(-value, 0).sum()
        self.gross[row, self.order] = self.profit
        self.net[row, self.order] = self.profit - self.cost

    def decide(self, t: int) -> None:
        """Look at the view that ends on day t and place orders."""
        rules, z = self.rules, self.days.zscores(t)
        seen = np.isfinite(z) & self.days.tradable(t)
        size, sign = np.abs(z), np.sign(z)
        if rules.reentry == "crossing":
            self.waiting &= ~(seen & (sign * self.last_sign < 0))
            self.last_sign = np.where(seen & (sign != 0), sign, self.last_sign)
        elif rules.reentry == "inside":
            self.waiting &= ~(seen & (size < rules.entry))
        held = (self.side != 0) & (self.wanted != 0) & seen
        if held.any():
            toward = self.side * z  # grows to the mean
            back, stopped = toward >= -rules.exit, toward <= -rules.stop
            leave = held & (back | stopped | (t - self.opened >= rules.max_days))
            self.why[leave] = np.where(back, EXIT, np.where(stopped, STOP, TIME))[leave]
            self.wanted[leave], self.due[leave] = 0, t + rules.lag
            bad = leave & ~back
            self.waiting |= bad
            self.rest_until[bad] = t + rules.pause
        enter = (self.side == 0) & (self.wanted == 0) & seen & ~self.waiting
        enter &= (size >= rules.entry) & (size < rules.stop) & (t >= self.rest_until)
        if enter.any():
            chosen = np.flatnonzero(enter)
            if self.limits:
                chosen = self._admitted(chosen, size)
            self.wanted[chosen], self.due[chosen], self.signal[chosen] = -sign[chosen], t + rules.lag, z[chosen]

    def _mark(self, held: np.ndarray, closes: np.ndarray, nights: float) -> None:
        moved = self.units * (closes - self.before)
        value = self.units * self.before
        long, short = np.maximum(value, 0), np.maximum(-value, 0)
        self.profit = np.where(held, moved[0] + moved[1], 0.0)
        self.cost = np.where(held, self.costs.carry(long[0] + long[1], short[0] + short[1], nights), 0.0)
        self.running[0] += self.profit
        self.running[2] += self.cost

    def _close(
        self, t: int, row: int, which: np.ndarray, closes: np.ndarray, gone: np.ndarray, reason: np.ndarray
    ) -> None:
        value = self.units[:, which] * closes[:, which]
        loss = np.where(gone[:, which], self.costs.delisting_return, 0.0) * value
        profit, value = loss[0] + loss[1], np.abs(value + loss)
        self._fill(row, which, value[0] + value[1])
        self.profit[which] += profit
        self.running[0, which] += profit
        self.closed.append(
            (
                which,
                self.side[which],
                self.opened[which],
                np.full(len(which), t),
                *(self.weights * self.side)[:, which],
                self.signal[which],
                *self.running[:, which],
                reason[which],
            )
        )
        self.side[which] = self.wanted[which] = 0
        self.units[:, which] = self.running[:, which] = 0

    def _open(self, t: int, row: int, which: np.ndarray, closes: np.ndarray) -> None:
        value = self.weights[:, which] * self.wanted[which]
        self.units[:, which] = value / closes[:, which]
        self.side[which], self.opened[which] = self.wanted[which], t
        self._fill(row, which, np.abs(value[0]) + np.abs(value[1]))

    def _fill(self, row: int, which: np.ndarray, value: np.ndarray) -> None:
        cost = self.costs.fill(value)
        self.cost[which] += cost
        self.running[1, which] += cost
        self.traded[row] += value.sum()

    def _admitted(self, enter: np.ndarray, strength: np.ndarray) -> np.ndarray:
        """Of the pairs that want to enter, those the account has room for: the strongest first, then by name."""
        busy = np.flatnonzero((self.side != 0) | (self.wanted != 0))
        most_open = self.limits.max_open or len(self.side)
        most_shared = self.limits.max_per_company or len(self.side)
        open_pairs = np.bincount(self.accounts[busy], minlength=self.accounts.max() + 1)
        shared: dict[tuple[int, int], int] = {}
        for pair in busy:
            for leg in self.days.legs[:, pair]:
                shared[self.accounts[pair], leg] = shared.get((self.accounts[pair], leg), 0) + 1
        chosen = []
        for pair in enter[np.argsort(-strength[enter], kind="stable")]:  # pairs stand in the order of their names
            account = self.accounts[pair]
            keys = [(account, leg) for leg in self.days.legs[:, pair]]
            if open_pairs[account] < most_open and all(shared.get(key, 0) < most_shared for key in keys):
                chosen.append(pair)
                open_pairs[account] += 1
                for key in keys:
                    shared[key] = shared.get(key, 0) + 1
        return np.array(chosen, dtype=np.int64)


def _trades(closed: list[tuple[np.ndarray, ...]], order: np.ndarray, dates: pd.Index) -> pd.DataFrame:
    """Table of the closed trades."""
    empty = (np.zeros(0, dtype=np.int64), *(np.zeros(0) for _ in range(9)), np.zeros(0, dtype=np.int64))
    columns = [np.concatenate(parts) for parts in zip(empty, *closed, strict=True)]
    pair, side, entry, leave, value_1, value_2, z_entry, gross, cost, carry, reason = columns
    return pd.DataFrame(
        {
            "pair": order[pair],
            "side": side.astype(int),
            "entry": dates[entry.astype(int)],
            "exit": dates[leave.astype(int)],
            "value_1": value_1,
            "value_2": value_2,
            "z_entry": z_entry,
            "pnl_gross": gross,
            "cost": cost,
            "carry": carry,
            "pnl_net": gross - cost - carry,
            "reason": pd.array(np.array(REASONS)[reason], dtype="str"),
        }
    )
