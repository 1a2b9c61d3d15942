"""What a folder of tables holds, what is wrong with it, and what a run would leave out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

from companysim.errors import DataError, counted
from companysim.universe.panels import dates_first, returns_shaped, shaped
from companysim.universe.quality import quality
from companysim.universe.schemas import FILINGS, GROUPS, PRICES, TABLES, factors_schema
from companysim.universe.tables import examine, plain_frame, read_frame
from companysim.universe.universe import build_universe

ENDINGS = (".parquet", ".csv", ".csv.gz")
_DATES = {"filings": "filed", "partitions": "year", "pairs": "formation_end"}
_ENTITY = {"partitions": "filing_id", "pairs": "ticker_1", "classifications": "cik"}


@dataclass(frozen=True)
class TableReport:
    """One table of a folder.

    Attributes
    ----------
    file, table : str
        The file's name, and which table it is.
    rows, usable : int
        Rows in all, and rows nothing is wrong with.
    first, last : str
        Range of its dates, empty if it has none.
    entities : int
        Companies or filings it is about.
    further_columns : tuple of str
        Columns that are not part of the table and not read.
    errors : tuple of str
        What must be mended before the table can be used, one sentence each.
    notes : tuple of str
        What is worth a look.
    """

    file: str
    table: str
    rows: int
    usable: int
    first: str = ""
    last: str = ""
    entities: int = 0
    further_columns: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkup:
    """Report on a folder.

    Attributes
    ----------
    tables : tuple of TableReport
        By name of file.
    dropped : dict of str to int
        Why and how many companies a run would leave out, where the folder has all it needs.
    notes : tuple of str
        What is worth a look between tables.
    """

    tables: tuple[TableReport, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> int:
        """How many errors there are in all."""
        return sum(len(report.errors) for report in self.tables)

    def to_frame(self) -> pd.DataFrame:
        """Return the tables, one row each."""
        return pd.DataFrame([vars(report) for report in self.tables])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        tables = [vars(report) for report in self.tables]
        return {"tables": tables, "dropped": dict(self.dropped), "notes": list(self.notes), "errors": self.errors}

    def summary(self) -> str:
        """Say in a few lines what was found."""
        lines = []
        for report in self.tables:
            when = f", {report.first} to {report.last}" if report.first else ""
            usable = "" if report.usable == report.rows else f", {report.usable:,} of them usable"
            lines.append(f"{report.file}: {report.table}, {counted(report.rows, 'row', 'rows')}{usable}{when}")
            lines += [f"  error: {sentence}" for sentence in report.errors]
            lines += [f"  note: {sentence}" for sentence in report.notes]
        left_out = {reason: count for reason, count in self.dropped.items() if count}
        for reason, count in left_out.items():
            lines.append(f"a run would leave out {counted(count, 'company', 'companies')}: {reason}")
        lines += [f"note: {sentence}" for sentence in self.notes]
        return "\n".join([*lines, counted(self.errors, "error", "errors")])


def check_folder(folder: str | Path) -> Checkup:
    """Check every table of a folder.

    A table is known by the name of its file: ``filings.parquet``, ``prices.csv``, ``returns.csv.gz`` and so on, see
    `companysim.universe.schemas.TABLES`, and ``factors``. Other files are left alone.

    Raises
    ------
    DataError
        If there is no such folder, or no table in it.
    """
    home = Path(folder)
    if not home.is_dir():
        raise DataError(f"no folder {home}: give the one that holds your tables")
    files = {path: name for path in sorted(home.iterdir()) if (name := _table_of(path))}
    if not files:
        known = ", ".join([*TABLES, "factors"])
        raise DataError(f"{home} holds no table: name the files {known}, with the ending {', '.join(ENDINGS)}")
    reports, usable = [], {}
    for path, name in files.items():
        report, table = _report(path, name)
        reports.append(report)
        if not report.errors:
            usable[name] = table
    return Checkup(tuple(reports), *_between(usable))


def _table_of(path: Path) -> str:
    """Which table a file is, by its name; empty if none."""
    for ending in ENDINGS:
        stem = path.name.removesuffix(ending)
        if path.name.endswith(ending) and path.is_file() and stem in (*TABLES, "factors"):
            return stem
    return ""


def _report(path: Path, name: str) -> tuple[TableReport, pd.DataFrame]:
    try:
        table, schema, long_schema = _arranged(name, plain_frame(read_frame(path, f"the table {name}")), path.name)
    except DataError as error:
        return TableReport(path.name, name, 0, 0, errors=(str(error),)), pd.DataFrame()
    checked, problems = examine(table, schema)
    long = checked
    if schema is not long_schema:
        long = checked.melt("date", var_name="ticker", value_name=[*long_schema.columns][-1]).dropna()
    date, entity = _DATES.get(name, "date"), _ENTITY.get(name, "ticker")
    dates = long[date].dropna() if date in long and len(long) else pd.Series(dtype=object)
    ends = (dates.min(), dates.max()) if len(dates) else ("", "")
    first, last = (f"{end:%Y-%m-%d}" if isinstance(end, pd.Timestamp) else str(end) for end in ends)
    further = tuple(str(column) for column in table.columns if column not in schema.columns)
    report = TableReport(
        path.name,
        name,
        len(table),
        len(checked),
        first,
        last,
        int(long[entity].nunique()) if entity in long else 0,
        further,
        tuple(f"{path.name}: {problem.sentence}" for problem in problems),
        () if problems else tuple(_notes(name, long)),
    )
    return report, long


def _arranged(
    name: str, table: pd.DataFrame, source: str
) -> tuple[pd.DataFrame, pa.DataFrameSchema, pa.DataFrameSchema]:
    """Return a table under its schema's names, that schema, and that of its long form."""
    if table.empty:
        raise DataError(f"{source}: the table has no rows")
    if name == "factors":
        table = dates_first(table)
        schema = factors_schema(map(str, table.columns[1:]))
        return table.set_axis(list(schema.columns), axis=1), schema, schema
    if name in ("prices", "returns"):
        table, long = (table, PRICES) if name == "prices" else returns_shaped(table, source)
        return *shaped(table, long, source), long
    if name == GROUPS.name and "method" not in table.columns:
        table = table.assign(method=GROUPS.name)
    return table, TABLES[name], TABLES[name]


def _notes(name: str, table: pd.DataFrame) -> list[str]:
    """Note what is worth a look in a table nothing is wrong with."""
    if name == "prices":
        found = quality(table.pivot(index="date", columns="ticker", values="adj_close")).flags
        counts = found["kind"].value_counts()
        firsts = found.drop_duplicates("kind").set_index("kind")["sentence"]
        return [f"{counts[kind]} x {kind}, the first: {firsts[kind]}" for kind in counts.index]
    if name == FILINGS.name:
        short = table["text"].str.len() < 500
        twice = table.duplicated(["cik", "fiscal_year"])
        late = (table["filed"].dt.year - table["fiscal_year"] > 1) | (table["filed"].dt.year < table["fiscal_year"])
        said = (
            (short, "text", "texts", "below 500 characters"),
            (twice, "further filing", "further filings", "of a company and fiscal year"),
            (late, "filing", "filings", "not filed in the fiscal year or the next"),
        )
        ids = table["filing_id"]
        return [
            f"{counted(int(bad.sum()), one, many)} {what}, such as {ids[bad].iloc[0]}"
            for bad, one, many, what in said
            if bad.any()
        ]
    return []


def _between(tables: dict[str, pd.DataFrame]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return what a run over the tables would leave out, and what does not fit between them."""
    notes = []
    if "companies" in tables:
        known = set(tables["companies"]["ticker"])
        for name in ("prices", "filings", "groups"):
            if name in tables:
                strange = sorted(set(tables[name]["ticker"]) - known)
                if strange:
                    which = counted(len(strange), f"ticker of {name} is", f"tickers of {name} are")
                    notes.append(f"{which} not in companies, such as {strange[0]}")
    if not {"filings", "companies", "prices"} <= set(tables):
        return {}, tuple(notes)
    last = tables["filings"]["filed"].max()
    try:
        found = build_universe(tables["filings"], tables["companies"], tables["prices"], last)
    except DataError as error:
        return {}, (*notes, str(error))
    return found.dropped, tuple(notes)
