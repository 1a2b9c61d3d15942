"""A user's own prices and groupings, read from files of several shapes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from companysim.errors import DataError
from companysim.trading.partitions import Partitions
from companysim.universe import PRICES, check_table
from companysim.universe.panels import panel
from companysim.universe.schemas import DOLLARS, GROUPS
from companysim.universe.tables import group_labels, read_frame

ONE_METHOD = "groups"
"""Name of the grouping of a table without the column `method`."""


def read_prices(path: str | Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Read daily prices, long or wide.

    Parameters
    ----------
    path : path
        Parquet or CSV. Long: date, ticker, adj_close, and optionally dollar_volume (dollars traded). Wide: the first
        column (or the index of a parquet file) holds dates, every further one the prices of the ticker it is named
        after, empty where there is none.

    Returns
    -------
    prices : DataFrame, shape (days, tickers)
    volume : DataFrame, shape (days, tickers), or None
        Dollars traded, where the table says.

    Raises
    ------
    DataError
        If the file is missing or unreadable, or a value cannot be used; the message names the first bad row.
    """
    table = read_frame(path, "date, ticker and adj_close, or dates and one column a ticker")
    prices = panel(table, PRICES, str(path))
    if "adj_close" not in table.columns or "dollar_volume" not in table.columns:
        return prices, None
    return prices, panel(table, DOLLARS, str(path)).reindex_like(prices)


def check_tickers(prices: pd.DataFrame, groupings: dict[str, Partitions]) -> None:
    """Raise DataError if a grouping has no company in common with the prices."""
    for name, partitions in groupings.items():
        named = partitions.table["ticker"]
        if not named.isin(prices.columns).any():
            raise DataError(
                f"none of the companies of the grouping {name!r}, such as {named.iloc[0]}, has prices, as "
                f"{prices.columns[0]} has: use the same tickers in both tables"
            )


def read_groups(path: str | Path) -> dict[str, Partitions]:
    """Read groupings.

    Parameters
    ----------
    path : path
        Parquet or CSV with ticker, cluster (empty for none) and either date (the first day on which the grouping was
        readable) or year (readable from its 31 December on), and optionally method, where there are several groupings.

    Returns
    -------
    dict of method to Partitions
        In the order of their names.

    Raises
    ------
    DataError
        If the file is missing or unreadable, or a value cannot be used; the message names the first bad row.
    """
    table = read_frame(path, "date or year, ticker, cluster and optionally method")
    for name in ("date", "year", "ticker", "cluster", "method"):
        times = list(table.columns).count(name)
        if times > 1:
            raise DataError(f"{path}: column {name!r} stands {times} times: keep one")
    if "date" not in table.columns and "year" in table.columns:
        year = table["year"].astype(str).str.strip().str.removesuffix(".0")
        bad = ~year.str.fullmatch(r"\d{4}")
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise DataError(f"{path}: column 'year' holds {table['year'].iloc[row]!r} (row {row + 1}): write 2012")
        table = table.assign(date=year + "-12-31")
    if "method" not in table.columns:
        table = table.assign(method=ONE_METHOD)
    checked = check_table(table, GROUPS, str(path))
    if "cluster" not in table.columns:
        raise DataError(f"{path}: column 'cluster' is missing: name the group of each company, empty for none")
    checked["cluster"] = group_labels(table["cluster"]).to_numpy()  # an empty one is no error: in no group
    return {
        str(method): Partitions(rows.drop(columns="method").reset_index(drop=True))
        for method, rows in checked.groupby("method", sort=True)
    }
