"""Reading and validating tables: what breaks a schema of `companysim.universe.schemas` is said in one sentence.

Everything a user brings goes through here, whatever reads it: one reader of files, one conversion of text to values,
one check. Nothing is repaired silently and nothing bad is dropped: a table is accepted as it is or refused.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pyarrow

from companysim.errors import DataError

UNVERIFIED = "unverified"
MISSING = ("", "NA", "N/A", "nan", "NaN", "None", "<NA>", "null", ".")
"""What stands for a missing number or code where one may be missing; a company may well have the ticker NA."""
_RULES = {
    "greater_than": "it must be positive",
    "simple": "a simple return is above -1 (write -0.05 for -5 %)",
    "finite": "it must be a finite number",
    "past": "it lies in the future",
    "ticker": "a ticker has no white space (write BRK.B, and the same in every table)",
    "sic": "a SIC code has four digits and a GICS code eight, or leave it empty",
    "gics": "a SIC code has four digits and a GICS code eight, or leave it empty",
    "in_range": "it is out of range",
    "greater_than_or_equal_to": "it must be 0 or more",
}
_DATE = r"^(\d{4}-\d\d-\d\d|\d{8})(?:[T ]\d\d:[\d:.]+\s?(Z|[+-]\d\d:?\d\d)?)?$"
_LISTED = 12
_ROWS = 3


@dataclass(frozen=True)
class Problem:
    """One way in which a table breaks its schema.

    Attributes
    ----------
    sentence : str
        What is wrong and what to do, with column, first bad rows (counted from 1, the header not included) and value.
    rows : tuple of int
        All bad rows, counted from 0; empty if the whole table is to blame.
    """

    sentence: str
    rows: tuple[int, ...] = ()


def read_table(path: str | Path, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Read a parquet or CSV file and check it.

    Parameters
    ----------
    path : path
        ``.parquet``, ``.csv`` or ``.csv.gz``.
    schema : pandera DataFrameSchema
        One of `companysim.universe.schemas`. Further columns are dropped.

    Returns
    -------
    DataFrame
        The schema's columns in the schema's order. Dates are days as written: a time or a time zone is dropped.

    Raises
    ------
    DataError
        If the file is missing, empty or unreadable, a column is missing, or a value cannot be used. The message
        names file, column and first bad rows (rows are counted from 1, the header not included).
    """
    return check_table(read_frame(path, f"the columns {', '.join(schema.columns)}"), schema, str(path))


def read_frame(path: str | Path, columns: str, *, numbers: bool = False, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a parquet or CSV file as it is: CSV as text, so that tickers such as NA or TRUE survive.

    Parameters
    ----------
    path : path
    columns : str
        What the file should hold, for the sentence about a missing one.
    numbers : bool
        Read the columns of a CSV file that hold numbers as such; text takes ten times their memory.
    text : collection of str
        Columns, in small letters, that stay text even then: ids may be numbers with zeros in front.

    Returns
    -------
    DataFrame
        An index of dates in a parquet file becomes a column; a column that stands twice stays twice.

    Raises
    ------
    DataError
        If the file is missing or unreadable.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"no file {file}: give a parquet or CSV file with {columns}")
    try:
        if file.suffix == ".parquet":
            return plain_frame(pd.read_parquet(file))
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            if numbers:
                names = pd.read_csv(stream, nrows=0, encoding="utf-8-sig").columns
                stream.seek(0)
                kept: dict[Hashable, type] = {name: str for name in names if str(name).lower() in text}
                return pd.read_csv(stream, dtype=kept, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
            table = pd.read_csv(stream, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        # Left to itself pandas would call the second of two columns A "A.1", and that would be a company.
        return table.iloc[1:].set_axis(table.iloc[0].str.strip().tolist(), axis=1).reset_index(drop=True)
    except (ValueError, OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {file} ({' '.join(str(error).split())}): give a parquet or CSV file") from error


def group_labels(column: pd.Series) -> pd.Series:
    """Names of groups as text; empty for none, which may also be written as a negative number."""
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    whole = text.str.replace(r"^(-?\d+)\.0$", r"\1", regex=True)
    return whole.where(~(whole.isin(MISSING) | whole.str.fullmatch(r"-\d+")), "")


def plain_frame(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose index of dates, if it has one, is its first column."""
    if not isinstance(table.index, pd.DatetimeIndex):
        return table
    return table.reset_index(names=table.index.name or "date")


def check_table(table: pd.DataFrame, schema: pa.DataFrameSchema, source: str) -> pd.DataFrame:
    """Check a table that is already in memory; `source` names it in errors. See `read_table`."""
    checked, problems = examine(table, schema)
    if problems:
        raise DataError(f"{source}: {problems[0].sentence}")
    return checked


def examine(table: pd.DataFrame, schema: pa.DataFrameSchema) -> tuple[pd.DataFrame, list[Problem]]:
    """Check a table and list everything that is wrong with it.

    Returns
    -------
    table : DataFrame
        The schema's columns, of the rows nothing is wrong with.
    problems : list of Problem
        In the order of the columns; values that cannot be read come before values that can and are not allowed.
    """
    names = list(table.columns)
    missing = [name for name in schema.columns if name not in names]
    if missing:
        needs = f"{schema.name} needs {', '.join(schema.columns)}"
        sentence = f"column {missing[0]!r} is missing; {needs} and this table has {_listed(names)}"
        return table.iloc[:0], [Problem(sentence)]
    twice = [name for name in schema.columns if names.count(name) > 1]
    if twice:
        return table.iloc[:0], [Problem(f"column {twice[0]!r} stands {names.count(twice[0])} times: keep one")]
    if table.empty:
        return table, [Problem("the table has no rows")]
    given = table[list(schema.columns)].reset_index(drop=True)
    problems: list[Problem] = []
    columns = {
        name: _converted(given[name], str(column.dtype), column.nullable, problems)
        for name, column in schema.columns.items()
    }
    bad = sorted({row for problem in problems for row in problem.rows})
    usable = pd.DataFrame(columns).drop(index=bad)
    if usable.empty:
        return usable, problems
    try:
        usable = schema.validate(usable, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        found = [_problem(error, usable) for error in errors.schema_errors]
        order = {name: place for place, name in enumerate(schema.columns)}
        ranks = [order.get(str(error.schema.name), len(order)) for error in errors.schema_errors]
        problems += [problem for _, problem in sorted(zip(ranks, found, strict=True), key=lambda pair: pair[0])]
        usable = usable.drop(index=sorted({row for problem in found for row in problem.rows}))
    return usable.reset_index(drop=True), problems


def _listed(names: Sequence[object]) -> str:
    """Column names in one line, of a wide table only the first."""
    shown = [name if name.isprintable() else repr(name) for name in map(str, names[:_LISTED])]
    further = len(names) - len(shown)
    return (", ".join(shown) or "none") + (f" and {further} more" if further else "")


def _converted(values: pd.Series, dtype: str, optional: bool, problems: list[Problem]) -> pd.Series:
    """Convert a column, so that text read from CSV and typed parquet end up alike; note what cannot be."""
    is_text, is_day = dtype.startswith(("str", "object")), dtype.startswith("datetime")
    if is_day:
        typed = pd.api.types.is_datetime64_any_dtype(values)
    else:
        typed = not is_text and pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if not typed:
        values = values.astype("object").where(values.notna(), "").astype(str).str.strip()
    empty = values.isna() if typed else values == ""
    if optional and is_text:
        return values
    if optional and not typed:
        empty = values.isin(MISSING)
    if not optional:
        _note(empty, values, None, problems)
    if is_text:
        return values
    if is_day:
        days, mixed = _days(values)
        _note(days.isna() & ~empty, values, "it must be a date from 1900 to 2199 (write 2012-02-28)", problems)
        _note(mixed, values, "other rows are in another time zone; write the exchange's day alone", problems)
        return days
    numbers = pd.to_numeric(values.mask(empty), errors="coerce").astype(float)
    wrong = numbers.isna() & ~empty
    _note(wrong, values, "it must be a number", problems)
    if not dtype.startswith("int"):
        return numbers
    broken = (numbers % 1 != 0) & ~wrong & ~empty | (numbers.abs() > 2**53)
    _note(broken, values, "it must be a whole number", problems)
    return numbers.where(~(broken | wrong | empty), 0).astype("int64")


def _days(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Calendar days as written, whatever the time and zone beside them, NaT where that is no day; and mixed zones.

    A day is the day at the exchange, and daylight saving moves its clock by an hour. Where the zones of a column differ
    by more, some rows are not in the exchange's zone and their day may be the one before or after: those that differ
    from the first row with a zone are marked.
    """
    none = pd.Series(False, values.index)
    if pd.api.types.is_datetime64_any_dtype(values):
        days: pd.Series = values.dt.tz_localize(None).dt.normalize()
        mixed = none
    else:
        parts = values.str.extract(_DATE)
        days = pd.to_datetime(parts[0].str.replace("-", ""), format="%Y%m%d", errors="coerce")
        zones = parts[1].dropna().map(_minutes)
        mixed = none if zones.empty else (zones - zones.iloc[0]).abs().gt(60).reindex(values.index, fill_value=False)
    return days.where(days.dt.year.between(1900, 2199)).astype("datetime64[ns]"), mixed


def _minutes(zone: str) -> int:
    """Minutes of an offset from UTC such as ``-05:00``."""
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    return (-1 if zone[0] == "-" else 1) * (60 * int(digits[:2]) + int(digits[2:]))


def _note(bad: pd.Series, values: pd.Series, rule: str | None, problems: list[Problem]) -> None:
    """Note the bad values of a column; without a rule they are bad because they are missing."""
    rows = np.flatnonzero(bad.to_numpy())
    if len(rows):
        held = "has no value" if rule is None else f"holds {_quoted(values.iloc[rows[0]])}"
        remedy = rule or "fill it or remove the row"
        sentence = f"column {values.name!r} {held} {_place(rows)}: {remedy}"
        problems.append(Problem(sentence, tuple(map(int, rows))))


def _place(rows: Iterable[int]) -> str:
    """First bad rows, counted from 1."""
    first, *further = (int(row) + 1 for row in rows)
    if not further:
        return f"(row {first})"
    shown = ", ".join(map(str, further[:_ROWS])) + (", ..." if len(further) > _ROWS else "")
    return f"(row {first}) and {len(further)} more ({'rows' if len(further) > 1 else 'row'} {shown})"


def _quoted(value: object) -> str:
    """Return a value in quotes, in one line and not too long to read."""
    if isinstance(value, pd.Timestamp) and value == value.normalize():
        value = f"{value:%Y-%m-%d}"
    text = repr(str(value))
    return text if len(text) <= 60 else f"{text[:56]}...{text[0]}"


def _problem(error: pandera.errors.SchemaError, table: pd.DataFrame) -> Problem:
    """Say what one failed check of a schema found, in one sentence with column, rows and value."""
    rows = sorted({int(row) for row in error.failure_cases["index"]})
    place, bad = _place(rows), table.loc[rows[0]]
    kind = error.check.name if isinstance(error.check, pa.Check) else str(error.check)
    column = str(error.schema.name)
    if not isinstance(error.schema, pa.Column):  # the uniqueness of whole rows
        key = list(error.schema.unique)
        if set(key) == {"ticker", "date"}:
            what = "price" if error.schema.name == "prices" else "return"
            return Problem(
                f"ticker {bad['ticker']!r} has more than one {what} on {bad['date']:%Y-%m-%d} {place}: keep one",
                tuple(rows),
            )
        shown = ", ".join(f"{name} {_quoted(bad[name])}" for name in key)
        return Problem(f"{shown} stands more than once {place}: keep one", tuple(rows))
    if "unique" in str(kind):
        sentence = f"column {column!r} repeats {_quoted(bad[column])} {place}: each may stand once"
    elif column == "text":
        sentence = f"column 'text' holds no word {place}: remove the filing or give its text"
    else:
        rule = _RULES.get(str(kind), "it is not allowed")
        sentence = f"column {column!r} holds {_quoted(bad[column])} {place}: {rule}"
    return Problem(sentence, tuple(rows))
