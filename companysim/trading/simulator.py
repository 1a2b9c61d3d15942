"""A two-leg pairs simulator whose decisions cannot see the future.

On each day the rules receive a read-only view of the prices that ends on that day. What they decide is filled at the
close of the next day on which both legs have a price; an order to open does not wait and is withdrawn if a leg has
no price the day after. Each pair keeps its own book; the books add up by date.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from companysim.errors import DataError

TRADING_DAYS = 252
REASONS = ("exit", "stop", "time", "delisted", "end")


@dataclass(frozen=True)
class Rules:
    """When to open and to close, in units of the formation window's residual standard deviation.

    Attributes
    ----------
    entry : float
        Open against the spread when ``entry <= |z| < stop``.
    exit : float
        Close when the spread has come back to ``exit`` on the side it came from (0: to its mean).
    stop : float
        Close when ``|z|`` reaches this on the wrong side.
    max_days : int
        Close after this many days. After a stop or a time-out the pair waits until z has crossed 0.
    cost_bp : float
        Commission and half spread of each leg, in basis points of the notional traded, at entry and at exit.
    borrow_percent : float
        Fee for the short leg, percent of its value a year.
    """

    entry: float = 2.0
    exit: float = 0.0
    stop: float = 4.0
    max_days: int = 126
    cost_bp: float = 5.0
    borrow_percent: float = 1.0


@dataclass(frozen=True)
class Book:
    """What trading the pairs earned, per unit of capital given to each pair.

    Attributes
    ----------
    gross, net : ndarray, shape (days, pairs)
        Daily profit marked to market, before and after costs and borrow fees.
    trades : DataFrame
        pair (column), side (+1 long the first leg), entry, exit (dates), pnl_gross, cost, pnl_net, reason.
    """

    gross: np.ndarray
    net: np.ndarray
    trades: pd.DataFrame


def zscores(view: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """Spread of each pair on the view's last day over its formation standard deviation, shape (pairs,).

    ``z = (log p1 - hedge_ratio log p2 - intercept) / residual_sd``; NaN where a leg has no price.
    """
    last = view[-1]
    spread = last[pairs["first"]] - pairs["hedge_ratio"].to_numpy() * last[pairs["second"]]
    result: np.ndarray = (spread - pairs["intercept"].to_numpy()) / pairs["residual_sd"].to_numpy()
    return result


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


def simulate(prices: pd.DataFrame, pairs: pd.DataFrame, rules: Rules) -> Book:
    """Trade `pairs` over the days of `prices`.

    Each pair has capital 1. An open pair holds gross exposure 1 at entry, split ``1 : |hedge_ratio|`` between a long
    and a short leg, in fixed shares until it is closed. A leg whose prices have ended is closed at its last price.

    Parameters
    ----------
    prices : DataFrame, shape (days, series)
        Positive; NaN where a series has no price.
    pairs : DataFrame
        Rows of `companysim.trading.cointegration.engle_granger`: first, second, hedge_ratio, intercept, residual_sd.

    Raises
    ------
    DataError
        If a price is not positive or the dates do not ascend.
    """
    check_prices(prices)
    values = prices.to_numpy(dtype=float)
    logs = np.log(values)
    logs.setflags(write=False)
    filled = pd.DataFrame(values).ffill().to_numpy()
    days, count = len(values), len(pairs)
    one, two = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    both = np.isfinite(values[:, one]) & np.isfinite(values[:, two])
    last_day = np.where(both.any(axis=0), days - 1 - both[::-1].argmax(axis=0), -1)
    share = 1 / (1 + np.abs(pairs["hedge_ratio"].to_numpy()))

    side = np.zeros(count)  # position held: +1 long the spread, -1 short
    units = np.zeros((2, count))  # shares of each leg
    wanted = np.zeros(count)  # position decided on the day before, to be filled today
    why = np.zeros(count, dtype=np.int64)
    armed = np.ones(count, dtype=bool)
    last_sign = np.zeros(count)
    opened = np.zeros(count, dtype=np.int64)
    gross, cost = np.zeros((days, count)), np.zeros((days, count))
    so_far = np.zeros((2, count))  # gross profit and cost of the open trade
    trades: list[pd.DataFrame] = []

    for t in range(days):
        p = np.stack([filled[t, one], filled[t, two]])
        if t:
            before = np.stack([filled[t - 1, one], filled[t - 1, two]])
            gross[t] = np.nansum(units * (p - before), axis=0)
            short = np.nansum(np.maximum(-units, 0) * before, axis=0)
            cost[t] = short * rules.borrow_percent / 100 / TRADING_DAYS
            so_far += np.stack([gross[t], cost[t]])

        ended = (side != 0) & (t > last_day)  # the simulator, not the rules, knows that a line is gone
        finished = (side != 0) & (t == days - 1)
        closing = ended | finished | ((side != 0) & (wanted == 0) & both[t])
        reason = np.where(
            ended, REASONS.index("delisted"), np.where(finished & (wanted != 0), REASONS.index("end"), why)
        )
        if closing.any():
            fee = rules.cost_bp / 1e4 * np.abs(units * p).sum(axis=0)
            cost[t, closing] += fee[closing]
            so_far[1, closing] += fee[closing]
            trades.append(_trades(np.flatnonzero(closing), side, opened, t, so_far, reason))
            side[closing], wanted[closing], units[:, closing], so_far[:, closing] = 0, 0, 0, 0

        opening = (side == 0) & (wanted != 0) & both[t] & (t < days - 1)
        if opening.any():
            legs = np.stack([share, -(1 - share) * np.sign(pairs["hedge_ratio"].to_numpy())]) * wanted
            units[:, opening] = (legs / p)[:, opening]
            fee = rules.cost_bp / 1e4 * np.abs(legs).sum(axis=0)
            cost[t, opening] += fee[opening]
            so_far[:, opening] = np.stack([np.zeros(count), fee])[:, opening]
            side[opening], opened[opening] = wanted[opening], t

        z = zscores(logs[: t + 1], pairs)
        seen = np.isfinite(z)
        crossed = seen & (np.sign(z) * last_sign < 0)
        armed |= crossed
        last_sign = np.where(seen & (z != 0), np.sign(z), last_sign)
        held = (side != 0) & seen
        back = held & (side * z >= -rules.exit)
        stopped = held & (side * z <= -rules.stop)
        late = held & (t - opened >= rules.max_days)
        leave = (back | stopped | late) & (wanted != 0)
        why = np.where(leave, np.where(back, 0, np.where(stopped, 1, 2)), why)
        armed &= ~(leave & ~back)
        enter = (side == 0) & seen & armed & (np.abs(z) >= rules.entry) & (np.abs(z) < rules.stop)
        # z is not seen on a day without both prices, which withdraws an order to open; an order to close waits.
        wanted = np.where(side == 0, np.where(enter, -np.sign(z), 0.0), np.where(leave, 0.0, wanted))

    columns = ["pair", "side", "entry", "exit", "pnl_gross", "cost", "pnl_net", "reason"]
    if not trades:  # the columns keep their types
        trades.append(_trades(np.zeros(0, dtype=np.int64), side, opened, 0, so_far, why))
    frame = pd.concat(trades, ignore_index=True)
    for column in ("entry", "exit"):
        frame[column] = prices.index[frame[column].to_numpy(dtype=int)]
    return Book(gross, gross - cost, frame[columns])


def _trades(
    which: np.ndarray, side: np.ndarray, opened: np.ndarray, day: int, so_far: np.ndarray, reason: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "pair": which,
            "side": side[which].astype(int),
            "entry": opened[which],
            "exit": day,
            "pnl_gross": so_far[0, which],
            "cost": so_far[1, which],
            "pnl_net": so_far[0, which] - so_far[1, which],
            "reason": np.array(REASONS)[reason[which]],
        }
    )
