"""The companies of one run: one line of stock, one description and one row of codes for each.

A company may have several lines of stock (GOOG and GOOGL, FOX and FOXA). They share a CIK. A company counts
once: the line with the most prices up to then is kept (ties by ticker), so that it never forms a pair with itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from companysim.errors import DataError, counted
from companysim.universe.tables import UNVERIFIED


@dataclass(frozen=True)
class Universe:
    """Validated and aligned inputs of a run, in the order of `companies.ticker`.

    Attributes
    ----------
    companies : DataFrame
        ticker, cik, company, sic, gics, lines, filing_id, fiscal_year, filed, text; a row a company, sorted by ticker.
        `lines` holds the tickers of all its lines, separated by spaces.
        `sic` and `gics` are empty where unknown or unverified.
    prices : DataFrame, shape (days, companies)
        Adjusted closes; NaN where a line has no price. Days on which none has one are left out.
    dropped : dict
        Why and how many companies were left out.
    """

    companies: pd.DataFrame
    prices: pd.DataFrame
    dropped: dict[str, int]


def build_universe(
    filings: pd.DataFrame, companies: pd.DataFrame, prices: pd.DataFrame, as_of: pd.Timestamp
) -> Universe:
    """Align the three tables as they were readable on `as_of`.

    Parameters
    ----------
    filings, companies, prices : DataFrame
        Checked by `companysim.universe.tables.read_table`.
    as_of : Timestamp
        The last filing of each company with ``filed <= as_of`` describes it; later ones do not exist yet.

    Raises
    ------
    DataError
        If fewer than three companies remain.
    """
    wide = prices.pivot(index="date", columns="ticker", values="adj_close").sort_index()
    wide = wide.reindex(sorted(wide.columns), axis=1)
    listed = companies.sort_values("ticker")
    priced = listed[listed["ticker"].isin(wide.columns)]
    lengths = wide.loc[:as_of].notna().sum()  # what was known then chooses the line
    kept = (
        priced.assign(length=priced["ticker"].map(lengths))
        .sort_values(["length", "ticker"], ascending=[False, True])
        .drop_duplicates("cik")
    )
    readable = filings[filings["filed"] <= as_of].sort_values(["filed", "filing_id"])
    latest = readable.drop_duplicates("cik", keep="last")
    rows = kept.merge(latest[["cik", "filing_id", "fiscal_year", "filed", "text"]], on="cik").sort_values("ticker")
    for scheme in ("sic", "gics"):
        rows[scheme] = rows[scheme].where(rows[f"{scheme}_source"] != UNVERIFIED, "")
    rows["lines"] = rows["cik"].map(listed.groupby("cik")["ticker"].agg(" ".join))
    columns = ["ticker", "cik", "company", "sic", "gics", "lines", "filing_id", "fiscal_year", "filed", "text"]
    rows = rows[columns].reset_index(drop=True)
    dropped = {
        "without a price": len(listed) - len(priced),
        "further lines of the same company": len(priced) - len(kept),
        f"without a filing by {as_of:%Y-%m-%d}": len(kept) - len(rows),
    }
    if len(rows) < 3:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        few = counted(len(rows), "company has", "companies have")
        raise DataError(f"only {few} prices and a filing ({reasons}): at least 3 are needed")
    return Universe(rows, wide[rows["ticker"].tolist()].dropna(how="all"), dropped)


def log_returns(prices: pd.DataFrame, frequency: str = "ME") -> pd.DataFrame:
    """Log returns between the last prices of each period (``ME`` months, ``D`` days), shape (periods - 1, companies).

    A period without a price is NaN; a price that returns after a gap starts anew, so no return spans a gap.
    """
    last = prices if frequency == "D" else prices.resample(frequency).last()
    logs = pd.DataFrame(np.log(last.to_numpy(dtype=float)), last.index, last.columns)
    return logs.diff().iloc[1:]
