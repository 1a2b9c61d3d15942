"""Ask whether any grouping earns a walk-forward Sharpe ratio above its placebo's 95th percentile, 2005-2020.

Usage: ``python pipelines/walk_forward_study.py --shared ../shared/data --cache /tmp/study``. The specification, its
variations and the answer are in docs/STUDY.md; the specification was written before the first run.

Every pair of the year's universe is tested for cointegration once (the slow step, cached by year). A grouping, and a
placebo book, are then choices among tested pairs. A placebo book gives the companies of a grouping each other's labels
within their SIC division: the clusters keep their number, sizes and mix of divisions, so that the candidate pairs keep
theirs, and which company is in which cluster is chance.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from companysim.trading import placebo_p
from companysim.trading.bootstrap import bootstrap
from companysim.trading.candidates import cluster_pairs
from companysim.trading.cointegration import engle_granger
from companysim.trading.costs import Costs
from companysim.trading.performance import deflated_sharpe, max_drawdown, sharpe
from companysim.trading.simulator import TRADING_DAYS, Rules, simulate
from companysim.trading.walk_forward import select

YEARS = range(2005, 2021)
POINT_IN_TIME = ("sae_gcd", "sae_gcdr_rolling", "palm_gecko", "bert", "sbert")
UPPER_BOUND = ("sic", "gics")
TURNOVER = 1e6
BOOKS = 2_000
DRAWS = 1_000
P_VALUE = 0.01
RULES = Rules(entry=2.0, exit=0.0, stop=4.0, max_days=126)
COSTS = Costs(commission_bp=1.0, half_spread_bp=4.0, borrow_percent=1.0)


@dataclass(frozen=True)
class Specification:
    """One declared way of trading."""

    name: str
    formation_years: int = 5
    max_pairs: int | None = 50
    rules: Rules = RULES


SPECIFICATIONS = (
    Specification("base"),
    Specification("three years of formation", formation_years=3),
    Specification("entry 1, stop 2", rules=replace(RULES, entry=1.0, stop=2.0)),
    Specification("every pair that passes", max_pairs=None),
)


@dataclass(frozen=True)
class Shared:
    """The shared tables, prices wide."""

    prices: pd.DataFrame
    turnover: pd.DataFrame
    panel: pd.DataFrame
    clusters: pd.DataFrame
    codes: pd.DataFrame


def read(folder: Path) -> Shared:
    """Read what the study needs."""
    long = pd.read_parquet(folder / "prices_daily.parquet", columns=["date", "ticker", "adj_close", "close", "volume"])
    long["ticker"] = long["ticker"].astype(str)
    long["turnover"] = long["close"] * long["volume"]
    wide = long.pivot(index="date", columns="ticker", values=["adj_close", "turnover"])
    return Shared(
        wide["adj_close"],
        wide["turnover"].fillna(0.0),
        pd.read_parquet(folder / "filings_panel.parquet"),
        pd.read_parquet(folder / "published_clusters.parquet"),
        pd.read_parquet(folder / "classifications.parquet").set_index("cik"),
    )


def universe(shared: Shared, year: int, formation_years: int) -> pd.DataFrame:
    """Companies that can be traded in `year`, by what was known at the end of the year before.

    One row a company that filed in the year before: filing_id, cik, sic_division, ticker (the first of its listed lines
    with a price on every formation day and a median turnover of a million dollars a day over the last formation year).
    """
    formation = shared.prices.loc[f"{year - formation_years}" : f"{year - 1}"]
    liquid = shared.turnover.loc[f"{year - 1}"].median() >= TURNOVER
    usable = set(formation.columns[formation.notna().all() & liquid])
    filed = shared.panel[shared.panel["year"] == year - 1].sort_values("cik")
    first = [next((line for line in lines.split("|") if line in usable), None) for lines in filed["tickers"]]
    kept = filed.assign(ticker=first).dropna(subset="ticker").drop_duplicates("ticker")
    return kept[["filing_id", "cik", "sic_division", "ticker"]].reset_index(drop=True)


def labels_of(shared: Shared, companies: pd.DataFrame, grouping: str, year: int) -> np.ndarray:
    """Cluster of each company, -1 for none: published clusters of the year before, or today's codes."""
    if grouping in UPPER_BOUND:
        code = shared.codes["sic" if grouping == "sic" else "gics8"].reindex(companies["cik"])
    else:
        chosen = shared.clusters[(shared.clusters["method"] == grouping) & (shared.clusters["year"] == year - 1)]
        code = chosen.set_index("filing_id")["cluster"].reindex(companies["filing_id"])
    return pd.factorize(code, use_na_sentinel=True)[0]


def tested_pairs(shared: Shared, companies: pd.DataFrame, year: int, formation_years: int, cache: Path) -> pd.DataFrame:
    """Every pair of the universe that passes the screen, smallest p-value first."""
    file = cache / f"pairs-{formation_years}-{year}.parquet"
    if not file.exists():
        formation = shared.prices.loc[f"{year - formation_years}" : f"{year - 1}", companies["ticker"]]
        first, second = np.triu_indices(len(companies), 1)
        tested = engle_granger(np.log(formation.to_numpy()), first, second)
        select(tested, P_VALUE, len(tested)).to_parquet(file)
    return pd.read_parquet(file)


def book_of(net: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean daily profit of the chosen pairs; zero without any."""
    return net[chosen].mean(axis=0) if len(chosen) else np.zeros(net.shape[1])


def one_year(
    shared: Shared, specification: Specification, year: int, cache: Path
) -> tuple[pd.Index, dict[str, dict[str, np.ndarray | int]]]:
    """Daily returns of every grouping and of its placebo books in one trading year."""
    companies = universe(shared, year, specification.formation_years)
    passing = tested_pairs(shared, companies, year, specification.formation_years, cache)
    trading = shared.prices.loc[f"{year}", companies["ticker"]]
    book = simulate(trading, passing, specification.rules, COSTS)
    net, gross = np.ascontiguousarray(book.net.T), np.ascontiguousarray(book.gross.T)
    trades = np.bincount(book.trades["pair"].to_numpy(dtype=int), minlength=len(passing))
    rank = np.full((len(companies), len(companies)), -1)
    rank[passing["first"], passing["second"]] = rank[passing["second"], passing["first"]] = np.arange(len(passing))
    division = pd.factorize(companies["sic_division"])[0]
    rng = np.random.default_rng([2005, year])
    shuffles = []
    for _ in range(BOOKS):  # a shuffle of the companies within each division
        shuffle = np.arange(len(companies))
        for group in np.unique(division):
            members = np.flatnonzero(division == group)
            shuffle[members] = rng.permutation(members)
        shuffles.append(shuffle)
    result: dict[str, dict[str, np.ndarray | int]] = {}
    for grouping in (*POINT_IN_TIME, *UPPER_BOUND):
        labels = labels_of(shared, companies, grouping, year)
        first, second = cluster_pairs(labels)

        def chosen(one: np.ndarray, two: np.ndarray) -> np.ndarray:
            found = rank[one, two]
            return np.sort(found[found >= 0])[: specification.max_pairs]

        mine = chosen(first, second)
        result[grouping] = {
            "candidates": len(first),
            "passed": int((rank[first, second] >= 0).sum()),
            "pairs": len(mine),
            "trades": int(trades[mine].sum()),
            "net": book_of(net, mine),
            "gross": book_of(gross, mine),
            "placebo": np.stack([book_of(net, chosen(s[first], s[second])) for s in shuffles]),
        }
    print(f"{specification.name} {year}: {len(companies)} companies, {len(passing)} pairs pass", flush=True)
    return trading.index, result


def study(shared: Shared, specification: Specification, cache: Path) -> pd.DataFrame:
    """Make one row a grouping; the daily returns go to the cache."""
    trials = len(SPECIFICATIONS) * len(POINT_IN_TIME + UPPER_BOUND)
    years = {year: one_year(shared, specification, year, cache) for year in YEARS}
    days = pd.DatetimeIndex(np.concatenate([index for index, _ in years.values()]))
    rows, daily, placebos = [], {}, {}
    for grouping in (*POINT_IN_TIME, *UPPER_BOUND):
        parts = [result[grouping] for _, result in years.values()]
        net, gross = (np.concatenate([part[kind] for part in parts]) for kind in ("net", "gross"))
        placebo = sharpe(np.concatenate([part["placebo"] for part in parts], axis=1), axis=1)
        mine = float(sharpe(net))
        resampled = bootstrap(net, lambda returns: sharpe(returns, axis=-1), DRAWS, seed=0)
        daily[grouping] = net
        placebos[grouping] = placebo
        rows.append(
            {
                "specification": specification.name,
                "grouping": grouping,
                "point_in_time": grouping in POINT_IN_TIME,
                **{kind: sum(part[kind] for part in parts) for kind in ("candidates", "passed", "pairs", "trades")},
                "sharpe_gross": float(sharpe(gross)),
                "sharpe_net": mine,
                "low": float(np.quantile(resampled, 0.025)),
                "high": float(np.quantile(resampled, 0.975)),
                "return_net_annual": float(net.mean() * TRADING_DAYS),
                "max_drawdown": max_drawdown(net),
                "placebo_median": float(np.median(placebo)),
                "placebo_95": float(np.quantile(placebo, 0.95)),
                "placebo_p": placebo_p(mine, placebo),
                "deflated": deflated_sharpe(net, trials),
                "years_positive": sum(part["net"].sum() > 0 for part in parts),
            }
        )
    name = specification.name.replace(" ", "_").replace(",", "")
    pd.DataFrame(daily, index=days).to_parquet(cache / f"daily-{name}.parquet")
    pd.DataFrame(placebos).to_parquet(cache / f"placebo-{name}.parquet")
    return pd.DataFrame(rows)


def main() -> None:
    """Run the declared specifications and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of specifications; all by default")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    shared = read(options.shared)
    tables = []
    for specification in SPECIFICATIONS:
        if not options.only or specification.name in options.only:
            tables.append(study(shared, specification, options.cache))
            print(tables[-1].to_string(float_format="{:.3f}".format), flush=True)
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(options.cache / "study.csv", index=False)


if __name__ == "__main__":
    main()
