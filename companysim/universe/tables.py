"""Reading and validating the input tables. Column names are the contract between the stages.

filings   : filing_id, cik, ticker, company, fiscal_year, filed, text
companies : ticker, cik, company, sic, sic_source, gics, gics_source   (codes may be empty)
prices    : date, ticker, adj_close                                    (long; split and dividend adjusted)
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pyarrow

from companysim.errors import DataError

UNVERIFIED = "unverified"

_ONCE: dict[str, Any] = {"unique": True, "report_duplicates": "exclude_first"}
FILINGS = pa.DataFrameSchema(
    {
        "filing_id": pa.Column(str, pa.Check.str_length(min_value=1), coerce=True, **_ONCE),
        "cik": pa.Column(int, pa.Check.gt(0), coerce=True),
        "ticker": pa.Column(str, pa.Check.str_length(min_value=1), coerce=True),
        "company": pa.Column(str, coerce=True),
        "fiscal_year": pa.Column(int, pa.Check.in_range(1900, 2200), coerce=True),
        "filed": pa.Column("datetime64[ns]", coerce=True),
        "text": pa.Column(str, pa.Check.str_contains(r"[^\W_]"), coerce=False),
    },
    name="filings",
)
TEXTS = pa.DataFrameSchema(
    {
        "filing_id": pa.Column(str, pa.Check.str_length(min_value=1), coerce=True, **_ONCE),
        "text": pa.Column(str, coerce=False, nullable=True),
    },
    name="texts",
)
"""What encoding needs of filings; a text may be empty, which encoding records as a failure."""
COMPANIES = pa.DataFrameSchema(
    {
        "ticker": pa.Column(str, pa.Check.str_length(min_value=1), coerce=True, **_ONCE),
        "cik": pa.Column(int, pa.Check.gt(0), coerce=True),
        "company": pa.Column(str, coerce=True),
        "sic": pa.Column(str, pa.Check.str_matches(r"^([0-9]{4})?$"), coerce=True),
        "sic_source": pa.Column(str, coerce=True),
        "gics": pa.Column(str, pa.Check.str_matches(r"^([0-9]{8})?$"), coerce=True),
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
    report_duplicates="exclude_first",
    name="prices",
)
OPTIONAL = ("sic", "sic_source", "gics", "gics_source")
_RULES = {
    "greater_than": "it must be positive",
    "finite": "it must be a finite number",
    "str_matches": "a SIC code has four digits and a GICS code eight, or leave it empty",
    "in_range": "it is out of range",
}
_DATE = r"^(\d{4}-\d\d-\d\d|\d{8})(?:[T ]\d\d:[\d:.]+\s?(?:Z|[+-]\d\d:?\d\d)?)?$"
_LISTED = 12


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
        The schema's columns in the schema's order. Dates are days as written: a time or a time zone is dropped.

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
            with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
                table = pd.read_csv(stream, dtype=str, keep_default_na=False)
    except (ValueError, OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {file} ({' '.join(str(error).split())}): give a parquet or CSV file") from error
    return check_table(table, schema, str(file))


def check_table(table: pd.DataFrame, schema: pa.DataFrameSchema, source: str) -> pd.DataFrame:
    """Check a table that is already in memory; `source` names it in errors. See `read_table`."""
    names = list(table.columns)
    missing = [name for name in schema.columns if name not in names]
    if missing:
        raise DataError(
            f"{source}: column {missing[0]!r} is missing; {schema.name} needs {', '.join(schema.columns)} "
            f"and this table has {_listed(names)}"
        )
    twice = [name for name in schema.columns if names.count(name) > 1]
    if twice:
        raise DataError(f"{source}: column {twice[0]!r} stands {names.count(twice[0])} times: keep one")
    if table.empty:
        raise DataError(f"{source}: the table has no rows")
    table = table[list(schema.columns)].reset_index(drop=True)
    for name, column in schema.columns.items():
        table[name] = _converted(table[name], str(column.dtype), source, column.nullable or name in OPTIONAL)
    try:
        return schema.validate(table)
    except pandera.errors.SchemaError as error:
        raise DataError(f"{source}: {_sentence(error, table)}") from error


def _listed(names: Sequence[object]) -> str:
    """Column names in one line, of a wide table only the first."""
    shown = [name if name.isprintable() else repr(name) for name in map(str, names[:_LISTED])]
    further = len(names) - len(shown)
    return (", ".join(shown) or "none") + (f" and {further} more" if further else "")


def _converted(values: pd.Series, dtype: str, source: str, optional: bool) -> pd.Series:
    """Convert a column, so that text read from CSV and typed parquet end up alike; refuse what is missing."""
    is_text, is_day = dtype.startswith(("str", "object")), dtype.startswith("datetime")
    if is_day:
        typed = pd.api.types.is_datetime64_any_dtype(values)
    else:
        typed = not is_text and pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if not typed:
        values = values.astype("object").where(values.notna(), "").astype(str).str.strip()
    if optional:
        return values
    _refuse(values.isna() if typed else values == "", values, source, None)
    if is_text:
        return values
    if is_day:
        days = _days(values)
        _refuse(days.isna(), values, source, "it must be a date from 1900 to 2199 (write 2012-02-28)")
        return days
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    _refuse(numbers.isna(), values, source, "it must be a number")
    if not dtype.startswith("int"):
        return numbers
    _refuse((numbers % 1 != 0) | (numbers.abs() > 2**53), values, source, "it must be a whole number")
    return numbers.astype("int64")


def _days(values: pd.Series) -> pd.Series:
    """Calendar days as written, whatever the time and zone beside them; NaT where that is no day."""
    if pd.api.types.is_datetime64_any_dtype(values):
        days: pd.Series = values.dt.tz_localize(None).dt.normalize()
    else:
        written = values.str.extract(_DATE)[0].str.replace("-", "")
        days = pd.to_datetime(written, format="%Y%m%d", errors="coerce")
    return days.where(days.dt.year.between(1900, 2199)).astype("datetime64[ns]")


def _refuse(bad: pd.Series, values: pd.Series, source: str, rule: str | None) -> None:
    """Raise for the first bad value; without a rule it is bad because it is missing."""
    if bad.any():
        row = int(bad.to_numpy().argmax())
        place = f"(row {row + 1})"
        if rule is None:
            raise DataError(f"{source}: column {values.name!r} has no value {place}: fill it or remove the row")
        raise DataError(f"{source}: column {values.name!r} holds {_quoted(values.iloc[row])} {place}: {rule}")


def _quoted(value: object) -> str:
    """Return a value in quotes, in one line and not too long to read."""
    text = repr(str(value))
    return text if len(text) <= 60 else f"{text[:56]}...{text[0]}"


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
    if "unique" in str(kind):
        return f"column {column!r} repeats {_quoted(value)} {place}: each may stand once"
    if column == "text":
        return f"column 'text' holds no word {place}: remove the filing or give its text"
    rule = _RULES.get(str(kind), "it is not allowed")
    return f"column {column!r} holds {_quoted(value)} {place}: {rule}"
