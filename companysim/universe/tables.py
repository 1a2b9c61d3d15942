"""Reading and validating the input tables. Column names are the contract between the stages.

filings   : filing_id, cik, ticker, company, fiscal_year, filed, text
companies : ticker, cik, company, sic, sic_source, gics, gics_source   (codes may be empty)
prices    : date, ticker, adj_close                                    (long; split and dividend adjusted)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pandera.errors
import pandera.pandas as pa

from companysim.errors import DataError

UNVERIFIED = "unverified"

FILINGS = pa.DataFrameSchema(
    {
        "filing_id": pa.Column(str, pa.Check.str_length(min_value=1), unique=True, coerce=True),
        "cik": pa.Column(int, pa.Check.gt(0), coerce=True),
        "ticker": pa.Column(str, pa.Check.str_length(min_value=1), coerce=True),
        "company": pa.Column(str, coerce=True),
        "fiscal_year": pa.Column(int, pa.Check.in_range(1900, 2200), coerce=True),
        "filed": pa.Column("datetime64[ns]", coerce=True),
        "text": pa.Column(str, pa.Check.str_matches(r"\w"), coerce=False),
    },
    name="filings",
)
COMPANIES = pa.DataFrameSchema(
    {
        "ticker": pa.Column(str, pa.Check.str_length(min_value=1), unique=True, coerce=True),
        "cik": pa.Column(int, pa.Check.gt(0), coerce=True),
        "company": pa.Column(str, coerce=True),
        "sic": pa.Column(str, pa.Check.str_matches(r"^(\d{4})?$"), coerce=True),
        "sic_source": pa.Column(str, coerce=True),
        "gics": pa.Column(str, pa.Check.str_matches(r"^(\d{8})?$"), coerce=True),
        "gics_source": pa.Column(str, coerce=True),
    },
    name="companies",
)
PRICES = pa.DataFrameSchema(
    {
        "date": pa.Column("datetime64[ns]", coerce=True),
        "ticker": pa.Column(str, pa.Check.str_length(min_value=1), coerce=True),
        "adj_close": pa.Column(float, [pa.Check.gt(0), pa.Check(np.isfinite, name="finite")], coerce=True),
    },
    unique=["ticker", "date"],
    name="prices",
)
OPTIONAL = ("sic", "sic_source", "gics", "gics_source")
_RULES = {
    "greater_than": "it must be positive",
    "finite": "it must be a finite number",
    "str_matches": "a SIC code has four digits and a GICS code eight, or leave it empty",
    "in_range": "it is out of range",
}


def read_table(path: str | Path, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Read a parquet or CSV file and check it.

    Parameters
    ----------
    path : path
        ``.parquet``, ``.csv`` or ``.csv.gz``.
    schema : pandera DataFrameSchema
        `FILINGS`, `COMPANIES` or `PRICES`. Further columns are dropped.

    Returns
    -------
    DataFrame
        The schema's columns in the schema's order.

    Raises
    ------
    DataError
        If the file is missing, empty or unreadable, a column is missing, or a value cannot be used. The message
        names file, column and first bad row (rows are counted from 1, the header not included).
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"no file {file}: give a parquet or CSV file with the columns {', '.join(schema.columns)}")
    try:
        if file.suffix == ".parquet":
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise DataError(f"cannot read {file} ({' '.join(str(error).split())}): give a parquet or CSV file") from error
    return check_table(table, schema, str(file))


def check_table(table: pd.DataFrame, schema: pa.DataFrameSchema, source: str) -> pd.DataFrame:
    """Check a table that is already in memory; `source` names it in errors. See `read_table`."""
    missing = [name for name in schema.columns if name not in table.columns]
    if missing:
        raise DataError(
            f"{source}: column {missing[0]!r} is missing; {schema.name} needs {', '.join(schema.columns)} "
            f"and this table has {', '.join(map(str, table.columns)) or 'none'}"
        )
    if table.empty:
        raise DataError(f"{source}: the table has no rows")
    table = table[list(schema.columns)].reset_index(drop=True)
    for name, column in schema.columns.items():
        table[name] = _converted(table[name], str(column.dtype), source)
    try:
        return schema.validate(table)
    except pandera.errors.SchemaError as error:
        raise DataError(f"{source}: {_sentence(error, table)}") from error


def _converted(values: pd.Series, dtype: str, source: str) -> pd.Series:
    """Convert a column, so that text read from CSV and typed parquet end up alike; empty text becomes missing."""
    if dtype.startswith(("str", "object")):
        text = values.astype("object").where(values.notna(), "").astype(str).str.strip()
        return text if values.name in OPTIONAL else text.replace("", None)
    present = values.notna()
    if not pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_datetime64_any_dtype(values):
        present &= values.map(lambda value: str(value).strip() != "")
    if dtype.startswith("datetime"):
        converted, kind = pd.to_datetime(values, errors="coerce", format="mixed"), "a date (write 2012-02-28)"
        if isinstance(converted.dtype, pd.DatetimeTZDtype):
            converted = converted.dt.tz_localize(None)
    else:
        converted, kind = pd.to_numeric(values, errors="coerce"), "a number"
    unreadable = present & converted.isna()
    if unreadable.any():
        row = int(unreadable.to_numpy().argmax())
        raise DataError(f"{source}: column {values.name!r} holds {values[row]!r} (row {row + 1}): it must be {kind}")
    return converted.astype("datetime64[ns]") if dtype.startswith("datetime") else converted


def _sentence(error: pandera.errors.SchemaError, table: pd.DataFrame) -> str:
    """First failure of a schema in one sentence with column, row and value."""
    cases = error.failure_cases
    row = int(cases["index"].iloc[0])
    place = f"(row {row + 1})"
    kind = error.check.name if isinstance(error.check, pa.Check) else str(error.check)
    column = str(error.schema.name)
    if not isinstance(error.schema, pa.Column):  # the uniqueness of whole rows
        bad = table.iloc[row]
        return f"ticker {bad['ticker']!r} has more than one price on {bad['date']:%Y-%m-%d} {place}: keep one"
    value = table[column].iloc[row]
    if pd.isna(value):
        return f"column {column!r} has no value {place}: fill it or remove the row"
    if "unique" in str(kind):
        return f"column {column!r} repeats {str(value)!r} {place}: each may stand once"
    if column == "text":
        return f"column 'text' holds no word {place}: remove the filing or give its text"
    rule = _RULES.get(str(kind), "it is not allowed")
    return f"column {column!r} holds {str(value)!r} {place}: {rule}"
