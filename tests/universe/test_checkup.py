"""`companysim data check` and `data classifications`: what a folder holds, what is wrong, what a run drops."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from companysim.cli_data_check import check
from companysim.cli_data_classifications import classifications
from companysim.cli_data_factors import factors
from companysim.cli_data_prices import prices
from companysim.errors import DataError, RunError, counted
from companysim.universe import COMPANIES, FILINGS, PRICES, build_universe, read_table
from companysim.universe.checkup import check_folder

DAYS = pd.bdate_range("2012-01-02", periods=40)
TICKERS = ["AA", "BB", "BC", "CC", "DD", "EE"]


def command(function: object, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(function)  # type: ignore[type-var]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    companies = pd.DataFrame({"ticker": TICKERS, "cik": [1, 2, 2, 3, 4, 5], "company": "Co", "sic": "3571"})
    companies.assign(sic_source="edgar", gics="", gics_source="").to_csv(tmp_path / "companies.csv", index=False)
    filings = pd.DataFrame({"filing_id": list("abcd"), "cik": [1, 2, 3, 4], "ticker": ["AA", "BB", "CC", "DD"]})
    filings = filings.assign(company="Co", fiscal_year=2011, filed="2012-03-01", text="It sells things. " * 60)
    filings.to_parquet(tmp_path / "filings.parquet")
    wide = pd.DataFrame({ticker: 50.0 + pd.Series(range(40)) % 7 for ticker in TICKERS[:-1]})
    wide.index = DAYS
    wide.rename_axis("date").to_csv(tmp_path / "prices.csv")
    return tmp_path


def test_a_sound_folder_says_what_a_run_would_leave_out(folder: Path) -> None:
    long = pd.read_csv(folder / "prices.csv").melt("date", var_name="ticker", value_name="adj_close")
    long.to_parquet(folder / "prices.parquet")
    (folder / "prices.csv").unlink()
    found = check_folder(folder)
    assert [(report.file, report.rows, report.usable) for report in found.tables] == [
        ("companies.csv", 6, 6),
        ("filings.parquet", 4, 4),
        ("prices.parquet", 200, 200),
    ]
    assert found.errors == 0
    filings = read_table(folder / "filings.parquet", FILINGS)
    built = build_universe(
        filings,
        read_table(folder / "companies.csv", COMPANIES),
        read_table(folder / "prices.parquet", PRICES),
        pd.Timestamp("2012-03-01"),
    )
    assert found.dropped == built.dropped
    assert found.dropped["without a price"] == 1
    assert found.dropped["further lines of the same company"] == 1
    prices_report = found.tables[2]
    assert (prices_report.first, prices_report.last, prices_report.entities) == ("2012-01-02", "2012-02-24", 5)
    assert "a run would leave out 1 company: without a price" in found.summary()
    assert found.to_frame()["table"].tolist() == ["companies", "filings", "prices"]


def test_a_wide_panel_counts_its_tickers(folder: Path) -> None:
    report = check_folder(folder).tables[2]
    assert (report.rows, report.entities, report.errors) == (40, 5, ())


def test_every_error_of_every_table_is_told_and_the_exit_code_is_2(folder: Path) -> None:
    text = (folder / "prices.csv").read_text().replace("50.0,50.0", "dear,-3", 1)
    (folder / "prices.csv").write_text(text)
    pd.DataFrame({"date": ["2012-01-31"], "SMB": ["x"]}).to_csv(folder / "factors.csv", index=False)
    (folder / "returns.parquet").write_text("nothing of the kind")
    (folder / "notes.csv").write_text("not a table of ours")
    result = command(check, folder)
    assert result.exit_code == 2
    assert "prices.csv: column 'AA' holds 'dear' (row 1): it must be a number" in result.output
    assert "factors.csv: column 'SMB' holds 'x' (row 1): it must be a number" in result.output
    assert "cannot read" in result.output
    assert "returns.parquet" in result.output
    assert "notes.csv" not in result.output
    assert "companies.csv: companies, 6 rows" in result.output
    report = json.loads(command(check, folder, "--json").stdout)
    assert report["errors"] == 3
    assert report["dropped"] == {}  # nobody knows what a run would leave out while it cannot read a table
    bad = {table["file"]: table for table in report["tables"]}
    assert (bad["prices.csv"]["rows"], bad["prices.csv"]["usable"]) == (40, 39)
    (folder / "prices.csv").write_text(text.replace("dear", "50.0"))
    both = check_folder(folder).tables
    assert any("column 'BB' holds '-3.0' (row 1): it must be positive" in e for report in both for e in report.errors)


def test_what_is_worth_a_look_is_noted(folder: Path) -> None:
    filings = pd.read_parquet(folder / "filings.parquet")
    filings.loc[1, "text"] = "Short."
    filings.loc[2, ["fiscal_year"]] = 2005
    filings.loc[3, "ticker"] = "ZZ"
    filings.to_parquet(folder / "filings.parquet")
    found = check_folder(folder)
    assert found.errors == 0
    assert found.tables[1].notes == (
        "1 text below 500 characters, such as b",
        "1 filing not filed in the fiscal year or the next, such as c",
    )
    assert found.notes == ("1 ticker of filings is not in companies, such as ZZ",)
    wide = pd.read_csv(folder / "prices.csv")
    wide.loc[20:, "CC"] *= 5
    wide.to_csv(folder / "prices.csv", index=False)
    notes = check_folder(folder).tables[2].notes
    assert notes == ("1 x jump, the first: CC moves by +409% on 2012-01-30",)


def test_returns_are_known_by_every_name_the_benchmark_reads(tmp_path: Path) -> None:
    rows = {"month": ["2012-01", "2012-02"], "ticker": ["A", "A"], "simple_return": [0.1, -2.0]}
    pd.DataFrame(rows).to_csv(tmp_path / "returns.csv", index=False)
    report = check_folder(tmp_path).tables[0]
    assert report.errors == (
        "returns.csv: column 'return' holds '-2.0' (row 2): a simple return is above -1 (write -0.05 for -5 %)",
    )
    assert (report.rows, report.usable, report.first) == (2, 1, "2012-01-31")
    pd.DataFrame({"date": ["2012-01-31"], "A": [0.1], "B": [""]}).to_csv(tmp_path / "returns.csv", index=False)
    report = check_folder(tmp_path).tables[0]
    assert (report.errors, report.entities) == ((), 1)
    pd.DataFrame({"date": ["2012-01-31"], "ticker": ["A"]}).to_csv(tmp_path / "returns.csv", index=False)
    assert "a long table of returns needs a column log_return or return" in check_folder(tmp_path).tables[0].errors[0]


def test_wide_prices_called_returns_are_an_error(folder: Path) -> None:
    (folder / "prices.csv").rename(folder / "returns.csv")
    report = check_folder(folder).tables[2]
    assert report.file == "returns.csv"
    assert len(report.errors) == 1
    assert report.errors[0].startswith("returns.csv: a wide table is read as simple returns, and this one has no neg")


def test_one_is_not_spoken_of_in_the_plural(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("ticker,method,date\nA,x,2012-13-01\n")
    assert check_folder(tmp_path).summary().splitlines()[0] == "groups.csv: groups, 1 row, 0 of them usable"
    assert check_folder(tmp_path).summary().splitlines()[-1] == "1 error"
    (tmp_path / "groups.csv").write_text("ticker,method,date\nA,x,2012-12-01\nB,x,2012-12-01\n")
    assert check_folder(tmp_path).summary() == "groups.csv: groups, 2 rows, 2012-12-01 to 2012-12-01\n0 errors"
    assert [counted(n, "company", "companies") for n in (0, 1, 1500)] == ["0 companies", "1 company", "1,500 companies"]


def test_groups_and_factors_are_known_too(tmp_path: Path) -> None:
    pd.DataFrame({"date": ["2012-01-02"], "ticker": ["A"], "cluster": ["1"]}).to_csv(
        tmp_path / "groups.csv", index=False
    )
    own = pd.DataFrame({"SMB": [0.1]}, index=pd.DatetimeIndex(["2012-01-31"]))
    for table in (own, own.rename_axis("Date").reset_index()[["SMB", "Date"]]):  # dates are known by their name
        table.to_parquet(tmp_path / "factors.parquet")
        found = check_folder(tmp_path)
        assert [report.table for report in found.tables] == ["factors", "groups"]
        assert found.errors == 0
        assert found.tables[0].first == "2012-01-31"


def test_a_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no table: name the files filings, companies"):
        check_folder(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        check_folder(tmp_path / "nowhere")


def test_classifications_of_a_companies_table(folder: Path, tmp_path: Path) -> None:
    gics = tmp_path / "own.csv"
    gics.write_text("ticker,gics8\nAA,45202030\nCC,\n")
    out = tmp_path / "out"
    result = command(classifications, "--companies", folder / "companies.csv", "--gics", gics, "--out", out)
    assert result.exit_code == 0, result.output
    assert "5 companies; with a code: sic 5, ff48 5, gics 1" in result.output
    table = read_table(out / "companies.csv", COMPANIES).set_index("ticker")
    assert table.loc["AA", ["gics", "gics_source"]].tolist() == ["45202030", "own.csv"]
    found = pd.read_parquet(out / "classifications.parquet")
    assert set(found.loc[found["scheme"] == "ff48", "code"]) == {"Comps"}
    gics.write_text("ticker,gics\nAA,4520203\n")
    bad = command(classifications, "--companies", folder / "companies.csv", "--gics", gics, "--out", out)
    assert isinstance(bad.exception, DataError)
    assert "own.csv: column 'gics' holds '4520203' (row 1)" in str(bad.exception)


# Where it is written


def test_a_place_that_cannot_be_written_to_is_said_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*arguments: object, **options: object) -> None:
        raise AssertionError("something was asked for")

    monkeypatch.setattr("companysim.universe.sources.yahoo.Yahoo", asked)
    monkeypatch.setattr("companysim.universe.sources.http.Client.get", asked)
    out = tmp_path / "file"
    out.write_text("mine")
    commands: list[tuple[object, list[object]]] = [
        (prices, ["--tickers", "A"]),
        (prices, ["--from-file", folder / "prices.csv"]),
        (factors, []),
        (classifications, ["--companies", folder / "companies.csv", "--yahoo"]),
    ]
    for function, arguments in commands:
        for place in (out, out / "below"):
            result = command(function, *arguments, "--out", place)
            assert isinstance(result.exception, RunError), result.exception
            assert str(result.exception).startswith(f"cannot write to {place} (")
    assert out.read_text() == "mine"


# Prices of one's own


def test_prices_of_ones_own_are_checked_flagged_and_written_long(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = command(prices, "--from-file", folder / "prices.csv", "--start", "2012-01-10", "--out", out)
    assert result.exit_code == 0, result.output
    assert "5 lines, 2012-01-10 to 2012-02-24: nothing flagged" in result.output
    table = read_table(out / "prices.parquet", PRICES)
    assert len(table) == 5 * 34
    report = json.loads(command(prices, "--from-file", folder / "prices.csv", "--out", out, "--json").stdout)
    assert [line["ticker"] for line in report["lines"]] == TICKERS[:-1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("2012-01-03,A,", "column 'adj_close' has no value (row 1)"),
        ("2012-01-03,A,NaN", "column 'adj_close' holds 'NaN' (row 1): it must be a number"),
        ("2012-01-03,A,1\n2012-01-04,A,-2", "column 'adj_close' holds '-2.0' (row 2): it must be positive"),
        ("2012-01-03,A,0", "column 'adj_close' holds '0.0' (row 1): it must be positive"),
        ("2012-01-03,A,1\n2012-01-03,A,2", "ticker 'A' has more than one price on 2012-01-03 (row 2): keep one"),
        ("2012-01-03,A,ten", "column 'adj_close' holds 'ten' (row 1): it must be a number"),
        ("2999-01-03,A,1", "column 'date' holds '2999-01-03' (row 1)"),
        ("2099-01-05,A,1", "column 'date' holds '2099-01-05' (row 1): it lies in the future"),
        (
            "2012-01-03T16:00:00-05:00,A,1\n2012-01-04T01:00:00+09:00,A,2",
            "column 'date' holds '2012-01-04T01:00:00+09:00' (row 2): other rows are in another time zone",
        ),
    ],
)
def test_every_kind_of_bad_price_has_its_sentence(tmp_path: Path, rows: str, words: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"date,ticker,adj_close\n{rows}\n")
    result = command(prices, "--from-file", path, "--out", tmp_path / "out")
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith(f"{path}: {words}")
    assert not (tmp_path / "out" / "prices.parquet").exists()


def test_unsorted_prices_are_sorted(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("date,ticker,adj_close\n2012-01-04,A,2\n2012-01-03,A,1\n")
    command(prices, "--from-file", path, "--out", tmp_path)
    assert pd.read_parquet(tmp_path / "prices.parquet")["adj_close"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give the tickers by --tickers or --tickers-file"),
        (["--tickers", "A", "--from-file", "p.csv"], "give the tickers by"),
        (["--tickers", "A", "--start", "soon"], "--start is 'soon': write 2012-02-28"),
    ],
)
def test_what_is_asked_for_must_be_clear(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = command(prices, *arguments, "--out", tmp_path / "out")
    assert isinstance(result.exception, DataError)
    assert words in str(result.exception)
