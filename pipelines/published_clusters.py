"""Recompute the published comparison on public prices: METHOD.md, section 3.

Usage: ``python pipelines/published_clusters.py --data ../shared/data --out published.csv``.

What the paper does not say and had to be deduced, each confirmed by the shares of firms and of pairs:

- A filing's return series is that of the first of its tickers (the panel separates them by ``|``).
- Log returns of the calendar year; a company counts in a year if it has all twelve (nine give the same to 0.001).
- Coverage and share of pairs are of those companies, not of all filings of the year.
- SIC codes and divisions are the panel's. A cluster is a (year, cluster) pair; one with a single priced member is none.
- Random clusters: labels permuted among a year's priced companies; a company alone keeps out of MC, as everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from companysim.benchmark import Grouping, correlation, partition
from companysim.benchmark.metrics import score_year
from companysim.benchmark.resampling import interval, over_draws, yearly_null
from companysim.benchmark.returns import log_returns_of

YEARS = range(1996, 2021)
MONTHS = 12
PAPER = {"sae_gcd": 0.359, "sic4": 0.231, "sic_division": 0.187, "all_pairs": 0.161}
ROWS = ("sae_gcd", "sae_gcdr_rolling", "sic4", "sic_division", "palm_gecko", "sbert", "bert", "all_pairs")


def load(data: Path) -> tuple[dict[int, np.ndarray], dict[int, list[Grouping]]]:
    """Correlations and groupings of each year among its priced companies, in the order of their filings.

    Parameters
    ----------
    data : path
        Holds filings_panel, published_clusters and returns_monthly, all parquet.
    """
    panel = pd.read_parquet(data / "filings_panel.parquet")
    clusters = pd.read_parquet(data / "published_clusters.parquet")
    long = pd.read_parquet(data / "returns_monthly.parquet")
    long["ticker"] = long["ticker"].astype(str)
    simple = long.pivot(index="month", columns="ticker", values="simple_return")
    log = log_returns_of(simple, "simple")
    correlations, groupings = {}, {}
    for year in YEARS:
        months = log[pd.DatetimeIndex(log.index).year == year]
        complete = months.columns[months.notna().sum() >= MONTHS]
        filings = panel[panel["year"] == year].sort_values("filing_id")
        filings = filings.assign(ticker=filings["tickers"].str.split("|").str[0])
        filings = filings[filings["ticker"].isin(complete)]
        correlations[year] = correlation(months[filings["ticker"]].to_numpy(), MONTHS)
        found = [
            partition("sic4", filings["sic"].tolist()),
            partition("sic_division", filings["sic_division"].tolist()),
            partition("all_pairs", ["everybody"] * len(filings)),
        ]
        own = clusters[clusters["year"] == year]
        for method in sorted(own["method"].unique()):
            cluster = own[own["method"] == method].set_index("filing_id")["cluster"]
            found.append(partition(str(method), filings["filing_id"].map(cluster).tolist()))
        groupings[year] = found
    return correlations, groupings


def table(correlations: dict[int, np.ndarray], groupings: dict[int, list[Grouping]], draws: int = 1000) -> pd.DataFrame:
    """Section 3's table: the mean over years of every figure, one row a grouping.

    Returns
    -------
    DataFrame
        Indexed by grouping: paper, mean_correlation, pair_weighted, coverage, share_of_pairs, size_matched_null,
        null_low, null_high, years.
    """
    rows = []
    for name in ROWS:
        labels = {year: g.labels for year, found in groupings.items() for g in found if g.name == name}
        scores = pd.DataFrame([vars(score_year(own, correlations[year])) for year, own in labels.items()])
        random = over_draws(yearly_null(labels, {year: correlations[year] for year in labels}, draws, seed=0))
        low, high = interval(random)
        figures = scores[["mean_correlation", "pair_weighted", "coverage", "share_of_pairs"]].mean().to_dict()
        rows.append(
            {"grouping": name, "paper": PAPER.get(name), **figures, "size_matched_null": random.mean()}
            | {"null_low": low, "null_high": high, "years": len(labels)}
        )
    return pd.DataFrame(rows).set_index("grouping")


def main() -> None:
    """Print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draws", type=int, default=1000, help="random partitions a year")
    arguments = parser.parse_args()
    found = table(*load(arguments.data), arguments.draws)
    print(found.round(3).to_string())
    if arguments.out is not None:
        found.to_csv(arguments.out)


if __name__ == "__main__":
    main()
