"""The tables of a run through DuckDB, which may read the run's folder and nothing else.

No SQL comes from outside. Names of tables are those of a fixed list, names of columns those the table has, and what a
reader types is bound as a parameter; should that ever fail, the connection still can neither leave the run's folder,
nor reach the network, nor change its own settings.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from companysim.errors import ConfigError, DataError, RunError
from companysim.workspace import SUMMARY

FILES = {
    "companies": "universe/companies.parquet",
    "benchmark": "benchmark/test.csv",
    "benchmark_before": "benchmark/before.csv",
    "figures": "benchmark/estimates.csv",
    "differences": "benchmark/differences.csv",
    "yearly": "benchmark/yearly.csv",
    "frontier": "benchmark/frontier.csv",
    "backtest": "trading/backtest.csv",
    "backtest_years": "trading/yearly.csv",
    "pairs": "trading/pairs.parquet",
    "trades": "trading/trades.parquet",
    "equity": "trading/equity.parquet",
    "partition": "clustering/partition.parquet",
    "labels": "explain/labels.parquet",
    "clusters": "explain/clusters.parquet",
    "cluster_latents": "explain/cluster_latents.parquet",
    "snippets": "encoding/snippets.parquet",
    "prices": "universe/prices.parquet",
}
"""Tables people may see, and where a run keeps them."""
COMPARED = ("benchmark", "benchmark_before", "backtest")
MOST = 500
FORMATS = ("csv", "json", "parquet")


@dataclass(frozen=True)
class Page:
    """Some rows of a table.

    Attributes
    ----------
    columns : list of str
    rows : list of list
        Plain values, None where there is none.
    total : int
        Rows that match, of which these are some.
    """

    columns: list[str]
    rows: list[list[Any]]
    total: int

    def summary(self) -> str:
        """Say how many rows of how many these are."""
        return f"{len(self.rows)} of {self.total} rows, {len(self.columns)} columns"


class Tables:
    """Tables of one run.

    Parameters
    ----------
    root : path
        Directory of a finished run.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()

    def names(self) -> list[str]:
        """Names of the tables this run has, in the order of `FILES`."""
        return [name for name, file in FILES.items() if (self.root / file).is_file()]

    def page(
        self,
        name: str,
        *,
        search: str = "",
        sort: str = "",
        descending: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> Page:
        """Rows of a table that hold `search` in one of their text columns, in the order of the file or of a column.

        Parameters
        ----------
        name : str
        search : str
            Case does not matter; empty for all rows.
        sort : str
            A column, ties by the others from the left; empty for the order of the file.
        descending : bool
        limit : int
            1 to `MOST`.
        offset : int
            Rows to skip, 0 or more.

        Raises
        ------
        DataError
            If the run has no such table, or the table no such column.
        ConfigError
            If limit or offset is out of range.
        RunError
            If the file cannot be read.
        """
        if not 1 <= limit <= MOST or offset < 0:
            raise ConfigError(f"limit is {limit} and offset {offset}: ask for 1 to {MOST} rows from row 0 on")
        with self._open() as connection:
            source, columns = self._source(connection, name)
            if sort and sort not in columns:
                raise DataError(f"table {name} has no column {sort!r}: it has {', '.join(columns)}")
            where, values = _matching(columns, search)
            # Rows that tie go by their other columns: else each page would break ties in its own way.
            ties = ", ".join(map(_quoted, columns))
            order = f"ORDER BY {_quoted(sort)} {'DESC' if descending else 'ASC'} NULLS LAST, {ties}" if sort else ""
            counted = connection.execute(f"SELECT count(*) FROM {source} {where}", [self._file(name), *values])
            total = int((counted.fetchone() or (0,))[0])
            found = connection.execute(
                f"SELECT * FROM {source} {where} {order} LIMIT ? OFFSET ?", [self._file(name), *values, limit, offset]
            ).fetchall()
        return Page(list(columns), [[_plain(value) for value in row] for row in found], total)

    def export(self, name: str, form: str, search: str = "") -> bytes:
        """Return the rows of `page`, all of them, as the bytes of a file.

        Parameters
        ----------
        name, search : str
        form : {"csv", "json", "parquet"}

        Raises
        ------
        ConfigError
            If there is no such format.
        DataError, RunError
            As `page`.
        """
        if form not in FORMATS:
            raise ConfigError(f"no format {form!r}: ask for {', '.join(FORMATS)}")
        with self._open() as connection:
            source, columns = self._source(connection, name)
            where, values = _matching(columns, search)
            table = connection.sql(
                f"SELECT * FROM {source} {where}", params=[self._file(name), *values]
            ).to_arrow_table()
        if form == "json":
            text: str = table.to_pandas().to_json(orient="records", date_format="iso", double_precision=15)
            return text.encode()
        held = io.BytesIO()
        if form == "csv":
            pa.csv.write_csv(table, held)
        else:
            pa.parquet.write_table(table, held)
        return held.getvalue()

    def compare(self, other: Tables, name: str = "benchmark") -> Page:
        """Figures of two runs side by side: grouping, figure, first, second, difference (second less first).

        Parameters
        ----------
        other : Tables
        name : str
            One of `COMPARED`.

        Raises
        ------
        DataError
            If the table is none of these, or one of the runs lacks it.
        RunError
            If a file cannot be read.
        """
        if name not in COMPARED:
            raise DataError(f"table {name!r} has no figures by grouping: compare {', '.join(COMPARED)}")
        long = "SELECT grouping, figure, value FROM (UNPIVOT (SELECT grouping, {columns} FROM {source}) ON "
        long += "COLUMNS(* EXCLUDE grouping) INTO NAME figure VALUE value)"
        with self._open(other.root) as connection:
            parts = []
            for tables in (self, other):
                source, columns = tables._source(connection, name)
                numbers = [column for column in columns if column not in ("grouping", "protocol")]
                cast = ", ".join(f"TRY_CAST({_quoted(column)} AS DOUBLE) AS {_quoted(column)}" for column in numbers)
                parts.append(long.format(columns=cast, source=source))
            found = connection.execute(
                f"WITH one AS ({parts[0]}), two AS ({parts[1]}) SELECT grouping, figure, one.value, two.value, "
                "two.value - one.value FROM one FULL JOIN two USING (grouping, figure) ORDER BY figure, grouping",
                [self._file(name), other._file(name)],
            ).fetchall()
        rows = [[_plain(value) for value in row] for row in found]
        return Page(["grouping", "figure", "first", "second", "difference"], rows, len(rows))

    def _file(self, name: str) -> str:
        return str(self.root / FILES[name])

    def _source(self, connection: duckdb.DuckDBPyConnection, name: str) -> tuple[str, dict[str, str]]:
        """Table function that reads the table's file, given as a parameter, and the type of each column."""
        if name not in self.names():
            raise DataError(f"this run has no table {name!r}: it has {', '.join(self.names())}")
        source = "read_parquet(?)" if FILES[name].endswith(".parquet") else "read_csv(?, header = true)"
        described = connection.execute(f"DESCRIBE SELECT * FROM {source}", [self._file(name)]).fetchall()
        return source, {str(row[0]): str(row[1]) for row in described}

    @contextmanager
    def _open(self, *further: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """Connect to an empty database that can read these folders only."""
        folders = ", ".join("'" + str(folder).replace("'", "''") + "'" for folder in (self.root, *further))
        connection = duckdb.connect(":memory:", config={"threads": 1})
        try:
            connection.execute(f"SET allowed_directories = [{folders}]")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection
        except duckdb.Error as error:
            raise RunError(f"cannot read a table of {self.root} ({error}): run again to make it anew") from error
        finally:
            connection.close()


def companies_of(root: Path) -> int | None:
    """Return the number of companies of the finished run in a folder; None where there is none that can be read."""
    try:
        found = json.loads((root / SUMMARY).read_text(encoding="utf-8"))["universe"]["companies"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) else None


def _matching(columns: dict[str, str], search: str) -> tuple[str, list[str]]:
    """WHERE clause and its parameters for rows that hold a text."""
    texts = [name for name, kind in columns.items() if kind == "VARCHAR"]
    if not search or not texts:
        return ("WHERE false" if search else ""), []
    clause = " OR ".join(f"contains(lower({_quoted(name)}), lower(?))" for name in texts)
    return f"WHERE {clause}", [search] * len(texts)


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime | date):
        return value.isoformat()[:10]
    return value if isinstance(value, int | float | str | bool | None) else str(value)
