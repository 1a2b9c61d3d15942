"""Prices and returns in the shapes people have them: long or wide, months or days, under several names."""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from companysim.errors import DataError
from companysim.universe.schemas import LOG_RETURNS, PRICES, RETURNS, wide_schema
from companysim.universe.tables import check_table, plain_frame

DATES = ("date", "month")
IDS = ("ticker", "id", "company", "cik")
VALUES = {
    "log_return": LOG_RETURNS,
    "return": RETURNS,
    "simple_return": RETURNS,
    "ret": RETURNS,
    "adj_close": PRICES,
}
"""What the column of values may be called in a long table for the benchmark, and what it then holds."""
_MEDIAN = 0.5
"""No market has a median return of 50 %: where none is negative either, values above it are prices."""


def panel(table: pd.DataFrame, schema: pa.DataFrameSchema, source: str) -> pd.DataFrame:
    """Check a long or wide table of prices or returns.

    Parameters
    ----------
    table : DataFrame
        See `shaped`.
    schema : pandera DataFrameSchema
        `PRICES`, `RETURNS` or `LOG_RETURNS`: date, ticker, value.
    source : str
        Names the table in errors.

    Returns
    -------
    DataFrame, shape (dates, tickers)
        Sorted by date and ticker.

    Raises
    ------
    DataError
        As `companysim.universe.read_table`.
    """
    table, own = shaped(table, schema, source)
    checked = check_table(table, own, source)
    date, ticker, value = schema.columns
    if own is schema:
        wide = checked.pivot(index=date, columns=ticker, values=value)
    else:
        wide = checked.set_index(date).rename_axis(columns=ticker)
    return wide.sort_index().sort_index(axis=1)


def shaped(table: pd.DataFrame, schema: pa.DataFrameSchema, source: str) -> tuple[pd.DataFrame, pa.DataFrameSchema]:
    """Return a long or wide table with the schema it has to meet.

    Parameters
    ----------
    table : DataFrame
        Long, with the columns of `schema`; or wide: dates in the first column or the index, then one column a ticker,
        empty where there is no value.
    schema : pandera DataFrameSchema
        Of the long form. It is returned as it is for a long table.
    source : str
        Names the table in errors.

    Raises
    ------
    DataError
        If a wide table has no column of values.
    """
    table = plain_frame(table)
    date, ticker, value = schema.columns
    if ticker in table.columns or value in table.columns:
        return table, schema
    if table.shape[1] < 2:
        raise DataError(f"{source}: there is no column of {schema.name} beside the date: give one a company")
    table = table.set_axis([date, *map(str, table.columns[1:])], axis=1)
    return table, wide_schema(schema, table.columns[1:])


def returns_shaped(table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, pa.DataFrameSchema]:
    """Recognise what the benchmark takes for returns: give its columns their names, and months their last day.

    Parameters
    ----------
    table : DataFrame
        Long: a column of `DATES`, of `IDS` and of `VALUES`. Wide: dates in the first column (or in one of `DATES`), one
        column of simple returns a company; nothing in a wide table could say that it holds prices.
    source : str
        Names the table in errors.

    Returns
    -------
    table : DataFrame
        With the columns of the schema, or wide.
    schema : pandera DataFrameSchema
        `PRICES`, `RETURNS` or `LOG_RETURNS`.

    Raises
    ------
    DataError
        If the table has no rows, a long one lacks a column, or a wide one holds what can only be prices.
    """
    table = plain_frame(table)
    if table.empty:
        raise DataError(f"{source}: the table has no rows")
    table = dates_first(table)
    places = {str(name).lower(): place for place, name in reversed([*enumerate(table.columns)])}
    value = next((name for name in VALUES if name in places), None)
    key = next((name for name in IDS if name in places), None)
    if (value is None) != (key is None):
        lacking = "a column " + " or ".join(IDS if key is None else VALUES)
        raise DataError(f"{source}: a long table of returns needs {lacking}; this one has {', '.join(places)}")
    schema = RETURNS
    if value is not None and key is not None:
        schema = VALUES[value]
        table = table.iloc[:, [0, places[key], places[value]]].set_axis(list(schema.columns), axis=1)
    elif _like_prices(table.iloc[:, 1:]):
        raise DataError(
            f"{source}: a wide table is read as simple returns, and this one has no negative value and a median "
            f"above {_MEDIAN}, as prices have: give prices long, with columns date, ticker and adj_close "
            "(`companysim data prices --from-file` writes them so)"
        )
    return _with_month_ends(table), schema


def dates_first(table: pd.DataFrame) -> pd.DataFrame:
    """Move the column of dates to the front: one of `DATES`, in any case of letters, or else the first as it is."""
    names = [str(name).strip().lower() for name in table.columns]
    date = next((names.index(name) for name in DATES if name in names), 0)
    return table.iloc[:, [date, *(place for place in range(len(names)) if place != date)]]


def _like_prices(values: pd.DataFrame) -> bool:
    """Whether values cannot be simple returns: none is negative, and the median of the columns' medians is high."""
    medians = []
    for place in range(values.shape[1]):
        numbers = pd.to_numeric(values.iloc[:, place], errors="coerce")
        if (numbers < 0).any():
            return False
        medians.append(numbers.median())
    return bool(pd.Series(medians, dtype=float).median() > _MEDIAN)


def _with_month_ends(table: pd.DataFrame) -> pd.DataFrame:
    """Replace months in the first column, such as ``2012-02`` or ``201202``, by their last day."""
    dates = table.iloc[:, 0]
    if pd.api.types.is_datetime64_any_dtype(dates):
        return table
    months = dates.astype(str).str.strip().str.replace("-", "")
    if not months.str.fullmatch(r"\d{6}").all():
        return table
    ends = pd.to_datetime(months, format="%Y%m", errors="coerce") + pd.offsets.MonthEnd(0)
    return pd.concat([ends, table.iloc[:, 1:]], axis=1)
