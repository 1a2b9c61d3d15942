"""The published pairs-trading protocol on real prices, and the ladder that explains its Sharpe ratios.

Usage: ``python pipelines/published_trading.py --shared ../shared/data [--out FOLDER]``. Three parts, reported apart:

1. the pair lists released with the paper (SAE G_CD and SIC);
2. lists of our own: pairs inside the published clusters and SIC codes of 2011-2013 that pass the published screen;
3. lists of independent random walks, which have nothing to trade.

A filing stands for the first of its listed tickers that has prices.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from companysim.errors import DataError
from companysim.trading.ladder import ladder
from companysim.trading.published import published
from companysim.trading.unit_root import adf

YEARS = (2011, 2012, 2013)
MIN_DAYS = 60
CORRELATION, P_VALUE = 0.95, 0.01
ORDERS = 20
WALK_LISTS, WALK_PAIRS, WALK_SD = 20, 80, 0.02
_BLOCK = 1_000


def read_prices(shared: Path) -> pd.DataFrame:
    """Read adjusted prices, wide."""
    long = pd.read_parquet(shared / "prices_daily.parquet", columns=["date", "ticker", "adj_close"])
    return long.assign(ticker=long["ticker"].astype(str)).pivot(index="date", columns="ticker", values="adj_close")


def priced_tickers(shared: Path, prices: pd.DataFrame) -> pd.Series:
    """Ticker of each filing: the first of its lines with prices, or None."""
    panel = pd.read_parquet(shared / "filings_panel.parquet").set_index("filing_id")
    known = set(prices.columns)
    return panel["tickers"].map(lambda lines: next((line for line in lines.split("|") if line in known), None))


def released(shared: Path, tickers: pd.Series) -> dict[str, pd.DataFrame]:
    """Released pair lists by method, in their order; unpriced filings have a missing ticker and are left out."""
    listed = pd.read_csv(shared / "published_pairs.csv").sort_values(["method", "order"])
    for leg in (1, 2):
        listed[f"ticker_{leg}"] = listed[f"filing_id_{leg}"].map(tickers)
    listed = listed.dropna(subset=["ticker_1", "ticker_2"])
    return {str(method): part[["ticker_1", "ticker_2"]] for method, part in listed.groupby("method")}


def grouped_pairs(shared: Path, tickers: pd.Series) -> Iterator[tuple[str, pd.DataFrame]]:
    """Pairs inside clusters by method: once for each year in which they are grouped, by year and filing."""
    clusters = pd.read_parquet(shared / "published_clusters.parquet")
    panel = pd.read_parquet(shared / "filings_panel.parquet")
    sic = panel.rename(columns={"sic": "cluster"})[["year", "cluster", "filing_id"]].assign(method="sic")
    together = pd.concat([clusters.astype({"method": str, "cluster": str}), sic], ignore_index=True)
    together = together[together["year"].isin(YEARS)]
    together = together.assign(ticker=together["filing_id"].map(tickers)).dropna(subset="ticker")
    for method, part in together.sort_values(["year", "filing_id"]).groupby("method"):
        found = []
        for _, members in part.groupby(["year", "cluster"]):
            i, j = np.triu_indices(len(members), 1)
            rows = {f"{key}_{leg}": members[key].to_numpy()[rows] for key in ("filing_id", "ticker")
                    for leg, rows in ((1, i), (2, j))}
            found.append(pd.DataFrame(rows).assign(year=members["year"].iloc[0]))
        pairs = pd.concat(found).sort_values(["year", "filing_id_1", "filing_id_2"], ignore_index=True)
        yield str(method), pairs[pairs["ticker_1"] != pairs["ticker_2"]]


def screen(prices: pd.DataFrame, pairs: pd.DataFrame) -> pd.Series:
    """Whether each distinct pair passes: common days, correlation of price levels, ADF test of the difference."""
    values = prices.loc["2002-01-01":"2013-12-31"]
    place = pd.Index(values.columns)
    distinct = pairs[["ticker_1", "ticker_2"]].drop_duplicates(ignore_index=True)
    passed = np.zeros(len(distinct), dtype=bool)
    for start in range(0, len(distinct), _BLOCK):
        block = distinct.iloc[start : start + _BLOCK]
        one, two = (values.to_numpy()[:, place.get_indexer(block[f"ticker_{leg}"])] for leg in (1, 2))
        common = np.isfinite(one) & np.isfinite(two)
        days = common.sum(axis=0)
        y, x = (np.where(common, leg, 0.0) for leg in (one, two))
        y, x = (np.where(common, leg - leg.sum(axis=0) / np.maximum(days, 1), 0.0) for leg in (y, x))
        scale = np.sqrt((y * y).sum(axis=0) * (x * x).sum(axis=0))
        correlation = np.divide((x * y).sum(axis=0), scale, out=np.zeros(len(block)), where=scale > 0)
        close = np.flatnonzero((days >= MIN_DAYS) & (correlation > CORRELATION))
        difference = np.full((len(values), len(close)), np.nan)
        for column, pair in enumerate(close):  # the published test drops days without both prices
            both = common[:, pair]
            difference[: days[pair], column] = one[both, pair] - two[both, pair]
        if len(close):
            tested = adf(difference, trend="c", autolag="aic")
            passed[start + close] = (tested["p_value"] < P_VALUE).to_numpy()
    return pd.Series(passed, index=pd.MultiIndex.from_frame(distinct))


def own_lists(shared: Path, prices: pd.DataFrame, tickers: pd.Series) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Yield method, number of distinct candidate pairs, and the list that passes the screen."""
    for method, pairs in grouped_pairs(shared, tickers):
        ordered = np.sort(pairs[["ticker_1", "ticker_2"]].to_numpy(dtype=str), axis=1)
        unordered = pd.DataFrame(ordered, columns=["ticker_1", "ticker_2"], index=pairs.index)
        passed = screen(prices, unordered)
        good = passed.reindex(pd.MultiIndex.from_frame(unordered)).to_numpy()
        yield method, len(passed), pairs.loc[good, ["ticker_1", "ticker_2"]].reset_index(drop=True)


def random_walks(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prices of independent random walks, 2002-2020, and the list of pairs of one with the next."""
    days = pd.bdate_range("2002-01-01", "2020-12-31", name="date")
    steps = np.random.default_rng(seed).normal(0, WALK_SD, (len(days), 2 * WALK_PAIRS))
    names = [f"W{i:03d}" for i in range(2 * WALK_PAIRS)]
    prices = pd.DataFrame(50 * np.exp(np.cumsum(steps, axis=0)), index=days, columns=names)
    return prices, pd.DataFrame({"ticker_1": names[::2], "ticker_2": names[1::2]})


def main() -> None:
    """Print the three parts; write their tables where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="folder for one CSV table per list")
    options = parser.parse_args()
    prices = read_prices(options.shared)
    tickers = priced_tickers(options.shared, prices)
    tables: dict[str, pd.DataFrame] = {}

    print("Released lists (the public code gives 12.17 and 9.71)")
    for method, pairs in released(options.shared, tickers).items():
        steps = ladder(prices, pairs)
        tables[f"released-{method}"] = steps.to_frame()
        print(f"\n{method}: {len(pairs)} listed pairs with prices\n{steps}")

    print("\nOur own lists: the published screen on pairs inside the clusters of 2011-2013, by year and filing")
    for method, candidates, pairs in own_lists(options.shared, prices, tickers):
        print(f"\n{method}: {candidates:,} distinct pairs tested, {len(pairs)} entries pass", flush=True)
        try:
            steps = ladder(prices, pairs)
        except DataError as error:
            print(error)
            continue
        tables[f"own-{method}"] = steps.to_frame()
        orders = [
            published(prices, pairs.sample(frac=1, random_state=seed)).summary()["sharpe"] for seed in range(ORDERS)
        ]
        print(f"as published, in {ORDERS} random orders of the list: {min(orders):.2f} to {max(orders):.2f}\n{steps}")

    print(f"\nIndependent random walks: {WALK_LISTS} lists of {WALK_PAIRS} pairs")
    walks = [ladder(*random_walks(seed)).to_frame() for seed in range(WALK_LISTS)]
    sharpes = pd.concat([walk["sharpe"] for walk in walks], axis=1)
    spread = walks[0][["rung"]].assign(
        mean=sharpes.mean(axis=1), se=sharpes.std(axis=1) / np.sqrt(WALK_LISTS), least=sharpes.min(axis=1),
        most=sharpes.max(axis=1),
    )
    tables["random-walks"] = spread
    print(spread.to_string(index=False, float_format="{:.2f}".format))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            table.to_csv(options.out / f"{name}.csv", index=False)


if __name__ == "__main__":
    main()
