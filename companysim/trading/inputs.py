"""A user's own prices and groupings, read from files of several shapes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pyarrow

from companysim.errors import DataError
from companysim.trading.partitions import Partitions
from companysim.universe import PRICES, check_table

GROUPS = pa.DataFrameSchema(
    {
        "date": pa.Column("datetime64[ns]", coerce=True),
        "ticker": pa.Column(str, pa.Check.str_length(min_value=1), coerce=True),
        "method": pa.Column(str, pa.Check.str_length(min_value=1), coerce=True),
    },
    name="groups",
)
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
    table = _read(path, "date, ticker and adj_close, or dates and one column a ticker")
    long = "ticker" in table.columns or "adj_close" in table.columns
    if not long:
        table = table.set_axis(["date", *map(str, table.columns[1:])], axis=1)
        if table.columns.duplicated().any():
            twice = table.columns[table.columns.duplicated()][0]
            raise DataError(f"{path}: column {twice!r} stands twice: keep one")
        table = table.melt("date", var_name="ticker", value_name="adj_close")
        missing = table["adj_close"].isna() | (table["adj_close"].astype(str).str.strip().isin(["", "nan", "NaN"]))
        table = table[~missing]
    checked = check_table(table, PRICES, str(path))
    prices = checked.pivot(index="date", columns="ticker", values="adj_close").sort_index()
    if not long or "dollar_volume" not in table.columns:
        return prices, None
    dollars = pd.to_numeric(table["dollar_volume"].reset_index(drop=True), errors="coerce").astype(float)
    if (dollars < 0).any():
        raise DataError(f"{path}: column 'dollar_volume' has a negative value: dollars traded are at least 0")
    volume = checked.assign(volume=dollars).pivot(index="date", columns="ticker", values="volume")
    return prices, volume.reindex_like(prices)


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
    table = _read(path, "date or year, ticker, cluster and optionally method")
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
    # An empty cluster is no error: it says that the company is in no group.
    cluster = table["cluster"].astype(object).where(table["cluster"].notna(), "").astype(str).str.strip()
    checked["cluster"] = cluster.str.replace(r"^-\d+(\.0)?$", "", regex=True).to_numpy()
    return {
        str(method): Partitions(rows.drop(columns="method").reset_index(drop=True))
        for method, rows in checked.groupby("method", sort=True)
    }


def _read(path: str | Path, columns: str) -> pd.DataFrame:
    """Table of a file, CSV as text so that tickers such as NA or TRUE survive."""
    file = Path(path)
    if not file.is_file():
        raise DataError(f"no file {file}: give a parquet or CSV file with {columns}")
    try:
        if file.suffix == ".parquet":
            table = pd.read_parquet(file)
            return table.reset_index() if isinstance(table.index, pd.DatetimeIndex) else table
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            table = pd.read_csv(stream, header=None, dtype=str, keep_default_na=False)
        # Left to itself pandas would call the second of two columns A "A.1", and that would be a company.
        return table.iloc[1:].set_axis(table.iloc[0].str.strip().tolist(), axis=1).reset_index(drop=True)
    except (ValueError, OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {file} ({' '.join(str(error).split())}): give a parquet or CSV file") from error
