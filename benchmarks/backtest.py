"""Speed of the pairs simulator against the same rules followed pair by pair and day by day in plain Python.

Usage: ``python benchmarks/backtest.py [--pairs 10000] [--days 1763] [--peer-pairs 40]``. Both sides run in this process
on the same made-up prices with gaps and delistings. The loop takes too long for all pairs: it is measured on some of
them, drawn at random, and scaled by their number; on these its daily profits and trades are compared with the
simulator's. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
import pandas as pd
from row_by_row import simulate_pair

from companysim.trading import Costs, Rules, simulate


def market(days: int, series: int, seed: int) -> pd.DataFrame:
    """Random walks around a common one, with 1 % of the prices missing and 2 % of the lines delisted."""
    rng = np.random.default_rng(seed)
    logs = np.cumsum(rng.normal(0, 0.012, (days, series)) + rng.normal(0, 0.008, (days, 1)), axis=0)
    prices = pd.DataFrame(50 * np.exp(logs), index=pd.bdate_range("2014-01-02", periods=days))
    prices = prices.mask(rng.random(prices.shape) < 0.01)
    for line in rng.choice(series, max(1, series // 50), replace=False):
        prices.iloc[int(rng.integers(days // 2, days)) :, line] = np.nan
    return prices


def some_pairs(count: int, series: int, seed: int) -> pd.DataFrame:
    """Pairs of different lines, with hedge ratios around 1."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, series, count)
    second = (first + rng.integers(1, series, count)) % series
    hedge = rng.uniform(0.5, 1.5, count)
    figures = {"hedge_ratio": hedge, "intercept": np.log(50) * (1 - hedge), "residual_sd": 0.1}
    return pd.DataFrame({"first": first, "second": second, **figures})


def main() -> None:
    """Run both sides and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("pairs", 10_000), ("days", 1763), ("peer-pairs", 40), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    series = 1000
    prices, pairs = market(given.days, series, given.seed), some_pairs(given.pairs, series, given.seed)
    rules, costs = Rules(), Costs(cash_percent=2.0, delisting_return=-0.3)
    print(f"simulating {given.pairs:,} pairs over {given.days:,} days, all at once")
    started = time.perf_counter()
    book = simulate(prices, pairs, rules, costs)
    ours = time.perf_counter() - started
    print(f"{ours:.2f} s, {len(book.trades):,} trades")
    print(f"the same rules in a loop over {given.peer_pairs} of the pairs and every day")
    chosen = np.random.default_rng(given.seed).choice(given.pairs, given.peer_pairs, replace=False)
    started = time.perf_counter()
    found = [simulate_pair(prices, pairs.iloc[i], rules, costs) for i in chosen]
    per_pair = (time.perf_counter() - started) / given.peer_pairs
    print(f"{per_pair * 1000:.1f} ms a pair, {per_pair * given.pairs:.0f} s for all")
    difference, trades_equal, compared = 0.0, True, 0
    for i, (gross, net, trades) in zip(chosen, found, strict=True):
        difference = max(difference, np.abs(book.gross[:, i] - gross).max(), np.abs(book.net[:, i] - net).max())
        mine = book.trades[book.trades["pair"] == i][["side", "entry", "exit", "reason"]]
        theirs = [(side, entry, leave, reason) for side, entry, leave, *_, reason in trades]
        trades_equal &= list(mine.itertuples(index=False, name=None)) == theirs
        compared += len(theirs)
    result = {
        "benchmark": "backtest",
        "ratio": round(per_pair * given.pairs / ours, 1),
        "max_difference": float(difference),
        "trades_equal": trades_equal,
        "trades_compared": compared,
        "seconds": round(ours, 2),
        "peer_seconds_scaled": round(per_pair * given.pairs, 1),
        "pairs": given.pairs,
        "days": given.days,
        "peer_pairs": given.peer_pairs,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
