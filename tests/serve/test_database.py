"""Tables of a run: what pandas finds in them, and nothing beside them."""

from __future__ import annotations

import io
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from companysim.errors import ConfigError, DataError, RunError
from companysim.serve import Tables
from companysim.serve.database import FILES
from tests.serve.conftest import NAMES, made


def test_only_the_tables_that_are_there(tables: Tables) -> None:
    assert tables.names() == ["companies", "benchmark"]
    with pytest.raises(DataError, match=r"no table 'trades'.*companies, benchmark"):
        tables.page("trades")
    for name in ("../companies", "summary.json", "universe/companies.parquet", "companies; DROP"):
        with pytest.raises(DataError, match="no table"):
            tables.page(name)


def test_rows_are_those_of_the_file(tables: Tables, root: Path) -> None:
    page = tables.page("companies")
    assert page.columns == pd.read_parquet(root / "universe" / "companies.parquet").columns.tolist()
    assert page.rows[0] == ["AAPL", "Apple Inc.", 3, 1.5, "2012-03-01"]
    assert page.rows[2][3:] == [None, None]  # infinite, missing
    assert page.total == 4
    assert page.summary() == "4 of 4 rows, 5 columns"


@pytest.mark.parametrize(
    ("search", "found"),
    [("apple", [0]), ("INC", [0]), ("o'r", [1]), ("<script>", [2]), ("%", [3]), ("_", [3]), ("true", [3]),
     ("", [0, 1, 2, 3]), ("' OR 1=1 --", []), ('"', [1])],
)  # fmt: skip
def test_search(tables: Tables, search: str, found: list[int]) -> None:
    page = tables.page("companies", search=search)
    assert [row[1] for row in page.rows] == [NAMES[place] for place in found]
    assert page.total == len(found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(search=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_may_be_searched(tables: Tables, search: str) -> None:
    assert 0 <= tables.page("companies", search=search).total <= 4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(name=st.sampled_from(NAMES), ends=st.tuples(st.integers(0, 10), st.integers(1, 10)), upper=st.booleans())
def test_every_part_of_a_name_finds_it(tables: Tables, name: str, ends: tuple[int, int], upper: bool) -> None:
    part = name[ends[0] : ends[0] + ends[1]]
    found = tables.page("companies", search=part.upper() if upper else part)
    assert name in [row[1] for row in found.rows]


def test_sort_and_turn_pages(tables: Tables) -> None:
    assert [row[2] for row in tables.page("companies", sort="cik").rows] == [1, 2, 3, 4]
    assert [row[2] for row in tables.page("companies", sort="cik", descending=True, limit=2, offset=1).rows] == [3, 2]
    assert tables.page("companies", sort='odd "name"; --').rows[0][3] == 1.5
    with pytest.raises(DataError, match="no column 'cik; --'"):
        tables.page("companies", sort="cik; --")
    for limit, offset in ((0, 0), (501, 0), (1, -1)):
        with pytest.raises(ConfigError, match="1 to 500 rows"):
            tables.page("companies", limit=limit, offset=offset)


@pytest.mark.parametrize("name", ["companies", "benchmark"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_of_rows_that_tie_hold_every_row_once(tables: Tables, root: Path, name: str, descending: bool) -> None:
    table = pd.DataFrame({"number": range(400), "grouping": ["a", "b"] * 200, "odd": [1.5, None] * 200})
    table = table.sample(frac=1, random_state=1)
    table.to_parquet(root / "universe" / "companies.parquet")
    table.to_csv(root / "benchmark" / "test.csv", index=False)
    for sort in ("grouping", "odd"):
        pages = [
            tables.page(name, sort=sort, descending=descending, limit=30, offset=offset).rows
            for offset in range(0, 400, 30)
        ]
        assert sorted(row[0] for page in pages for row in page) == list(range(400))


def test_exports_read_back(tables: Tables, root: Path) -> None:
    whole = pd.read_parquet(root / "universe" / "companies.parquet")
    back = pd.read_parquet(io.BytesIO(tables.export("companies", "parquet")))
    pd.testing.assert_frame_equal(back, whole, check_dtype=False)
    csv = pd.read_csv(io.BytesIO(tables.export("companies", "csv", "o'r")), keep_default_na=False)
    assert csv["company"].tolist() == [NAMES[1]]
    records = pd.read_json(io.BytesIO(tables.export("benchmark", "json")), orient="records")
    pd.testing.assert_frame_equal(records, pd.read_csv(root / "benchmark" / "test.csv"))
    with pytest.raises(ConfigError, match="no format 'xlsx'"):
        tables.export("companies", "xlsx")


def test_runs_side_by_side(tables: Tables, tmp_path: Path) -> None:
    page = tables.compare(Tables(made(tmp_path / "elsewhere" / "b", shift=0.1)))
    rows = {(row[0], row[1]): row[2:] for row in page.rows}
    assert rows["sae", "pair_weighted"] == pytest.approx([0.6, 0.7, 0.1])
    assert rows["sic", "pair_weighted"] == [0.5, 0.5, 0.0]
    assert rows["sae", "null_p"] == [0.001, 0.001, 0.0]
    assert page.columns == ["grouping", "figure", "first", "second", "difference"]
    with pytest.raises(DataError, match="compare benchmark"):
        tables.compare(tables, "companies")
    with pytest.raises(DataError, match="no table 'backtest'"):
        tables.compare(tables, "backtest")


def test_a_damaged_file_is_named(tables: Tables, root: Path) -> None:
    (root / "universe" / "companies.parquet").write_bytes(b"no parquet")
    with pytest.raises(RunError, match="run again"):
        tables.page("companies")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('{root}/../secret.csv')",
        "SELECT * FROM glob('/etc/*')",
        "COPY (SELECT 1) TO '{root}/../written.csv'",
        "ATTACH '/tmp/other.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
    ],
)
def test_the_connection_cannot_leave_the_folder(tables: Tables, root: Path, query: str) -> None:
    (root.parent / "secret.csv").write_text("a\n1\n")
    text = query.format(root=str(root).replace("'", "''"))
    with pytest.raises(RunError), tables._open() as connection:
        connection.execute(text).fetchall()
    with tables._open() as connection, pytest.raises(duckdb.Error, match=r"Permission|Cannot|disabled|locked"):
        connection.execute(text).fetchall()
    assert not (root.parent / "written.csv").exists()


def test_every_table_is_one_a_run_writes() -> None:
    assert all(not Path(file).is_absolute() and ".." not in file for file in FILES.values())
