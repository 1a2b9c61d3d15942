"""Dickey-Fuller and Engle-Granger tests, side by side with statsmodels' `adfuller` and `coint` in a loop.

    OMP_NUM_THREADS=1 python benchmarks/cointegration.py   # 1,000 simulated stocks, 3,000 days: 499,500 pairs
    python benchmarks/cointegration.py --real              # the same on real prices, which have to be there
    python benchmarks/cointegration.py --exactness 5000    # statistic, lags and p-value of 5,000 real pairs

Both directions of every pair are tested on either side, with automatic lags (AIC, 0 to 29). `ratio` compares the time
a pair takes in one process; `seconds_all_pairs` is the whole job on `--jobs` processes; `adf_ratio` compares single
series (with a constant). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from statsmodels.regression.linear_model import OLS
from statsmodels.tools import add_constant
from statsmodels.tsa.adfvalues import mackinnonp
from statsmodels.tsa.stattools import adfuller, coint

from companysim.trading.cointegration import adf, engle_granger

PRICES = Path(__file__).resolve().parents[2] / "shared" / "data" / "prices_daily.parquet"


def simulated(stocks: int, days: int, seed: int = 0) -> np.ndarray:
    """Log prices of stocks with a market, ten sectors of 100 stocks (one in five stays near its sector) and noise."""
    rng = np.random.default_rng(seed)
    market = rng.normal(0, 0.010, (days, 1))
    sectors = rng.normal(0, 0.008, (days, 10))[:, np.arange(stocks) % 10]
    logs = 3 + np.cumsum(market * rng.uniform(0.5, 1.5, stocks) + sectors, axis=0)
    own = rng.normal(0, 0.015, (days, stocks))
    decay = np.where(np.arange(stocks) % 5 == 0, 0.97, 1.0)
    for day in range(1, days):
        own[day] += decay * own[day - 1]
    return logs + own


def real(path: Path, start: str, end: str) -> np.ndarray:
    """Log prices of the stocks that have a price on every day."""
    if not path.exists():
        raise SystemExit(f"no prices at {path}: name the file with --prices")
    table = pd.read_parquet(path, columns=["date", "ticker", "adj_close"])
    wide = table.pivot(index="date", columns="ticker", values="adj_close").loc[start:end]
    return np.log(wide.loc[:, wide.notna().all() & (wide > 0).all()].to_numpy())


class PeakMemory(threading.Thread):
    """Watches the memory of this process and its children; `peak` in GB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.done = 0.0, threading.Event()

    def run(self) -> None:
        """Look ten times a second."""
        me = psutil.Process()
        while not self.done.wait(0.1):
            held = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    held += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, held / 1e9)


def speed(logs: np.ndarray, sample: int, jobs: int) -> dict[str, object]:
    """Time all pairs here and a sample of them with statsmodels."""
    days, stocks = logs.shape
    first, second = np.triu_indices(stocks, 1)
    chosen = np.random.default_rng(1).choice(len(first), sample, replace=False)
    print(f"statsmodels: coint(a, b) and coint(b, a) of {sample} of {len(first):,} pairs, {days} days")
    theirs, began = [], time.perf_counter()
    for a, b in zip(first[chosen], second[chosen], strict=True):
        theirs.append([coint(logs[:, y], logs[:, x], autolag="aic")[0] for y, x in ((a, b), (b, a))])
    statsmodels_seconds = (time.perf_counter() - began) / sample
    print(f"  {statsmodels_seconds * 1e3:.1f} ms a pair")

    part = np.random.default_rng(2).choice(stocks, min(stocks, 256), replace=False)
    i, j = np.triu_indices(len(part), 1)
    began = time.perf_counter()
    engle_granger(logs[:, part], i, j)
    ours_seconds = (time.perf_counter() - began) / len(i)
    print(f"companysim, one process: all {len(i):,} pairs of {len(part)} stocks, {ours_seconds * 1e6:.1f} us a pair")

    began = time.perf_counter()
    peers = [adfuller(logs[:, k], regression="c", autolag="AIC")[0] for k in part[: 2 * sample]]
    adf_peer = (time.perf_counter() - began) / len(peers)
    began = time.perf_counter()
    single = adf(logs[:, part], trend="c", autolag="aic")["t"].to_numpy()
    adf_ours = (time.perf_counter() - began) / len(part)
    print(f"single series: adfuller {adf_peer * 1e3:.1f} ms, companysim {adf_ours * 1e3:.3f} ms")

    memory = PeakMemory()
    memory.start()
    began = time.perf_counter()
    found = engle_granger(logs, first, second, n_jobs=jobs)
    all_seconds = time.perf_counter() - began
    memory.done.set()
    print(f"companysim, {jobs} processes: all {len(first):,} pairs in {all_seconds:.1f} s, peak {memory.peak:.2f} GB")
    difference = np.abs(found["adf_t"].to_numpy()[chosen] - np.min(theirs, axis=1)).max()
    return {
        "ratio": round(statsmodels_seconds / ours_seconds, 1),
        "max_difference": float(difference),
        "pairs": len(first),
        "days": days,
        "directions": 2,
        "statsmodels_ms_per_pair": round(statsmodels_seconds * 1e3, 2),
        "ours_us_per_pair_one_core": round(ours_seconds * 1e6, 2),
        "seconds_all_pairs": round(all_seconds, 1),
        "jobs": jobs,
        "ratio_with_jobs": round(statsmodels_seconds * len(first) / all_seconds, 1),
        "peak_gb": round(memory.peak, 2),
        "not_ok": int((found["status"] != "ok").sum()),
        "adf_ratio": round(adf_peer / adf_ours, 1),
        "adf_max_difference": float(np.abs(single[: len(peers)] - peers).max()),
        "load": round(os.getloadavg()[0], 1),
    }


def exactness(logs: np.ndarray, pairs: int) -> dict[str, object]:
    """Compare statistic, lags and p-value of single pairs: nine in ten at random, one in ten of the highest R^2."""
    stocks = logs.shape[1]
    first, second = np.triu_indices(stocks, 1)
    r2 = np.corrcoef(logs.T)[first, second] ** 2
    hardest = np.argsort(-r2)[: pairs // 10]
    rest = np.setdiff1d(np.arange(len(first)), hardest)
    chosen = np.concatenate([hardest, np.random.default_rng(3).choice(rest, pairs - len(hardest), replace=False)])
    print(f"{pairs} pairs of {stocks} stocks on {len(logs)} days; R^2 {r2[chosen].min():.1e} to 1 - {1 - r2.max():.1e}")
    began = time.perf_counter()
    found = engle_granger(logs, first[chosen], second[chosen])
    ours = time.perf_counter() - began
    theirs, began = [], time.perf_counter()
    for row in found.itertuples():  # what coint does, which hides the number of lags
        residual = OLS(logs[:, row.first], add_constant(logs[:, row.second], prepend=False)).fit().resid
        t, _, lags = adfuller(residual, regression="n", autolag="aic")[:3]
        theirs.append((t, mackinnonp(t, "c", 2), lags))
    statsmodels_seconds = time.perf_counter() - began
    t, p, lags = (np.array(column) for column in zip(*theirs, strict=True))
    tested = (found["status"] == "ok").to_numpy()
    same = (found["lags"] == lags).to_numpy()[tested]
    apart = np.abs(found["adf_t"] - t).to_numpy()[tested]
    for row in found[~tested].itertuples():
        there = coint(logs[:, row.first], logs[:, row.second])[:2]
        print(f"  not tested: {row.status}; statsmodels gives t = {there[0]}, p = {there[1]}")
    for place in np.flatnonzero(tested)[~same | (apart > 1e-8)]:
        row = found.iloc[place]
        print(f"  1 - R^2 {1 - r2[chosen[place]]:.1e}: t {row.adf_t!r} {t[place]!r}, lags {row.lags} {lags[place]}")
    return {
        "ratio": round(statsmodels_seconds / ours, 1),
        "max_difference": float(apart.max()),
        "pairs": pairs,
        "directions": 1,
        "tested": int(tested.sum()),
        "same_lags": float(same.mean()),
        "t_within_1e-8": float((apart <= 1e-8).mean()),
        "max_p_difference": float(np.abs(found["p_value"] - np.minimum(1, 2 * p))[tested].max()),
        "lags_above_0": float((lags > 0).mean()),
    }


def main() -> None:
    """Run what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stocks", type=int, default=1000)
    parser.add_argument("--days", type=int, default=3000)
    parser.add_argument("--sample", type=int, default=25, help="pairs given to statsmodels")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--real", action="store_true", help="time on real prices, cut to --stocks and --days")
    parser.add_argument("--exactness", type=int, metavar="PAIRS", help="compare so many real pairs instead")
    parser.add_argument("--prices", type=Path, default=PRICES, help="long table: date, ticker, adj_close")
    parser.add_argument("--start", default="2002-01-01")
    parser.add_argument("--end", default="2013-12-31")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # statsmodels announces that adfuller's tuple will change, and warns of share lines
    if options.exactness:
        result = exactness(real(options.prices, options.start, options.end), options.exactness)
    elif options.real:
        logs = real(options.prices, options.start, options.end)[: options.days, : options.stocks]
        result = speed(logs, options.sample, options.jobs)
    else:
        result = speed(simulated(options.stocks, options.days), options.sample, options.jobs)
    print(json.dumps({"benchmark": "cointegration", **result}))


if __name__ == "__main__":
    main()
