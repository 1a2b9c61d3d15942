"""What every table must look like: columns, types, ranges, keys. Column names are the contract between the stages.

These schemas are the only place where that is said; `companysim.universe.tables` turns what breaks them into sentences.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

_ONCE: dict[str, Any] = {"unique": True, "report_duplicates": "exclude_first"}


def _past(days: pd.Series) -> pd.Series:
    """Whether each day has begun somewhere on earth."""
    past: pd.Series = days <= pd.Timestamp.now("UTC").tz_localize(None) + pd.Timedelta(hours=14)
    return past


def _day(*, past: bool = False, **options: Any) -> pa.Column:
    return pa.Column("datetime64[ns]", pa.Check(_past, name="past") if past else None, coerce=True, **options)


def _text(*checks: pa.Check, **options: Any) -> pa.Column:
    return pa.Column(str, list(checks), coerce=True, **options)


def _key(*checks: pa.Check, **options: Any) -> pa.Column:
    return _text(pa.Check.str_length(min_value=1), *checks, **options)


def _number(*checks: pa.Check, **options: Any) -> pa.Column:
    return pa.Column(float, [*checks, pa.Check(np.isfinite, name="finite")], coerce=True, **options)


_CIK = pa.Column(int, pa.Check.gt(0), coerce=True)
_TICKER = pa.Check.str_matches(r"^\S*$", name="ticker")
"""Lists of a run's companies are tickers with a space between them."""
_SIC = pa.Check.str_matches(r"^([0-9]{4})?$", name="sic")
_GICS = pa.Check.str_matches(r"^([0-9]{8})?$", name="gics")

FILINGS = pa.DataFrameSchema(
    {
        "filing_id": _key(**_ONCE),
        "cik": _CIK,
        "ticker": _key(),
        "company": _text(),
        "fiscal_year": pa.Column(int, pa.Check.in_range(1900, 2200), coerce=True),
        "filed": _day(past=True),
        "text": pa.Column(str, pa.Check.str_contains(r"[^\W_]"), coerce=False),
    },
    name="filings",
)
TEXTS = pa.DataFrameSchema(
    {"filing_id": _key(**_ONCE), "text": pa.Column(str, coerce=False, nullable=True)},
    name="texts",
)
"""What encoding needs of filings; a text may be empty, which encoding records as a failure."""
COMPANIES = pa.DataFrameSchema(
    {
        "ticker": _key(_TICKER, **_ONCE),
        "cik": _CIK,
        "company": _text(),
        "sic": _text(_SIC, nullable=True),
        "sic_source": _text(nullable=True),
        "gics": _text(_GICS, nullable=True),
        "gics_source": _text(nullable=True),
    },
    name="companies",
)
PRICES = pa.DataFrameSchema(
    {"date": _day(past=True), "ticker": _key(), "adj_close": _number(pa.Check.gt(0))},
    unique=["ticker", "date"],
    report_duplicates="exclude_first",
    name="prices",
)
DOLLARS = pa.DataFrameSchema(
    {"date": _day(past=True), "ticker": _key(), "dollar_volume": _number(pa.Check.ge(0), nullable=True)},
    name="dollars traded",
)
RETURNS = pa.DataFrameSchema(
    {"date": _day(past=True), "ticker": _key(), "return": _number(pa.Check.gt(-1, name="simple"), nullable=True)},
    unique=["ticker", "date"],
    report_duplicates="exclude_first",
    name="returns",
)
"""Simple returns, dated by the day or month end they end on; empty where there is none."""
LOG_RETURNS = pa.DataFrameSchema(
    {"date": _day(past=True), "ticker": _key(), "log_return": _number(nullable=True)},
    unique=["ticker", "date"],
    report_duplicates="exclude_first",
    name="log returns",
)
CLASSIFICATIONS = pa.DataFrameSchema(
    {"cik": _CIK, "scheme": _key(), "code": _key(), "label": _text(nullable=True)},
    unique=["cik", "scheme"],
    report_duplicates="exclude_first",
    name="classifications",
)
PARTITIONS = pa.DataFrameSchema(
    {
        "method": _key(),
        "year": pa.Column(int, pa.Check.in_range(1900, 2200), coerce=True),
        "cluster": _text(nullable=True),
        "filing_id": _key(),
    },
    unique=["method", "year", "filing_id"],
    report_duplicates="exclude_first",
    name="partitions",
)
GROUPS = pa.DataFrameSchema(
    {"date": _day(), "ticker": _key(), "method": _key()},
    name="groups",
)
"""What a backtest needs of groupings by ticker; the cluster may be of any type."""
PAIRS = pa.DataFrameSchema(
    {
        "method": _key(),
        "ticker_1": _key(),
        "ticker_2": _key(),
        "hedge_ratio": _number(),
        "adf_t": _number(),
        "p_value": _number(pa.Check.in_range(0, 1)),
        "lags": pa.Column(int, pa.Check.ge(0), coerce=True),
        "half_life": pa.Column(float, pa.Check.ge(0), coerce=True, nullable=True),
        "formation_start": _day(),
        "formation_end": _day(),
    },
    unique=["method", "ticker_1", "ticker_2", "formation_start"],
    report_duplicates="exclude_first",
    name="pairs",
)
TABLES = {
    schema.name: schema for schema in (FILINGS, COMPANIES, PRICES, RETURNS, CLASSIFICATIONS, PARTITIONS, GROUPS, PAIRS)
}
"""Tables a folder may hold, by the name of their file; so may ``factors``, see `factors_schema`."""


def codes_schema(schemes: Iterable[str], *, filed: bool = False) -> pa.DataFrameSchema:
    """Return the schema of a table of codes: one row a company, one column a scheme, empty where it has no code.

    With `filed` the table has the day of each company's filing too, empty where there is none.
    """
    rules = {"sic": [_SIC], "gics": [_GICS]}
    columns = {scheme: _text(*rules.get(scheme, []), nullable=True) for scheme in schemes}
    if filed:
        columns["filed"] = _day(past=True, nullable=True)
    return pa.DataFrameSchema({"ticker": _key(**_ONCE), **columns}, name="codes")


def factors_schema(factors: Iterable[str]) -> pa.DataFrameSchema:
    """Return the schema of a table of factors: one row a date, one column of returns a factor."""
    columns = {"date": _day(past=True, **_ONCE), **{name: _number() for name in factors}}
    return pa.DataFrameSchema(columns, name="factors")


def wide_schema(long: pa.DataFrameSchema, tickers: Iterable[str]) -> pa.DataFrameSchema:
    """Return the schema of a long table's wide form: one row a date, one column a ticker, empty where there is none."""
    value = long.columns[next(reversed(long.columns))]
    columns = {name: pa.Column(float, value.checks, coerce=True, nullable=True) for name in tickers}
    return pa.DataFrameSchema({"date": _day(past=True, **_ONCE), **columns}, name=long.name)
