"""The simulator's rules as one writes them first: one pair after the other, one day after the other, plain numbers.

Written from the rules' description alone, without looking at arrays of pairs; it serves as the peer of
``benchmarks/backtest.py`` and as the oracle of the simulator's tests. Limits of an account are left out: they are the
one thing that makes pairs depend on each other.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from companysim.trading.costs import Costs
from companysim.trading.rules import Rules


def simulate_pair(
    prices: pd.DataFrame, pair: pd.Series, rules: Rules, costs: Costs, size: float = 1.0
) -> tuple[list[float], list[float], list[tuple[object, ...]]]:
    """Daily gross profit, daily net profit and trades (side, entry, exit, gross, cost, carry, reason) of one pair."""
    one, two = (prices.iloc[:, int(pair[leg])].tolist() for leg in ("first", "second"))
    beta, intercept, sd = (float(pair[name]) for name in ("hedge_ratio", "intercept", "residual_sd"))
    dates = list(prices.index)
    share = 1 / (1 + abs(beta)) if rules.hedge == "beta" else 0.5
    gross, net, trades, spreads = [], [], [], []
    side, wanted, due, opened, why = 0, 0, 0, 0, ""
    units = [0.0, 0.0]
    earned = paid = fees = 0.0
    last: list[float] = [math.nan, math.nan]
    before = list(last)
    missing, gone = [0, 0], [False, False]
    waiting, rest_until, last_sign = False, 0, 0
    for t, date in enumerate(dates):
        today = (one[t], two[t])
        for leg in (0, 1):
            if not math.isnan(today[leg]):
                missing[leg], last[leg] = 0, today[leg]
            elif not math.isnan(last[leg]):
                missing[leg] += 1
            gone[leg] = gone[leg] or missing[leg] >= rules.delisted_after
        tradable = not any(math.isnan(price) for price in today) and not any(gone)

        profit = cost = 0.0
        if side:
            profit = units[0] * (last[0] - before[0]) + units[1] * (last[1] - before[1])
            nights = (date - dates[t - 1]).days
            held = [units[leg] * before[leg] for leg in (0, 1)]
            long, short = (max(sign * held[0], 0) + max(sign * held[1], 0) for sign in (1, -1))
            fee = nights / 365 / 100 * (costs.borrow_percent * short + costs.cash_percent * (long - short))
            cost += fee
            earned += profit
            fees += fee
            reason = ""
            if any(gone):
                reason = "delisted"
            elif wanted == 0 and t >= due and tradable:
                reason = why
            elif t == len(dates) - 1:
                reason = "end"
            if reason:
                value = 0.0
                for leg in (0, 1):
                    loss = units[leg] * last[leg] * (costs.delisting_return if gone[leg] else 0.0)
                    profit += loss
                    earned += loss
                    value += abs(units[leg] * last[leg] + loss)
                fill = (costs.commission_bp + costs.half_spread_bp) / 1e4 * value
                cost += fill
                paid += fill
                trades.append((side, dates[opened], date, earned, paid, fees, reason))
                side = wanted = 0
                units, earned, paid, fees = [0.0, 0.0], 0.0, 0.0, 0.0
        if not side and wanted and t >= due:
            if tradable and t < len(dates) - 1:
                values = [size * share * wanted, -size * (1 - share) * math.copysign(1, beta) * wanted]
                units = [value / price for value, price in zip(values, last, strict=True)]
                side, opened = wanted, t
                fill = (costs.commission_bp + costs.half_spread_bp) / 1e4 * (abs(values[0]) + abs(values[1]))
                cost += fill
                paid += fill
            elif not tradable:
                wanted = 0
        gross.append(profit)
        net.append(profit - cost)
        before = list(last)

        seen = not any(math.isnan(price) for price in today)
        spreads.append(math.log(today[0]) - beta * math.log(today[1]) if seen else math.nan)
        z = _zscore(spreads, intercept, sd, rules.zscore_days)
        if math.isnan(z) or not tradable:
            continue
        sign = (z > 0) - (z < 0)
        if rules.reentry == "crossing":
            if sign * last_sign < 0:
                waiting = False
            last_sign = sign or last_sign
        elif rules.reentry == "inside" and abs(z) < rules.entry:
            waiting = False
        if side and wanted:
            if side * z >= -rules.exit:
                wanted, due, why = 0, t + rules.lag, "exit"
            elif side * z <= -rules.stop or t - opened >= rules.max_days:
                why = "stop" if side * z <= -rules.stop else "time"
                wanted, due, waiting, rest_until = 0, t + rules.lag, True, t + rules.pause
        elif not side and not wanted and not waiting and t >= rest_until and rules.entry <= abs(z) < rules.stop:
            wanted, due = -sign, t + rules.lag
    return gross, net, trades


def _zscore(spreads: list[float], intercept: float, sd: float, days: int | None) -> float:
    if days is not None:
        known = [spread for spread in spreads[-days:] if not math.isnan(spread)]
        if 2 * len(known) < days or len(known) < 2:
            return math.nan
        intercept = sum(known) / len(known)
        sd = float(np.sqrt(sum((spread - intercept) ** 2 for spread in known) / (len(known) - 1)))
        if sd <= 1e-12:
            return math.nan
    return (spreads[-1] - intercept) / sd
